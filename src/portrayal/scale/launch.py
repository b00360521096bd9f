"""`--gpus N`: the same command in several processes of this machine, as `accelerate launch` starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from portrayal.errors import MachineError
from portrayal.interruption import SIGNALS

INTERRUPTED = 130
ECHO = 3.0
"""Seconds in which the first process meets the same mistake as another, if all do: then it is said once."""
GRACE = 30.0
"""Seconds that the other processes have to keep where they are, once one has failed."""


def share_out(arguments: Sequence[str], count: int, *, cpu: bool = False) -> int:
    """Run a command of ours in several processes that share its work; returns its exit code.

    When one fails the others are told to stop, and what it said is shown.

    Args:
        arguments: The command, such as `["train", "runs/ann"]`.
        count: How many processes, each with a GPU of its own.
        cpu: Without GPUs: slower than one process, and the same to the last bit.

    Raises:
        MachineError: If there are not so many GPUs.
    """
    if not cpu:
        check_gpus(count)
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / f"{rank}" for rank in range(count)]
        started = start(arguments, said, cpu=cpu)
        with forwarding(started) as handed_on:
            failed = wait(started)
        if handed_on and any(process.returncode == INTERRUPTED for process in started):
            return INTERRUPTED
        if failed and started[failed].returncode != started[0].returncode:  # else the first has said the same
            sys.stderr.write(said[failed].read_text(encoding="utf-8", errors="replace"))
        return 0 if failed is None else exit_code(started[failed].returncode)


def check_gpus(count: int) -> None:
    """Refuse more processes than there are GPUs."""
    import torch

    there = torch.cuda.device_count()
    if there < count:
        raise MachineError(
            f"--gpus {count}: this machine has {there or 'no'} GPU{'s' * (there != 1)}.",
            f"Use --gpus {there}." if there > 1 else "Leave --gpus out.",
        )


def start(arguments: Sequence[str], said: Sequence[Path], *, cpu: bool) -> list[subprocess.Popen[bytes]]:
    """Start the processes; the first speaks to the terminal, each other to a file."""
    count = len(said)
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"LOCAL_WORLD_SIZE": str(count)} | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    started = []
    for rank, path in enumerate(said):
        environment = threads | os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with path.open("wb") as file:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "portrayal", *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL if rank else None,
                    stderr=file if rank else None,
                    start_new_session=True,  # Ctrl-C reaches them once, from here
                )
            )
    return started


def wait(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended, or one has failed and the others have stopped; returns which."""
    while True:
        codes = [process.poll() for process in started]
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed:
            with suppress(subprocess.TimeoutExpired):
                started[0].wait(ECHO)
            stop(started)
            # Told to stop, all do; one that failed by itself did so first, and not for want of another.
            return min(failed, key=lambda rank: (codes[rank] == INTERRUPTED, rank))
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.05)


def stop(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let those that still run keep what they have; end what does not stop by itself."""
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    until = time.monotonic() + GRACE
    for process in started:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def forwarding(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Hand Ctrl-C and requests to end on to the processes, and wait for what they make of it; yields which came."""
    handed_on: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        handed_on.append(number)
        for process in started:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    previous = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        yield handed_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def exit_code(code: int) -> int:
    """The exit code of a process; one that a signal ended counts as a shell counts it."""
    return code if code >= 0 else 128 - code
