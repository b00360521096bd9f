"""Room on the machine: what a run needs of disk and memory, worked out by hand, and refused where it is not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from portrayal import planning
from portrayal.config import Config
from portrayal.errors import MachineError
from portrayal.estimate.machine import Machine
from portrayal.estimate.reckoning import estimate
from portrayal.planning import GIB, check_disk, check_memory, disk_needed, machine_memory, memory_needed
from portrayal.settings import effort_settings, load_config

WIDTH = 1000


@pytest.fixture
def parts() -> dict[str, nn.Module]:
    """A base of one layer each, so that weights can be counted in the head."""
    unet = nn.ModuleDict({"to_q": nn.Linear(WIDTH, WIDTH, bias=False)})
    text_encoder = nn.ModuleDict({"q_proj": nn.Linear(WIDTH, WIDTH, bias=False)})
    return {"unet": unet, "text_encoder": text_encoder}


def config(*settings: str) -> Config:
    fixed = ["method.lora.target_modules=['to_q']", "study.ranks=[8]", "study.learning_rates=[1]"]
    fixed += ["study.folds=2", "study.unet_folds=1"]
    fixed += [f"method.{kind}.train_text_encoder=false" for kind in ("unet", "lora")]
    more = ["study.readings=3", "training.save_precision=fp16", "study.seeds=1", "study.loras_at_once=1"]
    return load_config("pocket-demo", [*fixed, *more, *settings])


FULL, LORA = WIDTH**2, 8 * 2 * WIDTH
"""Weights of the full UNet, and of the LoRA of rank 8."""


def kept(unet: int, lora: int, bytes_each: int = 2) -> float:
    return bytes_each * (unet * FULL + lora * LORA) / GIB


def checkpoints(weights: int, count: int) -> float:
    return count * 12 * weights / GIB  # itself and two averages, in fp32


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        # three readings of one full UNet and of two trainings of the LoRA; no checkpoint
        (["training.checkpointing_steps=0"], kept(3, 6)),
        (["training.checkpointing_steps=0", "training.save_precision=fp32"], kept(3, 6, 4)),
        (["training.checkpointing_steps=0", "study.readings=1"], kept(1, 2)),
        (["training.checkpointing_steps=0", "study.folds=3", "study.seeds=2"], kept(3, 3 * 3 * 2)),
        (["training.checkpointing_steps=0", "study.full_unet=false"], kept(0, 6)),
        # the text encoder is as large here
        (["training.checkpointing_steps=0", "method.unet.train_text_encoder=true"], kept(6, 6)),
        # one checkpoint more than are kept is there while it is written
        (["training.checkpointing_steps=5", "training.checkpoints_total_limit=1"], kept(3, 6) + checkpoints(FULL, 2)),
        (["training.checkpointing_steps=5", "training.checkpoints_total_limit=3"], kept(3, 6) + checkpoints(FULL, 4)),
        # of a pack it holds all that is trained together
        (
            ["training.checkpointing_steps=5", "study.full_unet=false", "study.loras_at_once=2"],
            kept(0, 6) + checkpoints(2 * LORA, 2),
        ),
        (["training.checkpointing_steps=5", "study.full_unet=false"], kept(0, 6) + checkpoints(LORA, 2)),
    ],
)
def test_disk_by_hand(parts: dict[str, nn.Module], settings: list[str], needed: float) -> None:
    fixed = ["training.checkpoints_total_limit=1", *settings]
    assert disk_needed(config(*fixed), parts) - planning.PICTURES_GIB == pytest.approx(needed, rel=1e-9)
    assert planning.PICTURES_GIB == 0.1


def test_a_run_begins_where_there_is_room_on_its_own_disk_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(free: float) -> Callable[[Path], object]:
        def found(path: Path) -> object:
            asked.append(path)
            return shutil._ntuple_diskusage(100 * GIB, int(90 * GIB), int(free * GIB))

        return found

    monkeypatch.setattr(shutil, "disk_usage", usage(2.0))
    check_disk(tmp_path / "not" / "yet", 2.0)
    with pytest.raises(MachineError, match=r"2\.00 GiB free and the run needs 2\.01"):
        check_disk(tmp_path / "not" / "yet", 2.01)
    assert set(asked) == {tmp_path}


@pytest.mark.parametrize(
    ("settings", "device", "needed"),
    [
        ([], "cpu", 4 + (4 + 12) + 12),  # the base, what trains it with its gradient, and a checkpoint of it
        (["study.full_unet=false"], "cpu", 4),
        ([], "cuda", 12),  # a GPU holds the rest
        (["study.full_unet=false"], "cuda", 0),
    ],
)
def test_memory_by_hand(settings: list[str], device: str, needed: int) -> None:
    weights = 860_000_000
    assert memory_needed(config(*settings), device, weights) == pytest.approx(0.8 + needed * weights / GIB)


def test_a_run_begins_where_memory_is_free_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = memory_needed(config(), "cpu", 1000)
    monkeypatch.setattr(planning, "machine_memory", lambda: (64.0, needed))
    check_memory(config(), "cpu", 1000)
    monkeypatch.setattr(planning, "machine_memory", lambda: (64.0, needed - 0.01))
    with pytest.raises(MachineError, match=r"of 64\.0 GiB of memory are free"):
        check_memory(config(), "cpu", 1000)


def told_by(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """What the system's files tell, those that are not named being none."""
    read = Path.read_text

    def read_text(path: Path, *arguments: object, **named: object) -> str:
        if str(path).startswith(("/proc/meminfo", "/sys/fs/cgroup")):
            if str(path) not in files:
                raise FileNotFoundError(path)
            return files[str(path)]
        return read(path, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", read_text)
        return machine_memory()


def test_memory_is_what_the_system_and_the_container_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**20  # kB
    machine = {"/proc/meminfo": f"MemTotal: {64 * gib} kB\nMemFree: {1 * gib} kB\nMemAvailable: {40 * gib} kB\n"}
    assert told_by(machine, monkeypatch) == (64, 40)
    group = "/sys/fs/cgroup/memory."
    assert told_by(machine | {f"{group}max": f"{16 * GIB}", f"{group}current": f"{10 * GIB}"}, monkeypatch) == (16, 6)
    assert told_by(machine | {f"{group}max": f"{99 * GIB}", f"{group}current": f"{10 * GIB}"}, monkeypatch) == (64, 40)
    assert told_by(machine | {f"{group}max": "max\n", f"{group}current": "0"}, monkeypatch) == (64, 40)
    total, free = told_by({}, monkeypatch)
    assert total == free > 0


def test_efforts_are_what_they_are_called() -> None:
    def study(effort: str) -> tuple[object, ...]:
        found = load_config("sd15-24gb", effort_settings(effort)).study
        return found.folds, found.unet_folds, found.seeds, found.readings, found.final

    quick, balanced, thorough = study("quick"), study("balanced"), study("thorough")
    assert quick == (1, 1, 1, 3, False)
    assert thorough[:3] == (5, 5, 3)
    assert balanced == (3, 1, 1, thorough[3], True)


@pytest.mark.parametrize(
    ("part", "on", "off"),
    [
        ("final", "study.final=true", "study.final=false"),
        ("train.unet", "study.full_unet=true", "study.full_unet=false"),
        ("train.lora", "study.ranks=[8]", "study.ranks=[]"),
        ("class_images", "training.prior_loss_weight=1", "training.prior_loss_weight=0"),
        ("control", "control.enabled=true", "control.enabled=false"),
    ],
)
@pytest.mark.parametrize("folds", [1, 3])
def test_every_part_of_a_run_is_in_its_estimate_where_it_is_done_and_nowhere_else(
    part: str, on: str, off: str, folds: int
) -> None:
    def parts(setting: str) -> dict[str, float]:
        settings = [f"study.folds={folds}", "study.unet_folds=1", setting]
        found = load_config("sd15-24gb", settings)
        packs = [2] if any(name != "unet" for name in found.methods) else []
        stages = estimate(found, Machine("cuda", "a GPU", 80.0, 0.01), unet_weights=860_000_000, packs=packs).stages
        return {stage.name: stage.seconds for stage in stages}

    with_it, without = parts(on), parts(off)
    assert with_it[part] > 0
    assert part not in without
    always = {"load", "prepare", "steps", "generate", "evaluate", "report"}
    assert with_it.keys() >= always
    assert without.keys() >= always
    assert sum(with_it.values()) > sum(without.values())
