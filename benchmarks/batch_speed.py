"""Many subjects on one machine: by Ray against one after another, with a worker killed, and with the head killed.

    python -m benchmarks.batch_speed [--people 12] [--out DIR] [--ways one ray killed head] [--set section.key=value]

Drawn people whom neither `pocket` nor its recipe ever saw, eight photos each, one LoRA of a few steps: what is measured
is the batch, not the likeness. Each way starts from nothing, class images included. One thread computes each study, so
that results can be compared bit for bit; `load before` and `after` say how busy the machine was with other things.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.pocket_people import draw_photos
from benchmarks.record import print_table, read, save
from portrayal.run import write_json
from portrayal.scale.launch import free_port

FIRST_PERSON, PHOTOS = 60, 8
SETTINGS = [
    "study.full_unet=false",
    "study.ranks=[8]",
    "study.folds=1",
    "study.readings=1",
    "study.final=false",
    "method.lora.max_train_steps=9",
    "training.train_batch_size=1",
    "training.num_class_images=8",
    "training.checkpointing_steps=3",
    'generation.scenes={street = "a photo of {subject} on the street", forest = "a photo of {subject} in the forest"}',
    "generation.num_images_per_scene=1",
    "generation.num_inference_steps=4",
    "generation.batch_size=4",
    "control.enabled=false",
    "evaluation.num_timesteps=4",
    "prepare.captions=template",
]
WITHOUT_RAY = "none"
WAYS = ("one", "ray", "killed", "head")
EVEN = {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
"""Ray's workers else yield to all other work of a machine, which plain processes do not."""


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS, help="one after another is always measured")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(arguments.out or Path(temporary), arguments.people, [*SETTINGS, *arguments.settings])
        rows = bench.measure(arguments.ways)
    print_table([{key: value for key, value in row.items() if key != "each"} for row in rows])
    settings = {"recipe": "pocket-demo", "changed": bench.settings, "people": arguments.people, "photos": PHOTOS}
    load = {"load before": bench.load, "load after": os.getloadavg()[0]}
    print(save("batch_speed", {"rows": rows, **load}, settings))


class Bench:
    """The ways of doing the same batch.

    Args:
        out: Where photos and runs lie.
        people: How many subjects.
        settings: Of every study.
    """

    def __init__(self, out: Path, people: int, settings: Sequence[str]) -> None:
        self.out, self.settings, self.load = out, list(settings), os.getloadavg()[0]
        for number in range(FIRST_PERSON, FIRST_PERSON + people):
            folder = out / "photos" / f"person-{number}"
            if not folder.is_dir():
                draw_photos(number, folder)
                for path in sorted(folder.iterdir())[PHOTOS:]:
                    path.unlink()

    def measure(self, wanted: Sequence[str]) -> list[dict[str, Any]]:
        """A row for each way; what an earlier call in this folder measured is kept."""
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "one": lambda: self.row("one after another", "one", address=WITHOUT_RAY),
            "ray": lambda: self.row("Ray", "ray", address=None),
            "killed": lambda: self.row("Ray, a worker killed", "killed", address=None, trouble=self.kill_a_worker),
            "head": self.head_killed,
        }
        rows = []
        for name, way in ways.items():
            if name not in ("one", *wanted):
                continue
            kept = self.out / f"{name}.json"
            if not kept.is_file():
                shutil.rmtree(self.out / name, ignore_errors=True)
                shutil.rmtree(self.out / f"cache-{name}", ignore_errors=True)
                write_json(kept, way())
            rows.append(read(kept) | {"same results": self.results(name) == self.results("one")})
        return rows

    def row(
        self,
        title: str,
        name: str,
        *,
        address: str | None,
        trouble: Callable[[Path], None] | None = None,
    ) -> dict[str, Any]:
        """Do the batch one way."""
        started = time.monotonic()
        process = self.begin(name, address)
        if trouble is not None:
            threading.Thread(target=trouble, args=(self.out / name,), daemon=True).start()
        code = process.wait()
        return self.described(title, name, time.monotonic() - started, code)

    def begin(self, name: str, address: str | None) -> subprocess.Popen[bytes]:
        """Start the command in a cache of its own."""
        command = [sys.executable, "-m", "portrayal", "batch", str(self.out / "photos"), "--out", str(self.out / name)]
        command += ["--base", "pocket", "--recipe", "pocket-demo", "--class", "person", "--consent", "--json"]
        command += [word for setting in self.settings for word in ("--set", setting)]
        command += ["--address", address] if address else []
        environment = os.environ | {"PORTRAYAL_CACHE": str(self.out / f"cache-{name}"), **EVEN}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def described(self, title: str, name: str, seconds: float, code: int) -> dict[str, Any]:
        """What is recorded of a way."""
        summary = read(self.out / name / "batch" / "summary.json")
        rows = summary["rows"]
        return {
            "way": title,
            "seconds": round(seconds, 1),
            "a study": round(sum(row["seconds"] for row in rows) / max(1, len(rows)), 1),
            "done": summary["done"],
            "begun again": summary["again"],
            "exit code": code,
            "each": [row["seconds"] for row in rows],
        }

    def kill_a_worker(self, out: Path) -> None:
        """End a worker without a word once the study it is at has kept a checkpoint."""
        while True:
            for found in out.glob("*/models/.lora-8.training/checkpoint/0*"):
                study = found.parents[3].name
                for process in psutil.process_iter(["cmdline"]):
                    if " ".join(process.info["cmdline"] or ()).startswith(f"ray::{study}"):
                        process.send_signal(signal.SIGKILL)
                        return
            time.sleep(0.01)

    def head_killed(self) -> dict[str, Any]:
        """A cluster of one machine: its head killed with a third done, started again, and the command given again."""
        started, name = time.monotonic(), "head"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        port = free_port()
        head = start_head(port)
        first = self.begin(name, f"127.0.0.1:{port}")
        wanted = len([*(self.out / "photos").iterdir()]) // 3
        while len([*(self.out / name / "batch").glob("person-*.json")]) < wanted and first.poll() is None:
            time.sleep(0.1)
        end(head)
        code = first.wait()
        before = len([*(self.out / name / "batch").glob("person-*.json")])
        print(f"the head was killed with {before} done; the command ended with {code}", file=sys.stderr)
        head = start_head(port)
        again = self.begin(name, f"127.0.0.1:{port}").wait()
        end(head)
        row = self.described("Ray, the head killed and started", name, time.monotonic() - started, again)
        return row | {"exit code, head killed": code, "done, head killed": before}

    def results(self, name: str) -> dict[str, str]:
        """SHA-256 of weights, scores and pictures of every run."""
        files = [path for pattern in ("*.safetensors", "scores.json", "images/**/*.png")
                 for path in (self.out / name).glob(f"person-*/**/{pattern}")]  # fmt: skip
        return {str(path.relative_to(self.out / name)): digest(path) for path in sorted(set(files))}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start_head(port: int) -> subprocess.Popen[bytes]:
    """A Ray head of this machine, with two CPUs, that stays in this process's care."""
    ray = shutil.which("ray") or str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--port", str(port), "--num-cpus", "2"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | EVEN)
    while head.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            time.sleep(5)  # until the rest of it is there
            return head
        time.sleep(0.5)
    raise SystemExit(f"ray start ended with {head.returncode}")


def end(head: subprocess.Popen[bytes]) -> None:
    """End a head with all it started, without a word."""
    family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait()


if __name__ == "__main__":
    main()
