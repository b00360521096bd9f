"""Trained models in the forms of other tools, from one small run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from portrayal import Run, export_models
from portrayal.cli import app
from portrayal.errors import UsageError
from portrayal.models.lora_files import LoraFile, parse_lora, with_loras
from portrayal.models.saved import tuned


@pytest.fixture
def run(tiny_run, tmp_path) -> Run:
    shutil.copytree(tiny_run.folder, tmp_path / "ann")
    return Run.open(tmp_path / "ann")


def lora_of(run: Run) -> str:
    return f"lora-{max(run.config.study.ranks)}"


@torch.no_grad()
def output_of(base) -> torch.Tensor:
    latents = torch.randn(1, base.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    return base.unet(latents, torch.tensor([300]), base.encode_prompts(["a photo of sks woman"])).sample


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def load_pipeline(path: Path, config: Path):
    from diffusers import StableDiffusionPipeline

    if path.is_dir():
        return StableDiffusionPipeline.from_pretrained(path, local_files_only=True)
    return StableDiffusionPipeline.from_single_file(
        str(path), config=str(config), local_files_only=True, safety_checker=None
    )


def test_every_form_of_a_lora_says_the_same(run, pocket) -> None:
    name = lora_of(run)
    with tuned(pocket, run.model_folder(name)):
        said = output_of(pocket)

    kohya, diffusers, checkpoint, pipeline = sorted_by_form(
        export_models(run, ["kohya", "diffusers", "single-file", "pipeline"], [name], precision="fp32")
    )

    for lora in (kohya, diffusers):
        with with_loras(pocket, [parse_lora(str(lora))]):
            assert error(output_of(pocket), said) < 1e-4
    for whole in (checkpoint, pipeline):
        loaded = load_pipeline(whole, pocket.source.path)
        before = pocket.unet, pocket.text_encoder
        pocket.unet, pocket.text_encoder = loaded.unet, loaded.text_encoder
        found = output_of(pocket)
        pocket.unet, pocket.text_encoder = before
        assert error(found, said) < 1e-4
    assert (pipeline / "README.md").is_file()


def sorted_by_form(paths: list[Path]) -> list[Path]:
    """kohya, diffusers, checkpoint, pipeline."""
    ends = ("-diffusers", "-checkpoint.safetensors", "-pipeline")
    rest = [path for path in paths if not path.name.endswith(ends)]
    return rest + [path for end in ends for path in paths if path.name.endswith(end)]


def test_a_full_unet_is_a_checkpoint_and_a_pipeline(run, pocket) -> None:
    with tuned(pocket, run.model_folder("unet")):
        said = output_of(pocket)
    notes: list[str] = []

    paths = export_models(run, models=["unet"], progress=lambda event: notes.append(event.message))

    assert [path.name for path in paths] == ["ann-unet-checkpoint.safetensors", "ann-unet-pipeline"]
    assert any("no kohya file" in note for note in notes)
    loaded = load_pipeline(paths[0], pocket.source.path)
    before, pocket.unet = pocket.unet, loaded.unet.float()
    found, pocket.unet = output_of(pocket), before
    assert error(found, said) < 2e-2  # half precision


def test_strength_and_rank_are_in_the_name_and_do_what_they_say(run, pocket) -> None:
    name, notes = lora_of(run), list[str]()
    (whole,) = export_models(run, ["kohya"], [name], precision="fp32")
    with with_loras(pocket, [LoraFile(whole, 0.5)]):
        half = output_of(pocket)

    (checkpoint,) = export_models(run, ["single-file"], [name], precision="fp32", strength=0.5)
    (lowered,) = export_models(run, ["kohya"], [name], rank=1, progress=lambda event: notes.append(event.message))

    assert checkpoint.name == f"ann-{name}-at-0.5-fp32-checkpoint.safetensors"
    loaded = load_pipeline(checkpoint, pocket.source.path)
    before, pocket.unet = pocket.unet, loaded.unet
    found, pocket.unet = output_of(pocket), before
    assert error(found, half) < 1e-4
    assert lowered.name == f"ann-{name}-rank-1.safetensors"
    assert any("loses" in note and "%" in note for note in notes)
    with safe_open(lowered, "pt") as opened:
        assert opened.metadata()["ss_network_dim"] == "1"
        assert all(opened.get_tensor(key).shape[0] == 1 for key in opened.keys() if "lora_down" in key)  # noqa: SIM118


def test_the_recommended_model_is_exported_unless_another_is_named(run, tmp_path) -> None:
    out = tmp_path / "elsewhere"

    (path,) = export_models(run, ["kohya"], out=out)

    assert path == out / "ann-final.safetensors"
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["ss_output_name"] == "ann-final"
    assert str(tmp_path) not in json.dumps(metadata)


def test_what_cannot_be_meant_is_said_and_nothing_is_written(run) -> None:
    name = lora_of(run)
    for arguments, cause in [
        ({"to": ["kohia"]}, "did you mean kohya"),
        ({"models": ["lora-999"]}, "no model"),
        ({"to": ["kohya"], "models": ["unet"]}, "full UNet"),
        ({"models": ["unet"], "rank": 2}, "neither a strength nor a rank"),
        ({"models": ["base"]}, "no model"),
        ({"models": [name], "precision": "fp8"}, "fp8"),
        ({"models": [name], "rank": 0}, "1 or more"),
    ]:
        with pytest.raises(UsageError, match=cause):
            export_models(run, **arguments)

    assert not (run.folder / "exports").exists()


def test_the_command_prints_the_files(run) -> None:
    result = CliRunner().invoke(app, ["export", str(run.folder), "--to", "kohya, diffusers", "--json"])

    assert result.exit_code == 0, result.output
    files = json.loads(result.stdout)["files"]
    assert [Path(file).exists() for file in files] == [True, True]


def test_the_command_refuses_with_an_exit_code(run) -> None:
    result = CliRunner().invoke(app, ["export", str(run.folder), "--to", "onnx"])

    assert result.exit_code == 2
    assert "onnx" in result.output
