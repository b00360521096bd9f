"""Hostile inputs of every kind to every parser of ours: no crash, no hang, no file outside, memory bounded.

    python -m benchmarks.hostile [--inputs 1000] [--seed 0]

Whole files of each kind (see `parsers.py`) are damaged in a way that a number decides, some nested a hundred thousand
deep or promising terabytes to begin with, and read in processes that are watched from outside: of bounded memory, and
killed after ten seconds. Python's audit events tell of every file that is opened to write. A fault is named by parser
and number: `--only PARSER:NUMBER` repeats it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos_fuzz import damaged
from benchmarks.record import print_table, save

MEMORY = 6 << 30
"""Address space of a process that reads, in bytes; torch alone takes half of it."""
GROWTH_MIB = 600
"""What reading may take, in MiB, of memory that is there."""
SECONDS = 10


def content_of(name: str, number: int) -> bytes:
    """The bytes of an input: every twentieth as it is, the others damaged."""
    from benchmarks.parsers import PARSERS

    rng = np.random.default_rng([number, sum(name.encode())])
    seeds = list(PARSERS[name].seeds())
    chosen = seeds[int(rng.integers(len(seeds)))]
    return chosen if number % 20 == 0 else damaged(chosen, [(name, seed) for seed in seeds], rng)


def inputs_of(seed: int, each: int) -> list[tuple[str, int]]:
    """Parser and number of each input."""
    from benchmarks.parsers import PARSERS

    return [(name, seed * 1_000_000 + number) for name in PARSERS for number in range(each)]


def work(seed: int, each: int, start: int) -> None:
    """Read the inputs from one on, one line of JSON each."""
    from benchmarks.parsers import outcome

    warnings.simplefilter("ignore")
    faulthandler.enable()
    wanted = [(name, number, content_of(name, number)) for name, number in inputs_of(seed, each)[start:]]
    home = tempfile.mkdtemp()
    for name in dict.fromkeys(name for name, _, _ in wanted):  # what is imported late is imported now
        outcome(name, content_of(name, 0), Path(tempfile.mkdtemp(dir=home)))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    strangers: list[str] = []
    watch_writes(home, strangers)
    for name, number, content in wanted:
        word, trace, before, started = "", "", peak_mib(), time.process_time()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            word = outcome(name, content, Path(tempfile.mkdtemp(dir=home)))
            if strangers:
                raise RuntimeError(f"opened to write: {strangers[:3]}")
            if peak_mib() - before > GROWTH_MIB:
                raise MemoryError(f"{peak_mib() - before:.0f} MiB")
        except Exception as error:  # whatever it is, it is what is looked for
            word, trace = f"fault: {type(error).__name__}", traceback.format_exc()[-1500:]
        signal.setitimer(signal.ITIMER_REAL, 0)
        strangers.clear()
        told = {"parser": name, "number": number, "outcome": word, "trace": trace, "memory_mib": peak_mib()}
        print(json.dumps(told | {"seconds": time.process_time() - started}), flush=True)
    shutil.rmtree(home)


def peak_mib() -> float:
    """Memory of this process at its fullest, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def watch_writes(home: str, strangers: list[str]) -> None:
    """Note files that are opened to write, made or deleted anywhere but in a folder."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if writes and not str(arguments[0]).startswith((home, "/dev/")):
                strangers.append(str(arguments[0]))
        elif event in ("os.rename", "os.remove", "os.mkdir", "subprocess.Popen", "os.system", "socket.connect"):
            inside = str(arguments[0]).startswith(home) or not str(arguments[0]).startswith("/")
            if not inside or event in ("subprocess.Popen", "os.system", "socket.connect"):
                strangers.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)


def watch(seed: int, each: int) -> list[dict[str, Any]]:
    """What came of so many inputs to each parser; a process that dies or hangs is a fault of the one it was at."""
    wanted, found = inputs_of(seed, each), list[dict[str, Any]]()
    while len(found) < len(wanted):
        command = [sys.executable, "-m", "benchmarks.hostile", "--work", f"{seed}:{each}:{len(found)}"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=300 + SECONDS * len(wanted))
        found += [json.loads(line) for line in process.stdout.splitlines()]
        if process.returncode:
            name, number = wanted[len(found)]
            died = {"parser": name, "number": number, "outcome": f"fault: died ({process.returncode})"}
            found.append(died | {"trace": process.stderr[-1500:], "memory_mib": 0.0, "seconds": 0.0})
    return found


def figures_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What is recorded of all inputs."""
    faults = [row for row in found if row["outcome"].startswith("fault")]
    return {
        "inputs": len(found),
        "faults": len(faults),
        "read": sum(row["outcome"] == "read" for row in found),
        "refused": sum(row["outcome"].startswith("refused") for row in found),
        "longest (s)": round(max(row["seconds"] for row in found), 2),
        "highest memory (MiB)": round(max(row["memory_mib"] for row in found)),
        "parsers": dict(Counter(row["parser"] for row in found)),
        "traces": [{key: row[key] for key in ("parser", "number", "outcome", "trace")} for row in faults[:20]],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="PARSER:NUMBER, read in this process")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(*map(int, arguments.work.split(":")))
        return
    if arguments.only is not None:
        from benchmarks.parsers import outcome

        name, number = arguments.only.split(":")
        with tempfile.TemporaryDirectory() as folder:
            print(outcome(name, content_of(name, int(number)), Path(folder)))
        return
    each = -(-arguments.inputs // len(inputs_of(0, 1)))
    figures = figures_of(watch(arguments.seed, each))
    print_table([{"figure": name, "value": str(value)} for name, value in figures.items() if name != "traces"])
    for fault in figures["traces"]:
        print(fault)
    settings = {"inputs": arguments.inputs, "seed": arguments.seed, "seconds": SECONDS, "memory": MEMORY}
    print(save("hostile", figures, settings))
    sys.exit(bool(figures["faults"]))


if __name__ == "__main__":
    main()
