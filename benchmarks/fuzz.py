"""A coverage-guided fuzzer on one parser of ours: it looks for inputs that reach code no other reached.

    python -m benchmarks.fuzz PARSER [--minutes 10] [--jobs 1]      PARSER of benchmarks/parsers.py, or `all`

Needs atheris (`pip install 'portrayal[fuzz]'`, Linux). It starts from `benchmarks/corpus/PARSER`, which is committed
and small, and from the whole files that parsers.py makes; with `--keep` it leaves there the smallest inputs that
reached something new. An input that crashes, or takes ten seconds, is written to `benchmarks/corpus/PARSER-faults`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
KEPT, LARGEST = 12, 1024
"""Inputs of a parser that stay, and bytes of each."""
SECONDS, MEMORY_MIB = 10, 4096
STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")


def work(name: str, folder: Path, options: list[str]) -> None:
    """Fuzz in this process until libFuzzer ends it; nothing of ours has been imported before, so all is watched."""
    import atheris

    with atheris.instrument_imports(include=["portrayal", "tomllib", "json", "zipfile", "safetensors"]):
        from benchmarks import parsers

    home = Path(tempfile.mkdtemp())

    def once(content: bytes) -> None:
        where = home / "one"
        where.mkdir(exist_ok=True)
        parsers.outcome(name, content, where)
        for path in sorted(where.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    for number, seed in enumerate(parsers.PARSERS[name].seeds()):
        if len(seed) <= 1 << 16:
            (folder / f"seed-{number}").write_bytes(seed)
    once(next(iter(parsers.PARSERS[name].seeds())))  # what is imported late, and takes seconds, is imported now
    atheris.Setup([sys.argv[0], *options, str(folder)], once)
    atheris.Fuzz()


def fuzz(name: str, minutes: float, keep: bool) -> dict[str, Any]:
    """Fuzz a parser in a process of its own; what came of it."""
    faults = CORPUS / f"{name}-faults"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in (CORPUS / name).glob("*"):
            (folder / path.name).write_bytes(path.read_bytes())
        faults.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={round(minutes * 60)}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={faults}/", "-print_final_stats=1", "-max_len=16384", "-verbosity=1",
        ]  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.fuzz", name, "--work", json.dumps([str(folder), options])]
        process = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
        seen = STATUS.findall(process.stderr)
        found = sorted(path.name for path in faults.iterdir())
        if keep:
            keep_smallest(folder, CORPUS / name)
    if not found:
        faults.rmdir()
    if not seen:
        raise RuntimeError(process.stderr[-2000:])
    runs, edges, features = map(int, seen[-1])
    return {
        "parser": name,
        "minutes": minutes,
        "inputs": runs,
        "edges": edges,
        "at the start": int(seen[0][1]),
        "features": features,
        "faults": len(found),
    }


def keep_smallest(folder: Path, corpus: Path) -> None:
    """Keep the smallest inputs that libFuzzer kept, by their hashes; what was committed before stays."""
    corpus.mkdir(parents=True, exist_ok=True)
    new = [path for path in folder.iterdir() if not path.name.startswith("seed-") and path.stat().st_size <= LARGEST]
    for path in sorted(new, key=lambda one: one.stat().st_size, reverse=True)[:KEPT]:
        (corpus / path.name[:16]).write_bytes(path.read_bytes())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parser")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="parsers at once, each on a core of its own")
    parser.add_argument("--keep", action="store_true", help="add what reached something new to the corpus")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        folder, options = json.loads(arguments.work)
        work(arguments.parser, Path(folder), options)
        return
    from benchmarks.parsers import PARSERS
    from benchmarks.record import RESULTS, commit, machine, print_table, read, save

    names = list(PARSERS) if arguments.parser == "all" else [arguments.parser]
    kept = RESULTS / "fuzz.json"
    before = {row["parser"]: row for row in (read(kept)["figures"] if kept.is_file() else ())}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(lambda name: fuzz(name, arguments.minutes, arguments.keep), names):
            before[found["parser"]] = found | {"cpu": machine()["cpu"], "commit": commit()[:7]}
            print(found, flush=True)
            save("fuzz", list(before.values()), {"seconds": SECONDS, "memory_mib": MEMORY_MIB})
    print_table(list(before.values()))
    sys.exit(any(row["faults"] for row in before.values()))


if __name__ == "__main__":
    main()
