"""How fast models train, beside what is wanted, what the card could do, and diffusers' example scripts.

    python -m benchmarks.training_speed [--parts unet lora pack] [--steps 30] [--repeats 3] [--batches 1 4 16]
        [--base FOLDER] [--peers FOLDER] [--peer-batches 1 4 16]

On one H100: Stable Diffusion 1.5's shapes with random weights (speed does not depend on values), 512 px, bf16. Full
UNet and LoRA of rank 64 on attention at three batches, and LoRAs of ranks 32, 64 and 128 at once. Images per second
are the median of windows of steps, each from an idle GPU to an idle one, records written as a training does; the few
steps before them are not counted. Memory is what tensors took at the fullest, from the first step on.

`--peers` is a folder with diffusers' `train_dreambooth.py` and `train_dreambooth_lora.py`, unchanged (see `peers`): the
same base, sixteen photos, batches, precision and rates, in the same call, after ours. Their steps are timed by their
progress bars, median after the first few. Left as they are: each photo goes through the VAE anew in every step, the
optimizer is torch's default, weights are fp32 with autocast, TensorBoard logs; they are stopped when the steps are
known. The pack is put beside their LoRA 64 at batch 1, run once for each rank. A script that fails is left out.

Results join those of earlier calls on the same commit and machine. Without a GPU `pocket` is trained and nothing kept.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.limits import training_limit
from benchmarks.record import earlier, print_table, save
from benchmarks.standins import base_here
from benchmarks.timing import (
    ONE_PHOTO,
    WARM_UP_STEPS,
    base_for,
    on_gpu,
    photos_of,
    plain_config,
    squares,
    time_training,
    with_batch,
)
from portrayal.config import Config, Method
from portrayal.models.source import find_base

SCRIPTS = {"unet": "train_dreambooth.py", "lora": "train_dreambooth_lora.py"}


@dataclass(frozen=True)
class Line:
    """A line of the table: what is trained, at which batch, and the images per second that are wanted and aimed at."""

    ranks: tuple[int, ...]
    batch: int
    least: float
    aim: float

    @property
    def kind(self) -> str:
        """The method's."""
        return "lora" if self.ranks else "unet"

    @property
    def part(self) -> str:
        """What `--parts` calls it."""
        return "pack" if len(self.ranks) > 1 else self.kind

    @property
    def trained(self) -> str:
        """What is trained, for people."""
        ranks = ", ".join(map(str, self.ranks))
        return {"unet": "full UNet", "lora": f"LoRA {ranks}", "pack": f"LoRAs {ranks} at once"}[self.part]

    def methods(self, config: Config) -> list[Method]:
        """What shares the batch."""
        loras = [config.method.lora.model_copy(update={"rank": rank}) for rank in self.ranks]
        return [*loras] or [config.method.unet]


LINES = (
    Line((), 1, 25, 35),
    Line((), 4, 60, 75),
    Line((), 16, 100, 130),
    Line((64,), 1, 40, 55),
    Line((64,), 4, 90, 110),
    Line((64,), 16, 130, 180),
    Line((32, 64, 128), 1, 65, 100),
)


def measure(lines: Sequence[Line], config: Config, *, steps: int, repeats: int) -> Iterator[dict[str, Any]]:
    """A row for each line."""
    base = base_for(config)
    data = photos_of(base, config)
    for line in lines:
        settings = with_batch(config, line.batch)
        found = time_training(base, data, settings, line.methods(config), steps=steps, repeats=repeats)
        speeds = [found.pictures / seconds for seconds in found.windows]
        yield {
            "trained": line.trained,
            "batch": line.batch,
            "images/s": round(found.images_per_second, 2),
            "of windows": f"{min(speeds):.1f}–{max(speeds):.1f} ({repeats} × {steps} steps)",
            "at least": line.least,
            "aim": line.aim,
            "of the card's limit": round(found.images_per_second / training_limit(line.kind), 3),
            "peak GiB": round(found.peak_gib, 2) if found.peak_gib else "",
            "diffusers": "",
            "times diffusers": "",
        }


def peer_options(config: Config, kind: str, batch: int, steps: int) -> dict[str, Any]:
    """The settings of ours in the words of diffusers' scripts."""
    method = config.method.unet if kind == "unet" else config.method.lora
    return {
        "pretrained_model_name_or_path": find_base(config.base).path,
        "instance_prompt": config.subject.filled_instance_prompt,
        "resolution": config.base.resolution,
        "train_batch_size": batch,
        "mixed_precision": config.training.mixed_precision,
        "learning_rate": method.learning_rate,
        "max_train_steps": steps + 4,  # stopped before, so that nothing is saved
        "checkpointing_steps": 1_000_000,
        "seed": config.seed,
        **({"rank": 64} if kind == "lora" else {}),
    }


def run_peer(script: Path, config: Config, kind: str, batch: int, until: int) -> peers.Timed | None:
    """Run a script up to a step; nothing if it fails, which is said."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = peers.write_photos(squares(config, 16), folder / "photos")
        options = peer_options(config, kind, batch, until)
        options |= {"instance_data_dir": photos, "output_dir": folder / "out"}
        try:
            return peers.timed_steps(peers.command_of(script, options), folder, until=until)
        except SystemExit as error:
            print(f"{script.name} at batch {batch} is left out. {error}", file=sys.stderr)
            return None


def beside(row: dict[str, Any], batch: int, timed: peers.Timed | None) -> dict[str, Any]:
    """A row with what diffusers' script takes."""
    if timed is None:
        return row
    theirs = batch / timed.step
    return row | {"diffusers": round(theirs, 2), "times diffusers": round(row["images/s"] / theirs, 2)}


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=("unet", "lora", "pack"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    parser.add_argument("--peers", type=Path, help="folder with diffusers' scripts")
    parser.add_argument("--peer-batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--peer-steps", type=int, default=25)
    arguments = parser.parse_args()
    arguments.parts = arguments.parts or ["unet", "lora", "pack"]
    missing = [name for name in SCRIPTS.values() if arguments.peers and not (arguments.peers / name).is_file()]
    if missing:
        parser.error(f"{arguments.peers} lacks {', '.join(missing)}")
    if arguments.peers:
        peers.check_torchvision(parser)
    return arguments


def main() -> None:
    """Time ours, then diffusers', print and keep what was found after each part."""
    arguments = parsed()
    lines = [line for line in LINES if line.part in arguments.parts and line.batch in arguments.batches]
    settings: dict[str, Any] = {"resolution": 512, "precision": "bf16", "settings": list(ONE_PHOTO)}
    figures: dict[str, Any] = earlier("training_speed") or {"training": []}
    if arguments.peers:
        settings["diffusers"] = [peers.described(arguments.peers / name) for name in SCRIPTS.values()]
        settings["diffusers' steps"] = arguments.peer_steps
    with base_here(arguments.base) as base:
        config = plain_config(base)
        for row in measure(lines, config, steps=arguments.steps, repeats=arguments.repeats) if lines else ():
            keep(figures, row, settings)
        gc.collect()
        torch.cuda.empty_cache()  # diffusers' scripts may need it all
        for line in lines if arguments.peers else ():
            if line.part != "pack" and line.batch in arguments.peer_batches:
                script, until = arguments.peers / SCRIPTS[line.kind], WARM_UP_STEPS + arguments.peer_steps
                timed = run_peer(script, config, line.kind, line.batch, until)
                for same in beside_it(line, figures):
                    keep(figures, beside(same, line.batch, timed), settings)
    print_table(figures["training"])
    if on_gpu():
        print(save("training_speed", figures, settings))


def beside_it(line: Line, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that a run of a script is put beside: that of the line, and the pack for the LoRA alone."""
    pack = [one for one in LINES if one.part == "pack" and line.ranks == (64,) and line.batch == one.batch]
    names = {(one.trained, one.batch) for one in (line, *pack)}
    return [row for row in figures["training"] if (row["trained"], row["batch"]) in names]


def keep(figures: dict[str, Any], row: dict[str, Any], settings: dict[str, Any]) -> None:
    """Put a row in the place of the same one before, in the order of the table, and write the results on a GPU."""
    rows = {(one["trained"], one["batch"]): one for one in [*figures["training"], row]}
    figures["training"] = [rows[key] for line in LINES if (key := (line.trained, line.batch)) in rows]
    if on_gpu():
        save("training_speed", figures, settings)


if __name__ == "__main__":
    main()
