"""Make the embedded base from nothing: draw the world, train every part, export, judge.

    python -m pretraining.make --out DIR

Run the same command again to go on where a stopped run was: finished stages are read from ``DIR/state``, an unfinished
one goes on from its last minute. ``--call-seconds`` makes a call stop in time on machines that limit one command;
``--to STAGE`` ends after a stage, so that each can be trained and looked at by itself; ``--again STAGE`` trains a
finished one further, from the weights it has.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretraining import warm
from pretraining.settings import SMOKE, STAGES, Settings


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the result and the state")
    parser.add_argument("--minutes", type=float, default=28.0, help="the whole run, over all calls")
    parser.add_argument("--people", type=int, default=18_000)
    parser.add_argument("--pictures-per-person", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--call-seconds", type=float, help="pause after this long in this call")
    parser.add_argument("--to", choices=STAGES, default=STAGES[-1], help="stop after this stage")
    parser.add_argument("--again", choices=STAGES, nargs="*", default=[], help="finished stages to train further")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="for drawing")
    parser.add_argument("--no-warm", action="store_true", help="do not compile ahead in processes beside")
    parser.add_argument("--smoke", action="store_true", help="every stage in seconds, on a CPU, to prove the path")
    return parser.parse_args()


def main() -> None:
    """Draw first, in processes forked before CUDA starts; then train."""
    arguments, started = parse(), time.perf_counter()
    from pretraining.loop import Clock, Paused
    from pretraining.run import Run

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    settings = replace(SMOKE, state=out / "state")
    if not arguments.smoke:
        settings = Settings(
            out / "state", arguments.minutes, arguments.people, arguments.pictures_per_person, seed=arguments.seed
        )
    progress = out / "state" / "progress.json"
    previous: dict[str, Any] = json.loads(progress.read_text()) if progress.exists() else {"elapsed": 0.0, "stages": {}}
    clock = Clock(previous["elapsed"], arguments.call_seconds, out / "log.txt", previous["stages"], started)
    run = Run(out, settings, clock)
    ahead = not (arguments.smoke or arguments.no_warm or run.drawn)
    compiling = warm.start() if ahead else []
    try:
        run.draw(arguments.processes)
        run.train(arguments.to, tuple(arguments.again))
        if arguments.to == STAGES[-1]:
            run.finish()
    except Paused as stage:
        clock.log(f"paused in {stage}: run the same command again")
    finally:
        run.save_progress()
        warm.stop(compiling)


if __name__ == "__main__":
    main()
