"""A real Chromium without a window, driven by the DevTools protocol over a websocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_S = 30.0
_CALL_S = 30.0


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Tab:
    """One page of the browser."""

    _socket: aiohttp.ClientWebSocketResponse
    errors: list[str] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _last: int = 0
    _reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._reader = asyncio.create_task(self._read(), name="devtools")
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        number = self._last
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._answers[number], _CALL_S)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    async def _read(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                self._answers.pop(found["id"]).set_result(found)
            elif found["method"] == "Runtime.exceptionThrown":
                details = found["params"]["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", details["text"])
                self.errors.append(thrown)
            elif found["method"] == "Log.entryAdded":
                entry = found["params"]["entry"]
                # That an answer was an error, or a server went away, is for the test to see.
                from_server = entry["source"] == "network" and "/api/" in entry.get("url", "")
                if entry["level"] == "error" and not from_server:
                    self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")

    # --- what a person does ---------------------------------------------------------------

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def theme(self, scheme: str) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """Return the value of an expression in the page; a promise is waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def until(self, script: str, *, timeout_s: float = 20.0) -> Any:
        """Wait until an expression is true; returns it."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                value = await self.run(script)
            except AssertionError as error:  # the page is only just being loaded
                found = str(error)
            else:
                if value or value == {}:  # an element has no value
                    return value
                found = repr(value)
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {script} ({found}); {self.errors}")
            await asyncio.sleep(0.05)

    async def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def click_on(self, selector: str) -> None:
        found = f"document.querySelector({json.dumps(selector)})"
        middle = "((r) => [r.x + r.width / 2, r.y + r.height / 2])"
        place = await self.until(f"{found} && {middle}({found}.getBoundingClientRect())")
        await self.click(*place)

    async def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def screenshot(self, path: Path) -> None:
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.asynccontextmanager
async def chromium_tab() -> AsyncIterator[Tab]:
    """Start a Chromium of its own with one empty page; both end with the block."""
    program = find_chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(
        prefix="taskctl-chromium-", ignore_cleanup_errors=True
    ) as profile:
        argv = [
            *(program, "--headless=new", "--remote-debugging-port=0", "--no-first-run"),
            *("--disable-gpu", "--disable-extensions", "--disable-background-networking"),
            *("--disable-dev-shm-usage", f"--user-data-dir={profile}", "--hide-scrollbars"),
            # Its own sandbox needs rights that root in a container does not have.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
        log_path = Path(profile) / "stderr"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            port = await _devtools_port(process, log_path)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
                url = pages[0]["webSocketDebuggerUrl"]
                async with session.ws_connect(url, max_msg_size=64 * 1024 * 1024) as socket:
                    tab = Tab(socket)
                    await tab.open()
                    try:
                        yield tab
                    finally:
                        await tab.close()
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _devtools_port(process: subprocess.Popen[bytes], log_path: Path) -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(rb"DevTools listening on ws://[^:]+:(\d+)/", log_path.read_bytes())
        if found:
            return int(found[1])
        await asyncio.sleep(0.05)
    raise AssertionError(f"Chromium does not start: {log_path.read_text(errors='replace')}")
