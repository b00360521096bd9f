"""Maskers: pictures and what the subject is → masks, white where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from portrayal.models.store import fetch_known
from portrayal.parallel import LOADING

CLIPSEG = "CIDAS/clipseg-rd64-refined"
BATCH = 4


@dataclass(frozen=True)
class Masker:
    """One masker and where it is from."""

    name: str
    licence: str
    mask: Callable[[Sequence[Image.Image], str], list[Image.Image]]
    """Pictures and words for the subject, `a woman` → a mask of each, mode `L`, of the picture's size."""


def load_masker(device: torch.device) -> Masker:
    """CLIPSeg, for photographs and drawings.

    Raises:
        WeightsError: If its weights cannot be had.
    """
    return clipseg_masker(fetch_known(CLIPSEG), device)


def clipseg_masker(folder: Path, device: torch.device) -> Masker:
    """Finds what words name (CLIPSeg, Lüddecke and Ecker 2022, arXiv:2112.10003)."""
    from transformers import CLIPSegForImageSegmentation, CLIPTokenizer, ViTImageProcessorPil

    with LOADING:
        model: Any = CLIPSegForImageSegmentation.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    model.to(device).eval()
    processor = ViTImageProcessorPil.from_pretrained(folder, local_files_only=True)
    tokenizer: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def mask(pictures: Sequence[Image.Image], words: str) -> list[Image.Image]:
        masks: list[Image.Image] = []
        for start in range(0, len(pictures), BATCH):
            chunk = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
            pixels = processor(images=chunk, return_tensors="pt").pixel_values.to(device)
            prompt = tokenizer([words] * len(chunk), return_tensors="pt").to(device)
            logits = model(**prompt, pixel_values=pixels).logits.reshape(
                -1, *pixels.shape[-2:]
            )  # one picture's lack the batch
            likely = (logits.sigmoid().float().cpu().numpy() * 255).round().astype(np.uint8)
            masks += [
                Image.fromarray(values).resize(picture.size, Image.Resampling.BILINEAR)
                for values, picture in zip(likely, chunk, strict=True)
            ]
        return masks

    return Masker(CLIPSEG, "Apache-2.0", mask)
