"""Each cell of a report's tables holds the number of its row and column, with its unit, its sign and its direction."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portrayal.evaluation.colour import lightness_map
from portrayal.evaluation.comparisons import AXES, LESS_IS_BETTER
from portrayal.report import build_report
from portrayal.report.palette import colours
from portrayal.report.record import Model
from portrayal.report.scores import Comparison, Interval, parse_scores
from portrayal.report.views import View
from portrayal.report.wording import (
    between,
    chance,
    counted,
    duration,
    fixed,
    flat,
    large,
    long_date,
    megabytes,
    percent,
    plain,
    rate,
    signed,
    signed_percent,
    with_article,
)
from tests.report.conftest import SCENES, write_run
from tests.report.drawn import read

MODELS = ("base", "unet", "lora-32", "lora-64", "lora-128")
LABELS = {"base": "Base", "unet": "Full UNet", "lora-32": "LoRA 32", "lora-64": "LoRA 64", "lora-128": "LoRA 128"}
MINUS = "−"


class Tables(HTMLParser):
    """The text of every cell, by table and row, of tags as they come."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.classes: list[list[str]] = []
        self.into: list[str] | None = None
        self.said: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
            self.classes.append([])
        elif tag == "tr":
            self.tables[-1].append([])
            self.classes[-1].append(dict(attrs).get("class") or "")
        elif tag in ("td", "th"):
            self.into = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.into is not None:
            self.tables[-1][-1].append(" ".join(" ".join(self.into).split()))
            self.into = None

    def handle_data(self, data: str) -> None:
        if self.into is not None:
            self.into.append(data)
        self.said.append(data)

    def headed(self, *heads: str) -> tuple[list[list[str]], list[str]]:
        """Rows of the table with these heads, and their classes."""
        place = next(n for n, rows in enumerate(self.tables) if rows and rows[0] == list(heads))
        return self.tables[place][1:], self.classes[place][1:]


def interval(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}


def scores_by_hand(scores: dict[str, Any]) -> None:
    """Numbers that differ everywhere."""
    for place, row in enumerate(scores["models"]):
        shift = place / 100
        row |= {
            "heldout_loss": interval(0.07 - shift / 10, 0.06 - shift / 10, 0.08 - shift / 10),
            "heldout_gain": interval(0.031 - shift, 0.021 - shift, 0.041 - shift),
            "identity": interval(0.35 + 3 * shift, 0.3 + 3 * shift, 0.4 + 3 * shift),
            "identity_normalised": -0.1 + 0.3 * place,
            "prompt": interval(0.3 - shift, 0.29 - shift, 0.31 - shift),
            "drift": interval(0.2 + shift, 0.1 + shift, 0.3 + shift),
            "diversity": interval(0.5 + shift, 0.4, 0.6),
            "copying": interval(0.02 - shift, -0.1, 0.1),
        }
        row["colour"] |= {"lightness": interval(60.0 + place, 59.0, 62.0), "lightness_difference": -1.5 + place}
    scores["verdict"] |= {
        "best_lora": "lora-32",
        "recommended": "lora-32",
        "leader": "lora-64",
        "winner": "unet",
        "tied": ["lora-32", "lora-64"],
        "set_aside": {"lora-128": ["prompt", "drift"]},
        "comparisons": [
            comparison("identity", "lora-32", "lora-64", interval(-0.03, -0.07, 0.01), None, equivalent=False),
            comparison("identity", "lora-64", "lora-128", interval(-0.04, -0.06, -0.02), "lora-128"),
            comparison(
                "heldout_loss", "unet", "lora-64", interval(math.log(0.9), math.log(0.85), math.log(0.95)), "unet"
            ),
            comparison("drift", "unet", "base", interval(0.1, 0.05, 0.15), "base"),
            comparison("prompt", "lora-32", "base", interval(-0.001, -0.002, 0.002), None, equivalent=True),
            comparison("colour", "lora-32", "base", interval(-0.5, -0.9, -0.1), "lora-32", equivalent=True),
        ],
    }


def comparison(
    axis: str, a: str, b: str, difference: dict[str, float], better: str | None, *, equivalent: bool = False
) -> dict[str, Any]:
    names = {"axis": axis, "a": a, "b": b, "difference": difference, "better": better, "equivalent": equivalent}
    return names | {"distinguishable": better is not None}


def color(model: str, scene: str, seed: int) -> tuple[int, int, int]:
    """What a picture is painted in, by which it is known again."""
    red, green, blue = hashlib.sha256(f"{model}/{scene}/{seed}".encode()).digest()[:3]
    return red, green, blue


def tiny(model: str, scene: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), color(model, scene, seed))


VOTES = [
    {"a": "base", "b": "unet", "wins": 1, "losses": 3, "ties": 2, "share": 0.25, "low": 0.046, "high": 0.699},
    {"a": "unet", "b": "lora-32", "wins": 7, "losses": 2, "ties": 4, "share": 0.778, "low": 0.453, "high": 0.937},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tiny pictures and numbers written by hand."""
    folder = write_run(tmp_path_factory.mktemp("tables") / "run", models=list(MODELS), paint=tiny)
    path = folder / "scores.json"
    scores = json.loads(path.read_text())
    scores_by_hand(scores)
    path.write_text(json.dumps(scores))
    (folder / "votes.json").write_text(json.dumps({"schema": 1, "votes": [], "tally": VOTES}))
    return folder


@pytest.fixture(scope="module")
def pages(folder: Path) -> tuple[Tables, str]:
    html, markdown = build_report(folder)
    return Tables(html.read_text()), markdown.read_text()


SCORES = {
    "Base": ("0.0700", "0 %", "0.35", "0.300", f"60.0 {MINUS}1.5 from the photos"),
    "Full UNet": ("0.0690", "+2.1 %", "0.38", "0.290", f"61.0 {MINUS}0.5 from the photos"),
    "LoRA 32": ("0.0680", "+1.1 %", "0.41", "0.280", "62.0 +0.5 from the photos"),
    "LoRA 64": ("0.0670", "+0.1 %", "0.44", "0.270", "63.0 +1.5 from the photos"),
    "LoRA 128": ("0.0660", f"{MINUS}0.9 %", "0.47", "0.260", "64.0 +2.5 from the photos"),
}


def test_the_scores_of_each_model_stand_in_its_row(pages: tuple[Tables, str]) -> None:
    rows, classes = pages[0].headed("Model", "Held-out loss", "Gain over base", "Likeness", "Prompt", "Lightness")
    found = {row[0]: row[1:] for row in rows}
    badges = {"Full UNet": " recommended", "LoRA 32": " best LoRA", "LoRA 64": " tied"}
    for place, (label, (loss, gain, likeness, prompt, light)) in enumerate(SCORES.items()):
        cells = found[label + badges.get(label, "")]
        shift = place / 100
        ends = [fixed(end - shift / 10, 4) for end in (0.06, 0.08)]
        assert cells[0] == f"{loss} {ends[0]} to {ends[1]}"
        low, high = (fixed(100 * (end - shift), 1) for end in (0.021, 0.041))
        assert cells[1] == (gain if label == "Base" else f"{gain} {low} to {high} %")
        assert cells[2] == f"{likeness} {fixed(0.3 + 3 * shift)} to {fixed(0.4 + 3 * shift)}"
        assert cells[3] == f"{prompt} {fixed(0.29 - shift, 3)} to {fixed(0.31 - shift, 3)}"
        assert cells[4] == light
    assert found["Real photos"][2] == "0.91 0.89 to 0.94"
    assert found["Real photos"][4] == "61.2"
    assert found["A stranger"][2] == "0.31 0.27 to 0.35"
    best = [row[0] for row, kind in zip(rows, classes, strict=True) if kind == "best"]
    assert best == ["Full UNet recommended"]


def test_and_in_the_markdown(pages: tuple[Tables, str]) -> None:
    rows = {}
    for line in pages[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0]:
            rows.setdefault(re.sub(r" \*\*.*\*\*", "", cells[0]), cells[1:])
    for place, (label, (loss, gain, likeness, prompt, light)) in enumerate(SCORES.items()):
        found, shift = rows[label], place / 100
        value, _, difference = light.partition(" ")
        assert found == [
            f"{loss} ({fixed(0.06 - shift / 10, 4)} to {fixed(0.08 - shift / 10, 4)})",
            gain if label == "Base" else f"{gain} ({fixed(2.1 - 100 * shift, 1)} to {fixed(4.1 - 100 * shift, 1)} %)",
            f"{likeness} ({fixed(0.3 + 3 * shift)} to {fixed(0.4 + 3 * shift)})",
            f"{prompt} ({fixed(0.29 - shift, 3)} to {fixed(0.31 - shift, 3)})",
            f"{value} ({difference})",
        ]
    assert rows["*Real photos*"][2].startswith("0.91 (")
    assert rows["*A stranger*"][2].startswith("0.31 (")


def test_the_bar_of_likeness_runs_from_a_stranger_to_the_person(folder: Path, pages: tuple[Tables, str]) -> None:
    """-0.1 is drawn as nothing, 1.1 as all of it."""
    html = (folder / "report.html").read_text()
    bars = re.findall(r'title="([^"]*) of the way from a stranger to real photos"><i style="width: ([\d.]+)%"', html)
    assert bars == [(f"{MINUS}10 %", "0"), ("20 %", "20.0"), ("50 %", "50.0"), ("80 %", "80.0"), ("110 %", "100")]


def test_more_measures_stand_under_their_heads(pages: tuple[Tables, str]) -> None:
    heads = ("Model", "Step used", "Drift of the class", "Variety", "Copying", "Saturation", "Contrast", "Clipped")
    rows, _ = pages[0].headed(*heads)
    found = {row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in rows}
    assert found["Full UNet"][:4] == ["400", "0.210", "0.510", "+0.010"]
    assert found["LoRA 128"][:4] == ["400", "0.240", "0.540", f"{MINUS}0.020"]
    assert found["Base"][0] == "–"
    assert found["LoRA 32"][4:] == ["0.410", "0.2", "0.0200"]


def test_each_rank_is_behind_the_leader_by_its_own_difference(pages: tuple[Tables, str]) -> None:
    """Kept as 32 - 64, it is -0.03; kept as 64 - 128, 128 is 0.04 ahead."""
    rows, classes = pages[0].headed("Rank", "Likeness, mean", "Behind the leader", "What follows")
    assert rows == [
        [
            "LoRA 32",
            "0.41",
            f"{MINUS}0.030 {MINUS}0.070 to 0.010",
            "recommended, smaller or gentler than the leader and shown to be no worse",
        ],
        ["LoRA 64", "0.44", "–", "the leader"],
        [
            "LoRA 128",
            "0.47",
            "+0.040 0.020 to 0.060",
            "set aside: it follows the prompt less and lets other people turn into the person",
        ],
    ]
    assert classes == ["best", "", ""]
    assert f"| LoRA 32 | {MINUS}0.030 ({MINUS}0.070 to 0.010) | 0.410 (0.360 to 0.460) |" in pages[1]
    assert "| LoRA 128 | +0.040 (0.020 to 0.060) | 0.470 (0.420 to 0.520) |" in pages[1]
    assert "| 3 | – | set aside: it follows the prompt less" in pages[1]


def test_pairs_are_told_with_sign_unit_and_the_better_one(pages: tuple[Tables, str]) -> None:
    """Losses of 90 % are 10 % less, though their log is -10.5 %."""
    rows, _ = pages[0].headed("Measure", "Pair", "Difference", "Told apart?")
    assert rows == [
        ["likeness", "LoRA 32 − LoRA 64", f"{MINUS}0.030 ({MINUS}0.070 to 0.010)", "no: too close to call"],
        ["likeness", "LoRA 64 − LoRA 128", f"{MINUS}0.040 ({MINUS}0.060 to {MINUS}0.020)", "yes: LoRA 128 is better"],
        [
            "held-out loss",
            "Full UNet − LoRA 64",
            f"{MINUS}10.00 % ({MINUS}15.00 to {MINUS}5.00)",
            "yes: Full UNet is better",
        ],
        ["drift of the class", "Full UNet − Base", "+0.100 (0.050 to 0.150)", "yes: Base is better"],
        ["prompt", "LoRA 32 − Base", f"{MINUS}0.001 ({MINUS}0.002 to 0.002)", "no: equal for all that matters"],
        [
            "light",
            "LoRA 32 − Base",
            f"{MINUS}0.500 ({MINUS}0.900 to {MINUS}0.100)",
            "yes: LoRA 32 is better, by too little to matter",
        ],
    ]


def test_votes_stand_under_the_model_they_were_for(pages: tuple[Tables, str]) -> None:
    rows, _ = pages[0].headed("Pair", "For the first", "For the second", "Equal", "Share of the first")
    assert rows == [
        ["Base against Full UNet", "1", "3", "2", "25 % (5 % to 70 %)"],
        ["Full UNet against LoRA 32", "7", "2", "4", "78 % (45 % to 94 %)"],
    ]
    assert "| Full UNet against LoRA 32 | 7 | 2 | 4 | 78 % (45 % to 94 %) |" in pages[1]


def test_the_page_says_of_each_measure_which_way_is_better(pages: tuple[Tables, str]) -> None:
    said = " ".join(" ".join(pages[0].said).split())
    for words in (
        "restores photos that it has never seen from noise. Lower is better.",
        "A model that only repeats its photos loses here. Higher is better.",
        "The bar runs from a stranger (empty) to the person’s own photos (full).",
        "How bright the pictures are, from 0, black, to 100, white. Best near the photos’ own; far above it",
        "Likeness and prompt are better when higher, the rest when lower.",
        "The closer to the upper band, the more the pictures could be photos of the person",
        "below 0 % it does better than the base",
        "Below zero is better than the base.",
    ):
        assert words in said, words
    assert set(AXES) - LESS_IS_BETTER == {"identity", "prompt"}
    for words in (
        "from noise. Lower is better.",
        "was asked for. Higher is better.",
        "Below zero is better than the base.",
    ):
        assert words in pages[1], words


def test_what_there_is_is_counted(pages: tuple[Tables, str]) -> None:
    """14 photos in 3 folds; 5 models, the base among them, painted 5 scenes with 2 seeds; one finding."""
    said = " ".join(" ".join(pages[0].said).split())
    for words in (
        "14 photos 4 tuned models 50 pictures of 5 scenes",
        "14 photos of the person, cropped to a square.",
        "dealt into 3 groups, and every rank was trained 3 times",
        "Where the 3 rounds disagree",
        "1 remark on the photos",
        "Photo ids: 14",
    ):
        assert words in said, words
    assert " · 14 photos · 4 tuned models · 50 pictures of 5 scenes" in pages[1]


def test_photos_of_a_fold_have_its_number(folder: Path, pages: tuple[Tables, str]) -> None:
    tags = re.findall(r'<span class="tag">(\d)</span>', (folder / "report.html").read_text())
    assert tags == ["1"] * 5 + ["2"] * 5 + ["3"] * 4


def shown_by(folder: Path) -> list[tuple[str, tuple[int, int, int]]]:
    """What each picture of both reports is said to be, and the color it has."""
    html, markdown = ((folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    found = [
        (base64.b64decode(data), alt) for data, alt in re.findall(r'webp;base64,([^"]+)"[^>]*? alt="([^"]*)"', html)
    ]
    found += [
        ((folder / file).read_bytes(), alt)
        for file, alt in re.findall(r'<img src="([^"]+)"[^>]*? alt="([^"]*)"', markdown)
    ]
    pictures = []
    for content, alt in found:
        with Image.open(io.BytesIO(content)) as image:
            pixel: Any = image.convert("RGB").getpixel((4, 4))
            pictures.append((unescape(alt), pixel))
    return pictures


def test_every_picture_is_the_one_that_it_is_said_to_be(folder: Path, pages: tuple[Tables, str]) -> None:
    """By its model, scene, seed and strength of control; one text may name the pictures of several seeds."""
    names = {"the base": "base", "the full UNet": "unet"} | {LABELS[name]: name for name in MODELS if "lora" in name}
    kinds = {"outline": "canny", "pose": "openpose"}
    counted = Counter[str]()
    for alt, found in shown_by(folder):
        painted = re.fullmatch(r"(\w+), painted by (.+)", alt)
        held = re.fullmatch(r"Painted (?:to|without) the (\w+)(?: at strength ([\d.]+))? by (.+)", alt)
        if painted:
            scene, model = painted[1].lower(), names[painted[2]]
            assert found in [color(model, scene, seed) for seed in range(2)], alt
            counted["painted"] += 1
        elif held:
            model, kind = names[held[3]], kinds[held[1]]
            stem, scene = (f"{model}-{kind}-{held[2]}", "street") if held[2] else (model, "office")
            assert found in [color(stem, scene, seed) for seed in range(4)], alt
            counted["held"] += 1
        elif number := re.fullmatch(r"a photo of sks woman, number (\d+)", alt):
            assert found == color("photo", list(SCENES)[int(number[1]) % 5], int(number[1])), alt
            counted["photo"] += 1
    # in each report 6 at the top, 5 scenes of 3 models side by side and of 5 models with 2 seeds; 14 photos and one
    # at the top; for outline and pose 3 models, one seed at 3 strengths and 3 seeds at the greatest
    assert counted == {"painted": 2 * (6 + 15 + 50), "photo": 2 * (14 + 1), "held": 2 * 2 * 3 * (3 + 3)}


def test_pictures_stand_in_their_columns_and_seeds_in_order(folder: Path, pages: tuple[Tables, str]) -> None:
    html = (folder / "report.html").read_text()
    grid = html[html.index('<table class="grid"') :]
    grid = grid[: grid.index("</table>")]
    assert re.findall(r"</i>([^<]+)</th>", grid) == [LABELS[name] for name in MODELS]
    for scene, line in zip(SCENES, grid.split("<tr>")[2:], strict=True):
        assert f'<th scope="row">{scene.capitalize()}</th>' in line
        pixels: list[Any] = []
        for data in re.findall(r'webp;base64,([^"]+)"', line):
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                pixels.append(image.convert("RGB").getpixel((4, 4)))
        assert pixels == [color(model, scene, seed) for model in MODELS for seed in range(2)]


def test_the_lightness_chart_is_of_each_model_s_own_pictures(folder: Path, pages: tuple[Tables, str]) -> None:
    (panel,) = read((folder / "report" / "chart-lightness.svg").read_bytes())
    assert list(panel.y.ticks) == ["Photos", *(LABELS[name] for name in MODELS)]
    scores = parse_scores(json.loads((folder / "scores.json").read_text()))
    models = [Model(row, True, {}, None) for row in scores.models]
    for model in models:
        mine = [color(model.name, scene, seed) for scene in SCENES for seed in range(2)]
        lightness = [float(lightness_map(np.array([[one]], np.uint8)).mean()) for one in mine]
        dots, (bar,) = panel.of(colours(tuple(models))[model.name].light)
        assert sorted(dot.x for dot in dots) == [pytest.approx(value, abs=0.4) for value in sorted(lightness)]
        assert bar.points[0][0] == pytest.approx(np.mean(lightness), abs=0.4)


def test_how_each_model_was_trained_stands_in_its_row(pages: tuple[Tables, str]) -> None:
    lines = [line for line in pages[1].splitlines() if line.count("|") == 7]
    assert "| Model | Rank | Alpha | Trained weights | File | Training took |" in lines
    cards = [line for line in lines if " MB " in line]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in cards] == [
        ["Full UNet", "–", "–", "859.5 million", "1719 MB", "5 min 12 s"],
        ["LoRA 32", "32", "32", "6.4 million", "12.8 MB", "41 s"],
        ["LoRA 64", "64", "64", "12.8 million", "25.6 MB", "41 s"],
        ["LoRA 128", "128", "128", "25.6 million", "51.2 MB", "41 s"],
    ]


def test_without_likeness_ranks_are_compared_by_the_change_of_their_loss(folder: Path, tmp_path: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    scores["models"] = [
        {key: row[key] for key in ("name", "kind", "rank", "heldout_loss")}
        for row in scores["models"]
        if row["name"] in ("lora-32", "lora-64")
    ]
    scores["verdict"] |= {
        "lacks": ["identity"],
        "comparisons": [
            comparison("heldout_loss", "lora-64", "lora-32", interval(math.log(0.9), math.log(0.8), 0.0), "lora-64"),
        ],
    }
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    html, markdown = build_report(tmp_path)
    rows, _ = Tables(html.read_text()).headed("Rank", "Held-out loss, mean", "Behind the leader", "What follows")
    # 1 / 0.9 is 11.11 % more; from the same to 1 / 0.8, 25 % more
    assert rows[0][:3] == ["LoRA 32", "0.0680", "+11.11 % 0.00 to 25.00 %"]
    assert "| LoRA 32 | +11.11 % (0.00 to 25.00 %) |" in markdown.read_text()


@pytest.mark.parametrize("better", ["lora-8", "lora-64"])
def test_the_better_of_a_pair_is_named_whichever_way_round_it_is_kept(better: str) -> None:
    named: Any = type("Named", (), {"label": lambda _, name: {"lora-8": "LoRA 8", "lora-64": "LoRA 64"}[name]})()
    for a, b in (("lora-8", "lora-64"), ("lora-64", "lora-8")):
        row = Comparison(
            "identity", a, b, Interval(0.1, 0.05, 0.15), distinguishable=True, better=better, equivalent=False
        )
        assert View.outcome(named, row) == f"yes: {named.label(better)} is better"


def test_scores_are_read_as_they_were_written() -> None:
    """Every interval under its own name; low stays low."""
    names = ("heldout_loss", "heldout_gain", "identity", "prompt", "drift", "diversity", "copying")
    row: dict[str, Any] = {"name": "lora-8", "kind": "lora", "rank": 8, "identity_normalised": 0.5}
    row |= {name: interval(place, place - 0.1, place + 0.2) for place, name in enumerate(names, 1)}
    colours = ("lightness", "saturation", "contrast", "clipped")
    row["colour"] = {name: interval(place, place - 0.1, place + 0.2) for place, name in enumerate(colours, 11)}
    row["colour"]["lightness_difference"] = -3.0
    levels = {"identity_real": interval(0.9, 0.8, 0.95), "identity_stranger": interval(0.1, 0.0, 0.2)}
    found = parse_scores({"models": [row], "levels": levels})
    (model,) = found.models
    for place, name in [*enumerate(names, 1), *enumerate(colours, 11)]:
        assert getattr(model, name) == Interval(place, place - 0.1, place + 0.2), name
    assert (model.rank, model.identity_normalised, model.lightness_difference) == (8, 0.5, -3.0)
    assert (found.identity_real, found.identity_stranger) == (Interval(0.9, 0.8, 0.95), Interval(0.1, 0.0, 0.2))
    assert Interval(1.0, 0.5, 2.0).negated() == Interval(-1.0, -2.0, -0.5)
    change = Interval(math.log(1.1), math.log(0.5), math.log(2)).as_change()
    assert (change.mean, change.low, change.high) == (pytest.approx(0.1), pytest.approx(-0.5), pytest.approx(1.0))


# Numbers as a person reads them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (fixed(-0.456), f"{MINUS}0.46"),
        (fixed(-0.001), "0.00"),
        (fixed(None), "–"),
        (signed(0.5), "+0.5"),
        (signed(-0.5), f"{MINUS}0.5"),
        (signed(0.04), "0.0"),
        (percent(0.123), "12 %"),
        (percent(-0.5), f"{MINUS}50 %"),
        (percent(None), "–"),
        (signed_percent(0.021), "+2.1 %"),
        (signed_percent(-0.021), f"{MINUS}2.1 %"),
        (between(Interval(1.0, -0.5, 2.5)), f"{MINUS}0.50 to 2.50"),
        (between(Interval(0.5, 0.02, 0.04), 1, 100.0), "2.0 to 4.0"),
        (between(Interval(1.0)), ""),
        (between(None), ""),
        (chance(0.123), "12 %"),
        (chance(0.0), "1 %"),
        (chance(0.9999), "99 %"),
        (chance(None), "–"),
        (rate(2e-3), "2e-3"),
        (rate(1e-4), "1e-4"),
        (rate(1.5 * 1e-4), "1.5e-4"),
        (rate(1.234567e-5), "1.23e-5"),
        (rate(None), "–"),
        (duration(9.5), "9.5 s"),
        (duration(42), "42 s"),
        (duration(60), "1 min 0 s"),
        (duration(750), "12 min 30 s"),
        (duration(3600), "1 h 0 min"),
        (duration(7384), "2 h 3 min"),
        (duration(None), "–"),
        (large(12_750_000), "12.8 million"),
        (large(859_500), "859,500"),
        (megabytes(1719.4), "1719 MB"),
        (megabytes(12.34), "12.3 MB"),
        (megabytes(0.456), "0.46 MB"),
        (megabytes(0.0534), "0.053 MB"),
        (long_date("2026-08-03T14:05:11+0200"), "3 August 2026"),
        (long_date("2026-12-31T00:00:00"), "31 December 2026"),
        (long_date("soon"), "soon"),
        (counted(0, "photo"), "0 photos"),
        (counted(1, "tuned model"), "1 tuned model"),
        (with_article("old man"), "an old man"),
        (with_article("woman"), "a woman"),
        (plain(True), "yes"),
        (plain(False), "no"),
        (plain([1, 2.5]), "1, 2.5"),
        (flat({"a_b": {"c": 1}}), [("a b · c", "1")]),
    ],
)
def test_a_number_is_written_with_its_unit_and_sign(found: object, text: object) -> None:
    assert found == text
