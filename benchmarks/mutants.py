"""Put plausible programming errors into the code, one at a time, and see whether the tests notice.

    python -m benchmarks.mutants [--area AREA ...] [--only NAME ...] [--jobs 2] [--tests FOLDER] [--list]

The errors are kept in `mutations/AREA.toml`. Each replaces text in one function (or class, or in one file that is not
Python), so that it survives changes elsewhere in the file, and names the tests that should fail:

    [[mutant]]
    name = "held-out-photos-are-trained-on"
    kind = "trained on"
    function = "portrayal.stages.data:training_data"   # or: file = "src/portrayal/sentences.toml"
    before = '''dataset_of(run).training(fold)'''      # must occur exactly once in the function
    after = '''dataset_of(run).photos'''
    tests = ["tests/test_invariants.py"]               # files or test ids, the quickest that should notice

A mutant is killed when a test fails; it survives when all pass. Tests that cannot be collected, or fail without the
mutant, are errors of the list. Each mutant runs in a fork of one process that has imported the libraries, in a copy of
the tree; `--tests` takes the tests from another checkout, to see what they noticed before.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import json
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import print_table, save

ROOT = Path(__file__).parents[1]
CATALOG = Path(__file__).parent / "mutations"
KINDS = ("trained on", "judged", "settings", "numerics", "words", "safety", "other")
MUST_DIE = ("trained on", "judged", "numerics", "safety")
"""Kinds of which none may survive."""
TIMEOUT_SECONDS = 600
PRELOADED = ("torch", "diffusers", "transformers", "accelerate", "cv2", "numpy", "PIL.Image", "pydantic", "safetensors")
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One error.

    Attributes:
        name: Says what is wrong, in a few words with hyphens.
        kind: One of `KINDS`.
        before: Text of the function that is replaced; it occurs there once.
        after: What it is replaced by.
        tests: Test files or ids that should notice.
        function: `module:qualified.name`, or nothing.
        file: A file that is not Python, relative to the root, or nothing.
        survives: Why it is no error after all, or cannot be noticed; counted as a survivor all the same.
    """

    name: str
    kind: str
    before: str
    after: str
    tests: tuple[str, ...]
    function: str | None = None
    file: str | None = None
    survives: str | None = None

    @property
    def path(self) -> Path:
        """The file it changes, relative to the root."""
        if self.function is None:
            assert self.file is not None
            return Path(self.file)
        parts = self.function.partition(":")[0].split(".")
        module = Path("src", *parts)
        return module / "__init__.py" if (ROOT / module).is_dir() else module.with_suffix(".py")

    @property
    def package(self) -> str:
        """The package it is in, `portrayal` itself for the modules at the top."""
        parts = self.path.parts[2:]
        return parts[0] if len(parts) > 1 else "portrayal"

    def applied_to(self, source: str) -> str:
        """The source of its file with the error in it.

        Raises:
            ValueError: If the function is not there, or the text does not occur in it exactly once.
        """
        start, end = (0, len(source)) if self.function is None else span_of(source, self.function.partition(":")[2])
        body = source[start:end]
        if body.count(self.before) != 1:
            raise ValueError(f"{self.name}: expected the text once in {self.function or self.file}, "
                             f"found it {body.count(self.before)} times: {self.before!r}")  # fmt: skip
        return source[:start] + body.replace(self.before, self.after) + source[end:]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `killed`, `survived`, or `error`; by which test, or why; after how many seconds."""

    status: str
    detail: str
    seconds: float


def span_of(source: str, name: str) -> tuple[int, int]:
    """Where a function, class or module-level assignment stands in a source, as offsets.

    Args:
        source: Of a module.
        name: Such as `Judge.levels`; a nested function by the names around it; empty for the whole module.

    Raises:
        ValueError: If there is none of that name.
    """
    if not name:
        return 0, len(source)
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        found = [child for child in statements_of(node) if part in names_of(child)]
        if not found:
            raise ValueError(f"there is no {name}")
        node = found[0]
    lines = source.splitlines(keepends=True)
    assert isinstance(node, ast.stmt)
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    assert node.end_lineno is not None
    return sum(map(len, lines[: first - 1])), sum(map(len, lines[: node.end_lineno]))


def statements_of(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements below a node, those inside `if`, `with` and the like too, but not those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            yield from statements_of(child)


def names_of(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def load_catalog(folder: Path = CATALOG) -> dict[str, list[Mutant]]:
    """All mutants, by area.

    Raises:
        ValueError: If a name is given twice or a kind is unknown.
    """
    catalog = {}
    for path in sorted(folder.glob("*.toml")):
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
        catalog[path.stem] = [Mutant(**row | {"tests": tuple(row["tests"])}) for row in rows]
    mutants = [mutant for rows in catalog.values() for mutant in rows]
    twice = [name for name, count in Counter(mutant.name for mutant in mutants).items() if count > 1]
    unknown = [mutant.name for mutant in mutants if mutant.kind not in KINDS]
    if twice or unknown:
        raise ValueError(f"named twice: {twice}; of unknown kind: {unknown}")
    return catalog


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
    """Tests to run, with an error in the code or without."""

    tests: tuple[str, ...]
    mutant: Mutant | None = None


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
            status = run_pytest(tree, attempt.tests)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return Running(attempt, pid, tree, source, time.monotonic())


def run_pytest(tree: Path, tests: Sequence[str]) -> int:
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

    options = ["-x", "-q", "--no-header", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist"]
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
    failed = FAILED.search(output)
    match status:
        case None:
            return Outcome("killed", "ran out of time", seconds)
        case 0:
            return Outcome("survived", "", seconds)
        case 1:
            return Outcome("killed", failed.group(1) if failed else "", seconds)
        case number if number < 0:
            return Outcome("killed", f"died of signal {-number}", seconds)
    return Outcome("error", "\n".join(output.splitlines()[-8:]), seconds)


def run(
    mutants: Sequence[Mutant], jobs: int, tests: Path | None, report: Callable[[Mutant, Outcome], None]
) -> dict[Mutant, Outcome]:
    """Try mutants, each with those of its tests that pass without it."""
    preload()
    with tempfile.TemporaryDirectory(prefix="portrayal-mutants-") as folder:
        trees = [Path(folder) / str(number) for number in range(jobs)]
        for tree in trees:
            copy_tree(tree, tests)
        names = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        there = [name for name in names if (trees[0] / name.partition("::")[0]).exists()]
        broken = {name: "is not there" for name in names if name not in there}
        for attempt, outcome in run_all([Attempt((name,)) for name in there], trees):
            if outcome.status != "survived":
                broken[attempt.tests[0]] = outcome.detail
        outcomes = {}
        attempts = []
        for mutant in mutants:
            usable = tuple(test for test in mutant.tests if test not in broken)
            if usable:
                attempts.append(Attempt(usable, mutant))
            else:
                why = f"{mutant.tests[0]}: {broken[mutant.tests[0]]}"
                outcomes[mutant] = Outcome("survived" if tests else "error", why, 0.0)
                report(mutant, outcomes[mutant])
        for attempt, outcome in run_all(attempts, trees):
            assert attempt.mutant is not None
            outcomes[attempt.mutant] = outcome
            report(attempt.mutant, outcome)
        return outcomes


def rate(outcomes: Mapping[Mutant, Outcome], key: str) -> list[dict[str, Any]]:
    """Mutants, killed and percent of each package or kind, and of all."""
    groups: dict[str, list[Outcome]] = {}
    for mutant, outcome in outcomes.items():
        groups.setdefault(getattr(mutant, key), []).append(outcome)
    rows = []
    for name, found in [*sorted(groups.items()), ("all", list(outcomes.values()))]:
        killed = sum(outcome.status == "killed" for outcome in found)
        rows.append(
            {key: name, "mutants": len(found), "killed": killed, "percent": round(100 * killed / len(found), 1)}
        )
    return rows


def show(mutant: Mutant, outcome: Outcome) -> None:
    """Print what became of a mutant as soon as it is known."""
    print(f"{outcome.status:9}{outcome.seconds:6.1f} s  {mutant.name}: {outcome.detail}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants that were asked for; all of them write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--area", action="append", default=[], help="only the mutants of mutations/AREA.toml")
    parser.add_argument("--only", action="append", default=[], help="only the mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at once")
    parser.add_argument("--tests", type=Path, help="the folder tests of another checkout")
    parser.add_argument("--list", action="store_true", help="list the mutants; run nothing")
    options = parser.parse_args(arguments)
    mutants = [
        mutant
        for area, rows in load_catalog().items()
        for mutant in rows
        if (not options.area or area in options.area)
        and (not options.only or any(part in mutant.name for part in options.only))
    ]
    if options.list:
        print_table([{"mutant": one.name, "kind": one.kind, "in": one.function or one.file} for one in mutants])
        return 0
    outcomes = run(mutants, options.jobs, options.tests, show)
    for key in ("package", "kind"):
        print()
        print_table(rate(outcomes, key))
    if not options.area and not options.only:
        write_result(outcomes, "before" if options.tests else "after")
    return int(any(outcome.status == "error" for outcome in outcomes.values()))


def write_result(outcomes: Mapping[Mutant, Outcome], column: str) -> None:
    """Keep the rates and the survivors, beside those of the tests of another time."""
    path = Path(__file__).parent / "results" / "mutants.json"
    known = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    figures = {
        "packages": rate(outcomes, "package"),
        "kinds": rate(outcomes, "kind"),
        "not killed": {
            mutant.name: mutant.survives or one.detail for mutant, one in outcomes.items() if one.status != "killed"
        },
        "seconds": round(sum(one.seconds for one in outcomes.values())),
    }
    save("mutants", known | {column: figures}, {"mutants": len(outcomes)})


if __name__ == "__main__":
    sys.exit(main())
