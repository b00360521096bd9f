"""Painting anything: LoRA files on top, several controls, the base alone, and pictures made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import portrayal
from portrayal import Run
from portrayal.errors import UsageError, WeightsError
from portrayal.formats.png import parse_a1111, read_settings

PROMPT = ["a photo of {subject} in the kitchen"]
SMALL = ["generation.num_inference_steps=2"]


@pytest.fixture
def run(tiny_run, tmp_path) -> Run:
    shutil.copytree(tiny_run.folder, tmp_path / "ann")
    return Run.open(tmp_path / "ann")


@pytest.fixture(scope="module")
def lora(tiny_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    shutil.copytree(tiny_run.folder, folder / "run")  # an export is an event of its run
    (path,) = portrayal.export_models(Run.open(folder / "run"), ["kohya"], ["lora-4"], out=folder)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def parameters_of(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.text["parameters"])  # type: ignore[attr-defined]


def told(path: Path) -> dict[str, Any]:
    found = read_settings(path)
    assert found is not None
    return found


def test_a_lora_file_on_the_base_paints_what_the_run_s_lora_paints(run: Run, lora: Path) -> None:
    (own,) = portrayal.paint(run, PROMPT, ["lora-4"], count=1, overrides=SMALL)
    (file,) = portrayal.paint(run, PROMPT, ["base"], count=1, loras=[str(lora)], overrides=SMALL)
    (half,) = portrayal.paint(run, PROMPT, ["base"], count=1, loras=[f"{lora}:0.5"], overrides=SMALL)
    (own_half,) = portrayal.paint(run, PROMPT, ["lora-4"], count=1, overrides=[*SMALL, "generation.lora_strength=0.5"])
    (plain,) = portrayal.paint(run, PROMPT, ["base"], count=1, overrides=SMALL)

    assert np.abs(pixels(own) - pixels(file)).max() <= 2
    assert np.abs(pixels(half) - pixels(own_half)).max() <= 2
    assert np.abs(pixels(plain) - pixels(file)).max() > 2
    assert f"<lora:{lora.stem}:0.5>" in parameters_of(half)
    assert told(half)["loras"] == [
        {"name": lora.stem, "hash": told(half)["loras"][0]["hash"], "strength": 0.5, "own": False}
    ]


def test_a_base_paints_without_a_run(lora: Path, tmp_path: Path) -> None:
    (path,) = portrayal.paint_base(
        ["a photo of sks woman"], tmp_path / "out", base="pocket", count=1, loras=[str(lora)], overrides=SMALL
    )

    assert path == tmp_path / "out" / "0000.png"
    assert sorted(file.name for file in path.parent.iterdir()) == ["0000.png"]
    (again,) = portrayal.paint_like(path, loras=[str(lora)])
    assert again == tmp_path / "out" / "0001.png"
    assert (pixels(again) == pixels(path)).all()


def test_a_picture_is_made_again_from_what_it_tells(run: Run, lora: Path, photos: Path) -> None:
    picture = next(photos.glob("*.jpg"))
    settings = [
        *SMALL,
        "generation.sampler=Euler a",
        "generation.width=96",
        "generation.negative_prompt='a hat, \"x\"'",
    ]
    (path,) = portrayal.paint(
        run,
        ["a (photo:1.2) of {subject}"],
        ["lora-4"],
        count=1,
        seed=9,
        controls=[picture, picture],
        control_kinds=["canny:0.8:0-0.5", "canny"],
        loras=[f"{lora}:0.3"],
        overrides=settings,
    )
    shutil.copy(lora, run.folder / "exports" / lora.name) if (run.folder / "exports").is_dir() else shutil.copytree(
        lora.parent, run.folder / "exports"
    )

    (again,) = portrayal.paint_like(path)

    assert again != path
    assert (pixels(again) == pixels(path)).all()
    assert told(again) == told(path)
    (other,) = portrayal.paint_like(path, seed=10)
    assert (pixels(other) != pixels(path)).any()
    _, _, fields = parse_a1111(parameters_of(path))
    assert fields["Sampler"] == "Euler a"
    assert fields["Size"] == "96x128"
    assert "Guidance End: 0.5" in fields["ControlNet 0"]
    assert lora.stem in fields["Lora hashes"]
    assert len(fields["Model hash"]) == 10


def test_a_scene_s_picture_is_made_again(run: Run) -> None:
    path = next((run.folder / "images" / "lora-2").glob("*/0.png"))

    (again,) = portrayal.paint_like(path)

    assert np.abs(pixels(again) - pixels(path)).max() <= 1  # it was painted in a batch


def test_what_a_picture_lacks_is_said(run: Run, lora: Path, tmp_path: Path, photos: Path) -> None:
    (path,) = portrayal.paint(run, PROMPT, ["base"], count=1, loras=[str(lora)], overrides=SMALL)
    with pytest.raises(UsageError, match="not found beside"):
        portrayal.paint_like(path)
    with pytest.raises(UsageError, match="does not tell how"):
        portrayal.paint_like(next(photos.glob("*.jpg")))
    with pytest.raises(UsageError, match="cannot be opened"):
        portrayal.paint_like(tmp_path / "nothing.png")
    (held,) = portrayal.paint(run, PROMPT, ["unet"], count=1, controls=[next(photos.glob("*.jpg"))], overrides=SMALL)
    shutil.copy(held, tmp_path / "moved.png")
    with pytest.raises(UsageError, match="control image"):
        portrayal.paint_like(tmp_path / "moved.png")
    (own,) = portrayal.paint(run, PROMPT, ["unet"], count=1, overrides=SMALL)
    shutil.copy(own, tmp_path / "moved.png")
    with pytest.raises(UsageError, match="of a run"):
        portrayal.paint_like(tmp_path / "moved.png")


@pytest.mark.parametrize("change", ["seed", "controls", "loras", "PAINTING"])
def test_a_picture_that_tells_nonsense_is_refused(run: Run, tmp_path: Path, change: str) -> None:
    (path,) = portrayal.paint(run, PROMPT, ["base"], count=1, overrides=SMALL)
    settings = told(path)
    nonsense: dict[str, Any] = {"seed": "x", "controls": [{"kind": "canny"}], "loras": [1]}
    settings |= {change: nonsense[change]} if change in nonsense else {"sampler": "PLMS"}
    text = PngInfo()
    text.add_text("portrayal", json.dumps(settings))
    Image.new("RGB", (8, 8)).save(tmp_path / "odd.png", pnginfo=text)

    with pytest.raises(UsageError):
        portrayal.paint_like(tmp_path / "odd.png", run)


@pytest.mark.parametrize(
    ("kinds", "cause"),
    [
        (["canny:0.8:0.6-0.2"], "begin at 0.6"),
        (["canny:much"], "no kind"),
        (["canny", "canny"], "none is given"),
        (["canny:1:0-2"], "Keeping to"),
    ],
)
def test_a_kind_that_cannot_be_meant_is_refused(run: Run, photos: Path, kinds: list[str], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        portrayal.paint(run, PROMPT, ["base"], controls=[next(photos.glob("*.jpg"))], control_kinds=kinds)


def test_several_pictures_want_a_kind_each(run: Run, photos: Path) -> None:
    with pytest.raises(UsageError, match="one kind for each"):
        portrayal.paint(run, PROMPT, ["base"], controls=sorted(photos.glob("*.jpg"))[:2])


def test_a_lora_of_another_base_is_refused_before_anything_is_painted(run: Run, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"lora_te2_x.alpha": torch.ones(())}, tmp_path / "xl.safetensors")

    with pytest.raises(WeightsError, match="SDXL"):
        portrayal.paint(run, PROMPT, ["base"], loras=[str(tmp_path / "xl.safetensors")])

    assert not (run.folder / "pictures" / "base").exists()
