"""What was painted and measured, side by side: scenes by models at one seed, and what follows from the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap, zip_longest
from pathlib import Path
from typing import Any

from portrayal import Run, Said
from portrayal.studio.files import read_json
from portrayal.studio.projects import Project
from portrayal.studio.watch import run_of

CHARTS = ("rates", "identity", "course", "training", "timesteps", "lightness")


@dataclass(frozen=True)
class Measured:
    """A mean and the ends of its 95 % interval; the ends are nothing where there was a single unit."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cell:
    """One picture.

    Attributes:
        path: The picture.
        near: The photo, of those its model was trained on, that it is nearest to.
        near_id: Id of that photo.
        similarity: Cosine between the two.
        identity: Likeness of the picture to photos its model did not see.
        prompt: How well it keeps to its prompt.
    """

    path: Path
    near: Path | None = None
    near_id: str | None = None
    similarity: float | None = None
    identity: float | None = None
    prompt: float | None = None


@dataclass(frozen=True)
class Row:
    """What was measured of one model; each measure may be missing.

    Attributes:
        model: Its name.
        rank: Of a LoRA.
        step: The step it is judged at.
        trainings: How often it was trained.
        identity: Likeness to photos it did not see.
        prompt: Keeping to prompts.
        gain: Share by which it foretells unseen photos better than the base.
        drift: Likeness of pictures of the class to the person: less is better.
        diversity: How different its pictures of a scene are.
        copying: How much nearer its pictures are to photos it saw than to others.
        lightness: Difference to the photos, in L*.
        recommended: Whether the verdict names it.
        tied: Whether it cannot be told from the one the verdict names.
    """

    model: str
    rank: int | None = None
    step: int | None = None
    trainings: int = 0
    identity: Measured | None = None
    prompt: Measured | None = None
    gain: Measured | None = None
    drift: Measured | None = None
    diversity: Measured | None = None
    copying: Measured | None = None
    lightness: float | None = None
    recommended: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Verdict:
    """What follows from the scores.

    Attributes:
        sentence: The answer; a :class:`portrayal.Said`, unless an older version recorded it.
        conclusions: What it rests on, sentence by sentence; the same goes for each.
        recommended: Name of the model to use; nothing where none is better than the base.
        tied: Models that cannot be told apart from the best.
        set_aside: Models that failed on another axis, with the axes.
        smaller: What is said of the recommended LoRA at lower ranks; empty where nothing is.
    """

    sentence: str
    conclusions: tuple[str, ...]
    recommended: str | None
    tied: tuple[str, ...]
    set_aside: Mapping[str, tuple[str, ...]]
    smaller: str = ""


@dataclass(frozen=True)
class Table:
    """Everything that can be compared.

    Attributes:
        scenes: Names and prompts.
        models: The base, the study's models that have pictures, and the final one.
        seeds: Numbers of the pictures; the same number has the same seed in every model.
        rows: What was measured; empty before the models were judged.
        real: Likeness of the person's own photos.
        stranger: Likeness of other people.
        verdict: What follows; nothing before.
        charts: The report's charts as SVG, by name; see :data:`CHARTS`.
        report: The report in one file; nothing before it is written.
    """

    scenes: list[tuple[str, str]]
    models: list[str]
    seeds: list[int]
    rows: list[Row] = field(default_factory=list)
    real: Measured | None = None
    stranger: Measured | None = None
    verdict: Verdict | None = None
    charts: dict[str, str] = field(default_factory=dict)
    report: Path | None = None
    cells: dict[tuple[str, str, int], Cell] = field(default_factory=dict)

    def cell(self, scene: str, model: str, seed: int) -> Cell | None:
        """The picture of a scene by a model; nothing if it is not there."""
        return self.cells.get((scene, model, seed))


def table(project: Project) -> Table | None:
    """What a project has painted; nothing before anything was."""
    run = run_of(project)
    if run is None:
        return None
    scenes, subject = run.config.generation.scenes, run.config.subject.subject
    cells = cells_of(run)
    if not cells:
        return None
    scores = read_json(run.folder / "scores.json")
    verdict = verdict_of(scores.get("verdict") or {}, read_json(run.folder / "cuts.json"))
    page = run.folder / "report.html"
    names = {model for _, model, _ in cells}
    return Table(
        [(name, prompt.replace("{subject}", subject)) for name, prompt in scenes.items()],
        [name for name in ("base", *run.config.methods, "final") if name in names],
        sorted({seed for _, _, seed in cells}),
        [row_of(row, verdict) for row in scores.get("models", [])],
        measured((scores.get("levels") or {}).get("identity_real")),
        measured((scores.get("levels") or {}).get("identity_stranger")),
        verdict if scores else None,
        charts_of(run.folder / "report"),
        page if page.is_file() else None,
        cells,
    )


def cells_of(run: Run) -> dict[tuple[str, str, int], Cell]:
    """Every picture of a scene, by scene, model and number."""
    looks, photos = read_json(run.folder / "looks.json"), run.dataset_folder / "images"
    found = {}
    for model in ("base", *run.config.methods, "final"):
        told = looks.get(model, [])
        for place, scene in enumerate(run.config.generation.scenes):
            for number in range(run.config.generation.num_images_per_scene):
                path = run.image_path(model, scene, number)
                if path.is_file():
                    found[scene, model, number] = cell_of(path, part_of(told, place, number), photos)
    return found


def part_of(told: Sequence[Any], place: int, number: int) -> Mapping[str, Any]:
    """What was measured of one picture; empty where nothing was."""
    try:
        return dict(told[place][number])
    except (IndexError, TypeError, ValueError):
        return {}


def cell_of(path: Path, told: Mapping[str, Any], photos: Path) -> Cell:
    """One picture with what was measured of it."""
    near = told.get("nearest")
    picture = photos / f"{Path(near).name}.png" if near else None
    return Cell(
        path,
        picture if picture and picture.is_file() else None,
        near,
        told.get("similarity"),
        told.get("identity"),
        told.get("prompt"),
    )


def row_of(row: Mapping[str, Any], verdict: Verdict) -> Row:
    """What was measured of one model."""
    kinds = {"gain": "heldout_gain"} | {key: key for key in ("identity", "prompt", "drift", "diversity", "copying")}
    return Row(
        row["name"],
        row.get("rank"),
        row.get("step"),
        len(row.get("trainings") or ()),
        lightness=(row.get("colour") or {}).get("lightness_difference"),
        recommended=row["name"] == verdict.recommended,
        tied=row["name"] in verdict.tied,
        **{key: measured(row.get(kind)) for key, kind in kinds.items()},
    )


def measured(value: Mapping[str, Any] | None) -> Measured | None:
    """An interval of `scores.json`."""
    return None if not value or value.get("mean") is None else Measured(value["mean"], value["low"], value["high"])


def verdict_of(told: Mapping[str, Any], cuts: Mapping[str, Any] | None = None) -> Verdict:
    """The verdict of `scores.json`, and what `cuts.json` says of the model that it recommends."""
    cuts = cuts if cuts and cuts.get("model") == told.get("recommended") else {}
    said, conclusions = told.get("said") or {}, told.get("conclusions", ())
    return Verdict(
        Said.retold(str(told.get("sentence", "")), said.get("sentence")),
        tuple(starmap(Said.retold, zip_longest(conclusions, said.get("conclusions", ())[: len(conclusions)]))),
        told.get("recommended"),
        tuple(told.get("tied", ())),
        {name: tuple(axes) for name, axes in (told.get("set_aside") or {}).items()},
        Said.retold(str(cuts.get("sentence") or ""), cuts.get("said")),
    )


def charts_of(folder: Path) -> dict[str, str]:
    """The report's charts."""
    paths = {name: folder / f"chart-{name}.svg" for name in CHARTS}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()}
