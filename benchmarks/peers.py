"""diffusers' example scripts, run as they come and timed by their progress bars, beside which benchmarks put ours.

They are yours to get: from huggingface/diffusers, `examples/dreambooth`, at the tag of the installed version; they need
torchvision. The bar is drawn anew once the loss of a step has been read, so the steps between two drawings are done.
"""

from __future__ import annotations

import argparse
import codecs
import hashlib
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image
from safetensors import safe_open

from benchmarks.timing import WARM_UP_STEPS

BAR = re.compile(r"Steps:[^\r\n]*?(\d+)/\d+ \[")
"""How far the progress bar of diffusers' script has come."""

ADAPTED = re.compile(r"\.(\w+(?:\.\d+)?)\.lora")
"""The end of a layer's name, in the names of a LoRA file."""


class Timed(NamedTuple):
    """Seconds that a script took."""

    whole: float
    """From its start to its end, or to where it was stopped."""

    first: float
    """From its start to the end of its first step."""

    step: float
    """Of a step, the median after the first few; nothing to go by (NaN) where it took no more than those."""


def command_of(script: Path, options: Mapping[str, Any]) -> list[str]:
    """The command of a script, its prompt encoded once, as ours is."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, str(script.resolve()), *flags, "--pre_compute_text_embeddings"]


def write_photos(images: Iterable[Image.Image], folder: Path) -> Path:
    """A folder of photos for a script."""
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number}.jpg", quality=95)
    return folder


def timed_steps(command: Sequence[str], folder: Path, *, until: int | None = None) -> Timed:
    """Run a script that shows its steps with tqdm; what it says lies in `peer.log`.

    Args:
        command: What to run.
        folder: Where to run it.
        until: Stop it after this step, when what comes after the training is not asked for.

    Raises:
        SystemExit: If the script fails or shows no steps, with the end of what it said.
    """
    log, started = folder / "peer.log", time.perf_counter()
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    shown: dict[int, float] = {}
    with (
        log.open("w", encoding="utf-8") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env=environment, bufsize=0
        ) as process,
    ):
        assert process.stdout is not None
        for shown in last_shown(arrivals(process.stdout, said)):
            if until is not None and max(shown, default=0) > until:  # the bar of `until` was drawn for the last time
                process.terminate()
                break
    seconds, stopped = time.perf_counter() - started, until is not None and max(shown, default=0) > until
    if (process.returncode and not stopped) or not any(shown):
        raise SystemExit(f"{command[1]} failed, or showed no steps:\n" + log.read_text(encoding="utf-8")[-4000:])
    return Timed(seconds, shown[min(filter(None, shown))] - started, median_step(shown))


def arrivals(stream: IO[bytes], copy: IO[str]) -> Iterator[tuple[float, str]]:
    """What a process writes, as it comes, with the time it came at."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while piece := stream.read(1 << 16):
        now, text = time.perf_counter(), decoder.decode(piece)
        copy.write(text)
        yield now, text


def last_shown(pieces: Iterable[tuple[float, str]]) -> Iterator[dict[int, float]]:
    """When the bar showed each step for the last time: it may be drawn before the loss is read, and always after."""
    shown: dict[int, float] = {}
    for now, text in pieces:
        shown |= {int(step): now for step in BAR.findall(text)}
        yield shown


def median_step(shown: Mapping[int, float]) -> float:
    """Seconds of a step; the last is left out, since a bar that is closed is drawn once more."""
    steps = [shown[step] - shown[step - 1] for step in range(WARM_UP_STEPS + 1, max(shown))]
    return statistics.median(steps) if steps else float("nan")


def adapted_layers(file: Path) -> frozenset[str]:
    """Ends of the names of the layers that a LoRA file adapts."""
    with safe_open(file, "pt") as weights:
        return frozenset(ending for name in weights.keys() for ending in ADAPTED.findall(name))  # noqa: SIM118


def described(script: Path) -> dict[str, Any]:
    """Which script it is."""
    text = script.read_bytes()
    asked = re.search(rb'check_min_version\("(.+?)"\)', text)
    return {
        "script": script.name,
        "sha256": hashlib.sha256(text).hexdigest(),
        "asks for diffusers": asked.group(1).decode() if asked else "any",
        "torchvision": version("torchvision"),
    }


def check_torchvision(parser: argparse.ArgumentParser) -> None:
    """Leave with a remedy where diffusers' scripts cannot run."""
    if find_spec("torchvision") is None:
        parser.error("diffusers' scripts need torchvision: pip install torchvision")
