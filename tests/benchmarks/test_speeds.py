"""What the benchmarks of speed make of what they measured."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import costs, limits, subjects_per_hour, training_speed
from benchmarks.costs import Point, points
from benchmarks.painting_speed import timed_batches
from benchmarks.peers import Timed
from benchmarks.standins import SD15_UNET
from scripts import docs_charts


def test_the_limits_rest_on_the_operations_of_the_shapes() -> None:
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel(**SD15_UNET)
        inputs = torch.zeros(1, 4, 64, 64), torch.zeros(1), torch.zeros(1, 77, 768)
        counted = limits.operations(lambda: unet(*inputs))
    assert counted == pytest.approx(limits.FORWARD, rel=0.002)
    assert [round(limits.training_limit(kind)) for kind in ("unet", "lora")] == [326, 445]
    assert round(limits.painting_limit(25), 1) == 18.4


def test_a_script_is_put_beside_its_line_and_the_pack() -> None:
    rows = [{"trained": line.trained, "batch": line.batch, "images/s": 40.0} for line in training_speed.LINES]
    figures: dict[str, Any] = {"training": []}
    for row in reversed(rows):
        training_speed.keep(figures, row, {})
    assert figures["training"] == rows  # in the order of the table, whatever order they came in
    alone = next(line for line in training_speed.LINES if line.trained == "LoRA 64" and line.batch == 1)
    beside = training_speed.beside_it(alone, figures)
    assert [row["trained"] for row in beside] == ["LoRA 64", "LoRAs 32, 64, 128 at once"]
    assert training_speed.beside(beside[0], 1, Timed(60.0, 20.0, 0.2))["times diffusers"] == 8.0


def test_a_batch_counts_from_the_first_of_its_pictures() -> None:
    assert len(timed_batches([None] * 6, 2)) == 3  # type: ignore[list-item]


def test_a_sweep_ends_where_the_memory_does_and_nothing_is_measured_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Point] = []

    def cost(base: Any, config: Any, point: Point, steps: int, repeats: int) -> dict[str, Any]:
        asked.append(point)
        return {"out_of_memory": True} if point.pack > 2 else {"seconds_a_step": 0.1}

    monkeypatch.setattr(costs, "cost", cost)
    wanted = [point for sweep in ("batch", "resolution", "pack") for point in points(sweep)]
    rows = list(costs.measure(None, None, wanted, 1, 1))  # type: ignore[arg-type]
    assert [row["pack"] for row in rows if row["sweep"] == "pack"] == [1, 2, 4]
    assert len(rows) == 10 + 8 + 3
    assert len({point.trained for point in asked}) == len(asked) == 10 + 8 - 2 + 3


def test_costs_are_drawn_for_each_sweep(tmp_path: Path) -> None:
    cost = {"seconds_a_step": 0.05, "images_per_second": 20.0, "peak_gib": 3.5}
    rows = [vars(point) | cost for sweep in docs_charts.SWEEPS for point in points(sweep)]
    chart = docs_charts.costs_chart(rows)
    assert all(f">{title}<" in chart.inline for title in docs_charts.SWEEPS.values())
    assert docs_charts.costs_chart(rows).content == chart.content


def test_the_chart_of_costs_is_the_benchmarks() -> None:
    chart = docs_charts.charts().get(docs_charts.COSTS)
    there = docs_charts.COSTS.read_bytes() if docs_charts.COSTS.is_file() else None
    assert there == (chart.content if chart else None), "stale; draw it anew: python -m scripts.docs_charts"


def test_a_batch_that_is_stopped_goes_on_and_its_seconds_are_those_of_all_its_commands(tmp_path: Path) -> None:
    told, begun = tmp_path / "seconds", tmp_path / "begun"
    once = (
        f"import pathlib, time; p = pathlib.Path({str(begun)!r}); seen = p.exists(); p.touch(); seen or time.sleep(99)"
    )
    command = [sys.executable, "-c", once]
    with pytest.raises(SystemExit, match="call again with the same --keep"):
        subjects_per_hour.batch(command, told, time.monotonic() + 2)
    first = float(told.read_text())
    assert 2 <= first < 90
    assert subjects_per_hour.batch(command, told, None) > first
    with pytest.raises(SystemExit, match="ended with 3"):
        subjects_per_hour.batch([sys.executable, "-c", "raise SystemExit(3)"], told, None)
