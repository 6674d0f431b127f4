"""The handful of names that ``import queryinst_vis`` offers."""

import re
from pathlib import Path

import pytest

import queryinst_vis


def test_every_public_name_is_there():
    for name in queryinst_vis.__all__:
        assert getattr(queryinst_vis, name).__name__ == name
        assert name in dir(queryinst_vis)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'Registry'"):
        _ = queryinst_vis.Registry


def test_the_version_is_that_of_the_package():
    project = Path(__file__).parents[1] / "pyproject.toml"
    version = re.search(r"^version = \"(.+)\"$", project.read_text(), re.MULTILINE)[1]
    assert queryinst_vis.__version__ == version
