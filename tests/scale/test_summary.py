"""What a batch says of its subjects: each number from its own model of its own subject, counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portrayal.errors import UsageError
from portrayal.report.svg import INK
from portrayal.scale.outcomes import Outcome, digest, failure, finished, lost
from portrayal.scale.report import ACCENT, likeness_chart, shown, write_summary
from portrayal.scale.storage import Store
from portrayal.scale.subjects import Study
from portrayal.scale.summary import outliers, spread, summarise
from tests.report.drawn import read
from tests.report.test_tables import Tables

LIKENESS = {"lora-8": (0.2, 0.4, 0.3), "unet": (0.7, 0.5, 0.9)}


def outcome(number: int, recommended: str | None, winner: str | None, **more: Any) -> Outcome:
    models: dict[str, Any] = {
        name: {"normalised": values[number], "identity": values[number] / 2, "prompt": 0.1 + values[number] / 10,
               "gain": values[number] / 20, "step": 100 * (number + 1)}
        for name, values in LIKENESS.items()
    }  # fmt: skip
    models["base"] = {"normalised": 0.0, "identity": 0.0, "prompt": 0.1, "gain": 0.0, "step": None}
    verdict = {"recommended": recommended, "winner": winner, "best_lora": "lora-8", "sentence": f"Sentence {number}."}
    found = {"models": models, "verdict": verdict, "photos": 10 + number, "recipe": "r", "pictures": ["a", "b"]}
    return Outcome(f"s{number}", 60.0 * (number + 1), digest=found, **more)


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """Three done, one failed, one not begun."""
    known = [outcome(0, "unet", "unet"), outcome(1, "unet", None, tries=3), outcome(2, None, None)]
    known.append(failure("s3", UsageError("It is wrong.", "Mend it."), 5.04))
    studies = [Study(f"s{number}", Path(f"s{number}")) for number in range(5)]
    return summarise(studies, {one.name: one for one in known}, 200.0)


def test_subjects_are_counted_once(summary: dict[str, Any]) -> None:
    assert (summary["subjects"], summary["done"], len(summary["failed"])) == (5, 3, 1)
    assert summary["waiting"] == ["s4"]
    assert summary["failed"] == [{"name": "s3", "tries": 1, "code": 2, "message": "It is wrong.", "fix": "Mend it."}]
    assert (summary["seconds"], summary["work_seconds"], summary["again"]) == (200.0, 60.0 + 120.0 + 180.0 + 5.0, 2)


def test_wins_are_counted_for_the_model_that_won(summary: dict[str, Any]) -> None:
    assert summary["wins"] == {
        "lora-8": {"recommended": 0, "won": 0},
        "unet": {"recommended": 2, "won": 1},
        "none": {"recommended": 1, "won": 0},
    }


def test_each_row_has_the_scores_of_what_is_recommended(summary: dict[str, Any]) -> None:
    keys = (
        "name",
        "photos",
        "recommended",
        "won",
        "step",
        "identity",
        "normalised",
        "prompt",
        "gain",
        "seconds",
        "tries",
    )
    found = [[row[key] for key in keys] for row in summary["rows"]]
    assert found == [
        ["s0", 10, "unet", True, 100, 0.35, 0.7, pytest.approx(0.17), pytest.approx(0.035), 60.0, 1],
        ["s1", 11, "unet", False, 200, 0.25, 0.5, pytest.approx(0.15), pytest.approx(0.025), 120.0, 3],
        ["s2", 12, None, False, None, None, None, None, None, 180.0, 1],
    ]


def test_likeness_is_spread_by_model(summary: dict[str, Any]) -> None:
    """Of 0.2, 0.3, 0.4: the middle and halfway to it from each end."""
    assert summary["identity"]["lora-8"] == {
        "median": pytest.approx(0.3),
        "quartiles": [pytest.approx(0.25), pytest.approx(0.35)],
        "range": [0.2, 0.4],
        "values": [0.2, 0.3, 0.4],
    }
    assert summary["identity"]["unet"]["median"] == pytest.approx(0.7)
    assert "base" not in summary["identity"]
    assert spread([]) is None


@pytest.mark.parametrize(("last", "deviations"), [(0.55, []), (0.56, [4.0]), (0.45, []), (0.44, [-4.0])])
def test_far_is_three_and_a_half_robust_deviations_on_either_side(last: float, deviations: list[float]) -> None:
    """Median 0.5, median deviation 0.01: 0.6745 · 0.05 / 0.01 = 3.37 is near, 0.6745 · 0.06 / 0.01 = 4.05 is far."""
    near = [0.48, 0.49, 0.49, 0.5, 0.5, 0.51, 0.51, 0.52]
    rows = [{"name": f"{value}", "normalised": value} for value in [*near, last]]
    found = outliers(rows)
    assert [one["deviations"] for one in found] == [pytest.approx(value, abs=0.06) for value in deviations]
    assert [one["name"] for one in found] == [f"{last}"] * len(deviations)


def test_the_pages_hold_them_in_their_columns(summary: dict[str, Any], tmp_path: Path) -> None:
    write_summary(Store(str(tmp_path)), summary)
    html, markdown = ((tmp_path / f"batch.{kind}").read_text() for kind in ("html", "md"))
    heads = ("Subject", "Photos", "Recommended", "Likeness", "Prompt", "Time", "Verdict")
    rows, _ = Tables(html).headed(*heads)
    assert rows == [
        ["s0 r", "10", "unet clear", "0.70", "0.170", "1 min 0 s", "Sentence 0."],
        ["s1 r", "11", "unet", "0.50", "0.150", "2 min 0 s, 3 tries", "Sentence 1."],
        ["s2 r", "12", "–", "–", "–", "3 min 0 s", "Sentence 2."],
    ]
    assert "| s0 | 10 | unet, clearly | 0.70 | 0.170 | 1 min 0 s |" in markdown
    assert "| unet | 2 | 1 |" in markdown
    assert "| none | 1 | 0 |" in markdown
    assert (
        "3 done, 1 failed, 1 not begun or interrupted; 3 min 20 s this time; begun again after a loss: 2." in markdown
    )
    assert markdown.startswith("# 5 subjects")
    # the darker part is what it won, the paler what it is only recommended for: a third each
    bars = '<b style="width: 33.3%"></b><b style="width: 33.3%"></b></i><span>2 of 3</span>'
    assert bars in html
    assert "How often each is recommended; the darker part of a bar where it clearly won" in html


def test_the_chart_shows_every_subject_in_the_row_of_its_model(summary: dict[str, Any]) -> None:
    chart = likeness_chart(summary)
    assert chart is not None
    (panel,) = read(chart.content)
    assert list(panel.y.ticks) == ["lora-8", "unet"]
    dots, _ = panel.of(ACCENT.light)
    for name, values in LIKENESS.items():
        row = panel.y.ticks[name]
        reach = abs(panel.y.ticks["unet"] - panel.y.ticks["lora-8"]) / 2
        mine = [dot for dot in dots if abs(dot.y - row) < reach]
        assert sorted(dot.x for dot in mine) == [pytest.approx(value, abs=0.005) for value in sorted(values)]
        (bar,) = (line for line in panel.of(INK)[1] if abs(line.points[0][1] + line.points[1][1] - 2 * row) < 1)
        assert bar.points[0][0] == pytest.approx(float(np.median(values)), abs=0.005)
    assert "a stranger  0  ←  likeness  →  1  the person's own photos" in panel.texts
    assert chart.alt.endswith("Medians: lora-8 0.30, unet 0.70.")


def test_of_a_large_batch_the_ends_are_shown() -> None:
    rows = [{"name": str(n), "normalised": (7 * n % 100) / 100, "pictures": ["x"]} for n in range(100)]
    found = [row["normalised"] for row in shown({"rows": rows})]
    assert found == sorted(found)
    assert (len(found), found[0], found[29], found[30], found[-1]) == (60, 0.0, 0.29, 0.7, 0.99)


def test_a_digest_is_of_the_model_it_names(tmp_path: Path) -> None:
    models = [
        {"name": "base", "identity": {"mean": 0.1}, "identity_normalised": 0.0, "prompt": None,
         "heldout_gain": {"mean": 0.0}},
        {"name": "lora-8", "identity": {"mean": 0.5}, "identity_normalised": 0.6, "prompt": {"mean": 0.3},
         "heldout_gain": {"mean": 0.02}, "step": 400},
    ]  # fmt: skip
    verdict = {"recommended": "lora-8", "winner": None, "best_lora": "lora-8", "sentence": "S.", "other": 1}
    (tmp_path / "scores.json").write_text(json.dumps({"models": models, "verdict": verdict, "class_noun": "cat"}))
    (tmp_path / "run.json").write_text(json.dumps({"photos": ["a", "b", "c"]}))
    (tmp_path / "config.toml").write_text('recipe = "pocket"\n')
    for place, shade in (
        ("dataset/images/a.png", 10),
        ("images/lora-8/street/0.png", 200),
        ("images/base/street/0.png", 90),
    ):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (shade,) * 3).save(path)
    found = digest(tmp_path)
    assert found["models"]["lora-8"] == {"identity": 0.5, "normalised": 0.6, "prompt": 0.3, "gain": 0.02, "step": 400}
    assert found["models"]["base"] == {"identity": 0.1, "normalised": 0.0, "prompt": None, "gain": 0.0, "step": None}
    assert found["verdict"] == {"recommended": "lora-8", "winner": None, "best_lora": "lora-8", "sentence": "S."}
    assert (found["photos"], found["class_noun"], found["recipe"], len(found["pictures"])) == (3, "cat", "pocket", 2)
    assert not finished(tmp_path)  # without its last stage and its report


def test_what_was_lost_is_not_done() -> None:
    found = lost("s", 3, "It was killed.", 7.06)
    assert (found.done, found.tries, found.seconds) == (False, 3, 7.1)
    assert found.error is not None
    assert found.error["message"] == "It was killed."
