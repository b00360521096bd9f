"""Read photos as phones make them: any format, upright, in sRGB, with nothing left of EXIF."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import struct
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from portrayal.errors import PhotosError

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
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, OverflowError),
    *(struct.error, TypeError, IndexError, KeyError, Image.DecompressionBombError),
)
"""What Pillow's decoders raise on damaged bytes: each has its own, and none is documented."""

FindingKind = Literal[
    "unreadable",
    "empty",
    "not_an_image",
    "too_large",
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
]

_header_lock = threading.Lock()


@dataclass(frozen=True)
class Finding:
    """One thing a person should know about one of their files."""

    file: str
    """File name, never a path."""

    kind: FindingKind
    message: str
    """What is the matter, and what would mend it."""

    action: Literal["skipped", "kept"]

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
        message = f"it cannot be opened ({error.strerror or error})"
        raise _unusable(printable(path.name), "unreadable", message) from error
    return decode_photo(printable(path.name), content, background)


def decode_photo(name: str, content: bytes, background: str = "white") -> RawPhoto:
    """Decode one photo.

    Args:
        name: What a person calls it.
        content: The bytes of its file.
        background: Colour under what is transparent, as Pillow names colours.

    Raises:
        UnusablePhotoError: If it is no picture; its `finding` says why. A `PhotosError`.
    """
    if not content:
        raise _unusable(name, "empty", "the file is empty (0 bytes); copy it from the phone again")
    if Path(name).suffix.lower() in RAW_ENDINGS:
        # Most raw files are TIFFs, and Pillow would take their thumbnail for the photo.
        raise _unusable(name, "raw", "it is a camera's raw file; export it as JPEG")
    sha256 = hashlib.sha256(content).hexdigest()
    image, findings = _decode(name, content, background)
    return RawPhoto(sha256[:12], name, image, sha256, findings)


def printable(name: str) -> str:
    """A file name that can be shown: no line breaks or control characters, no broken encoding."""
    safe = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in safe)


def without_metadata(image: Image.Image) -> Image.Image:
    """Copy the pixels to a new RGB image that carries no EXIF, profile, XMP or comment."""
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    return clean


def _unusable(name: str, kind: FindingKind, message: str) -> UnusablePhotoError:
    return UnusablePhotoError(Finding(name, kind, message, "skipped"))


def _decode(name: str, content: bytes, background: str) -> tuple[Image.Image, tuple[Finding, ...]]:
    if _is_heic(content):
        _allow_heic(name)
    try:
        opened = _open(content)
        if opened.width * opened.height > MAX_PIXELS:
            size = f"{opened.width * opened.height // 1_000_000} megapixels"
            message = f"it has {size}, over the limit of {MAX_PIXELS // 1_000_000}; scale it down"
            raise _unusable(name, "too_large", message)
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # an MPO is a photo and its preview
        message = f"it is a series of {frames} pictures; the first is taken"
        image = without_metadata(_to_srgb(ImageOps.exif_transpose(opened), background))
        return image, (Finding(name, "animated", message, "kept"),) if frames > 1 else ()
    except UnidentifiedImageError as error:
        raise _unusable(name, "not_an_image", "its contents are not a picture, whatever its name says") from error
    except DAMAGE as error:
        raise _unusable(name, "unreadable", f"the picture is damaged or cut short ({error}); copy it again") from error


def _open(content: bytes) -> Image.Image:
    """Read a picture's header, pixels later; Pillow's own size limit, a global of 89 megapixels, gives way to ours."""
    with _header_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(BytesIO(content))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_heic(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS and b"avif" not in content[8:64]


def _allow_heic(name: str) -> None:
    if importlib.util.find_spec("pi_heif") is None:
        message = "HEIC photos need one more package: pip install pi-heif, or export the photo as JPEG"
        raise _unusable(name, "heic", message)
    importlib.import_module("pi_heif").register_heif_opener()


def starts_like_an_image(start: bytes) -> bool:
    """Whether the first 64 bytes of a file are those of a picture."""
    return (
        start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and (b"avif" in start[8:] or start[8:12] in HEIC_BRANDS))
    )


def _to_srgb(image: Image.Image, background: str) -> Image.Image:
    """Any mode to RGB: sixteen bits to eight, transparency over the background, the embedded profile to sRGB."""
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, background)
        image.paste(rgba, mask=rgba.getchannel("A"))
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    return _profile_to_srgb(image, profile) if profile else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep greys to 0–255; Pillow would clip them to white."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)
    highest = float(values.max(initial=0))
    if image.mode.startswith("I;16") or highest > 255:
        values = values / 257
    elif image.mode == "F" and highest <= 1:
        values = values * 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _profile_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert colours, such as the Display P3 of phones; a broken profile counts as none."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")
    return converted or image.convert("RGB")
