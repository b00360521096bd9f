from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from portrayal.errors import UsageError
from portrayal.evaluation.cuts import sentence_of
from portrayal.formats.png import DIGITAL_SOURCE_TYPE, png_bytes
from portrayal.report import build_report
from portrayal.report.views import consent_sentence

MakeRun = Callable[..., Path]
Alter = Callable[[Path, Callable[[dict[str, Any]], None]], None]

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects what a page loads and shows, and checks that its tags close."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.tags: dict[str, int] = {}
        self.references: list[str] = []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.loads += [value for name, value in values.items() if name in {"src", "srcset", "data", "action"}]
        self.references += re.findall(r"url\(#([^)]+)\)", " ".join(values.values()))
        if tag in {"a", "use", "link"}:
            (self.references if values["href"].startswith("#") else self.loads).append(values["href"].lstrip("#"))
        self.ids += [values["id"]] if "id" in values else []
        self.alts += [values["alt"]] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def built(folder: Path) -> tuple[str, str]:
    html, markdown = build_report(folder)
    assert (html, markdown) == (folder / "report.html", folder / "report.md")
    return html.read_text(), markdown.read_text()


@pytest.fixture(scope="module")
def full(full_run: Path) -> tuple[str, str]:
    """Both reports of the full run."""
    return built(full_run)


def test_a_full_run_shows_every_part(full: tuple[str, str], full_run: Path) -> None:
    html, markdown = full
    page = Page(html)
    assert page.tags["svg"] == 7
    # 7 in the opening strip, 14 photos, 5 scenes x 3 side by side, 5 x 5 x 2 in the grid, for outline and pose 2 given
    # and for each of 3 models one seed at 3 strengths and 3 seeds at the greatest; the last is the lightbox's
    assert page.tags["img"] == 7 + 14 + 15 + 50 + 2 * (2 + 3 * (3 + 3)) + 1
    for words in (
        "Use the full UNet",
        "LoRA 128",
        "recommended",
        "held out",
        "A stranger",
        "do not rank",
        "Held to an outline or a pose",
        "edges kept 0.78, without 0.10",
        "joints in place 0.88, without 0.10",
    ):
        assert words in html, words
    for words in (
        "Use the full UNet",
        "LoRA 128",
        "**recommended**",
        "Those of one line were held out together",
        "do not rank",
    ):
        assert words in markdown, words
    assert "3 August 2026" in html
    assert "“a photo of sks woman in the kitchen”, 25 steps, guidance 7.5" in html
    assert "portrayal run examples/photos --recipe pocket" in html
    assert "The user stated that the person in the photos consents." in html
    assert "not painted" not in html
    assert not list(full_run.glob(".*")), "no temporary files stay behind"


def test_the_page_loads_nothing(full: tuple[str, str]) -> None:
    html, _ = full
    page = Page(html)
    assert all(source.startswith("data:image/webp;base64,") for source in page.loads)
    assert set(page.references) <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert re.search(r"url\((?!#)", html) is None
    assert "default-src 'none'" in html


def test_the_script_is_the_one_that_the_policy_lets_run(full: tuple[str, str]) -> None:
    html, _ = full
    script = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert f"script-src 'sha256-{digest}'" in html


def test_building_twice_gives_the_same_bytes(full: tuple[str, str], full_run: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((full_run / "report").iterdir())}

    first = files()
    assert built(full_run) == full
    assert files() == first


def test_every_picture_of_the_markdown_exists_and_none_is_left_over(make_run: MakeRun) -> None:
    folder = make_run(seeds=1)
    (folder / "report").mkdir()
    (folder / "report" / "photo-of-a-withdrawn-person.webp").write_bytes(b"old")
    _, markdown = built(folder)
    named = set(re.findall(r'src="([^"]+)"', markdown)) | set(re.findall(r"\]\((report/[^)]+)\)", markdown))
    there = {f"report/{path.name}" for path in (folder / "report").iterdir()}
    assert named == there
    for path in sorted(folder.glob("report/*.webp")):
        with Image.open(path) as image:
            image.load()


def test_without_control(make_run: MakeRun) -> None:
    html, markdown = built(make_run(control=False, seeds=1))
    assert "No ControlNet pictures were painted in this run." in html
    assert "No ControlNet pictures were painted in this run." in markdown


def test_without_an_identity_scorer(make_run: MakeRun, alter: Alter) -> None:
    folder = make_run(seeds=1)

    def forget(scores: dict[str, Any]) -> None:
        scores["encoders"] = {"identity": None, "prompt": None, "notes": ["judged without faces"]}
        scores["levels"] |= {"identity_real": None, "identity_stranger": None}
        for row in scores["models"]:
            row |= {"identity": None, "identity_normalised": None, "prompt": None}
        scores["control"] = [row | {"at": []} for row in scores["control"]]
        scores["verdict"] |= {"winner": None, "tied": [], "comparisons": []}

    alter(folder / "scores.json", forget)
    html, markdown = built(folder)
    assert Page(html).tags["svg"] == 4
    for text in (html, markdown):
        assert "Likeness was not measured" in text
        assert "judged without faces" in text
    assert '<span class="tag recommended">' not in html


def test_one_model_only(make_run: MakeRun) -> None:
    html, _ = built(make_run(models=["lora-64"], seeds=1, control=False))
    page = Page(html)
    assert page.tags["svg"] == 5
    assert "Planned but not trained yet: Full UNet, LoRA 32, LoRA 128." in html


def test_scores_alone_make_a_report(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps({"schema": 2}))
    html, markdown = built(folder)
    assert Page(html).tags.get("svg", 0) == 0
    for words in ("no prepared photos", "No trained model", "No scene has been painted", "was not recorded"):
        assert words in html, words
        assert words in markdown, words


def test_what_is_unfinished_or_damaged_is_said(make_run: MakeRun) -> None:
    folder = make_run(models=["base", "unet"], seeds=1, control=False)
    unscored = folder / "models" / "lora-32"
    unscored.mkdir()
    (unscored / "training.jsonl").write_text('{"step": 1, "loss": 0.3}\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    (folder / "images" / "unet" / "street" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "images" / "base" / "forest" / "0.png").unlink()
    (folder / "run.json").write_text("{")
    (folder / "config.toml").write_text("not = [toml")
    html, _ = built(folder)
    Page(html)
    assert "not evaluated" in html
    # the cut picture once side by side and once in the grid; so the missing one; the unscored model in five scenes,
    # and side by side, where it stands for the LoRAs, five times more
    assert html.count("not painted") == 2 + 2 + 5 + 5


def test_what_people_wrote_is_escaped(make_run: MakeRun, alter: Alter) -> None:
    folder = make_run(models=["base", "lora-32"], seeds=1, control=False)
    evil = "<script>alert('|')</script> \"x\" *b* [a](javascript:x)\n# c"

    def spoil(content: dict[str, Any]) -> None:
        for row in content.get("photos", []) if "findings" in content else []:
            row["caption"] = evil
        for row in content.get("findings", []):
            row |= {"file": evil, "message": evil, "action": evil}
        content |= {key: evil for key in ("class_noun", "instance_prompt", "base", "command") if key in content}
        if "verdict" in content:
            content["verdict"] |= {"sentence": evil, "conclusions": [evil]}
            content["encoders"]["notes"] = [evil]
            content["models"].append({"name": evil, "kind": "lora", "identity": {"mean": 0.5}})
            content["verdict"]["comparisons"][0] |= {"axis": evil, "a": evil, "b": evil}

    for name in ("scores.json", "run.json", "dataset/manifest.json", "models/lora-32/method.json"):
        alter(folder / name, spoil)
    (folder / "config.toml").write_text(f"# {evil}")
    html, markdown = built(folder)
    page = Page(html)
    assert page.tags["script"] == 1
    assert "alert(" in html
    for text in (html, markdown):
        assert "<script>alert" not in text
        assert "<script" not in text.replace("<script>(() =>", "")
    assert "[a](javascript:x)" not in re.sub("<img [^>]*>", "", markdown), "Markdown reads no links inside a tag"
    columns = [line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("| LoRA 32")]
    assert columns == [8, 7, 7], "the ranks, the scores, how it was trained"


@pytest.mark.parametrize("content", [None, "{", json.dumps({"schema": 99}), "[]"])
def test_without_scores_the_error_names_the_command(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UsageError, match="portrayal evaluate"):
        build_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_small_copies_keep_the_mark_of_a_generated_picture(make_run: MakeRun) -> None:
    folder = make_run(models=["base", "lora-32"], seeds=1, control=False)
    painted = png_bytes(Image.new("RGB", (300, 300), "teal"), {"prompt": "p"}, parameters="p")
    (folder / "images" / "lora-32" / "street" / "0.png").write_bytes(painted)
    built(folder)
    assert DIGITAL_SOURCE_TYPE.encode() in (folder / "report" / "street-lora-32-0.webp").read_bytes()
    assert all(DIGITAL_SOURCE_TYPE.encode() not in path.read_bytes() for path in folder.glob("report/photo-*"))


def test_the_page_stays_small_at_512_pixels(make_run: MakeRun) -> None:
    noise = Image.effect_noise((64, 64), 60).resize((512, 512), Image.Resampling.BICUBIC)
    picture = Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180)))
    folder = make_run(seeds=4)
    picture.save(folder / "noise.png", compress_level=1)
    content = (folder / "noise.png").read_bytes()
    for path in [*folder.glob("images/**/*.png"), *folder.glob("dataset/images/*.png")]:
        path.write_bytes(content)
    html, _ = built(folder)
    assert 3_000_000 < len(html) < 6_000_000


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("stated by the user", "The user stated that the person in the photos consents."),
        (True, "The user stated that the person in the photos consents."),
        ("refused", "did not consent"),
        ("not stated", "was not recorded"),
        ("", "was not recorded"),
        (None, "was not recorded"),
    ],
)
def test_consent_is_never_overstated(value: object, sentence: str) -> None:
    assert sentence in consent_sentence(value)


def test_importing_the_report_loads_neither_matplotlib_nor_pillow() -> None:
    code = (
        "import sys, portrayal.report; sys.exit(any(name in sys.modules for name in ('matplotlib', 'PIL', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_blind_votes_stand_beside_the_measures(make_run: MakeRun) -> None:
    folder = make_run()
    html, markdown = built(folder)
    assert "What people chose" not in html + markdown
    rows = [
        {"a": "base", "b": "unet", "wins": 1, "losses": 3, "ties": 2, "share": 0.25, "low": 0.046, "high": 0.699},
        {"a": "base", "b": "lora-8", "wins": 0, "losses": 0, "ties": 4, "share": None, "low": None, "high": None},
        {"a": "<b>", "b": "nobody"},
    ]
    (folder / "votes.json").write_text(json.dumps({"schema": 1, "votes": [], "tally": rows}))
    html, markdown = built(folder)
    Page(html)
    for page in (html, markdown):
        assert "What people chose" in page
        assert "25 %" in page
        assert "5 % to 70 %" in page
        assert "<b> against" not in page
    (folder / "votes.json").write_text("{")
    assert "What people chose" not in built(folder)[0]


def cuts_of(model: str, **changes: object) -> dict[str, object]:
    """What `cuts.json` holds where rank 16 is offered."""
    likeness, prompt = {"mean": -0.004, "low": -0.012, "high": 0.003}, {"mean": 0.0, "low": -0.001, "high": 0.0014}
    rows = [
        {"rank": 32, "megabytes": 75.4, "likeness": likeness, "prompt": prompt, "no_worse": True},
        {"rank": 8, "megabytes": 9.6, "likeness": {"mean": -0.05, "low": None, "high": None}, "prompt": None},
    ]
    found = {
        "model": model,
        "rank": 64,
        "megabytes": 150.2,
        "cuts": rows,
        "offered": 32,
        "sentence": "Rank 32 will do.",
    }
    return found | changes


def test_what_is_offered_of_the_recommended_lora_stands_with_all_its_cuts(make_run: MakeRun) -> None:
    folder = make_run()
    html, markdown = built(folder)
    assert "A smaller file?" not in html + markdown
    (folder / "cuts.json").write_text(json.dumps(cuts_of("lora-64")))
    html, markdown = built(folder)
    Page(html)
    assert "<p>Rank 32 will do.</p>" in html
    rows = re.search(r'<table class="rows loras cuts">.*?</table>', html, re.DOTALL)
    assert rows
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", rows[0])[1:]]
    assert cells == [
        ["64", "150", "MB", "–", "–", "the", "whole", "LoRA"],
        ["32", "75.4", "MB", "−0.004", "−0.012", "to", "0.003", "0.000", "−0.001", "to", "0.001", "yes"],
        ["8", "9.6", "MB", "−0.050", "–", "no"],
    ]
    assert "\nRank 32 will do.\n" in markdown
    assert "| 64 | 150 MB | – | – | the whole LoRA |\n" in markdown
    assert "| 32 | 75.4 MB | −0.004 (−0.012 to 0.003) | 0.000 (−0.001 to 0.001) | yes |\n" in markdown
    assert "| 8 | 9.6 MB | −0.050 | – | no |\n" in markdown


def test_where_no_cut_is_offered_that_is_said_too(make_run: MakeRun) -> None:
    folder = make_run()
    none = str(sentence_of([], 150.2))
    (folder / "cuts.json").write_text(json.dumps(cuts_of("lora-64", offered=None, sentence=none)))
    for page in built(folder):
        assert "No smaller cut is shown to be no worse." in page


@pytest.mark.parametrize(
    "content",
    [json.dumps(cuts_of("lora-32")), json.dumps(cuts_of("lora-64", cuts=[], sentence=None)), "{", "[]"],
    ids=["of another model", "without a judge of likeness", "damaged", "no object"],
)
def test_other_cuts_are_not_shown(make_run: MakeRun, content: str) -> None:
    folder = make_run()
    (folder / "cuts.json").write_text(content)
    html, markdown = built(folder)
    assert "A smaller file?" not in html + markdown
