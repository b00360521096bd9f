"""Writes down what really goes into a run: latents and noise of every row of a loss, weights and seed of every image.

It stands between the run's own code and what computes: the denoising loss, the UNet, the weights in memory. What a run
says of itself is compared with it; nothing of the run's own bookkeeping is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One image in one call of the denoising loss.

    Attributes:
        latents: As the UNet's input is made from, shape `(C, H, W)`.
        noise: Digest of its noise.
        prompt: Features of its prompt, shape `(L, D)`.
        weights: Digest of the weights in place; none while they are trained.
        loss: What the loss was.
    """

    latents: Tensor
    noise: str
    timestep: int
    prompt: Tensor
    weights: str | None
    loss: float


@dataclass(frozen=True)
class PaintedImage:
    """One image that was generated.

    Attributes:
        path: Where it was to go; none for class images, which are kept elsewhere.
        start: Digest of the noise that the UNet began from.
        weights: Digest of the weights in place.
        image: What came out.
    """

    path: Path | None
    prompt: str
    seed: int
    start: str
    weights: str
    image: Image.Image


@dataclass
class Recording:
    """All that was written down.

    Attributes:
        trained: Rows of each training, by its name, in order.
        heldout: Rows of all held-out losses.
        painted: All images that were generated and kept.
        cut: Those of each training cut to a lower rank, by its name: one list for each rank.
    """

    trained: dict[str, list[Row]] = field(default_factory=dict)
    heldout: list[Row] = field(default_factory=list)
    painted: list[PaintedImage] = field(default_factory=list)
    cut: dict[str, list[list[PaintedImage]]] = field(default_factory=dict)


def digest(*tensors: Tensor) -> str:
    """Digest of the numbers of tensors."""
    found = hashlib.blake2b(digest_size=12)
    for tensor in tensors:
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def weights_digest(base: Any) -> str:
    """Digest of all weights that compute, adapters too."""
    parts = (base.unet.state_dict(), base.text_encoder.state_dict())
    return digest(*(tensor for part in parts for _, tensor in sorted(part.items())))


@contextmanager
def recording() -> Iterator[Recording]:
    """Write down what goes into a run that is made in the block, on one process and the CPU."""
    from portrayal.evaluation import heldout
    from portrayal.generation import pictures
    from portrayal.generation.generator import Generator
    from portrayal.models import base as models
    from portrayal.stages import shared
    from portrayal.stages.cuts import Bench
    from portrayal.training import step, trainer
    from portrayal.training.loss import diffusion_loss

    found, training, wanted = Recording(), list[str](), list[Sequence[Any]]()
    shared.shared_base.cache_clear()
    shared.shared_encoders.cache_clear()
    shared.shared_looks.cache_clear()

    def rows(weights: str | None, args: Sequence[Any], losses: Tensor) -> list[Row]:
        latents, prompts, noise = args[2:5]
        return [
            Row(
                latents[number].clone(),
                digest(noise.values[number]),
                int(noise.timesteps[number]),
                prompts[number].detach().clone(),
                weights,
                float(losses[number]),
            )
            for number in range(len(latents))
        ]

    def training_loss(*args: Any, **kwargs: Any) -> Tensor:
        losses = diffusion_loss(*args, **kwargs)
        made = rows(None, args, losses.detach())
        each = len(made) // len(training)  # rows of a pack's members after one another
        for number, name in enumerate(training):
            found.trained.setdefault(name, []).extend(made[number * each : (number + 1) * each])
        return losses

    def heldout_loss(*args: Any, **kwargs: Any) -> Tensor:
        losses = diffusion_loss(*args, **kwargs)
        found.heldout.extend(rows(weights_digest(bases[-1]), args, losses))
        return losses

    bases: list[Any] = []
    load_base = models.load_base

    def loading(*args: Any, **kwargs: Any) -> Any:
        bases.append(load_base(*args, **kwargs))
        return bases[-1]

    train = trainer.train

    def training_of(base: Any, tasks: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        training[:] = [task.name for task in tasks]
        train(base, tasks, *args, **kwargs)

    paint_missing = pictures.paint_missing

    def painting_to(generator: Any, images: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        wanted.append(images)
        try:
            paint_missing(generator, images, *args, **kwargs)
        finally:
            wanted.pop()

    cutting = Bench.images

    def cutting_of(bench: Any, trial: Any, folder: Any) -> Any:
        kept = len(found.painted)
        images = cutting(bench, trial, folder)
        found.cut.setdefault(trial.name, []).append(found.painted[kept:])
        del found.painted[kept:]
        return images

    paint = Generator.paint

    def painting(self: Any, prompts: Sequence[str], seeds: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        starts: list[str] = []
        last = [None]

        def first_call(_: Any, inputs: Any, named: Any) -> None:
            sample = inputs[0] if inputs else named["sample"]
            timestep = inputs[1] if len(inputs) > 1 else named["timestep"]
            if last[0] is None or timestep > last[0]:  # a batch begins at the noisiest step
                half = sample.chunk(2)[0] if self.settings.guidance_scale > 1 else sample
                starts.extend(digest(one) for one in half)
            last[0] = timestep

        weights = weights_digest(self.base)
        hook = self.base.unet.register_forward_pre_hook(first_call, with_kwargs=True)
        paths = [one.path for one in wanted[-1]] if wanted else [None] * len(prompts)
        try:
            images = list(paint(self, prompts, seeds, *args, **kwargs))
        finally:
            hook.remove()
        found.painted.extend(
            PaintedImage(*row)
            for row in zip(paths, prompts, seeds, starts, [weights] * len(images), images, strict=True)
        )
        yield from images

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_base", loading)
        patch.setattr(step, "diffusion_loss", training_loss)
        patch.setattr(heldout, "diffusion_loss", heldout_loss)
        patch.setattr(trainer, "train", training_of)
        patch.setattr(pictures, "paint_missing", painting_to)
        patch.setattr(Generator, "paint", painting)
        patch.setattr(Bench, "images", cutting_of)
        yield found
