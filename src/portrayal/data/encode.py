"""An EncodedDataset: what the training loop reads of pictures and captions, computed once.

Shapes: N pictures, C latent channels, H and W latent size, L prompt tokens, D text features.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from portrayal.models.base import BaseModel, in_batches


@dataclass(frozen=True)
class EncodedDataset:
    """Latent distributions and prompts of pictures.

    Attributes:
        ids: Id of each picture.
        mean: Mean of each picture's latent distribution, unscaled, shape `(N, C, H, W)`, fp32, on the CPU.
        std: Its standard deviation, same shape.
        input_ids: Token ids of each caption, shape `(N, L)`.
        prompt_embeds: Features of each caption by the base's text encoder, shape `(N, L, D)`.
        masks: How much of each place of each picture is the subject, from 0 to 1, shape `(N, 1, H, W)`; 1 all over
            where a picture has no mask; nothing when none has.
    """

    ids: tuple[str, ...]
    mean: Tensor
    std: Tensor
    input_ids: Tensor
    prompt_embeds: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, ids: Collection[str]) -> EncodedDataset:
        """Those of these ids, in their order here."""
        rows = [index for index, name in enumerate(self.ids) if name in ids]
        masks = None if self.masks is None else self.masks[rows]
        return EncodedDataset(
            tuple(self.ids[index] for index in rows),
            self.mean[rows],
            self.std[rows],
            self.input_ids[rows],
            self.prompt_embeds[rows],
            masks,
        )

    def save(self, path: Path) -> None:
        """Write as one safetensors file."""
        from safetensors.torch import save_file

        tensors = {name: getattr(self, name).contiguous() for name in ("mean", "std", "input_ids", "prompt_embeds")}
        if self.masks is not None:
            tensors["masks"] = self.masks.contiguous()
        save_file(tensors, path, metadata={"ids": json.dumps(self.ids)})

    @classmethod
    def load(cls, path: Path) -> EncodedDataset:
        """Read what :meth:`save` wrote."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
            ids = tuple(json.loads(file.metadata()["ids"]))
        return cls(ids, **tensors)


def encode(
    base: BaseModel,
    pictures: Iterable[tuple[str, Image.Image, str]],
    masks: Mapping[str, Image.Image] | None = None,
    *,
    batch_size: int = 8,
) -> EncodedDataset:
    """Encode pictures with their ids and captions.

    Args:
        base: The base whose VAE and text encoder read them.
        pictures: Id, RGB picture at the training resolution, and caption of each.
        masks: Masks of the pictures that have one by id, mode `L`, white where the subject is.
        batch_size: Pictures encoded at once, if the memory allows.
    """
    rows = list(pictures)
    moments = in_batches([row[1] for row in rows], batch_size, partial(latent_moments, base))
    mean, std = (torch.cat(part) for part in zip(*moments, strict=True))
    unique = list(dict.fromkeys(row[2] for row in rows))
    where = torch.tensor([unique.index(row[2]) for row in rows])
    input_ids = base.input_ids(unique).cpu()
    prompt_embeds = base.encode_prompts(unique).float().cpu()
    ids = tuple(row[0] for row in rows)
    at_latent_size = latent_masks(ids, masks, mean.shape[2:]) if masks else None
    return EncodedDataset(ids, mean, std, input_ids[where], prompt_embeds[where], at_latent_size)


def latent_masks(ids: Sequence[str], masks: Mapping[str, Image.Image], size: Sequence[int]) -> Tensor:
    """Masks at latent size, shape `(N, 1, H, W)`: the subject's share of the pixels that a latent stands for."""
    import numpy as np

    height, width = size
    found = torch.ones(len(ids), 1, height, width)
    for index, photo in enumerate(ids):
        if photo in masks:
            small = masks[photo].convert("L").resize((width, height), Image.Resampling.BOX)
            found[index, 0] = torch.from_numpy(np.asarray(small, dtype=np.float32)) / 255
    return found


@torch.no_grad()
def latent_moments(base: BaseModel, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents, each `(N, C, H, W)`; in fp32, where the VAE cannot overflow."""
    pixels = torch.stack([to_pixels(image) for image in images]).to(base.device)
    with in_fp32(base) as vae:
        distribution = vae.encode(pixels).latent_dist
    return distribution.mean.cpu(), distribution.std.cpu()


@contextmanager
def in_fp32(base: BaseModel) -> Iterator[Any]:
    """The VAE in fp32; in fp16 some pictures overflow it."""
    if base.dtype == torch.float32:
        yield base.vae
        return
    try:
        yield base.vae.float()
    finally:
        base.vae.to(base.dtype)


def to_pixels(image: Image.Image) -> Tensor:
    """Pixels in [-1, 1], shape `(3, height, width)`."""
    import numpy as np

    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1
