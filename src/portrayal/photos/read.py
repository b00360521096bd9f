"""Read photos as phones make them: any format, upright, in sRGB, with nothing left of EXIF."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from portrayal.errors import PhotosError
from portrayal.sentences import say

HEIC_ENDINGS = frozenset({".heic", ".heif"})
RAW_ENDINGS = frozenset({".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"})
IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", *HEIC_ENDINGS, *RAW_ENDINGS}
)
MAX_PIXELS = 200_000_000
"""Larger pictures are refused before they are decoded; the largest phone cameras make 200 megapixels."""

MAX_BYTES = 512 << 20
"""Of one file: a 200-megapixel TIFF of 16 bits would have 1.2 GB, no phone's or camera's JPEG comes near."""

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP")
"""What Pillow may open. It knows forty more that no phone writes, and runs Ghostscript for one of them."""

MIN_SIDE = 8
"""Pixels along a side; smaller pictures show nothing."""

LARGE = 50_000_000
"""Pictures of more pixels are decoded one at a time: at 200 megapixels one takes 2 GB while its colours are mended."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF; 1, and values the standard does not know, leave the picture as it is."""

TURNED = (
    *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270),
    *(Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
)
"""What exchanges width and height."""

ORIENTATION = 0x0112

FindingKind = Literal[
    "unreadable",
    "empty",
    "not_an_image",
    "too_large",
    "too_small",
    "heic",
    "raw",
    "subfolder",
    "duplicate",
    "near_duplicate",
    "small",
    "caption",
    "animated",
    "archive",
    "kohya_folder",
    "mask",
    "dropped",
    "blurred",
    "dark",
    "burnt",
    "border",
    "watermark",
    "small_face",
    "tiny",
    "several_people",
    "someone_else",
]

_header_lock = threading.Lock()
_large_lock = threading.Lock()


@dataclass(frozen=True)
class Finding:
    """One thing a person should know about one of their files."""

    file: str
    """File name, never a path."""

    kind: FindingKind
    message: str
    """What is the matter, and what would mend it."""

    action: Literal["skipped", "kept"]
    value: float | None = None
    """The number behind it, where there is one."""

    def __str__(self) -> str:
        return f"{self.file} {self.action}: {self.message}"


@dataclass(frozen=True)
class RawPhoto:
    """One photo as a person sees it: RGB (sRGB), upright, without EXIF."""

    id: str
    """First twelve hex digits of the hash of the file's bytes; the photo keeps it for life."""

    name: str
    image: Image.Image
    sha256: str
    size: tuple[int, int]
    """Width and height of the upright original; the image may be smaller, see :func:`decode_photo`."""

    findings: tuple[Finding, ...] = ()


class UnusablePhotoError(PhotosError):
    """One photo cannot be used; the others can.

    Args:
        finding: Which file, and why.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def read_photo(path: Path, background: str = "white") -> RawPhoto:
    """Read one photo; see :func:`decode_photo`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        message = say("photo.closed", reason=error.strerror or str(error))
        raise _unusable(printable(path.name), "unreadable", message) from error
    return decode_photo(printable(path.name), content, background)


def decode_photo(name: str, content: bytes, background: str = "white", least_side: int | None = None) -> RawPhoto:
    """Decode one photo.

    Args:
        name: What a person calls it.
        content: The bytes of its file.
        background: Colour under what is transparent, as Pillow names colours.
        least_side: A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, in half the time, as long as its short side
            keeps so many pixels. Nothing means whole.

    Raises:
        UnusablePhotoError: If it is no picture; its `finding` says why. A `PhotosError`.
    """
    if not content:
        raise _unusable(name, "empty", "the file is empty (0 bytes); copy it from the phone again")
    if Path(name).suffix.lower() in RAW_ENDINGS:
        # Most raw files are TIFFs, and Pillow would take their thumbnail for the photo.
        raise _unusable(name, "raw", "it is a camera's raw file; export it as JPEG")
    heic = _is_heic(content)
    if heic:
        _allow_heic(name)
        _check_items(name, content)
    formats = ("HEIF",) if heic else FORMATS
    sha256 = hashlib.sha256(content).hexdigest()
    with _damage_is_a_finding(name):
        opened = _open(content, formats)
        _check_size(name, opened.size)
        size = opened.size
        with _large_lock if opened.width * opened.height > LARGE else nullcontext():
            _reduce(opened, least_side)
            method = _turn(opened)
            upright = opened.transpose(method) if method is not None else opened
            image = without_metadata(_to_srgb(upright, background))
        if method in TURNED:
            size = size[::-1]
    return RawPhoto(sha256[:12], name, image, sha256, size, tuple(_series(name, content, formats)))


def printable(name: str) -> str:
    """A file name that can be shown on one line: what is not printable is escaped, as `\\n`; wide spaces are spaces."""
    return "".join(
        letter
        if letter.isprintable()
        else " "
        if unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in name
    )


def without_metadata(image: Image.Image) -> Image.Image:
    """Copy the pixels to a new RGB image that carries no EXIF, profile, XMP or comment."""
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    return clean


def _unusable(name: str, kind: FindingKind, message: str) -> UnusablePhotoError:
    return UnusablePhotoError(Finding(name, kind, message, "skipped"))


@contextmanager
def _damage_is_a_finding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into a finding."""
    try:
        yield
    except UnusablePhotoError:
        raise
    except UnidentifiedImageError as error:
        raise _unusable(name, "not_an_image", say("photo.no_picture")) from error
    except Exception as error:  # each decoder raises kinds of its own, none of them documented
        reason = str(error) or type(error).__name__
        message = say("photo.damaged", reason=printable(reason))
        raise _unusable(name, "unreadable", message) from error


def _open(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Read a picture's header, pixels later; Pillow's own size limit, a global of 89 megapixels, gives way to ours."""
    with _header_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(BytesIO(content), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(name: str, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        megapixels = size[0] * size[1] // 1_000_000
        message = say("photo.too_large", n=megapixels, most=MAX_PIXELS // 1_000_000)
        raise _unusable(name, "too_large", message)
    if min(size) < MIN_SIDE:
        message = say("photo.too_small", width=size[0], height=size[1])
        raise _unusable(name, "too_small", message)


def _reduce(opened: Image.Image, least_side: int | None) -> None:
    """Let a JPEG be decoded small; other formats are decoded whole."""
    if least_side is not None and opened.format in ("JPEG", "MPO") and min(opened.size) > least_side:
        share = least_side / min(opened.size)
        # Pillow would turn a mode it does not know how to draft into another; nothing keeps the mode.
        opened.draft(None, (math.ceil(opened.width * share), math.ceil(opened.height * share)))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How EXIF says a picture is turned; a broken EXIF says nothing."""
    image.load()  # some formats carry EXIF behind the pixels
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow's reader of EXIF raises anything on broken bytes, and the picture is whole
        return None


def _series(name: str, content: bytes, formats: tuple[str, ...]) -> Iterator[Finding]:
    """Say that a file holds several pictures. What lies behind the first may be damaged: then it does not count."""
    try:
        opened = _open(content, formats)
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # an MPO is a photo and its preview
    except Exception:  # as any decoder raises
        return
    if frames > 1:
        yield Finding(name, "animated", say("photo.animated", n=frames), "kept")


def _is_heic(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS and b"avif" not in content[8:64]


def _allow_heic(name: str) -> None:
    if importlib.util.find_spec("pi_heif") is None:
        message = say("photo.heic")
        raise _unusable(name, "heic", message)
    with _header_lock:
        # Only the photo is wanted: not its thumbnail, its map of depth, or what else phones put beside it.
        importlib.import_module("pi_heif").register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _check_items(name: str, content: bytes) -> None:
    """Refuse a HEIC whose items have names that are no text: pi-heif 1.4 dies of them, and the process with it."""
    for meta in _boxes(content, b"meta"):
        start = meta.find(b"infe")
        while start >= 0:
            length = int.from_bytes(meta[max(0, start - 4) : start], "big")
            version = meta[start + 4 : start + 5]
            words = meta[start + (14 if version == b"\3" else 12) : start - 4 + length]
            if length < 12 or not _is_text(words):
                raise _unusable(name, "unreadable", say("photo.damaged_items"))
            start = meta.find(b"infe", start + 4)


def _boxes(content: bytes, kind: bytes) -> Iterator[bytes]:
    """Bodies of the boxes of a kind, at the outermost level of a HEIC (ISO/IEC 14496-12, 4.2)."""
    start = 0
    while start + 8 <= len(content):
        length, header = int.from_bytes(content[start : start + 4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        elif length == 0:
            length = len(content) - start
        if content[start + 4 : start + 8] == kind:
            yield content[start + header : start + length]
        start += max(length, header)


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def starts_like_an_image(start: bytes) -> bool:
    """Whether the first 64 bytes of a file are those of a picture."""
    return (
        start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and (b"avif" in start[8:] or start[8:12] in HEIC_BRANDS))
    )


def _to_srgb(image: Image.Image, background: str) -> Image.Image:
    """Any mode to RGB: sixteen bits to eight, the embedded profile to sRGB, transparency over the background."""
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA")
        alpha = image.getchannel("A")
        # A grey profile fits grey alone; the others, colours.
        image = image.convert("L") if image.mode == "LA" else image.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    image = _profile_to_srgb(image, profile)
    if alpha is None:
        return image
    under = Image.new("RGB", image.size, background)
    under.paste(image, mask=alpha)
    return under


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep greys to 0–255; Pillow would clip them to white."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    highest = float(values.max(initial=0))
    if image.mode.startswith("I;16") or highest > 255:
        values = values / 257
    elif image.mode == "F" and highest <= 1:
        values = values * 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _profile_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours, such as the Display P3 of phones; a broken profile counts as none."""
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif profile:
            source = ImageCms.ImageCmsProfile(BytesIO(profile)).profile
            if "srgb" in (source.profile_description or "").lower():
                return _rgb(image)
        else:
            return _rgb(image)
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return _rgb(image)
    return converted or _rgb(image)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
