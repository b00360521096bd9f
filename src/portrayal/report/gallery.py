"""The pictures of the report, chosen and shrunk: photos, opening strip, scenes, ControlNet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from portrayal.report.palette import Colour
from portrayal.report.pictures import LARGE, Picture, Pictures, settings_of
from portrayal.report.record import Control, Model, Photo, Record
from portrayal.report.scores import Json, Strength, table, text
from portrayal.report.wording import plain, words

Palette = dict[str, Colour]
_HERO_SCENES = 5


@dataclass(frozen=True)
class Shown:
    """A picture with its label; ``picture`` is ``None`` where none was painted."""

    picture: Picture | None
    label: str
    colour: str = ""


@dataclass(frozen=True)
class PhotoView:
    """A photo of the person, and what the report says of it."""

    picture: Picture
    photo: Photo


@dataclass(frozen=True)
class SceneView:
    """One scene: three models side by side, and every model's pictures at the same seeds."""

    title: str
    prompt: str
    note: str
    featured: tuple[Shown, ...]
    grid: tuple[tuple[Model, tuple[Shown, ...]], ...]


@dataclass(frozen=True)
class GrowthView:
    """The same picture, from the same noise, as the training goes on."""

    model: Model
    scene: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class ControlWords:
    """What the report says of one kind of control."""

    kind: str
    title: str
    image: str
    sentence: str
    kept: str
    measure: str


CONTROL_WORDS = {
    "canny": ControlWords(
        "canny",
        "The outline (canny)",
        "outline",
        "A ControlNet was shown the edges of a reference picture and made the models paint along them.",
        "edges kept",
        "Edge F1: 1 where the picture’s edges are the outline’s, 0 where none are",
    ),
    "openpose": ControlWords(
        "openpose",
        "The pose (openpose)",
        "pose",
        "A ControlNet was shown the skeleton of a reference picture and made the models paint the person in that pose.",
        "joints in place",
        "PCK@0.1: the share of joints within a tenth of the figure’s size of where they were asked for",
    ),
    "depth": ControlWords(
        "depth",
        "The depth",
        "depth",
        "A ControlNet was shown how near everything in a reference picture is, and made the models paint it so.",
        "depth kept",
        "Correlation of each picture’s depth with the reference’s: 1 alike, 0 not",
    ),
    "softedge": ControlWords(
        "softedge",
        "The outline, softly (softedge)",
        "soft outline",
        "A ControlNet was shown the soft edges of a reference picture and made the models paint along them.",
        "edges kept",
        "Correlation of each picture’s soft edges with the reference’s: 1 alike, 0 not",
    ),
}


@dataclass(frozen=True)
class ControlRow:
    """What one model painted to the control image: one seed at rising strength, and the others at full strength."""

    label: str
    colour: str
    without: Strength | None
    full: Strength | None
    rising: tuple[Shown, ...]
    others: tuple[Shown, ...]


@dataclass(frozen=True)
class ControlView:
    """What a ControlNet was given, and what each model made of it."""

    words: ControlWords
    given: tuple[Shown, ...]
    prompt: str
    note: str
    rows: tuple[ControlRow, ...]


def photo_views(record: Record, pictures: Pictures) -> Iterable[PhotoView]:
    """The readable photos, small."""
    for photo in record.photos:
        picture = pictures.add(photo.path, f"photo-{photo.id}", photo.caption or "A photo of the person")
        if picture is not None:
            yield PhotoView(picture, photo)


def featured_models(record: Record) -> list[Model]:
    """Base, full UNet and the best LoRA: the three that stand side by side."""
    loras = [model for model in record.models if model.kind == "lora"]
    best = record.model(record.scores.verdict.best_lora) or (loras[-1] if loras else None)
    found = [record.first_of("base"), record.first_of("unet"), best]
    return [model for model in found if model is not None] or list(record.models[:3])


def opening_model(record: Record) -> Model | None:
    """The model whose pictures open the report: the winner, or the next best that painted anything."""
    verdict = record.scores.verdict
    chosen = (verdict.recommended, verdict.winner, verdict.best_lora)
    wanted = [*map(record.model, chosen), record.first_of("unet")]
    wanted += reversed(record.models)
    return next((model for model in wanted if model is not None and record.pictures.get(model.name)), None)


def hero(record: Record, photos: tuple[PhotoView, ...], pictures: Pictures) -> Iterable[Shown]:
    """The opening strip: a photo, then the opening model's first picture of each scene, not picked by hand."""
    if photos:
        first = photos[0].photo
        yield Shown(pictures.add(first.path, f"photo-{first.id}-large", photos[0].picture.alt, LARGE), "A photo")
    model = opening_model(record)
    if model is None:
        return
    scenes = record.final or record.pictures[model.name]
    chosen = [(scene, seed) for scene in record.scenes for seed in list(scenes.get(scene, {}))[:1]][:_HERO_SCENES]
    chosen += [(scene, seed) for scene, _ in chosen[:1] for seed in list(scenes[scene])[1:2]]
    for scene, seed in chosen:
        alt = f"{words(scene).capitalize()}, painted by {model.phrase}"
        name = "final" if record.final else model.name
        picture = pictures.add(scenes[scene][seed], f"{scene}-{name}-{seed}-large", alt, LARGE)
        yield Shown(picture, words(scene).capitalize())


def scene_view(record: Record, scene: str, palette: Palette, pictures: Pictures) -> SceneView:
    """One scene with the pictures of all models."""
    title, seeds = words(scene).capitalize(), record.seeds(scene)

    def shown(model: Model, seed: str, *, large: bool) -> Shown:
        path = record.pictures.get(model.name, {}).get(scene, {}).get(seed)
        picture = _painted(pictures, path, f"{scene}-{model.name}-{seed}", f"{title}, painted by {model.phrase}", large)
        return Shown(picture, model.label, palette[model.name].variable)

    settings = settings_of(record.any_picture(scene))
    planned = text(table(table(record.settings.get("generation")).get("scenes")).get(scene))
    return SceneView(
        title=title,
        prompt=text(settings.get("prompt")) or planned,
        note=_note(settings),
        featured=tuple(shown(model, seeds[0], large=True) for model in featured_models(record)),
        grid=tuple((model, tuple(shown(model, seed, large=False) for seed in seeds)) for model in record.models),
    )


def growth_view(record: Record, palette: Palette, pictures: Pictures) -> GrowthView | None:
    """One scene by one model at every step it was looked at: the best rank's first training."""
    verdict = record.scores.verdict
    wanted = [record.model(name) for name in (verdict.recommended, verdict.best_lora)] + list(record.models)
    model = next((one for one in wanted if one is not None and len(record.samples.get(one.name, {})) > 1), None)
    if model is None:
        return None
    steps = record.samples[model.name]
    scene = next(iter(next(iter(steps.values()))), "")
    shown = tuple(
        Shown(
            pictures.add(paths.get(scene), f"step-{step}-{model.name}", f"Painted by {model.phrase} at step {step}"),
            f"step {step}",
            palette[model.name].variable,
        )
        for step, paths in steps.items()
    )
    return GrowthView(model, words(scene), shown)


def control_views(record: Record, palette: Palette, pictures: Pictures) -> Iterable[ControlView]:
    """For each kind of control the reference, the control image and the pictures painted to it."""
    order = {model.name: place for place, model in enumerate(record.models)}
    known = [kind for kind in CONTROL_WORDS if any(control.kind == kind for control in record.controls)]
    for kind in known:
        control = next(control for control in record.controls if control.kind == kind)
        words = CONTROL_WORDS[kind]
        image = pictures.add(control.image, f"control-{kind}", f"The {words.image} of the reference picture", LARGE)
        given = (
            Shown(pictures.add(control.reference, "control-reference", "The reference picture", LARGE), "Reference"),
            Shown(image, f"Its {words.image}"),
        )
        names = sorted(control.pictures, key=lambda name: (order.get(name, len(order)), name))
        strongest = control.pictures[names[-1]][max(control.pictures[names[-1]])]
        settings = settings_of(next(iter(strongest.values())))
        rows = tuple(_control_row(record, control, name, palette, pictures) for name in names)
        yield ControlView(words, given, text(settings.get("prompt")), _note(settings), rows)


def _control_row(record: Record, control: Control, name: str, palette: Palette, pictures: Pictures) -> ControlRow:
    model, words = record.model(name), CONTROL_WORDS[control.kind]
    label, phrase = (model.label, model.phrase) if model else (name, name)
    by_scale = control.pictures[name]
    full = max(by_scale)

    def shown(scale: float, seed: str, said: str) -> Shown:
        how = f"to the {words.image} at strength {plain(scale)}" if scale else f"without the {words.image}"
        stem = f"control-{control.kind}-{name}-{plain(scale)}-{seed}"
        return Shown(pictures.add(by_scale[scale].get(seed), stem, f"Painted {how} by {phrase}"), said)

    first, *rest = by_scale[full]
    found = next((row for row in record.scores.control if (row.kind, row.model) == (control.kind, name)), None)
    at = {one.scale: one for one in found.at} if found else {}
    return ControlRow(
        label=label,
        colour=palette[name].variable if model else "",
        without=at.get(0.0),
        full=at.get(full),
        rising=tuple(shown(scale, first, plain(scale) if scale else "without") for scale in by_scale),
        others=tuple(shown(full, seed, label) for seed in rest),
    )


def _painted(pictures: Pictures, path: Path | None, name: str, alt: str, large: bool) -> Picture | None:
    return pictures.add(path, f"{name}-large", alt, LARGE) if large else pictures.add(path, name, alt)


def _note(settings: Json) -> str:
    """``25 steps, guidance 7.5``: as much of it as the picture records."""
    patterns = {
        "num_inference_steps": "{} steps",
        "guidance_scale": "guidance {}",
        "negative_prompt": "without “{}”",
    }
    found = [pattern.format(plain(settings[key])) for key, pattern in patterns.items() if text(settings.get(key))]
    return ", ".join(found)
