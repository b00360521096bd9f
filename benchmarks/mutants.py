"""Put plausible programming errors into the code, one at a time, and see whether the tests notice.

    python -m benchmarks.mutants [--area AREA ...] [--only NAME ...] [--jobs 2] [--tests FOLDER] [--keep FILE] [--list]
    python -m benchmarks.mutants --generated 30 [--module NAME ...]

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

`--generated` tries as many errors of each pure module that Cosmic Ray makes by rule (`pip install cosmic-ray`): another
operator, another number, a condition turned around. Some change nothing that can be seen, so not all need be killed.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutant_runs import ROOT, Attempt, Outcome, copy_tree, preload, run_all
from benchmarks.record import print_table, read, save
from portrayal.run import fingerprint, write_json

CATALOG = Path(__file__).parent / "mutations"
KINDS = ("trained on", "judged", "settings", "numerics", "words", "safety", "other")

PURE = {
    "portrayal.evaluation.colour": ("tests/evaluation/test_metrics.py",),
    "portrayal.evaluation.comparisons": ("tests/evaluation/test_verdict.py",),
    "portrayal.evaluation.corrections": ("tests/evaluation/test_verdict.py",),
    "portrayal.evaluation.curves": ("tests/evaluation/test_verdict.py", "tests/evaluation/test_metrics.py"),
    "portrayal.evaluation.intervals": ("tests/evaluation/test_metrics.py", "tests/evaluation/test_verdict.py"),
    "portrayal.evaluation.metrics": ("tests/evaluation/test_metrics.py",),
    "portrayal.evaluation.selection": ("tests/evaluation/test_verdict.py",),
    "portrayal.evaluation.validity": ("tests/evaluation/test_validity.py",),
    "portrayal.formats.kohya": ("tests/formats/test_kohya.py",),
    "portrayal.formats.lora_rank": ("tests/formats/test_lora_rank.py",),
    "portrayal.formats.png": ("tests/formats/test_png.py",),
    "portrayal.photos.crop": ("tests/photos/test_crop.py",),
    "portrayal.photos.folds": ("tests/photos/test_prepare.py",),
    "portrayal.training.loss": ("tests/training/test_loss.py",),
}
"""Modules of pure functions, and the tests that hold them."""

OPERATORS = (
    "ReplaceComparisonOperator", "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_Mod_Mul",
    "ReplaceUnaryOperator", "NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr",
    "ReplaceOrWithAnd", "AddNot", "ReplaceBreakWithContinue", "ZeroIterationForLoop",
)  # fmt: skip
"""The rules of Cosmic Ray that are tried, by how their names begin."""


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
        file = module.with_suffix(".py")  # a folder of data may have the same name
        return file if (ROOT / file).is_file() else module / "__init__.py"

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


@dataclass(frozen=True)
class Generated:
    """An error made by a rule of Cosmic Ray: its `occurrence`-th place in a module."""

    module: str
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.module} {self.operator.partition('/')[2]} {self.occurrence}"

    @property
    def path(self) -> Path:
        """The file it changes."""
        return Path("src", *self.module.split(".")).with_suffix(".py")

    def applied_to(self, source: str) -> str:
        """The source with the error in it.

        Raises:
            ValueError: If the rule has no such place.
        """
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        changed: str | None = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        if changed is None or changed == source:
            raise ValueError(f"{self.name}: there is no such place")
        return changed


def generate(module: str, count: int) -> list[Generated]:
    """Errors of a module, drawn from all that the rules make; always the same ones of the same source."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    tree = get_ast((ROOT / Path("src", *module.split(".")).with_suffix(".py")).read_text(encoding="utf-8"))
    places = []
    for name in operator_names():
        if name.partition("/")[2].startswith(OPERATORS):
            operator = get_operator(name)()
            found = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(tree))
            places += [Generated(module, name, occurrence) for occurrence in range(found)]
    return random.Random(module).sample(places, min(count, len(places)))


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


def run(
    mutants: Mapping[Any, Sequence[str]], jobs: int, tests: Path | None, report: Callable[[Any, Outcome], None]
) -> dict[Any, Outcome]:
    """Try mutants, each with those of its tests that pass without it."""
    preload()
    with tempfile.TemporaryDirectory(prefix="portrayal-mutants-") as folder:
        trees = [Path(folder) / str(number) for number in range(jobs)]
        for tree in trees:
            copy_tree(tree, tests)
        broken = failing({test for row in mutants.values() for test in row}, trees)
        outcomes, attempts = dict[Any, Outcome](), list[Attempt]()
        for mutant, row in mutants.items():
            usable = tuple(test for test in row if test not in broken)
            if usable:
                attempts.append(Attempt(usable, mutant))
            else:
                outcomes[mutant] = Outcome("survived" if tests else "error", f"{row[0]}: {broken[row[0]]}", 0.0)
                report(mutant, outcomes[mutant])
        for attempt, outcome in run_all(attempts, trees):
            outcomes[attempt.mutant] = outcome
            report(attempt.mutant, outcome)
        return outcomes


def failing(tests: Collection[str], trees: Sequence[Path]) -> dict[str, str]:
    """Of tests that are not there, or do not pass without any error in the code, what is wrong."""
    files: dict[str, list[str]] = {}
    for test in sorted(tests):
        files.setdefault(test.partition("::")[0], []).append(test)
    broken = {test: "is not there" for file, row in files.items() if not (trees[0] / file).exists() for test in row}
    whole = [
        Attempt((file,) if file in row else tuple(row)) for file, row in files.items() if (trees[0] / file).exists()
    ]
    alone = []
    for attempt, outcome in run_all(whole, trees):
        row = files[attempt.tests[0].partition("::")[0]]
        if outcome.status == "error":  # perhaps one of them cannot be collected
            alone += [Attempt((test,)) for test in row]
        elif outcome.status == "killed":
            failed = outcome.detail.split()
            broken |= {test: outcome.detail for test in row if any(name.startswith(test) for name in failed)}
    for attempt, outcome in run_all(alone, trees):
        if outcome.status != "survived":
            broken[attempt.tests[0]] = outcome.detail
    return broken


def rate(outcomes: Mapping[Any, Outcome], key: str) -> list[dict[str, Any]]:
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


def show(mutant: Any, outcome: Outcome) -> None:
    """Print what became of a mutant as soon as it is known."""
    print(f"{outcome.status:9}{outcome.seconds:6.1f} s  {mutant.name}: {outcome.detail}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants that were asked for; all of them write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--area", action="append", default=[], help="only the mutants of mutations/AREA.toml")
    parser.add_argument("--only", action="append", default=[], help="only the mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at once")
    parser.add_argument("--tests", type=Path, help="the folder tests of another checkout")
    parser.add_argument("--keep", type=Path, help="a file of outcomes: what is in it is not tried again")
    parser.add_argument("--list", action="store_true", help="list the mutants; run nothing")
    parser.add_argument("--generated", type=int, metavar="N", help="instead, N errors made by rule in each pure module")
    parser.add_argument("--module", action="append", default=[], help="with --generated, only this module")
    options = parser.parse_args(arguments)
    if options.generated:
        return try_generated(options.generated, options.module or list(PURE), options.jobs)
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
    kept = read_outcomes(options.keep, mutants)

    def note(mutant: Mutant, outcome: Outcome) -> None:
        show(mutant, outcome)
        if options.keep and outcome.status != "error":
            kept[mutant] = outcome
            rows = {f"{one.name} {fingerprint(asdict(one))}": asdict(found) for one, found in kept.items()}
            write_json(options.keep, rows)

    fresh = {mutant: mutant.tests for mutant in mutants if mutant not in kept}
    outcomes = dict(kept) | (run(fresh, options.jobs, options.tests, note) if fresh else {})
    for key in ("package", "kind"):
        print()
        print_table(rate(outcomes, key))
    if not options.area and not options.only:
        write_result("before" if options.tests else "after", summary(outcomes))
    return int(any(outcome.status == "error" for outcome in outcomes.values()))


def read_outcomes(path: Path | None, mutants: Sequence[Mutant]) -> dict[Mutant, Outcome]:
    """Outcomes that were kept of mutants that have not changed since."""
    rows = read(path) if path and path.is_file() else {}
    found = {mutant: rows.get(f"{mutant.name} {fingerprint(asdict(mutant))}") for mutant in mutants}
    return {mutant: Outcome(**row) for mutant, row in found.items() if row}


def try_generated(count: int, modules: Sequence[str], jobs: int) -> int:
    """Try errors that are made by rule; all modules write the result."""
    mutants = {mutant: PURE[module] for module in modules for mutant in generate(module, count)}
    outcomes = run(mutants, jobs, None, show)
    rows = rate(outcomes, "module")
    print()
    print_table(rows)
    if set(modules) == set(PURE):
        survivors = sorted(mutant.name for mutant, outcome in outcomes.items() if outcome.status == "survived")
        write_result("generated", {"modules": rows, "survived": survivors})
    return int(any(outcome.status == "error" for outcome in outcomes.values()))


def summary(outcomes: Mapping[Mutant, Outcome]) -> dict[str, Any]:
    """The rates and the survivors."""
    survivors = {
        mutant.name: mutant.survives or one.detail for mutant, one in outcomes.items() if one.status != "killed"
    }
    return {
        "packages": rate(outcomes, "package"),
        "kinds": rate(outcomes, "kind"),
        "not killed": survivors,
        "seconds": round(sum(one.seconds for one in outcomes.values())),
    }


def write_result(column: str, figures: Mapping[str, Any]) -> None:
    """Keep figures beside those of the tests of another time, and of the errors made by rule."""
    path = Path(__file__).parent / "results" / "mutants.json"
    known = read(path)["figures"] if path.is_file() else {}
    save("mutants", known | {column: figures}, {"mutations": sum(map(len, load_catalog().values()))})


if __name__ == "__main__":
    sys.exit(main())
