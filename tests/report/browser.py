"""A page in headless Chromium, watched through the DevTools protocol over a pair of pipes; the network is shut off."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

SECONDS = 60
NAMES = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to start as root with it, and many containers cannot provide it
    "--hide-scrollbars",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
# All pictures decoded, then what a reader sees of them and of the page.
_LOOK = """(async () => {
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  const box = node => node.getBoundingClientRect();
  return {
    title: document.title,
    images: [...document.images].map(image => [image.naturalWidth, box(image).width, box(image).height]),
    drawings: [...document.querySelectorAll("svg[role=img]")].map(svg => [box(svg).width, box(svg).height]),
    width: [document.documentElement.scrollWidth, window.innerWidth],
    marked: document.documentElement.dataset.ran ?? null,
    ground: getComputedStyle(document.body).backgroundColor,
  };
})()"""


def find_browser() -> str | None:
    """The program, or None if there is none on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Seen:
    """What a page did and showed.

    Attributes:
        requests: addresses that were asked for, data: among them.
        errors: uncaught exceptions, and messages of level error in the console and the log.
        facts: what :data:`_LOOK` gives.
    """

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Browser:
    """One process of Chromium with a profile of its own, gone at the end."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory()
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4
        line = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        switches = (*_SWITCHES, f"--user-data-dir={self._profile.name}", "about:blank")
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, *switches],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile.name},
        )
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._pending = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile.name, ignore_errors=True)  # its children may still be writing
        self._profile.cleanup()

    def look(
        self, page: Path, width: int = 1280, scheme: str = "light", pictures: Mapping[Path, str] = MappingProxyType({})
    ) -> Seen:
        """Open ``page`` in a window of ``width`` pixels.

        Args:
            page: the file.
            width: of the window.
            scheme: "light" or "dark", what the reader prefers.
            pictures: file to save a picture to -> selector of what is in it, such as "body".
        """
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", {}, session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", size, session)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", {"features": features}, session)
        self._events.clear()
        self._call("Page.navigate", {"url": page.resolve().as_uri()}, session)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._message())
        question = {"expression": _LOOK, "awaitPromise": True, "returnByValue": True}
        seen = Seen(facts=self._call("Runtime.evaluate", question, session)["result"]["value"])
        for picture, selector in pictures.items():
            self._save(picture, selector, session)
        for event in self._events:
            _note(event, seen)
        self._call("Target.closeTarget", {"targetId": target})
        return seen

    def _save(self, picture: Path, selector: str, session: str) -> None:
        box = f"JSON.parse(JSON.stringify(document.querySelector({json.dumps(selector)}).getBoundingClientRect()))"
        found = self._call("Runtime.evaluate", {"expression": box, "returnByValue": True}, session)["result"]["value"]
        clip = {"scale": 1, **{key: found[key] for key in ("x", "y", "width", "height")}}
        shot = self._call("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}, session)
        picture.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, arguments: Mapping[str, Any], session: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _message(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"Chromium said nothing for {SECONDS} s")
            part = os.read(self._read, 1 << 16)
            if not part:
                raise ConnectionError(f"Chromium ended with code {self._process.wait()}")
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _note(event: dict[str, Any], seen: Seen) -> None:
    """Keep what an event says about requests and errors."""
    what = event.get("params", {})
    match event.get("method"):
        case "Network.requestWillBeSent":
            seen.requests.append(what["request"]["url"])
        case "Log.entryAdded" if what["entry"]["level"] in {"error", "warning"}:
            seen.errors.append(what["entry"]["text"])
        case "Runtime.exceptionThrown":
            seen.errors.append(what["exceptionDetails"]["exception"]["description"])
        case "Runtime.consoleAPICalled" if what["type"] in {"error", "warning", "assert"}:
            seen.errors.append(" ".join(str(value.get("value")) for value in what["args"]))
