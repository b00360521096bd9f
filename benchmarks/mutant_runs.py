"""Run tests on the project with an error in it: each in a copy, in forks of one process that has imported libraries.

A fork costs a second where a new process would import for ten; a copy is changed and put back, and its bytecode is
checked against the source.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 600
PRELOADED = ("torch", "diffusers", "transformers", "accelerate", "cv2", "numpy", "PIL.Image", "pydantic", "safetensors")
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Mutation(Protocol):
    """A change of one file."""

    @property
    def path(self) -> Path:
        """The file, relative to the root."""

    def applied_to(self, source: str) -> str:
        """The source with the change in it; raises `ValueError` if that cannot be."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `killed`, `survived`, or `error`; by which test, or why; after how many seconds."""

    status: str
    detail: str
    seconds: float


def copy_tree(folder: Path, tests: Path | None) -> None:
    """Copy what git knows or would take, with bytecode that is checked against its source."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file() and not (tests and name.startswith("tests/")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    if tests:
        shutil.copytree(tests, folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "src", quiet=2, invalidation_mode=mode)


def preload() -> None:
    """Import what every test imports, so that forks need not."""
    import importlib

    for name in PRELOADED:
        importlib.import_module(name)
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    _ = AutoencoderKL, DDPMScheduler, UNet2DConditionModel, CLIPTextModel, CLIPTokenizer
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Attempt:
    """Tests to run, with an error in the code, until one fails; or without, all of them."""

    tests: tuple[str, ...]
    mutant: Mutation | None = None


@dataclass
class Running:
    """An attempt that is under way in a fork of this process.

    Attributes:
        pid: Of the fork, which leads a process group of its own.
        tree: The copy of the project it has for itself.
        source: What the file that was changed held before.
        started: When, by the monotonic clock.
    """

    attempt: Attempt
    pid: int
    tree: Path
    source: str
    started: float

    def result(self) -> tuple[int | None, str] | None:
        """Pytest's exit status, none if it ran out of time, and its output; nothing while it runs."""
        done, waited = os.waitpid(self.pid, os.WNOHANG)
        if not done and time.monotonic() - self.started < TIMEOUT_SECONDS:
            return None
        with contextlib.suppress(ProcessLookupError):  # what it started and left, too
            os.killpg(self.pid, signal.SIGKILL)
        if not done:
            os.waitpid(self.pid, 0)
        if self.attempt.mutant:
            (self.tree / self.attempt.mutant.path).write_text(self.source, encoding="utf-8")
        shutil.rmtree(self.tree / ".pytest", ignore_errors=True)
        output = (self.tree / ".log").read_text(encoding="utf-8", errors="replace")
        return os.waitstatus_to_exitcode(waited) if done else None, output


def start(attempt: Attempt, tree: Path) -> Running:
    """Put the error into a copy of the project and run the tests there, in a fork.

    Raises:
        ValueError: If the error cannot be put in.
        SyntaxError: If the code does not compile with it.
    """
    source = ""
    if attempt.mutant:
        path = tree / attempt.mutant.path
        source = path.read_text(encoding="utf-8")
        changed = attempt.mutant.applied_to(source)
        if path.suffix == ".py":
            compile(changed, str(path), "exec")
        path.write_text(changed, encoding="utf-8")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            status = run_pytest(tree, attempt.tests, ["-x"] if attempt.mutant else [])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return Running(attempt, pid, tree, source, time.monotonic())


def run_pytest(tree: Path, tests: Sequence[str], until: Sequence[str]) -> int:
    """Run tests of a copy of the project in this process, which belongs to them; the output goes to `.log`."""
    os.setsid()
    os.chdir(tree)
    with (tree / ".log").open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    for name in [name for name in sys.modules if name.split(".")[0] in ("portrayal", "benchmarks")]:
        del sys.modules[name]
    sys.path[:0] = [str(tree / "src"), str(tree)]
    os.environ["PYTHONPATH"] = str(tree / "src")
    import pytest

    options = [*until, "-q", "--no-header", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins of libraries that are imported already
    places = [f"--basetemp={tree / '.pytest'}", f"--rootdir={tree}", "-c", str(tree / "pyproject.toml")]
    return int(pytest.main([*options, *places, *tests]))


def run_all(attempts: Sequence[Attempt], trees: Sequence[Path]) -> Iterator[tuple[Attempt, Outcome]]:
    """Make attempts, as many at once as there are copies of the project; each as it ends."""
    waiting, free, running = list(reversed(attempts)), list(trees), list[Running]()
    while waiting or running:
        while waiting and free:
            attempt = waiting.pop()
            try:
                running.append(start(attempt, free[-1]))
                free.pop()
            except (ValueError, SyntaxError) as error:
                yield attempt, Outcome("error", str(error), 0.0)
        for one in list(running):
            if (result := one.result()) is not None:
                running.remove(one)
                free.append(one.tree)
                yield one.attempt, outcome_of(*result, time.monotonic() - one.started)
        time.sleep(0.05)


def outcome_of(status: int | None, output: str, seconds: float) -> Outcome:
    """What pytest's exit status means."""
    failed = FAILED.findall(output)
    match status:
        case None:
            return Outcome("killed", "ran out of time", seconds)
        case 0:
            return Outcome("survived", "", seconds)
        case 1:
            return Outcome("killed", " ".join(failed), seconds)
        case number if number < 0:
            return Outcome("killed", f"died of signal {-number}", seconds)
    return Outcome("error", "\n".join(output.splitlines()[-8:]), seconds)
