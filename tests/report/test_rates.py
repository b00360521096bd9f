"""A study of several learning rates: its chart, its table, its titles, and the findings at the top."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from portrayal.report import build_report
from portrayal.report.loras import lora_views
from portrayal.report.palette import colours
from portrayal.report.rates import rates_chart
from portrayal.report.record import Record, read_run
from portrayal.report.scores import lora_of, parse_scores
from portrayal.report.svg import INK, Chart
from portrayal.report.wording import unbroken
from tests.report.drawn import Panel, read
from tests.report.rated import BEST, LIKENESS, RANKS, RATES, SENTENCES, lora, rated_scores
from tests.report.test_build import Page
from tests.report.test_tables import Tables

HEADS = ("Rank", "Learning rate", "Likeness", "Prompt", "Trainings", "Chance to be the best", "What became of it")
EVIL = "<script>alert('|')</script> & \"x\""


def recorded(folder: Path, scores: dict[str, Any]) -> Record:
    (folder / "scores.json").write_text(json.dumps(scores))
    return read_run(folder)


def charted(folder: Path, scores: dict[str, Any]) -> Chart | None:
    record = recorded(folder, scores)
    return rates_chart(lora_views(record), record.scores.verdict, colours(record.models))


def built(folder: Path, scores: dict[str, Any]) -> tuple[str, str]:
    (folder / "scores.json").write_text(json.dumps(scores))
    html, markdown = build_report(folder)
    return html.read_text(), markdown.read_text()


def drawn(chart: Chart | None) -> Panel:
    assert chart is not None
    (panel,) = read(chart.content)
    return panel


def nearest(panel: Panel, x: float) -> str:
    """The learning rate that a place belongs to."""
    return min(panel.x.ticks, key=lambda label: abs(panel.x.ticks[label] - x))


# The chart --------------------------------------------------------------------------------------------------------


def test_there_is_a_line_for_each_rank(tmp_path: Path) -> None:
    """Each mark stands near its learning rate, at its likeness; the ranks stand side by side."""
    panel = drawn(charted(tmp_path, rated_scores()))
    assert list(panel.x.ticks) == ["5e-5", "1e-4", "1.5e-4", "1e-3"]
    lines = [line for line in panel.lines if len(line.points) > 2]
    assert len({line.colour for line in lines}) == len(lines) == len(RANKS)
    for place, line in enumerate(lines):
        likeness = [LIKENESS[rate] + 0.01 * place for rate in RATES[:3]] + ([0.41] if place == 0 else [])
        assert [nearest(panel, x) for x, _ in line.points] == list(panel.x.ticks)[: len(likeness)]
        assert [y for _, y in line.points] == [pytest.approx(value, abs=0.004) for value in likeness]
        bars = [one.points for one in panel.lines if one.colour == line.colour and len(one.points) == 2]
        assert [sorted(y for _, y in bar) for bar in bars] == [
            [pytest.approx(value - 0.03, abs=0.004), pytest.approx(value + 0.03, abs=0.004)] for value in likeness
        ]
    first = [line.points[0][0] for line in lines]
    assert first == sorted(first)
    assert min(b - a for a, b in pairwise(first)) > 1


def test_the_lines_are_named_by_their_ranks(tmp_path: Path) -> None:
    chart = charted(tmp_path, rated_scores())
    assert chart is not None
    assert re.findall(r"rank (\d+)</text>", chart.inline) == ["16", "32", "64"]
    for words in ("rank 16: 0.55 at 5e-5, 0.68 at 1e-4", "rank 64: 0.57 at 5e-5, 0.70 at 1e-4, 0.74 at 1.5e-4"):
        assert words in chart.alt


def test_what_diverged_is_a_cross_at_the_lower_edge_and_named(tmp_path: Path) -> None:
    chart = charted(tmp_path, rated_scores())
    panel = drawn(chart)
    crosses = [mark for mark in panel.marks if mark.y < 0.41 - 0.03]
    assert len({mark.colour for mark in crosses}) == len(crosses) == 3
    assert {nearest(panel, mark.x) for mark in crosses} == {"1e-3"}
    assert {"diverged", "16, 32, 64"} <= panel.texts.keys()
    assert chart is not None
    assert "diverged: LoRA 16 at 1e-3, LoRA 32 at 1e-3, LoRA 64 at 1e-3" in chart.alt


@pytest.mark.parametrize(("recommended", "word"), [(BEST, "recommended"), ("unet", "best LoRA")])
def test_the_lora_to_use_has_a_ring_and_a_word(tmp_path: Path, recommended: str, word: str) -> None:
    scores = rated_scores()
    scores["verdict"]["recommended"] = recommended
    chart = charted(tmp_path, scores)
    panel = drawn(chart)
    (ring,) = panel.of(INK)[0]
    assert not ring.filled
    assert nearest(panel, ring.x) == "1.5e-4"
    assert ring.y == pytest.approx(0.73, abs=0.004)
    assert word in panel.texts
    assert chart is not None
    assert chart.alt.endswith(f"; {word}: LoRA 32 at 1.5e-4.")


def test_it_is_in_the_colors_of_the_page(tmp_path: Path) -> None:
    """So that it can be read on a dark one; in the file the colors stand as they are."""
    chart = charted(tmp_path, rated_scores())
    assert chart is not None
    assert chart.inline.startswith("<svg viewBox=")
    assert 'role="img" aria-label="Likeness over the learning rate.' in chart.inline
    assert not re.findall(r"#[0-9a-f]{6}\b", chart.inline)
    assert chart.file == "report/chart-rates.svg"


def test_with_one_learning_rate_there_is_no_chart(tmp_path: Path) -> None:
    scores = rated_scores() | {"diverged": []}
    scores["models"] = [row for row in scores["models"] if row.get("learning_rate") == 1e-4]
    assert charted(tmp_path, scores) is None
    html, markdown = built(tmp_path, scores)
    for page in (html, markdown):
        assert "Which rank?" in page
        assert "which rate" not in page
        assert "over the learning rate" not in page
    assert "Does the rank matter" not in html
    for row in scores["models"]:
        del row["learning_rate"]
    assert charted(tmp_path, scores) is None


def test_one_rate_that_diverged_makes_two(tmp_path: Path) -> None:
    scores = rated_scores()
    scores["models"] = [lora(32, 1e-4, 0.6)]
    panel = drawn(charted(tmp_path, scores))
    assert list(panel.x.ticks) == ["1e-4", "1e-3"]


def test_without_likeness_there_is_no_chart(tmp_path: Path) -> None:
    scores = rated_scores()
    for row in scores["models"]:
        row["identity"] = None
    assert charted(tmp_path, scores) is None
    assert "All 12 LoRAs in numbers" in built(tmp_path, scores)[0]


# The table --------------------------------------------------------------------------------------------------------


def test_every_lora_is_told_with_what_became_of_it(tmp_path: Path) -> None:
    html, markdown = built(tmp_path, rated_scores())
    rows, classes = Tables(html).headed(*HEADS)
    assert len(rows) == len(RANKS) * len(RATES)
    assert [(row[0], row[1]) for row in rows] == [
        (str(rank), rate) for rank in RANKS for rate in ("5e-5", "1e-4", "1.5e-4", "1e-3")
    ]
    found = {(row[0], row[1]): row[2:] for row in rows}
    best = "recommended, smaller or gentler than the leader and shown to be no worse"
    assert found["32", "1.5e-4"] == ["0.730 0.700 to 0.760", "0.303 0.301 to 0.305", "3", "41 %", best]
    assert found["64", "1.5e-4"][2:] == ["3", "58 %", "the leader"]
    assert found["64", "1e-4"][2:] == ["3", "1 %", "cannot be told apart from the leader"]
    assert found["32", "1e-4"][2:] == ["3", "–", "surely worse than the leader"]
    assert found["16", "1.5e-4"][2:] == ["3", "–", "set aside: it follows the prompt less"]
    assert found["16", "5e-5"][2:] == ["1", "–", "clearly behind, not trained further"]
    assert found["16", "1e-3"][2:] == ["3", "–", "diverged at step 70"]
    assert found["64", "1e-3"] == ["–", "–", "–", "–", "diverged at step 30"]
    assert [rows[place][:2] for place, one in enumerate(classes) if one == "best"] == [["32", "1.5e-4"]]
    assert f"| 3 | 41 % | {best} |" in markdown
    assert "| LoRA 64 at 1e-3 | – | – | – | – | – | diverged at step 30 |" in markdown


def test_the_table_is_folded(tmp_path: Path) -> None:
    html, _ = built(tmp_path, rated_scores())
    folded = re.findall(r"<details><summary>All 12 LoRAs in numbers</summary>(.*?)</details>", html, re.DOTALL)
    assert len(folded) == 1
    assert folded[0].count("<tr") == 13


def test_a_study_of_one_rate_has_the_table_without_it(tmp_path: Path) -> None:
    scores = rated_scores() | {"diverged": []}
    scores["models"] = [lora(rank, 1e-4, 0.5) | {"name": f"lora-{rank}", "learning_rate": None} for rank in RANKS]
    scores["verdict"] |= {"leader": "lora-64", "best_lora": "lora-64", "recommended": "lora-64", "tied": []}
    rows, _ = Tables(built(tmp_path, scores)[0]).headed(*HEADS[:1], *HEADS[2:])
    assert [row[0] for row in rows] == ["16", "32", "64"]
    assert rows[2][-1] == "recommended, the leader"


def test_scores_without_the_new_keys_make_a_report(tmp_path: Path) -> None:
    scores = rated_scores()
    del scores["diverged"], scores["verdict"]["chances"], scores["verdict"]["behind"]
    for row in scores["models"]:
        row.pop("learning_rate", None)
    html, _ = built(tmp_path, scores)
    Page(html)
    assert "LoRA 32 at 1.5e-4" in html, "by its name"


# Titles -----------------------------------------------------------------------------------------------------------


def test_loras_are_titled_and_ordered_by_rank_and_rate(tmp_path: Path) -> None:
    record = recorded(tmp_path, rated_scores())
    assert [model.label for model in record.models] == [
        "Base",
        "LoRA 16 at 5e-5",
        "LoRA 16 at 1e-4",
        "LoRA 16 at 1.5e-4",
        "LoRA 16 at 1e-3",
        *(f"LoRA {rank} at {rate}" for rank in (32, 64) for rate in ("5e-5", "1e-4", "1.5e-4")),
    ]


def test_names_of_folders_are_not_shown(tmp_path: Path) -> None:
    html, _ = built(tmp_path, rated_scores())
    shown = re.sub(r"<[^>]+>", " ", html[html.index("<body>") :])
    assert "lora-" not in shown


def test_no_line_ends_within_a_learning_rate() -> None:
    assert unbroken("LoRA 8 at 1.5e-4 <b>") == 'LoRA 8 at <span class="unbroken">1.5e-4</span> &lt;b&gt;'
    assert unbroken("lora-32, the-4 2 e-3") == "lora-32, the-4 2 e-3"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lora-32", (32, None)),
        ("lora-32-lr1e-4", (32, 1e-4)),
        ("lora-8-lr15e-5", (8, 1.5e-4)),
        ("lora-x", (None, None)),
        ("unet", (None, None)),
        ("lora-32-lr", (None, None)),
    ],
)
def test_a_name_tells_rank_and_rate(name: str, found: tuple[int | None, float | None]) -> None:
    assert lora_of(name) == found


def test_what_is_planned_and_not_trained_is_titled_too(tmp_path: Path) -> None:
    config = "[study]\nranks = [64, 128]\nlearning_rates = [1.0, 1.5, 10.0]\n[method.lora]\nlearning_rate = 1e-4\n"
    (tmp_path / "config.toml").write_text(config)
    trained = tmp_path / "models" / "lora-64-lr1e-4"
    trained.mkdir(parents=True)
    (trained / "method.json").write_text('{"kind": "lora", "rank": 64}')
    record = recorded(tmp_path, rated_scores() | {"models": []})
    assert [model.label for model in record.models] == ["LoRA 64 at 1e-4"]
    assert record.untrained == ["LoRA 64 at 1.5e-4", *(f"LoRA 128 at {rate}" for rate in ("1e-4", "1.5e-4", "1e-3"))]


def test_a_training_that_diverged_makes_no_model_of_its_own(tmp_path: Path) -> None:
    for name in ("lora-64-lr1e-3", "lora-32-lr1e-3"):
        (tmp_path / "models" / name).mkdir(parents=True)
    record = recorded(tmp_path, rated_scores())
    assert {model.name for model in record.models} == {model.name for model in record.scores.models}


# The top ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 5, 6, 8])
def test_five_findings_stand_open_and_none_is_lost(tmp_path: Path, count: int) -> None:
    scores = rated_scores()
    scores["verdict"]["conclusions"] = SENTENCES[:count]
    html, markdown = built(tmp_path, scores)
    Page(html)
    header = re.sub(r"</?span[^>]*>", "", html[html.index("<header>") : html.index("</header>")])
    assert header.index("LoRA 32 at 1.5e-4 is the LoRA to use.") < header.find("<details>") % len(header)
    top = markdown[: markdown.index("## The photos")]
    for page, pattern in ((header, r"<li>(Finding \d.*)</li>"), (top, r"^- (Finding \d.*)$")):
        opened, _, folded = page.partition("<details><summary>More findings</summary>")
        found = [re.findall(pattern, part, re.MULTILINE) for part in (opened, folded)]
        assert len(found[0]) == min(count, 5)
        assert found[0] + found[1] == SENTENCES[:count]
        assert ("<details>" in page) == (count > 5)


def test_what_people_wrote_is_escaped(tmp_path: Path) -> None:
    scores = rated_scores()
    scores["verdict"]["conclusions"] = [f"{EVIL} {number}" for number in range(8)]
    scores["verdict"]["set_aside"] = {"lora-16-lr15e-5": [EVIL]}
    scores["verdict"]["chances"][EVIL] = 0.5
    scores["diverged"] += [{"name": EVIL, "model": EVIL, "rank": 8, "learning_rate": 1e-4, "step": 1}]
    scores["models"].append({"name": f"lora-{EVIL}", "kind": "lora", "rank": 4, "learning_rate": 1e-4, "identity": 0.5})
    html, markdown = built(tmp_path, scores)
    assert Page(html).tags["script"] == 1
    assert html.count("alert(") >= 10
    for page in (html, markdown):
        assert "<script>alert" not in page
    drawn(charted(tmp_path, scores))


@pytest.mark.parametrize("broken", [None, 3, "x", [None], [{"model": None}], {"a": 1}])
def test_what_is_damaged_reads_as_nothing(broken: object) -> None:
    scores = rated_scores() | {"diverged": broken}
    scores["verdict"] |= {"chances": broken if broken != {"a": 1} else {"a": "x"}, "behind": broken}
    scores["models"][1]["learning_rate"] = "fast"
    found = parse_scores(scores)
    assert found.diverged == ()
    assert found.verdict.chances == {}
    assert found.models[1].learning_rate is None
