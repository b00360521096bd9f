"""The judge: it embeds pictures, each once, and turns them into numbers, all models in the same cells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portrayal.evaluation.colour import Colour, colour_statistics
from portrayal.evaluation.comparisons import Training
from portrayal.evaluation.control import CONTROL_KINDS
from portrayal.evaluation.evidence import Evidence, PaintedTraining
from portrayal.evaluation.intervals import mean_estimate
from portrayal.evaluation.metrics import (
    copying,
    diversity,
    log_ratio,
    nearest_photos,
    prompt_fidelity,
    real_fidelity,
    subject_fidelity,
)
from portrayal.evaluation.sweep import ControlEvidence, ControlledPictures
from portrayal.evaluation.verdict import Levels
from portrayal.generation.prompts import plain
from portrayal.models.encoders import Encoders, Scorer
from portrayal.parallel import in_threads

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What was measured of one training.

    Attributes:
        training: What is compared.
        colours: Each colour statistic, shape `(S, K)`.
        diversity: Of the pictures of each scene, shape `(S, 1)`; nothing with one seed or without an encoder.
        copying: Of each picture, shape `(S, K)`; nothing without an encoder.
    """

    training: Training
    colours: dict[str, Floats]
    diversity: Floats | None
    copying: Floats | None


class Look(NamedTuple):
    """What is kept of one picture: embeddings `(D,)`, as far as there are encoders, and colours."""

    identity: Floats | None
    prompt: Floats | None
    colours: Colour


@dataclass(frozen=True)
class Looked:
    """What is kept of pictures that were looked at: embeddings `(n, D)` for likeness and for prompts, and colours."""

    identity: Floats | None
    prompt: Floats | None
    colours: list[Colour]


class Judge:
    """Embeds pictures, each once, and turns them into scores."""

    def __init__(self, evidence: Evidence, encoders: Encoders, known: dict[bytes, Look] | None = None) -> None:
        self.evidence, self.encoders = evidence, encoders
        self.known = {} if known is None else known
        self.photos = self.look(list(evidence.photos.values()))
        self.places = {name: place for place, name in enumerate(evidence.photos)}
        self.photo_colours = columns(self.photos.colours)
        self.base: dict[str, Looked] = {}
        self.pictures: dict[str, list[list[dict[str, Any]]]] = {}
        """Of each picture what it scored and the photo it is nearest to, by training, scene and seed."""

    def look(self, pictures: Sequence[Image.Image]) -> Looked:
        """Look at pictures, each once."""
        names = in_threads(digest, pictures)
        fresh = {name: one for name, one in zip(names, pictures, strict=True) if name not in self.known}
        if fresh:
            seen = (self.embedded(one, list(fresh.values())) for one in (self.encoders.identity, self.encoders.prompt))
            looks = zip(*seen, colours(list(fresh.values())), strict=True)
            self.known.update((name, Look(*found)) for name, found in zip(fresh, looks, strict=True))
        looked = [self.known[name] for name in names]
        identity, prompt = ([getattr(one, kind) for one in looked] for kind in ("identity", "prompt"))
        return Looked(stacked(identity), stacked(prompt), [one.colours for one in looked])

    def embedded(self, scorer: Scorer | None, pictures: Sequence[Image.Image]) -> Sequence[Floats | None]:
        """Embeddings of pictures, or nothing for each without a scorer."""
        return [None] * len(pictures) if scorer is None else [*np.asarray(scorer.images(pictures), np.float64)]

    def of_photos(self, names: Iterable[str], kind: Literal["identity", "prompt"]) -> Floats | None:
        """Embeddings of photos, `(n, D)`."""
        found: Floats | None = getattr(self.photos, kind)
        return None if found is None else found[[self.places[name] for name in names]]

    def likeness(self, embeddings: Floats | None, fold: int | None = None) -> Floats | None:
        """Mean cosine of each picture to the held-out photos of a fold, or of all folds."""
        parts = self.evidence.heldout if fold is None else [self.evidence.heldout[fold]]
        references = self.of_photos([name for part in parts for name in part], "identity")
        return None if embeddings is None or references is None else subject_fidelity(embeddings, references)

    def prompts(self, embeddings: Floats | None, prompts: Sequence[str]) -> Floats | None:
        """Cosine of each picture to its prompt, or nothing without an encoder."""
        scorer = self.encoders.prompt
        if embeddings is None or scorer is None or scorer.texts is None:
            return None
        return prompt_fidelity(embeddings, scorer.texts([plain(prompt) for prompt in prompts]))

    def levels(self) -> Levels:
        """What the real person and strangers score."""
        lightness = self.photo_colours["lightness"]
        if self.encoders.identity is None:
            return Levels(photo_lightness=lightness)
        real: list[float] = []
        for heldout, training in zip(self.evidence.heldout, self.evidence.training, strict=True):
            ours, others = self.of_photos(heldout, "identity"), self.of_photos(training, "identity")
            assert ours is not None
            assert others is not None
            real += real_fidelity(ours, others).tolist()
        strangers = self.likeness(self.look(self.evidence.strangers).identity)
        assert strangers is not None
        return Levels(mean_estimate(real).interval(), mean_estimate(strangers).interval(), lightness)

    def training(self, painted: PaintedTraining, base_losses: Mapping[str, Any]) -> Measured:
        """What one training is worth, in the cells all models share."""
        trial, rows = painted.trial, painted.pictures()
        shape = (len(rows), -1)
        looked = self.base.get("scenes") if trial.model == "base" else None
        looked = looked or self.look([picture for row in rows for picture in row])
        of_class = (self.base.get("class") if trial.model == "base" else None) or self.look(painted.of_class())
        if not self.base:  # the base comes first
            self.base = {"scenes": looked, "class": of_class}
        prompts = [prompt for prompt, row in zip(self.evidence.scene_prompts, rows, strict=True) for _ in row]
        identity, obeyed = self.likeness(looked.identity, trial.fold), self.prompts(looked.prompt, prompts)
        drift, light = self.likeness(of_class.identity, trial.fold), columns(looked.colours)
        base_light = columns(self.base["scenes"].colours)["lightness"]
        self.pictures.setdefault(trial.name, self.rows(looked, identity, obeyed, trial.fold, len(rows)))
        names = list(painted.losses)
        ratios = log_ratio(
            np.array([painted.losses[name] for name in names]), np.array([base_losses[name] for name in names])
        )
        return Measured(
            Training(
                trial.fold,
                trial.seed,
                ratios,
                None if identity is None else identity.reshape(shape),
                None if obeyed is None else obeyed.reshape(shape),
                None if drift is None else drift.reshape(1, -1),
                departure(light["lightness"], base_light, float(self.photo_colours["lightness"].mean())).reshape(shape),
                light["lightness"].reshape(shape),
            ),
            {name: values.reshape(shape) for name, values in light.items()},
            self.diversity(looked.prompt, shape),
            self.copying(looked.prompt, trial.fold, shape),
        )

    def diversity(self, embeddings: Floats | None, shape: tuple[int, int]) -> Floats | None:
        """How different the pictures of each scene are, `(S, 1)`."""
        if embeddings is None:
            return None
        found = [diversity(scene) for scene in embeddings.reshape(*shape, embeddings.shape[1])]
        return None if found[0] is None else np.array(found, np.float64)[:, None]

    def copying(self, embeddings: Floats | None, fold: int, shape: tuple[int, int]) -> Floats | None:
        """How much nearer each picture is to a photo that was trained on than to one that was not, `(S, K)`."""
        trained = self.of_photos(self.evidence.training[fold], "prompt")
        unseen = self.of_photos(self.evidence.heldout[fold], "prompt")
        if embeddings is None or trained is None or unseen is None:
            return None
        return copying(embeddings, trained, unseen).reshape(shape)

    def rows(
        self, looked: Looked, identity: Floats | None, obeyed: Floats | None, fold: int, scenes: int
    ) -> list[list[dict[str, Any]]]:
        """What each picture scored, and which photo of those trained on it is nearest to, scene by scene."""
        names, count = list(self.evidence.training[fold]), len(looked.colours)
        trained = self.of_photos(names, "prompt")
        found = None if looked.prompt is None or trained is None else nearest_photos(looked.prompt, trained)
        flat = [
            {
                "identity": None if identity is None else round(float(identity[place]), 4),
                "prompt": None if obeyed is None else round(float(obeyed[place]), 4),
                "nearest": None if found is None else names[found[0][place]],
                "similarity": None if found is None else round(float(found[1][place]), 4),
            }
            for place in range(count)
        ]
        each = count // scenes
        return [flat[start : start + each] for start in range(0, count, each)]

    def control(self, made: ControlledPictures) -> ControlEvidence:
        """How well the pictures of one model keep to a control image, and what that costs in likeness."""
        kind, settings = CONTROL_KINDS[made.kind], self.evidence.config.control
        rows = list(made.pictures.values())
        reader = getattr(self.encoders, kind.reader) if kind.reader else None
        agreement = [kind.agreement(row, made.image, settings, reader) for row in rows]
        likeness = [self.likeness(self.look(row).identity, 0) for row in rows]  # the first training painted them
        return ControlEvidence(
            made.name,
            tuple(made.pictures),
            stacked(agreement),
            stacked(likeness),
            kind=made.kind,
            measure=kind.measure,
        )


def stacked(rows: Sequence[Floats | None]) -> Floats | None:
    """Rows of one shape as an array; nothing if one was not measured."""
    found = [row for row in rows if row is not None]
    return np.array(found) if len(found) == len(rows) else None


def colours(pictures: Sequence[Image.Image]) -> list[Colour]:
    """Colour statistics of each picture."""
    return in_threads(lambda picture: colour_statistics(np.asarray(picture.convert("RGB"))), pictures)


def digest(picture: Image.Image) -> bytes:
    """By what a picture is known again."""
    return hashlib.blake2b(repr((picture.mode, picture.size)).encode() + picture.tobytes(), digest_size=16).digest()


def departure(lightness: Floats, base: Floats, photos: float) -> Floats:
    """By how much each picture is darker or lighter than both the photos and the base's picture at its seed, in L*."""
    low, high = np.minimum(base, photos), np.maximum(base, photos)
    return np.asarray(np.maximum(np.maximum(low - lightness, lightness - high), 0.0))


def columns(rows: Sequence[Colour]) -> dict[str, Floats]:
    """Each statistic over all pictures."""
    return {name: np.array([asdict(row)[name] for row in rows]) for name in asdict(rows[0])}
