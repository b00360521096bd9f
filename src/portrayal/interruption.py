"""Asked to stop: Ctrl-C, SIGTERM and SIGUSR1 (a scheduler's warning) are kept until a step or a picture is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
SAID = "stopping as soon as this step is done; all of it is kept. Ctrl-C once more stops at once."


@dataclass
class Stop:
    """Whether this process was asked to stop, and by which signal."""

    signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether it was."""
        return self.signal is not None

    def take(self, number: int) -> bool:
        """Remember a signal; whether it means at once: Ctrl-C after any other, or SIGTERM a second time."""
        at_once = self.asked and (number == signal.SIGINT or number == self.signal == signal.SIGTERM)
        self.signal = self.signal or number
        return at_once


_current: Stop | None = None


@contextmanager
def interruption(said: Callable[[str], None] | None = None) -> Iterator[Stop]:
    """Keep signals to stop until :func:`check` is called; one inside another is the same one.

    Outside the main thread no signal arrives, and nothing is kept.

    Args:
        said: Called with what a person should know once the first arrives.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current if _current is not None else Stop()
        return
    stop = _current = Stop()

    def keep(number: int, frame: FrameType | None) -> None:
        if stop.take(number):
            signal.default_int_handler(number, frame)
        if said is not None:
            said(SAID)

    before = {number: signal.signal(number, keep) for number in SIGNALS}
    try:
        yield stop
    finally:
        _current = None
        for number, handler in before.items():
            signal.signal(number, handler)


def check() -> None:
    """Stop here if that was asked for.

    Raises:
        KeyboardInterrupt: If it was.
    """
    if _current is not None and _current.asked and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt
