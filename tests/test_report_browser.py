"""A report in a real browser: a point is clicked, its cells are seen, nothing is asked for."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldnas.cli.report import write_report
from goldnas.searching.folder import SearchRun
from reported import made_up, made_up_chain

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser() -> "Iterator[sync_api.Browser]":
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])
        yield browser
        browser.close()


class Tab:
    """A page that was opened, what it asked for, and what went wrong on it."""

    def __init__(self, browser: "sync_api.Browser", page: Path, width: int = 1280) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on(
            "console",
            lambda said: self.errors.append(said.text) if said.type != "log" else None,
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(page.resolve().as_uri())

    def close(self) -> None:
        """Nothing was asked for but the file, and nothing went wrong."""
        assert len(self.requests) == 1
        assert self.errors == []
        self.page.close()


def cells_on(tab: Tab) -> int:
    """How many operators the cell graphs show."""
    return int(tab.page.locator("#graph .arc").count())


def test_a_click_on_a_point_shows_its_cells(
    browser: "sync_api.Browser", tmp_path: Path
) -> None:
    run = made_up(tmp_path / "run")
    tab = Tab(browser, write_report(run.path))
    for number in (0, len(run.front().networks) - 1):
        network = run.front().networks[number]
        mark = tab.page.locator(f'#chart-front-0 .mark[data-network="{number}"]')
        mark.hover()
        assert network.fingerprint in tab.page.locator("#tip").inner_text()
        mark.click()
        assert tab.page.locator("#chosen").inner_text() == network.fingerprint
        kept = sum(map(len, run.architecture(network).choices.values()))
        assert cells_on(tab) == kept
        assert tab.page.locator("#operators tbody tr").count() > kept
    tab.close()


def test_the_keyboard_alone_is_enough(browser: "sync_api.Browser", tmp_path: Path) -> None:
    run = made_up(tmp_path / "run")
    tab = Tab(browser, write_report(run.path), width=390)
    first = tab.page.locator('#chart-front-0 .mark[tabindex="0"]')
    first.focus()
    tab.page.keyboard.press("End")
    focused = "document.activeElement.dataset.network"
    number = int(tab.page.evaluate(focused))
    assert number == len(run.front().networks) - 1  # the dearest
    tab.page.keyboard.press("Enter")
    chosen = run.front().networks[number].fingerprint
    assert tab.page.locator("#chosen").inner_text() == chosen
    before = tab.page.locator("#told").inner_text()
    tab.page.locator("#moment").focus()
    tab.page.keyboard.press("Home")
    assert tab.page.locator("#told").inner_text() != before
    assert tab.page.locator("#alive .arc").count() == 84  # all of them
    assert not tab.page.evaluate(
        "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    tab.close()


def test_light_and_dark_are_switched(browser: "sync_api.Browser", tmp_path: Path) -> None:
    tab = Tab(browser, write_report(made_up_chain(tmp_path / "run").path))
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(colour)
    tab.page.locator("#theme").click()
    dark = tab.page.evaluate(colour)
    assert dark != light
    tab.page.emulate_media(color_scheme="dark")
    tab.page.locator("#theme").click()
    assert tab.page.evaluate(colour) == light
    assert tab.page.locator("#graph .chain li").count() == 2
    tab.close()


def test_a_script_in_the_data_does_not_run(browser: "sync_api.Browser", tmp_path: Path) -> None:
    """Not even one that got onto the page: the page allows its own alone."""
    run: SearchRun = made_up(tmp_path / "run")
    page = write_report(run.path)
    text = page.read_text()
    page.write_text(text.replace("<footer>", "<script>window.ran = 1</script><footer>"))
    tab = Tab(browser, page)
    assert tab.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in error for error in tab.errors)
    assert tab.page.locator("#chosen").inner_text() != "a network"
    tab.page.close()
