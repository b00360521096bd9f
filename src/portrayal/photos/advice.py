"""From measures to advice: what a person should know of each photo and of the set, and what to do about it.

Pure functions of measures and arrays. The thresholds were chosen on drawn people and on the photos named beside them;
`python -m benchmarks.planted_photos` measures what they find on sets they were not chosen on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from portrayal.photos.look import Look
from portrayal.photos.read import Finding, FindingKind
from portrayal.photos.watermark import Mark
from portrayal.sentences import say, say_if_known

Verdict = Literal["keep", "fix", "drop"]
Floats = npt.NDArray[np.floating]

MOST_BLUR: Final = 0.62
"""Sharp drawn people measure 0.21 to 0.33; the same drawings blurred by 5 to 10 of 512 pixels 0.74 to 0.84."""

DARK_LIGHTNESS, DARK_HIGHLIGHTS = 18.0, 30.0
"""L* at which a photo is dark: in the mean, or in all but the lightest twentieth."""

MOST_BURNT: Final = 0.4
"""Share of white pixels; a portrait before a white wall may have a third."""

LEAST_FACE: Final = 0.06
"""Of the height; at 512 pixels a smaller face has 30."""

LEAST_LIKENESS: Final = 0.35
"""Of the set's median: a photo is of someone else if its own median likeness to the rest is less than this share."""

LEAST_FOR_LIKENESS: Final = 5
"""Photos without which nobody can say who does not belong."""

FEWEST, MOST = 10, 25
"""Photos that train well."""

MOST_SHARED, LEAST_FOR_SHARED = 0.5, 6
"""Share of the photos that may show clothes of one colour, or one place; of fewer than six nothing is said. In varied
drawn sets it is 0.38 at most; with three photos of four in the same clothes it was read as more than a half in 29 sets
of 30, and in the same place in all."""

MOST_ALIKE: Final = 0.34
"""Share of the photos that may be look-alikes of others."""

ADVICE: Final[Mapping[FindingKind, Verdict]] = {
    "blurred": "drop",
    "dark": "drop",
    "burnt": "drop",
    "someone_else": "drop",
    "several_people": "fix",
    "small_face": "fix",
    "border": "fix",
    "watermark": "fix",
    "tiny": "drop",
    "small": "fix",
    "near_duplicate": "drop",
}
"""What each finding asks for; all others ask for nothing, or have already left the photo out."""


@dataclass(frozen=True)
class PhotoAdvice:
    """What to do with one photo."""

    id: str
    file: str
    verdict: Verdict
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class SetAdvice:
    """What to know of all photos together: sentences, each with its remedy; none means that the set is fit."""

    remarks: tuple[str, ...]


def findings_of(file: str, look: Look, resolution: int, people: int | None) -> list[Finding]:
    """What one photo's measures say.

    Args:
        file: Its name.
        look: Its measures.
        resolution: Side of the training pictures.
        people: How many people were counted in it, or nothing where nobody counted.
    """
    found: list[Finding] = []

    def note(kind: FindingKind, value: float, message: str) -> None:
        found.append(Finding(file, kind, message, "kept", round(value, 3)))

    if look.short_side * 2 < resolution:
        note(
            "tiny",
            look.short_side,
            say("photo.tiny", n=look.short_side, wanted=resolution),
        )
    if look.blur > MOST_BLUR and look.short_side * 2 >= resolution:
        note(
            "blurred",
            look.blur,
            say("photo.blurred", blur=f"{look.blur:.2f}", most=f"{MOST_BLUR}"),
        )
    if look.lightness < DARK_LIGHTNESS or look.highlights < DARK_HIGHLIGHTS:
        note(
            "dark",
            look.lightness,
            say("photo.dark", lightness=f"{look.lightness:.0f}"),
        )
    if look.burnt > MOST_BURNT:
        note("burnt", look.burnt, say("photo.burnt", share=f"{look.burnt:.0%}"))
    if look.border:
        note("border", look.border, say("photo.border", share=f"{look.border:.0%}"))
    if look.face_share is not None and look.face_share < LEAST_FACE:
        note("small_face", look.face_share, say("photo.small_face", share=f"{look.face_share:.0%}"))
    if people is not None and people > 1:
        note("several_people", people, say("photo.several_people", n=people))
    return found


def strangers(likeness: Floats, usable: Sequence[bool]) -> list[int]:
    """Which photos show someone else.

    The median of a photo's cosines to the others is held against the median over all: in a set that is mostly of one
    person it hardly depends on how good the photos are, and one stranger cannot move it.

    Args:
        likeness: Cosines between the photos, shape `(N, N)`.
        usable: Which photos can tell a face at all; the others are not asked, and count for nobody.

    Returns:
        Places of the strangers; none among fewer than five usable photos.
    """
    asked = np.flatnonzero(np.asarray(usable, bool))
    if len(asked) < LEAST_FOR_LIKENESS:
        return []
    part = np.array(likeness, float)[np.ix_(asked, asked)]
    np.fill_diagonal(part, np.nan)
    own = np.nanmedian(part, axis=1)
    least = LEAST_LIKENESS * float(np.median(own))
    return [int(asked[place]) for place in np.flatnonzero(own < least)]


def stranger_finding(file: str, likeness: float) -> Finding:
    """Say that a photo shows someone else."""
    message = say("photo.someone_else", likeness=f"{likeness:.2f}")
    return Finding(file, "someone_else", message, "kept", round(likeness, 3))


def mark_finding(file: str, mark: Mark) -> Finding:
    """Say that a photo has a mark that others have too."""
    number = len(mark.photos)
    message = say("photo.watermark", n=number, where=say(f"mark.{mark.where.replace(' ', '_')}"))
    return Finding(file, "watermark", message, "kept", number)


def advise(photos: Mapping[str, str], findings: Sequence[Finding], keep: Collection[str] = ()) -> list[PhotoAdvice]:
    """A verdict for each photo: the hardest that its findings ask for.

    Args:
        photos: File names by id, in order.
        findings: Of all photos.
        keep: Files that a person wants kept, whatever was found.
    """
    hardness: dict[Verdict, int] = {"keep": 0, "fix": 1, "drop": 2}
    advice = []
    for photo, file in photos.items():
        own = tuple(finding for finding in findings if finding.file == file and finding.action == "kept")
        asked = [] if file in keep else [ADVICE.get(finding.kind, "keep") for finding in own]
        verdicts: list[Verdict] = ["keep", *asked]
        advice.append(PhotoAdvice(photo, file, max(verdicts, key=hardness.__getitem__), own))
    return advice


def advise_set(
    advice: Sequence[PhotoAdvice], looks: Sequence[Look], clothes: Sequence[str] = (), places: Sequence[str] = ()
) -> SetAdvice:
    """What to know of the set.

    Args:
        advice: On each photo.
        looks: Of each photo.
        clothes: Their colour in each photo that can be read.
        places: Where, such as `in the kitchen`.
    """
    good = sum(one.verdict != "drop" for one in advice)
    alike = sum(any(finding.kind == "near_duplicate" for finding in one.findings) for one in advice)
    remarks = []
    if good < FEWEST:
        remarks.append(say("photos.few", n=good, fewest=FEWEST, most=MOST))
    if good > MOST:
        remarks.append(say("photos.many", n=good, fewest=FEWEST, most=MOST))
    if alike > MOST_ALIKE * max(1, len(advice)):
        remarks.append(say("photos.alike", n=alike, total=len(advice)))
    remarks += [
        say("photos.clothes", n=count, total=len(clothes), colour=say_if_known(f"colour.{colour}", colour))
        for colour, count in most_shared(clothes)
    ]
    remarks += [
        say("photos.place", n=count, total=len(places), place=say_if_known(f"place.{place.replace(' ', '_')}", place))
        for place, count in most_shared(places)
    ]
    shares = [look.face_share for look in looks if look.face_share is not None]
    if len(shares) >= FEWEST and min(shares) > 0.6 * max(shares):
        remarks.append(say("photos.sizes"))
    return SetAdvice(tuple(remarks))


def most_shared(words: Sequence[str]) -> list[tuple[str, int]]:
    """What more of the photos show than may, and how many; nothing in a varied or a small set."""
    if len(words) < LEAST_FOR_SHARED:
        return []
    return [(said, count) for said, count in Counter(words).most_common(1) if count > MOST_SHARED * len(words)]
