"""A run folder made up of drawn pictures and plausible numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

SCENES = {
    "street": "on the street",
    "football": "on a football field",
    "kitchen": "in the kitchen",
    "office": "in the office",
    "forest": "in the forest",
}
MODELS: dict[str, tuple[str, int | None, float, float]] = {  # kind, rank, gain, identity
    "base": ("base", None, 0.0, 0.34),
    "unet": ("unet", None, 0.031, 0.82),
    "lora-32": ("lora", 32, 0.022, 0.71),
    "lora-64": ("lora", 64, 0.026, 0.77),
    "lora-128": ("lora", 128, 0.025, 0.78),
}
Painter = Callable[[str, str, int], Image.Image]


def draw(model: str, scene: str, seed: int, side: int = 128) -> Image.Image:
    """A face before a coloured wall; the model and the seed move and tint it."""
    chance = random.Random(f"{model}/{scene}/{seed}")
    wall = tuple(random.Random(scene).randint(90, 230) for _ in range(3))
    image = Image.new("RGB", (side, side), wall)
    pen, middle, size = ImageDraw.Draw(image), side * chance.uniform(0.4, 0.6), side * chance.uniform(0.18, 0.26)
    top = side * chance.uniform(0.22, 0.3)
    pen.ellipse((middle - 2 * size, top + 1.9 * size, middle + 2 * size, 2 * side), fill=(120, 60, 160))
    pen.ellipse((middle - 1.3 * size, top - 0.4 * size, middle + 1.3 * size, top + 2 * size), fill=(110, 62, 38))
    pen.ellipse((middle - size, top, middle + size, top + 2.3 * size), fill=(226, 176, 148))
    for eye in (-0.4, 0.4):
        x, y = middle + eye * size, top + size
        pen.ellipse((x - 0.14 * size, y - 0.14 * size, x + 0.14 * size, y + 0.14 * size), fill=(40, 60, 120))
    pen.arc((middle - 0.4 * size, top + 1.2 * size, middle + 0.4 * size, top + 1.8 * size), 20, 160, fill=(150, 40, 40))
    return image


def save(image: Image.Image, path: Path, **settings: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chunk = PngInfo()
    chunk.add_text("portrayal", json.dumps(settings))
    image.save(path, pnginfo=chunk)


def around(mean: float, width: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - width, "high": mean + width}


def model_row(name: str, chance: random.Random) -> dict[str, Any]:
    kind, rank, gain, identity = MODELS[name]
    lightness = 61.2 + (4.1 if kind == "unet" else 1.2 * chance.random())
    return {
        "name": name,
        "kind": kind,
        "rank": rank,
        "heldout_loss": around(0.0712 * (1 - gain), 0.0011),
        "heldout_gain": around(gain, 0.0 if kind == "base" else 0.004),
        "identity": around(identity, 0.03),
        "identity_normalised": (identity - 0.31) / (0.91 - 0.31),
        "prompt": {"mean": 0.305 - 0.4 * gain},
        "drift": around(0.33 + (0.0 if kind == "base" else 0.05), 0.02),
        "diversity": around(0.4, 0.02),
        "copying": around(0.01, 0.02),
        "curve": None if kind == "base" else curve_of(gain, identity),
        "trainings": []
        if kind == "base"
        else [{"fold": n, "seed": 0, "identity": identity - 0.01 + n / 100} for n in range(3)],
        "colour": {
            "lightness": around(lightness, 1.6),
            "saturation": around(0.41, 0.02),
            "contrast": around(0.2, 0.01),
            "clipped": around(0.02, 0.005),
            "lightness_difference": lightness - 61.2,
        },
        "per_timestep": [
            {
                "timestep_low": 100 * step,
                "timestep_high": 100 * step + 100,
                "log_ratio_to_base": -2.4 * gain * 0.7**step + chance.gauss(0, 0.08 * gain),
            }
            for step in range(10)
        ],
    }


def curve_of(gain: float, identity: float) -> dict[str, Any]:
    steps = list(range(0, 600, 100))
    losses = [-gain * (1 - (step / 300 - 1) ** 2) for step in steps]
    likeness = [identity * (0.4 + 0.6 * step / steps[-1]) for step in steps]
    return {
        "steps": steps,
        "loss": [around(loss, 0.002) for loss in losses],
        "identity": [None, *(around(value, 0.02) for value in likeness[1:])],
        "lowest_loss_step": 300,
        "overfitting_from": 500,
        "best_step": 400,
    }


def comparison(axis: str, a: str, b: str, difference: dict[str, float], better: str | None) -> dict[str, Any]:
    names = {"axis": axis, "a": a, "b": b}
    return {
        **names,
        "difference": difference,
        "distinguishable": bool(better),
        "better": better,
        "equivalent": not better,
    }


def scores_of(models: list[str], folds: list[list[str]], control: bool) -> dict[str, Any]:
    chance = random.Random(7)
    loras = [name for name in models if name.startswith("lora")]
    best = "lora-64" if "lora-64" in loras else (loras[0] if loras else None)
    return {
        "schema": 2,
        "base": "pocket",
        "class_noun": "woman",
        "instance_prompt": "a photo of sks woman",
        "encoders": {
            "identity": {"name": "pocket identity encoder", "licence": "Apache-2.0"},
            "prompt": {"name": "pocket text and picture encoder", "licence": "Apache-2.0"},
            "notes": [],
        },
        "study": {"folds": folds, "trainings": {name: 3 for name in models if name != "base"}},
        "levels": {
            "identity_real": around(0.91, 0.025),
            "identity_stranger": around(0.31, 0.04),
            "colour_photos": {"lightness": 61.2, "saturation": 0.41, "contrast": 0.2, "clipped": 0.02},
        },
        "models": [model_row(name, chance) for name in models],
        "control": [
            {
                "kind": kind,
                "model": name,
                "measure": key,
                "at": [
                    {
                        "scale": scale,
                        "agreement": around(0.1 + (mean - 0.1) * scale, 0.03),
                        "identity": around(0.74, 0.04),
                    }
                    for scale in (0.0, 0.5, 1.0)
                ],
            }
            for kind, key, mean in (("canny", "edge_f1", 0.78), ("openpose", "pck", 0.88))
            for name in ("base", "unet", best)
            if control and name in models
        ],
        "verdict": {
            "best_lora": best,
            "recommended": best,
            "leader": best,
            "set_aside": {"lora-128": ["prompt"]} if "lora-128" in loras else {},
            "lacks": [],
            "winner": "unet" if "unet" in models else best,
            "tied": ["lora-64", "lora-128"] if {"lora-64", "lora-128"} <= set(models) else [],
            "sentence": "Use the full UNet: its pictures look most like her. If the file must be small, LoRA 64 comes "
            "close, and rank 128 adds nothing that these photos can show.",
            "conclusions": [
                "The full UNet wins on likeness by 0.05 over the best LoRA, and the interval excludes zero.",
                "LoRA 64 and LoRA 128 cannot be told apart; the smaller one is recommended.",
                "All tuned models follow the prompt slightly less well than the base does.",
                "The full UNet paints 4.1 lighter than the photos are.",
            ],
            "comparisons": [
                comparison("identity", "unet", "lora-64", around(0.05, 0.02), better="unet"),
                comparison("heldout_loss", "lora-64", "lora-128", around(-0.0001, 0.0004), better=None),
            ],
        },
    }


def write_training(folder: Path, name: str, steps: int = 200) -> None:
    kind, rank, _, _ = MODELS[name]
    chance = random.Random(name)
    folder.mkdir(parents=True)
    lines = []
    for step in range(1, steps + 1):
        loss = 0.9 * chance.random() ** 4 + 0.004 + 0.03 * (1 - step / steps)
        lines.append(json.dumps({"step": step, "loss": loss, "learning_rate": 1e-4, "grad_norm": 0.3}))
    (folder / "training.jsonl").write_text("\n".join(lines) + "\n")
    method = {
        "name": name,
        "kind": kind,
        "rank": rank,
        "alpha": rank,
        "settings": {
            "learning_rate": 1e-4,
            "max_train_steps": steps,
            "optimizer": {"name": "adamw"},
            "snr_gamma": None,
        },
        "train_seconds": 41.3 if rank else 312.0,
        "trainable_parameters": 200_000 * rank if rank else 859_500_000,
        "file_megabytes": 0.4 * rank if rank else 1719.0,
        "peak_memory_gib": None if rank else 14.2,
    }
    (folder / "method.json").write_text(json.dumps(method))


def write_dataset(folder: Path, paint: Painter, count: int = 14) -> tuple[list[str], list[list[str]]]:
    ids = [f"{random.Random(number).getrandbits(48):012x}" for number in range(count)]
    photos = [
        {
            "id": id_,
            "source_name": f"IMG_{number}.jpg",
            "caption": f"a photo of sks woman, number {number}",
            "fold": number % 3,
        }
        for number, id_ in enumerate(ids)
    ]
    for number, id_ in enumerate(ids):
        save(paint("photo", list(SCENES)[number % 5], number), folder / "images" / f"{id_}.png")
    findings = [
        {"file": "IMG_3 (copy).jpg", "kind": "duplicate", "message": "the same as IMG_3.jpg", "action": "skipped"}
    ]
    manifest = {
        "instance_prompt": "a photo of sks woman",
        "class_noun": "woman",
        "photos": photos,
        "findings": findings,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return ids, [ids[fold::3] for fold in range(3)]


def write_run(
    folder: Path,
    *,
    models: list[str] | None = None,
    seeds: int = 2,
    control: bool = True,
    paint: Painter = draw,
) -> Path:
    """Write a whole run folder; the pictures come from ``paint(model, scene, seed)``."""
    names = list(MODELS) if models is None else models
    folder.mkdir(parents=True)
    ids, folds = write_dataset(folder / "dataset", paint)
    for name in names:
        if name != "base":
            write_training(folder / "models" / name, name)
        for scene, place in SCENES.items():
            for seed in range(seeds):
                settings = {"prompt": f"a photo of sks woman {place}", "num_inference_steps": 25, "guidance_scale": 7.5}
                save(paint(name, scene, seed), folder / "images" / name / scene / f"{seed}.png", seed=seed, **settings)
    if control:
        write_control(
            folder / "images" / "control", [name for name in ("base", "unet", "lora-64") if name in names], paint
        )
    (folder / "scores.json").write_text(json.dumps(scores_of(names, folds, control)))
    run = {
        "created": "2026-08-03T14:05:11+0200",
        "command": "portrayal run examples/photos --recipe pocket",
        "seed": 0,
        "base": {"name": "pocket", "kind": "pocket", "revision": None, "licence": "Apache-2.0", "sha256": "5e0f" * 16},
        "device": "cpu",
        "versions": {"python": "3.11.9", "portrayal": "0.1.0", "torch": "2.9.1"},
        "machine": {"system": "Linux", "cpus": 2, "device": "cpu"},
        "consent": "stated by the user",
        "photos": ids,
    }
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.toml").write_text("seed = 0\n\n[study]\nfull_unet = true\nranks = [32, 64, 128]\n")
    return folder


def write_control(folder: Path, models: list[str], paint: Painter) -> None:
    reference = paint("reference", "street", 0)
    save(reference, folder / "reference.png")
    outline = reference.convert("L").point(lambda value: 255 * (value % 40 < 6)).convert("RGB")
    prompt = "a photo of sks woman"
    for kind in ("canny", "openpose"):
        save(outline, folder / kind / "control.png")
        for name in models:
            for scale, seed in product(("0.5", "1"), range(4)):
                picture = paint(f"{name}-{kind}-{scale}", "street", seed)
                save(picture, folder / kind / name / scale / f"{seed}.png", prompt=prompt)
    for name in models:
        for seed in range(4):
            save(paint(name, "office", seed), folder / "without" / name / f"{seed}.png", prompt=prompt)


def change(path: Path, alter: Callable[[dict[str, Any]], None]) -> None:
    """Read a JSON file, let ``alter`` change it, write it back."""
    content = json.loads(path.read_text())
    alter(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run folder; tests share it and change nothing in it but the report."""
    return write_run(tmp_path_factory.mktemp("full") / "run")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder with the given options."""
    return lambda **options: write_run(tmp_path / "run", **options)


@pytest.fixture
def alter() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Change a JSON file in place."""
    return change
