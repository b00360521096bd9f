"""How fast photos are made ready: five hundred of twelve megapixels, and what memory that takes.

    python -m benchmarks.photos_speed [--photos 500] [--resolution 512]

Eight different JPEGs of 4032x3024 as phones make them, the rest copies that differ in a comment and in their first
rows, so that none is a duplicate. Beside it the same work as one would write it: Pillow opens, turns and resizes, one
photo after another, looking at nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from benchmarks.record import print_table, save
from portrayal.photos import PrepareSettings, prepare_photos
from portrayal.photos.read import IMAGE_ENDINGS

SIZE = (4032, 3024)
DIFFERENT = 8


def main() -> None:
    """Draw the photos, measure each way in a process of its own, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(timed(arguments.way, arguments.folder, arguments.resolution)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_photos(folder, arguments.photos)
        rows = [elsewhere(way, folder, arguments.resolution) for way in WAYS]
        few = folder / "few"
        few.mkdir()
        for path in sorted(folder.glob("*.jpg"))[: arguments.photos // 5]:
            path.rename(few / path.name)
        fifth = elsewhere("portrayal", few, arguments.resolution)
    print_table(rows)
    figures = {"ways": rows, "memory with a fifth of the photos (MiB)": fifth["peak memory (MiB)"]}
    print(f"peak memory with a fifth of the photos: {fifth['peak memory (MiB)']} MiB")
    settings = {"photos": arguments.photos, "size": SIZE, "resolution": arguments.resolution}
    print(save("photos_speed", figures, settings))


def draw_photos(folder: Path, count: int) -> None:
    """Write JPEGs with detail and grain, so that they weigh what a phone's weigh; turned by EXIF as phones do."""
    exif = Image.Exif()
    exif[0x0112] = 6
    rng = np.random.default_rng(0)
    for number in range(DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        grain = Image.effect_noise(SIZE, 20).filter(ImageFilter.GaussianBlur(1)).convert("RGB")
        picture = Image.blend(coarse, grain, 0.25)
        for copy in range(number, count, DIFFERENT):
            band = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((1200, 1200))
            varied = picture.copy() if copy == number else picture
            varied.paste(band, (int(rng.integers(2800)), int(rng.integers(1800))))
            content = io.BytesIO()
            varied.save(content, "JPEG", quality=88, exif=exif, comment=str(copy).encode())
            (folder / f"IMG_{copy:04d}.jpg").write_bytes(content.getvalue())


def ours(folder: Path, resolution: int) -> int:
    """Portrayal: read, turned, hashed, faces found, cut, compared with each other."""
    return len(prepare_photos(folder, PrepareSettings(resolution, "a photo of sks woman", None, 0)).photos)


def plainly(folder: Path, resolution: int) -> int:
    """Pillow alone: opened, turned, the middle cut out."""
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in IMAGE_ENDINGS]
    pictures = [
        ImageOps.fit(ImageOps.exif_transpose(Image.open(path)), (resolution, resolution), Image.Resampling.LANCZOS)
        for path in paths
    ]
    return len(pictures)


WAYS = {"portrayal": ours, "Pillow, one by one, looking at nothing": plainly}


def timed(way: str, folder: Path, resolution: int) -> dict[str, Any]:
    """Seconds by the clock and of the processors, and the highest memory of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = WAYS[way](folder, resolution)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "way": way,
        "photos": count,
        "seconds": round(wall, 1),
        "photos/s": round(count / wall, 1),
        "CPU seconds": round(cpu, 1),
        "peak memory (MiB)": round(peak),
    }


def elsewhere(way: str, folder: Path, resolution: int) -> dict[str, Any]:
    """Measure in a fresh process, whose memory is its own."""
    command = [sys.executable, "-m", "benchmarks.photos_speed", "--way", way]
    command += ["--folder", str(folder), "--resolution", str(resolution)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
