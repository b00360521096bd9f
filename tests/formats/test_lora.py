"""LoRA files of every naming mean the same updates."""

from __future__ import annotations

import copy
import json
import math
import re
from functools import cache
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from portrayal.errors import WeightsError
from portrayal.formats.kohya import to_kohya
from portrayal.formats.ldm import unet_names
from portrayal.formats.lora import LoraLayer, delta, read_lora, to_diffusers
from portrayal.pocket import WEIGHTS


@cache
def layers() -> dict[str, tuple[int, ...]]:
    """The layers of the embedded base, by path, with the shapes of their weights."""
    found = {}
    for part in ("unet", "text_encoder"):
        for file in (WEIGHTS / part).glob("*.safetensors"):
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - it is no dictionary
                    shape = tuple(opened.get_slice(name).get_shape())
                    if name.endswith(".weight") and len(shape) in (2, 4) and "embeddings" not in name:
                        found[f"{part}.{name.removeprefix('text_model.').removesuffix('.weight')}"] = shape
    return found


class Update(NamedTuple):
    down: Tensor
    up: Tensor
    alpha: float


def updates(paths: list[str], rank: int, alpha: float, dtype: torch.dtype) -> dict[str, Update]:
    generator = torch.Generator().manual_seed(rank)
    found = {}
    for path in paths:
        outputs, inputs, *kernel = layers()[path]
        down = torch.randn(rank, inputs, *kernel, generator=generator).to(dtype)
        up = torch.randn(outputs, rank, *[1] * len(kernel), generator=generator).to(dtype)
        found[path] = Update(down, up, alpha)
    return found


def kohya(found: dict[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    pairs = {path: (one.down, one.up) for path, one in found.items()}
    return to_kohya(pairs, {path: one.alpha for path, one in found.items()}), {}


def kohya_by_the_originals_names(found: dict[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, _ = kohya(found)
    original = unet_names(path.removeprefix("unet.") for path in layers() if path.startswith("unet."))
    renamed = {f"lora_unet_{ours.replace('.', '_')}": theirs.replace(".", "_") for ours, theirs in original.items()}
    return {
        f"lora_unet_{renamed[module]}.{end}" if (module := key.split(".", 1)[0]) in renamed else key: tensor
        for key, tensor in tensors.items()
        for end in [key.split(".", 1)[1]]
    }, {}


def header(found: dict[str, Update], **more: object) -> dict[str, str]:
    """As diffusers writes it, one alpha for each part and the exceptions by pattern."""
    told: dict[str, object] = {}
    for part in ("unet", "text_encoder"):
        own = {path.partition(".")[2]: one for path, one in found.items() if path.startswith(f"{part}.")}
        if own:
            told |= {f"{part}.r": 4, f"{part}.lora_alpha": -1.0, f"{part}.rank_pattern": {}}
            told[f"{part}.alpha_pattern"] = {name: one.alpha for name, one in own.items()}
            told |= {f"{part}.{key}": value for key, value in more.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(told)}


def diffusers(found: dict[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {}
    for path, one in found.items():
        text = path.startswith("text_encoder.")
        name = path.replace("text_encoder.", "text_encoder.text_model.")
        infix = "lora_linear_layer" if text else "lora"
        tensors |= {f"{name}.{infix}.down.weight": one.down, f"{name}.{infix}.up.weight": one.up}
    return tensors, header(found)


def diffusers_of_old(found: dict[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {}
    for path, one in found.items():
        name = path.replace("text_encoder.", "text_encoder.text_model.")
        name = re.sub(r"\.(attn[12])\.(to_[qkv]|to_out)(\.0)?$", r".\1.processor.\2_lora", name)
        name = re.sub(r"\.self_attn\.(q|k|v|out)_proj$", r".self_attn.to_\1_lora", name)
        joint = name if name.endswith("_lora") else f"{name}.lora"
        tensors |= {f"{joint}.down.weight": one.down, f"{joint}.up.weight": one.up}
        tensors[f"{joint}.alpha"] = torch.tensor(one.alpha)
    return tensors, {}


def peft(found: dict[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {}
    for path, one in found.items():
        tensors |= {f"{path}.lora_A.weight": one.down, f"{path}.lora_B.weight": one.up}
    return tensors, header(found)


def peft_model(found: dict[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, told = peft(found)
    return {
        f"base_model.model.{key.partition('.')[2]}".replace(".weight", ".default.weight"): tensor
        for key, tensor in tensors.items()
    }, told


NAMINGS = {
    "kohya": kohya,
    "kohya, the original's names": kohya_by_the_originals_names,
    "diffusers": diffusers,
    "diffusers of old": diffusers_of_old,
    "PEFT": peft,
    "PEFT's own model": peft_model,
}

targets = st.lists(st.sampled_from(sorted(layers())), min_size=1, max_size=6, unique=True)
dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32])


@pytest.mark.parametrize("naming", NAMINGS)
@given(paths=targets, rank=st.integers(1, 9), alpha=st.floats(0.125, 512, width=16), dtype=dtypes)
def test_every_naming_means_the_same_updates(
    naming: str, paths: list[str], rank: int, alpha: float, dtype: torch.dtype
) -> None:
    found = updates(paths, rank, alpha, dtype)
    tensors, metadata = NAMINGS[naming](found)

    read = read_lora(tensors, metadata, layers())

    assert read.keys() == found.keys()
    for path, one in found.items():
        assert read[path].rank == rank
        assert read[path].alpha == pytest.approx(alpha)
        update = delta(read[path])
        assert update.shape == layers()[path]
        expected = (one.up.float().flatten(1) @ one.down.float().flatten(1)) * (alpha / rank)
        assert torch.allclose(update.flatten(1), expected, rtol=1e-5, atol=1e-5 * expected.abs().max())


LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONVOLUTION = "unet.mid_block.resnets.0.conv1"


def test_no_alpha_means_scale_one_and_a_layers_own_rank_counts() -> None:
    found = updates([LINEAR], 3, 1.0, torch.float32)
    tensors, _ = peft(found)

    layer = read_lora(tensors, {}, layers())[LINEAR]

    assert layer.alpha == layer.rank == 3


def test_rank_stabilised_alpha_is_divided_by_the_roots_rank() -> None:
    found = updates([LINEAR], 9, 6.0, torch.float32)
    tensors, _ = peft(found)

    layer = read_lora(tensors, header(found, use_rslora=True), layers())[LINEAR]

    assert layer.alpha / layer.rank == pytest.approx(6 / math.sqrt(9))


def test_linear_weights_stored_as_kernels_are_read_and_the_other_way_round() -> None:
    point = next(path for path, shape in layers().items() if path.endswith("proj_in") or shape[2:] == (1, 1))
    found = updates([LINEAR, point], 2, 2.0, torch.float32)
    tensors, _ = kohya(found)
    other = {
        key: tensor if tensor.ndim == 0 else tensor[:, :, None, None] if tensor.ndim == 2 else tensor.flatten(1)
        for key, tensor in tensors.items()
    }

    read, expected = read_lora(other, {}, layers()), read_lora(tensors, {}, layers())

    assert all(torch.equal(delta(read[path]), delta(expected[path])) for path in found)


def test_locon_in_tucker_form_is_the_product_of_three_kernels() -> None:
    outputs, inputs, *_ = layers()[CONVOLUTION]
    generator = torch.Generator().manual_seed(0)
    down, mid, up = (
        torch.randn(*shape, generator=generator) for shape in ((3, inputs, 1, 1), (3, 3, 3, 3), (outputs, 3, 1, 1))
    )
    name = "lora_unet_mid_block_resnets_0_conv1"
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_mid.weight": mid, f"{name}.lora_up.weight": up}
    picture = torch.randn(1, inputs, 6, 6, generator=generator)

    update = delta(read_lora(tensors, {}, layers())[CONVOLUTION])

    one = torch.conv2d(torch.conv2d(torch.conv2d(picture, down), mid, padding=1), up)
    assert torch.allclose(torch.conv2d(picture, update, padding=1), one, rtol=1e-3, atol=1e-3 * one.abs().max())


@pytest.mark.parametrize("path", [LINEAR, CONVOLUTION])
@pytest.mark.parametrize("naming", ["kohya", "peft"])
def test_dora_moves_the_direction_and_sets_the_length(path: str, naming: str) -> None:
    found = updates([path], 2, 2.0, torch.float32)
    shape = layers()[path]
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    magnitude = torch.rand(shape[0], generator=torch.Generator().manual_seed(6)) + 0.5
    if naming == "kohya":
        tensors, _ = kohya(found)
        module = next(iter(tensors)).partition(".")[0]
        tensors[f"{module}.dora_scale"] = magnitude.view(-1, *[1] * (len(shape) - 1))
    else:
        tensors, _ = peft(found)
        convolution = len(shape) == 4
        tensors[f"{path}.lora_magnitude_vector"] = magnitude.view(1, -1, 1, 1) if convolution else magnitude

    moved = weight + delta(read_lora(tensors, {}, layers())[path], weight)

    assert torch.allclose(moved.flatten(1).norm(dim=1), magnitude, rtol=1e-4)
    plain = weight + (found[path].up.flatten(1) @ found[path].down.flatten(1)).view(shape)
    assert torch.allclose(torch.cosine_similarity(moved.flatten(1), plain.flatten(1)), torch.ones(()), atol=1e-4)


def test_lycoris_first_dora_scales_inputs() -> None:
    found = updates([LINEAR], 2, 2.0, torch.float32)
    outputs, inputs = layers()[LINEAR]
    tensors, _ = kohya(found)
    module = next(iter(tensors)).partition(".")[0]
    tensors[f"{module}.dora_scale"] = magnitude = torch.rand(1, inputs) + 0.5
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(5))

    moved = weight + delta(read_lora(tensors, {}, layers())[LINEAR], weight)

    assert torch.allclose(moved.norm(dim=0), magnitude[0], rtol=1e-4)


def test_a_dora_asks_for_the_weight() -> None:
    layer = LoraLayer(torch.ones(1, 2), torch.ones(2, 1), 1.0, magnitude=torch.ones(2, 1))

    with pytest.raises(ValueError, match="weight"):
        delta(layer)


def damaged(change: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    found = updates([LINEAR, CONVOLUTION], 2, 2.0, torch.float32)
    tensors, metadata = kohya(found)
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    match change:
        case "unknown":
            tensors = {key.replace("mid_block", "middle"): tensor for key, tensor in tensors.items()}
        case "unpaired":
            del tensors[f"{module}.lora_up.weight"]
        case "shape":
            tensors[f"{module}.lora_down.weight"] = torch.ones(2, 3)
        case "kernel":
            tensors[f"{module}.lora_up.weight"] = tensors[f"{module}.lora_up.weight"][:, :, None, None].expand(
                -1, -1, 3, 3
            )
        case "rank":
            tensors[f"{module}.lora_up.weight"] = torch.ones(layers()[LINEAR][0], 5)
        case "empty rank":
            tensors[f"{module}.lora_down.weight"] = torch.ones(0, layers()[LINEAR][1])
        case "scalar":
            tensors[f"{module}.lora_down.weight"] = torch.tensor(1.0)
        case "alpha":
            tensors[f"{module}.alpha"] = torch.tensor(math.nan)
        case "two alphas":
            tensors[f"{module}.alpha"] = torch.ones(2)
        case "integers":
            tensors[f"{module}.lora_down.weight"] = torch.ones(2, layers()[LINEAR][1], dtype=torch.int8)
        case "magnitude":
            tensors[f"{module}.dora_scale"] = torch.ones(7)
        case "twice":
            tensors[LINEAR + ".lora_A.weight"] = tensors[f"{module}.lora_down.weight"]
        case "LoHa":
            tensors = {f"{module}.hada_w1_a": torch.ones(2, 2)}
        case "LoKr":
            tensors = {f"{module}.lokr_w1": torch.ones(2, 2)}
        case "SDXL":
            tensors["lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha"] = torch.tensor(1.0)
        case "Flux":
            tensors = {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 2)}
        case "checkpoint":
            tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2, 2)}
        case "embedding":
            tensors = {"emb_params": torch.ones(2, 2)}
        case "nothing":
            tensors = {}
        case "header":
            tensors, metadata = peft(found)[0], {"lora_adapter_metadata": "{"}
        case "header is a list":
            tensors, metadata = peft(found)[0], {"lora_adapter_metadata": "[]"}
        case "header's alpha":
            tensors, metadata = peft(found)[0], {"lora_adapter_metadata": '{"unet.lora_alpha": "much"}'}
    return tensors, metadata


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("unknown", "6 of 6 keys"),
        ("unpaired", "no up weight"),
        ("shape", "has shape (2, 3)"),
        ("kernel", "3, 3"),
        ("rank", "up weight"),
        ("empty rank", "down weight"),
        ("scalar", "down weight"),
        ("alpha", "Alpha"),
        ("two alphas", "no single number"),
        ("integers", "int8"),
        ("magnitude", "7 numbers"),
        ("twice", "twice"),
        ("LoHa", "LoHa"),
        ("LoKr", "LoKr"),
        ("SDXL", "SDXL"),
        ("Flux", "Flux"),
        ("checkpoint", "whole checkpoint"),
        ("embedding", "no LoRA"),
        ("nothing", "no weights"),
        ("header", "header"),
        ("header is a list", "header"),
        ("header's alpha", "header"),
    ],
)
def test_what_is_wrong_is_said(change: str, said: str) -> None:
    tensors, metadata = damaged(change)

    with pytest.raises(WeightsError, match=re.escape(said)) as caught:
        read_lora(tensors, metadata, layers())

    assert caught.value.remedy


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
told_keys = st.sampled_from(["unet.lora_alpha", "unet.alpha_pattern", "unet.use_rslora", "unet.r"]) | st.text(
    max_size=12
)


@given(told=st.dictionaries(told_keys, json_values, max_size=6) | json_values)
def test_no_header_breaks_the_reader(told: object) -> None:
    tensors, _ = peft(updates([LINEAR], 2, 2.0, torch.float32))

    try:
        read = read_lora(tensors, {"lora_adapter_metadata": json.dumps(told)}, layers())
    except WeightsError:
        return
    assert math.isfinite(read[LINEAR].alpha)


words = st.sampled_from([*LINEAR.split("."), "lora_unet", "lora", "processor", "to_q_lora", "weight", "down", "0", ""])
ends = st.sampled_from([".lora_down.weight", ".lora_A.weight", ".alpha", ".dora_scale", ".lora.up.weight", "_lora"])
keys = st.builds(
    lambda parts, joint, end: joint.join(parts) + end, st.lists(words, max_size=8), st.sampled_from("._"), ends
)
shapes = st.lists(st.integers(0, 4), max_size=5)


@given(entries=st.dictionaries(keys | st.text(max_size=20), shapes, max_size=4))
def test_no_keys_or_shapes_break_the_reader(entries: dict[str, list[int]]) -> None:
    tensors = {key: torch.ones(shape) for key, shape in entries.items()}

    with pytest.raises(WeightsError):
        read_lora(tensors, {}, layers())


@given(
    paths=targets,
    ranks=st.lists(st.integers(1, 4), min_size=6, max_size=6),
    alphas=st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.5]), min_size=6, max_size=6),
)
def test_what_is_written_for_diffusers_is_read_as_it_was(
    paths: list[str], ranks: list[int], alphas: list[float]
) -> None:
    """Every layer with a rank and an alpha of its own, told in the header by patterns."""
    written = {}
    for path, rank, alpha in zip(paths, ranks, alphas, strict=False):
        one = updates([path], rank, alpha, torch.float32)[path]
        written[path] = LoraLayer(one.down, one.up, alpha)

    read = read_lora(*to_diffusers(written), layers())

    assert read.keys() == written.keys()
    for path, layer in written.items():
        assert (read[path].rank, read[path].alpha) == (layer.rank, layer.alpha)
        assert torch.equal(read[path].down, layer.down)
        assert torch.equal(read[path].up, layer.up)


@torch.no_grad()
def test_diffusers_itself_puts_each_layer_in_its_place_at_its_own_scale(pocket, tmp_path) -> None:
    """By PEFT, from the file; linear layers and convolutions, of several ranks and alphas, in both parts."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    ends = ("attn1.to_q", "attn2.to_out.0", "conv1", "proj_in", "ff.net.0.proj", "self_attn.q_proj")
    paths = [next(path for path in sorted(layers()) if path.endswith(end)) for end in ends]
    written = {}
    for number, path in enumerate(paths):
        one = updates([path], 1 + number % 3, 0.5 + number, torch.float32)[path]
        written[path] = LoraLayer(one.down / 9, one.up / 9, one.alpha)
    tensors, header = to_diffusers(written)
    save_file(tensors, tmp_path / "lora.safetensors", header)
    parts = {"unet": copy.deepcopy(pocket.unet), "text_encoder": copy.deepcopy(pocket.text_encoder)}
    before = {name: {key: value.clone() for key, value in part.state_dict().items()} for name, part in parts.items()}
    pipeline = StableDiffusionPipeline(
        **parts,
        vae=pocket.vae,
        tokenizer=pocket.tokenizer,
        scheduler=pocket.noise_scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()

    changed = set()
    for part, module in parts.items():
        for key, value in module.state_dict().items():
            path = f"{part}.{key.removeprefix('text_model.').removesuffix('.weight')}"
            update = value - before[part][key]
            if path in written:
                expected = delta(written[path])
                assert torch.allclose(update, expected, atol=1e-4 * float(expected.abs().max()) + 1e-6), path
                changed.add(path)
            else:
                assert not update.any(), key
    assert changed == set(written)
