"""Finding a base: what can be meant is found, what cannot is said with the remedy, and nothing is fetched twice."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from portrayal.config import BaseConfig
from portrayal.errors import WeightsError
from portrayal.models import source as source_module
from portrayal.models.base import load_base
from portrayal.models.source import BaseSource, find_base
from portrayal.pocket import WEIGHTS

CPU = torch.device("cpu")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no copies on this machine."""
    monkeypatch.setattr(source_module, "online", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A diffusers folder of our own: pocket's."""
    target = tmp_path / "mine"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(WEIGHTS / part, target / part)
    return target


def refusal(name: object, **config: str) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        find_base(BaseConfig(name=str(name), **config))
    assert caught.value.remedy
    assert "\n" not in caught.value.cause
    return caught.value


def edit(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "meant"), [("pockt", "pocket"), ("sd-15", "sd15"), ("Pocket", "pocket")])
def test_an_unknown_name_suggests_one(name: str, meant: str) -> None:
    assert f"did you mean {meant}?" in refusal(name).cause


@pytest.mark.parametrize("name", ["", "  ", "x" * 300, "what is this", "a/b/c/d", "ümläut"])
def test_a_name_that_is_nothing_is_refused(name: str) -> None:
    refusal(name)


def test_auto_is_pocket_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = find_base(BaseConfig())
    assert found.kind == "pocket"
    assert "no GPU" in found.reason


def test_auto_is_pocket_without_a_network(monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(source_module, "is_cached", lambda *_: False)
    found = find_base(BaseConfig())
    assert found.kind == "pocket"
    assert "no network" in found.reason


@pytest.mark.parametrize("name", ["sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", "nobody/nothing"])
def test_a_hub_id_offline_is_refused_quickly(offline: None, name: str) -> None:
    started = time.monotonic()
    error = refusal(name)
    assert time.monotonic() - started < 5
    assert "cannot be reached" in error.cause
    assert "hf download" in error.remedy


@pytest.mark.parametrize("name", ["owner/na..me", "owner/name--x", "owner/name.", "owner/-x", f"owner/{'x' * 120}"])
def test_what_the_hub_would_never_call_a_model_is_refused(offline: None, name: str) -> None:
    refusal(name)


# Folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_found_and_loaded(folder: Path, pocket) -> None:
    found = find_base(BaseConfig(name=str(folder)))
    assert (found.kind, found.name) == ("folder", "mine")
    base = load_base(found, device=CPU, dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(base.unet.parameters(), pocket.unet.parameters(), strict=True))
    assert found.weight_hash() == pocket.source.weight_hash()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert part in refusal(folder).cause


def test_an_empty_folder_is_no_base(tmp_path: Path) -> None:
    assert "unet, vae, text_encoder" in refusal(tmp_path).cause


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    for file in (folder / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    assert "pickled weights are never loaded" in refusal(folder).cause


def test_sdxl_is_refused(folder: Path) -> None:
    edit(folder / "unet" / "config.json", lambda values: values.update(addition_embed_type="text_time"))
    assert "SDXL" in refusal(folder).remedy


def test_inpainting_is_refused(folder: Path) -> None:
    edit(folder / "unet" / "config.json", lambda values: values.update(in_channels=17))
    assert "inpainting" in refusal(folder).cause


@pytest.mark.parametrize("content", ["{", "[]", ""])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_damaged_config_is_said(folder: Path, part: str, content: str) -> None:
    (folder / part / "config.json").write_text(content)
    refusal(folder)


def test_damaged_weights_of_a_folder_are_said(folder: Path) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_base(find_base(BaseConfig(name=str(folder))), device=CPU, dtype=torch.float32)


# Single files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_pickle_is_refused_unopened(tmp_path: Path, name: str, exists: bool) -> None:
    if exists:
        (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n")
    assert "never loaded" in refusal(tmp_path / name).cause


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "model.safetensors").cause


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08" + b"\0" * 7 + b"{}      ", b"\xff" * 64])
def test_a_damaged_file_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refusal(path, config=str(WEIGHTS))


def test_a_truncated_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(64, 8, 3, 3)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged" in refusal(path, config=str(WEIGHTS)).cause


def test_a_lora_is_no_base(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(8, 2)}, path)
    assert "no checkpoint of Stable Diffusion" in refusal(path, config=str(WEIGHTS)).cause


def test_an_inpainting_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inpaint.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(64, 17, 3, 3)}, path)
    assert "inpainting" in refusal(path, config=str(WEIGHTS)).cause


def test_an_sdxl_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "xl.safetensors"
    first = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(64, 8, 3, 3)}
    save_file(first | {"conditioner.embedders.0.transformer.x": torch.zeros(2)}, path)
    assert "SDXL" in refusal(path, config=str(WEIGHTS)).remedy


def test_a_config_folder_that_lacks_configs_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(as_ldm_unet(WEIGHTS), path)
    (tmp_path / "configs").mkdir()
    assert "configs" in refusal(path, config=str(tmp_path / "configs")).cause


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE_NAMES = {
    r"mid_block\.attentions\.0\.": "mid.attn_1.",
    r"mid_block\.resnets\.0": "mid.block_1",
    r"mid_block\.resnets\.1": "mid.block_2",
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"group_norm": "norm",
    r"to_out\.0": "proj_out",
    r"\bto_([qkv])\b": r"\1",
    r"down_blocks\.(\d)\.resnets": r"down.\1.block",
    r"down_blocks\.(\d)\.downsamplers\.0": r"down.\1.downsample",
}


def state_of(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def ldm_unet_name(name: str, layers: int) -> str:
    """CompVis' name of a weight of diffusers' UNet with so many layers in a block."""
    for ours, theirs in UNET_ENDS.items():
        name = re.sub(rf"^{ours}\b", theirs, name)
    if found := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(?:conv\.)?(.*)", name):
        way, block, kind, layer, rest = found.groups()
        number = int(block) * (layers + 1) + (layers if kind.endswith("samplers") else int(layer))
        side = f"input_blocks.{number + 1}" if way == "down" else f"output_blocks.{number}"
        up = "1.conv" if block == "0" else "2.conv"  # the first block has no attention
        inside = {"resnets": "0", "attentions": "1", "downsamplers": "0.op", "upsamplers": up}
        rest = name.split(f"{kind}.{layer}.")[1] if not kind.endswith("samplers") else rest
        name = f"{side}.{inside[kind]}.{rest}"
    for ours, theirs in RESNET.items():
        name = re.sub(rf"\b{ours}\b", theirs, name) if "transformer_blocks" not in name else name
    return f"model.diffusion_model.{name}"


def as_ldm_unet(folder: Path) -> dict[str, Tensor]:
    layers = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
    return {ldm_unet_name(name, layers): value for name, value in state_of(folder / "unet").items()}


def as_ldm_vae(folder: Path) -> dict[str, Tensor]:
    blocks = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    named = {}
    for name, value in state_of(folder / "vae").items():
        for ours, theirs in VAE_NAMES.items():
            name = re.sub(ours, theirs, name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
        linear = "attn_1" in name and value.ndim == 2
        named[f"first_stage_model.{name}"] = value[:, :, None, None].contiguous() if linear else value
    return named


def as_ldm_text(folder: Path) -> dict[str, Tensor]:
    prefix, weights = "cond_stage_model.transformer.text_model.", state_of(folder / "text_encoder")
    return {prefix + name.removeprefix("text_model."): value for name, value in weights.items()}


def test_a_checkpoint_in_the_original_layout_is_the_same_base(tmp_path: Path, pocket) -> None:
    """`pocket` itself, written down as CompVis would have: SD 1.5's blocks under the names of 2022."""
    path = tmp_path / "pocket-as-ldm.safetensors"
    save_file(as_ldm_unet(WEIGHTS) | as_ldm_vae(WEIGHTS) | as_ldm_text(WEIGHTS), path)
    found = find_base(BaseConfig(name=str(path), config=str(WEIGHTS)))
    assert found == BaseSource("pocket-as-ldm", "file", path, config_folder=WEIGHTS, reason="as asked")
    base = load_base(found, device=CPU, dtype=torch.float32)
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(base, part).state_dict(), getattr(pocket, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), part
    assert base.noise_scheduler.config.prediction_type == pocket.noise_scheduler.config.prediction_type
    assert torch.equal(base.noise_scheduler.alphas_cumprod, pocket.noise_scheduler.alphas_cumprod)
    assert base.resolution == pocket.resolution
    assert torch.equal(base.encode_prompts(["a woman"]), pocket.encode_prompts(["a woman"]))


def test_batches_shrink_to_what_fits_and_keep_their_order() -> None:
    from portrayal.models.base import in_batches

    sizes = []

    def act(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError
        return [2 * item for item in items]

    found = [value for part in in_batches(range(11), 8, act) for value in part]
    assert found == [2 * item for item in range(11)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]

    def never(_: Sequence[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches([1, 2], 2, never))
