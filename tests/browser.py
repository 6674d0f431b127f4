"""Chromium driven by playwright: opens a page from disk and checks its behaviour."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def open_page(path: Path, **options: Any) -> Iterator[Any]:
    """A playwright page that shows the file; fails if the page logged errors or made requests.

    No error or warning on the console, no uncaught exception; the page may request
    only itself and embedded data. Skips the test if no browser is installed.

    Args:
        path: the HTML file.
        options: of ``Browser.new_context``, e.g. ``color_scheme="dark"``.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if EXECUTABLE is None:
        pytest.skip("no Chromium on the PATH")
    complaints: list[str] = []
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        page = browser.new_context(**options).new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
