"""The user's masks go where their photos go, and a bad one is said and left out."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from portrayal.photos import Prepared, PrepareSettings, prepare_photos

UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright picture into what a camera stores with this EXIF orientation."""


def subject(number: int, size: tuple[int, int] = (160, 96)) -> Image.Image:
    """A white shape off the centre of a dark picture: the mask of itself."""
    picture = Image.new("L", size)
    pen = ImageDraw.Draw(picture)
    x, y = 10 + 9 * number % 40, 8 + 5 * number % 20
    pen.rectangle((x, y, x + 50, y + 30 + 3 * number), fill=255)
    pen.rectangle((x, y + 30, x + 15, y + 60), fill=255)
    return picture


def stored(picture: Image.Image, orientation: int) -> Image.Image:
    turn = UNDO[orientation]
    return picture if turn is None else picture.transpose(turn)


def write(folder: Path, name: str, picture: Image.Image, orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored(picture.convert("RGB"), orientation).save(folder / name, exif=exif, quality=95)


def prepare(folder: Path) -> Prepared:
    return prepare_photos(folder, PrepareSettings(64, "a photo of sks thing", 1, 0))


@pytest.mark.parametrize("of_stored_pixels", [False, True])
def test_masks_follow_their_photos_in_all_orientations(tmp_path: Path, of_stored_pixels: bool) -> None:
    turned = range(5, 9) if of_stored_pixels else range(1, 9)
    for orientation in turned:
        picture = subject(orientation)
        write(tmp_path, f"{orientation}.jpg", picture, orientation)
        mask = stored(picture, orientation) if of_stored_pixels else picture
        mask.save(tmp_path / f"{orientation}.mask.png")

    prepared = prepare(tmp_path)

    assert len(prepared.photos) == len(turned) == len(prepared.masks)
    assert [finding.kind for finding in prepared.findings if finding.kind == "mask"] == []
    for photo in prepared.photos:
        assert photo.masked
        mask, image = prepared.masks[photo.id], prepared.images[photo.id].convert("L")
        assert (mask.mode, mask.size) == ("L", (64, 64))
        assert np.abs(np.asarray(mask, np.float32) - np.asarray(image, np.float32)).mean() < 6


def test_a_scaled_mask_fits_and_photos_without_one_count_whole(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path, f"{number}.png", subject(number))
    subject(2).resize((40, 24)).save(tmp_path / "2.mask.png")

    prepared = prepare(tmp_path)

    (photo,) = (photo for photo in prepared.photos if photo.masked)
    assert photo.source_name == "2.png"
    assert list(prepared.masks) == [photo.id]


def test_without_a_face_the_square_is_around_the_mask(tmp_path: Path) -> None:
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (12, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 120)).save(tmp_path / f"{number}.png")
        mask = Image.new("L", (300, 120))
        mask.paste(255, (220, 20, 290, 110))
        mask.save(tmp_path / f"{number}.mask.png")

    assert [photo.crop for photo in prepare(tmp_path).photos] == [(180, 0, 120, 120)] * 4


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (160, 96)), "black all over"),
        (Image.new("L", (96, 97), "white"), r"96×97 pixels and the photo 160×96"),
        (b"no picture", "cannot be used"),
        (b"", "cannot be used"),
    ],
)
def test_a_mask_that_does_not_fit_is_said_and_left_out(tmp_path: Path, mask: Image.Image | bytes, message: str) -> None:
    for number in range(4):
        write(tmp_path, f"{number}.png", subject(number))
    if isinstance(mask, Image.Image):
        content = BytesIO()
        mask.save(content, "PNG")
        mask = content.getvalue()
    (tmp_path / "1.mask.png").write_bytes(mask)

    prepared = prepare(tmp_path)

    (finding,) = (finding for finding in prepared.findings if finding.kind == "mask")
    assert (finding.file, finding.action) == ("1.png", "kept")
    assert message in finding.message
    assert prepared.masks == {}
    assert len(prepared.photos) == 4
