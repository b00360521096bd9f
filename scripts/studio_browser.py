"""A studio in a process of its own, and a browser that notes everything a page should not do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NO_BROWSER = "Debian's chromium is not installed"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OPEN = """import sys, pathlib, portrayal
if __name__ == '__main__':
    portrayal.open_studio(pathlib.Path(sys.argv[1]), port=int(sys.argv[2]), browser=False, recipe=sys.argv[3] or None)
"""


@dataclass
class Studio:
    """A server on a folder of projects, that can be killed and started again."""

    root: Path
    recipe: Path | str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.root.parent / f"{self.root.name}-server.log"

    def start(self) -> float:
        """Start the server; returns the seconds until it answered."""
        began = time.monotonic()
        self.port = self.port or free_port()
        command = [sys.executable, "-c", OPEN, str(self.root), str(self.port), str(self.recipe)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.root.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < began + 120, "the server does not answer"
            time.sleep(0.05)
        return time.monotonic() - began

    def answers(self) -> bool:
        """Whether the page can be had."""
        try:
            with urllib.request.urlopen(self.address, timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End the server as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End the server, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Noted:
    """What a page did that it should not: requests to other hosts, errors in its console, refused answers."""

    address: str
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def listen(self, page: Any) -> None:
        """Note from now on."""
        page.on("request", self.request)
        page.on("console", self.message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self.response)

    def message(self, message: Any) -> None:
        """Note an error in the console."""
        if message.type == "error":
            self.errors.append(message.text)

    def response(self, response: Any) -> None:
        """Note a refused answer."""
        if response.status >= 400:
            self.errors.append(f"{response.status} {response.url}")

    def request(self, request: Any) -> None:
        """Note a request to another host."""
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def check(self) -> None:
        """Fail if anything was noted."""
        assert self.elsewhere == []
        assert self.errors == []


SETTLED = """Promise.all(document.getAnimations().filter(one => one instanceof CSSTransition)
    .map(one => one.finished.catch(() => null)))"""
"""Waits until nothing fades any more: what is half shown is pale."""


def serious(page: Any) -> list[str]:
    """What axe-core finds that is serious or critical."""
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    page.evaluate(SETTLED)
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
