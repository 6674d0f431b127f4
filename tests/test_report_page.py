"""Every report page: a single file, no network requests, no injected code."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser

import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.report.evaluation import write_evaluation_page
from queryinst_vis.report.page import (
    Column,
    Table,
    data_uri,
    page_environment,
    render_page,
    write_page,
)
from tests.browser import open_page
from tests.eval_cases import detection, ground_truth, rle

ATTACK = "</script><script>alert('\u2028')</script><img src=x onerror=alert(1)>\"'&"


class Elements(HTMLParser):
    """All elements of a page, and the text of its scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self._script = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts and not data.isspace():
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)


@pytest.fixture
def evaluated(tmp_path):
    """The page of a result file with malicious class and file names."""
    gt = ground_truth([{"segmentations": [rle(0, 0, 9, 9)] * 2}], classes=(ATTACK, "dog"))
    gt["videos"][0]["file_names"] = [f"{ATTACK.replace('/', '')}/0.jpg"] * 2
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    results = tmp_path / f"{ATTACK.replace('/', '')}.json"
    results.write_text(json.dumps([detection([rle(0, 0, 9, 9)] * 2)]))
    write_evaluation_page(tmp_path / "gt.json", results, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text()


def test_text_from_files_is_escaped(evaluated):
    page = Elements(evaluated)
    assert "img" not in [tag for tag, _ in page.tags]
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert "&lt;script&gt;alert(" in evaluated
    assert "<script>alert(" not in evaluated


def test_the_content_security_policy_allows_only_the_pages_scripts(evaluated):
    page = Elements(evaluated)
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data: blob:"
    digests = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for attrs, text in page.scripts
        if "type" not in attrs
    }
    assert set(rules["script-src"].split()) == digests
    addresses = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert all(address.startswith("data:") for address in addresses)


def test_embedded_data_is_unchanged_and_cannot_close_its_element():
    data = {"name": ATTACK, "frames": [1, 2.5, None]}
    page = Elements(render_page("base.html.j2", "title", {"data": data}))
    embedded = [text for attrs, text in page.scripts if attrs.get("id") == "page-data"]
    assert [json.loads(text) for text in embedded] == [data]
    with pytest.raises(ValueError, match="JSON"):
        render_page("base.html.j2", "title", {"data": float("nan")})


def test_a_misspelt_name_in_a_template_is_an_error():
    with pytest.raises(Exception, match="undefined"):
        render_page("evaluation.html.j2", "title", {})


TABLE_PAGE = """
{% extends "base.html.j2" %}
{% block content %}{{ table_of(table) }}{% endblock %}
"""


def render_table(table, **context):
    """A page with a single table."""
    template = page_environment().from_string(TABLE_PAGE)
    return render_page(template, "title", {"table": table, **context})


def test_tables_sort_by_value_and_show_text():
    table = Table([Column("class"), Column("AP", lambda v: f"{v:.1f}")], [("dog", 0.123456)])
    assert '<td class="number" data-value="0.123456">0.1</td>' in render_table(table)


def test_a_page_beyond_the_limit_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match=r"2\.0 MB .*1 MB"):
        write_page(tmp_path / "page.html", "x" * 2_000_000, size_limit=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_embedded_as_a_data_url():
    assert data_uri(b"\x00\xff", "image/webp") == "data:image/webp;base64,AP8="


# In a browser


@pytest.fixture
def page_of_rows(tmp_path):
    """A page with a table of ten numbers, one of them undefined."""
    rows = [(f"{ATTACK} {k}", None if k == 3 else (k * 7) % 10) for k in range(10)]
    table = Table([Column("class"), Column("AP", lambda v: "-" if v is None else str(v))], rows)
    write_page(tmp_path / "page.html", render_table(table, data=ATTACK))
    return tmp_path / "page.html"


def test_a_page_opens_from_disk_and_its_tables_sort_and_filter(page_of_rows):
    with open_page(page_of_rows, viewport={"width": 390, "height": 800}) as page:
        table = page.locator(".table").first
        numbers = table.locator("td.number")
        table.get_by_role("button", name="AP").click()
        assert numbers.all_inner_texts() == ["0", "2", "3", "4", "5", "6", "7", "8", "9", "-"]
        table.get_by_role("button", name="AP").click()
        assert numbers.all_inner_texts() == ["9", "8", "7", "6", "5", "4", "3", "2", "0", "-"]
        table.get_by_role("button", name="class").click()
        assert numbers.first.inner_text() == "0"
        table.get_by_role("searchbox").fill("& 4")
        assert table.locator("tbody tr:visible").count() == 1
        assert page.evaluate("pageData()") == ATTACK
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
