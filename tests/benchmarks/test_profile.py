"""Where the seconds of a command go: chains of our functions, and the tree they make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.profile import seconds_of

ROOT = Path(__file__).parents[2]


def test_a_tree_has_the_longest_first_and_nothing_short() -> None:
    rows = {("a",): 3.0, ("a", "b"): 1.0, ("a", "c"): 2.0, ("a", "d"): 0.01, ("import x",): 0.5}
    told = [(row["depth"], row["what"]) for row in seconds_of(rows)]
    assert told == [(1, "a"), (2, "c"), (2, "b"), (1, "import x")]


def test_a_command_under_watch_ends_as_ever_and_tells_what_it_imported(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    command = [sys.executable, "-m", "benchmarks.profile", str(out), "doctor", "--out", str(tmp_path), "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["command"] == "doctor", done.stderr
    told = {str(row["what"]) for row in json.loads(out.read_text(encoding="utf-8"))}
    assert any(what.startswith("cli.") for what in told), told
