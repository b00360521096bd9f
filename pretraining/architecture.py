"""The embedded base's models, built from configs alone: Stable Diffusion 1.5's classes, a hundredth of its size.

Pictures are 128x128, latents 16x16 with twelve channels, prompts 77 tokens of 128 features.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, ControlNetModel, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, ResNetConfig, ResNetModel

PICTURE_SIZE = 128
LATENT_SIZE = 16
LATENT_CHANNELS = 12
PROMPT_LENGTH = 77
TEXT_FEATURES = 128
VISION_FEATURES = 160
HEAD_SIZE = 32
IDENTITY_SIZE = 256
"""Pictures are doubled for the identity encoder, whose first layers halve them twice: a face may be 25 pixels high."""


@dataclass(frozen=True)
class Vocabulary:
    """The ids that the text encoder's config shares with the tokenizer."""

    size: int = 1280
    bos_token_id: int = 1278
    eos_token_id: int = 1279


def build_vae() -> AutoencoderKL:
    """Autoencoder from ``(B, 3, 128, 128)`` in [-1, 1] to ``(B, 12, 16, 16)`` and back, 4.3 million parameters."""
    channels = (48, 96, 128, 128)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        mid_block_add_attention=False,
        sample_size=PICTURE_SIZE,
        force_upcast=False,
    )


def build_clip(vocabulary: Vocabulary) -> CLIPModel:
    """CLIP, 2.4 million parameters: judges pictures; the UNet's text encoder starts as its text half."""
    text = CLIPTextConfig(
        vocab_size=vocabulary.size,
        hidden_size=TEXT_FEATURES,
        intermediate_size=4 * TEXT_FEATURES,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_LENGTH,
        projection_dim=TEXT_FEATURES,
        bos_token_id=vocabulary.bos_token_id,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.eos_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=VISION_FEATURES,
        intermediate_size=4 * VISION_FEATURES,
        num_hidden_layers=4,
        num_attention_heads=VISION_FEATURES // HEAD_SIZE,
        image_size=PICTURE_SIZE,
        patch_size=16,
        projection_dim=TEXT_FEATURES,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=TEXT_FEATURES)
    )


def build_unet() -> UNet2DConditionModel:
    """SD 1.5's denoiser with three levels, one layer each, and heads of 32 features, 8.4 million parameters.

    16x16 latents need no fourth level; its parameters are worth more as width of the first.
    """
    channels = (96, 128, 160)
    deepest = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * deepest + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * deepest,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=TEXT_FEATURES,
        # diffusers' legacy naming: for SD 1.5's blocks this is the *number* of heads at each level
        attention_head_dim=tuple(width // HEAD_SIZE for width in channels),
        norm_num_groups=16,
    )


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """ControlNet that starts as the convolutions of ``unet``'s encoder, 2.2 million parameters.

    Zhang et al. 2023 (arXiv:2302.05543) copy the attention too. Without it a ControlNet is half as large and half as
    slow, and the UNet's own attention reads the prompt anyway.
    """
    channels = unet.config.block_out_channels
    controlnet = ControlNetModel(
        in_channels=unet.config.in_channels,
        down_block_types=("DownBlock2D",) * len(channels),
        mid_block_type="UNetMidBlock2D",
        block_out_channels=channels,
        layers_per_block=unet.config.layers_per_block,
        cross_attention_dim=unet.config.cross_attention_dim,
        attention_head_dim=unet.config.attention_head_dim,
        norm_num_groups=unet.config.norm_num_groups,
        conditioning_embedding_out_channels=(16, 24, 32, 64),
    )
    state = controlnet.state_dict()
    shared = {name: value for name, value in unet.state_dict().items() if name in state}
    controlnet.load_state_dict({**state, **{k: v.to(state[k]) for k, v in shared.items()}})
    return controlnet


def build_identity() -> ResNetModel:
    """Encoder of who is in a 256x256 picture: ``pooler_output`` flattened to ``(B, 192)``, 1.1 million parameters."""
    return ResNetModel(
        ResNetConfig(embedding_size=32, hidden_sizes=[48, 96, 160, 192], depths=[1, 1, 1, 1], layer_type="basic")
    )


def build_scheduler() -> PNDMScheduler:
    """SD 1.5's noise schedule and default sampler."""
    config = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "skip_prk_steps": True,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        # not PNDM's own: SD 1.5 keeps it here for the samplers made from this config
        "clip_sample": False,
    }
    return PNDMScheduler.from_config(config)
