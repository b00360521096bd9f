"""Train the finder of heads in drawings: how many people a photo of the drawn world shows.

    python -m pretraining.heads --out DIR [--pictures 80000] [--minutes 3]

Draws pictures of nobody, one, two and three people, trains :class:`portrayal.models.people.HeadFinder`, and writes
`config.json`, `model.safetensors` (weights in 8-bit floats, which training has rounded to all along) and
`figures.json`: how many of 4,000 pictures of other people are counted right.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parametrize

from portrayal.models.people import SIDE, STRIDE, HeadFinder, peaks
from pretraining.devices import set_up_device
from pretraining.world import Person, Shot, draw, draw_group, sample_person, sample_shot

MOST = 3
"""People in a picture."""

CELLS = SIDE // STRIDE
TEST_PICTURES = 4_000
TEST_SEED = 9_000_011
BATCH = 512
CHUNK = 250

Heads = list[tuple[float, float, float]]
"""Of each head: x, y and height in shares of the picture."""

Pixels = npt.NDArray[np.uint8]


def picture_of(rng: np.random.Generator) -> tuple[Pixels, Heads]:
    """One training picture and its heads: 45 % of one person, 5 % of none, the others of two or three."""
    kind = rng.random()
    if kind < 0.05:
        shot = sample_shot(rng)
        return draw_group([], shot, SIDE), []
    if kind < 0.5:
        return alone(rng)
    return side_by_side(rng) if kind < 0.7 else together(rng)


def alone(rng: np.random.Generator) -> tuple[Pixels, Heads]:
    """One person, sometimes beside the middle, sometimes cut out nearer than any framing is."""
    person = sample_person(rng)
    shot = sample_shot(rng, gender=person.gender)
    if rng.random() < 0.3:
        shot = replace(shot, x=float(rng.uniform(0.15, 0.85)))
    size = SIDE
    if rng.random() < 0.3:
        size = round(SIDE * float(rng.uniform(1, 1.5)))
    left, top = (int(rng.integers(0, size - SIDE + 1)) for _ in range(2))
    head = ((shot.x * size - left) / SIDE, (shot.y * size - top) / SIDE, shot.head_height * size / SIDE)
    if not all(0.12 < place < 0.88 for place in head[:2]):
        left, top, size = 0, 0, SIDE
        head = (shot.x, shot.y, shot.head_height)
    return draw(person, shot, size)[top : top + SIDE, left : left + SIDE], [head]


def side_by_side(rng: np.random.Generator) -> tuple[Pixels, Heads]:
    """Two pictures cut and put beside each other, as collages are."""
    framing = (["half"] * 3 + ["head", "whole"])[int(rng.integers(5))]
    cut = round(SIDE * float(rng.uniform(0.42, 0.58)))
    parts, heads, start, scene = [], Heads(), 0, None
    for wide in (cut, SIDE - cut):
        person = sample_person(rng)
        shot = sample_shot(rng, framing=framing, gender=person.gender, scene=scene)  # type: ignore[arg-type]
        scene = shot.scene if rng.random() < 0.7 else None
        left = int(np.clip((shot.x + rng.normal(0, 0.04)) * SIDE - wide / 2, 0, SIDE - wide))
        parts.append(draw(person, shot, SIDE)[:, left : left + wide])
        heads.append((shot.x + (start - left) / SIDE, shot.y, shot.head_height))
        start += wide
    return np.hstack(parts), heads


def together(rng: np.random.Generator) -> tuple[Pixels, Heads]:
    """Two people in one scene, or three, their faces apart."""
    count = 3 if rng.random() < 0.2 else 2
    framing = ("half", "half", "whole", "head")[int(rng.integers(4 if count == 2 else 3))]
    low, high = {"half": (0.17, 0.34), "whole": (0.12, 0.235), "head": (0.3, 0.45)}[framing]
    if count == 3:
        high = min(high, 0.26)
    while True:
        base = float(rng.uniform(low, high))
        heights = [base * float(rng.uniform(0.85, 1.15)) for _ in range(count)]
        places = sorted(float(rng.uniform(0.08, 0.92)) for _ in range(count))
        gaps = [b - a for a, b in itertools.pairwise(places)]
        if all(gap > 0.75 * base for gap in gaps) and places[0] > 0.35 * base and places[-1] < 1 - 0.35 * base:
            break
    members: list[tuple[Person, Shot]] = []
    for x, height in zip(places, heights, strict=True):
        person = sample_person(rng)
        shot = sample_shot(rng, framing=framing, gender=person.gender)  # type: ignore[arg-type]
        level = members[0][1].y if members else shot.y
        y = float(np.clip(level + rng.normal(0, 0.05), 0.55 * height, 0.8))
        members.append((person, replace(shot, x=x, y=y, head_height=height)))
    order = [members[place] for place in rng.permutation(count)]
    return draw_group(order, order[0][1], SIDE), [(shot.x, shot.y, shot.head_height) for _, shot in members]


def _draw_chunk(job: tuple[int, int, int]) -> tuple[Pixels, npt.NDArray[np.float32]]:
    seed, start, count = job
    pictures = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    places = np.zeros((count, MOST, 3), np.float32)
    for row in range(count):
        pictures[row], heads = picture_of(np.random.default_rng([seed, start + row]))
        places[row, : len(heads)] = np.reshape(heads, (-1, 3))
    return pictures, places


def draw_pictures(count: int, seed: int, processes: int) -> tuple[Tensor, Tensor]:
    """Pictures `(N, 3, 128, 128)` as bytes, and their heads `(N, 3, 3)`: x, y, height; the height is 0 for nobody."""
    jobs = [(seed, start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        parts = pool.map(_draw_chunk, jobs, chunksize=1)
    pictures, places = (np.concatenate(part) for part in zip(*parts, strict=True))
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.from_numpy(places)


def spoiled(pixels: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrored, blurred, darkened, tinted and noisy as photos are: `(B, 3, H, W)` in [-1, 1] and heads `(B, 3, 3)`."""
    count, device = len(pixels), pixels.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device) * (high - low) + low

    mirrored = uniform(0, 1) < 0.5
    pixels = torch.where(mirrored, pixels.flip(3), pixels)
    heads = heads.clone()
    heads[..., 0] = torch.where(mirrored[:, :, 0, 0], 1 - heads[..., 0], heads[..., 0])
    soft = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    softer = functional.avg_pool2d(functional.pad(soft, (2, 2, 2, 2), mode="replicate"), 5, 1)
    which = uniform(0, 1)
    pixels = torch.where(which < 0.1, softer, torch.where(which < 0.5, torch.lerp(pixels, soft, uniform(0, 1)), pixels))
    light = torch.where(uniform(0, 1) < 0.1, uniform(0.15, 0.8), uniform(0.85, 1.15))
    pixels = (pixels + 1) * light * (1 + torch.randn(count, 3, 1, 1, device=device) * 0.04) - 1
    return (pixels + torch.randn_like(pixels) * uniform(0, 0.06)).clamp(-1, 1), heads


def targets(heads: Tensor) -> Tensor:
    """A Gaussian at every head, a seventh of its height wide, `(B, h, w)`; one at the cell of its centre."""
    places = torch.arange(CELLS, device=heads.device)
    x, y = ((heads[..., axis] * CELLS).floor() for axis in (0, 1))
    sigma = (heads[..., 2] * CELLS / 7).clamp(min=0.5)
    across = torch.exp(-((places - x[..., None]) ** 2) / (2 * sigma[..., None] ** 2))
    down = torch.exp(-((places - y[..., None]) ** 2) / (2 * sigma[..., None] ** 2))
    there = (heads[..., 2] > 0)[..., None, None]
    return (down[..., :, None] * across[..., None, :] * there).amax(1)


def loss_of(finder: HeadFinder, pixels: Tensor, heads: Tensor) -> Tensor:
    """CenterNet's focal loss (Eq. 1), and the error of the log heights at the centres."""
    logits, heights = finder(pixels)
    target = targets(heads)
    chance = logits.sigmoid()
    centre = target == 1
    hit = -functional.logsigmoid(logits) * (1 - chance) ** 2
    miss = -functional.logsigmoid(-logits) * chance**2 * (1 - target) ** 4
    focal = torch.where(centre, hit, miss).sum() / centre.sum().clamp(min=1)
    there = heads[..., 2] > 0
    row = torch.arange(len(heads), device=heads.device)[:, None].expand_as(there)[there]
    x, y = ((heads[..., axis] * CELLS).long().clamp(0, CELLS - 1)[there] for axis in (0, 1))
    error = heights[row, y, x] - (heads[..., 2][there] * SIDE).log()
    loss: Tensor = focal + 0.2 * error.abs().mean()
    return loss


class _Rounded(torch.nn.Module):
    """Rounds a weight to 8 bits, and lets gradients pass as if it had not."""

    def forward(self, weight: Tensor) -> Tensor:
        rounded: Tensor = weight + (weight.to(torch.float8_e4m3fn).float() - weight).detach()
        return rounded


@contextmanager
def rounded_weights(finder: HeadFinder) -> Iterator[None]:
    """Inside, the finder computes with weights as they will be stored; after it, it has them."""
    layers = [layer for layer in finder.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _Rounded())
    yield
    for layer in layers:
        parametrize.remove_parametrizations(layer, "weight")


def train_head_finder(pictures: Tensor, heads: Tensor, seconds: float, device: torch.device) -> HeadFinder:
    """AdamW on a one-cycle schedule over the seconds given; returns the average of the last steps' weights."""
    finder = HeadFinder().to(device)
    pictures, heads = pictures.to(device), heads.to(device)
    with rounded_weights(finder):
        average = {name: value.detach().clone() for name, value in finder.named_parameters()}
        optimizer = torch.optim.AdamW(finder.parameters(), 1e-2, weight_decay=1e-4)
        started, share, step = time.perf_counter(), 0.0, 0
        while share < 1:
            share = (time.perf_counter() - started) / seconds
            for group in optimizer.param_groups:
                group["lr"] = (
                    1e-2 * min(1.0, (step + 1) / 300) * max(0.005, math.cos(math.pi / 2 * min(1.0, share)) ** 2)
                )
            rows = torch.randint(len(pictures), (BATCH,), device=device)
            loss = loss_of(finder, *spoiled(pictures[rows].float() / 127.5 - 1, heads[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay = min(0.999, (step + 1) / (step + 10))
            for name, value in finder.named_parameters():
                average[name].lerp_(value.detach(), 1 - decay)
            if step % 500 == 0:
                print(f"{share:4.0%} step {step} loss {float(loss.detach()):.3f}", flush=True)
            step += 1
        with torch.no_grad():
            for name, value in finder.named_parameters():
                value.copy_(average[name])
    return finder.cpu().eval().requires_grad_(False)


@torch.no_grad()
def figures_of(finder: HeadFinder, pictures: Tensor, heads: Tensor) -> dict[str, float]:
    """How many pictures of one person and of several are counted so."""
    chances, heights = (
        torch.cat(part) for part in zip(*(finder(p.float() / 127.5 - 1) for p in pictures.split(500)), strict=True)
    )
    counted = torch.tensor([len(peaks(c.sigmoid(), h.exp())) for c, h in zip(chances, heights, strict=True)])
    true = (heads[..., 2] > 0).sum(1)
    return {
        "pictures": len(pictures),
        "one person, counted as one": round(float((counted == 1)[true == 1].float().mean()), 4),
        "one person or none, counted as several": round(float((counted > 1)[true < 2].float().mean()), 4),
        "several people, counted as several": round(float((counted > 1)[true > 1].float().mean()), 4),
    }


def save_finder(finder: HeadFinder, folder: Path) -> None:
    """Weights of convolutions in 8-bit floats, biases in 16."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {True: torch.float16, False: torch.float8_e4m3fn}
    tensors = {name: value.to(kinds[value.ndim == 1]).contiguous() for name, value in finder.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"architectures": ["HeadFinder"]}\n')


def main() -> None:
    """Draw before CUDA starts, train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--minutes", type=float, default=3.0, help="of training")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="for drawing")
    arguments = parser.parse_args()
    drawn = draw_pictures(arguments.pictures, 0, arguments.processes)
    test = draw_pictures(TEST_PICTURES, TEST_SEED, arguments.processes)
    print(f"drew {len(drawn[0])} pictures")
    torch.manual_seed(0)
    finder = train_head_finder(*drawn, 60 * arguments.minutes, set_up_device())
    save_finder(finder, arguments.out)
    figures = figures_of(finder, *test)
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
