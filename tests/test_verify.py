"""`portrayal verify` finds every damage, and `portrayal doctor` what would stop a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import portrayal
from portrayal import checksums
from portrayal.cli import app
from portrayal.run import Run
from portrayal.stages import doctor
from portrayal.stages.verify import lacking


@pytest.fixture
def copy(tiny_run: Run, tmp_path: Path) -> Run:
    """The shared run, copied: a test may change it."""
    shutil.copytree(tiny_run.folder, tmp_path / "copy")
    return Run.open(tmp_path / "copy")


def test_an_untouched_run_is_found_whole(tiny_run: Run) -> None:
    found = portrayal.verify_run(tiny_run)
    assert found.problems == ()
    assert found.unfinished == ()
    assert set(found.models) == {"base", "unet", "lora-2", "lora-4", "final"}
    made = {name for name, _ in checksums.made(tiny_run.folder)}
    assert found.files == len(made) > 100
    for name in ("run.json", "scores.json", "report.html", "dataset/manifest.json", "images/unet/street/0.png"):
        assert name in made


def test_checksums_are_read_again_of_what_changed_only(copy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`copytree` keeps the times: nothing is read, and the file stays as it is."""
    before = (copy.folder / checksums.NAME).read_bytes()
    monkeypatch.setattr(checksums, "sha256", lambda path: pytest.fail(f"{path} was read"))
    checksums.keep(copy.folder)
    assert (copy.folder / checksums.NAME).read_bytes() == before


@pytest.mark.parametrize(
    "name", ["scores.json", "report.md", "models/lora-2/lora-2.kohya.safetensors", "images/base/street/1.png"]
)
@pytest.mark.parametrize("how", ["gone", "shorter", "one bit"])
def test_damage_is_told_by_name(copy: Run, name: str, how: str) -> None:
    path = copy.folder / name
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content[:-1]) if how == "shorter" else bytes(content))
    (said,) = checksums.faults(copy.folder)
    assert said == f"{name} is {'gone' if how == 'gone' else 'not what was written'}"


def test_weights_that_are_not_finite_or_whole_do_not_paint(copy: Run) -> None:
    """Also where no checksum knows of it."""
    (copy.folder / checksums.NAME).unlink()
    unet = copy.model_folder("unet") / "unet" / "diffusion_pytorch_model.safetensors"
    broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(unet).items()}
    save_file(broken, unet, metadata={"format": "pt"})
    lora = copy.model_folder("lora-2") / "pytorch_lora_weights.safetensors"
    lora.write_bytes(lora.read_bytes()[:-100])
    result = CliRunner().invoke(app, ["verify", str(copy.folder), "--json"])
    assert result.exit_code == 5
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["models"] == ["base", "lora-4", "final"]
    assert any(problem.startswith("unet does not paint: its picture is of one colour") for problem in told["problems"])
    assert any(problem.startswith("lora-2 does not paint") for problem in told["problems"])
    assert "no checksums yet" in " ".join(told["unfinished"])
    assert "Delete what is named" in told["error"]["fix"]


def test_what_is_not_done_yet_is_told_and_is_no_damage(copy: Run) -> None:
    shutil.rmtree(copy.model_folder("lora-4.fold-2"))
    (copy.folder / "images" / "lora-2" / "street" / "0.png").unlink()
    (copy.folder / "report.html").unlink()
    (copy.folder / "models" / ".unet.33.tmp").touch()
    assert lacking(copy) == [
        "lora-4.fold-2 is not trained",
        "lora-2 has not painted all its pictures",
        "there is no report.html",
        "models/.unet.33.tmp is half written; the next command clears it",
    ]


# The doctor ------------------------------------------------------------------------------------------------------


def test_a_machine_that_runs_these_tests_is_well(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--out", str(tmp_path), "--json"])
    told = json.loads(result.stdout)
    names = ["Python", "torch", "precision", "torchvision", "libraries", "OpenCV", "memory", "disk", "writing"]
    assert [check["name"] for check in told["checks"]] == [*names, "models", "network", "port"]
    assert all(check["said"] for check in told["checks"])
    assert all(check["fix"] for check in told["checks"] if check["state"] == "fail")
    assert [check for check in told["checks"] if check["state"] == "fail" and check["name"] != "memory"] == []


def answers(text: str = "", code: int = 0) -> Any:
    """A process that ended so."""
    return lambda *_, **__: subprocess.CompletedProcess([], code, text, text)


def test_what_would_stop_a_run_is_told_with_the_command_that_mends_it(tmp_path: Path, monkeypatch) -> None:
    fault = "Traceback\nRuntimeError: operator torchvision::nms does not exist"
    with monkeypatch.context() as patch:
        patch.setattr(doctor, "find_spec", lambda name: object())
        patch.setattr(subprocess, "run", answers(fault, 1))
        found = doctor.look_torchvision()
        assert (found.state, found.fix) == ("fail", "pip uninstall -y torchvision")
        assert "nms does not exist" in found.said
        assert doctor.look_libraries().state == "fail"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "pycache_prefix", str(tmp_path))  # where no bytecode is
        patch.setattr(subprocess, "run", answers())  # that they can be imported, the test before sees
        found = doctor.look_libraries()
        assert found.state == "warn"
        assert "keeps no bytecode" in found.said
        assert found.fix == f'python -m compileall -q "{Path(diffusers.__file__).parents[1]}"'
    with monkeypatch.context() as patch:
        patch.setattr(doctor, "packages_distributions", lambda: {"cv2": ["opencv-python", "opencv-python-headless"]})
        found = doctor.look_opencv()
        assert found.state == "fail"
        assert found.fix.startswith("pip uninstall -y opencv-python &&")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
        patch.setattr(subprocess, "run", answers("570.86.15\n"))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.version, "cuda", None)
        found = doctor.look_torch()
        assert found.state == "fail"
        assert "--index-url" in found.fix
        patch.setattr(torch.version, "cuda", "13.0")
        assert "570.86.15" in doctor.look_torch().said
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
        assert doctor.look_disk(tmp_path).state == "fail"
        patch.setattr(doctor, "machine_memory", lambda: (16.0, 1.0))
        assert doctor.look_memory().state == "fail"
    (tmp_path / "file").touch()
    assert doctor.look_writing(tmp_path / "file" / "runs").state == "fail"
