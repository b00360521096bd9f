"""Where the seconds of a command go, from its first import on: the stack of its main thread, looked at again and again.

    python -m benchmarks.profile OUT.json train RUN

Runs `portrayal train RUN`, or any other command, in this process, and writes OUT.json twice a second, so that it may be
killed. Each row is a chain of our functions, with what they import at its end, and the seconds it was on the stack. A
call that holds Python's lock hides what goes on meanwhile: its seconds count for what is met when it lets go.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

EVERY = 0.01
"""Seconds from look to look."""
LEAST = 0.1
"""Seconds under which a chain is left out."""
OURS = f"{Path('src') / 'portrayal'}"


def chain_of(frame: FrameType | None) -> list[str]:
    """Our functions on a stack, outermost first; where the stack imports, the package that is imported is the last."""
    frames = list[FrameType]()
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    chain = list[str]()
    for one in reversed(frames):
        module = str(one.f_globals.get("__name__", ""))
        if module.startswith("portrayal.") and one.f_code.co_name != "<module>":
            chain.append(f"{module.removeprefix('portrayal.')}.{one.f_code.co_name}")
        elif one.f_code.co_name == "<module>" and module.partition(".")[0] not in (
            "portrayal",
            "benchmarks",
            "__main__",
        ):
            return [*chain, f"import {module.partition('.')[0]}"]
    return chain


def seconds_of(rows: dict[tuple[str, ...], float]) -> list[dict[str, object]]:
    """Rows of a tree, each chain below the one it continues, the longest first."""
    largest = {chain: seconds for chain, seconds in rows.items() if seconds >= LEAST}
    order = sorted(largest, key=lambda chain: [(-rows[chain[: depth + 1]], name) for depth, name in enumerate(chain)])
    return [{"depth": len(chain), "what": chain[-1], "seconds": round(largest[chain], 2)} for chain in order]


def watch(thread: int, out: Path) -> None:
    """Look at a thread until the process ends."""
    rows, last, written = defaultdict[tuple[str, ...], float](float), time.perf_counter(), 0.0
    while True:
        time.sleep(EVERY)
        chain, now = chain_of(sys._current_frames().get(thread)), time.perf_counter()
        for depth in range(1, len(chain) + 1):
            rows[tuple(chain[:depth])] += now - last
        last = now
        if now - written > 0.5:
            written = now
            beside = out.with_suffix(".part")
            beside.write_text(json.dumps(seconds_of(rows)), encoding="utf-8")
            beside.replace(out)


def main() -> None:
    """Run the command under watch."""
    out, *sys.argv[1:] = sys.argv[1:]
    sys.argv[0] = "portrayal"
    watcher = threading.Thread(target=watch, args=(threading.get_ident(), Path(out)), daemon=True)
    watcher.start()
    from portrayal.cli import main as command

    command()


if __name__ == "__main__":
    main()
