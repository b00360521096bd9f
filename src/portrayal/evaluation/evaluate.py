"""From what a run has made to its scores: measure every model in the same cells, then let the verdict speak."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portrayal.config import Config, Trial
from portrayal.evaluation.colour import Colour, colour_statistics
from portrayal.evaluation.comparisons import AXES, Axis, Training, estimate_of
from portrayal.evaluation.control import CONTROL_KINDS
from portrayal.evaluation.curves import Curve
from portrayal.evaluation.intervals import Interval, mean_estimate
from portrayal.evaluation.metrics import (
    copying,
    diversity,
    heldout_gain,
    log_ratio,
    nearest_photos,
    normalised,
    prompt_fidelity,
    real_fidelity,
    subject_fidelity,
)
from portrayal.evaluation.sweep import ControlEvidence, ControlledPictures
from portrayal.evaluation.verdict import Levels, Margins, ModelEvidence, decide
from portrayal.generation.prompts import plain
from portrayal.models.encoders import Encoders, Scorer
from portrayal.parallel import in_threads

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PaintedTraining:
    """One training of a model and what it made, read when it is looked at.

    Attributes:
        trial: Which training; the untouched base stands in each of the study's splits.
        losses: Held-out losses by photo, each `(T, N)`.
        pictures: Pictures of each scene, scenes and seeds in the same order for every model: `S` lists of `K`.
        of_class: Pictures of the class, `K`.
    """

    trial: Trial
    losses: Mapping[str, Any]
    pictures: Callable[[], list[list[Image.Image]]]
    of_class: Callable[[], list[Image.Image]]


@dataclass(frozen=True)
class PaintedModel:
    """One model of a run.

    Attributes:
        name: `base`, `unet`, `lora-64`.
        kind: What it is.
        rank: Rank of a LoRA.
        trainings: Its trainings, one at least.
        curve: How its trainings went on; nothing for the base.
    """

    name: str
    kind: Literal["base", "unet", "lora"]
    rank: int | None
    trainings: Sequence[PaintedTraining]
    curve: Curve | None


@dataclass(frozen=True)
class Evidence:
    """Everything a run is judged by.

    Attributes:
        config: The run's config.
        models: The base first, then the tuned models.
        scene_prompts: Prompt of each scene, the rare token left out.
        heldout: For each fold its held-out photos by id.
        training: For each fold the pictures its trainings see, by id.
        strangers: Other people of the class.
        controlled: Pictures held to control images.
        progress: Called with (trainings looked at, trainings in all).
    """

    config: Config
    models: Sequence[PaintedModel]
    scene_prompts: Sequence[str]
    heldout: Sequence[Mapping[str, Image.Image]]
    training: Sequence[Mapping[str, Image.Image]]
    strangers: Sequence[Image.Image]
    controlled: Sequence[ControlledPictures] = ()
    progress: Callable[[int, int], None] = lambda *_: None

    @property
    def photos(self) -> dict[str, Image.Image]:
        """Each picture of the person's photos once."""
        return {name: picture for part in (*self.heldout, *self.training) for name, picture in part.items()}


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
            finding=kind.finding,
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


def look_at_all(evidence: Evidence, judge: Judge) -> dict[str, list[Measured]]:
    """What every training of every model is worth, by the model's name; the base comes first."""
    base_losses = {name: found for one in evidence.models[0].trainings for name, found in one.losses.items()}
    measured: dict[str, list[Measured]] = {painted.name: [] for painted in evidence.models}
    total = sum(len(painted.trainings) for painted in evidence.models)
    for painted in evidence.models:
        for training in painted.trainings:
            measured[painted.name].append(judge.training(training, base_losses))
            evidence.progress(sum(map(len, measured.values())), total)
    return measured


def evidence_of(evidence: Evidence, measured: Mapping[str, Sequence[Measured]]) -> list[ModelEvidence]:
    """What the verdict is drawn from."""
    return [
        ModelEvidence(one.name, one.kind, one.rank, tuple(found.training for found in measured[one.name]))
        for one in evidence.models
    ]


def score(
    evidence: Evidence, encoders: Encoders, *, base_name: str, known: dict[bytes, Look] | None = None
) -> dict[str, Any]:
    """Scores and verdict of a run, as `scores.json` holds them.

    Args:
        evidence: What was painted and measured.
        encoders: What judges it.
        base_name: Of the base.
        known: What these encoders have seen of pictures already; what they see now is added.
    """
    config, judge = evidence.config, Judge(evidence, encoders, known)
    measured = look_at_all(evidence, judge)
    models = evidence_of(evidence, measured)
    levels = judge.levels()
    control = [judge.control(made) for made in evidence.controlled]
    settings = config.evaluation
    margins = Margins(**{axis: getattr(settings, f"margin_{axis}") for axis in AXES})
    curves = {one.name: one.curve for one in evidence.models if one.curve is not None}
    verdict = decide(models, margins, levels=levels, control=control, curves=curves)
    return {
        "schema": 2,
        "base": base_name,
        "class_noun": config.subject.class_noun,
        "instance_prompt": config.subject.filled_instance_prompt,
        "encoders": {
            "identity": encoders.identity.as_json() if encoders.identity else None,
            "prompt": encoders.prompt.as_json() if encoders.prompt else None,
            "notes": list(encoders.notes),
        },
        "study": {
            "folds": [list(part) for part in evidence.heldout],
            "trainings": {name: len(found) for name, found in measured.items() if name != "base"},
        },
        "levels": {
            "identity_real": interval_json(levels.identity_real),
            "identity_stranger": interval_json(levels.identity_stranger),
            "colour_photos": {name: float(np.mean(values)) for name, values in judge.photo_colours.items()},
        },
        "models": [
            model_json(painted, found, measured[painted.name], levels, judge)
            for painted, found in zip(evidence.models, models, strict=True)
        ],
        "pictures": judge.pictures,
        "control": [found.as_json() for found in control],
        "verdict": verdict.as_json(),
    }


def model_json(
    painted: PaintedModel, found: ModelEvidence, measured: Sequence[Measured], levels: Levels, judge: Judge
) -> dict[str, Any]:
    """One model's row."""
    identity, real, stranger = level(found, "identity"), levels.identity_real, levels.identity_stranger
    lightness = level(found, "lightness")
    assert lightness is not None
    share = None
    if identity is not None and real is not None and stranger is not None:
        share = normalised(identity.mean, stranger.mean, real.mean)
    colour: dict[str, Any] = {
        name: interval_json(over_folds(measured, [one.colours[name] for one in measured]))
        for name in measured[0].colours
    }
    colour["lightness_difference"] = lightness.mean - float(judge.photo_colours["lightness"].mean())
    losses = {photo: np.mean(values) for one in painted.trainings for photo, values in one.losses.items()}
    gain = level(found, "heldout_loss")
    assert gain is not None
    return {
        "name": painted.name,
        "kind": painted.kind,
        "rank": painted.rank,
        "step": painted.curve.best_step if painted.curve else None,
        "heldout_loss": interval_json(mean_estimate(list(losses.values())).interval()),
        "heldout_gain": interval_json(heldout_gain(gain)),
        "identity": interval_json(identity),
        "identity_normalised": share,
        "prompt": interval_json(level(found, "prompt")),
        "drift": interval_json(level(found, "drift")),
        "diversity": interval_json(over_folds(measured, [one.diversity for one in measured])),
        "copying": interval_json(over_folds(measured, [one.copying for one in measured])),
        "colour": colour,
        "per_timestep": timestep_bins([one.training.heldout_log_ratios for one in measured]),
        "curve": painted.curve.as_json() if painted.curve else None,
        "trainings": [] if painted.kind == "base" else [training_json(one.training) for one in measured],
    }


def training_json(training: Training) -> dict[str, Any]:
    """What one training scored by itself."""
    means = {str(axis): None if (units := training.units(axis)) is None else float(units.mean()) for axis in AXES}
    return {"fold": training.fold, "seed": training.seed} | means


def level(found: ModelEvidence, axis: Axis | Literal["lightness"]) -> Interval | None:
    """Mean of a model on an axis with its interval."""
    units = found.units(axis)
    return None if units is None else estimate_of(units).interval()


def over_folds(measured: Sequence[Measured], grids: Sequence[Floats | None]) -> Interval | None:
    """Mean of what a grid `(S, K)` of each training holds, with its interval; nothing if one was not measured."""
    units = {
        (one.training.fold, one.training.seed): grid.mean(axis=0)
        for one, grid in zip(measured, grids, strict=True)
        if grid is not None
    }
    return estimate_of(units).interval() if len(units) == len(measured) else None


def timestep_bins(
    log_ratios: Sequence[Floats], bins: int = 10, num_train_timesteps: int = 1000
) -> list[dict[str, float]]:
    """Mean log-ratio to the base in ranges of timesteps, over all photos `(P, T)` of all trainings."""
    ratios = np.concatenate(log_ratios)
    strata = ratios.shape[1]
    edges = np.linspace(0, strata, min(bins, strata) + 1).round().astype(int)
    return [
        {
            "timestep_low": int(low * num_train_timesteps / strata),
            "timestep_high": int(high * num_train_timesteps / strata),
            "log_ratio_to_base": float(ratios[:, low:high].mean()),
        }
        for low, high in pairwise(edges)
    ]


def columns(rows: Sequence[Colour]) -> dict[str, Floats]:
    """Each statistic over all pictures."""
    return {name: np.array([asdict(row)[name] for row in rows]) for name in asdict(rows[0])}


def interval_json(interval: Interval | None) -> dict[str, float | None] | None:
    """The JSON of an interval, or null."""
    return None if interval is None else interval.as_json()
