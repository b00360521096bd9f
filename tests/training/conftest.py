"""A base of a few thousand weights, so that every optimizer, precision and method can be tried in milliseconds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

from portrayal.config import BaseConfig
from portrayal.data.encode import EncodedDataset
from portrayal.models.base import BaseModel, load_base
from portrayal.models.source import BaseSource, find_base
from portrayal.pocket import WEIGHTS
from portrayal.training.task import TrainingData

SIDE, CHANNELS, FEATURES = 8, 4, 8


@pytest.fixture(scope="session")
def mini_source(tmp_path_factory: pytest.TempPathFactory) -> BaseSource:
    """A diffusers folder with the classes of Stable Diffusion and weights of chance."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("bases") / "mini"
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(WEIGHTS / name, folder / name)
    shutil.copy(WEIGHTS / "model_index.json", folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=(8,), norm_num_groups=4,
            layers_per_block=1, cross_attention_dim=FEATURES, attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        )  # fmt: skip
        vae = AutoencoderKL(latent_channels=CHANNELS, block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.2)
        sizes: dict[str, Any] = {"hidden_size": FEATURES, "intermediate_size": 16, "projection_dim": FEATURES}
        words: dict[str, Any] = {"vocab_size": 1010, "bos_token_id": 1008, "eos_token_id": 1009, "pad_token_id": 1009}
        text_encoder = CLIPTextModel(CLIPTextConfig(num_hidden_layers=1, num_attention_heads=2, **sizes, **words))
    for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        part.save_pretrained(folder / name)
    return find_base(BaseConfig(name=str(folder)))


@pytest.fixture(scope="session")
def mini(mini_source: BaseSource) -> BaseModel:
    """That base in fp32 on the CPU: whoever attaches something gives it back as it was."""
    return load_base(mini_source, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def mini_velocity(mini_source: BaseSource) -> BaseModel:
    """The same, said to predict the velocity."""
    source = replace(mini_source, prediction_type="v_prediction")
    return load_base(source, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def mini_half(mini_source: BaseSource) -> BaseModel:
    """The same in bf16, as on a small card."""
    return load_base(mini_source, device=torch.device("cpu"), dtype=torch.bfloat16)


@pytest.fixture(scope="session")
def mini_data(mini: BaseModel) -> TrainingData:
    """Latents of three photos and two class images."""
    return TrainingData((latents_of(mini, "photo", 3),), (latents_of(mini, "class", 2),))


def latents_of(base: BaseModel, name: str, count: int) -> EncodedDataset:
    """Latents of chance, under captions that differ."""
    generator = torch.Generator().manual_seed(len(name))
    captions = [f"a {name} {number}" for number in range(count)]
    return EncodedDataset(
        tuple(f"{name}{number}" for number in range(count)),
        5 * torch.randn(count, CHANNELS, SIDE, SIDE, generator=generator),
        torch.full((count, CHANNELS, SIDE, SIDE), 0.1),
        base.input_ids(captions),
        base.encode_prompts(captions),
    )
