"""What a source of photos holds: files whose bytes are read when they are wanted, and findings about the others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from portrayal.photos.read import Finding, FindingKind, printable

KOHYA_FOLDER = re.compile(r"(\d+)_(\S.*)")
"""`10_sks person`: repeats, then the words of the subject (sd-scripts)."""

ARCHIVE_ENDINGS = frozenset({".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"})


@dataclass(frozen=True)
class PhotoFile:
    """One file that may be a photo; its bytes are read when they are wanted."""

    name: str
    """What a person calls it: file name, with its folder inside an archive; printable, and never a path of the disk."""

    content: Callable[[], bytes]
    """Reads the bytes. Raises UnusablePhotoError."""

    caption: str | None = None
    mask: Callable[[], bytes] | None = None
    """Reads `NAME.mask.png`: white where the subject is."""


@dataclass(frozen=True)
class KohyaFolder:
    """A training folder of kohya's, and what its name says."""

    name: str
    repeats: int
    token: str
    """The first word: `subject.instance_token`."""

    class_noun: str
    """The others; empty where there is but one."""


@dataclass
class Found:
    """What a source holds, by name."""

    photos: list[PhotoFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    kohya: list[KohyaFolder] = field(default_factory=list)

    def skip(self, name: str, kind: FindingKind, message: str) -> None:
        """Note that a file is left out."""
        self.findings.append(Finding(printable(name), kind, message, "skipped"))


@dataclass(frozen=True)
class Entry:
    """A file of a folder or archive."""

    read: Callable[[int], bytes]
    """Its bytes, at most so many. Raises OSError, ValueError or UnusablePhotoError."""

    starts_like_an_image: Callable[[], bool]


def recognise_kohya(name: str, found: Found) -> bool:
    """Whether a folder's name is one of kohya's; says so."""
    kohya = KOHYA_FOLDER.fullmatch(name)
    if kohya is None:
        return False
    token, _, noun = kohya[2].partition(" ")
    folder = KohyaFolder(printable(name), int(kohya[1]), printable(token), printable(noun.strip()))
    found.kohya.append(folder)
    noun = f"class_noun={folder.class_noun!r}" if folder.class_noun else "no class noun"
    message = (
        f"it is a training folder of kohya's: {folder.repeats} repeats, instance_token={folder.token!r}, {noun}; "
        "here every photo counts once, and the words are settings of subject"
    )
    found.findings.append(Finding(folder.name, "kohya_folder", message, "kept"))
    return True


def name_key(name: str) -> str:
    """What names are compared by: phones and Macs write capitals and accents in ways of their own."""
    return unicodedata.normalize("NFC", name).lower()
