"""The report as people have it: opened from the disk in a headless Chromium, scrolled, clicked, in light and dark.

Chromium is driven over WebDriver (HTTP), for which Python's own library is enough.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.best import best
from results.report import Extras, load, render, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "needs Chromium and chromedriver (apt-get install chromium chromium-driver)"
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
ALL_DRAWN = (
    "return document.querySelectorAll('[data-plot]').length === document.querySelectorAll('[data-drawn=yes]').length"
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One page."""

    def __init__(self, root: str, arguments: list[str]) -> None:
        self._root = root
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = _call("POST", f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        self._root = f"{root}/session/{made['sessionId']}"

    def open(self, url: str) -> None:
        """Load a page and wait until it has loaded."""
        _call("POST", f"{self._root}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body returns in the page."""
        return _call("POST", f"{self._root}/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The first true answer of a script. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not (answer := self.run(script)):
            if time.monotonic() > end:
                raise TimeoutError(script)
            time.sleep(0.05)
        return answer

    def click(self, selector: str) -> None:
        """A real click on the first element that matches."""
        found = _call("POST", f"{self._root}/element", {"using": "css selector", "value": selector})
        _call("POST", f"{self._root}/element/{found[_ELEMENT]}/click", {})

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return _call("POST", f"{self._root}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def console(self) -> list[str]:
        """What the page wrote to the console since the last call, errors of loading included."""
        return [f"{e['level']} {e['message']}" for e in _call("POST", f"{self._root}/se/log", {"type": "browser"})]

    def close(self) -> None:
        """Close the page."""
        _call("DELETE", self._root)


@contextlib.contextmanager
def opened(profile: Path) -> Iterator[Browser]:
    """A headless browser without network but to this machine; everything it writes lies in `profile`."""
    arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
    arguments += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--user-data-dir={profile}"]
    arguments += ["--window-size=1300,1000", "--no-first-run", "--disable-background-networking"]
    driver = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert driver.stdout is not None
        started = next(line for line in driver.stdout if "started successfully" in line)
        port = started.strip(" .\n").split()[-1]
        window = Browser(f"http://127.0.0.1:{port}", arguments)
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait(10)


def _call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["value"]["message"]) from error


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("profile")) as window:
        yield window


def show(browser: Browser, studies: Any, folder: Path, name: str, events: list[dict[str, Any]], extra: Extras) -> None:
    """Write a report on a study made of events, open it, in light, and wait until every plot is drawn."""
    studies.write_log(folder / "results" / name, [studies.started(study=name), *events])
    write(
        folder / "report.html",
        render(load(folder / "results", [name]), best(folder / "results", [name]), {name: extra}),
    )
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.console()
    browser.open((folder / "report.html").as_uri())
    # A window as tall as the page has every plot in view.
    height = browser.run("return document.documentElement.scrollHeight")
    size = {"width": 1300, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.command("Emulation.setDeviceMetricsOverride", **size)
    browser.wait(ALL_DRAWN)
    browser.command("Emulation.clearDeviceMetricsOverride")


def trials(studies: Any) -> list[dict[str, Any]]:
    """Six trials: three that ended, two stopped at a rung, one failed."""
    rates, pers = (0.02, 0.01, 0.05, 0.002, 0.03), ([0.9, 0.4, 0.2], [0.8, 0.3, 0.1], [0.9, 0.5, 0.3], [0.95], [0.99])
    events = []
    for number, (rate, curve) in enumerate(zip(rates, pers, strict=True)):
        status = "completed" if len(curve) == 3 else "stopped"
        events += studies.trial(number, curve, status=status, config=studies.config(schedule_peak_lr=rate))
    for event in events:
        if event["event"] == "epoch" and event["epoch"] == 1:
            event["rung"] = 1
    failed = studies.config(schedule_peak_lr=0.04)
    return [*events, *studies.trial(5, [0.9], status="failed", error="out of memory", config=failed)]


YAML = "purpose: 'a \"quoted\" <best> & more'\nmodel:\n  hidden: 8\n"


@pytest.fixture(scope="module")
def page(browser: Browser, studies: Any, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """The page of those trials, opened once: to load it takes three seconds, and each test uses another part of it."""
    rows = [{"dimension": "peak_lr", "path": "schedule.peak_lr", "active": "", "trials": 12, "note": ""}]
    rows[0] |= {"ped_anova": 0.6, "chance": 0.2, "fanova": 0.7}
    extra = Extras(importance=rows, rates={1: [(0, 0.001), (300, 0.01)]}, best_yaml=YAML, rerun="tuner train")
    show(browser, studies, tmp_path_factory.mktemp("page"), "a", trials(studies), extra)
    return browser


def test_the_page_draws_every_plot_and_says_nothing_in_the_console(page: Browser) -> None:
    """Opened from the disk, all plots appear, nothing is fetched and the console stays empty."""
    assert page.console() == []
    titles = page.run(
        "return [...document.querySelectorAll('.js-plotly-plot')].map(p => p.closest('figure')"
        ".querySelector('h3').textContent)"
    )
    assert titles == [
        "Best so far, by trials",
        "Best so far, by training time",
        "Learning curves",
        "Importance of settings",
        "All settings side by side",
        "peak_lr",
        "Learning rates of the best 1",
        "Workers",
    ]
    fetched = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith(("data:", "blob:"))] == []


def test_a_click_on_a_column_sorts_the_table_and_a_second_click_turns_it(page: Browser) -> None:
    """Numbers sort as numbers, missing values stay at the end, and aria-sort says how it is sorted."""
    column = page.run(
        "return [...document.querySelectorAll('.sortable th')].findIndex(h => h.textContent === 'peak_lr') + 1"
    )
    cells = f"return [...document.querySelectorAll('.sortable td:nth-child({column})')].map(c => c.textContent)"
    before = page.run(cells)
    assert before == ["1e-2", "2e-2", "5e-2", "4e-2", "2e-3", "3e-2"]
    page.click(f".sortable th:nth-child({column}) button")
    assert page.run(cells) == ["2e-3", "1e-2", "2e-2", "3e-2", "4e-2", "5e-2"]
    page.click(f".sortable th:nth-child({column}) button")
    assert page.run(cells) == ["5e-2", "4e-2", "3e-2", "2e-2", "1e-2", "2e-3"]
    marked = "return [...document.querySelectorAll('.sortable th[aria-sort]')].map(h => h.ariaSort + h.textContent)"
    assert page.run(marked) == ["descendingpeak_lr"]


def test_the_log_button_changes_the_axis_and_keys_reach_it(page: Browser) -> None:
    """The button is a real one: reachable by Tab, worked by Enter, and its state is announced."""
    kind = "return document.querySelector('.js-plotly-plot')._fullLayout.yaxis.type"
    assert page.run(kind) == "log"  # PERs of 0.1 to 0.99
    assert page.run("return document.querySelector('[data-log]').getAttribute('aria-pressed')") == "true"
    page.run("document.querySelector('[data-log]').focus()")
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    page.command("Input.dispatchKeyEvent", type="keyDown", **key)
    page.command("Input.dispatchKeyEvent", type="keyUp", **key)
    page.wait(f"{kind} === 'linear'")
    assert page.run("return document.querySelector('[data-log]').getAttribute('aria-pressed')") == "false"


def test_a_trial_that_is_clicked_lights_up_in_every_plot(page: Browser) -> None:
    """From the table and from a plot; a second click, or Escape, shows all alike again."""
    lit = (
        "return [...document.querySelectorAll('.js-plotly-plot')].filter(p => p.data.some(t => "
        "(t.line && t.line.width === 4) || "
        "(t.type === 'parcoords' && t.line.color.every(c => c === 0 || c === 1)))).map(p => p"
        ".closest('figure').querySelector('h3').textContent)"
    )
    everywhere = ["Best so far, by trials", "Learning curves", "All settings side by side", "peak_lr", "Workers"]
    assert page.run(lit) == []
    page.click("tr[data-trial='2'] td")
    page.wait(f"{lit}.length === {len(everywhere)}")
    assert page.run(lit) == everywhere
    assert "trial 2 of a" in page.run("return document.getElementById('chosen').innerText")
    assert page.run("return [...document.querySelectorAll('tr.lit')].map(r => r.dataset.trial)") == ["2"]
    page.click("#chosen button")
    page.wait("return document.getElementById('chosen').hidden")
    page.run(
        "const p = document.querySelector('.js-plotly-plot');"
        "p.emit('plotly_click', {points: [{customdata: 3, data: {}}]})"
    )
    assert "trial 3 of a" in page.wait("return document.getElementById('chosen').innerText")
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    page.wait("return document.getElementById('chosen').hidden")


def test_the_dark_theme_changes_the_page_and_the_plots(page: Browser) -> None:
    """When the system turns dark, text and lines turn light, with the page open."""
    ink = "return document.querySelector('.js-plotly-plot')._fullLayout.font.color"
    light = page.run(ink)
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.wait(f"{ink} !== '{light}'")
    back = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (light, back) == ("#1b1f24", "rgb(20, 23, 28)")
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    page.wait(f"{ink} === '{light}'")


def test_copy_gives_the_run_file(page: Browser) -> None:
    """The button puts the run file, character for character, on the clipboard."""
    page.run("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.click("summary")
    page.click("[data-copy]")
    assert page.wait("return window.copied") == YAML


def test_names_from_a_study_are_shown_and_never_run(browser: Browser, studies: Any, tmp_path: Path) -> None:
    """HTML, quotes, line breaks and other scripts in names, errors and values are text and nothing else."""
    name = "<img src=x onerror=hacked=1>\"'&\u8056\u0416"
    nasty = "</script><script>hacked=1</script>\n<b>%{x}@1"
    events = trials(studies)
    events += studies.trial(6, [0.7, 0.6, 0.05], config=studies.config(schedule_kind=nasty))
    events += studies.trial(7, [0.9], status="failed", error=nasty)
    for event in events:
        event["host"] = nasty
    # The last test here, for it leaves the page that the others share.
    show(browser, studies, tmp_path, name, events, Extras(best_yaml=nasty, rerun=nasty, importance_note=nasty))
    assert browser.console() == []
    assert browser.run("return typeof hacked") == "undefined"
    shown = browser.run("return document.body.innerText")
    assert name in shown
    assert "</script><script>hacked=1</script>\\n<b>%{x}@1" in shown
    assert browser.run("return document.querySelectorAll('img[src=x], main script, header script').length") == 0
    ticks = browser.run("return [...document.querySelectorAll('.ytick')].map(t => t.textContent)")
    assert any(tick.startswith("</script><script>hacked=1") for tick in ticks)
