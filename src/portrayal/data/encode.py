"""An EncodedDataset: what the training loop reads of pictures and captions, computed once.

Shapes: N pictures, V views of each, C latent channels, H and W latent size, L prompt tokens, D text features.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from portrayal.data.views import ITSELF, Views
from portrayal.models.base import BaseModel, in_batches
from portrayal.models.checkpoints import cast


@dataclass(frozen=True)
class EncodedDataset:
    """Latent distributions and prompts of pictures.

    Attributes:
        ids: Id of each picture.
        mean: Mean of each latent distribution, unscaled, shape `(V*N, C, H, W)`, fp32, on the CPU: of the pictures
            themselves first, where held-out photos are read, then of their second views, and so on.
        std: Its standard deviation, same shape.
        input_ids: Token ids of each caption, shape `(N, L)`.
        prompt_embeds: Features of each caption by the base's text encoder, shape `(N, L, D)`.
        masks: How much of each place of each view is the subject, from 0 to 1, shape `(V*N, 1, H, W)`; 1 all over
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

    @property
    def num_views(self) -> int:
        """Views `V` of each picture, itself among them."""
        return len(self.mean) // len(self.ids) if self.ids else 1

    def subset(self, ids: Collection[str]) -> EncodedDataset:
        """Those of these ids, in their order here."""
        rows = [index for index, name in enumerate(self.ids) if name in ids]
        of_views = [view * len(self) + index for view in range(self.num_views) for index in rows]
        masks = None if self.masks is None else self.masks[of_views]
        return EncodedDataset(
            tuple(self.ids[index] for index in rows),
            self.mean[of_views],
            self.std[of_views],
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
    views: Views = ITSELF,
    batch_size: int = 8,
) -> EncodedDataset:
    """Encode pictures with their ids and captions.

    Args:
        base: The base whose VAE and text encoder read them.
        pictures: Id, RGB picture at the training resolution, and caption of each.
        masks: Masks of the pictures that have one by id, mode `L`, white where the subject is.
        views: Which views of each picture are encoded.
        batch_size: Pictures encoded at once, if the memory allows.
    """
    rows = list(pictures)
    moments: list[tuple[Tensor, Tensor]] = []
    for view in range(len(views)):  # one after another: the pictures themselves are in batches of their own
        images = [views.take(image, name, view) for name, image, _ in rows]
        moments += in_batches(images, batch_size, partial(latent_moments, base))
    mean, std = (torch.cat(part) for part in zip(*moments, strict=True))
    unique = list(dict.fromkeys(row[2] for row in rows))
    where = torch.tensor([unique.index(row[2]) for row in rows])
    input_ids = base.input_ids(unique).cpu()
    prompt_embeds = base.encode_prompts(unique).float().cpu()
    ids = tuple(row[0] for row in rows)
    at_latent_size = latent_masks(ids, masks, mean.shape[2:], views) if masks else None
    return EncodedDataset(ids, mean, std, input_ids[where], prompt_embeds[where], at_latent_size)


def latent_masks(
    ids: Sequence[str], masks: Mapping[str, Image.Image], size: Sequence[int], views: Views = ITSELF
) -> Tensor:
    """Masks at latent size, shape `(V*N, 1, H, W)`: the subject's share of the pixels that a latent stands for."""
    import numpy as np

    height, width = size
    found = torch.ones(len(views), len(ids), 1, height, width)
    for view, (index, photo) in product(range(len(views)), enumerate(ids)):
        if photo in masks:
            mask = views.take(masks[photo].convert("L"), photo, view)
            small = mask.resize((width, height), Image.Resampling.BOX)
            found[view, index, 0] = torch.from_numpy(np.asarray(small, dtype=np.float32)) / 255
    return found.flatten(0, 1)


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
        cast(base.vae, base.dtype)


def to_pixels(image: Image.Image) -> Tensor:
    """Pixels in [-1, 1], shape `(3, height, width)`."""
    import numpy as np

    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1
