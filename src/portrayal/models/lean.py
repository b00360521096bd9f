"""A UNet's blocks without what costs time and changes nothing: for CUDA, channels last.

diffusers' blocks divide by one, copy pictures from one layout to the other and back, and norm and activation are two
kernels. The same layers with the same weights are called here in the same order; only their surroundings differ.

Shapes: B pictures, C channels, H and W their size, L tokens or places, D features.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def make_lean(module: Any) -> None:
    """Let the blocks of a UNet (or ControlNet, or VAE) on CUDA run lean; its weights move to channels last.

    Blocks of an unusual kind stay as they are; so does all of it where there is no Triton.
    """
    if find_spec("triton") is None:
        return
    from diffusers.models.activations import GEGLU
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    module.to(memory_format=torch.channels_last)
    for part in module.modules():
        if isinstance(part, ResnetBlock2D) and is_plain_resnet(part):
            part.forward = partial(resnet, part)
        elif isinstance(part, Transformer2DModel) and part.is_input_continuous and not part.use_linear_projection:
            part.forward = partial(transformer, part)
        elif isinstance(part, GEGLU):
            part.forward = partial(geglu, part)
        elif isinstance(part, Attention) and is_plain_attention(part):
            part.processor = LeanAttention()
        if getattr(part, "conv_norm_out", None) is not None and isinstance(part.conv_act, nn.SiLU):
            part.conv_norm_out.forward = partial(norm, part.conv_norm_out, silu=True)
            part.conv_act = nn.Identity()


def is_plain_resnet(block: Any) -> bool:
    """Whether a block is of Stable Diffusion's kind."""
    return (
        block.time_embedding_norm == "default"
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.dropout.p == 0
    )


def is_plain_attention(block: Any) -> bool:
    """Whether an attention is of a Stable Diffusion transformer's kind."""
    absent = (block.spatial_norm, block.group_norm, block.norm_q, block.norm_k, block.norm_cross)
    return all(not one for one in absent) and not block.residual_connection and block.rescale_output_factor == 1


def norm(layer: Any, x: Tensor, *, silu: bool) -> Tensor:
    """A group norm, and SiLU behind it if asked."""
    from portrayal.models.kernels import group_norm

    return group_norm(x, layer.weight, layer.bias, layer.num_groups, layer.eps, silu=silu)


def resnet(block: Any, x: Tensor, temb: Tensor | None = None) -> Tensor:
    """`(B, C, H, W)` → `(B, C', H, W)`."""
    hidden = block.conv1(norm(block.norm1, x, silu=True))
    if temb is not None and block.time_emb_proj is not None:
        hidden = hidden + block.time_emb_proj(functional.silu(temb))[:, :, None, None]
    hidden = block.conv2(norm(block.norm2, hidden, silu=True))
    shortcut: Tensor = x if block.conv_shortcut is None else block.conv_shortcut(x)
    out: Tensor = shortcut + hidden
    return out


def transformer(
    block: Any,
    x: Tensor,
    encoder_hidden_states: Tensor | None = None,
    *_: Any,
    return_dict: bool = True,
    **__: Any,
) -> Any:
    """`(B, C, H, W)` → the same; channels last, a picture is its tokens."""
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    tokens = block.proj_in(norm(block.norm, x, silu=False)).permute(0, 2, 3, 1)
    shape = tokens.shape
    tokens = tokens.flatten(1, 2)
    for inner in block.transformer_blocks:
        if torch.is_grad_enabled() and block.gradient_checkpointing:
            tokens = block._gradient_checkpointing_func(inner, tokens, None, encoder_hidden_states)
        else:
            tokens = inner(tokens, encoder_hidden_states=encoder_hidden_states)
    out = block.proj_out(tokens.view(shape).permute(0, 3, 1, 2)) + x
    return Transformer2DModelOutput(sample=out) if return_dict else (out,)


def geglu(block: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """`(B, L, D)` → `(B, L, 4·D)`."""
    from portrayal.models.kernels import gated

    return gated(block.proj(x))


class LeanAttention:
    """Attention of tokens to one another, or to a prompt, `(B, L, D)` → `(B, L, D)`."""

    def __call__(
        self, attention: Any, x: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        """As diffusers' processors are called."""
        source = x if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attention.to_q(x), attention.to_k(source), attention.to_v(source)
        heads = (one.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for one in (query, key, value))
        mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        out: Tensor = attention.to_out[0](mixed)
        return out
