"""Captioners: pictures → words for what they show besides the subject.

A word of the caption explains what it names, so that the instance token is left with what no word names: the subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from portrayal.models.encoders import Scorer, clip_scorer
from portrayal.models.source import BaseSource
from portrayal.models.store import fetch_known
from portrayal.parallel import LOADING
from portrayal.pocket import CLOTHES, FRAMINGS, PLACES, WEIGHTS

BLIP = "Salesforce/blip-image-captioning-large"
BATCH = 8
MOST_TOKENS = 24
LOOKS = re.compile(
    r"\b(?:with|wearing|and)(?: (?:a|an|her|his|their))?(?: [\w-]+){0,3}? "
    r"(?:hair|hairstyle|haircut|ponytail|bun|bangs|braids|beard|moustache|mustache|eyes|freckles|glasses)\b"
    r"(?: in (?:a )?(?:ponytail|bun|braids)\b)?"
)
"""What belongs to the subject: named in a caption, it would be learned as the word's and not as the token's."""


@dataclass(frozen=True)
class Captioner:
    """One captioner and where it is from."""

    name: str
    licence: str
    describe: Callable[[Sequence[Image.Image], str], list[str]]
    """Pictures and the prompt of the class, `a photo of a woman` → for each the words to append to it."""


def load_captioner(source: BaseSource, device: torch.device) -> Captioner:
    """The captioner that fits a base: `pocket`'s own CLIP for drawn people, BLIP for photos.

    Raises:
        WeightsError: If BLIP's weights cannot be had.
    """
    if source.kind == "pocket":
        with LOADING:
            return clip_captioner(pocket_clip(device), (CLOTHES, PLACES, FRAMINGS))
    folder = fetch_known(BLIP)
    with LOADING:
        return blip_captioner(folder, device)


def read_surroundings(
    pictures: Sequence[Image.Image], class_prompt: str, device: torch.device
) -> tuple[list[str], list[str]]:
    """Colour of the clothes, such as `red`, and place, such as `in the park`, of each drawn picture.

    By `pocket`'s CLIP, which tells a coat from a jacket less often than red from blue.
    """
    with LOADING:
        clip = pocket_clip(device)
    clothes, places = best_phrases(clip, pictures, class_prompt, (CLOTHES, PLACES))
    return [phrase.split()[2] for phrase in clothes], places  # `wearing a red dress`


def pocket_clip(device: torch.device) -> Scorer:
    """The CLIP that knows drawn people."""
    return clip_scorer(WEIGHTS / "clip", "pocket's CLIP", "Apache-2.0", device)


def clip_captioner(clip: Scorer, aspects: Sequence[Sequence[str]]) -> Captioner:
    """Says clothes, place and framing one after another; see :func:`best_phrases`."""

    def describe(pictures: Sequence[Image.Image], class_prompt: str) -> list[str]:
        said = best_phrases(clip, pictures, class_prompt, aspects)
        return [" ".join(words) for words in zip(*said, strict=True)]

    return Captioner(clip.name, clip.licence, describe)


def best_phrases(
    clip: Scorer, pictures: Sequence[Image.Image], class_prompt: str, aspects: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Zero-shot classification (Radford et al. 2021, arXiv:2103.00020, Sec. 3.1).

    Args:
        clip: A CLIP with both halves.
        pictures: What to describe.
        class_prompt: Such as `a photo of a woman`; the phrases are appended to it.
        aspects: For each thing to name the phrases to choose from.

    Returns:
        For each aspect the best phrase of each picture.
    """
    assert clip.texts is not None
    if not pictures:
        return [[] for _ in aspects]
    seen, best = unit(clip.images(pictures)), []
    for phrases in aspects:
        alike = seen @ unit(clip.texts([f"{class_prompt} {phrase}" for phrase in phrases])).T
        best.append([phrases[choice] for choice in alike.argmax(axis=1)])
    return best


def blip_captioner(folder: Path, device: torch.device) -> Captioner:
    """Goes on from the prompt of the class (BLIP, Li et al. 2022, arXiv:2201.12086)."""
    from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

    model: Any = BlipForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model.to(device).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def describe(pictures: Sequence[Image.Image], class_prompt: str) -> list[str]:
        said = []
        for start in range(0, len(pictures), BATCH):
            chunk = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
            pixels = processor(images=chunk, return_tensors="pt").pixel_values.to(device)
            prompt = tokenizer([class_prompt] * len(chunk), return_tensors="pt", return_token_type_ids=False).to(device)
            tokens = model.generate(pixels, **prompt, num_beams=3, max_new_tokens=MOST_TOKENS, do_sample=False)
            new = tokens[:, prompt.input_ids.shape[1] - 1 :]  # behind the prompt, whose end mark was taken off
            said += tokenizer.batch_decode(new, skip_special_tokens=True)
        return [without_looks(words) for words in said]

    return Captioner(BLIP, "BSD-3-Clause", describe)


def without_looks(words: str) -> str:
    """Leave out what belongs to the subject.

    >>> without_looks("with long brown hair in a kitchen")
    'in a kitchen'
    """
    return " ".join(LOOKS.sub("", words).split()).strip(" ,.")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
