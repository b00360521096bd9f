"""Looking without changing anything: whether a run is whole, and whether this machine is fit for one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import portrayal
from portrayal.cli.flags import JsonFlag, RunFolder
from portrayal.cli.outcome import fail, outcome
from portrayal.cli.printing import progress_lines


def verify(folder: RunFolder, as_json: JsonFlag = False) -> None:
    """Look whether a run is what was made: checksums, completeness, and that its weights load and paint.

    Nothing is changed. What is damaged can be deleted: the run's own command makes it again.
    """
    with outcome("verify", as_json) as result:
        from portrayal.progress import print_verified

        opened = portrayal.Run.open(folder)
        with progress_lines() as progress:
            found = portrayal.verify_run(opened, progress=progress).as_json()
        result.update(found)
        if not as_json:
            print_verified(found)
        if found["problems"]:
            said = f"{folder} is damaged: {'; '.join(found['problems'][:3])}."
            fail(result, as_json, 5, said, "Delete what is named; the run's own command makes again what it needs.")


def doctor(
    out: Annotated[Path, typer.Option("--out", help="Where runs are to go.")] = Path("runs"),
    as_json: JsonFlag = False,
) -> None:
    """Look over this machine: what would stop a run, or slow it, and the command that mends it."""
    with outcome("doctor", as_json) as result:
        from portrayal.progress import print_findings

        found = [one.as_json() for one in portrayal.doctor(out)]
        result["checks"] = found
        if not as_json:
            print_findings(found)
        failed = [one for one in found if one["state"] == "fail"]
        if failed:
            said = f"Runs will not work here: {', '.join(one['name'] for one in failed)}."
            fail(result, as_json, 3, said, failed[0]["fix"])
