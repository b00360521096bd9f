"""Scorers: images (and texts) → embeddings. The embedded base brings its own; real photos are read by fetched ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from portrayal.errors import WeightsError
from portrayal.models.pose import PoseReader, load_pose_reader
from portrayal.models.source import BaseSource
from portrayal.models.store import fetch_known
from portrayal.parallel import in_threads
from portrayal.pocket import WEIGHTS

DINO = "facebook/dinov2-base"
CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # SD 1.5 conditions on another CLIP, so it does not mark its own work
BATCH = 16
T = TypeVar("T")

Embed = Callable[[Sequence[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Scorer:
    """One encoder and where it is from."""

    name: str
    licence: str
    images: Embed
    texts: Embed | None = None

    def as_json(self) -> dict[str, str]:
        """What `scores.json` records of it."""
        return {"name": self.name, "licence": self.licence}


@dataclass(frozen=True)
class Encoders:
    """The scorers of a run; what could not be had is nothing, and `notes` says so."""

    identity: Scorer | None
    prompt: Scorer | None
    notes: tuple[str, ...] = field(default=())
    pose: PoseReader | None = None


def load_encoders(source: BaseSource, device: torch.device) -> Encoders:
    """The scorers that fit a base: its own for `pocket`, DINOv2 and a CLIP that is not the base's for real photos."""
    notes: list[str] = []
    if source.kind == "pocket":
        pose = attempt(lambda: load_pose_reader(source, device), "poses", notes)
        clip = clip_scorer(WEIGHTS / "clip", "pocket's CLIP", "Apache-2.0", device)
        return Encoders(pocket_identity(device), clip, tuple(notes), pose)
    identity = attempt(lambda: dino_scorer(fetch_known(DINO), device), "identity", notes)
    prompt = attempt(lambda: clip_scorer(fetch_known(CLIP), CLIP, "MIT", device), "prompt fidelity", notes)
    return Encoders(identity, prompt, tuple(notes))


def attempt(load: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """A scorer, or nothing and a note when its weights cannot be had."""
    try:
        return load()
    except WeightsError as error:
        notes.append(f"Judged without {what}: {error.cause} {error.remedy}")
        return None


def pocket_identity(device: torch.device) -> Scorer:
    """The embedded identity encoder: metric learning over drawn people."""
    from transformers import ResNetModel

    folder = WEIGHTS / "identity"
    model = ResNetModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    size = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))["crop_size"]["height"]

    def embed(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return in_batches(images, lambda chunk: model(pixels(chunk, size, device)).pooler_output.flatten(1))

    return Scorer("pocket's identity encoder", "Apache-2.0", embed)


def dino_scorer(folder: Path, device: torch.device) -> Scorer:
    """DINOv2's class token (Oquab et al. 2023, arXiv:2304.07193): subject fidelity as in DreamBooth's DINO metric."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).to(device).eval()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def embed(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return in_batches(images, lambda chunk: model(pixels(chunk, 224, device, mean, std)).last_hidden_state[:, 0])

    return Scorer(DINO, "Apache-2.0", embed)


def clip_scorer(folder: Path, name: str, licence: str, device: torch.device) -> Scorer:
    """A CLIP (Radford et al. 2021, arXiv:2103.00020), both halves."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).to(device).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    has_tokenizer = (folder / "vocab.json").is_file()
    tokenizer = CLIPTokenizer.from_pretrained(folder if has_tokenizer else WEIGHTS / "tokenizer", local_files_only=True)

    def embed_images(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        def features(chunk: Sequence[Any]) -> Tensor:
            values = in_threads(lambda image: processor(images=image, return_tensors="pt").pixel_values, chunk)
            return projected(model.get_image_features(pixel_values=torch.cat(values).to(device)))

        return in_batches(images, features)

    def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
        def features(chunk: Sequence[Any]) -> Tensor:
            tokens = tokenizer(list(chunk), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            return projected(model.get_text_features(**tokens.to(device)))

        return in_batches(texts, features)

    return Scorer(name, licence, embed_images, embed_texts)


def projected(output: Any) -> Tensor:
    """The projected features, which transformers returns as a tensor or inside an output object."""
    tensor: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return tensor


@torch.no_grad()
def in_batches(items: Sequence[Any], features: Callable[[Sequence[Any]], Tensor]) -> NDArray[np.float32]:
    """Features of all items, shape `(N, D)`."""
    chunks = [features(items[start : start + BATCH]).float().cpu() for start in range(0, len(items), BATCH)]
    array: NDArray[np.float32] = torch.cat(chunks).numpy()
    return array


def pixels(
    images: Sequence[Image.Image],
    side: int,
    device: torch.device,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> Tensor:
    """Normalised pixels, shape `(N, 3, side, side)`."""

    def resized(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

    tensor = torch.from_numpy(np.stack(in_threads(resized, images))).permute(0, 3, 1, 2).float() / 255
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return ((tensor - shift) / scale).to(device)
