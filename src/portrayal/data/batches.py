"""Batches as a function of (seed, position): what is trained on at a step does not depend on how it was reached.

Shapes: B pictures, C latent channels, H and W latent size, L prompt tokens, D text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from portrayal.data.encode import EncodedDataset
from portrayal.randomness import generator_for


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads.

    Attributes:
        ids: Ids of the pictures, photos first, class images after them.
        latents: Drawn from the latent distributions and scaled, shape `(B, C, H, W)`.
        input_ids: Token ids of the captions, shape `(B, L)`.
        prompt_embeds: Features of the captions, shape `(B, L, D)`.
        weights: Share of each picture's loss in the loss of the batch, shape `(B,)`: `1/n` for each of `n` photos,
            `prior_loss_weight/m` for each of `m` class images.
        is_photo: Which of the pictures are photos.
        place_weights: Weight of each place in its picture's loss, shape `(B, 1, H, W)`: 1 on the subject, less on the
            background of masked photos; nothing when all places weigh the same.
    """

    ids: tuple[str, ...]
    latents: Tensor
    input_ids: Tensor
    prompt_embeds: Tensor
    weights: Tensor
    is_photo: tuple[bool, ...]
    place_weights: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return replace(
            self,
            latents=self.latents.to(device),
            input_ids=self.input_ids.to(device),
            prompt_embeds=self.prompt_embeds.to(device),
            weights=self.weights.to(device),
            place_weights=None if self.place_weights is None else self.place_weights.to(device),
        )


def join(batches: Sequence[Batch]) -> Batch:
    """Several batches of one shape after one another; of one, itself."""
    if len(batches) == 1:
        return batches[0]
    tensors = {
        name: torch.cat([getattr(batch, name) for batch in batches])
        for name in ("latents", "input_ids", "prompt_embeds", "weights")
    }
    places = None
    if any(batch.place_weights is not None for batch in batches):
        places = torch.cat(
            [
                torch.ones_like(batch.latents[:, :1]) if batch.place_weights is None else batch.place_weights
                for batch in batches
            ]
        )
    ids = tuple(name for batch in batches for name in batch.ids)
    is_photo = tuple(photo for batch in batches for photo in batch.is_photo)
    return Batch(ids, is_photo=is_photo, place_weights=places, **tensors)


class Row(NamedTuple):
    """One picture of a batch."""

    data: EncodedDataset
    picture: int
    """Its place in its dataset."""

    view: int
    """The place there of what is seen of it, among the latents and masks."""

    weight: float


@dataclass(frozen=True)
class EmptyCaption:
    """The caption of a photo whose own was dropped.

    Attributes:
        input_ids: Token ids of the empty prompt, shape `(L,)`.
        prompt_embeds: Its features by the base's text encoder, shape `(L, D)`.
        share: Chance that a photo's caption is dropped in a forward pass.
    """

    input_ids: Tensor
    prompt_embeds: Tensor
    share: float


@dataclass(frozen=True)
class BatchSource:
    """Photos, and the class images that ride along.

    Attributes:
        photos: The training photos, those of one shape together.
        class_images: Class images for prior preservation in each of these shapes, or nothing.
        size: Photos in a batch.
        class_size: Class images in a batch, if there are any.
        prior_loss_weight: Weight of a class image's loss against a photo's.
        scaling_factor: The VAE's factor from latents to the UNet's input.
        seed: The run's seed.
        background_loss_weight: Weight of the places outside of the masks; 1 leaves the masks out.
        empty: What dropped captions are replaced by; nothing drops none. Class images keep theirs.
    """

    photos: tuple[EncodedDataset, ...]
    class_images: tuple[EncodedDataset, ...] | None
    size: int
    class_size: int
    prior_loss_weight: float
    scaling_factor: float
    seed: int
    background_loss_weight: float = 1.0
    empty: EmptyCaption | None = None

    def at(self, position: int, rank: int = 0) -> Batch:
        """The batch at a position: position `p` of a training is its `p`-th forward pass, counted from 0."""
        shape, visit = self.shape_at(position)
        photos = self.photos[shape]
        rows = self.rows(photos, "photos", self.size, visit, rank, 1 / self.size)
        if self.class_images is not None:
            class_images, weight = self.class_images[shape], self.prior_loss_weight / self.class_size
            rows += self.rows(class_images, "class_images", self.class_size, position, rank, weight)
        mean = torch.stack([row.data.mean[row.view] for row in rows])
        std = torch.stack([row.data.std[row.view] for row in rows])
        generator = generator_for(self.seed, "train.latents", rank, position)
        latents = mean + std * torch.randn(mean.shape, generator=generator)
        input_ids = torch.stack([row.data.input_ids[row.picture] for row in rows])
        prompt_embeds = torch.stack([row.data.prompt_embeds[row.picture] for row in rows])
        if self.empty is not None:
            dropped = self._dropped(self.empty.share, position, rank)
            input_ids[dropped], prompt_embeds[dropped] = self.empty.input_ids, self.empty.prompt_embeds
        return Batch(
            ids=tuple(row.data.ids[row.picture] for row in rows),
            latents=latents * self.scaling_factor,
            input_ids=input_ids,
            prompt_embeds=prompt_embeds,
            weights=torch.tensor([row.weight for row in rows]),
            is_photo=tuple(index < self.size for index in range(len(rows))),
            place_weights=self._place_weights(rows),
        )

    def shape_at(self, position: int) -> tuple[int, int]:
        """Which shape the photos at a position have, and how often it had its turn before: the same on every rank.

        In as many batches as there are photos each shape has as many turns as it has photos, in shuffled order.
        """
        turns = torch.repeat_interleave(
            torch.arange(len(self.photos)), torch.tensor([len(photos) for photos in self.photos])
        )
        cycle, place = divmod(position, len(turns))
        if len(self.photos) == 1:
            return 0, position
        order = turns[torch.randperm(len(turns), generator=generator_for(self.seed, "train.shapes", 0, cycle))]
        shape = int(order[place])
        return shape, cycle * len(self.photos[shape]) + int((order[:place] == shape).sum())

    def _dropped(self, share: float, position: int, rank: int) -> Tensor:
        """Places of the photos whose captions are dropped."""
        generator = generator_for(self.seed, "train.caption_dropout", rank, position)
        return (torch.rand(self.size, generator=generator) < share).nonzero().flatten()

    def _place_weights(self, rows: Sequence[Row]) -> Tensor | None:
        if self.background_loss_weight == 1 or all(photos.masks is None for photos in self.photos):
            return None
        whole = torch.ones_like(rows[0].data.mean[0, :1])
        masks = torch.stack([whole if row.data.masks is None else row.data.masks[row.view] for row in rows])
        return masks + self.background_loss_weight * (1 - masks)

    def rows(self, data: EncodedDataset, name: str, size: int, position: int, rank: int, weight: float) -> list[Row]:
        """Which pictures: every epoch is a fresh shuffle, and epochs follow one another without a gap."""
        chosen = []
        for turn in range(position * size, (position + 1) * size):
            epoch, place = divmod(turn, len(data))
            order = torch.randperm(len(data), generator=generator_for(self.seed, f"train.order.{name}", rank, epoch))
            picture = int(order[place])
            view = self.view(data, picture, epoch, rank)
            chosen.append(Row(data, picture, view * len(data) + picture, weight))
        return chosen

    def view(self, data: EncodedDataset, picture: int, epoch: int, rank: int) -> int:
        """Which view of a picture in an epoch: in as many epochs as it has views each has its turn, in shuffled order.

        The order is the picture's own, whatever else is in the dataset.
        """
        if data.num_views == 1:
            return 0
        cycle, place = divmod(epoch, data.num_views)
        generator = generator_for(self.seed, f"train.views.{data.ids[picture]}", rank, cycle)
        return int(torch.randperm(data.num_views, generator=generator)[place])
