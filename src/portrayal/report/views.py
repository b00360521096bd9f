"""What the templates show, assembled from a record: pictures, charts, and rows of text in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portrayal.report.charts import (
    control_chart,
    course_chart,
    identity_chart,
    lightness_chart,
    timestep_chart,
    training_chart,
)
from portrayal.report.gallery import (
    CONTROL_WORDS,
    ControlView,
    GrowthView,
    PhotoView,
    SceneView,
    Shown,
    control_views,
    featured_models,
    growth_view,
    hero,
    opening_model,
    photo_views,
    scene_view,
)
from portrayal.report.loras import LoraView, lora_views
from portrayal.report.palette import Colour, colours
from portrayal.report.pictures import Pictures, lightnesses
from portrayal.report.rates import rates_chart
from portrayal.report.record import Model, Record
from portrayal.report.scores import Comparison, Interval, Json, rows, table, text
from portrayal.report.svg import Chart
from portrayal.report.wording import counted, flat, long_date, plain, with_article, words

_AXES = {
    "identity": "likeness",
    "heldout_loss": "held-out loss",
    "prompt": "prompt",
    "drift": "drift of the class",
    "colour": "light",
}
_NOT_A_SETTING = ("name", "kind", "rank", "alpha", "settings", "photos")

_FEW = 5
"""Conclusions that are shown unfolded."""


@dataclass(frozen=True)
class CardView:
    """How one model was trained."""

    model: Model
    facts: Json
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class View:
    """The whole report, as the templates read it."""

    record: Record
    title: str
    date: str
    base: str
    facts: tuple[str, ...]
    colours: dict[str, Colour]
    badges: dict[str, str]
    opening: Model | None
    hero: tuple[Shown, ...]
    photos: tuple[PhotoView, ...]
    featured: tuple[Model, ...]
    scenes: tuple[SceneView, ...]
    growth: GrowthView | None
    loras: tuple[LoraView, ...]
    controls: tuple[ControlView, ...]
    charts: dict[str, Chart | None]
    cards: tuple[CardView, ...]
    provenance: tuple[tuple[str, str], ...]
    photo_ids: tuple[str, ...]
    consent: str
    licences: tuple[str, ...]
    axes: dict[str, str]
    few: tuple[str, ...]
    """The conclusions to begin with."""

    more: tuple[str, ...]
    """The rest of them."""

    @property
    def rated(self) -> bool:
        """Whether the LoRAs differ in their learning rates."""
        return len({lora.learning_rate for lora in self.loras if lora.learning_rate is not None}) > 1

    @property
    def unequal(self) -> bool:
        """Whether some LoRAs were trained more often than others."""
        return len({lora.model.scores.num_trainings for lora in self.loras if lora.model}) > 1

    def difference(self, row: Comparison) -> Interval:
        """Of a pair: a cosine or L*; of the held-out loss, the change as a share."""
        return row.difference.as_change() if row.axis == "heldout_loss" else row.difference

    def outcome(self, row: Comparison) -> str:
        """What a comparison says, in words."""
        if row.distinguishable and row.better:
            return f"yes: {self.label(row.better)} is better" + (", by too little to matter" if row.equivalent else "")
        if row.distinguishable:
            return "yes"
        return "no: equal for all that matters" if row.equivalent else "no: too close to call"

    def label(self, name: str) -> str:
        """The label of the model of that name."""
        model = self.record.model(name)
        return model.label if model else name


def assemble(record: Record, pictures: Pictures) -> View:
    """Turn a record into what the templates show; the files of its pictures gather in ``pictures``."""
    palette, loras = colours(record.models), lora_views(record)
    photos = tuple(photo_views(record, pictures))
    base = record.scores.base or _base_name(record.provenance)
    return View(
        record=record,
        title=f"Portrait of {with_article(record.scores.class_noun)}",
        date=long_date(text(record.provenance.get("created"))),
        base=base,
        facts=tuple(_facts(record)),
        colours=palette,
        badges=_badges(record),
        opening=opening_model(record),
        hero=tuple(shown for shown in hero(record, photos, pictures) if shown.picture is not None),
        photos=photos,
        featured=tuple(featured_models(record)),
        scenes=tuple(scene_view(record, scene, palette, pictures) for scene in record.scenes),
        growth=growth_view(record, palette, pictures),
        loras=loras,
        controls=tuple(control_views(record, palette, pictures)),
        charts=_charts(record, loras, palette),
        cards=tuple(_cards(record)),
        provenance=tuple(_provenance(record, base)),
        photo_ids=tuple(_photo_ids(record)),
        consent=consent_sentence(record.provenance.get("consent")),
        licences=tuple(_licences(record, base)),
        axes=_AXES,
        few=record.scores.verdict.conclusions[:_FEW],
        more=record.scores.verdict.conclusions[_FEW:],
    )


def _facts(record: Record) -> Iterable[str]:
    if record.photos:
        yield counted(len(record.photos), "photo")
    yield counted(sum(model.kind != "base" for model in record.models), "tuned model")
    painted = sum(len(seeds) for scenes in record.pictures.values() for seeds in scenes.values())
    if painted:
        yield f"{counted(painted, 'picture')} of {counted(len(record.scenes), 'scene')}"


def _badges(record: Record) -> dict[str, str]:
    verdict = record.scores.verdict
    badges = dict.fromkeys(verdict.tied, "tied")
    if verdict.best_lora:
        badges[verdict.best_lora] = "best LoRA"
    if verdict.winner:
        badges[verdict.winner] = "recommended"
    return badges


def _charts(record: Record, loras: tuple[LoraView, ...], palette: dict[str, Colour]) -> dict[str, Chart | None]:
    photos = lightnesses(photo.path for photo in record.photos)
    painted = [(model, lightnesses(record.scene_pictures(model.name))) for model in record.models]
    return {
        "identity": identity_chart(record.scores, record.models, palette),
        "rates": rates_chart(loras, record.scores.verdict, palette),
        "course": course_chart(record.models, palette),
        "timesteps": timestep_chart(record.models, palette),
        "training": training_chart(record.models, palette),
        "lightness": lightness_chart(photos, painted, palette),
    } | {
        f"control-{kind}": control_chart(kind, said.kept, record.scores, record.models, palette)
        for kind, said in CONTROL_WORDS.items()
    }


def _cards(record: Record) -> Iterable[CardView]:
    for model in record.models:
        if not model.method:
            continue
        rest = {key: value for key, value in model.method.items() if key not in _NOT_A_SETTING and not _measured(key)}
        yield CardView(model, model.method, tuple(flat(table(model.method.get("settings")) | rest)))


def _measured(key: str) -> bool:
    return key in {"train_seconds", "trainable_parameters", "file_megabytes", "peak_memory_gib"}


def _base_name(provenance: Json) -> str:
    base = provenance.get("base")
    return text(base) or text(table(base).get("name")) or "unknown"


def _provenance(record: Record, base: str) -> Iterable[tuple[str, str]]:
    run = record.provenance
    yield "Base", base
    yield from (
        (f"Base · {words(key)}", plain(value)) for key, value in table(run.get("base")).items() if key != "name"
    )
    for label, key in (("Created", "created"), ("Seed", "seed"), ("Command", "command"), ("Device", "device")):
        if text(run.get(key)):
            yield label, text(run[key])
    yield from ((f"Version · {label}", value) for label, value in flat(table(run.get("versions"))))
    yield from ((f"Machine · {label}", value) for label, value in flat(table(run.get("machine"))))
    if text(run.get("machine")):
        yield "Machine", text(run["machine"])


def _photo_ids(record: Record) -> list[str]:
    recorded = run_photos if isinstance(run_photos := record.provenance.get("photos"), list) else []
    ids = [text(item) for item in recorded if text(item)] + [text(row.get("id")) for row in rows(recorded)]
    return ids or sorted(photo.id for photo in record.photos)


def consent_sentence(value: object) -> str:
    """A sentence on whether the person's consent was recorded."""
    if value is True or value == "stated by the user":
        return "The user stated that the person in the photos consents."
    if value is False or value == "refused":
        return "The person in the photos did not consent: keep these pictures to yourself, and delete the weights."
    return "Whether the person in the photos consents was not recorded: ask before you pass these pictures on."


def _licences(record: Record, base: str) -> Iterable[str]:
    known = text(record.provenance.get("base_licence")) or text(table(record.provenance.get("base")).get("licence"))
    if known or base == "pocket":
        yield f"The base and what is tuned from it: {known or 'Apache-2.0'}."
    else:
        yield (
            "Tuned weights keep the licence of their base. That of Stable Diffusion 1.5 is CreativeML Open RAIL-M: "
            "its use restrictions go with the weights and the pictures."
        )
    for encoder in record.scores.encoders:
        licence = f" ({encoder.licence})" if encoder.licence else ""
        yield f"Judge of {_AXES.get(encoder.axis, words(encoder.axis))}: {encoder.name}{licence}."
