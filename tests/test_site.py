"""The documentation site: complete, without broken links, and loading nothing from elsewhere."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import queryinst_vis
from tests.reference_support import ENTRIES, ROOT, resolve

REMOTE = re.compile(r"(https?:)?//")
ARGUMENTS = re.compile(r"^ *Args:\n(?P<body>(?:(?: {4,}.*)?\n)+?)(?=^\s*$|\Z)", re.MULTILINE)


def documented_callables():
    """``(name, callable)`` of the functions, classes and public methods of the reference."""
    for name in ENTRIES:
        entry = resolve(name)
        yield name, entry
        if inspect.isclass(entry):
            for attribute, member in vars(entry).items():
                member = inspect.unwrap(getattr(member, "__func__", member))
                if not attribute.startswith("_") and inspect.isfunction(member):
                    yield f"{name}.{attribute}", member


def documented_parameters(docstring: str) -> list[str]:
    """The names in the ``Args:`` section of a docstring."""
    section = ARGUMENTS.search(inspect.cleandoc(docstring) + "\n\n")
    return re.findall(r"^ {4}(\S[^:\n]*):", section["body"], re.MULTILINE) if section else []


def test_every_public_name_is_in_the_api_reference():
    missing = {f"queryinst_vis.{name}" for name in queryinst_vis.__all__} - set(ENTRIES)
    assert not missing


@pytest.mark.parametrize(
    ("name", "entry"), [pytest.param(*pair, id=pair[0]) for pair in documented_callables()]
)
def test_documented_parameters_match_the_signature(name, entry):
    assert inspect.getdoc(entry), f"{name} has no docstring"
    documented = documented_parameters(entry.__doc__ or "")
    accepted = list(inspect.signature(entry).parameters)
    assert [parameter for parameter in documented if parameter not in accepted] == []


def test_every_page_is_in_the_navigation():
    settings = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": (\w+\.md)$", settings, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


class Resources(HTMLParser):
    """Collects the resources of a page (scripts, style sheets, pictures, media) and its links."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"].partition("#")[0])
        if tag == "link" and values.get("rel") not in ("stylesheet", "icon", "preload"):
            return
        if tag != "a":
            self.urls += [values[key] for key in ("src", "href", "poster") if values.get(key)]


def test_the_site_builds_without_dead_links_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("zensical", reason="needs zensical: pip install -e '.[dev]'")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "queryinst_vis").symlink_to(ROOT / "queryinst_vis", target_is_directory=True)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list((tmp_path / "out" / "site").rglob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").glob("*.md")))
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text())
        assert [url for url in resources.urls if REMOTE.match(url)] == [], page
        local = [link for link in resources.links if link and not REMOTE.match(link)]
        if page.name == "404.html":  # shown at any address: its links start at the root
            continue
        assert [link for link in local if not (page.parent / link).exists()] == [], page
    styles = [path.read_text() for path in (tmp_path / "out" / "site").rglob("*.css")]
    assert not any(re.search(r"url\(['\"]?(https?:)?//", style) for style in styles)
