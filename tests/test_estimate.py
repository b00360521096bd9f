"""Estimates: near what was measured where it was measured, sane beyond, and compared with what a run took."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from portrayal.cli import app
from portrayal.estimate.afterwards import compare, part_of, said, whole_stages
from portrayal.estimate.costs import TABLE, Costs, fit
from portrayal.estimate.costs import why_plain as why_foreseen
from portrayal.estimate.machine import Machine, probe
from portrayal.estimate.reckoning import estimate
from portrayal.estimate.record import Estimate, Stage, spoken
from portrayal.planning import lora_packs, settle
from portrayal.run import Run
from portrayal.settings import effort_settings, load_config
from portrayal.training.graph import why_plain
from portrayal.workflow import look_ahead, look_back
from scripts import measurements

ROOT = Path(__file__).parents[1]
CPU, GPU = json.loads(TABLE.read_text(encoding="utf-8"))["machines"]
REFERENCE = Machine("cpu", CPU["machine"], None, CPU["probe_seconds"])
H100 = Machine("cuda", GPU["machine"], 79.0, GPU["probe_seconds"])
SD15 = ["base.name=sd15", "base.resolution=512", "training.mixed_precision=bf16", "study.loras_at_once=3"]


def on_reference(*changes: str, photos: int = 18) -> Estimate:
    """The demo on the machine that the table is of."""
    config = settle(
        load_config("pocket-demo", ["training.mixed_precision=no", "study.loras_at_once=9", *changes])
    ).config
    weights = CPU["unet_weights"]
    return estimate(config, REFERENCE, unet_weights=weights, packs=lora_packs(config), photos=photos)


def on_gpu(recipe: str = "sd15-80gb", *changes: str, machine: Machine = H100) -> Estimate:
    """SD 1.5 on a GPU that need not be there."""
    config = load_config(recipe, [*SD15, *changes])
    return estimate(config, machine, unet_weights=GPU["unet_weights"], packs=lora_packs(config))


def part(found: Estimate, name: str) -> Stage:
    return next(stage for stage in found.stages if stage.name == name)


# The table -------------------------------------------------------------------------------------------------------


def test_the_table_is_what_the_benchmarks_measured() -> None:
    found = json.loads(TABLE.read_text(encoding="utf-8"))
    assert measurements.assembled(found) == found, "stale; write it anew: python -m scripts.measurements"


@pytest.fixture
def former_study(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of the default study as it was when it was last timed: one learning rate, and no cuts of its LoRA."""
    monkeypatch.setattr("portrayal.estimate.reckoning.cut_pictures", lambda *_: 0)
    return ["study.learning_rates=[1]"]


@pytest.mark.parametrize(("name", "changes"), [("pocket_demo", []), ("pocket_demo_quick", effort_settings("quick"))])
def test_the_demo_takes_what_it_took(name: str, changes: list[str], former_study: list[str]) -> None:
    figures = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["figures"]
    found = on_reference(*former_study, *changes)
    assert found.seconds == pytest.approx(figures["total_seconds"], rel=0.3)
    took: dict[str, float] = {}
    for stage, seconds in figures["stage_seconds"].items():
        took[part_of(stage)] = took.get(part_of(stage), 0.0) + seconds
    for stage, seconds in took.items():
        assert seconds / 3 < part(found, stage).seconds < seconds * 3, stage


def on_gpu_as(name: str, changes: Sequence[str]) -> tuple[Estimate, dict[str, Any]]:
    """What a benchmark of whole studies on a GPU should take on the table's, and what it found."""
    record = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    asked = [*record["settings"]["settings"], "study.loras_at_once=9", *changes]
    config = load_config("sd15-80gb", ["base.name=sd15", *asked])
    packs = lora_packs(config)
    return estimate(config, H100, unet_weights=GPU["unet_weights"], packs=packs, photos=18), record["figures"]


def test_the_experiment_takes_on_a_gpu_what_it_took(former_study: list[str]) -> None:
    found, figures = on_gpu_as("experiment_speed", former_study)
    assert found.seconds == pytest.approx(figures["seconds"], rel=0.1)


def test_the_default_study_takes_on_a_gpu_what_it_took(former_study: list[str]) -> None:
    """Most of it is many short readings; it was measured on a card somewhat quicker than the table's."""
    found, figures = on_gpu_as("subjects_per_hour", former_study)
    before = part(found, "load").seconds + part(found, "class_images").seconds  # the worker had them
    (alone,) = [row for row in figures["rows"] if row["studies at once"] == "1"]
    assert found.seconds - before == pytest.approx(alone["seconds of a study"], rel=0.15)


@pytest.mark.parametrize(("table", "machine"), [(CPU, REFERENCE), (GPU, H100)])
def test_every_row_of_training_is_met(table: dict[str, Any], machine: Machine) -> None:
    """A sum of shares cannot go through all rows; it must not be far from any."""
    for row in table["training"]:
        changes = [f"base.resolution={row['resolution']}", f"training.train_batch_size={row['batch']}"]
        changes += ["training.prior_loss_weight=0", f"method.lora.rank={row['rank'] or 1}"]
        config = load_config("sd15-80gb", changes)
        method = config.method.unet if row["method"] == "unet" else config.method.lora
        costs = Costs(config, table, machine, 1.0)
        pictures = row["batch"] * row["pack"] * method.max_train_steps
        assert costs.train(method, row["pack"]) == pytest.approx(pictures / row["images_per_second"], rel=0.6)
        if row["peak_gib"]:
            assert costs.gib(method, row["pack"]) == pytest.approx(row["peak_gib"], rel=0.25)


TENTHS = st.integers(0, 100).map(lambda number: number / 10)
SHARES = st.lists(st.lists(TENTHS, min_size=3, max_size=3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=SHARES, weights=st.lists(TENTHS, min_size=3, max_size=3), at=st.tuples(*[st.floats(0, 100)] * 3))
def test_what_is_a_sum_of_shares_is_found_and_never_shrinks(rows: Any, weights: Any, at: Any) -> None:
    values = np.array(rows) @ np.array(weights) + 0.01
    found = fit(rows, values)
    assert (found >= 0).all()  # so a cost grows with each of its shares, in and beyond the table
    error = np.square(np.array(rows) @ found / values - 1).sum()
    assert error <= np.square(np.array(rows) @ np.array(weights) / values - 1).sum() / 0.95 + 1e-6
    assert np.array(at) @ found >= 0


def test_one_row_makes_a_cost_grow_with_its_first_share() -> None:
    assert fit([[2, 1, 8]], [6]).tolist() == pytest.approx([3, 0, 0])


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(1, 2000),
    rank=st.integers(1, 256),
    batch=st.integers(1, 16),
    side=st.integers(4, 16).map(lambda eighths: 64 * eighths),
    pack=st.integers(1, 16),
)
def test_more_work_never_takes_less(steps: int, rank: int, batch: int, side: int, pack: int) -> None:
    def costs(batch: int = batch, side: int = side) -> Costs:
        config = load_config("sd15-80gb", [f"training.train_batch_size={batch}", f"base.resolution={side}"])
        return Costs(config, GPU, H100, 1.0)

    def lora(**changes: int) -> Any:
        return costs().config.method.lora.model_copy(update={"max_train_steps": steps, "rank": rank} | changes)

    least, least_gib = costs().train(lora(), pack), costs().gib(lora(), pack)
    assert least > 0
    assert least_gib is not None
    assert costs().train(lora(max_train_steps=2 * steps), pack) == pytest.approx(2 * least)
    for more, method, packed in (
        (costs(), lora(rank=rank + 8), pack),
        (costs(batch=batch + 1), lora(), pack),
        (costs(side=side + 64), lora(), pack),
        (costs(), lora(), pack + 1),
    ):
        assert more.train(method, packed) >= 0.999 * least
        assert (more.gib(method, packed) or 0) >= least_gib - 0.011
    assert costs().paint(pack + 1) >= costs().paint(pack) > 0
    assert costs(side=side + 64).paint(pack) > costs().paint(pack)


def test_a_run_with_more_to_do_takes_longer() -> None:
    least = on_reference()
    for change in (
        "method.unet.max_train_steps=900",
        "study.ranks=[8,16,64]",
        "generation.num_images_per_scene=8",
        "generation.num_inference_steps=30",
        "study.max_trainings=17",
        "study.readings=9",
        "training.gradient_accumulation_steps=2",
        "training.gradient_checkpointing=true",
    ):
        assert on_reference(change).seconds > least.seconds, change
    assert on_reference(*effort_settings("quick")).seconds < least.seconds / 2
    names = [stage.name for stage in on_reference("control.enabled=false", "study.full_unet=false").stages]
    assert "control" not in names
    assert "train.unet" not in names


def test_pictures_of_the_recommended_lora_at_lower_ranks_are_counted_where_it_is_trained_more_than_once() -> None:
    def cuts(*changes: str) -> int:
        found = part(on_reference(*changes), "evaluate").what
        return int(found.split()[0]) if found else 0

    assert cuts("study.ranks=[16]", "study.learning_rates=[1]") == 3 * 3 * 24  # three ranks of three trainings
    assert cuts("study.ranks=[2]", "study.learning_rates=[1]", "study.seeds=2") == 1 * 6 * 24
    assert cuts("study.ranks=[16]", "study.learning_rates=[1]", "study.seeds=9", "study.max_trainings=5") == 3 * 3 * 24
    none = (*effort_settings("quick"),), ("study.ranks=[]",), ("study.ranks=[1]",), ("study.max_trainings=9",)
    assert [cuts(*changes) for changes in none] == [0, 0, 0, 0]


def test_a_slower_machine_takes_longer_in_proportion() -> None:
    fast, slow = on_gpu(), on_gpu(machine=replace(H100, probe_seconds=3 * H100.probe_seconds))
    assert slow.scale == pytest.approx(3)
    assert slow.seconds == pytest.approx(3 * fast.seconds, abs=0.3)
    assert slow.peak_gib == fast.peak_gib


# Modes and notes ---------------------------------------------------------------------------------------------------


def test_too_little_memory_is_noted_with_the_remedy() -> None:
    assert on_gpu().notes == ()
    small = on_gpu(machine=replace(H100, memory_gib=12.0))
    assert [note.split(":")[0] for note in small.notes] == ["train full UNet", "train LoRAs"]
    assert all("sd15-8gb" in note and "12.0" in note for note in small.notes)
    fits = on_gpu("sd15-8gb", "study.loras_at_once=1", machine=replace(H100, memory_gib=8.0))
    assert fits.notes == ()
    assert fits.peak_gib is not None


def test_what_saves_memory_is_counted() -> None:
    plain = part(on_gpu(), "train.unet").peak_gib
    assert plain is not None
    for change in (
        "training.optimizer.name=adamw8bit",
        "method.unet.master_weights=false",
        "training.gradient_checkpointing=true",
        "training.train_batch_size=1",
    ):
        found = part(on_gpu("sd15-80gb", change), "train.unet").peak_gib
        assert found is not None
        assert found < plain - 1, change


def test_another_base_is_reckoned_roughly_and_that_is_said() -> None:
    config = load_config("sd15-80gb", [*SD15, "training.mixed_precision=no", "study.loras_at_once=1"])
    found = estimate(config, REFERENCE, unet_weights=GPU["unet_weights"], packs=[1] * 9)
    assert len(found.notes) == 1
    assert "roughly, from pocket" in found.notes[0]
    assert found.seconds > 100 * on_gpu().seconds
    assert found.peak_gib is None


@pytest.mark.parametrize("kind", ["unet", "lora"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["training.cuda_graph=false"],
        ["method.lora.dropout=0.1"],
        ["training.mixed_precision=fp16"],
        ["training.mixed_precision=fp16", "training.optimizer.name=adamw8bit"],
        ["training.mixed_precision=fp16", "training.optimizer.name=adafactor"],
    ],
)
def test_steps_are_said_to_be_what_the_trainer_makes_them(kind: str, device: str, changes: list[str]) -> None:
    config = load_config("sd15-80gb", changes)
    method = config.method.unet if kind == "unet" else config.method.lora
    capturable = config.training.optimizer.name == "adamw"  # as `build_optimizer` makes it on CUDA
    state: Any = SimpleNamespace(
        base=SimpleNamespace(device=torch.device(device)),
        config=config.training,
        learners=[SimpleNamespace(method=method)],
        scaler=config.training.mixed_precision == "fp16",
        optimizer=SimpleNamespace(param_groups=[{"capturable": capturable}]),
    )
    assert why_foreseen(config, method, device) == why_plain(state)


def test_times_are_said_briefly() -> None:
    assert [spoken(seconds) for seconds in (0.2, 40, 210, 720, 6000)] == ["1 s", "40 s", "3.5 min", "12 min", "1.7 h"]


# Printed -----------------------------------------------------------------------------------------------------------


def test_a_plan_carries_the_estimate() -> None:
    arguments = ["plan", "--recipe", str(Path(__file__).with_name("tiny.toml"))]
    plan = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["plan"]
    found = plan["estimate"]
    assert found["schema"] == 1
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"]), abs=0.5)
    assert {"device", "name", "memory_gib", "probe_seconds"} == set(found["machine"])
    assert {"steps", "number format", "gradient checkpointing", "compiled"} < set(found["modes"])
    assert plan["pictures"] == 24  # and what it had before
    text = CliRunner().invoke(app, arguments).stdout
    for title in ("train full UNet", "find best steps", "paint to control images", "gradient checkpointing"):
        assert f"#   {title}" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("#  ")) < 100


# Afterwards --------------------------------------------------------------------------------------------------------


def events(folder: Path, *rows: tuple[str, str, float]) -> Path:
    log = folder / "events.jsonl"
    lines = [json.dumps({"stage": stage, "kind": kind, "time": time}) for stage, kind, time in rows]
    log.write_text("\n".join(['{"stage": "tra', *lines]))  # a line that was cut off
    return log


def test_only_what_was_timed_whole_is_compared(tmp_path: Path) -> None:
    took = whole_stages(
        events(
            tmp_path,
            ("train.unet", "started", 0), ("train.unet", "finished", 10),
            ("train.lora-8+16", "started", 10),  # interrupted, and gone on with
            ("train.lora-8+16", "started", 20), ("train.lora-8+16", "finished", 30),
            ("generate.unet", "started", 30), ("generate.unet", "note", 31), ("generate.unet", "finished", 35),
            ("generate.lora-8.fold-2", "started", 35), ("generate.lora-8.fold-2", "finished", 41),
            ("evaluate", "started", 41), ("evaluate", "finished", 41.5),
            ("evaluate.cuts", "started", 42), ("evaluate.cuts", "finished", 44),
            ("train.final", "started", 41), ("train.final", "finished", 44),
            ("generate.final", "started", 44), ("generate.final", "finished", 46),
            ("report", "started", 46),
        )
    )  # fmt: skip
    assert took == {"train.unet": 10, "generate": 11, "evaluate": 2.5, "final": 5}
    estimated = {"stages": [{"name": name, "seconds": 10.0} for name in ("train.unet", "train.lora", "generate")]}
    compared = compare(estimated, took)
    assert compared["stages"] == {
        "train.unet": {"seconds": 10, "estimated": 10},
        "generate": {"seconds": 11, "estimated": 10},
    }
    assert (compared["seconds"], compared["estimated"], compared["off"]) == (21, 20, 0.05)
    assert said(compared, whole=True) == "took 21 s, estimated 20 s (5 % more)"
    assert said(compared | {"off": -0.2}, whole=False).endswith("(20 % less), of the stages that were timed whole")


@given(parts=st.lists(st.floats(0.001, 60), min_size=1, max_size=5))
def test_what_is_told_is_what_is_kept(parts: list[float]) -> None:
    stages = tuple(Stage(str(number), "", seconds) for number, seconds in enumerate(parts))
    found = Estimate(REFERENCE, "", 1.0, 6, stages, {}, ())
    assert found.lines()[0].startswith(f"about {spoken(found.as_json()['seconds'])} for")


def test_a_run_says_how_far_off_its_estimate_was(tiny_run: Run) -> None:
    kept = json.loads((tiny_run.folder / "estimate.json").read_text())
    assert kept["photos"] == 6
    took = kept["took"]
    assert set(took["stages"]) == {stage["name"] for stage in kept["stages"]}
    assert took["seconds"] > 0
    assert all(row["seconds"] >= 0 for row in took["stages"].values())
    notes = [json.loads(line) for line in (tiny_run.folder / "events.jsonl").read_text().splitlines()]
    first, last = [event["message"] for event in notes if event["stage"] == "estimate"]
    assert first.startswith(f"about {spoken(kept['seconds'])} for 6 photos on this CPU")
    assert last == said(took, whole=True)


def test_what_is_known_is_not_told_again(tiny_run: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "copy", tiny_run.config)
    shutil.copytree(tiny_run.folder, run.folder)
    before = (run.folder / "estimate.json").read_bytes()
    told: list[Any] = []
    look_ahead(run, told.append)
    look_back(run, 1.0, told.append)
    assert (run.folder / "estimate.json").read_bytes() == before
    (run.folder / "estimate.json").unlink()  # a run of an older version, which is finished
    look_ahead(run, told.append)
    look_back(run, 1.0, told.append)
    assert told == []
    assert not (run.folder / "estimate.json").exists()


def test_packs_are_those_of_the_study() -> None:
    def packs(*changes: str) -> list[int]:
        return lora_packs(load_config("pocket-demo", changes))

    assert packs("study.loras_at_once=4") == [4, 4, 1, 4]  # nine LoRAs, then four further trainings
    one_rate = "study.learning_rates=[1]"
    assert packs("study.loras_at_once=4", one_rate) == [4, 4, 1]
    assert packs("study.loras_at_once=4", one_rate, "prepare.shape=bucket") == [3, 3, 3]
    assert packs("method.lora.dropout=0.1", one_rate, "study.folds=1") == [1, 1, 1]
    assert packs("study.ranks=[]") == []


def test_the_probe_is_short() -> None:
    assert 0 < probe("cpu", "no") < 1
