"""A headless Chromium, driven through its debugging pipe: no library, no port."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class Browser:
    """One page of a new browser.

    Args:
        program: of Chromium.
        profile: an empty folder.
    """

    def __init__(self, program: str, profile: Path) -> None:
        theirs, self._write = os.pipe()
        self._read, answers = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1000,800"]
        # Chromium reads commands from descriptor 3 and answers on 4.
        line = f'exec "$0" "$@" 3<&{theirs} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, *flags, "about:blank"],
            pass_fds=(theirs, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._answers = os.fdopen(self._read, "rb")
        self._count, self._session, self._rest = 0, "", b""
        pages = self._call("Target.getTargets")["targetInfos"]
        (page,) = (info["targetId"] for info in pages if info["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        os.close(self._write)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                piece = self._answers.read1()  # type: ignore[attr-defined]
                assert piece, "the browser has gone"
                self._rest += piece
            one, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(one)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, address: str) -> None:
        """Goes there."""
        self._call("Page.navigate", url=address)
        self.until("document.readyState == 'complete' && location.href != 'about:blank'")

    def follow(self, script: str) -> None:
        """Does what leads to another page, and waits until that is there."""
        self.value(f"window.left = true; {script}")
        self.until("!window.left && document.readyState == 'complete'")

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is on the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> None:
        """Waits for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < end, f"{script} did not become true"
            time.sleep(0.02)

    def picture(self) -> bytes:
        """PNG of what is seen."""
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])
