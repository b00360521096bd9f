"""Several processes are one: the same weights bit for bit, shared, interrupted, and gone on with on another number.

Two gloo processes on the CPU. The settings say how many forward passes a step has and how many LoRAs train at once, so
that nothing depends on how many processes there are.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import portrayal
from portrayal.cli import app
from portrayal.config import Config, LoraMethod, UnetMethod
from portrayal.data.class_images import ensure_class_images
from portrayal.errors import MachineError, UsageError
from portrayal.processes import ALONE, Processes, deal, here
from portrayal.run import Run
from portrayal.scale import launch
from portrayal.settings import load_config
from portrayal.stages.train import shared_out
from portrayal.training.sharing import shares_steps

TINY = Path(__file__).parents[1] / "tiny.toml"
SETTINGS = [
    "training.gradient_accumulation_steps=4",
    "training.num_class_images=2",
    "training.save_precision=fp32",
    "training.shard_optimizer=true",
    "method.unet.train_text_encoder=true",
    "method.unet.max_train_steps=2",
    "method.lora.max_train_steps=2",
    "study.loras_at_once=1",
    "study.readings=1",
    "generation.batch_size=1",
]

Hashes = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def prepared(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with nothing trained yet; its class images are not painted."""
    folder = tmp_path_factory.mktemp("prepared") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(folder.parent / "cache"))
        portrayal.prepare(photos, load_config(str(TINY), SETTINGS), folder, consent=True)
        yield folder


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by one process, with class images of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(tmp_path_factory.mktemp("own")))
        return trained(prepared, tmp_path_factory.mktemp("alone") / "run")


def trained(prepared: Path, folder: Path) -> Path:
    if folder != prepared:
        shutil.copytree(prepared, folder)
    portrayal.train(Run.open(folder))
    return folder


def results(folder: Path, hashes: Hashes) -> dict[str, str]:
    found = {name: digest for pattern in ("*.safetensors", "curve.json", "heldout.json")
             for name, digest in hashes(folder, pattern).items()}  # fmt: skip
    assert {name.split("/")[1] for name in found if name.startswith("models/")} >= {"unet", "lora-2", "lora-4.fold-2"}
    return found


def test_two_processes_train_what_one_does(prepared: Path, alone: Path, tmp_path: Path, hashes: Hashes) -> None:
    """Full UNet and text encoder by shared steps with a sharded optimizer, LoRAs dealt out, class images painted."""
    folder = tmp_path / "run"
    shutil.copytree(prepared, folder)
    assert launch.share_out(["train", str(folder)], 2, cpu=True) == 0
    assert results(folder, hashes) == results(alone, hashes)
    assert record(folder) == record(alone)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def record(folder: Path) -> list[str]:
    """What was logged of each step, without its speed."""
    return [
        line.split(', "images_per_second"')[0]
        for path in sorted((folder / "models").glob("*/training.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_killed_while_two_shared_a_step_one_goes_on(
    prepared: Path, alone: Path, tmp_path: Path, hashes: Hashes
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(prepared, folder)
    said = [tmp_path / "0", tmp_path / "1"]
    started = launch.start(["train", str(folder)], said, cpu=True)
    try:
        until(lambda: [*(folder / "models" / ".unet.training" / "checkpoint").glob("0*")], started)
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert not (folder / "models" / "unet" / "method.json").is_file()
    trained(folder, folder)
    assert results(folder, hashes) == results(alone, hashes)
    assert record(folder) == record(alone)


def until(condition: Callable[[], object], started: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in started)
        time.sleep(0.01)


def test_accelerate_s_launcher_starts_the_same(alone: Path, tmp_path: Path) -> None:
    """A finished run: the processes meet, find nothing to do, and the first speaks for both."""
    shutil.copytree(alone, tmp_path / "run")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--main_process_port", str(launch.free_port()), "-m", "portrayal", "train", str(tmp_path / "run")]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("portrayal generate") == 1
    assert done.stderr.count("train unet: done before") == 1


# What goes wrong -------------------------------------------------------------------------------------------------


def test_a_mistake_is_said_once_with_its_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch.share_out(["train", str(tmp_path)], 2, cpu=True) == UsageError.exit_code
    assert capfd.readouterr().err.count("holds no run") == 1


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(MachineError, match="this machine has 2 GPUs"):
        launch.share_out(["train", "run"], 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(MachineError, match="has no GPUs"):
        launch.share_out(["train", "run"], 2)


@pytest.mark.parametrize("flag", [["--gpus", "2"], ["--gpus=2"]])
def test_the_flag_hands_the_rest_of_the_command_on(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, flag: list[str]
) -> None:
    handed_on: list[Any] = []
    monkeypatch.setattr(portrayal, "share_out", lambda *call: handed_on.append(call) or 7, raising=False)
    words = ["train", str(prepared), *flag, "--model", "unet"]
    monkeypatch.setattr(sys, "argv", ["portrayal", *words])
    assert CliRunner().invoke(app, words).exit_code == 7
    assert handed_on == [(["train", str(prepared), "--model", "unet"], 2)]


@pytest.fixture
def children() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_when_one_fails_the_others_are_told_to_stop(children: Any) -> None:
    stopping = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); print(flush=True)\n"
    started = [children(stopping + "signal.pause()"), children("import time; time.sleep(1); raise SystemExit(7)")]
    assert launch.wait(started) == 1
    assert [process.returncode for process in started] == [130, 7]


def test_what_does_not_stop_is_ended(children: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.2)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pause(); signal.pause()"
    started = [children(deaf), children("import time; time.sleep(1); raise SystemExit(6)")]
    assert launch.exit_code(started[launch.wait(started) or 0].returncode) == 6
    assert started[0].returncode == -signal.SIGKILL
    assert launch.exit_code(-signal.SIGKILL) == 137


# Shares ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1000)), st.integers(1, 5))
def test_items_are_dealt_once_and_evenly(costs: list[float], count: int) -> None:
    owners = deal(costs, count)
    load = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == one) for one in range(count)]
    assert len(owners) == len(costs)
    assert max(load) <= sum(costs) / count + max(costs, default=0) + 1e-6
    shares = [Processes(rank, count).mine(range(len(costs)), costs) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == list(range(len(costs)))


def test_one_process_is_what_it_was() -> None:
    assert here() == ALONE
    assert ALONE.first
    assert ALONE.any(True)
    assert ALONE.agree({"a": (1, None)}) == {"a": (1, None)}
    assert ALONE.mine(["b", "a"], [1, 2]) == ["b", "a"]


def test_a_launcher_s_only_process_is_no_distributed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate would open a process group where it finds these."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    here.cache_clear()
    assert here() == ALONE
    assert not {"WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"} & os.environ.keys()


@pytest.mark.parametrize(("passes", "count", "shared"), [(2, 2, True), (4, 2, True), (3, 2, False), (1, 2, False)])
def test_a_step_is_shared_where_each_process_has_as_many_passes(passes: int, count: int, shared: bool) -> None:
    config = load_config(None, [f"training.gradient_accumulation_steps={passes}"])
    assert shares_steps(UnetMethod(), config, count) is shared
    assert not shares_steps(LoraMethod(), config, count)
    assert not shares_steps(UnetMethod(), config, 1)


def test_what_trains_together_is_pinned_by_the_settings_and_else_gives_each_a_share(tmp_path: Path) -> None:
    def shares(count: int, *settings: str) -> list[tuple[list[str], int | None]]:
        run = Run(tmp_path, planned(*settings))
        trials = [trial for trial in run.config.trials.values() if trial.model != "unet"]
        return shared_out(run, trials, Processes(0, count))

    assert [len(names) for names, _ in shares(1)] == [4]
    assert [len(names) for names, _ in shares(2)] == [2, 2]
    assert {owner for _, owner in shares(2)} == {0, 1}
    pinned = "study.loras_at_once=4"
    assert [names for names, _ in shares(2, pinned)] == [names for names, _ in shares(1, pinned)]


def planned(*settings: str) -> Config:
    return portrayal.make_plan(str(TINY), list(settings)).config


@pytest.mark.parametrize(
    "setting",
    ["training.optimizer.name=adafactor", "method.unet.master_weights=false", "training.mixed_precision=fp16"],
)
def test_shards_are_of_adamw_with_masters(setting: str) -> None:
    with pytest.raises(UsageError, match="shard_optimizer"):
        load_config(None, ["training.shard_optimizer=true", setting])


# What runs share -------------------------------------------------------------------------------------------------


def test_class_images_that_two_runs_want_at_once_are_painted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path))
    painted: list[int] = []
    found: list[list[Any]] = []

    def paint(numbers: Sequence[int]) -> Iterator[Image.Image]:
        for number in numbers:
            time.sleep(0.05)
            painted.append(number)
            yield Image.new("RGB", (8, 8), (number, 0, 0))

    def want() -> None:
        found.append([image.getpixel((0, 0)) for image in ensure_class_images("key", 4, paint, batch_size=2)])

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert painted == [0, 1, 2, 3]
    assert found == [[(number, 0, 0) for number in range(4)]] * 3
