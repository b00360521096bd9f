"""Each cell of a report's tables holds the number of its row and column, with its unit, its sign and its direction."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from portrayal.evaluation.comparisons import AXES, LESS_IS_BETTER
from portrayal.report import build_report
from portrayal.report.scores import Comparison, Interval, parse_scores
from portrayal.report.views import View
from portrayal.report.wording import (
    between,
    counted,
    duration,
    fixed,
    flat,
    large,
    long_date,
    megabytes,
    percent,
    plain,
    signed,
    signed_percent,
    with_article,
)
from tests.report.conftest import write_run

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


def tiny(model: str, scene: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (len(model) * 9, len(scene) * 9, seed * 50))


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
    for label, (loss, gain, likeness, prompt, light) in SCORES.items():
        found = rows[label]
        value, _, difference = light.partition(" ")
        wanted = [loss, gain, likeness, prompt, f"{value} ({difference})"]
        assert [cell.split(" (")[0] for cell in found[:4]] == wanted[:4]
        assert found[4] == wanted[4]
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
            "the smallest that is not worse than the leader: take it",
        ],
        ["LoRA 64", "0.44", "–", "the leader"],
        [
            "LoRA 128",
            "0.47",
            "+0.040 0.020 to 0.060",
            "out: it follows the prompt less and lets other people turn into the person",
        ],
    ]
    assert classes == ["best", "", ""]
    assert f"| LoRA 32 | {MINUS}0.030 ({MINUS}0.070 to 0.010) | the smallest" in pages[1]
    assert "| LoRA 128 | +0.040 (0.020 to 0.060) | out: it follows the prompt less" in pages[1]


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
