"""Does the rank decide how fast a LoRA learns? How far the first steps move the UNet's prediction at each rank.

    python -m benchmarks.rank_speed [--shapes pocket|sd15] [--seeds N] [--base FOLDER]

Ranks 4 to 128 train in one pack on the same photos with the same noise, at the recipe's learning rate without warm-up,
once with each way to scale a LoRA: `constant`, where alpha is the same at every rank, and `equal`, where the scale is.
What the UNet says of other photos, at fixed timesteps and under other prompts, is compared before the first step, after
one and after ten. The adapters' first weights are drawn from several seeds, for each of two seeds of the noise, which
also order the photos. The table has the root of the mean square of what a LoRA changed, its mean over all seeds; and
that of the part that LoRAs from different first weights have in common, their mean change. The rest is the luck of the
draw, which is larger the fewer weights are drawn. The aim: with `constant` no rank is further than 15 % from the mean
over ranks.

`sd15` is Stable Diffusion 1.5's shapes with random weights and latents, at half its resolution, and needs a GPU. All
is computed in fp32, so that what is rounded does not count as change.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import portrayal
from benchmarks.costs import drawn
from benchmarks.record import RESULTS, machine, print_table, read, save
from benchmarks.standins import base_here
from benchmarks.timing import base_for, on_gpu, photos_of
from portrayal.config import Config
from portrayal.data.encode import EncodedDataset
from portrayal.models.base import BaseModel
from portrayal.training.session import session
from portrayal.training.step import train_step
from portrayal.training.task import Task, TrainingData

RANKS = (4, 8, 16, 32, 64, 128)
SCALES = ("constant", "equal")
STEPS = (1, 10)
"""After how many of them it is looked."""
COLUMNS = tuple(f"{part}after {step} step" + "s" * (step > 1) for part in ("", "common part ") for step in STEPS)
RECIPES = {"pocket": "pocket-demo", "sd15": "sd15-80gb"}
SEEDS = {"pocket": 5, "sd15": 3}
"""Of first weights."""
NOISES = 2
"""Seeds of noise."""
PHOTOS = 8
"""How many of the sixteen are trained on."""
PROMPTS = ("a photo of sks woman", "a portrait of a woman", "sks woman in a garden", "a dog on a street")
AIM = 15
"""Percent that a rank may be from the mean with `constant`."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """What the UNet is asked, and is not trained on.

    Attributes:
        noisy: Latents with noise, shape `(N, C, H, W)`.
        timesteps: How much of it, shape `(N,)`.
        input_ids: Tokens of the prompts, shape `(N, L)`.
    """

    noisy: Tensor
    timesteps: Tensor
    input_ids: Tensor


@dataclass(frozen=True)
class Bench:
    """A base, what is trained on and what is asked; the config of each way to scale."""

    base: BaseModel
    data: TrainingData
    probe: Probe
    configs: dict[str, Config]


def main() -> None:
    """Train, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=RECIPES, default="pocket")
    parser.add_argument("--seeds", type=int, help="of first weights; 5 for pocket, 3 for sd15")
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    arguments = parser.parse_args()
    shapes, seeds = arguments.shapes, arguments.seeds or SEEDS[arguments.shapes]
    if shapes == "sd15" and not on_gpu():
        parser.error("--shapes sd15 needs a GPU")
    torch.backends.cudnn.allow_tf32 = False
    with base_of(shapes, arguments.base) as name:
        found = measure(bench_of(shapes, name), seeds)
    print_table(found["rows"])
    print_table(found["departures"])
    path = RESULTS / "rank_speed.json"
    known = read(path)["figures"] if path.is_file() else {}
    figures = known | {shapes: {"seeds": seeds, "noises": NOISES, "machine": machine()} | found}
    print(save("rank_speed", figures, {"ranks": RANKS, "precision": "fp32", "aim_percent": AIM}))


@contextmanager
def base_of(shapes: str, asked: Path | None) -> Iterator[str]:
    """Name of the base."""
    if shapes == "pocket":
        yield "pocket"
        return
    with base_here(asked) as name:
        yield name


def bench_of(shapes: str, base_name: str) -> Bench:
    """The base with sixteen pictures: eight are trained on, some of the others asked about."""
    configs = {scale: config_of(shapes, base_name, scale) for scale in SCALES}
    config = configs[SCALES[0]]
    base = base_for(config)
    assert config.base.resolution is not None
    data = photos_of(base, config) if shapes == "pocket" else drawn(base, config, config.base.resolution // 2)
    (pictures,) = data.photos
    trained, others = pictures.subset(pictures.ids[:PHOTOS]), pictures.subset(pictures.ids[PHOTOS:])
    return Bench(base, TrainingData((trained,), None), probe_of(base, others), configs)


def config_of(shapes: str, base_name: str, scale: str) -> Config:
    """The recipe's settings, with the LoRAs that are compared and a learning rate that does not move."""
    changes = [
        f'base.name="{base_name}"',
        f"study.ranks={list(RANKS)}",
        "study.learning_rates=[1.0]",
        f"study.lora_scale={scale}",
        "study.full_unet=false",
        "training.lr_scheduler=constant",
        "training.mixed_precision=no",
        "control.enabled=false",
    ]
    one_photo = ["training.train_batch_size=1"] if shapes == "sd15" else []
    return portrayal.make_plan(RECIPES[shapes], [*changes, *one_photo]).config


def probe_of(base: BaseModel, pictures: EncodedDataset) -> Probe:
    """A picture for each prompt, at timesteps from little noise to much."""
    count, num_timesteps = len(PROMPTS), base.noise_scheduler.config.num_train_timesteps
    latents = pictures.mean[:count] * base.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    timesteps = (torch.arange(count) + 0.5).mul(num_timesteps / count).long()
    noisy = base.noise_scheduler.add_noise(latents, noise, timesteps)
    return Probe(noisy.to(base.device), timesteps.to(base.device), base.input_ids(PROMPTS))


def measure(bench: Bench, seeds: int) -> Json:
    """How large the base's prediction is, its change at each scale, rank and number of steps, how far ranks depart."""
    rows: list[Json] = []
    for scale, config in bench.configs.items():
        found = sizes(bench, config, seeds).T.tolist()
        rows += [
            {"scale": scale, "rank": rank} | dict(zip(COLUMNS, values, strict=True))
            for rank, values in zip(RANKS, found, strict=True)
        ]
    prediction = float(size(predictions(bench.base, bench.probe)))
    return {"prediction": prediction, "rows": rows, "departures": [departures(scale, rows) for scale in bench.configs]}


def sizes(bench: Bench, config: Config, seeds: int) -> Tensor:
    """How large the changes are, shape `(len(COLUMNS), K)`."""
    found = []
    for noise in range(NOISES):
        changed = torch.stack([changes(bench, config, seed, noise) for seed in range(seeds)])
        found.append(torch.cat([size(changed).mean(0), size(changed.mean(0))]))
    return torch.stack(found).mean(0)


def departures(scale: str, rows: Sequence[Json]) -> Json:
    """The largest departure of a rank from the mean over ranks, in percent, after each number of steps."""
    largest = {}
    for column in COLUMNS:
        values = torch.tensor([row[column] for row in rows if row["scale"] == scale])
        largest[column] = round(100 * float((values / values.mean() - 1).abs().max()), 1)
    return {"largest departure in %": scale} | largest


def changes(bench: Bench, config: Config, seed: int, noise: int) -> Tensor:
    """What each LoRA of a pack has changed of the prediction after each of `STEPS`, `(len(STEPS), K, N, C, H, W)`."""
    found, base, members = [], bench.base, len(config.methods)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tasks = [Task(name, method, bench.data, work / name, seed) for name, method in config.methods.items()]
        with session(base, tasks, config, work / "work") as state:
            for learner in state.learners:  # a task's seed is that of its first weights and of its noise
                learner.seed, learner.batches = noise, replace(learner.batches, seed=noise)
            before = predictions(base, bench.probe, members)
            while state.step < max(STEPS):
                train_step(state)
                if state.step in STEPS:
                    state.attached.refresh()  # as a step does at its start
                    found.append(predictions(base, bench.probe, members) - before)
    return torch.stack(found)


@torch.no_grad()
def predictions(base: BaseModel, probe: Probe, members: int = 1) -> Tensor:
    """What the UNet says with each LoRA of the pack in place, shape `(K, N, C, H, W)`."""
    prompts = base.text_encoder(probe.input_ids.repeat(members, 1))[0]
    noisy, timesteps = probe.noisy.repeat(members, 1, 1, 1), probe.timesteps.repeat(members)
    said: Tensor = base.unet(noisy, timesteps, prompts).sample.unflatten(0, (members, -1))
    return said


def size(tensors: Tensor) -> Tensor:
    """Root of the mean square of tensors `(…, N, C, H, W)`, shape `(…)`, on the CPU."""
    return tensors.square().flatten(-4).mean(-1).sqrt().cpu()


if __name__ == "__main__":
    main()
