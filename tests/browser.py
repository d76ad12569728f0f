"""A headless browser, spoken to by the DevTools protocol; no driver package is needed."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """The first of the known browsers that is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class NavigatedError(Exception):
    """The page went elsewhere while it was asked."""


class Page:
    """One page of a browser.

    Args:
        socket: Of the page's own DevTools endpoint.

    Attributes:
        events: What the browser told without being asked, of the domains that were enabled.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def open(self, url: str) -> None:
        """Go there; for an address that differs in its fragment alone the page stays loaded."""
        await self.send("Page.navigate", url=url)

    async def text(self) -> str:
        """What a person can read on the page."""
        return str(await self.evaluate("document.body ? document.body.innerText : ''"))

    async def text_when(self, is_there: Callable[[str], bool], timeout_s: float = 120.0) -> str:
        """The text once there is one that is as wanted, or as it is when the time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                text = await self.text()
            except NavigatedError:  # the page is just being replaced by the next one
                text = ""
            if (text and is_there(text)) or time.monotonic() > deadline:
                return text
            await asyncio.sleep(0.25)

    async def type_into(self, selector: str, text: str) -> None:
        """Put the cursor into a field and type."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.send("Input.insertText", text=text)

    async def press(self, label: str) -> None:
        """Press the button of this label."""
        await self.evaluate(
            "[...document.querySelectorAll('button')]"
            f".find(button => button.innerText.trim() === {json.dumps(label)}).click()"
        )

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        reply = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    async def picture(self, path: Path) -> None:
        """Keep what is to be seen as a PNG file."""
        reply = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(reply["data"]))

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its reply."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=30.0)).data)
            if "method" in message:
                self.events.append(message)
            if message.get("id") == number:
                if "Inspected target navigated" in message.get("error", {}).get("message", ""):
                    raise NavigatedError
                assert "error" not in message, message["error"]
                return dict(message["result"])


@asynccontextmanager
async def browser(path: str, width: int = 1400, height: int = 900) -> AsyncIterator[Page]:
    """An empty page of a browser with a profile of its own, which ends with the block."""
    profile = Path(tempfile.mkdtemp(prefix="ssmrl-browser-"))
    command = [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
    command += [f"--window-size={width},{height}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _port(profile / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as reply:
                pages = [entry for entry in await reply.json() if entry["type"] == "page"]
            # Answers hold whole pages and pictures.
            address = pages[0]["webSocketDebuggerUrl"]
            async with http.ws_connect(address, max_msg_size=64 * 2**20) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _port(file: Path, process: "subprocess.Popen[bytes]") -> int:
    """Where the browser listens, which it writes down when it does."""
    deadline = time.monotonic() + 30.0
    while not file.exists() or not file.read_text().strip():
        assert process.poll() is None, "the browser ended early"
        assert time.monotonic() < deadline, "the browser did not start"
        await asyncio.sleep(0.1)
    return int(file.read_text().split()[0])
