"""A vote counts for the model whose picture was chosen, in the tally, on the page and in the report."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from portrayal.report.record import read_run
from portrayal.run import Run
from portrayal.settings import load_config
from portrayal.studio.compare import Measured, Row, part_of, row_of, table, verdict_of
from portrayal.studio.page.compare import said, score_row
from portrayal.studio.page.compare import view as compare_view
from portrayal.studio.page.curves import ABOVE, BELOW, HEIGHT, curve
from portrayal.studio.projects import Project
from portrayal.studio.texts import Texts
from portrayal.studio.votes import Choice, Tally, next_pair, picture_of, secret_of, tally, vote

MODELS = ("base", "unet", "lora-2", "lora-4")
TINY = Path(__file__).parents[1] / "tiny.toml"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A run with pictures of two scenes at two seeds by four models, and scores written by hand."""
    config = load_config(str(TINY), ["study.ranks=[2,4]", "study.full_unet=true"])
    run = Run.create(tmp_path / "made", config, {"photos": []})
    for place, model in enumerate(MODELS):
        for number, scene in enumerate(config.generation.scenes):
            for seed in range(config.generation.num_images_per_scene):
                path = run.image_path(model, scene, seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (place * 60, number * 60, seed * 60)).save(path)
    rows = [
        {"name": name, "identity": {"mean": 0.1 * place, "low": 0.1 * place - 0.05, "high": 0.1 * place + 0.07},
         "prompt": {"mean": 0.3 - 0.01 * place, "low": 0.2, "high": 0.4}, "heldout_gain": {"mean": 0.02, "low": None,
         "high": None}, "colour": {"lightness_difference": -2.0 + place}, "trainings": [{}] * place, "rank": None}
        for place, name in enumerate(MODELS)
    ]  # fmt: skip
    levels = {"identity_real": {"mean": 0.8, "low": 0.7, "high": 0.9}}
    levels["identity_stranger"] = {"mean": 0.05, "low": 0.0, "high": 0.1}
    verdict = {"recommended": "lora-2", "tied": ["lora-2", "lora-4"], "sentence": "S.", "conclusions": []}
    scores = {"schema": 2, "models": rows, "levels": levels, "verdict": verdict}
    (run.folder / "scores.json").write_text(json.dumps(scores))
    return Project(tmp_path, "made")


def color_of(path: Path) -> str:
    """The model that painted a picture, from its pixels."""
    with Image.open(path) as image:
        red, _, _ = image.getpixel((0, 0))  # type: ignore[misc]
    return MODELS[int(red) // 60]


def vote_for(project: Project, better: dict[frozenset[str], str | None]) -> None:
    """Vote on every pair by looking at the pictures alone, as a person does."""
    while (pair := next_pair(project)) is not None:
        left, right = color_of(pair.a), color_of(pair.b)
        wanted = better[frozenset((left, right))]
        choice: Choice = "equal" if wanted is None else "a" if wanted == left else "b"
        assert (picture_of(project, pair.id, "a"), picture_of(project, pair.id, "b")) == (pair.a, pair.b)
        assert vote(project, pair.id, choice) == (left, right)


def test_a_vote_counts_for_the_model_whose_picture_was_chosen(project: Project) -> None:
    """Each two models meet in 2 scenes at 2 seeds. The full UNet wins always, LoRA 4 beats 2; others are alike."""
    better = {frozenset(pair): ("unet" if "unet" in pair else None) for pair in combinations(MODELS, 2)}
    better[frozenset(("lora-2", "lora-4"))] = "lora-4"
    vote_for(project, better)
    found = {(one.a, one.b): (one.wins, one.losses, one.ties, one.share) for one in tally(project)}
    assert found == {
        ("base", "unet"): (0, 4, 0, 0.0),
        ("base", "lora-2"): (0, 0, 4, None),
        ("base", "lora-4"): (0, 0, 4, None),
        ("unet", "lora-2"): (4, 0, 0, 1.0),
        ("unet", "lora-4"): (4, 0, 0, 1.0),
        ("lora-2", "lora-4"): (0, 4, 0, 0.0),
    }
    kept = json.loads((project.run_folder / "votes.json").read_text())
    assert {one["winner"] for one in kept["votes"]} == {"unet", "lora-4", None}
    assert all(one["winner"] in (one["left"], one["right"], None) for one in kept["votes"])
    read = {(one.a, one.b): (one.wins, one.losses, one.ties, one.share) for one in read_run(project.run_folder).votes}
    assert read == found


def test_a_picture_left_stands_for_the_model_on_the_left(project: Project) -> None:
    while (pair := next_pair(project)) is not None:
        _, secret = secret_of(project, pair.id)
        assert (color_of(pair.a), color_of(pair.b)) == (secret.left, secret.right)
        assert (pair.a.parent.name, pair.a.stem) == (secret.scene, str(secret.seed))
        vote(project, pair.id, "a")
    assert next_pair(project) is None


class Page:
    """What a screen asks of a request."""

    def __init__(self, language: str, project: Project | None = None) -> None:
        self.t, self.mine, self.place = Texts(language), project, dict[str, str]()

    def model(self, name: str) -> str:
        return name.upper()

    def picture(self, path: Path, side: int) -> str:
        return str(path)

    def pair(self, pair: str, side: str) -> str:
        return pair + side


def asked(language: str, project: Project | None = None) -> Any:
    return Page(language, project)


TALLY = [
    Tally("base", "unet", 1, 3, 2, 0.25, 0.05, 0.7),
    Tally("unet", "lora-2", 5, 2, 0, 0.714, 0.36, 0.92),
    Tally("base", "lora-2", 0, 0, 6, None, None, None),
]


@pytest.mark.parametrize(
    ("model", "votes"), [("base", "1 : 3"), ("unet", "8 : 3"), ("lora-2", "2 : 5"), ("lora-4", "–")]
)
def test_a_model_s_wins_and_losses_are_its_own_on_either_side(model: str, votes: str) -> None:
    """The full UNet: 3 against the base and 5 against LoRA 2; it lost 1 and 2."""
    assert score_row(asked("en"), Row(model), TALLY).votes == votes


def test_a_tally_is_told_for_its_first_model() -> None:
    assert said(asked("en"), TALLY[0]) == (
        "BASE against UNET",
        "1 : 3, 2 without difference",
        "BASE is preferred in 25% (5% to 70%)",
    )
    assert said(asked("ru"), TALLY[1]) == (
        "UNET против LORA-2",
        "5 : 2, без разницы 0",
        "UNET лучше в 71\u00a0% (от 36\u00a0% до 92\u00a0%)",
    )
    assert said(asked("en"), TALLY[2])[2] == ""


def test_what_was_measured_stands_beside_its_model(project: Project) -> None:
    found = table(project)
    assert found is not None
    rows = {row.model: row for row in found.rows}
    assert rows["lora-2"].identity == Measured(0.2, pytest.approx(0.15), pytest.approx(0.27))
    assert (rows["lora-4"].lightness, rows["lora-4"].trainings) == (1.0, 3)
    assert rows["unet"].gain == Measured(0.02, None, None)
    assert [name for name, row in rows.items() if row.recommended] == ["lora-2"]
    assert [name for name, row in rows.items() if row.tied] == ["lora-2", "lora-4"]
    assert (found.real, found.stranger) == (Measured(0.8, 0.7, 0.9), Measured(0.05, 0.0, 0.1))
    for (scene, model, seed), cell in found.cells.items():
        assert color_of(cell.path) == model
        assert (cell.path.parent.name, cell.path.stem) == (scene, str(seed))


@pytest.mark.parametrize(
    ("language", "scale", "interval"),
    [
        ("en", "strangers are at 0.05, the person's own photos at 0.80", "0.150 to 0.270"),
        ("ru", "у посторонних 0,05, у своих фотографий 0,80", "от 0,150 до 0,270"),
    ],
)
def test_the_page_tells_the_scale_from_a_stranger_to_the_person(
    project: Project, language: str, scale: str, interval: str
) -> None:
    from portrayal.studio.page.asked import NOTHING

    shown = compare_view(asked(language, project), NOTHING)
    low, high = shown["levels"]
    assert scale in Texts(language)("compare.identity_help", low=low, high=high)
    row = next(row for row in shown["scores"] if row.model == "lora-2")
    assert row.identity[1] == interval
    assert row.prompt[0].replace(",", ".") == "0.280"
    assert (shown["a"], shown["b"], shown["recommended"]) == ("base", "lora-2", "lora-2")
    assert color_of(Path(shown["left"])) == "base"
    assert color_of(Path(shown["right"])) == "lora-2"


def test_what_a_picture_scored_is_found_by_scene_and_seed() -> None:
    told = [[{"identity": 0.11}, {"identity": 0.12}], [{"identity": 0.21}, {"identity": 0.22}]]
    assert [part_of(told, scene, seed)["identity"] for scene in range(2) for seed in range(2)] == [
        0.11,
        0.12,
        0.21,
        0.22,
    ]
    assert part_of(told, 2, 0) == {}
    assert part_of([None], 0, 0) == {}


def test_a_row_is_recommended_and_tied_by_its_name() -> None:
    verdict = verdict_of({"recommended": "lora-2", "tied": ["lora-4"], "set_aside": {"unet": ["drift"]}})
    found = [row_of({"name": name}, verdict) for name in ("lora-2", "lora-4", "unet")]
    assert [(row.recommended, row.tied) for row in found] == [(True, False), (False, True), (False, False)]
    assert verdict.set_aside == {"unet": ("drift",)}


def test_a_falling_loss_falls_in_its_drawing_too() -> None:
    """From the base's 0.20 at the top to 0.10 at the bottom; the base as a dashed line through its own point."""
    lane: Any = type("Lane", (), {"heldout": [(100, 0.15), (200, 0.10)], "heldout_base": 0.20, "total": 400})()
    drawn = str(curve(Texts("en"), lane))
    points = [tuple(map(float, point.split(","))) for point in drawn.split('points="')[1].split('"')[0].split()]
    assert [x for x, _ in points] == [4.0, 67.0, 130.0]  # a quarter and half of the way
    top, bottom = float(ABOVE), float(HEIGHT - BELOW)
    assert [y for _, y in points] == [top, (top + bottom) / 2, bottom]
    assert f'd="M4 {top}H' in drawn
    assert "0.2000 at first, 0.1000 at step 200" in drawn
