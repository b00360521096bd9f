"""Captioners: pictures → words for what they show besides the subject.

A word of the caption explains what it names, so that the instance token is left with what no word names: the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from portrayal.errors import WeightsError
from portrayal.models.encoders import Scorer, clip_scorer
from portrayal.models.source import BaseSource
from portrayal.pocket import CLOTHES, FRAMINGS, PLACES, WEIGHTS


@dataclass(frozen=True)
class Captioner:
    """One captioner and where it is from."""

    name: str
    licence: str
    describe: Callable[[Sequence[Image.Image], str], list[str]]
    """Pictures and the prompt of the class, `a photo of a woman` → for each the words to append to it."""


def check_captioner(source: BaseSource) -> None:
    """Refuse a base that has no captioner.

    Raises:
        WeightsError: If it has none.
    """
    if source.kind != "pocket":
        raise WeightsError(
            f"Photos for the base {source.name} cannot be described, only photos for pocket so far.",
            "Set prepare.captions=template, or write a .txt beside each photo.",
        )


def load_captioner(source: BaseSource, device: torch.device) -> Captioner:
    """The captioner that fits a base.

    Raises:
        WeightsError: If there is none.
    """
    check_captioner(source)
    clip = clip_scorer(WEIGHTS / "clip", "pocket's CLIP", "Apache-2.0", device)
    return clip_captioner(clip, (CLOTHES, PLACES, FRAMINGS))


def clip_captioner(clip: Scorer, aspects: Sequence[Sequence[str]]) -> Captioner:
    """Names clothes, place and framing by zero-shot classification (Radford et al. 2021, arXiv:2103.00020, Sec. 3.1).

    Args:
        clip: A CLIP with both halves.
        aspects: For each thing to name the phrases to choose from; the best of each are said one after another.
    """
    assert clip.texts is not None
    texts = clip.texts

    def describe(pictures: Sequence[Image.Image], class_prompt: str) -> list[str]:
        if not pictures:
            return []
        seen, said = unit(clip.images(pictures)), []
        for phrases in aspects:
            alike = seen @ unit(texts([f"{class_prompt} {phrase}" for phrase in phrases])).T
            said.append([phrases[choice] for choice in alike.argmax(axis=1)])
        return [" ".join(words) for words in zip(*said, strict=True)]

    return Captioner(clip.name, clip.licence, describe)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
