"""A UNet's blocks without what costs time and changes nothing: for CUDA, channels last.

diffusers' blocks divide by one, copy pictures from one layout to the other and back, and each norm, activation, bias
and sum is a kernel of its own. The same layers with the same weights are called here in the same order; only their
surroundings differ.

Shapes: B pictures, C channels, H and W their size, L tokens or places, D features.
"""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

MANY_QUERIES = 1024
QUICKEST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""Attention of many queries: cuDNN's takes half the time of PyTorch's own choice; of few, it takes more."""


@lru_cache
def kernels_run(device: torch.device) -> bool:
    """Whether Triton's kernels can be built and run on a device; why they cannot on a GPU is said once."""
    if device.type != "cuda":
        return False
    try:
        from portrayal.models.kernels import gated

        return bool(gated(torch.ones(1, 32, device=device, dtype=torch.float16)).isfinite().all())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # without Triton, a compiler, or a GPU it knows: each says so in its own way
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logging.getLogger(__name__).warning("Triton's kernels do not run here, so it is slower: %s", reason[0])
        return False


def make_lean(module: Any) -> None:
    """Let the blocks of a UNet (or ControlNet, or VAE) on CUDA run lean; its weights move to channels last.

    Blocks of an unusual kind stay as they are; so does all of it where Triton's kernels do not run.
    """
    if not kernels_run(next(module.parameters()).device):
        return
    from diffusers.models.activations import GEGLU
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    module.to(memory_format=torch.channels_last)
    for part in module.modules():
        if isinstance(part, ResnetBlock2D) and is_plain_resnet(part):
            part.forward = partial(resnet, part)
        elif isinstance(part, Transformer2DModel) and part.is_input_continuous and not part.use_linear_projection:
            part.forward = partial(transformer, part)
        elif isinstance(part, BasicTransformerBlock) and is_plain_transformer_block(part):
            part.forward = partial(transformer_block, part)
        elif isinstance(part, GEGLU):
            part.forward = partial(geglu, part)
        elif type(part) is nn.Linear and part.bias is not None:
            part.forward = partial(linear, part)  # type: ignore[method-assign]
        elif isinstance(part, Attention) and is_plain_attention(part):
            part.processor = LeanAttention()
        if getattr(part, "conv_norm_out", None) is not None and isinstance(part.conv_act, nn.SiLU):
            part.conv_norm_out.forward = partial(normed, part.conv_norm_out)
            part.conv_act = nn.Identity()


def let_go(module: nn.Module) -> None:
    """Untie the knots of a lean model that is not needed any more, so that its memory is free at once."""
    for part in module.modules():
        vars(part).pop("forward", None)  # which knows its part


def is_plain_resnet(block: Any) -> bool:
    """Whether a block is of Stable Diffusion's kind: the UNet's, or, without a time embedding, the VAE's."""
    return (
        (block.time_embedding_norm == "default" or block.time_emb_proj is None)
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.dropout.p == 0
    )


def is_plain_transformer_block(block: Any) -> bool:
    """Whether a transformer's block is of Stable Diffusion's kind."""
    return (
        block.norm_type == "layer_norm"
        and block.pos_embed is None
        and block.attn2 is not None
        and not block.only_cross_attention
        and not hasattr(block, "fuser")
        and all(norm.elementwise_affine and norm.bias is not None for norm in (block.norm1, block.norm2, block.norm3))
    )


def is_plain_attention(block: Any) -> bool:
    """Whether an attention is of a Stable Diffusion transformer's kind."""
    absent = (block.spatial_norm, block.group_norm, block.norm_q, block.norm_k, block.norm_cross)
    return all(not one for one in absent) and not block.residual_connection and block.rescale_output_factor == 1


def norm_of(layer: Any, *, silu: bool) -> Any:
    """A group norm, for the kernels."""
    from portrayal.models.kernels import Norm

    return Norm(layer.weight, layer.bias, layer.num_groups, layer.eps, silu)


def normed(layer: Any, x: Tensor) -> Tensor:
    """A group norm with SiLU behind it."""
    from portrayal.models.kernels import group_norm

    return group_norm(x, norm_of(layer, silu=True))[0]


def resnet(block: Any, x: Tensor, temb: Tensor | None = None) -> Tensor:
    """`(B, C, H, W)` → `(B, C', H, W)`."""
    from portrayal.models.kernels import biased_sum, group_norm

    hidden, x = group_norm(x, norm_of(block.norm1, silu=True))
    hidden, offset = without_bias(block.conv1, hidden)
    if temb is not None and block.time_emb_proj is not None:
        shift = block.time_emb_proj(functional.silu(temb))
        offset = shift if offset is None else shift + offset
    elif offset is not None:
        offset = offset.expand(len(x), -1)
    hidden, bias = without_bias(block.conv2, group_norm(hidden, norm_of(block.norm2, silu=True), offset)[0])
    shortcut = x if block.conv_shortcut is None else at_each_place(block.conv_shortcut, x)
    out: Tensor = shortcut + hidden if bias is None else biased_sum(shortcut, hidden, bias)
    return out


def without_bias(convolution: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a convolution makes of a picture, and the bias that is still to be added, if it is a plain one."""
    if type(convolution) is not nn.Conv2d or convolution.padding_mode != "zeros":
        return convolution(x), None  # such as an adapted one
    made = functional.conv2d(
        x, convolution.weight, None, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    )
    return made, convolution.bias


def at_each_place(convolution: Any, x: Tensor) -> Tensor:
    """A convolution of single places: channels last, it is a linear layer, which adds its bias on the way."""
    if type(convolution) is not nn.Conv2d or convolution.kernel_size != (1, 1) or convolution.stride != (1, 1):
        made: Tensor = convolution(x)
        return made
    return linear_of(x.permute(0, 2, 3, 1), convolution.weight.flatten(1), convolution.bias).permute(0, 3, 1, 2)


def linear(layer: Any, x: Tensor) -> Tensor:
    """`(…, D)` → `(…, D')`."""
    return linear_of(x, layer.weight, layer.bias)


def linear_of(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer; where its bias is trained, with the kernel for it."""
    from portrayal.models import kernels

    if bias is None or not (bias.requires_grad and torch.is_grad_enabled()) or torch.is_autocast_enabled(x.device.type):
        return functional.linear(x, weight, bias)
    return kernels.linear(x, weight, bias)


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

    from portrayal.models.kernels import group_norm

    hidden, x = group_norm(x, norm_of(block.norm, silu=False))
    tokens = at_each_place(block.proj_in, hidden).permute(0, 2, 3, 1)
    shape = tokens.shape
    tokens = tokens.flatten(1, 2)
    for inner in block.transformer_blocks:
        if torch.is_grad_enabled() and block.gradient_checkpointing:
            tokens = block._gradient_checkpointing_func(inner, tokens, None, encoder_hidden_states)
        else:
            tokens = inner(tokens, encoder_hidden_states=encoder_hidden_states)
    out = at_each_place(block.proj_out, tokens.view(shape).permute(0, 3, 1, 2)) + x
    return Transformer2DModelOutput(sample=out) if return_dict else (out,)


def transformer_block(
    block: Any,
    x: Tensor,
    attention_mask: Tensor | None = None,  # noqa: ARG001 - as diffusers calls it
    encoder_hidden_states: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    """`(B, L, D)` → the same."""
    x, hidden = sum_and_norm(block.norm1, x, None)
    x, hidden = sum_and_norm(block.norm2, x, block.attn1(hidden))
    x, hidden = sum_and_norm(block.norm3, x, block.attn2(hidden, encoder_hidden_states=encoder_hidden_states))
    out: Tensor = x + block.ff(hidden)
    return out


def sum_and_norm(norm: Any, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum, which goes around, and its layer norm."""
    from portrayal.models import kernels

    return kernels.sum_and_norm(x, y, norm.weight, norm.bias, norm.eps)


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
        heads = [one.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for one in (query, key, value)]
        out: Tensor = attention.to_out[0](attend(*heads).transpose(1, 2).flatten(2))
        return out


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by the quickest way for its size, all `(B, heads, L, D)`."""
    if query.shape[-2] < MANY_QUERIES or query.dtype == torch.float32:
        return functional.scaled_dot_product_attention(query, key, value)
    with sdpa_kernel(QUICKEST, set_priority=True):
        return functional.scaled_dot_product_attention(query, key, value)
