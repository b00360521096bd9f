"""Start a run: settings settled, photos upright and square, some held out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from portrayal import interruption
from portrayal.config import Config
from portrayal.errors import PhotosError
from portrayal.planning import Plan, check_disk, check_memory, settle
from portrayal.run import Event, Progress, Run
from portrayal.stages.check import heads_drawn, judged, prepare_settings
from portrayal.stages.shared import at_work, silent, tell

if TYPE_CHECKING:
    from portrayal.photos import Finding, Prepared
    from portrayal.photos.examine import Examined


def prepare(
    photos: Path, config: Config, out: Path, *, consent: bool | None = None, progress: Progress = silent
) -> Run:
    """Start a run: settle its settings, make the photos upright and square, choose the held-out ones.

    Raises:
        PhotosError: If there are too few usable photos.
        RunConflictError: If `out` holds another run.
        UsageError: If a setting or prompt cannot be meant.
        WeightsError: If the base cannot be had.
    """
    plan = settle(config)  # a mistake is said before anything is touched
    with at_work(out, progress):
        return begin(photos, plan, out, consent, progress)


def begin(photos: Path, plan: Plan, out: Path, consent: bool | None, progress: Progress) -> Run:
    """Start the run that is planned, or open it."""
    from portrayal.data.manifest import is_whole, save_dataset
    from portrayal.photos.examine import examine_photos
    from portrayal.photos.prepare import assemble_photos

    started = time.monotonic()
    subject, settings = plan.config.subject, prepare_settings(plan)

    def tick(done: int, total: int) -> None:
        progress(Event("prepare", "progress", done, total))
        interruption.check()

    examined = examine_photos(photos, settings, tick)
    prepared = assemble_photos(photos, examined, settings)
    if not (out / "run.json").is_file():
        check_disk(out, plan.disk_gib)
        check_memory(plan.config, plan.device, plan.unet_weights)
    chosen = plan.config.prepare.model_dump()
    done = Run(out, plan.config).finished("prepare", chosen) and is_whole(out / "dataset")
    if not done:
        prepared = replace(prepared, findings=[*prepared.findings, *advised(photos, examined, plan)])
        if plan.config.prepare.captions == "captioner":
            prepared = described(prepared, plan)
        if plan.config.prepare.masks == "model":
            prepared = masked(prepared, plan)
    check_captions(plan, [photo.caption for photo in prepared.photos])  # before anything is written
    run = Run.create(out, plan.config, provenance(plan, list({photo.photo_id for photo in prepared.photos}), consent))
    if done:
        progress(Event("prepare", "skipped"))
        return run
    save_dataset(
        run.dataset_folder,
        prepared,
        resolution=settings.resolution,
        instance_prompt=subject.filled_instance_prompt,
        class_noun=subject.class_noun,
        seed=plan.config.seed,
    )
    for note in plan.notes:
        tell(run, Event("plan", "note", message=note), progress)
    for finding in prepared.findings:
        tell(run, Event("prepare", "note", message=f"{finding.file}: {finding.message}"), progress)
    run.mark_finished("prepare", chosen, time.monotonic() - started)
    tell(run, Event("prepare", "finished"), progress)
    return run


def advised(source: Path, examined: Examined, plan: Plan) -> list[Finding]:
    """What the looks of the photos say, told before anything is trained.

    Raises:
        PhotosError: If the settings are strict and a photo should be dropped.
    """
    from portrayal.photos.advice import advise

    findings = judged(examined, plan, heads_drawn(examined.photos, plan))
    names = {one.id: one.name for one in examined.photos}
    drop = [
        one.file
        for one in advise(names, [*examined.findings, *findings], plan.config.prepare.keep)
        if one.verdict == "drop"
    ]
    if plan.config.prepare.strict and drop:
        raise PhotosError(
            f"{len(drop)} of the {len(names)} photos in {source} should not be trained on: {', '.join(drop)}.",
            f"portrayal prepare --check {source} says why; --set 'prepare.drop={json.dumps(drop)}' leaves them out.",
        )
    return findings


def described(prepared: Prepared, plan: Plan) -> Prepared:
    """Add to the captions that come from the template what each photo shows besides the subject."""
    from portrayal.models.base import choose_device
    from portrayal.models.captioner import load_captioner

    captioner, subject = load_captioner(plan.source, choose_device()), plan.config.subject
    bare = [photo for photo in prepared.photos if photo.caption_from == "template"]
    words = captioner.describe([prepared.images[photo.id] for photo in bare], subject.filled_class_prompt)
    captions = {photo.id: f"{photo.caption} {said}" for photo, said in zip(bare, words, strict=True)}
    photos = [
        replace(photo, caption=captions[photo.id], caption_from="captioner") if photo.id in captions else photo
        for photo in prepared.photos
    ]
    return replace(prepared, photos=photos)


def masked(prepared: Prepared, plan: Plan) -> Prepared:
    """Give the photos without a mask of the user's one that a model makes; what finds nothing, or all, is no mask."""
    from portrayal.models.base import choose_device
    from portrayal.models.masker import load_masker
    from portrayal.photos.masks import useless_mask

    given = {photo.photo_id for photo in prepared.photos if photo.masked}
    bare = [photo for photo in prepared.photos if photo.photo_id not in given]
    if not bare:
        return prepared
    noun = plan.config.subject.class_noun
    made = load_masker(choose_device()).mask([prepared.images[photo.id] for photo in bare], f"a {noun}")
    masks, findings = dict(prepared.masks), list(prepared.findings)
    for photo, mask in zip(bare, made, strict=True):
        finding = useless_mask(photo.source_name, mask, noun)
        if finding is None:
            masks[photo.id] = mask
        else:
            findings.append(finding)
    photos = [replace(photo, masked=photo.id in masks) for photo in prepared.photos]
    return replace(prepared, photos=photos, masks=masks, findings=findings)


def provenance(plan: Plan, photo_ids: Sequence[str], consent: bool | None) -> dict[str, object]:
    """What `run.json` records besides command, versions and machine."""
    stated = {True: "stated by the user", False: "refused", None: "not stated"}[consent]
    base = {
        "name": plan.source.name,
        "kind": plan.source.kind,
        "revision": plan.source.revision,
        "licence": plan.source.licence,
        "sha256": plan.source.weight_hash(),
    }
    family = asdict(plan.source.family)
    return {"base": base, "family": family, "device": plan.device, "consent": stated, "photos": sorted(photo_ids)}


def check_captions(plan: Plan, captions: Sequence[str]) -> None:
    """Refuse captions the base would cut off."""
    from transformers import CLIPTokenizer

    from portrayal.models.base import check_prompts

    folder = plan.source.folder
    check_prompts(CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True), captions)
