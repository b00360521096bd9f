"""Does it pay to follow the advice? The same planted sets, trained on as they are and as the check advises.

    python -m benchmarks.photos_pay [--sets 3] [--jobs 1] [--out DIR]

The sets of `planted_photos`; one LoRA each, the demo's recipe. What should be dropped is left out, and so is what
should be mended first, for here nobody mends it. Identity is the mean cosine of the painted scenes to eight photos that
are in neither set, by `pocket`'s encoder; beside it that of such photos among each other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import portrayal
from benchmarks.planted_photos import SEED, photo, plant
from benchmarks.pocket_people import OUTFITS, config_of, obedience, spread
from benchmarks.record import print_table, save
from portrayal.config import Config
from portrayal.models.captioner import unit
from portrayal.models.encoders import pocket_identity
from pretraining.world import Person, sample_person

FIRST = 1000
RANK = 16
YARDSTICK = 8
WAYS = ("as it is", "advice followed")


def main() -> None:
    """Train, judge, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        numbers = range(FIRST, FIRST + arguments.sets)
        found = spread([(trained, number, out, way) for way in WAYS for number in numbers], arguments.jobs)
    rows = [{"photos": way, **means([one for one in found if one["way"] == way])} for way in WAYS]
    print_table(rows)
    settings = {"recipe": "pocket-demo", "sets": arguments.sets, "first": FIRST, "rank": RANK, "yardstick": YARDSTICK}
    print(save("photos_pay", {"rows": rows, "sets": found}, settings))


def trained(number: int, out: Path, way: str) -> dict[str, Any]:
    """Train on one set in one way, and judge."""
    import torch

    person = sample_person(np.random.default_rng([SEED, number]))
    photos = out / f"photos-{number}"
    if not photos.is_dir():
        photos.mkdir(parents=True)
        plant(number, photos)
    config = config_for(person, ())
    if way != WAYS[0]:
        check = portrayal.check_photos(photos, config)
        config = config_for(person, tuple(one.file for one in check.photos if one.verdict != "keep"))
    run = portrayal.portray(photos, config, out / f"{number}-{way.replace(' ', '-')}", consent=True)
    count, name = config.generation.num_images_per_scene, f"lora-{RANK}"
    paths = [run.image_path(name, scene, index) for scene in OUTFITS for index in range(count)]
    identity = pocket_identity(torch.device("cpu"))
    painted = unit(identity.images([Image.open(path).convert("RGB") for path in paths]))
    fresh = unit(identity.images(yardstick(person, number)))
    among = (fresh @ fresh.T)[np.triu_indices(YARDSTICK, 1)]
    judged = {"identity": float((painted @ fresh.T).mean()), "of real photos": float(among.mean())}
    return {"way": way, "set": number, "photos": len(run.provenance["photos"]), **judged, **obedience(run, name)}


def config_for(person: Person, drop: tuple[str, ...]) -> Config:
    """The demo's recipe with one LoRA, some photos left out."""
    config = config_of(person, [f"study.ranks=[{RANK}]", "study.full_unet=false"])
    return config.model_copy(update={"prepare": config.prepare.model_copy(update={"drop": drop})})


def yardstick(person: Person, number: int) -> list[Image.Image]:
    """Photos of the person that are in no set."""
    rng = np.random.default_rng([SEED, number, 1])
    return [photo(person, rng, ("head", "half")[place % 2]) for place in range(YARDSTICK)]


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the sets."""
    keys = ("photos", "identity", "of real photos", "scene", "clothes colour")
    return {
        key if key != "photos" else "photos used": round(float(np.mean([row[key] for row in rows])), 4) for key in keys
    }


if __name__ == "__main__":
    main()
