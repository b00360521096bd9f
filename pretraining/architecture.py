"""The embedded base's models, built from configs alone: Stable Diffusion 1.5's classes, a hundredth of its size.

Pictures are 128x128, latents 16x16 with eight channels, prompts 77 tokens of 128 features.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, ControlNetModel, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, ResNetConfig, ResNetModel

PICTURE_SIZE = 128
LATENT_SIZE = 16
LATENT_CHANNELS = 8
PROMPT_LENGTH = 77
TEXT_FEATURES = 128
VISION_FEATURES = 160
HEAD_SIZE = 32


@dataclass(frozen=True)
class Vocabulary:
    """The ids that the text encoder's config shares with the tokenizer."""

    size: int = 1536
    bos_token_id: int = 1534
    eos_token_id: int = 1535


def build_vae() -> AutoencoderKL:
    """Autoencoder from ``(B, 3, 128, 128)`` in [-1, 1] to ``(B, 8, 16, 16)`` and back, 4.4 million parameters."""
    channels = (48, 96, 128, 128)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=PICTURE_SIZE,
        force_upcast=False,
    )


def build_clip(vocabulary: Vocabulary) -> CLIPModel:
    """CLIP, 2.7 million parameters; its text half conditions the UNet, the whole judges pictures against prompts."""
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
        num_hidden_layers=5,
        num_attention_heads=VISION_FEATURES // HEAD_SIZE,
        image_size=PICTURE_SIZE,
        patch_size=16,
        projection_dim=TEXT_FEATURES,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=TEXT_FEATURES)
    )


def build_unet() -> UNet2DConditionModel:
    """SD 1.5's denoiser with one layer per block and heads of 32 features, 8.7 million parameters."""
    channels = (64, 128, 128, 128)
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=TEXT_FEATURES,
        # diffusers' legacy naming: for SD 1.5's blocks this is the *number* of heads at each level
        attention_head_dim=tuple(width // HEAD_SIZE for width in channels),
        norm_num_groups=16,
    )


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """ControlNet that starts as a copy of ``unet``'s encoder (Zhang et al. 2023, arXiv:2302.05543), 3.5 million."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64, 96))


def build_identity() -> ResNetModel:
    """Encoder of who is in a picture: ``pooler_output`` flattened to ``(B, 224)``, 1.4 million parameters."""
    return ResNetModel(
        ResNetConfig(embedding_size=32, hidden_sizes=[48, 96, 160, 224], depths=[1, 1, 1, 1], layer_type="basic")
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
