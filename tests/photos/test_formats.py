"""Every format, mode and orientation that phones and programs write, and every way their files go wrong."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data

from portrayal.photos.faces import find_faces
from portrayal.photos.read import UPRIGHT, UnusablePhotoError, decode_photo
from tests.photos.heic import heic

ASTRONAUT = Image.fromarray(data.astronaut())
FACE = (222, 120)  # its middle, by eye
ORIENTATION = 0x0112

MODES = {
    "jpg": ("RGB", "L", "CMYK"),
    "png": ("RGB", "RGBA", "L", "LA", "P", "I;16"),
    "webp": ("RGB", "RGBA"),
    "avif": ("RGB", "RGBA"),
    "tif": ("RGB", "RGBA", "L", "LA", "P", "CMYK", "LAB", "I;16", "F"),
    "heic": ("RGB",),
}
CASES = [(ending, mode, orientation) for ending in MODES for mode in MODES[ending] for orientation in range(1, 9)]

UNDO = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}
"""How a camera stores an upright picture whose EXIF says so."""

HEIC_TURNS: dict[int, tuple[int, int | None]] = {
    **{1: (0, None), 2: (0, 1), 3: (2, None), 4: (0, 0)},
    **{5: (1, 0), 6: (3, None), 7: (1, 1), 8: (1, None)},
}
"""The same eight in HEIC's own boxes: quarter turns, then the axis of the mirror."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Pillow also warns of broken files; prepare_photos silences it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Four greys, no two alike: no two of its eight orientations look alike."""
    pixels = np.full((height, width), 40, np.uint8)
    pixels[: height // 2, width // 2 :] = 110
    pixels[height // 2 :, : width // 2] = 170
    pixels[height // 2 :, width // 2 :] = 230
    return Image.fromarray(pixels)


def in_mode(grey: Image.Image, mode: str) -> Image.Image:
    values = np.asarray(grey)
    if mode == "I;16":
        return Image.fromarray(values.astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(values.astype(np.float32) / 255)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(grey.convert("RGB"), *profiles, outputMode="LAB")
    return grey.convert("RGB").quantize(16) if mode == "P" else grey.convert("RGB").convert(mode)


def stored(upright: Image.Image, ending: str, orientation: int) -> bytes:
    """The file a camera held that way would write."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turned = upright
    for method in UNDO[orientation]:
        turned = turned.transpose(method)
    if ending == "heic":
        pytest.importorskip("pi_heif", reason="pi-heif, an extra, reads HEIC")
        turns, mirror = HEIC_TURNS[orientation]
        return heic(turned, turns=turns, mirror=mirror, exif=exif.tobytes()[6:])  # phones say it twice
    content = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper())
    turned.save(content, kind, exif=exif, **({"quality": 95, "subsampling": 0} if ending == "jpg" else {}))
    return content.getvalue()


@pytest.mark.parametrize(("ending", "mode", "orientation"), CASES)
def test_format_mode_and_orientation(ending: str, mode: str, orientation: int) -> None:
    content = stored(in_mode(quarters(), mode), ending, orientation)

    photo = decode_photo(f"a.{ending}", content)

    assert (photo.image.mode, photo.image.size, photo.size) == ("RGB", (64, 48), (64, 48))
    assert photo.image.info == {}
    assert photo.findings == ()
    seen = [photo.image.getpixel((x, y)) for y in (12, 36) for x in (16, 48)]
    for grey, colours in zip((40, 110, 170, 230), seen, strict=True):
        assert max(abs(colour - grey) for colour in colours) <= 6


@pytest.mark.parametrize("ending", ["jpg", "heic", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_real_face_is_found_however_the_phone_was_held(ending: str, orientation: int) -> None:
    image = decode_photo(f"a.{ending}", stored(ASTRONAUT, ending, orientation)).image

    face = find_faces(image)[0].box

    assert image.size == (512, 512)
    assert abs(face.left + face.width / 2 - FACE[0]) < 25
    assert abs(face.top + face.height / 2 - FACE[1]) < 30


@pytest.mark.parametrize("side", [256, 512, 1024, 3000])
@pytest.mark.parametrize("least", [None, 400])
def test_a_real_face_is_found_at_several_sizes_and_in_a_reduced_copy(side: int, least: int | None) -> None:
    content = stored(ASTRONAUT.resize((side, side), Image.Resampling.BICUBIC), "jpg", 6)

    photo = decode_photo("a.jpg", content, least_side=least)
    face = find_faces(photo.image)[0].box
    scale = 512 / photo.image.width

    assert photo.size == (side, side)
    assert abs((face.left + face.width / 2) * scale - FACE[0]) < 25
    assert abs((face.top + face.height / 2) * scale - FACE[1]) < 30


@pytest.mark.parametrize("orientation", range(1, 9))
@given(st.integers(8, 300), st.integers(8, 300), st.integers(8, 400))  # fewer pixels are mostly a JPEG's own edges
@settings(max_examples=15, deadline=None)
def test_a_reduced_copy_keeps_its_shape_and_enough_pixels(
    orientation: int, width: int, height: int, least: int
) -> None:
    content = stored(quarters(width, height).convert("RGB"), "jpg", orientation)

    whole, reduced = decode_photo("a.jpg", content), decode_photo("a.jpg", content, least_side=least)

    assert whole.size == whole.image.size == reduced.size == (width, height)
    assert min(reduced.image.size) >= min(least, width, height)
    assert [one <= other for one, other in zip(reduced.image.size, whole.size, strict=True)] == [True, True]
    small = whole.image.resize(reduced.image.size, Image.Resampling.BOX)
    middle = np.abs(np.asarray(small, float) - np.asarray(reduced.image, float))
    assert middle.mean() < 12


def test_a_16_bit_colour_png_keeps_its_colours() -> None:
    import zlib

    row = b"\0" + struct.pack(">HHH", 200 * 257, 100 * 257, 50 * 257) * 16
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 16)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )

    assert decode_photo("a.png", content).image.getpixel((8, 8)) == (200, 100, 50)


def test_display_p3_is_converted_as_colour_management_says() -> None:
    """By the standards' matrices, (180, 90, 90) in P3 is (193, 83, 87) in sRGB."""
    wide = Image.new("RGB", (16, 16), (180, 90, 90))
    content = io.BytesIO()
    wide.save(content, "PNG", icc_profile=display_p3())

    red, green, blue = decode_photo("a.png", content.getvalue()).image.getpixel((8, 8))

    assert max(abs(red - 193), abs(green - 83), abs(blue - 87)) <= 1


def display_p3() -> bytes:
    """sRGB's profile with the colorants of Display P3, adapted to D50 (Apple's own figures)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    colorants = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for index in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * index
        tag = bytes(profile[entry : entry + 4])
        if tag in colorants:
            start = int.from_bytes(profile[entry + 4 : entry + 8], "big") + 8
            profile[start : start + 12] = struct.pack(">iii", *(round(value * 65536) for value in colorants[tag]))
    name = "sRGB built-in".encode("utf-16-be")
    return bytes(profile).replace(name, "Display P3 !!".encode("utf-16-be")).replace(b"sRGB built-in", b"Display P3 !!")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_the_background_is_what_was_asked_for_whatever_the_profile(mode: str) -> None:
    content = io.BytesIO()
    Image.new(mode, (16, 16), 0).save(content, "PNG", icc_profile=display_p3())

    assert decode_photo("a.png", content.getvalue(), "#b45a5a").image.getpixel((8, 8)) == (180, 90, 90)


@pytest.mark.parametrize("size", [(1, 1), (7, 500), (500, 7)])
def test_a_picture_of_a_few_pixels_is_too_small(size: tuple[int, int]) -> None:
    content = io.BytesIO()
    Image.new("RGB", size).save(content, "PNG")

    with pytest.raises(UnusablePhotoError, match="too few") as caught:
        decode_photo("a.png", content.getvalue())

    assert caught.value.finding.kind == "too_small"


@pytest.mark.parametrize(
    "broken", [b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"no TIFF at all", b"MM\0*\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_broken_exif_costs_no_photo(ending: str, broken: bytes) -> None:
    content = io.BytesIO()
    quarters().save(content, {"jpg": "JPEG"}.get(ending, ending.upper()), exif=b"Exif\0\0" + broken)

    assert decode_photo(f"a.{ending}", content.getvalue()).image.size == (64, 48)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_counts_as_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = io.BytesIO()
    quarters().save(content, "JPEG", exif=exif)

    assert decode_photo("a.jpg", content.getvalue()).image.size == (64, 48)
    assert set(UPRIGHT) == set(range(2, 9))


def test_pillows_other_formats_are_never_opened() -> None:
    """One of them runs Ghostscript on what the file says."""
    content = io.BytesIO()
    quarters().convert("RGB").save(content, "EPS")

    for name in ("a.eps", "a.jpg"):
        with pytest.raises(UnusablePhotoError, match="not a picture"):
            decode_photo(name, content.getvalue())


def test_an_animation_whose_end_is_damaged_still_gives_its_first_picture() -> None:
    content = io.BytesIO()
    frames = [Image.effect_noise((32, 32), 90).convert("RGB") for _ in range(4)]
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])

    photo = decode_photo("a.gif", content.getvalue()[: len(content.getvalue()) // 2])

    assert photo.image.size == (32, 32)


@pytest.mark.parametrize("word", [b"Exif", b"hvc1"])
def test_a_heic_whose_items_have_broken_names_is_a_finding_and_not_the_end(word: bytes) -> None:
    """pi-heif 1.4 dies of the first, by a signal that Python cannot catch."""
    pytest.importorskip("pi_heif", reason="pi-heif, an extra, reads HEIC")
    content = heic(quarters().convert("RGB"), exif=Image.Exif().tobytes()[6:] or b"II*\0\x08\0\0\0\0\0")
    place = content.index(word, content.index(b"infe"))

    with pytest.raises(UnusablePhotoError, match="list of items"):
        decode_photo("a.heic", content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])


SAMPLES = [stored(quarters().convert("RGB"), ending, 6) for ending in ("jpg", "png", "webp", "avif", "tif")]
SAMPLES.append(heic(quarters().convert("RGB"), turns=3))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_happens_to_a_file_it_is_a_photo_or_a_finding(content: bytes, draws: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(draws.draw(st.integers(1, 6))):
        damaged[draws.draw(st.integers(0, len(damaged) - 1))] = draws.draw(st.integers(0, 255))
    cut = draws.draw(st.integers(1, len(damaged)))

    try:
        photo = decode_photo("a.jpg", bytes(damaged[:cut]))
    except UnusablePhotoError as error:
        finding = error.finding
    else:
        assert (photo.image.mode, photo.image.size) == ("RGB", photo.size)
        return
    assert finding.action == "skipped"
    assert finding.message.isprintable()
