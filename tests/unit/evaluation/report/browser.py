"""A headless Chromium that tests drive by the DevTools protocol: no driver and no browser of its own is installed."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")


def executable() -> str | None:
    """Find an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """An open page."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.numbers = itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.loaded = False

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; what the page does meanwhile is noted."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, path: Path) -> None:
        """Open a file, and wait until it is loaded."""
        for domain in ("Page", "Network", "Runtime"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=path.as_uri())
        while not self.loaded:
            self._next()

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(timeout=60))
        params = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        self.loaded |= message.get("method") == "Page.loadEventFired"
        return message

    def evaluate(self, script: str) -> Any:
        """Return what an expression of the page's script is worth."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def look(self, width: int, scheme: str = "light", height: int = 900) -> None:
        """Set how wide the window is, and which colours its owner prefers."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def point_at(self, selector: str, *, click: bool = False) -> None:
        """Move the pointer to the middle of an element, and click there."""
        where = f"document.querySelector({json.dumps(selector)})"
        x, y = self.evaluate(
            f"{where}.scrollIntoView({{block: 'center'}}), "
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])({where}.getBoundingClientRect())"
        )
        kinds = ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ()))
        for kind in kinds:
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def picture(self, path: Path) -> None:
        """Save the whole page as PNG."""
        made = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(made["data"]))


@contextmanager
def opened(path: Path, profile: Path) -> Iterator[Page]:
    """Start a browser with a fresh profile, open a file, and end the browser afterwards."""
    program = executable()
    assert program is not None
    command = [program, *OPTIONS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on"))
        with connect(address, max_size=None) as socket:
            browser = Page(socket)
            target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        with connect(f"{address.partition('/devtools')[0]}/devtools/page/{target}", max_size=None) as socket:
            page = Page(socket)
            page.open(path)
            yield page
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()
