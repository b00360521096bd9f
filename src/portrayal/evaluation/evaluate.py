"""From what a run has made to its scores: measure every model in the same cells, then let the verdict speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portrayal.config import Config
from portrayal.evaluation.colour import Colour, colour_statistics
from portrayal.evaluation.comparisons import grid_estimate
from portrayal.evaluation.control import CONTROL_KINDS
from portrayal.evaluation.intervals import Interval, bootstrap_mean
from portrayal.evaluation.metrics import (
    heldout_gain,
    log_ratio,
    normalised,
    prompt_fidelity,
    real_fidelity,
    subject_fidelity,
)
from portrayal.evaluation.verdict import ControlEvidence, Levels, Margins, ModelEvidence, decide
from portrayal.models.encoders import Encoders
from portrayal.randomness import derived_seed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PaintedModel:
    """One model of a run and what it made.

    Attributes:
        name: `base`, `unet`, `lora-64`.
        kind: What it is.
        rank: Rank of a LoRA.
        losses: Held-out losses, shape `(P, T, N)`.
        pictures: Pictures of each scene, the scenes and seeds in the same order for every model: `S` lists of `K`.
    """

    name: str
    kind: Literal["base", "unet", "lora"]
    rank: int | None
    losses: Floats
    pictures: list[list[Image.Image]]


@dataclass(frozen=True)
class ControlledPictures:
    """Pictures of one model held to a control image, and of the same prompts and seeds without it."""

    kind: str
    name: str
    image: Image.Image
    pictures: list[Image.Image]
    without: list[Image.Image]


@dataclass(frozen=True)
class Evidence:
    """Everything a run is judged by.

    Attributes:
        config: The run's config.
        models: The base first, then the tuned models.
        scene_prompts: Prompt of each scene, the rare token left out.
        heldout: Held-out photos by id.
        training: Training photos.
        strangers: Other people of the class.
        controlled: Pictures held to control images.
    """

    config: Config
    models: Sequence[PaintedModel]
    scene_prompts: Sequence[str]
    heldout: Mapping[str, Image.Image]
    training: Sequence[Image.Image]
    strangers: Sequence[Image.Image]
    controlled: Sequence[ControlledPictures] = ()


@dataclass(frozen=True)
class Judge:
    """Embeds pictures and turns them into scores."""

    evidence: Evidence
    encoders: Encoders
    seed: int

    def identity(self, pictures: Sequence[Image.Image]) -> Floats | None:
        """Mean cosine of each picture to the held-out photos, or nothing without an encoder."""
        if self.encoders.identity is None:
            return None
        embed = self.encoders.identity.images
        return subject_fidelity(embed(pictures), embed(list(self.evidence.heldout.values())))

    def prompt(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Floats | None:
        """Cosine of each picture to its prompt, or nothing without an encoder."""
        scorer = self.encoders.prompt
        if scorer is None or scorer.texts is None:
            return None
        return prompt_fidelity(scorer.images(pictures), scorer.texts(prompts))

    def levels(self) -> Levels:
        """What the real person and strangers score."""
        lightness = np.array([colours([image])[0].lightness for image in self.photos()])
        if self.encoders.identity is None:
            return Levels(photo_lightness=lightness)
        embed = self.encoders.identity.images
        real = real_fidelity(embed(list(self.evidence.heldout.values())), embed(self.evidence.training))
        strangers = self.identity(self.evidence.strangers)
        assert strangers is not None
        return Levels(bootstrap_mean(real, seed=self.seed), bootstrap_mean(strangers, seed=self.seed), lightness)

    def photos(self) -> list[Image.Image]:
        """All photos of the person."""
        return [*self.evidence.training, *self.evidence.heldout.values()]

    def model(self, painted: PaintedModel, base_losses: Floats) -> ModelEvidence:
        """The evidence of one model, in the cells all models share."""
        flat = [picture for row in painted.pictures for picture in row]
        shape = (len(painted.pictures), -1)
        prompts = [
            prompt for prompt, row in zip(self.evidence.scene_prompts, painted.pictures, strict=True) for _ in row
        ]
        identity, prompt = self.identity(flat), self.prompt(flat, prompts)
        return ModelEvidence(
            painted.name,
            painted.kind,
            painted.rank,
            log_ratio(painted.losses, base_losses),
            None if identity is None else identity.reshape(shape),
            None if prompt is None else prompt.reshape(shape),
            np.array([colour.lightness for colour in colours(flat)]).reshape(shape),
        )

    def control(self, made: ControlledPictures) -> ControlEvidence:
        """How well the pictures of one model keep to a control image, and what that costs in likeness."""
        kind, settings = CONTROL_KINDS[made.kind], self.evidence.config.control

        def agreement(pictures: Sequence[Image.Image]) -> Floats | None:
            return kind.agreement(pictures, made.image, settings, self.encoders.pose)

        return ControlEvidence(
            made.name,
            agreement(made.pictures),
            agreement(made.without),
            self.identity(made.pictures),
            self.identity(made.without),
            kind=made.kind,
            measure=kind.measure,
            finding=kind.finding,
        )


def colours(pictures: Sequence[Image.Image]) -> list[Colour]:
    """Colour statistics of each picture."""
    return [colour_statistics(np.asarray(picture.convert("RGB"))) for picture in pictures]


def score(evidence: Evidence, encoders: Encoders, *, base_name: str) -> dict[str, Any]:
    """Scores and verdict of a run, as `scores.json` holds them."""
    config = evidence.config
    judge = Judge(evidence, encoders, derived_seed(config.seed, "evaluation.bootstrap") % 2**32)
    levels = judge.levels()
    base_losses = evidence.models[0].losses
    models = [judge.model(painted, base_losses) for painted in evidence.models]
    control = [judge.control(made) for made in evidence.controlled]
    margins = Margins(
        config.evaluation.margin_heldout_loss, config.evaluation.margin_identity, config.evaluation.margin_prompt
    )
    verdict = decide(models, margins, levels=levels, seed=judge.seed, control=control)
    photo_colours = colours(judge.photos())
    return {
        "schema": 1,
        "base": base_name,
        "class_noun": config.subject.class_noun,
        "instance_prompt": config.subject.filled_instance_prompt,
        "encoders": {
            "identity": encoders.identity.as_json() if encoders.identity else None,
            "prompt": encoders.prompt.as_json() if encoders.prompt else None,
            "notes": list(encoders.notes),
        },
        "heldout_photos": list(evidence.heldout),
        "levels": {
            "identity_real": interval_json(levels.identity_real),
            "identity_stranger": interval_json(levels.identity_stranger),
            "colour_photos": {name: float(np.mean(values)) for name, values in columns(photo_colours).items()},
        },
        "models": [
            model_json(painted, found, levels, columns(photo_colours)["lightness"], judge.seed)
            for painted, found in zip(evidence.models, models, strict=True)
        ],
        "control": [control_json(found, judge.seed) for found in control],
        "verdict": verdict.as_json(),
    }


def model_json(
    painted: PaintedModel, found: ModelEvidence, levels: Levels, photo_lightness: Floats, seed: int
) -> dict[str, Any]:
    """One model's row."""
    identity = grid_interval(found.identity, seed)
    real, stranger = levels.identity_real, levels.identity_stranger
    measured = identity is not None and real is not None and stranger is not None
    colour = columns(colours([picture for row in painted.pictures for picture in row]))
    shape = (len(painted.pictures), -1)
    colour_json: dict[str, Any] = {
        name: interval_json(grid_interval(values.reshape(shape), seed)) for name, values in colour.items()
    }
    colour_json["lightness_difference"] = float(colour["lightness"].mean() - photo_lightness.mean())
    return {
        "name": painted.name,
        "kind": painted.kind,
        "rank": painted.rank,
        "heldout_loss": interval_json(bootstrap_mean(painted.losses.mean(axis=(1, 2)), seed=seed)),
        "heldout_gain": interval_json(heldout_gain(found.heldout_log_ratios, seed=seed)),
        "identity": interval_json(identity),
        "identity_normalised": normalised(identity.mean, stranger.mean, real.mean)
        if measured and identity and stranger and real
        else None,
        "prompt": interval_json(grid_interval(found.prompt, seed)),
        "colour": colour_json,
        "per_timestep": timestep_bins(found.heldout_log_ratios),
    }


def timestep_bins(log_ratios: Floats, bins: int = 10, num_train_timesteps: int = 1000) -> list[dict[str, float]]:
    """Mean log-ratio to the base in ranges of timesteps."""
    strata = log_ratios.shape[1]
    edges = np.linspace(0, strata, min(bins, strata) + 1).round().astype(int)
    return [
        {
            "timestep_low": int(low * num_train_timesteps / strata),
            "timestep_high": int(high * num_train_timesteps / strata),
            "log_ratio_to_base": float(log_ratios[:, low:high].mean()),
        }
        for low, high in pairwise(edges)
    ]


def control_json(found: ControlEvidence, seed: int) -> dict[str, Any]:
    """One model's row under a ControlNet of one kind."""
    values = {
        found.measure: found.agreement,
        f"{found.measure}_without": found.agreement_without,
        "identity": found.identity,
        "identity_without": found.identity_without,
    }
    rows = {
        name: None if array is None else interval_json(bootstrap_mean(array, seed=seed))
        for name, array in values.items()
    }
    return {"kind": found.kind, "model": found.name, **rows}


def columns(rows: Sequence[Colour]) -> dict[str, Floats]:
    """Each statistic over all pictures."""
    return {name: np.array([asdict(row)[name] for row in rows]) for name in asdict(rows[0])}


def grid_interval(grid: Floats | None, seed: int) -> Interval | None:
    """Mean over scenes and seeds, with the seeds as units."""
    return None if grid is None else grid_estimate(grid, over="columns", seed=seed).interval()


def interval_json(interval: Interval | None) -> dict[str, float | None] | None:
    """The JSON of an interval, or null."""
    return None if interval is None else interval.as_json()
