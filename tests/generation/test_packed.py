"""Images by a pack are those that each of its LoRAs paints alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from portrayal.config import GenerationConfig, LoraMethod
from portrayal.generation.generator import Generator
from portrayal.generation.packed import generate_packed
from portrayal.models.packed_lora import Member, attach_pack
from portrayal.models.saved import attach_saved_loras, tuned

PROMPTS = [
    "a photo of sks woman on the street",
    "a photo of a woman in the forest",
    "a photo of sks woman on the street",
]
SEEDS = [3, 4, 5]


@pytest.fixture(scope="module")
def folders(pocket: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three LoRAs of different ranks and scales that change images visibly, text encoder and all."""
    methods = [
        LoraMethod(rank=rank, alpha=alpha, train_text_encoder=True) for rank, alpha in ((2, 2.0), (4, 1.0), (3, 6.0))
    ]
    root = tmp_path_factory.mktemp("loras")
    pack = attach_pack(pocket, [Member(f"lora-{n}", method, seed=n) for n, method in enumerate(methods)])
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for member in pack.members:
                for weight in member.weights.values():
                    weight += 0.05 * torch.randn(weight.shape, generator=generator)
        for member in pack.members:
            pack.save(member, root / member.name, "fp32")
    finally:
        pack.detach()
    return [root / member.name for member in pack.members]


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_a_pack_generates_what_each_lora_generates_alone(pocket: Any, folders: list[Path], guidance: float) -> None:
    settings = GenerationConfig(num_inference_steps=3, guidance_scale=guidance, negative_prompt="blurry", batch_size=4)
    alone = []
    for folder in folders:
        with tuned(pocket, folder):
            alone.append([*Generator(pocket, settings).paint(PROMPTS, SEEDS)])
    pack = attach_saved_loras(pocket, [folder / "pytorch_lora_weights.safetensors" for folder in folders])
    try:
        together = generate_packed(pocket, pack, settings, PROMPTS, SEEDS, at_once=6)  # two images of each
    finally:
        pack.detach()
    assert [len(row) for row in together] == [3, 3, 3]
    for ours, theirs in zip(together, alone, strict=True):
        for image, other in zip(ours, theirs, strict=True):
            difference = np.abs(np.asarray(image, np.int16) - np.asarray(other, np.int16))
            assert difference.max() <= 1
    flat = [np.asarray(image, np.int16) for row in together for image in row]
    assert min(np.abs(a - b).mean() for n, a in enumerate(flat) for b in flat[:n]) > 1


def test_loras_of_different_layers_are_refused(pocket: Any, folders: list[Path], tmp_path: Path) -> None:
    pack = attach_pack(pocket, [Member("narrow", LoraMethod(rank=2, target_modules=("to_q",)), seed=0)])
    try:
        pack.save(pack.members[0], tmp_path, "fp32")
    finally:
        pack.detach()
    files = [folder / "pytorch_lora_weights.safetensors" for folder in (folders[0], tmp_path)]
    with pytest.raises(ValueError, match="different layers"):
        attach_saved_loras(pocket, files)
    assert not pocket.attached
