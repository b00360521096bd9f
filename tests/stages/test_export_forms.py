"""What is exported is the model that was asked for, in the number format, at the rank and strength that were asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import portrayal
from portrayal import export_models
from portrayal.errors import UsageError
from portrayal.models.base import BaseModel
from portrayal.models.lora_files import LoraFile, merged_loras, with_loras
from portrayal.models.methods import LORA_FILE
from portrayal.run import Event, Run
from portrayal.stages.publish import saved_layers
from tests.stages.conftest import Gallery, voice


def formats_of(path: Path) -> set[str]:
    """Number formats of the weights in a file or folder; alphas, which are always fp32, and counters apart."""
    found = set()
    for file in [path] if path.is_file() else path.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if not name.endswith((".alpha", "position_ids"))]  # noqa: SIM118
            found |= {opened.get_slice(name).get_dtype() for name in names}
    return found


def said_by(pocket: BaseModel, path: Path) -> torch.Tensor:
    """What a LoRA's file, or a pipeline's folder, says on the base or in its place."""
    if path.is_file():
        with with_loras(pocket, [LoraFile(path)]):
            return voice(pocket)
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(path / "unet", torch_dtype=torch.float32)
    return voice(replace(pocket, unet=unet.eval()))


@pytest.mark.parametrize(("precision", "name"), [("fp16", "F16"), ("bf16", "BF16"), ("fp32", "F32"), (None, "F16")])
def test_loras_have_the_number_format_that_was_asked_for(run: Run, precision: str | None, name: str) -> None:
    """Without a word that of `training.save_precision`, whatever the weights were saved in."""
    paths = export_models(run, ["kohya", "diffusers"], ["lora-4"], precision=precision)

    assert [formats_of(path) for path in paths] == [{name}, {name}]
    assert all((f"-{precision}" in path.name) == (precision in ("bf16", "fp32")) for path in paths)


@pytest.mark.parametrize(("model", "precision", "name"), [("lora-4", "bf16", "BF16"), ("unet", "fp32", "F32")])
def test_whole_models_have_the_number_format_that_was_asked_for(
    run: Run, pocket, gallery: Gallery, model: str, precision: str, name: str
) -> None:
    """UNet, VAE and text encoder; and the model's weights are in them, not the base's."""
    paths = export_models(run, ["single-file", "pipeline"], [model], precision=precision)

    assert [formats_of(path) for path in paths] == [{name}, {name}]
    found = said_by(pocket, paths[1])
    expected, plain = (gallery.expected(run, one, 1.0) for one in (model, "base"))
    assert (found - expected).abs().max() < 0.1 * (plain - expected).abs().max()


def test_every_update_and_alpha_of_a_file_is_the_trained_one_s(run: Run) -> None:
    """In both forms, to the last bit."""
    kohya, folder = export_models(run, ["kohya", "diffusers"], ["lora-4"], precision="fp32")
    layers = saved_layers(run, "lora-4", "lora-4")

    with safe_open(kohya, "pt") as opened:
        for path, layer in layers.items():
            name = "lora_unet_" + path.removeprefix("unet.").replace(".", "_")
            assert torch.equal(opened.get_tensor(f"{name}.lora_down.weight"), layer.down)
            assert torch.equal(opened.get_tensor(f"{name}.lora_up.weight"), layer.up)
            assert opened.get_tensor(f"{name}.alpha").item() == layer.alpha == 4
        assert len(opened.keys()) == 3 * len(layers)
    with safe_open(folder / LORA_FILE, "pt") as opened:
        for path, layer in layers.items():
            assert torch.equal(opened.get_tensor(f"{path}.lora.down.weight"), layer.down)
            assert torch.equal(opened.get_tensor(f"{path}.lora.up.weight"), layer.up)
        assert len(opened.keys()) == 2 * len(layers)


@pytest.mark.parametrize("alpha", [None, 2.0, 22.5])
def test_a_file_s_alpha_is_the_method_s(run: Run, pocket, alpha: float | None) -> None:
    """In the header and beside each layer; so the file does what the model does."""
    lora = run.config.method.lora.model_copy(update={"alpha": alpha})
    config = run.config.model_copy(update={"method": run.config.method.model_copy(update={"lora": lora})})
    run = Run(run.folder, config)

    (path,) = export_models(run, ["kohya"], ["lora-4"], precision="fp32")

    with safe_open(path, "pt") as opened:
        told = opened.metadata()
        alphas = {opened.get_tensor(name).item() for name in opened.keys() if name.endswith(".alpha")}  # noqa: SIM118
    expected = 32.0 if alpha is None else alpha
    assert alphas == {expected}
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("4", str(expected))
    with merged_loras(pocket, [(saved_layers(run, "lora-4", "lora-4"), 1.0)]):
        said = voice(pocket)
    assert torch.allclose(said_by(pocket, path), said, atol=1e-4)


@pytest.mark.parametrize(("model", "photos", "steps"), [("lora-4", 5, 102), ("final", 7, 199)])
def test_the_header_counts_the_photos_and_steps_of_this_training(run: Run, model: str, photos: int, steps: int) -> None:
    """A study's model never saw the photos held out in its fold; the final one saw all."""
    (path,) = export_models(run, ["kohya"], [model])

    with safe_open(path, "pt") as opened:
        told = opened.metadata()
    assert (told["ss_num_train_images"], told["ss_steps"], told["ss_seed"]) == (str(photos), str(steps), "3")
    assert told["ss_resolution"] == "(32, 32)"
    assert told["modelspec.trigger_phrase"] == "a photo of sks woman"


def test_each_model_of_several_is_exported_under_its_own_name(run: Run, pocket, gallery: Gallery) -> None:
    paths = export_models(run, ["kohya"], ["final", "lora-2", "lora-4"], precision="fp32")

    for path, name in zip(paths, ["final", "lora-2", "lora-4"], strict=True):
        assert path.name == f"ann-{name}-fp32.safetensors"
        assert torch.allclose(said_by(pocket, path), gallery.expected(run, name, 1.0), atol=1e-4)


def test_a_strength_counts_where_a_lora_is_merged_and_is_refused_elsewhere(run: Run, gallery: Gallery, pocket) -> None:
    """A LoRA's file is as it was trained: who loads it says how strongly it counts."""
    with pytest.raises(UsageError, match="strength"):
        export_models(run, ["kohya", "diffusers"], ["lora-4"], strength=0.5)
    assert not (run.folder / "exports").exists()
    notes: list[Event] = []

    lora, folder = export_models(
        run, ["kohya", "pipeline"], ["lora-4"], strength=0.5, precision="fp32", progress=notes.append
    )

    assert torch.allclose(said_by(pocket, folder), gallery.expected(run, "lora-4", 0.5), atol=1e-4)
    assert torch.allclose(said_by(pocket, lora), gallery.expected(run, "lora-4", 1.0), atol=1e-4)
    assert any("full strength" in event.message for event in notes)


def test_photos_are_handed_on_with_their_own_captions(run: Run, tmp_path: Path) -> None:
    """All that are trained on, those that a fold holds out too."""
    folder = portrayal.export_photos(run, tmp_path / "out", repeats=3)

    assert folder.name == "3_sks woman"
    expected = [f"{number:012x}.{end}" for number, end in product(range(7), ("png", "txt"))]
    assert sorted(path.name for path in folder.iterdir()) == expected
    for number in range(7):
        assert (folder / f"{number:012x}.txt").read_text() == f"sks woman {number}\n"
        assert (folder / f"{number:012x}.png").read_bytes() == (
            run.dataset_folder / "images" / f"{number:012x}.png"
        ).read_bytes()
