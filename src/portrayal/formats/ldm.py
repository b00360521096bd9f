"""Names of Stable Diffusion's weights in its authors' own code (latent diffusion), from their names in diffusers.

Single-file checkpoints use them, and some LoRA files. They follow from the structure of the model, which the names in
diffusers tell: how many blocks there are, how many layers each has, and which of them attend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
MIDDLE = {"resnets.0": "middle_block.0", "attentions.0": "middle_block.1", "resnets.1": "middle_block.2"}
VAE_PARTS = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}
"""The last four are what diffusers called the attention of a VAE before its version 0.15."""
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}

OPEN_CLIP_FEATURES = 1024
"""Text features of Stable Diffusion 2, whose encoder is OpenCLIP's; the encoder of 1.x has 768."""

_HINT = re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.+)")
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(?:\.(.+))?")
_MIDDLE = re.compile(r"mid_block\.((?:resnets|attentions)\.\d+)(?:\.(.+))?")
_VAE_BLOCK = re.compile(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_VAE_MIDDLE = re.compile(r"((?:en|de)coder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_TEXT_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Family:
    """Which Stable Diffusion weights belong to.

    Attributes:
        text_features: 768 for 1.x, 1024 for 2.x.
        prediction_type: `epsilon`, or `v_prediction`.
    """

    text_features: int = 768
    prediction_type: str = "epsilon"

    @property
    def second(self) -> bool:
        """Whether it is Stable Diffusion 2."""
        return self.text_features == OPEN_CLIP_FEATURES

    @property
    def architecture(self) -> str:
        """Its name in Stability's modelspec 1.0.1."""
        if not self.second:
            return "stable-diffusion-v1"
        return "stable-diffusion-v2-768-v" if self.prediction_type == "v_prediction" else "stable-diffusion-v2-512"

    @property
    def prediction(self) -> str:
        """What modelspec calls the prediction type."""
        return "v" if self.prediction_type == "v_prediction" else self.prediction_type

    @property
    def version(self) -> str:
        """What sd-scripts calls it: `sd_v1`, `sd_v2`, `sd_v2_v`."""
        return f"sd_v{2 if self.second else 1}" + ("_v" if self.prediction_type == "v_prediction" else "")


@dataclass(frozen=True)
class UnetShape:
    """What the names depend on.

    Attributes:
        layers_per_block: Resnets of a block on the way down; on the way up there is one more.
        attending: The blocks on the way up that attend; behind them an upsampler comes third, behind others second.
    """

    layers_per_block: int
    attending: frozenset[int]

    @classmethod
    def of(cls, names: Iterable[str]) -> UnetShape:
        """Read it off the names of a UNet's modules or weights.

        Raises:
            ValueError: If they are no UNet's.
        """
        found = [match for name in names if (match := _BLOCK.match(name))]
        layers = [int(match[4]) for match in found if (match[1], match[3]) == ("down", "resnets")]
        if not layers:
            raise ValueError("these are not the names of a UNet")
        return cls(max(layers) + 1, frozenset(int(m[2]) for m in found if (m[1], m[3]) == ("up", "attentions")))

    def name(self, name: str) -> str:
        """The name of a module or weight.

        Raises:
            ValueError: If the original has no such part.
        """
        for end, theirs in UNET_ENDS.items():
            if name == end or name.startswith(end + "."):
                return theirs + name.removeprefix(end)
        if middle := _MIDDLE.fullmatch(name):
            if middle[1] in MIDDLE:
                return _joined(MIDDLE[middle[1]], _inside(middle[1], middle[2]))
        elif block := _BLOCK.fullmatch(name):
            way, kind, inner = block[1], block[3], block[5]
            number, place, length = int(block[2]), int(block[4]), self.layers_per_block + 1
            match way, kind:
                case "down", "resnets" | "attentions":
                    position = 0 if kind == "resnets" else 1
                    return _joined(f"input_blocks.{number * length + place + 1}.{position}", _inside(kind, inner))
                case "down", "downsamplers":
                    ending = None if inner is None else re.sub(r"^conv\b", "op", inner)
                    return _joined(f"input_blocks.{(number + 1) * length}.0", ending)
                case "up", "resnets" | "attentions":
                    position = 0 if kind == "resnets" else 1
                    return _joined(f"output_blocks.{number * length + place}.{position}", _inside(kind, inner))
                case "up", "upsamplers":
                    position = 2 if number in self.attending else 1
                    return _joined(f"output_blocks.{number * length + length - 1}.{position}", inner)
        raise ValueError(f"latent diffusion has no part like {name!r}")


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a UNet's modules or weights, without the prefix of a checkpoint.

    Raises:
        ValueError: If one of them has no counterpart.
    """
    listed = list(names)
    shape = UnetShape.of(listed)
    return {name: shape.name(name) for name in listed}


def controlnet_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a ControlNet's weights, without the prefix `control_model.`.

    Raises:
        ValueError: If one of them has no counterpart.
    """
    listed = list(names)
    hints = [int(match[1]) for name in listed if (match := _HINT.match(name))]
    last = 2 * (max(hints, default=0) + 2)

    def named(name: str) -> str:
        for pattern, theirs in (
            (r"controlnet_down_blocks\.(\d+)\.(.+)", r"zero_convs.\1.0.\2"),
            (r"controlnet_mid_block\.(.+)", r"middle_block_out.0.\1"),
            (r"controlnet_cond_embedding\.conv_in\.(.+)", r"input_hint_block.0.\1"),
            (r"controlnet_cond_embedding\.conv_out\.(.+)", rf"input_hint_block.{last}.\1"),
        ):
            if re.fullmatch(pattern, name):
                return re.sub(pattern, theirs, name)
        if hint := _HINT.match(name):
            return f"input_hint_block.{2 * (int(hint[1]) + 1)}.{hint[2]}"
        return shape.name(name)

    shape = UnetShape.of(listed)
    return {name: named(name) for name in listed}


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Names of an autoencoder's weights, without the prefix of a checkpoint."""
    listed = list(names)
    blocks = [int(match[2]) for name in listed if (match := _VAE_BLOCK.fullmatch(name))]
    last = max(blocks, default=0)

    def named(name: str) -> str:
        if block := _VAE_BLOCK.fullmatch(name):
            half, number, kind, inner = block[1], int(block[2]), block[3], _renamed(block[5], VAE_PARTS)
            number = number if half == "encoder.down" else last - number
            if kind == "resnets":
                return f"{half}.{number}.block.{block[4]}.{inner}"
            return f"{half}.{number}.{kind.removesuffix('rs')}.{inner}"
        if middle := _VAE_MIDDLE.fullmatch(name):
            kind = "block" if middle[2] == "resnets" else "attn"
            return f"{middle[1]}.mid.{kind}_{int(middle[3]) + 1}.{_renamed(middle[4], VAE_PARTS)}"
        return _renamed(name, VAE_PARTS)

    return {name: named(name) for name in listed}


def open_clip_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a text encoder's weights as OpenCLIP has them, which Stable Diffusion 2 uses.

    Queries, keys and values lie in one weight there; theirs end in `attn.in_proj_weight.0`, `.1` and `.2` here.
    """

    def named(name: str) -> str:
        name = name.removeprefix("text_model.")
        if name in OPEN_CLIP_ENDS:
            return OPEN_CLIP_ENDS[name]
        if layer := _TEXT_LAYER.fullmatch(name):
            block = f"transformer.resblocks.{layer[1]}"
            if joined := re.fullmatch(r"self_attn\.([qkv])_proj", layer[2]):
                return f"{block}.attn.in_proj_{layer[3]}.{'qkv'.index(joined[1])}"
            if layer[2] in OPEN_CLIP:
                return f"{block}.{OPEN_CLIP[layer[2]]}.{layer[3]}"
        raise ValueError(f"OpenCLIP has no part like {name!r}")

    return {name: named(name) for name in names}


def _inside(kind: str, inner: str | None) -> str | None:
    """The rest of a name within a resnet; attention blocks are named alike in both."""
    return _renamed(inner, RESNET) if inner is not None and kind.startswith("resnets") else inner


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    """A name with its parts replaced where one of them stands whole between dots."""
    for ours, theirs in parts.items():
        name = re.sub(rf"(?<![^.]){re.escape(ours)}(?![^.])", theirs, name)
    return name


def _joined(front: str, rest: str | None) -> str:
    return front if rest is None else f"{front}.{rest}"
