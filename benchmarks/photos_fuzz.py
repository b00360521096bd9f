"""A fuzzer on the reader of photos: no crash, no hang, bounded memory.

    python -m benchmarks.photos_fuzz [--minutes 10] [--seed 0]

Pictures of every format and archives of them are damaged in a way that a number decides (bytes changed, cut, doubled,
exchanged with another file's, sizes in headers made huge) and read in processes that are watched from outside. A fault
is named by its number: `--only NUMBER` repeats it.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.record import print_table, save
from portrayal.errors import PhotosError
from portrayal.photos.read import UnusablePhotoError, decode_photo
from portrayal.photos.sources import find_photos
from tests.photos.heic import heic

MEMORY = 4 << 30
"""Address space of a process that reads, in bytes."""

LEAST_SIDE = 12
"""Half of the files are read with leave to decode them small."""

SECONDS = 10
CHUNK = 2_000
"""Files a process reads before a fresh one takes over."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "MPO")
MODES = ("RGB", "RGBA", "L", "P", "CMYK", "I;16", "1", "LA", "F")


def main() -> None:
    """Run for some minutes; print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="read one file, in this process")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(read(arguments.only, corpus()))
    elif arguments.work is not None:
        work(arguments.work, CHUNK)
    else:
        figures = watch(arguments.seed * 1_000_000_000, arguments.minutes * 60)
        print_table([{"figure": name, "value": value} for name, value in figures.items() if name != "faults"])
        for fault in figures["faults"]:
            print(fault)
        settings = {"minutes": arguments.minutes, "seed": arguments.seed, "seconds_a_file": SECONDS, "memory": MEMORY}
        print(save("photos_fuzz", figures, settings))
        sys.exit(bool(figures["faults"]))


def watch(first: int, seconds: float) -> dict[str, Any]:
    """Let processes read one after another; a process that dies or hangs is a fault of the file it was at."""
    end, start, seen, outcomes, faults, memory = time.monotonic() + seconds, first, 0, Counter[str](), [], 0
    while time.monotonic() < end:
        command = [sys.executable, "-m", "benchmarks.photos_fuzz", "--work", str(start)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        number, last = start - 1, {}
        for line in process.stdout:
            last = json.loads(line)
            number, memory = last["number"], max(memory, last["memory_mib"])
            outcomes[last["outcome"]] += 1
            if last["outcome"].startswith("fault"):
                faults.append(last)
            seen += 1
            if time.monotonic() > end:
                process.terminate()
                break
        _, errors = process.communicate()
        if process.returncode not in (0, -signal.SIGTERM):
            faults.append({"number": number + 1, "outcome": f"died ({process.returncode})", "trace": errors[-1500:]})
        start = number + 2 if process.returncode else start + CHUNK
    return {
        "files": seen,
        "crashes and hangs": len(faults),
        "highest memory (MiB)": round(memory),
        **dict(outcomes.most_common()),
        "faults": faults[:20],
    }


def work(first: int, count: int) -> None:
    """Read files by their numbers, one line of JSON each."""
    warnings.simplefilter("ignore")
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    seeds = corpus()
    for number in range(first, first + count):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        outcome, trace = "", ""
        try:
            outcome = read(number, seeds)
        except Exception as error:  # whatever it is, it is what is looked for
            outcome, trace = f"fault: {type(error).__name__}", traceback.format_exc()[-1500:]
        signal.setitimer(signal.ITIMER_REAL, 0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"number": number, "outcome": outcome, "trace": trace, "memory_mib": peak}), flush=True)


def read(number: int, seeds: list[tuple[str, bytes]]) -> str:
    """Read the file of a number; a word for what came of it."""
    rng = np.random.default_rng(number)
    name, content = seeds[int(rng.integers(len(seeds)))]
    content = damaged(content, seeds, rng)
    if not name.endswith(".zip"):
        return outcome_of(name, content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            photos = find_photos(path).photos[:20]
        except PhotosError:
            return "archive refused"
        found = {inner(photo.name, photo.content) for photo in photos}
        if [entry.name for entry in Path(folder).iterdir()] != [name]:
            raise RuntimeError("something was written beside the archive")
        return "archive: " + ("read" if "read" in found else "nothing to read")


def inner(name: str, content: Any) -> str:
    """What came of a member of an archive."""
    try:
        return outcome_of(name, content())
    except UnusablePhotoError as error:
        return error.finding.kind


def outcome_of(name: str, content: bytes) -> str:
    """Decode; `read`, or the kind of the finding."""
    try:
        image = decode_photo(name, content, least_side=LEAST_SIDE if len(content) % 2 else None).image
    except UnusablePhotoError as error:
        return error.finding.kind
    if image.mode != "RGB" or image.info:
        raise RuntimeError(f"mode {image.mode}, info {sorted(image.info)}")
    return "read"


def damaged(content: bytes, seeds: list[tuple[str, bytes]], rng: np.random.Generator) -> bytes:
    """Damage bytes once to eight times."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(max(1, min(len(data), 400 if rng.random() < 0.6 else len(data)))))
        length = int(rng.integers(1, 1 + min(64, max(1, len(data) - place))))
        match int(rng.integers(7)):
            case 0:
                data[place : place + 1] = rng.bytes(1)
            case 1:
                data[place : place + length] = rng.bytes(length)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                data[place : place + 4] = rng.choice(EXTREMES)
            case 5:
                other = seeds[int(rng.integers(len(seeds)))][1]
                start = int(rng.integers(len(other)))
                data[place : place + length] = other[start : start + length]
            case _:
                if rng.random() < 0.2:
                    del data[place:]
    return bytes(data)


EXTREMES = np.array(
    [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff", b"\xff\xff\0\0"], dtype="S4"
)
"""Numbers that headers should not hold."""


def corpus() -> list[tuple[str, bytes]]:
    """Files that are whole: every format and mode that Pillow writes, and archives of them."""
    pictures = list(_pictures())
    archives = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as archive:
            for name, data in pictures[:: 9 + method]:
                archive.writestr(f"ann/{name}", data)
            archive.writestr("ann/metadata.jsonl", json.dumps({"file_name": pictures[0][0], "text": "sks woman"}))
        archives.append((f"photos{method}.zip", content.getvalue()))
    return pictures + archives * 3


def _pictures() -> Iterator[tuple[str, bytes]]:
    y, x = np.mgrid[0:48, 0:64]
    colour = Image.fromarray(np.stack([x * 4, y * 5, (x * y) % 256], axis=2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    for kind in FORMATS:
        for mode in MODES:
            picture = (
                Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 257)
                if mode == "I;16"
                else (colour.convert(mode))
            )
            for extra in ({}, {"exif": exif}, {"save_all": True, "append_images": [picture]}):
                content = io.BytesIO()
                try:
                    picture.save(content, kind, **extra)
                except (OSError, KeyError, ValueError, TypeError):
                    continue  # no such mode in this format
                yield f"{mode.replace(';', '')}{len(extra)}.{kind.lower()}", content.getvalue()
    for turns in range(4):
        written = heic(colour, turns=turns, mirror=turns % 2, exif=exif.tobytes()[6:])
        yield f"{turns}.heic", written
        yield f"{turns}.jpg", written  # as some senders rename it


if __name__ == "__main__":
    main()
