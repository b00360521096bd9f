"""Which photos are held out of which trainings, to judge these by."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from portrayal.errors import PhotosError, UsageError

MAX_HELDOUT = 4
MIN_TRAINING = 2


def choose_folds(
    ids: Collection[str],
    near_duplicates: Mapping[str, str],
    *,
    folds: int,
    num_heldout: int | None,
    seed: int,
) -> dict[str, int]:
    """Deal the photos to judge by into disjoint parts, as a function of the seed and the photos' contents alone.

    Photos are ranked by a hash of seed and id. Look-alikes are never on both sides of a split, for a look-alike in
    training would make the judgement too kind: where every photo has its turn they share a part; where only some have,
    they are never held out.

    Args:
        ids: Ids of all photos.
        near_duplicates: The first photo of its group for each photo that looks like it.
        folds: How many parts.
        num_heldout: Photos of a part; nothing means all photos, dealt evenly, or, with a single part, a fifth, one at
            least and four at most.
        seed: Seed of the ranking.

    Returns:
        Number of the part, from 0, of each photo that is in one.

    Raises:
        UsageError: If there are not enough photos for this, or too many have look-alikes.
        PhotosError: If every photo has a look-alike.
    """
    ranked = sorted(ids, key=lambda photo: hashlib.sha256(f"{seed}:{photo}".encode()).hexdigest())
    if folds > 1 and num_heldout is None:
        return _dealt(ranked, near_duplicates, folds)
    alike = {*near_duplicates.keys(), *near_duplicates.values()}
    candidates = [photo for photo in ranked if photo not in alike]
    if not candidates:
        raise PhotosError(
            f"Each of the {len(ids)} photos looks almost the same as another, so none can be held out to judge by.",
            "Add photos from other moments, places or angles.",
        )
    if num_heldout is None:
        num_heldout = min(MAX_HELDOUT, max(1, round(len(ids) / 5)), len(candidates))
    most = min(len(ids) - MIN_TRAINING, len(candidates) // folds)
    if num_heldout > most:
        because = f", {len(alike)} of them with look-alikes that must be trained on" if alike else ""
        times = f" in each of {folds} folds" if folds > 1 else ""
        raise UsageError(
            f"num_heldout = {num_heldout} is too many for {len(ids)} photos{because}{times}.",
            f"Hold out {most} at most, or add photos." if most else f"Lower study.folds to {len(candidates)}.",
        )
    return {photo: place // num_heldout for place, photo in enumerate(candidates[: folds * num_heldout])}


def _dealt(ranked: Sequence[str], near_duplicates: Mapping[str, str], folds: int) -> dict[str, int]:
    """Every photo in one part, look-alikes together, the parts as even as that allows."""
    groups: dict[str, list[str]] = {}
    for photo in ranked:
        groups.setdefault(near_duplicates.get(photo, photo), []).append(photo)
    if folds > len(groups):
        different = f"{len(groups)} different photos" if len(groups) < len(ranked) else f"{len(ranked)} photos"
        raise UsageError(
            f"study.folds = {folds} is too many for {different}: each fold holds out one or more.",
            f"Set study.folds={len(groups)}, or add photos.",
        )
    parts: list[list[str]] = [[] for _ in range(folds)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).extend(group)
    left = len(ranked) - max(map(len, parts))
    if left < MIN_TRAINING:
        raise UsageError(
            f"{len(ranked)} photos in {folds} folds leave {left} to train on when the largest fold is held out.",
            "Add photos from other moments, places or angles"
            + (f", or set study.folds={len(groups)}." if folds < len(groups) else "."),
        )
    return {photo: number for number, part in enumerate(parts) for photo in part}
