"""Builds the package; all metadata lives in pyproject.toml.

The configs are kept at the top of the repository and copied into the package.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = Path("configs")


class BuildWithConfigs(build_py):
    """Adds ``configs/`` to the package; an editable installation reads them where they are."""

    def run(self):
        """Copy the configs beside the code."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "queryinst_vis", CONFIGS)
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree(CONFIGS, target)

    def get_source_files(self):
        """What a source distribution holds."""
        return super().get_source_files() + [str(path) for path in sorted(CONFIGS.rglob("*.yaml"))]


setup(cmdclass={"build_py": BuildWithConfigs})
