"""A run folder as the report reads it: models, photos, pictures and provenance. Only ``scores.json`` must exist."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from portrayal.config.whole import short_number
from portrayal.report.scores import (
    Interval,
    Json,
    ModelScores,
    Scores,
    interval,
    kind_of,
    load_scores,
    lora_of,
    number,
    rows,
    table,
    text,
    whole,
)
from portrayal.report.wording import lora_title

SCENES = ("street", "football", "kitchen", "office", "forest")
FINAL = "final"
_KINDS = ("base", "unet", "lora")


@dataclass(frozen=True)
class Photo:
    """One prepared photo of the person."""

    id: str
    path: Path
    caption: str
    fold: int | None
    """Which photos it was held out with, from 0; nothing if it was never held out."""

    @property
    def heldout(self) -> bool:
        """Whether some training did not see it."""
        return self.fold is not None


@dataclass(frozen=True)
class TrainingLog:
    """The loss of each optimizer step, from ``training.jsonl``."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """One model: its scores, and how it was trained if it has been."""

    scores: ModelScores
    evaluated: bool
    method: Json
    log: TrainingLog | None

    @property
    def name(self) -> str:
        """The folder name, such as ``lora-64``."""
        return self.scores.name

    @property
    def kind(self) -> str:
        """``base``, ``unet``, ``lora`` or another word."""
        return self.scores.kind

    @property
    def label(self) -> str:
        """The name a person reads, such as ``LoRA 64``."""
        if self.name == "base":
            return "Base"
        if self.name == "unet":
            return "Full UNet"
        return lora_label(self.name, self.scores.rank, self.scores.learning_rate)

    @property
    def phrase(self) -> str:
        """The name within a sentence, such as ``the full UNet``."""
        return {"Base": "the base", "Full UNet": "the full UNet"}.get(self.label, self.label)


def lora_label(name: str, rank: int | None, learning_rate: float | None) -> str:
    """The title of a LoRA that is named after its rank; any other keeps its name."""
    named, rate = lora_of(name)
    return name if rank is None or rank != named else lora_title(rank, learning_rate or rate)


@dataclass(frozen=True)
class Finding:
    """What was wrong with a photo that was handed in, and what was done about it."""

    file: str
    message: str
    action: str


@dataclass(frozen=True)
class Control:
    """One kind of control: the reference, the control image, and what was painted: ``pictures[model][strength][seed]``.

    Strength 0 is without a control image.
    """

    kind: str
    reference: Path | None
    image: Path | None
    pictures: dict[str, dict[float, dict[str, Path]]]


@dataclass(frozen=True)
class Votes:
    """What blind votes said of two models; ``low`` and ``high`` are the ends of the share's 95 % interval."""

    a: str
    b: str
    wins: int
    losses: int
    ties: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Cut:
    """The recommended LoRA at a rank: the difference of what was measured to the whole one, which has none."""

    rank: int | None
    megabytes: float | None
    likeness: Interval | None = None
    prompt: Interval | None = None
    no_worse: bool = True


@dataclass(frozen=True)
class Cuts:
    """What ``cuts.json`` says of the recommended LoRA, itself first, then its cuts."""

    sentence: str
    rows: tuple[Cut, ...]


@dataclass(frozen=True)
class Record:
    """Everything that a report shows; ``pictures[model][scene][seed]`` are paths.

    ``final`` are the pictures of the recommended model, trained once more on all photos: shown, never judged.
    """

    folder: Path
    scores: Scores
    models: tuple[Model, ...]
    photos: tuple[Photo, ...]
    findings: tuple[Finding, ...]
    pictures: dict[str, dict[str, dict[str, Path]]]
    final: dict[str, dict[str, Path]]
    samples: dict[str, dict[int, dict[str, Path]]]
    controls: tuple[Control, ...]
    provenance: Json
    config: str
    votes: tuple[Votes, ...] = ()
    cuts: Cuts | None = None

    @property
    def settings(self) -> Json:
        """``config.toml`` as values; empty if it cannot be read."""
        try:
            return tomllib.loads(self.config)
        except tomllib.TOMLDecodeError:
            return {}

    @property
    def scenes(self) -> list[str]:
        """Scenes painted by any model, in the order of the config."""
        found = {scene for by_scene in self.pictures.values() for scene in by_scene}
        order = list(table(table(self.settings.get("generation")).get("scenes"))) or SCENES
        return [scene for scene in order if scene in found] + sorted(found - set(order))

    @property
    def untrained(self) -> list[str]:
        """Labels of models that the config asks for and that the run does not have yet."""
        planned = {"unet": "Full UNet"} if table(self.settings.get("study")).get("full_unet") is True else {}
        planned |= {name: lora_label(name, *lora_of(name)) for name in self._planned_loras}
        trained = {model.name for model in self.models if model.method or model.log}
        trained |= {one.model for one in self.scores.diverged}
        return [label for name, label in planned.items() if name not in trained]

    @property
    def _planned_loras(self) -> list[str]:
        study, lora = (table(self.settings.get(key)) for key in ("study", "method"))
        ranks, multiples = study.get("ranks"), study.get("learning_rates")
        ranks = ranks if isinstance(ranks, list) else []
        base = number(table(lora.get("lora")).get("learning_rate"))
        if base is None or not isinstance(multiples, list) or len(multiples) < 2:
            return [f"lora-{rank}" for rank in ranks]
        rates = [base * multiple for one in multiples if (multiple := number(one)) is not None]
        return [f"lora-{rank}-lr{short_number(rate)}" for rank in ranks for rate in rates]

    @property
    def painted(self) -> list[Path]:
        """Every picture of a scene or held to a control image."""
        held = [paths for one in self.controls for by_scale in one.pictures.values() for paths in by_scale.values()]
        scenes = [path for model in self.pictures for path in self.scene_pictures(model)]
        return scenes + [path for paths in held for path in paths.values()]

    def scene_pictures(self, model: str) -> list[Path]:
        """A model's pictures of scenes."""
        return [path for paths in self.pictures.get(model, {}).values() for path in paths.values()]

    def any_picture(self, scene: str) -> Path | None:
        """Some picture of a scene."""
        return next((path for scenes in self.pictures.values() for path in scenes.get(scene, {}).values()), None)

    def seeds(self, scene: str) -> list[str]:
        """Seeds with which any model painted a scene, in rising order."""
        return sorted({seed for scenes in self.pictures.values() for seed in scenes.get(scene, {})}, key=_natural)

    def model(self, name: str | None) -> Model | None:
        """The model of that name, if the run has it."""
        return next((model for model in self.models if model.name == name), None)

    def first_of(self, kind: str) -> Model | None:
        """The first model of a kind."""
        return next((model for model in self.models if model.kind == kind), None)


def read_run(folder: Path) -> Record:
    """Read a run folder.

    Raises:
        UsageError: If it holds no readable ``scores.json``.
    """
    scores = load_scores(folder)
    manifest = _json(folder / "dataset" / "manifest.json")
    models = _models(folder, scores)
    return Record(
        folder=folder,
        scores=scores,
        models=models,
        photos=tuple(_photos(folder / "dataset" / "images", manifest)),
        findings=tuple(
            Finding(text(row.get("file")), text(row.get("message")), text(row.get("action")))
            for row in rows(manifest.get("findings"))
        ),
        pictures={model.name: _scenes(folder / "images" / model.name) for model in models},
        final=_scenes(folder / "images" / FINAL),
        samples={model.name: _samples(folder / "images" / "steps" / model.name) for model in models},
        controls=tuple(_controls(folder / "images" / "control")),
        provenance=_json(folder / "run.json"),
        config=_text(folder / "config.toml"),
        votes=tuple(_votes(_json(folder / "votes.json"))),
        cuts=_cuts(_json(folder / "cuts.json"), scores.verdict.recommended),
    )


def _cuts(told: Json, recommended: str | None) -> Cuts | None:
    """Nothing if there are none, or of a model that is recommended no more."""
    sentence = text(told.get("sentence"))
    if not sentence or told.get("model") != recommended:
        return None
    cuts = [
        Cut(
            whole(row.get("rank")),
            number(row.get("megabytes")),
            interval(row.get("likeness")),
            interval(row.get("prompt")),
            row.get("no_worse") is True,
        )
        for row in rows(told.get("cuts"))
    ]
    return Cuts(sentence, (Cut(whole(told.get("rank")), number(told.get("megabytes"))), *cuts))


def _votes(told: Json) -> Iterable[Votes]:
    for row in rows(told.get("tally")):
        wins, losses, ties = (int(number(row.get(key)) or 0) for key in ("wins", "losses", "ties"))
        share, low, high = (number(row.get(key)) for key in ("share", "low", "high"))
        yield Votes(text(row.get("a")), text(row.get("b")), wins, losses, ties, share, low, high)


def _models(folder: Path, scores: Scores) -> tuple[Model, ...]:
    known = {model.name: model for model in scores.models}
    others = {FINAL, *known, *(one.model for one in scores.diverged)}
    trained = [path.name for path in _folders(folder / "models") if path.name not in others and "." not in path.name]
    methods = {name: _json(folder / "models" / name / "method.json") for name in [*known, *trained]}
    models = [
        Model(
            scores=known.get(name) or _unscored(name, method),
            evaluated=name in known,
            method=method,
            log=_training_log(folder / "models" / name / "training.jsonl"),
        )
        for name, method in methods.items()
    ]
    return tuple(sorted(models, key=_place))


def _unscored(name: str, method: Json) -> ModelScores:
    rank, rate = lora_of(name)
    return ModelScores(name, text(method.get("kind")) or kind_of(name), whole(method.get("rank")) or rank, rate)


def _place(model: Model) -> tuple[int, int, float, str]:
    kind = _KINDS.index(model.kind) if model.kind in _KINDS else len(_KINDS)
    return kind, model.scores.rank or 0, model.scores.learning_rate or 0.0, model.name


def _training_log(path: Path) -> TrainingLog | None:
    points = []
    for line in _text(path).splitlines():
        row = _parsed(line)  # the last line of a run that is still training may be half written
        step, loss = number(row.get("step")), number(row.get("loss"))
        if step is not None and loss is not None:
            points.append((int(step), loss))
    points = sorted(dict(points).items())  # a resumed run repeats steps: the later line holds
    return TrainingLog(tuple(step for step, _ in points), tuple(loss for _, loss in points)) if points else None


def _photos(folder: Path, manifest: Json) -> list[Photo]:
    """Each photo once: in the square it is judged by, or, if it is never held out, as it is trained on."""
    found: dict[str, Photo] = {}
    for row in sorted(rows(manifest.get("photos")), key=lambda row: text(row.get("use")) == "training"):
        name, fold = Path(text(row.get("id"))).name, number(row.get("fold"))
        path = folder / f"{name}.png"
        if name and path.is_file():
            photo = Photo(name, path, text(row.get("caption")), None if fold is None else int(fold))
            found.setdefault(name.split("-")[0], photo)
    return sorted(found.values(), key=lambda photo: -1 if photo.fold is None else photo.fold)


def _samples(folder: Path) -> dict[int, dict[str, Path]]:
    """Pictures of a model on its way, by step and scene."""
    steps = {int(path.name): _seeds(path) for path in _folders(folder) if path.name.isdecimal()}
    return dict(sorted(steps.items()))


def _scenes(folder: Path) -> dict[str, dict[str, Path]]:
    return {scene.name: found for scene in _folders(folder) if (found := _seeds(scene))}


def _seeds(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.png"), key=lambda path: _natural(path.stem))}


def _controls(folder: Path) -> Iterable[Control]:
    reference, without = folder / "reference.png", _scenes(folder / "without")
    for kind in _folders(folder):
        image = kind / "control.png"
        pictures = {model.name: _strengths(model) for model in _folders(kind)}
        pictures = {
            name: ({0.0: without[name]} if name in without else {}) | found for name, found in pictures.items() if found
        }
        if kind.name != "without" and pictures:
            yield Control(
                kind=kind.name,
                reference=reference if reference.is_file() else None,
                image=image if image.is_file() else None,
                pictures=pictures,
            )


def _strengths(folder: Path) -> dict[float, dict[str, Path]]:
    found = {float(path.name): _seeds(path) for path in _folders(folder) if re.fullmatch(r"\d+(\.\d+)?", path.name)}
    return {scale: seeds for scale, seeds in sorted(found.items()) if seeds}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", name))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _json(path: Path) -> Json:
    return _parsed(_text(path))


def _parsed(content: str) -> Json:
    try:
        return table(json.loads(content))
    except ValueError:
        return {}
