import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from portrayal.errors import PhotosError
from portrayal.photos import read
from portrayal.photos.read import UnusablePhotoError, read_photo

ORIENTATION = 0x0112
GPS = 0x8825


def landscape() -> Image.Image:
    """Left red, right blue, with a green top: no two of its eight orientations look alike."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40, 0] = pixels[:, 40:, 2] = 220
    pixels[:10, :, 1] = 200
    return Image.fromarray(pixels)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_every_orientation_gives_the_same_upright_picture(tmp_path: Path, orientation: int, ending: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = landscape().transpose(undo[orientation]) if orientation > 1 else landscape()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo.{ending}"
    stored.save(path, exif=exif, **({"quality": 95, "subsampling": 0} if ending == "jpg" else {}))

    photo = read_photo(path)

    assert photo.image.size == (80, 40)
    assert difference(photo.image, landscape()) < 4


def test_place_device_and_every_other_tag_are_gone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Phone 9"
    exif.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    path = tmp_path / "photo.jpg"
    landscape().save(path, exif=exif, comment=b"at home", icc_profile=srgb(), dpi=(72, 72))
    with Image.open(path) as stored:
        assert stored.getexif().get_ifd(GPS)

    image = read_photo(path).image
    again = io.BytesIO()
    image.save(again, "JPEG")

    assert image.info == {}
    assert len(image.getexif()) == 0
    assert b"Exif" not in again.getvalue()
    assert b"at home" not in again.getvalue()


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *[(mode, "png") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
        *[(mode, "tif") for mode in ("RGB", "RGBA", "L", "CMYK", "I;16", "I", "F", "1")],
        *[(mode, "jpg") for mode in ("RGB", "L", "CMYK")],
        *[(mode, ending) for mode in ("RGB", "RGBA") for ending in ("webp", "avif")],
        *[(mode, "bmp") for mode in ("RGB", "L", "P", "1")],
        *[(mode, "gif") for mode in ("P", "L", "RGB")],
    ],
)
def test_every_mode_of_every_format_becomes_rgb_of_the_same_brightness(tmp_path: Path, mode: str, ending: str) -> None:
    grey = Image.new("L", (32, 24), 128)
    grey.paste(255, (0, 0, 16, 24))
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "I":
        stored = Image.fromarray(np.asarray(grey).astype(np.int32) * 257)
    elif mode == "F":
        stored = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    else:
        stored = grey.convert("RGB").convert(mode)
    path = tmp_path / f"photo.{ending}"
    stored.save(path)

    image = read_photo(path).image

    assert image.mode == "RGB"
    assert image.size == (32, 24)
    assert abs(np.asarray(image)[:, :14].mean() - 255) < 4
    assert abs(np.asarray(image)[:, 18:].mean() - 128) < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "photo.png"
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    if mode == "P":
        palette = Image.new("P", (8, 8), 3)
        palette.putpalette([0] * 768)
        palette.save(path, transparency=3)
    else:
        picture.convert(mode).save(path)

    assert read_photo(path).image.getpixel((4, 4)) == (255, 255, 255)


def test_the_first_frame_of_an_animation_is_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])

    assert read_photo(path).image.getpixel((4, 4)) == (255, 0, 0)


def swapped_channels_profile() -> bytes:
    """sRGB's profile with the red and blue colorants exchanged, so that a conversion is plain to see."""
    profile = bytearray(srgb())
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile).replace(b"s\0R\0G\0B", b"o\0t\0h\0e").replace(b"sRGB built-in", b"other builtin")


def test_an_embedded_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8), (250, 10, 10)).save(path, icc_profile=swapped_channels_profile())

    red, _, blue = read_photo(path).image.getpixel((4, 4))

    assert blue > 200 > 50 > red


@pytest.mark.parametrize("profile", [b"not a profile", srgb()[:200], srgb()])
def test_a_broken_or_plain_profile_changes_nothing(tmp_path: Path, profile: bytes) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8), (200, 100, 50)).save(path, icc_profile=profile, quality=100, subsampling=0)

    assert difference(read_photo(path).image, Image.new("RGB", (8, 8), (200, 100, 50))) < 2


def test_a_grey_picture_with_a_colour_profile_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("L", (8, 8), 100).save(path, icc_profile=swapped_channels_profile())

    assert read_photo(path).image.getpixel((4, 4)) == (100, 100, 100)


def test_an_id_is_the_hash_of_the_bytes_and_not_of_the_name(tmp_path: Path) -> None:
    landscape().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())

    one, other = read_photo(tmp_path / "a.png"), read_photo(tmp_path / "b.png")

    assert one.id == other.id == one.sha256[:12]


def jpeg_bytes() -> bytes:
    content = io.BytesIO()
    Image.effect_noise((200, 200), 80).convert("RGB").save(content, "JPEG")
    return content.getvalue()


BAD = {
    "empty": ("a.jpg", b"", "empty"),
    "text": ("a.jpg", b"This is no picture.", "not_an_image"),
    "truncated jpeg": ("a.jpg", jpeg_bytes()[:2000], "unreadable"),
    "raw": ("a.dng", b"II*\0 and more", "raw"),
    "heic": ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
    "heic named jpg": ("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
}


@pytest.mark.parametrize(("name", "content", "kind"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read.importlib.util, "find_spec", lambda package: None)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UnusablePhotoError) as caught:
        read_photo(tmp_path / name)

    assert isinstance(caught.value, PhotosError)
    assert caught.value.finding.kind == kind
    assert str(caught.value).startswith(f"{name} skipped: ")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "gif", "bmp", "avif", "jpg"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6])
def test_a_file_cut_anywhere_is_a_finding_and_no_crash(tmp_path: Path, ending: str, part: float) -> None:
    path = tmp_path / f"a.{ending}"
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow also warns of cut TIFFs; prepare_photos silences it.
        with pytest.raises(UnusablePhotoError):
            read_photo(path)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("1", (20_000, 10_001)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(read, "_turn", lambda image: pytest.fail("decoded"))

    with pytest.raises(UnusablePhotoError, match="200 megapixels") as caught:
        read_photo(tmp_path / "bomb.png")

    assert caught.value.finding.kind == "too_large"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_own_lower_limit_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landscape().save(tmp_path / "large.png")  # 3200 pixels; Pillow warns over its limit and refuses twice that
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)

    assert read_photo(tmp_path / "large.png").image.size == (80, 40)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "avif", "tif"])
def test_a_series_of_pictures_says_so(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"moving.{ending}"
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    frames[0].save(path, save_all=True, append_images=frames[1:])

    photo = read_photo(path)

    assert [(finding.kind, finding.action) for finding in photo.findings] == [("animated", "kept")]
    assert "3 pictures" in photo.findings[0].message
    red, _, blue = photo.image.getpixel((8, 8))
    assert red > 200 > 50 > blue


def test_the_preview_behind_a_phone_s_photo_is_no_series(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    landscape().save(path, "MPO", save_all=True, append_images=[landscape().resize((20, 10))])

    photo = read_photo(path)

    assert photo.findings == ()
    assert photo.image.size == (80, 40)


def test_the_background_under_transparency_can_be_chosen(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")

    assert read_photo(tmp_path / "a.png", "#102030").image.getpixel((4, 4)) == (16, 32, 48)
