"""`portrayal prepare --check` and what follows from it, on drawn photos with planted faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont
from typer.testing import CliRunner

import portrayal
from portrayal.cli import app
from portrayal.config import Config
from portrayal.errors import PhotosError, UsageError

EXAMPLES = Path(__file__).parents[1] / "examples" / "photos"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven good photos, and one each that is blurred, dark and empty."""
    folder = tmp_path_factory.mktemp("planted")
    for path in sorted(EXAMPLES.glob("*.jpg"))[:9]:
        with Image.open(path) as image:
            image.convert("RGB").resize((400, 400)).save(folder / path.name)
    names = sorted(path.name for path in folder.iterdir())
    with Image.open(folder / names[7]) as image:
        blurred = image.filter(ImageFilter.GaussianBlur(7))
    with Image.open(folder / names[8]) as image:
        dark = ImageEnhance.Brightness(image).enhance(0.12)
    blurred.save(folder / names[7])
    dark.save(folder / names[8])
    (folder / "empty.jpg").touch()
    return folder


def test_faults_are_named_and_nothing_is_made(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in planted.iterdir()}
    result = CliRunner().invoke(app, ["prepare", "--check", str(planted), "--recipe", "pocket-demo", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    kinds = {photo["file"]: [finding["kind"] for finding in photo["findings"]] for photo in found["photos"]}
    names = sorted(name for name in before if name != "empty.jpg")
    assert "blurred" in kinds[names[7]]
    assert "dark" in kinds[names[8]]
    assert set(found["drop"]) >= {names[7], names[8]}
    assert [finding["file"] for finding in found["left_out"]] == ["empty.jpg"]
    assert not found["fit"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{planted.name}-check.jpg"]
    with Image.open(tmp_path / f"{planted.name}-check.jpg") as sheet:
        assert sheet.width > 1000
    assert {path.name: path.read_bytes() for path in planted.iterdir()} == before


def test_a_person_reads_a_table(planted: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["prepare", "--check", str(planted), "--recipe", "pocket-demo", "--out", str(sheet)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    for words in ("keep", "drop", "left out", "blurred", "too dark", "prepare.drop=["):
        assert words in result.output
    assert sheet.is_file()


def test_the_sheet_never_lies_among_the_photos(planted: Path) -> None:
    with pytest.raises(UsageError, match="among the photos"):
        portrayal.check_photos(planted, portrayal.load_config("pocket-demo"), sheet=planted / "sheet.jpg")


def settings(config: Config, **changes: object) -> Config:
    return config.model_copy(update={"prepare": config.prepare.model_copy(update=changes)})


def test_strict_settings_stop_before_a_run_is_made_and_dropping_mends_it(
    planted: Path, tiny_config: Config, tmp_path: Path
) -> None:
    strict = settings(tiny_config, strict=True)
    with pytest.raises(PhotosError, match="should not be trained on") as caught:
        portrayal.prepare(planted, strict, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    drop = json.loads(caught.value.remedy.split("prepare.drop=")[1].split("'")[0])
    run = portrayal.prepare(planted, settings(tiny_config, strict=True, drop=tuple(drop)), tmp_path / "run")
    manifest = json.loads((run.dataset_folder / "manifest.json").read_text())
    assert not {photo["source_name"] for photo in manifest["photos"]} & set(drop)
    assert {finding["file"] for finding in manifest["findings"] if finding["kind"] == "dropped"} == set(drop)


def test_a_photo_to_drop_that_is_not_there_is_said(planted: Path, tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nobody\.jpg"):
        portrayal.prepare(planted, settings(tiny_config, drop=("nobody.jpg",)), tmp_path / "run")


def test_a_mark_on_all_photos_and_one_scene_are_said(tmp_path: Path) -> None:
    """The same drawn person in one place, and then the same name below photos of many places."""
    pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)
    import numpy as np

    from pretraining.world import draw, sample_person, sample_shot

    rng, kitchen, marked = np.random.default_rng(17), tmp_path / "kitchen", tmp_path / "marked"
    kitchen.mkdir()
    marked.mkdir()
    person, config = sample_person(rng), portrayal.load_config("pocket-demo")
    for number in range(10):
        framing = ("head", "half")[number % 2]
        for folder, scene in ((kitchen, "kitchen"), (marked, None)):
            shot = sample_shot(rng, framing=framing, gender=person.gender, scene=scene)
            picture = Image.fromarray(draw(person, shot, 320))
            if folder == marked:
                ImageDraw.Draw(picture).text((90, 280), "www.photos-of-ann.com", "white", ImageFont.load_default(20))
            picture.save(folder / f"{number}.png")
    found = portrayal.check_photos(kitchen, config)
    assert [remark for remark in found.remarks.remarks if "were taken in the kitchen" in remark]
    assert not [one for photo in found.photos for one in photo.findings if one.kind == "watermark"]
    found = portrayal.check_photos(marked, config)
    assert not [remark for remark in found.remarks.remarks if "learned too" in remark]
    said = [one for photo in found.photos for one in photo.findings if one.kind == "watermark"]
    assert len(said) >= 9
    assert "lower edge" in said[0].message


def test_what_a_person_wants_kept_is_kept_and_squares_chosen_by_hand_are_cut(
    planted: Path, tiny_config: Config, tmp_path: Path
) -> None:
    drop = portrayal.check_photos(planted, tiny_config).to_drop
    config = settings(tiny_config, strict=True, keep=drop, crop={drop[0]: (100, 50, 300)})
    assert portrayal.check_photos(planted, config).to_drop == ()
    run = portrayal.prepare(planted, config, tmp_path / "run")
    manifest = json.loads((run.dataset_folder / "manifest.json").read_text())
    crops = {photo["source_name"]: photo["crop"] for photo in manifest["photos"]}
    assert crops.pop(drop[0]) == [100, 50, 300, 300]
    assert all(crop == [0, 0, 400, 400] for crop in crops.values())


def test_a_square_beside_its_photo_is_refused(planted: Path, tiny_config: Config, tmp_path: Path) -> None:
    name = sorted(path.name for path in planted.glob("*.jpg"))[1]
    config = settings(tiny_config, crop={name: (200, 0, 300)})
    with pytest.raises(UsageError, match="400×400 pixels"):
        portrayal.prepare(planted, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"prepare\.crop names nobody\.jpg"):
        portrayal.prepare(planted, settings(tiny_config, crop={"nobody.jpg": (0, 0, 9)}), tmp_path / "run")


def test_what_knows_drawings_is_not_asked_about_photographs(tmp_path: Path) -> None:
    from skimage import data

    whole = Image.fromarray(data.astronaut())
    other = Image.fromarray(data.chelsea())
    for number in range(5):
        whole.crop((20 * number, 10 * number, 400 + 20 * number, 400)).save(tmp_path / f"{number}.png")
        other.crop((20 * number, 0, 280 + 20 * number, 280)).save(tmp_path / f"cat{number}.png")
    check = portrayal.check_photos(tmp_path, portrayal.load_config("pocket-demo"))
    kinds = {finding.kind for photo in check.photos for finding in photo.findings}
    assert not kinds & {"someone_else", "several_people"}
    assert not [remark for remark in check.remarks.remarks if "clothes" in remark or "place is" in remark]


def test_a_strict_check_says_what_it_found_and_fails(planted: Path, tmp_path: Path) -> None:
    command = ["prepare", "--check", str(planted), "--recipe", "pocket-demo", "--out", str(tmp_path / "sheet.png")]
    result = CliRunner().invoke(app, [*command, "--strict", "--json"])
    assert result.exit_code == 4
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["drop"]
    assert not found["ok"]
    keep = "prepare.keep=" + json.dumps(found["drop"])
    assert CliRunner().invoke(app, [*command, "--strict", "--set", keep]).exit_code == 0
