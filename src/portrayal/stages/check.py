"""Look at photos and give advice, before anything is trained and without making a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from portrayal.config import Config
from portrayal.planning import Plan, settle
from portrayal.run import Event, Progress
from portrayal.stages.shared import silent

if TYPE_CHECKING:
    from portrayal.photos import Finding
    from portrayal.photos.advice import PhotoAdvice, SetAdvice
    from portrayal.photos.examine import Examined, ExaminedPhoto
    from portrayal.photos.settings import PrepareSettings
    from portrayal.photos.watermark import Mark


@dataclass(frozen=True)
class Frame:
    """What is cut out of a photo to be trained on, in pixels of the upright photo.

    Attributes:
        size: Width and height of the photo.
        cut: Left, top, width and height.
    """

    size: tuple[int, int]
    cut: tuple[int, int, int, int]


@dataclass(frozen=True)
class Check:
    """What was found, and what to do about it.

    Attributes:
        photos: Each readable photo with its verdict.
        left_out: Findings on files that cannot be used.
        remarks: What to know of all photos together.
        frames: Of each readable photo, by its file's name.
    """

    photos: tuple[PhotoAdvice, ...]
    left_out: tuple[Finding, ...]
    remarks: SetAdvice
    frames: dict[str, Frame]

    @property
    def fit(self) -> bool:
        """Whether nothing should be dropped or mended, and the set trains well."""
        return not self.remarks.remarks and all(photo.verdict == "keep" for photo in self.photos)

    @property
    def to_drop(self) -> tuple[str, ...]:
        """Names of the photos that should be left out."""
        return tuple(photo.file for photo in self.photos if photo.verdict == "drop")

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "fit": self.fit,
            "photos": [asdict(photo) for photo in self.photos],
            "left_out": [asdict(finding) for finding in self.left_out],
            "remarks": list(self.remarks.remarks),
            "drop": list(self.to_drop),
        }


def check_photos(photos: Path, config: Config, *, sheet: Path | None = None, progress: Progress = silent) -> Check:
    """Look at every photo and at the set.

    Args:
        photos: Folder, archive or picture.
        config: The settings the photos would be trained with.
        sheet: Where to draw the contact sheet, a `.jpg` or `.png`; nothing draws none.
        progress: Called with every event.

    Raises:
        PhotosError: If the source cannot be opened.
        UsageError: If a setting cannot be meant, or `sheet` lies among the photos.
    """
    from portrayal.errors import UsageError
    from portrayal.photos.advice import advise, advise_set
    from portrayal.photos.examine import examine_photos
    from portrayal.photos.sheet import contact_sheet
    from portrayal.run import atomic_path

    if sheet is not None and photos.is_dir() and photos.resolve() in sheet.resolve().parents:
        raise UsageError(f"{sheet} lies among the photos.", "Give another place with --out.")
    plan = settle(config)
    settings = prepare_settings(plan)
    examined = examine_photos(photos, settings, lambda done, total: progress(Event("prepare", "progress", done, total)))
    drawn = heads_drawn(examined.photos, plan)
    findings = [*examined.findings, *judged(examined, plan, drawn)]
    advice = advise({one.id: one.name for one in examined.photos}, findings, settings.keep)
    clear = [one for one, mark in zip(examined.photos, advice, strict=True) if mark.verdict != "drop"]
    clothes, places = ([], []) if drawn is None else surroundings(clear, plan)
    found = Check(
        tuple(advice),
        tuple(finding for finding in findings if finding.action == "skipped"),
        advise_set(advice, [one.look for one in examined.photos], clothes, places),
        {one.name: Frame(one.size, one.training_cuts[0].crop) for one in examined.photos},
    )
    if sheet is not None:
        with atomic_path(sheet) as temporary:
            contact_sheet(
                [(one.view, one.crop_in_view, mark) for one, mark in zip(examined.photos, advice, strict=True)]
            ).save(temporary, "PNG" if sheet.suffix.lower() == ".png" else "JPEG", quality=88)
    return found


def prepare_settings(plan: Plan) -> PrepareSettings:
    """How a plan wants its photos."""
    from portrayal.models.store import cached_file
    from portrayal.photos import PrepareSettings
    from portrayal.photos.faces import YUNET_FILE, YUNET_HUB_ID

    resolution, settings = plan.config.base.resolution, plan.config.prepare
    assert resolution is not None
    return PrepareSettings(
        resolution=resolution,
        instance_prompt=plan.config.subject.filled_instance_prompt,
        num_heldout=settings.num_heldout,
        folds=plan.config.study.folds,
        seed=plan.config.seed,
        min_photos=settings.min_photos,
        background=settings.background,
        crops=settings.crops,
        shape=settings.shape,
        yunet=cached_file(YUNET_HUB_ID, YUNET_FILE),
        drop=settings.drop,
        keep=settings.keep,
        crop=settings.crop,
    )


def judged(examined: Examined, plan: Plan, drawn: Sequence[int] | None) -> list[Finding]:
    """What measures, and in drawings models that know them, say of each photo.

    Args:
        examined: The photos.
        plan: How they would be trained on.
        drawn: What :func:`heads_drawn` counted.
    """
    from portrayal.photos.advice import findings_of, mark_finding, stranger_finding, strangers
    from portrayal.photos.watermark import find_marks

    photos, resolution = examined.photos, plan.config.base.resolution
    assert resolution is not None
    if not photos:
        return []
    people = [one.look.faces or None for one in photos] if drawn is None else drawn
    found = [findings_of(one.name, one.look, resolution, count) for one, count in zip(photos, people, strict=True)]
    if drawn is not None:
        unclear = {"blurred", "dark", "several_people"}
        usable = [not unclear & {finding.kind for finding in findings} for findings in found]
        likeness = likenesses(photos)
        for place in strangers(likeness, usable):
            others = np.delete(likeness[place], place)
            found[place].append(stranger_finding(photos[place].name, float(np.median(others))))
    alike = {finding.file for finding in examined.findings if finding.kind == "near_duplicate"}
    doubles = [place for place, one in enumerate(photos) if one.name in alike]
    for mark in find_marks([one.view for one in photos], doubles):
        for place in mark.photos:
            if seen_in_cut(mark, photos[place]):
                found[place].append(mark_finding(photos[place].name, mark))
    return [finding for findings in found for finding in findings]


def seen_in_cut(mark: Mark, photo: ExaminedPhoto) -> bool:
    """Whether what is cut out of a photo shows a part of a mark."""
    left, top, wide, high = photo.crop_in_view
    width, height = photo.viewed.size
    across = mark.box[0] * width < left + wide and left < mark.box[2] * width
    return across and mark.box[1] * height < top + high and top < mark.box[3] * height


def surroundings(photos: Sequence[ExaminedPhoto], plan: Plan) -> tuple[list[str], list[str]]:
    """Colour of the clothes and place of each drawing."""
    if not photos:
        return [], []
    import torch

    from portrayal.models.captioner import read_surroundings

    class_prompt = plan.config.subject.filled_class_prompt
    return read_surroundings([one.square for one in photos], class_prompt, torch.device("cpu"))


def heads_drawn(photos: Sequence[ExaminedPhoto], plan: Plan) -> list[int] | None:
    """Heads in each drawing; nothing where the base knows no drawings, or most of the photos are none of people.

    Nothing that knows drawings alone is asked about photographs: it would be sure, and wrong.
    """
    if plan.source.kind != "pocket":
        return None
    from portrayal.models.people import count_people, embedded_head_finder

    heads = count_people([one.view for one in photos], embedded_head_finder())
    return heads if sum(count > 0 for count in heads) * 2 > len(heads) else None


def likenesses(photos: Sequence[ExaminedPhoto]) -> Any:
    """Cosines between the photos by `pocket`'s identity encoder, shape `(N, N)`."""
    import torch

    from portrayal.models.encoders import pocket_identity

    vectors = pocket_identity(torch.device("cpu")).images([one.square for one in photos])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T
