"""Reports in a browser, as a user opens them: offline, by zooming, sorting and printing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.page import json_in_html
from pipeline.report.stage import REPORT, make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window. Of this module alone: while it runs no other code can have an event loop."""
    if os.environ.get("PIPELINE_NO_BROWSER") == "1":
        pytest.skip("PIPELINE_NO_BROWSER=1")
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("no chromium found: `apt-get install chromium`, or PIPELINE_NO_BROWSER=1 to leave these tests out")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@contextmanager
def opened(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page when all is drawn; asserts until it is closed that nothing goes wrong in it, nor leaves the machine."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: None if request.url == page_file.as_uri() else wrong.append(request.url))
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    page.goto(page_file.as_uri(), timeout=120_000)
    page.wait_for_selector("html[data-drawn]", timeout=120_000)
    yield page
    assert page.evaluate("window.hacked") is None
    assert wrong == []
    page.close()


def axis_range(page: Any) -> list[float]:
    return page.evaluate("document.querySelector('.ethogram .drawing')._fullLayout.xaxis.range.slice()")


def drag(page: Any, start: float, stop: float) -> None:
    """Across the ethogram, from one share of its width to another."""
    page.locator(".ethogram .drawing").scroll_into_view_if_needed()
    box = page.locator(".ethogram .drawing .nsewdrag").first.bounding_box()
    y = box["y"] + min(box["height"] / 2, 60)
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + stop * box["width"], y, steps=5)
    page.mouse.up()


def test_a_run_opens_zooms_sorts_and_prints(browser: Any, run: Path, hostile: str) -> None:
    with opened(browser, run / REPORT) as page:
        assert page.locator("h2").all_inner_texts()[:6] == [
            "Learning curves", "Scores", "Confusion", "Certainty", "Ethograms", "Worst trials",
        ]  # fmt: skip
        assert page.locator(".drawing").count() == page.locator(".drawing .cartesianlayer .subplot.xy").count() > 6
        shown = page.evaluate("document.body.innerText")
        assert hostile in shown
        assert page.locator("img").count() == 0
        row_names = page.locator(".ethogram .ytick text").all_text_contents()
        assert any(name.startswith("<img src") for name in row_names)

        whole = axis_range(page)
        drag(page, 0.25, 0.5)
        length = whole[1] - whole[0]
        assert axis_range(page) == pytest.approx([whole[0] + length / 4, whole[0] + length / 2], abs=0.02 * length)
        page.mouse.move(0, 0)
        box = page.locator(".ethogram .drawing .nsewdrag").first.bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 10)
        assert "labelled: " in page.locator(".ethogram .readout").inner_text()

        table = page.locator("table.sortable").nth(1)
        numbers = table.locator("thead th").all_inner_texts()
        column = next(i for i, name in enumerate(numbers) if name.startswith("frames"))
        for way, reverse in (("ascending", False), ("descending", True)):
            table.locator("thead th button").nth(column).click()
            assert table.locator("thead th").nth(column).get_attribute("aria-sort") == way
            cells = table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()
            assert cells == sorted(cells, key=lambda cell: int(cell.replace(",", "")), reverse=reverse)
            assert len(set(cells)) > 2
        # Figures that there are none of stay last, whichever way.
        for _ in range(2):
            table.locator("thead th button").nth(1).click()
            assert table.locator("tbody tr").last.locator("td").nth(1).inner_text() == "–"

        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        assert page.evaluate("[...document.querySelectorAll('details')].every((one) => one.open)")


def test_a_cross_validation_and_a_prediction_open(browser: Any, folds: Path, predicted: Path, hostile: str) -> None:
    with opened(browser, folds / REPORT) as page:
        assert "Folds" in page.locator("h2").all_inner_texts()
        assert hostile in page.locator("main").inner_text()
    with opened(browser, make(predicted, refused={f"<b>{hostile}": "no video"})) as page:
        assert page.locator("h2").all_inner_texts()[:4] == ["Left out", "Behaviours", "Ethograms", "Trials"]
        assert f"<b>{hostile}" in page.locator("main").inner_text()
        drag(page, 0.1, 0.3)
        assert axis_range(page)[0] > 0


def test_json_cannot_end_its_script() -> None:
    assert "<" not in json_in_html({"</script>": "<!-- & \u2028"})
    assert json_in_html(["a/b"]) == '["a/b"]'
