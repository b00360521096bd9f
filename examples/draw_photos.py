"""``python -m examples.draw_photos [--out DIR]``: draw the eighteen example photos.

They show one woman who is not among the people of pretraining, and they come as phones save them: mixed sizes and
shapes, JPEGs of several qualities, one sideways, one PNG, two nearly the same, some with place and device in their
EXIF. The phone, the times and the place (mid-Atlantic) are made up.
"""

import argparse
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from pretraining.world import CLOTHES_COLOURS, Person, Shot, draw_canvas
from pretraining.world.shots import SEATED, SOLE, Clothes, Expression, Framing, Light, Pattern, Pose

PHOTOS = Path(__file__).parent / "photos"

WOMAN = Person(
    gender="woman",
    skin=(246, 208, 180),
    face_width=0.975,
    face_length=1.035,
    jaw=0.715,
    chin=0.24,
    ears=0.9,
    hair_style="long wavy",
    hair_name="red",
    hair_colour=(158, 62, 38),
    hair_volume=1.13,
    parting=-0.55,
    hairline=0.62,
    eye_colour=(66, 148, 84),
    eye_size=1.12,
    eye_distance=1.03,
    eye_slant=0.55,
    brow_thickness=1.02,
    brow_arch=0.62,
    brow_slant=-0.35,
    nose_width=0.86,
    nose_length=0.95,
    mouth_width=1.06,
    lip_fullness=1.12,
    lip_colour=(200, 84, 82),
    blush=0.40,
    freckles=0.8,
    mole=(0.205, 0.315),
    glasses="round",
    glasses_name="teal",
    glasses_colour=(14, 132, 138),
    beard=None,
    earrings=None,
    age="young",
    streak=None,
    birthmark=None,
    scar=0.0,
    other_eye=None,
)
"""The woman of the example: auburn waves, round teal glasses, green eyes, freckles, a mole beside her smile."""

_GAINS: dict[Light, tuple[float, float, float]] = {
    "neutral": (1.0, 1.0, 1.0),
    "warm": (1.03, 1.0, 0.93),
    "cool": (0.97, 0.99, 1.03),
    "dim": (0.90, 0.87, 0.88),
}


@dataclass(frozen=True)
class Take:
    """One press of the shutter and how the phone saved it."""

    name: str
    width: int
    height: int
    shot: Shot
    quality: int = 88
    """JPEG quality; a PNG ignores it."""
    minute: int | None = None
    """Minutes after noon; ``None`` saves no EXIF."""
    located: bool = False
    """Whether the EXIF says where."""
    sideways: bool = False
    """Saved a quarter turn off, with the flag that says so."""


def _shot(
    scene: str, seed: int, outfit: str, mood: Expression, place: tuple[float, float, float],
    head: tuple[float, float] = (0.0, 0.0), light: Light = "neutral", accent: str = "white", light_side: float = -0.6,
) -> Shot:  # fmt: skip
    """Shorthand: ``outfit`` is "colour kind", ``place`` (head height, x, y), ``head`` (tilt in degrees, turn).

    The head's height decides the framing; in the whole one y is where the soles of someone standing would be.
    """
    colour, kind = outfit.split(" ")
    kinds: dict[str, Clothes] = {k: k for k in ("t-shirt", "shirt", "hoodie", "sweater", "jacket", "coat", "dress")}
    framing: Framing = "head" if place[0] > 0.37 else "half" if place[0] > 0.25 else "whole"
    return Shot(
        scene=scene, scene_seed=seed, head_height=place[0], x=place[1],
        y=place[2] - (SOLE * place[0] if framing == "whole" else 0.0), tilt=head[0], turn=head[1],
        expression=mood, clothes=kinds[kind], clothes_name=colour, clothes_colour=CLOTHES_COLOURS[colour],
        accent=CLOTHES_COLOURS[accent], light=light, gain=_GAINS[light], light_side=light_side, framing=framing,
    )  # fmt: skip


def _posed(shot: Shot, pose: Pose, seed: int, pattern: Pattern = "plain") -> Shot:
    """The shot in another pose; sitting lowers the head by as much as it raises the feet."""
    lower = SEATED * shot.head_height if pose == "sitting" else 0.0
    return replace(shot, pose=pose, pose_seed=seed, pattern=pattern, y=shot.y + lower)


def takes() -> tuple[Take, ...]:
    """List the eighteen photos in the order in which they were taken: 8 head, 7 half and 3 whole framings."""
    pond = _shot("park", 11, "yellow sweater", "smiling", (0.47, 0.53, 0.43), (3.0, -0.35), "warm")
    again = replace(pond, x=pond.x + 0.012, y=pond.y + 0.006, tilt=3.6, gain=(1.0, 0.97, 0.91))
    street = replace(_shot("street", 4, "blue jacket", "smiling", (0.30, 0.56, 0.36), (-2.0, 0.3)), pose_seed=3)
    goal = _shot("football", 6, "red t-shirt", "laughing", (0.225, 0.43, 0.95), (-4.0, 0.3))
    kitchen = _shot("kitchen", 2, "purple shirt", "smiling", (0.31, 0.53, 0.36), (1.0, -0.6))
    office = _shot("office", 14, "green shirt", "smiling", (0.30, 0.50, 0.35), (4.0, 0.6), "cool")
    sand = _shot("beach", 7, "orange dress", "laughing", (0.22, 0.53, 0.95), (-6.0, -0.4), "warm", light_side=0.8)
    waves = _shot("beach", 12, "white shirt", "smiling", (0.30, 0.47, 0.35), (3.0, 0.4), accent="blue")
    shelves = _shot("library", 15, "yellow shirt", "surprised", (0.29, 0.53, 0.36), (2.0, -0.1))
    tea = _shot("bedroom", 13, "purple hoodie", "smiling", (0.22, 0.46, 0.95), (-4.0, 0.2), "dim")
    return (
        Take("IMG_2041.jpg", 900, 1200, replace(street, held="cup"), 90, 5, located=True),
        Take("IMG_2042.jpg", 1024, 768, _posed(_shot("street", 9, "white t-shirt", "laughing", (0.31, 0.46, 0.36),
                                                     (5.0, 0.6), "warm", "red", 0.7), "waving", 4, "striped"), 84, 9),
        Take("IMG_2044.jpg", 768, 1024, pond, 88, 31, located=True),
        Take("IMG_2045.jpg", 768, 1024, again, 88, 31, located=True),
        Take("IMG_2047.jpg", 800, 1067, _shot("park", 23, "green hoodie", "neutral", (0.54, 0.47, 0.46),
                                              (-3.0, -0.7)), 80, 44),
        Take("IMG_2050.jpg", 1200, 900, _posed(goal, "kicking", 7), 86, 70, located=True),
        Take("IMG_2051.jpg", 720, 960, _posed(_shot("forest", 3, "orange jacket", "smiling", (0.29, 0.50, 0.37),
                                                    (2.0, 0.5), accent="black"), "hands on hips", 6),
             90, 96, sideways=True),
        Take("IMG_2053.jpg", 640, 640, replace(_shot("forest", 17, "white sweater", "neutral", (0.52, 0.46, 0.45),
                                                     (-5.0, -0.5), "cool", "green", 0.6), pattern="striped"), 72),
        Take("IMG_2056.png", 750, 1000, _posed(kitchen, "hands on hips", 2)),
        Take("IMG_2057.jpg", 1080, 1080, _shot("kitchen", 8, "blue sweater", "surprised", (0.50, 0.50, 0.46),
                                               (-2.0, 0.2), "warm"), 92, 140),
        Take("IMG_2060.jpg", 1024, 768, _shot("office", 5, "black jacket", "neutral", (0.46, 0.49, 0.44),
                                              (0.0, 0.1)), 82, 200, located=True),
        Take("IMG_2061.jpg", 683, 512, _posed(office, "arms raised", 9, "checked"), 68),
        Take("IMG_2064.jpg", 960, 1280, _posed(sand, "walking", 4, "dotted"), 85, 260, located=True),
        Take("IMG_2065.jpg", 1200, 675, replace(_posed(waves, "waving", 5), hat="straw hat", hat_name="yellow",
                                                hat_colour=CLOTHES_COLOURS["yellow"]), 87, 262),
        Take("IMG_2068.jpg", 810, 1080, _shot("snow", 10, "red hoodie", "smiling", (0.48, 0.50, 0.45), (2.0, -0.2),
                                              "cool"), 89, 300, located=True),
        Take("IMG_2070.jpg", 768, 1024, _shot("library", 1, "green sweater", "neutral", (0.45, 0.46, 0.44),
                                              (-3.0, 0.7), "warm", "yellow"), 83, 350),
        Take("IMG_2071.jpg", 1000, 750, replace(shelves, held="book", pose_seed=4), 78),
        Take("IMG_2074.jpg", 600, 800, _posed(tea, "sitting", 21), 81, 420),
    )  # fmt: skip


def encode(take: Take) -> bytes:
    """Draw a take and give the bytes of its file; the same every time."""
    pixels = draw_canvas(WOMAN, take.shot, take.width, take.height)
    image = Image.fromarray(np.ascontiguousarray(np.rot90(pixels) if take.sideways else pixels))
    buffer = io.BytesIO()
    if take.name.endswith(".png"):
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=take.quality, optimize=True, exif=_exif(take))
    return buffer.getvalue()


def _exif(take: Take) -> Image.Exif:
    """Device, time, perhaps place; orientation 6 says "turn me a quarter clockwise"."""
    exif = Image.Exif()
    if take.minute is None:
        return exif
    exif[ExifTags.Base.Make] = "Pocketworks"
    exif[ExifTags.Base.Model] = "Snapper 3"
    exif[ExifTags.Base.Orientation] = 6 if take.sideways else 1
    exif[ExifTags.Base.DateTime] = f"2026:06:14 {12 + take.minute // 60}:{take.minute % 60:02d}:07"
    if take.located:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", _degrees(31, 30, take.minute)
        gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "W", _degrees(41, 15, take.minute)
    return exif


def _degrees(whole: int, minutes: int, tenths: int) -> tuple[IFDRational, IFDRational, IFDRational]:
    return IFDRational(whole), IFDRational(minutes), IFDRational(tenths, 10)


def main() -> None:
    """Write all photos into a folder."""
    parser = argparse.ArgumentParser(prog="python -m examples.draw_photos", description="Draw the example photos.")
    parser.add_argument("--out", type=Path, default=PHOTOS, help="folder to write into")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for take in takes():
        (out / take.name).write_bytes(encode(take))
    print(f"{len(takes())} photos in {out}")


if __name__ == "__main__":
    main()
