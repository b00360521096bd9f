"""What training several LoRAs in one batch saves, and that it changes nothing: packs against the same LoRAs alone.

    python -m benchmarks.lora_packs [--steps 30] [--packs 3 9 15] [--peer train_dreambooth_lora.py]

On a GPU: Stable Diffusion 1.5's shapes with random weights, 512 px, batch 1 each, ranks 32, 64 and 128 in turn, and how
far the losses of a pack of three are from those alone. Without one: `pocket` and the demo's recipe, ranks 8, 16, 32.

`--peer` measures diffusers' example script too, run once for each rank, one run after another. It is yours to get: from
huggingface/diffusers, `examples/dreambooth/train_dreambooth_lora.py`, at the tag of the installed version; it needs
torchvision. It gets the same base, photos, ranks, batch, precision and learning rate, no class images, no validation,
and its option to encode the prompt once, as we do. It adapts the UNet's attention: queries, keys, values and outputs,
which ours adapt too; what it adapted is read from the files it wrote. Left as it has them: each photo goes through the
VAE anew in every step, the adapters are bf16 (ours fp32), the optimizer is not fused, TensorBoard logs.

The time of its steps comes from its progress bar, which it draws anew once it has read the loss of a step. Both sides
give the median after the first few steps; a difference of two runs would be blurred by two start-ups. Its start-up is
given apart: imports, loading, and at the end loading the base once more. Without a GPU `--peer` trains `pocket` with
ranks 8, 16, 32 in the mode of the GPU and records nothing: a trial of the way.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import portrayal
from benchmarks.peers import adapted_layers, check_torchvision, command_of, described, timed_steps, write_photos
from benchmarks.record import print_table, save
from benchmarks.standins import write_sd15
from benchmarks.timing import ONE_PHOTO, WARM_UP_STEPS, base_for, pictures_a_step, squares
from portrayal.config import Config, LoraMethod
from portrayal.data.encode import encode
from portrayal.models.base import BaseModel
from portrayal.models.source import find_base
from portrayal.training.session import session
from portrayal.training.step import launch
from portrayal.training.task import Task, TrainingData
from portrayal.training.trainer import runner_of


@dataclass(frozen=True)
class Bench:
    """A base with data and LoRAs of it."""

    base: BaseModel
    data: TrainingData
    config: Config
    ranks: tuple[int, ...]

    @property
    def pictures(self) -> int:
        """Pictures that a step of one LoRA takes: photos, and the class images that ride along."""
        return pictures_a_step(self.config)

    def method(self, number: int) -> LoraMethod:
        """The LoRA of a number: the ranks in turn."""
        rank = self.ranks[number % len(self.ranks)]
        return self.config.method.lora.model_copy(update={"rank": rank, "max_train_steps": 10_000})

    def train(self, numbers: range, steps: int) -> tuple[float, list[list[float]], float | None]:
        """Seconds of a step, the losses of each LoRA, and the peak memory in GiB."""
        losses, seconds = [], []
        with tempfile.TemporaryDirectory() as folder:
            tasks = [
                Task(f"lora-{number}", self.method(number), self.data, Path(folder) / str(number)) for number in numbers
            ]
            with session(self.base, tasks, self.config, Path(folder) / "work") as state:
                run = runner_of(state, print)
                for _ in range(WARM_UP_STEPS + steps):
                    started = time.perf_counter()
                    losses.append([record.loss for record in launch(state, run).records()])
                    seconds.append(time.perf_counter() - started)
        on_gpu = self.base.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
        return statistics.median(seconds[WARM_UP_STEPS:]), [list(one) for one in zip(*losses, strict=True)], peak


@dataclass(frozen=True)
class Speed:
    """What was measured of LoRAs trained together, or one after another.

    Attributes:
        way: How they were trained.
        loras: How many.
        seconds: Of a step of all of them.
        peak: Memory at its fullest in GiB, where it is known.
    """

    way: str
    loras: int
    seconds: float
    peak: float | None = None

    def row(self, alone: float, pictures: int, peer: float | None) -> dict[str, Any]:
        """A row of the table.

        Args:
            alone: Seconds of a step of one of our LoRAs alone.
            pictures: Pictures that a step of one LoRA takes.
            peer: Seconds of a step of one LoRA of diffusers' script, the mean over its runs; nothing leaves it out.
        """
        each = self.seconds / self.loras
        return {
            "way": self.way,
            "LoRAs": self.loras,
            "ms a step": round(1000 * self.seconds, 1),
            "steps/s of all": round(1 / each, 2),
            "images/s": round(pictures / each, 2),
            "times one alone": round(alone / each, 2),
            **({} if peer is None else {"times diffusers": round(peer / each, 2)}),
            "peak GiB": round(self.peak, 2) if self.peak else "",
        }


@dataclass(frozen=True)
class PeerRun:
    """One run of diffusers' script.

    Attributes:
        rank: Of the LoRA it trained.
        steps: How many it took.
        step_seconds: Of one of them, the median after the first few.
        seconds: From its start to its end.
        layers: Ends of the names of the layers it adapted.
    """

    rank: int
    steps: int
    step_seconds: float
    seconds: float
    layers: frozenset[str]


def bench_of(folder: Path, *, with_peer: bool) -> Bench:
    """Stable Diffusion 1.5's shapes on a GPU, `pocket` elsewhere."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        changes = [f'base.name="{write_sd15(folder / "sd15")}"', *ONE_PHOTO]
        config, ranks = portrayal.make_plan("sd15-80gb", changes).config, (32, 64, 128)
    else:
        config, ranks = portrayal.make_plan("pocket-demo", [*ONE_PHOTO] if with_peer else []).config, (8, 16, 32)
    base = base_for(config)
    subject, photos = config.subject, squares(config, 8)
    data = encode(base, [(f"p{n}", image, subject.filled_instance_prompt) for n, image in enumerate(photos)])
    others = encode(base, [(f"c{n}", image, subject.filled_class_prompt) for n, image in enumerate(photos)])
    prior = config.training.prior_loss_weight > 0
    return Bench(base, TrainingData((data,), (others,) if prior else None), config, ranks)


def run_peer(script: Path, bench: Bench, steps: int, folder: Path) -> list[PeerRun]:
    """Run diffusers' script once for each rank, one run after another, each timed over a number of steps."""
    photos = write_photos(squares(bench.config, 8), folder / "photos")
    taken = WARM_UP_STEPS + steps + 1
    runs = []
    for rank in bench.ranks:
        output = folder / f"rank-{rank}"
        options = peer_options(bench.config, taken) | {
            "pretrained_model_name_or_path": find_base(bench.config.base).path,
            "instance_data_dir": photos,
            "output_dir": output,
            "rank": rank,
        }
        timed = timed_steps(command_of(script, options), folder)
        layers = adapted_layers(output / "pytorch_lora_weights.safetensors")
        runs.append(PeerRun(rank, taken, timed.step, timed.whole, layers))
    return runs


def peer_options(config: Config, steps: int) -> dict[str, Any]:
    """The mode ours is measured in, in the script's words."""
    return {
        "instance_prompt": config.subject.filled_instance_prompt,
        "resolution": config.base.resolution,
        "train_batch_size": config.training.train_batch_size,
        "gradient_accumulation_steps": config.training.gradient_accumulation_steps,
        "mixed_precision": config.training.mixed_precision,
        "learning_rate": config.method.lora.learning_rate,
        "max_train_steps": steps,
        "seed": config.seed,
    }


def peer_figures(runs: Sequence[PeerRun], pictures: int) -> dict[str, Any]:
    """What is recorded of diffusers' script besides its rows: the whole time of its runs, and what it adapted."""
    seconds = sum(run.seconds for run in runs)
    return {
        "images/s with start-up": round(pictures * sum(run.steps for run in runs) / seconds, 2),
        "seconds of a run": [round(run.seconds, 1) for run in runs],
        "of them start-up and end": [round(run.seconds - run.steps * run.step_seconds, 1) for run in runs],
        "adapted layers": sorted(frozenset.union(*(run.layers for run in runs))),
    }


def peer_settings(script: Path, config: Config, steps: int) -> dict[str, Any]:
    """Which script was run, and how."""
    return described(script) | {"options": peer_options(config, steps) | {"pre_compute_text_embeddings": True}}


def in_a_row(runs: Sequence[PeerRun]) -> list[Speed]:
    """The script's runs, and all of them in a row."""
    if not runs:
        return []
    each = [Speed(f"diffusers, rank {run.rank}", 1, run.step_seconds) for run in runs]
    return [*each, Speed("diffusers, one after another", len(runs), sum(run.step_seconds for run in runs))]


def distance(losses: Sequence[Sequence[float]], alone: Sequence[Sequence[float]]) -> list[float]:
    """By what share each loss of a pack differs from that of the same LoRA alone."""
    pairs = [pair for one, other in zip(losses, alone, strict=True) for pair in zip(one, other, strict=True)]
    return [abs(a / b - 1) for a, b in pairs]


def measure(bench: Bench, packs: Sequence[int], steps: int) -> tuple[list[Speed], list[float]]:
    """Ours: one alone (the mean of the ranks), packs, and how far losses of one pack of each rank are from alone."""
    alone = [bench.train(range(number, number + 1), steps) for number in range(len(bench.ranks))]
    mean, peak = statistics.mean(seconds for seconds, _, _ in alone), max((peak or 0.0) for _, _, peak in alone)
    speeds, apart = [Speed("alone", 1, mean, peak)], []
    for size in packs:
        seconds, losses, peak_of_pack = bench.train(range(size), steps)
        speeds.append(Speed("pack", size, seconds, peak_of_pack))
        if size == len(bench.ranks):
            apart = distance(losses, [one for _, (one,), _ in alone])
    return speeds, apart


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--packs", type=int, nargs="*", default=[3, 9, 15])
    parser.add_argument("--peer", type=Path, help="diffusers' train_dreambooth_lora.py")
    arguments = parser.parse_args()
    if arguments.peer and not arguments.peer.is_file():
        parser.error(f"there is no {arguments.peer}")
    if arguments.peer:
        check_torchvision(parser)
    return arguments


def main() -> None:
    """Time packs, compare losses, print, record."""
    arguments = parsed()
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_of(Path(folder), with_peer=bool(arguments.peer))
        runs = run_peer(arguments.peer, bench, arguments.steps, Path(folder)) if arguments.peer else []
        speeds, apart = measure(bench, arguments.packs, arguments.steps)
    peer = statistics.mean(run.step_seconds for run in runs) if runs else None
    rows = [[speed.row(speeds[0].seconds, bench.pictures, peer) for speed in part] for part in (speeds, in_a_row(runs))]
    print_table([*rows[0], *rows[1]])
    figures: dict[str, Any] = {"packs": rows[0]}
    resolution = bench.config.base.resolution
    settings: dict[str, Any] = {"steps": arguments.steps, "ranks": bench.ranks, "resolution": resolution}
    if apart:
        figures |= {"largest difference of a loss": max(apart), "mean difference of a loss": statistics.mean(apart)}
        print(f"losses of a pack of three against alone: {statistics.mean(apart):.2g} apart, at most {max(apart):.2g}")
    if runs:
        whole = peer_figures(runs, bench.pictures)
        figures["diffusers"] = {"runs": rows[1], **whole}
        settings["diffusers"] = peer_settings(arguments.peer, bench.config, runs[0].steps)
        print("diffusers: " + "; ".join(f"{name}: {value}" for name, value in whole.items()))
    if bench.base.device.type == "cuda":
        print(save("lora_packs", figures, settings))
    elif not runs:
        print(save("lora_packs_cpu", figures, settings))


if __name__ == "__main__":
    main()
