"""LoRA files of every usual naming, read: kohya's sd-scripts, LyCORIS (LoCon, DoRA), PEFT, and diffusers old and new.

What a key means is looked up among the layers of the model the file is for: kohya's names have underscores for dots,
which cannot be undone without them.

Shapes: O outputs and I inputs of a layer, `…` its kernel (nothing for a linear layer), R rank.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from portrayal.errors import WeightsError
from portrayal.formats.ldm import unet_names
from portrayal.limits import bounded_json

ROLES = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_magnitude_vector": "magnitude",
    "dora_scale": "magnitude",
    "alpha": "alpha",
}
"""What a tensor is, by the end of its key; the longest end that fits counts."""

OTHER_KINDS = {
    "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr",
    "lokr_w1_a": "LoKr",
    "lokr_w2": "LoKr",
    "lokr_w2_a": "LoKr",
    "oft_blocks": "OFT",
    "oft_diag": "OFT",
    "on_input": "IA3",
    "boft_blocks": "BOFT",
}
OTHER_FAMILIES = {
    "lora_te2_": "SDXL",
    "text_encoder_2.": "SDXL",
    "lora_te3_": "SD 3",
    "lora_unet_joint_blocks_": "SD 3",
    "lora_unet_double_blocks_": "Flux",
    "lora_unet_single_blocks_": "Flux",
    "lora_transformer_": "SD 3 or Flux",
    "transformer.": "SD 3 or Flux",
    "lora_prior_": "Kandinsky",
}
OLD_TEXT_LAYERS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
REMEDY = "Give a LoRA that was made for the base, such as one for Stable Diffusion 1.5."

_PROCESSOR = re.compile(r"(.+)\.processor\.(to_(?:q|k|v|out))$")
_OLD_TEXT = re.compile(r"(.+\.self_attn)\.(to_(?:q|k|v|out))$")
_ADAPTER = re.compile(r"\.(lora_A|lora_B|lora_magnitude_vector)\.[^.]+\.weight$")


@dataclass(frozen=True)
class LoraLayer:
    """The update of one layer's weight, `(O, I, …)`.

    Attributes:
        down: `(R, I, …)`; with `mid` a kernel of 1.
        up: `(O, R, …)`, with a kernel of 1.
        alpha: Numerator of the scale alpha / rank.
        mid: `(R, R, …)` of a LoCon convolution in Tucker form, or nothing.
        magnitude: DoRA's, `(O, 1, …)`, or `(1, I, …)` as LyCORIS has it at first; nothing without DoRA.
    """

    down: Tensor
    up: Tensor
    alpha: float
    mid: Tensor | None = None
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rank of the update."""
        return self.down.shape[0]


def delta(layer: LoraLayer, weight: Tensor | None = None) -> Tensor:
    """What a layer adds to its weight at strength 1, `(O, I, …)`, computed in fp32 where the layer lies.

    `alpha / rank · up · down`, Hu et al. 2021, arXiv:2106.09685, Sec. 4.1; of a LoCon, `up · mid · down`; of a DoRA,
    the way from `weight` to `magnitude · (weight + update) / ‖weight + update‖`, Liu et al. 2024, arXiv:2402.09353,
    Eq. 5, at other strengths that many times as far, as ComfyUI and AUTOMATIC1111 go it.

    Args:
        layer: What was read.
        weight: The weight it was trained for, `(O, I, …)`; only DoRA asks for it.

    Raises:
        ValueError: If the layer is a DoRA and there is no weight.
    """
    down, up = layer.down.float().flatten(1), layer.up.float().flatten(1)
    if layer.mid is None:
        update = (up @ down).view(len(up), *layer.down.shape[1:])
    else:
        update = torch.einsum("oa,abhw,bi->oihw", up, layer.mid.float(), down)
    update = update * (layer.alpha / layer.rank)
    if layer.magnitude is None:
        return update
    if weight is None:
        raise ValueError("a DoRA's update depends on the weight it is for, and none is given")
    base = weight.to(update.device, torch.float32)
    moved, magnitude = base + update, layer.magnitude.float()
    along = [axis for axis, size in enumerate(magnitude.shape) if size == 1]
    norm: Tensor = torch.linalg.vector_norm(moved, dim=along, keepdim=True)
    moved = moved * (magnitude / norm.clamp_min(torch.finfo(torch.float32).tiny))
    return moved - base


def to_diffusers(layers: Mapping[str, LoraLayer]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a LoRA file of diffusers, alpha told in the header.

    Args:
        layers: Updates by path, such as `unet.mid_block.attentions.0.proj_in`; neither DoRA nor in Tucker form.
    """
    tensors, told = dict[str, Tensor](), dict[str, Any]()
    for part in ("unet", "text_encoder"):
        own = {path.partition(".")[2]: one for path, one in layers.items() if path.startswith(f"{part}.")}
        if not own:
            continue
        rank, alpha = Counter((layer.rank, layer.alpha) for layer in own.values()).most_common(1)[0][0]
        config = {
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {name: layer.rank for name, layer in own.items() if layer.rank != rank},
            "alpha_pattern": {name: layer.alpha for name, layer in own.items() if layer.alpha != alpha},
            "target_modules": sorted(own),
        }
        told |= {f"{part}.{key}": value for key, value in config.items()}
        for name, layer in own.items():
            # Older diffusers and ComfyUI know the text encoder's layers by transformers' names from before its 5.6.
            text = part == "text_encoder" and not name.startswith("text_model.")
            key = f"{part}.{'text_model.' if text else ''}{name}.{'lora' if part == 'unet' else 'lora_linear_layer'}"
            tensors |= {f"{key}.down.weight": layer.down.contiguous(), f"{key}.up.weight": layer.up.contiguous()}
    return tensors, {"format": "pt", "lora_adapter_metadata": json.dumps(told, sort_keys=True)}


def read_own(tensors: Mapping[str, Tensor], alpha: float) -> dict[str, LoraLayer]:
    """Read a LoRA as this project saves it for diffusers, which takes no model: its keys are the layers' paths.

    Args:
        tensors: `PATH.lora.down.weight` and the like.
        alpha: Alpha of all layers.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        path, end = key.split(".lora", 1)
        parts.setdefault(path, {})[end.split(".")[-2]] = tensor
    return {path: LoraLayer(part["down"], part["up"], alpha) for path, part in parts.items()}


def read_lora(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], layers: Mapping[str, tuple[int, ...]]
) -> dict[str, LoraLayer]:
    """Read a LoRA file's tensors for a model.

    Args:
        tensors: What the file holds, by its keys.
        metadata: Its header; PEFT's and diffusers' tell alpha there (`lora_adapter_metadata`), kohya's among the
            tensors. Where nothing tells alpha, it is the rank: scale 1.
        layers: Shapes `(O, I, …)` of the weights of the layers it may be for, by path such as
            `unet.mid_block.attentions.0.proj_in` or `text_encoder.encoder.layers.0.mlp.fc1`.

    Raises:
        WeightsError: If it holds no LoRA, or keys that belong to no layer, which are counted; if it is of another
            kind (LoHa, LoKr) or for another family (SDXL, Flux); if weights are missing, or do not fit their layers.
    """
    _check_kind(tensors)
    paths, found, unmatched = _lookup(layers), dict[str, dict[str, tuple[str, Tensor]]](), list[str]()
    for key, tensor in tensors.items():
        module, role = _split(key)
        path = paths.get(module) if role else None
        if path is None:
            unmatched.append(key)
        elif role in found.setdefault(path, {}):
            raise WeightsError(f"The file tells {role} of {path} twice, the second time as {key!r}.", REMEDY)
        else:
            found[path][role] = key, tensor
    if unmatched:
        examples = ", ".join(repr(key) for key in unmatched[:3])
        raise WeightsError(
            f"{len(unmatched)} of {len(tensors)} keys of the file belong to no layer of the base: {examples}"
            + (", …" if len(unmatched) > 3 else "."),
            REMEDY,
        )
    alphas = _alphas(metadata, found)
    return {path: _layer(path, layers[path], parts, alphas.get(path)) for path, parts in found.items()}


def _check_kind(tensors: Mapping[str, Tensor]) -> None:
    """Refuse what is no LoRA of ours, by its name."""
    if not tensors:
        raise WeightsError("The file holds no weights.", REMEDY)
    kinds = {kind for key in tensors for end, kind in OTHER_KINDS.items() if key.rpartition(".")[2] == end}
    if kinds:
        raise WeightsError(
            f"The file holds {' and '.join(sorted(kinds))} weights, which is not read here.",
            "Give a LoRA (LoCon and DoRA are read too), or merge the file into a checkpoint with the tool it is from.",
        )
    families = {family for key in tensors for start, family in OTHER_FAMILIES.items() if key.startswith(start)}
    if families:
        raise WeightsError(f"The file is a LoRA for {' and '.join(sorted(families))}.", REMEDY)
    if any(key.startswith(("model.diffusion_model.", "first_stage_model.")) for key in tensors):
        raise WeightsError("The file is a whole checkpoint, not a LoRA.", "Give it to --base.")
    if not any(_split(key)[1] in ("down", "up") for key in tensors):
        raise WeightsError("The file holds no LoRA: no key ends like lora_down.weight or lora_A.weight.", REMEDY)


def _split(key: str) -> tuple[str, str]:
    """The layer a key is of, its dots as underscores, and what it is of that layer; nothing if it is of no LoRA."""
    key = _ADAPTER.sub(r".\1.weight", key.removeprefix("base_model.model."))
    for end in sorted(ROLES, key=len, reverse=True):
        for joint in (".", "_"):  # diffusers' old names join the layer with an underscore: to_q_lora.down.weight
            if key.endswith(joint + end):
                module = key.removesuffix(joint + end)
                for rest in (".lora", "_lora", ".lora_linear_layer"):  # of an old alpha
                    module = module.removesuffix(rest)
                return _plain(module), ROLES[end]
    return key, ""


def _plain(module: str) -> str:
    """A layer's name with underscores for dots, and today's names for diffusers' old ones."""
    if old := _PROCESSOR.fullmatch(module):
        module = f"{old[1]}.{'to_out.0' if old[2] == 'to_out' else old[2]}"
    elif old := _OLD_TEXT.fullmatch(module):
        module = f"{old[1]}.{OLD_TEXT_LAYERS[old[2]]}"
    return module.replace(".", "_")


def _lookup(layers: Iterable[str]) -> dict[str, str]:
    """The layer that each way of writing it means."""
    known = dict[str, str]()
    unet = [path.removeprefix("unet.") for path in layers if path.startswith("unet.")]
    original = unet_names(unet) if unet else {}
    for path in layers:
        part, _, name = path.partition(".")
        if part == "unet":
            plain, theirs = name.replace(".", "_"), original[name].replace(".", "_")
            written = [prefix + plain for prefix in ("lora_unet_", "unet_", "lycoris_", "lycoris_unet_", "")]
            written += [prefix + theirs for prefix in ("lora_unet_", "diffusion_model_", "model_diffusion_model_")]
        else:
            plain = name.removeprefix("text_model.").replace(".", "_")
            prefixes = ("lora_te_", "lora_te1_", "text_encoder_", "te_", "lycoris_te_", "")
            written = [prefix + inner + plain for prefix in prefixes for inner in ("text_model_", "")]
        known |= dict.fromkeys(written, path)
    return known


def _alphas(metadata: Mapping[str, str], found: Mapping[str, Mapping[str, tuple[str, Tensor]]]) -> dict[str, float]:
    """Alpha of each layer as the header tells it: PEFT's description of the adapters.

    Raises:
        WeightsError: If the header is damaged, or tells of layers that the file has not.
    """
    text = metadata.get("lora_adapter_metadata")
    if text is None:
        return {}
    try:
        told = bounded_json(text)
        if not isinstance(told, dict):
            raise TypeError("it is no table")
        alphas = dict[str, float]()
        for path, parts in found.items():
            part, _, name = path.partition(".")
            one = {key.removeprefix(f"{part}."): value for key, value in told.items() if key.startswith(f"{part}.")}
            if "lora_alpha" in one and "down" in parts:
                rank = parts["down"][1].shape[0]
                alpha = _positive(_of_pattern(one.get("alpha_pattern") or {}, name, one["lora_alpha"]))
                alphas[path] = alpha * math.sqrt(rank) if one.get("use_rslora") else alpha
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(
            f"The file's header (lora_adapter_metadata) is damaged: {error}.", "Get it again."
        ) from error
    return alphas


def _of_pattern(pattern: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """What PEFT's pattern tells of a layer: its keys are names, or ends of names."""
    name = name.removeprefix("text_model.")
    for key, value in pattern.items():
        end = key.removeprefix("^").removesuffix("$").replace("\\.", ".").removeprefix("text_model.")
        if name == end or (name.endswith(f".{end}") and not key.startswith("^")):
            return value
    return otherwise


def _layer(path: str, shape: tuple[int, ...], parts: Mapping[str, tuple[str, Tensor]], told: float | None) -> LoraLayer:
    """One layer's update, its tensors in the shape of the layer's weight.

    Raises:
        WeightsError: If weights are missing, or do not fit.
    """
    outputs, inputs, *kernel = shape
    missing = [role for role in ("down", "up") if role not in parts]
    if missing:
        raise WeightsError(f"The file has no {' and no '.join(missing)} weight for {path}.", "Get it again.")
    weights = {role: tensor for role, (_, tensor) in parts.items() if role != "alpha"}
    for role, tensor in weights.items():
        if not tensor.is_floating_point():
            raise WeightsError(f"The {role} weight of {path} is of type {tensor.dtype}.", "Get the file again.")
    down, up, mid = weights["down"], weights["up"], weights.get("mid")
    rank = down.shape[0] if down.ndim else 0
    point = [1] * len(kernel)
    wanted = {
        "down": (rank, inputs, *(kernel if mid is None else point)),
        "up": (outputs, rank, *point),
        "mid": (rank, rank, *kernel),
    }
    for role in ("down", "up", "mid"):
        if role in weights and (not rank or _without_points(weights[role].shape) != _without_points(wanted[role])):
            raise WeightsError(
                f"The {role} weight of {path} has shape {tuple(weights[role].shape)}; "
                f"the base's layer takes {wanted[role] if rank else 'another'}.",
                REMEDY,
            )
    alpha = _alpha(path, parts["alpha"][1]) if "alpha" in parts else told
    return LoraLayer(
        down.reshape(wanted["down"]),
        up.reshape(wanted["up"]),
        float(rank) if alpha is None else alpha,
        None if mid is None else mid.reshape(wanted["mid"]),
        _magnitude(path, shape, *parts["magnitude"]) if "magnitude" in parts else None,
    )


def _without_points(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape's first two sizes, and its kernel if that is more than a point, as linear layers are stored as kernels
    and the other way round."""
    sizes = tuple(shape)
    return sizes[:2] if all(size == 1 for size in sizes[2:]) else sizes


def _alpha(path: str, tensor: Tensor) -> float:
    """Alpha as it is stored."""
    if tensor.numel() != 1:
        raise WeightsError(f"Alpha of {path} is no single number.", "Get the file again.")
    try:
        return _positive(tensor.item())
    except (ValueError, TypeError) as error:
        raise WeightsError(f"Alpha of {path} is {tensor.item()}: {error}.", "Get the file again.") from error


def _positive(value: Any) -> float:
    """A number that can be alpha."""
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError("alpha is a number from 0 up")
    return number


def _magnitude(path: str, shape: tuple[int, ...], key: str, tensor: Tensor) -> Tensor:
    """DoRA's magnitude as `(O, 1, …)` or `(1, I, …)`; PEFT keeps that of a convolution as `(1, O, 1, 1)`."""
    outputs, inputs, *kernel = shape
    by_input = tensor.ndim > 1 and tensor.shape[0] == 1 and "lora_magnitude_vector" not in key
    size = inputs if by_input and (outputs != 1 or inputs == 1) else outputs
    if tensor.numel() != size:
        raise WeightsError(f"DoRA's magnitude of {path} has {tensor.numel()} numbers instead of {size}.", REMEDY)
    places = [1, inputs] if size == inputs and by_input else [outputs, 1]
    return tensor.reshape(*places, *[1] * len(kernel))
