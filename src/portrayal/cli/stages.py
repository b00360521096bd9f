"""The stages of a run one by one: prepare, train, evaluate, report. Painting has a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import portrayal
from portrayal.cli.flags import (
    BaseFlag,
    ClassFlag,
    ConsentFlag,
    GpusFlag,
    JsonFlag,
    ModelFlag,
    OutFlag,
    Photos,
    QuickFlag,
    RecipeFlag,
    RunFolder,
    SetFlag,
    ThoroughFlag,
    VaeFlag,
    ask_consent,
    effort,
    folder_for,
    name_of,
    overrides,
)
from portrayal.cli.launcher import share_out
from portrayal.cli.outcome import fail, outcome, say
from portrayal.cli.printing import progress_lines, show_check, show_scores


def prepare(
    photos: Photos,
    base: BaseFlag = None,
    class_noun: ClassFlag = None,
    out: OutFlag = None,
    recipe: RecipeFlag = None,
    settings: SetFlag = None,
    quick: QuickFlag = False,
    thorough: ThoroughFlag = False,
    vae: VaeFlag = None,
    consent: ConsentFlag = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only look: a verdict on each photo and on the set, and a contact sheet; no run."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", hidden=True)] = False,  # short for one setting
    as_json: JsonFlag = False,
) -> None:
    """Start a run: upright square pictures, captions, held-out photos, and what was found."""
    with outcome("prepare", as_json) as result:
        wanted = [*(settings or ()), *(["prepare.strict=true"] if strict else [])]
        plan = portrayal.make_plan(recipe, [*effort(quick, thorough), *overrides(base, class_noun, wanted, vae)])
        if check:
            sheet = out or Path(f"{name_of(photos)}-check.jpg")
            with progress_lines() as progress:
                found = portrayal.check_photos(photos, plan.config, sheet=sheet, progress=progress)
            show_check(found.as_json(), sheet, result, as_json)
            if plan.config.prepare.strict and found.to_drop:
                said = f"{len(found.to_drop)} of {len(found.photos)} photos should not be trained on."
                fail(result, as_json, 4, said, "Leave them out with prepare.drop, or keep them with prepare.keep.")
            return
        agreed = ask_consent(consent, as_json)
        with progress_lines(plan) as progress:
            started = portrayal.prepare(photos, plan.config, folder_for(photos, out), consent=agreed, progress=progress)
        say(result, as_json, run=str(started.folder), next=f"portrayal train {started.folder}")


def train(folder: RunFolder, model: ModelFlag = None, gpus: GpusFlag = None, as_json: JsonFlag = False) -> None:
    """Train the models of a run that are not trained yet.

    LoRAs are dealt out over `--gpus`; a full UNet's step is shared where `training.gradient_accumulation_steps` is a
    multiple of them. `accelerate launch --num_processes 4 -m portrayal train RUN` does the same.
    """
    with outcome("train", as_json) as result:
        opened = portrayal.Run.open(folder)
        if (gpus or 1) > 1:
            share_out(gpus)
        with progress_lines() as progress:
            portrayal.train(opened, model or (), progress=progress)
        say(result, as_json, run=str(folder), next=f"portrayal generate {folder}")


def evaluate(folder: RunFolder, as_json: JsonFlag = False) -> None:
    """Judge the models of a run, held to outlines and poses too; train the recommended one on all photos."""
    with outcome("evaluate", as_json) as result:
        opened = portrayal.Run.open(folder)
        with progress_lines() as progress:
            portrayal.evaluate(opened, progress=progress)
        show_scores(opened, result, as_json)


def report(folder: RunFolder, as_json: JsonFlag = False) -> None:
    """Write the report of a run: one HTML file, and Markdown with pictures."""
    with outcome("report", as_json) as result:
        opened = portrayal.Run.open(folder)
        with progress_lines() as progress:
            page = portrayal.write_report(opened, progress=progress)
        say(result, as_json, report=str(page))
