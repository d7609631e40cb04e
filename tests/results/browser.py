"""A headless Chromium, driven over WebDriver with what Python has: pages are opened and clicked as people do."""

from __future__ import annotations

import base64
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

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "needs Chromium and chromedriver (apt-get install chromium chromium-driver)"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window."""

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

    def screenshot(self, path: Path) -> None:
        """The window as a PNG file."""
        path.write_bytes(base64.b64decode(_call("GET", f"{self._root}/screenshot")))

    def close(self) -> None:
        """Close the window."""
        _call("DELETE", self._root)


@contextlib.contextmanager
def browser(profile: Path, width: int = 1300, height: int = 1000) -> Iterator[Browser]:
    """A headless browser without network but to this machine; everything it writes lies in `profile`."""
    arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
    arguments += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--user-data-dir={profile}"]
    arguments += [f"--window-size={width},{height}", "--no-first-run", "--disable-background-networking"]
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
