"""Kill a whole small run with SIGKILL at random moments, let the same call go on each time, and compare what comes out.

    python -m benchmarks.kills [--moments 60] [--seed 0]

Every stage is met, saving included: a moment is a drawn number of writes, renames and deletions in the run's folder;
half of the processes are killed just then, the others a fraction of a second later. A run is killed a dozen times on
its way to the end; then its weights, pictures, scores and report must be those of a run that nobody disturbed, byte for
byte, and nothing may be left over. Each process is a fork of one that has loaded the base, so that a moment costs no
more than what it destroys.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.record import print_table, save
from portrayal.config import Config
from portrayal.settings import load_config
from portrayal.workflow import portray

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
TINY = Path(__file__).parents[1] / "tests" / "tiny.toml"
KILLS_PER_RUN = 12
WRITES = 1250
"""About how many writes, renames and deletions a run of `tests/tiny.toml` makes."""
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
LEFT_OVER = re.compile(r"\..*|.*\.(tmp|old)")
TIMED = re.compile(r"\d+(\.\d+)? (s|min|h)\b|\d+(\.\d+)? (steps|pictures|images)/s|\d+ % (more|less)")

OWN = ("| Created", "| Command")
"""Lines of a report that are each run's own."""


@dataclass(frozen=True)
class Moment:
    """When a process is killed: `after` so many writes, and `delay` seconds on."""

    after: int
    delay: float


@dataclass
class Course:
    """One run with its kills.

    Attributes:
        kills: The stage that was under way at each.
        missed: Moments that came after the end.
        differing: Files that are not as they are without kills.
        left_over: Files that should have gone.
    """

    kills: list[str] = field(default_factory=list)
    missed: int = 0
    differing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)


def draw(rng: random.Random, kills: int) -> Moment:
    """A moment about a `kills`-th of a run away."""
    delay = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
    return Moment(rng.randint(1, round(2.1 * WRITES / kills)), delay)


def work(photos: Path, config: Config, out: Path, moment: Moment | None) -> bool:
    """Do the run in a forked process, which is killed at a moment; whether it came to the end.

    Raises:
        RuntimeError: If it ended in an error.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if moment is not None:
                kill_at(moment, out)
            portray(photos, config, out, consent=True)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        raise RuntimeError(f"the run ended with status {status}")
    return True


def kill_at(moment: Moment, out: Path) -> None:
    """Have this process killed at a moment: writes are counted by what Python's audit events tell."""

    def later() -> None:
        time.sleep(moment.delay)
        os.kill(os.getpid(), signal.SIGKILL)

    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if not changes(event, arguments, str(out)):
            return
        count += 1
        if count == moment.after and moment.delay:
            threading.Thread(target=later, daemon=True).start()
        elif count == moment.after:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def changes(event: str, arguments: tuple[Any, ...], out: str) -> bool:
    """Whether an audit event tells of a change in a folder."""
    if event == "open":
        writes = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        return writes and str(arguments[0]).startswith(out)
    if event not in CHANGES:
        return False
    return str(arguments[0]).startswith(out) or not str(arguments[0]).startswith("/")  # trees go by relative names


def course(photos: Path, config: Config, out: Path, moments: list[Moment], reference: dict[str, str]) -> Course:
    """Do a run, killed at each of the moments, and compare it."""
    found = Course()
    for number, moment in enumerate(moments):
        if work(photos, config, out, moment):
            found.missed = len(moments) - number
            break
        found.kills.append(last_stage(out))
    else:
        work(photos, config, out, None)
    ours = content(out)
    found.differing = sorted(name for name in {*ours, *reference} if ours.get(name) != reference.get(name))
    left = [path for path in out.rglob("*") if LEFT_OVER.fullmatch(path.name)]
    left += [*out.glob("models/*/steps"), *out.parent.glob(f".{out.name}*")]
    found.left_over = sorted(str(path.relative_to(out.parent)) for path in left)
    for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)
    return found


def last_stage(out: Path) -> str:
    """The stage that was under way."""
    path = out / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in reversed(lines):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if told["kind"] in ("started", "finished"):
            name = str(told["stage"])
            return name if told["kind"] == "started" else f"after {name}"
    return "prepare"


def content(out: Path) -> dict[str, str]:
    """Hashes of what a run is judged by: weights, pictures, scores, curves, and the reports without their times."""
    found: dict[str, str] = {}
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if path.suffix in (".safetensors", ".png") or path.name in ("scores.json", "curve.json", "heldout.json"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name == "report.md":
            lines = path.read_text(encoding="utf-8").splitlines()
            told = [TIMED.sub("…", line) for line in lines if not line.startswith(OWN)]
            found[name] = hashlib.sha256("\n".join(told).encode()).hexdigest()
    return found


def make_ready(config: Config, photos: int) -> None:
    """Load what every fork needs."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    import torch

    from portrayal.planning import settle
    from portrayal.stages.shared import judging_of, settled_by, shared_base, shared_encoders

    torch.set_num_threads(1)
    plan = settle(config)
    plan.estimate(photos)
    shared_base(settled_by(plan.config))
    shared_encoders(settled_by(plan.config), judging_of(plan.config))


def kinds_of(kills: list[str]) -> Counter[str]:
    """How often each kind of stage was met."""
    return Counter(name.removeprefix("after ").split(".")[0] for name in kills)


def few_photos(folder: Path, count: int = 6) -> Path:
    """A folder of some of the example photos."""
    folder.mkdir()
    for path in sorted(PHOTOS.glob("*.jpg"))[:count]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Kill a run at random moments and compare it.")
    parser.add_argument("--moments", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=Path, help="a run of tests/tiny.toml that nobody disturbed")
    parser.add_argument("--photos", type=Path, help="its photos")
    parser.add_argument("--json", action="store_true", help="print the courses and write no results")
    args = parser.parse_args()
    config, rng = load_config(str(TINY)), random.Random(args.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PORTRAYAL_CACHE"] = str(folder / "cache")
        photos = args.photos or few_photos(folder / "photos")
        make_ready(config, 6)
        undisturbed = args.reference or folder / "undisturbed"
        if args.reference is None:
            work(photos, config, undisturbed, None)
        reference, courses, left = content(undisturbed), list[Course](), args.moments
        while left > 0:
            moments = [draw(rng, KILLS_PER_RUN) for _ in range(min(left, KILLS_PER_RUN))]
            out = folder / f"run-{len(courses)}"
            os.environ["PORTRAYAL_CACHE"] = str(folder / f"cache-{len(courses)}")  # class images are painted anew
            courses.append(course(photos, config, out, moments, reference))
            left -= len(courses[-1].kills)
            print(f"{args.moments - left} of {args.moments}: {', '.join(courses[-1].kills)}", file=sys.stderr)
            figures = figures_of(courses, len(reference), time.monotonic() - begun)
            if not args.json:  # written after each run: a long benchmark may be cut short
                save("kills", figures, {"seed": args.seed, "recipe": "tests/tiny.toml", "kills_per_run": KILLS_PER_RUN})
    print(json.dumps(figures)) if args.json else print_table([{name: str(value) for name, value in figures.items()}])


def figures_of(courses: list[Course], files: int, seconds: float) -> dict[str, Any]:
    """What is recorded of all runs."""
    kills = [stage for one in courses for stage in one.kills]
    return {
        "moments": len(kills),
        "runs": len(courses),
        "files_compared": files,
        "differing": sorted({name for one in courses for name in one.differing}),
        "left_over": sorted({name for one in courses for name in one.left_over}),
        "stages": dict(sorted(kinds_of(kills).items())),
        "minutes": round(seconds / 60, 1),
    }


if __name__ == "__main__":
    main()
