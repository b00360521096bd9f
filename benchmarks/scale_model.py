"""On paper: a thousand, a hundred thousand, ten million subjects a day, from what was measured on one card.

    python -m benchmarks.scale_model [--price 2.5] [--photos-mb 60] [--runs 2] [--check]

The time of a study is that of `experiment_speed` on one H100, its memory that of `costs`; sizes of files are counted
from the shapes of Stable Diffusion 1.5. A discrete simulation (simpy) then lets subjects arrive through a day that is
twice as busy at noon as on average, and machines of eight cards fail; it says how many cards keep the wait short, and
what a failure costs. Ten million a day are a hundred cells of a hundred thousand, each with a head of its own.

The simulation's small case is a real batch: the studies of `batch_speed`, each as long as it was measured, in the order
they were begun, on two workers, against what the batch took. Everything that was not measured is a parameter and is
recorded as `assumed`.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import simpy

from benchmarks.record import RESULTS, print_table, read, save
from benchmarks.standins import SD15_UNET

DAY = 86_400.0
SCALES = (1_000, 100_000, 10_000_000)
CELL = 100_000
"""Subjects a day of one cell: one head, one queue."""
LORA_RANKS = (32, 64, 128)
HALF = 2
Json = dict[str, Any]


@dataclass(frozen=True)
class Assumed:
    """What was not measured.

    Attributes:
        price: Of one GPU for an hour, in dollars.
        photos_mb: Of one subject, as they come from a phone.
        picture_mb: Of one PNG of 512 × 512.
        files: Of a run that is kept: pictures, weights, report.
        spread: Standard deviation of a study's time, as a share of it.
        busiest: Arrivals at noon, as a multiple of the average.
        cards_of_machine: That fail together.
        days_between_failures: Of a machine.
        seconds_lost: By a failure besides the work since the last checkpoint: until Ray tries again, loading.
        checkpoint_seconds: Work between two checkpoints.
        patience: Seconds that nineteen of twenty subjects may wait.
        storage_price: Of a gigabyte for a month, in dollars.
    """

    price: float = 2.5
    photos_mb: float = 60.0
    picture_mb: float = 0.45
    files: int = 260
    spread: float = 0.05
    busiest: float = 2.0
    cards_of_machine: int = 8
    days_between_failures: float = 30.0
    seconds_lost: float = 90.0
    checkpoint_seconds: float = 10.0
    patience: float = 600.0
    storage_price: float = 0.023


@dataclass(frozen=True)
class Measured:
    """What was measured, or counted from shapes: seconds and pictures of a study, megabytes of its files."""

    seconds: float
    pictures: int
    unet_mb: float
    loras_mb: float
    report_mb: float


def main() -> None:
    """Reckon, simulate, check, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", type=float, default=Assumed.price, help="dollars for a GPU and an hour")
    parser.add_argument("--photos-mb", type=float, default=Assumed.photos_mb)
    parser.add_argument("--runs", type=int, default=2, help="days simulated of each size, the worst is kept")
    parser.add_argument(
        "--check", action="store_true", help="only the small case; keep the scales as they were reckoned"
    )
    arguments = parser.parse_args()
    if arguments.check:
        before = read(RESULTS / "scale_model.json")
        again = small_case() or {}
        print_table([again])
        print(save("scale_model", before["figures"] | {"check": again}, before["settings"]))
        return
    assumed = Assumed(price=arguments.price, photos_mb=arguments.photos_mb)
    measured = measurements()
    rows = [at_scale(subjects, measured, assumed, arguments.runs) for subjects in SCALES]
    print_table(rows)
    checked = small_case()
    if checked:
        print_table([checked])
    figures = {"scales": rows, "check": checked, "measured": asdict(measured), "assumed": asdict(assumed)}
    print(save("scale_model", figures, {"runs": arguments.runs}))


def measurements() -> Measured:
    """The figures of one card, from the results of other benchmarks and from shapes."""
    experiment = read(RESULTS / "experiment_speed.json")["figures"]
    made = experiment["made"]
    pictures = made["scene and class pictures"] + sum(made["held to an outline"].values())
    report = read(RESULTS / "whole_runs.json")["figures"][0]["report MB"]
    unet, loras = weights()
    return Measured(experiment["seconds"], pictures, HALF * unet / 1e6, HALF * loras / 1e6, float(report))


def weights() -> tuple[int, int]:
    """Weights of the full UNet, and of the three LoRAs on its attention."""
    import torch
    from diffusers import UNet2DConditionModel

    from portrayal.config import ATTENTION_TARGETS
    from portrayal.models.methods import adapted_layers

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_UNET)
    shapes = adapted_layers(unet, ATTENTION_TARGETS)
    return sum(one.numel() for one in unet.parameters()), sum(sum(shape) for shape in shapes) * sum(LORA_RANKS)


def at_scale(subjects: int, measured: Measured, assumed: Assumed, runs: int) -> Json:
    """A row: cards, money, storage, network, and what the simulated day was like."""
    cells = max(1, subjects // CELL)
    of_cell = subjects // cells
    busy = of_cell * measured.seconds / DAY
    cards = cards_needed(of_cell, measured, assumed, runs)
    day = worst([simulate(of_cell, cards, measured, assumed, seed) for seed in range(runs)])
    total = cells * cards
    kept_mb = measured.loras_mb + measured.pictures * assumed.picture_mb + measured.report_mb
    all_mb = kept_mb + measured.unet_mb
    peak = assumed.busiest * subjects / DAY
    return {
        "subjects a day": subjects,
        "cells": cells,
        "cards if never idle": math.ceil(busy) * cells,
        "cards": total,
        "in use": round(busy / cards, 3),
        "wait, half of them (s)": round(day["waits"][0]),
        "wait, 19 of 20 (s)": round(day["waits"][1]),
        "begun again": day["again"] * cells,
        "cost of a subject ($)": round(total * 24 * assumed.price / subjects, 4),
        "photos in (TB a day)": round(subjects * assumed.photos_mb / 1e6, 3),
        "kept, LoRAs (TB a day)": round(subjects * kept_mb / 1e6, 3),
        "kept, with UNet (TB a day)": round(subjects * all_mb / 1e6, 3),
        "network at noon (Gbit/s)": round(peak * (assumed.photos_mb + kept_mb) * 8 / 1e3, 3),
        "files written at noon (a second)": round(peak * assumed.files),
        "studies begun at noon (a second)": round(peak, 3),
        "storage of a month, LoRAs ($ a month)": round(30 * subjects * kept_mb / 1e3 * assumed.storage_price),
    }


def cards_needed(subjects: int, measured: Measured, assumed: Assumed, runs: int) -> int:
    """The fewest cards, in whole machines where there are several, with which nineteen of twenty wait no longer."""
    step = 1 if subjects * measured.seconds / DAY < assumed.cards_of_machine else assumed.cards_of_machine
    low = max(1, math.floor(subjects * measured.seconds / DAY / step))
    high = math.ceil(assumed.busiest * subjects * measured.seconds / DAY / step) + 1
    while low < high:
        middle = (low + high) // 2
        days = [simulate(subjects, middle * step, measured, assumed, seed) for seed in range(runs)]
        if worst(days)["waits"][1] <= assumed.patience:
            high = middle
        else:
            low = middle + 1
    return low * step


def worst(days: Sequence[Json]) -> Json:
    """The day with the longest waits."""
    return max(days, key=lambda day: float(day["waits"][1]))


@lru_cache
def simulate(subjects: int, cards: int, measured: Measured, assumed: Assumed, seed: int) -> Json:
    """A day of one cell: waits (half of all, nineteen of twenty) and how many studies were begun again.

    A machine that fails takes the studies on its cards back to their last checkpoints; it is replaced at once, by one
    that has to load first.
    """
    chance = random.Random(f"{seed}/{subjects}/{cards}")
    world = simpy.Environment()
    queue = simpy.Resource(world, cards)
    waits: list[float] = []
    again = [0]
    failures = 1 / (assumed.days_between_failures * DAY)

    def study() -> Generator[Any, Any, None]:
        came = world.now
        with queue.request() as card:
            yield card
            waits.append(world.now - came)
            left = max(1.0, chance.gauss(measured.seconds, assumed.spread * measured.seconds))
            while (until := chance.expovariate(failures)) < left:
                yield world.timeout(until + assumed.seconds_lost)
                left -= max(0.0, until - chance.uniform(0, assumed.checkpoint_seconds))
                again[0] += 1
            yield world.timeout(left)

    def arrivals() -> Generator[Any, Any, None]:
        now = 0.0
        for came in arrival_times(subjects, assumed.busiest, chance):
            yield world.timeout(came - now)
            now = came
            world.process(study())

    world.process(arrivals())
    world.run()
    ordered = sorted(waits)
    return {"waits": [ordered[len(ordered) // 2], ordered[int(0.95 * len(ordered))]], "again": again[0]}


def arrival_times(subjects: int, busiest: float, chance: random.Random) -> list[float]:
    """When subjects come through a day: most at noon, `busiest` times the average then (a raised cosine)."""
    swing = busiest - 1
    found: list[float] = []
    while len(found) < subjects:
        at = chance.uniform(0, DAY)
        if chance.uniform(0, busiest) < 1 - swing * math.cos(2 * math.pi * at / DAY):
            found.append(at)
    return sorted(found)


def small_case() -> Json | None:
    """The simulation of the measured batch, and what that batch took; nothing where it was not measured."""
    path = RESULTS / "batch_speed.json"
    if not path.is_file():
        return None
    row = next(row for row in read(path)["figures"]["rows"] if row["way"] == "Ray")
    made = makespan(row["each"], workers=2)
    return {
        "studies": len(row["each"]),
        "workers": 2,
        "simulated seconds of work": round(made, 1),
        "the command took": row["seconds"],
        "around it": round(row["seconds"] - made, 1),
        "apart": round(abs(row["seconds"] - made) / row["seconds"], 3),
    }


def makespan(seconds: Sequence[float], workers: int) -> float:
    """How long studies take that are begun in this order, by the same engine as a day."""
    world = simpy.Environment()
    queue = simpy.Resource(world, workers)

    def study(length: float) -> Generator[Any, Any, None]:
        with queue.request() as worker:
            yield worker
            yield world.timeout(length)

    for length in seconds:
        world.process(study(length))
    world.run()
    return float(world.now)


if __name__ == "__main__":
    main()
