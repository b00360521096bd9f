"""The command line: parse, call the public API, print; nothing else."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import portrayal

app = typer.Typer(
    name="portrayal",
    help="Ten to twenty photos of a person → tuned Stable Diffusion weights, a verdict on LoRA rank, pictures, report.",
    epilog="Exit codes: 0 done · 1 a fault of ours · 2 usage · 3 this machine · 4 photos · 5 weights · 6 memory · "
    "7 training diverged · 8 some subjects of a batch failed · 130 interrupted (the same command goes on).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

models_app = typer.Typer(
    no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode="markdown"
)
app.add_typer(models_app, name="models", help="The models of others: list, fetch and verify them.")

EXPECTED_OS_ERRORS = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT, errno.EIO}

Photos = Annotated[
    Path, typer.Argument(help="Folder or .zip of ten to twenty photos of one person.", show_default=False)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)]
BaseFlag = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="pocket, sd15, a hub id, a diffusers folder or a .safetensors file.",
        show_default="chosen by machine",
    ),
]
ClassFlag = Annotated[
    str | None,
    typer.Option("--class", metavar="NOUN", help="What the subject is: woman, man, dog, …", show_default="person"),
]
OutFlag = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder of the run; with --check, the contact sheet.", show_default="runs/NAME OF THE PHOTOS"
    ),
]
RecipeFlag = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Settings to start from: a shipped recipe or a TOML file.",
        show_default="chosen by base and GPU",
    ),
]
SetFlag = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated.")
]
QuickFlag = Annotated[bool, typer.Option("--quick", hidden=True)]  # shorthands for settings, told in the command's help
ThoroughFlag = Annotated[bool, typer.Option("--thorough", hidden=True)]
VaeFlag = Annotated[str | None, typer.Option("--vae", hidden=True)]  # short for one setting, told in the help of run
ConsentFlag = Annotated[
    bool | None,
    typer.Option(
        "--consent", help="The subject agreed to this (or is drawn, or an animal).", show_default="asked once"
    ),
]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Print the settled plan and stop.")]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON object on standard output; progress on standard error.")
]
ModelFlag = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="unet, lora-64, …; may be repeated.", show_default="all"),
]
GpusFlag = Annotated[
    int | None, typer.Option("--gpus", min=1, help="Share the work out over so many GPUs of this machine.")
]
HiddenGpusFlag = Annotated[int | None, typer.Option("--gpus", min=1, hidden=True)]  # told in the help of run


@app.command()
def run(
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
    gpus: HiddenGpusFlag = None,
    dry_run: DryRunFlag = False,
    live: Annotated[bool, typer.Option("--live", hidden=True)] = False,
    as_json: JsonFlag = False,
) -> None:
    """Do the whole job: prepare, train, paint, judge, report. The same command again goes on where it stopped.

    Each LoRA is trained three times, each time without a third of the photos, and judged on that third. `--quick`
    trains each model just once: sooner done, and the verdict cannot know the luck of a training. `--thorough` trains
    each LoRA fifteen times, and sees finer differences. `--vae` puts another autoencoder in the base: a hub id, a
    diffusers folder or a .safetensors file. `--gpus 4` shares the work out over four GPUs of this machine. `--live`
    looks at trainings as they go on, not when they are done: their pictures and readings are there sooner, and the
    same.

    Examples:

    portrayal run photos/ann --class woman

    portrayal run photos/rex --class dog --base sd15 --recipe sd15-24gb --quick

    portrayal run photos/ann --set study.ranks=[8,16] --set seed=7 --dry-run
    """
    with outcome("run", as_json) as result:
        plan = portrayal.make_plan(recipe, [*effort(quick, thorough), *overrides(base, class_noun, settings, vae)])
        if dry_run:
            show_plan(plan, result, as_json)
            return
        agreed = ask_consent(consent, as_json)
        if (gpus or 1) > 1:
            share_out(gpus, ["--consent"] if agreed and not consent else [])
        with progress_lines(plan) as progress:
            finished = portrayal.portray(
                photos, plan.config, folder_for(photos, out), consent=agreed, progress=progress, live=live
            )
        show_scores(finished, result, as_json)


@app.command()
def plan(
    base: BaseFlag = None,
    class_noun: ClassFlag = None,
    recipe: RecipeFlag = None,
    settings: SetFlag = None,
    quick: QuickFlag = False,
    thorough: ThoroughFlag = False,
    vae: VaeFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what a run would do here, how long it would take and what memory it needs; make nothing.

    The print is a recipe: give it to `--recipe`. `portrayal run PHOTOS --dry-run` prints the same.
    """
    with outcome("plan", as_json) as result:
        flags = [*effort(quick, thorough), *overrides(base, class_noun, settings, vae)]
        show_plan(portrayal.make_plan(recipe, flags), result, as_json)


@app.command()
def batch(
    subjects: Annotated[
        Path, typer.Argument(help="Folder of folders of photos, or a CSV or TOML table.", show_default=False)
    ],
    base: BaseFlag = None,
    class_noun: ClassFlag = None,
    out: Annotated[
        str, typer.Option("--out", help="Folder of the runs, or an address such as s3://bucket/runs.")
    ] = "runs",
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Settings to start from; several: each subject by each.", show_default="chosen"),
    ] = None,
    settings: SetFlag = None,
    quick: QuickFlag = False,
    thorough: ThoroughFlag = False,
    consent: ConsentFlag = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster to use; none: without Ray.", show_default="this machine"),
    ] = None,
    at_once: Annotated[int | None, typer.Option("--at-once", min=1, hidden=True)] = None,
    as_json: JsonFlag = False,
) -> None:
    """Do the whole job for many subjects: several at once where Ray is installed, else one after another.

    A subject that fails is told, and the others go on. The same command again goes on where it stopped and tries
    again what failed. A table has `photos`, and perhaps `name`, `class`, `recipe`, `consent` and settings by their full
    names, such as `study.ranks`. As many studies share a GPU as its memory holds by the plan; `--at-once 2` says how
    many. `batch.html` in `--out` sums up all of them. docs/scale.md says how to start it on
    Slurm, Kubernetes or a list of machines.

    Examples:

    portrayal batch photos/ --class person --consent

    portrayal batch people.csv --recipe sd15-24gb --quick --out s3://bucket/runs --address 10.0.0.1:6379
    """
    with outcome("batch", as_json) as result:
        agreed = ask_consent(consent, as_json)
        given = [*effort(quick, thorough), *overrides(base, class_noun, settings)]
        with batch_table() as watch:
            summary = portrayal.run_batch(
                subjects, out, recipe or (), given, consent=agreed, address=address, at_once=at_once, watch=watch
            )
        result["summary"] = summary
        failed = summary["failed"]
        if failed:
            named = ", ".join(one["name"] for one in failed[:5]) + (" …" if len(failed) > 5 else "")
            said = f"{len(failed)} of {summary['subjects']} subjects failed: {named}."
            fail(result, as_json, 8, said, f"{out}/batch.html says why; the same command tries them again.")
        say(result, as_json, runs=out, report=f"{out.rstrip('/')}/batch.html")


@app.command()
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


@app.command()
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


@app.command()
def generate(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Folder of a run; without, a base paints.", show_default=False),
    ] = None,
    model: ModelFlag = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="Paint this instead of the scenes; {subject} is the person.", show_default=False),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, hidden=True)] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the first picture.", show_default="0")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="FILE[:STRENGTH]", help="A LoRA on top, anybody's; may be repeated."),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option("--control", metavar="PICTURE", help="Keep its outline or pose (ControlNet); may be repeated."),
    ] = None,
    control_kind: Annotated[list[str] | None, typer.Option("--control-kind", hidden=True)] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="PICTURE", help="Paint a picture of ours again; other flags change it."),
    ] = None,
    base: Annotated[str | None, typer.Option("--base", hidden=True)] = None,
    out: Annotated[Path | None, typer.Option("--out", hidden=True)] = None,
    settings: SetFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Paint the run's scenes, or anything else with its models, or with a base and LoRA files.

    `--count 8` paints eight pictures of each prompt instead of four. `--control-kind KIND:SCALE:START-END` says of each
    `--control` what is kept (canny: the outline, openpose: the pose), how strongly, and in which part of the steps.
    Without RUN, `--base` paints, by default the one this machine would choose, into `--out`, by default `pictures`.

    Examples:

    portrayal generate runs/ann --prompt "a photo of {subject} at the (beach:1.2)" --seed 7

    portrayal generate runs/ann --prompt "{subject} dancing" --control dancer.jpg --control-kind openpose:0.8:0-0.6

    portrayal generate --base sd15 --lora ann.safetensors:0.8 --prompt "a photo of sks woman"

    portrayal generate --like runs/ann/pictures/final/0003.png --set "generation.sampler=Euler a"
    """
    with outcome("generate", as_json) as result:
        opened = None if folder is None else portrayal.Run.open(folder)
        check_generate(opened, prompt, like, base, out, [count, seed, lora, control, control_kind, settings])
        with progress_lines() as progress:
            if opened is not None and prompt is None and like is None:
                portrayal.generate(opened, model or (), progress=progress)
                images = opened.folder / "images"
                say(result, as_json, pictures=str(images), next=f"portrayal evaluate {folder}")
                return
            common: dict[str, Any] = {"loras": lora or (), "overrides": settings or (), "progress": progress}
            if like is not None:
                common |= {"prompts": prompt or (), "models": model or (), "count": count or 1, "seed": seed}
                painted = portrayal.paint_like(like, opened, base=base, out=out, **common)
            else:
                common |= {"count": count or 4, "seed": seed or 0}
                common |= {"controls": control or (), "control_kinds": control_kind or ()}
                if opened is not None:
                    painted = portrayal.paint(opened, prompt or (), model or (), **common)
                else:
                    painted = portrayal.paint_base(prompt or (), out or Path("pictures"), base=base, **common)
        say(result, as_json, pictures=[str(path) for path in painted])


def check_generate(
    opened: portrayal.Run | None,
    prompt: list[str] | None,
    like: Path | None,
    base: str | None,
    out: Path | None,
    painting: list[Any],
) -> None:
    """Refuse flags that do not go together."""
    if opened is not None and (base is not None or out is not None):
        raise typer.BadParameter("--base and --out are for painting without a run.")
    if like is not None and (painting[3] or painting[4]):
        raise typer.BadParameter("--like keeps to what its picture kept to; leave --control and --control-kind out.")
    if prompt is not None or like is not None:
        return
    if opened is None:
        raise typer.BadParameter("give the folder of a run, or say what to paint with --prompt or --like.")
    if any(value is not None for value in painting):
        raise typer.BadParameter(
            "--count, --seed, --lora, --control, --control-kind and --set go with --prompt; "
            "scenes are painted as the run's settings say."
        )


@app.command()
def evaluate(folder: RunFolder, as_json: JsonFlag = False) -> None:
    """Judge the models of a run, held to outlines and poses too; train the recommended one on all photos."""
    with outcome("evaluate", as_json) as result:
        opened = portrayal.Run.open(folder)
        with progress_lines() as progress:
            portrayal.evaluate(opened, progress=progress)
        show_scores(opened, result, as_json)


@app.command()
def report(folder: RunFolder, as_json: JsonFlag = False) -> None:
    """Write the report of a run: one HTML file, and Markdown with pictures."""
    with outcome("report", as_json) as result:
        opened = portrayal.Run.open(folder)
        with progress_lines() as progress:
            page = portrayal.write_report(opened, progress=progress)
        say(result, as_json, report=str(page))


@app.command()
def export(
    folder: RunFolder,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM,…",
            help="kohya (AUTOMATIC1111, Forge, ComfyUI), diffusers, single-file (a whole checkpoint), "
            "pipeline (a whole diffusers folder).",
        ),
    ] = "diffusers,kohya,single-file",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="unet, lora-64, …; may be repeated.", show_default="final"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the files.", show_default="RUN/exports")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp16, bf16 or fp32.", show_default="the run's")
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="How strongly a LoRA counts in a checkpoint or pipeline.")
    ] = 1.0,
    rank: Annotated[
        int | None,
        typer.Option("--rank", min=1, help="Cut a LoRA to this rank; says what is lost.", show_default="its"),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write trained models in the forms that other tools read.

    Examples:

    portrayal export runs/ann

    portrayal export runs/ann --to kohya --model lora-64 --rank 16

    portrayal export runs/ann --to single-file --strength 0.8 --precision fp32
    """
    with outcome("export", as_json) as result:
        opened = portrayal.Run.open(folder)
        forms = [form.strip() for form in to.split(",") if form.strip()]
        with progress_lines() as progress:
            written = portrayal.export_models(
                opened,
                forms,
                model or (),
                out=out,
                precision=precision,
                strength=strength,
                rank=rank,
                progress=progress,
            )
        say(result, as_json, files=[str(path) for path in written])


@app.command()
def studio(
    root: Annotated[Path, typer.Option("--root", help="Folder of the projects.")] = Path("runs"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 7860,
    share_on_lan: Annotated[
        bool, typer.Option("--share-on-lan", help="Let other machines of the network in, by a password.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only serve; open no page.")] = False,
    recipe: RecipeFlag = None,
) -> None:
    """Open a web page that does it all: photos, plan, training as it goes, comparison, pictures, files for other tools.

    It listens on this machine alone, and asks nothing of the network. Work goes on when the page is closed, and when
    this command ends. `--share-on-lan` asks for a password, or takes PORTRAYAL_STUDIO_PASSWORD.

    Examples:

    portrayal studio

    portrayal studio --root /data/portraits --port 8000 --no-browser
    """
    with outcome("studio", False):
        portrayal.open_studio(root, port=port, share_on_lan=share_on_lan, browser=not no_browser, recipe=recipe)


@app.command()
def publish(
    folder: RunFolder,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where to, on the Hub.", show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="unet, lora-64, …", show_default="final")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    photos: Annotated[bool, typer.Option("--photos", help="Upload the training photos too.")] = False,
    consent: Annotated[bool, typer.Option("--consent", help="The person agrees to this.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before uploading.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Upload a trained model to the Hugging Face Hub: privately, unless you say otherwise.

    It says what will be uploaded, and asks. A model card, the weights and a few generated pictures go; photos do not.
    """
    with outcome("publish", as_json) as result:
        opened = portrayal.Run.open(folder)

        def agree(publication: Any) -> bool:
            for line in publication.lines():
                typer.echo(line, err=True)
            return yes or (sys.stdin.isatty() and typer.confirm("Upload this?", err=True))

        with progress_lines() as progress:
            address = portrayal.publish(
                opened,
                repository,
                model,
                private=not public,
                photos=photos,
                consent=consent,
                agree=agree,
                progress=progress,
            )
        if address is None:
            fail(result, as_json, 2, "Nothing was uploaded.", "Say yes, or give --yes.")
        say(result, as_json, published=address)


@app.command()
def export_photos(
    folder: RunFolder,
    out: Annotated[Path, typer.Argument(help="Folder that gets the training folder.", show_default=False)],
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How often a photo counts in an epoch.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Write a run's training photos and captions as kohya's sd-scripts and OneTrainer read them."""
    with outcome("export-photos", as_json) as result:
        written = portrayal.export_photos(portrayal.Run.open(folder), out, repeats=repeats)
        say(result, as_json, photos=str(written))


@app.command()
def verify(folder: RunFolder, as_json: JsonFlag = False) -> None:
    """Look whether a run is what was made: checksums, completeness, and that its weights load and paint.

    Nothing is changed. What is damaged can be deleted: the run's own command makes it again.
    """
    with outcome("verify", as_json) as result:
        from portrayal.progress import print_verified

        opened = portrayal.Run.open(folder)
        with progress_lines() as progress:
            found = portrayal.verify_run(opened, progress=progress).as_json()
        result.update(found)
        if not as_json:
            print_verified(found)
        if found["problems"]:
            said = f"{folder} is damaged: {'; '.join(found['problems'][:3])}."
            fail(result, as_json, 5, said, "Delete what is named; the run's own command makes it again.")


@app.command()
def doctor(
    out: Annotated[Path, typer.Option("--out", help="Where runs are to go.")] = Path("runs"),
    as_json: JsonFlag = False,
) -> None:
    """Look over this machine: what would stop a run, or slow it, and the command that mends it."""
    with outcome("doctor", as_json) as result:
        from portrayal.progress import print_findings

        found = [one.as_json() for one in portrayal.doctor(out)]
        result["checks"] = found
        if not as_json:
            print_findings(found)
        failed = [one for one in found if one["state"] == "fail"]
        if failed:
            said = f"Runs will not work here: {', '.join(one['name'] for one in failed)}."
            fail(result, as_json, 3, said, failed[0]["fix"])


ModelNames = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names or hub ids.", show_default=False)]


@models_app.command("list")
def models_list(as_json: JsonFlag = False) -> None:
    """Every model a run may fetch: its job, size and licence, and whether it is on this machine."""
    with outcome("models list", as_json) as result:
        from portrayal.progress import print_models

        result["models"] = portrayal.list_models()
        if not as_json:
            print_models(result["models"])


@models_app.command("fetch")
def models_fetch(names: ModelNames, as_json: JsonFlag = False) -> None:
    """Fetch models, so that runs need no network; says size and licence first."""
    with outcome("models fetch", as_json) as result, progress_lines() as progress:
        result["models"] = portrayal.fetch_models(names, progress=progress)


@models_app.command("verify")
def models_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Names or hub ids.", show_default="all that are here")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that models on this machine are whole: against the hashes they were fetched by."""
    with outcome("models verify", as_json) as result, progress_lines() as progress:
        result["models"] = portrayal.verify_models(names or (), progress=progress)


def share_out(gpus: int | None, more: Sequence[str] = ()) -> NoReturn:
    """Let several processes do this command instead, and leave as they do."""
    given = [word for word in sys.argv[1:] if not word.startswith("--gpus=")]
    if "--gpus" in given:
        place = given.index("--gpus")
        del given[place : place + 2]
    raise typer.Exit(portrayal.share_out([*given, *more], gpus or 1))


def overrides(
    base: str | None, class_noun: str | None, settings: list[str] | None, vae: str | None = None
) -> list[str]:
    """The flags as settings, before those of --set."""
    flags = {"base.name": base, "base.vae": vae, "subject.class_noun": class_noun}
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in flags.items() if value is not None] + (
        settings or []
    )


def effort(quick: bool, thorough: bool) -> list[str]:
    """How large a study is, as settings."""
    if quick and thorough:
        raise typer.BadParameter("--quick and --thorough are opposites; leave one out.")
    return portrayal.effort_settings("quick" if quick else "thorough" if thorough else "balanced")


def folder_for(photos: Path, out: Path | None) -> Path:
    """Where a run goes when nobody said."""
    return out or Path("runs") / name_of(photos)


def name_of(photos: Path) -> str:
    """What a set of photos is called: its folder, or its archive without the ending."""
    named = photos.resolve()
    return (named.stem if named.is_file() else named.name) or "run"


def ask_consent(consent: bool | None, as_json: bool) -> bool | None:
    """Ask once, of a person at a terminal, whether the subject agreed."""
    if consent is not None or as_json or not sys.stdin.isatty():
        return consent
    if not typer.confirm("Did the person in these photos agree to this (or are they drawn, or an animal)?"):
        typer.secho(
            "✗ Nobody is trained on without their consent; nothing was made. Ask them first.", fg="red", err=True
        )
        raise typer.Exit(2)
    return True


@contextmanager
def outcome(command: str, as_json: bool) -> Iterator[dict[str, Any]]:
    """Collect what a command has to say; on an error, say cause and remedy and leave with its exit code."""
    result: dict[str, Any] = {"schema": 1, "ok": True, "command": command}
    try:
        yield result
        if as_json:
            typer.echo(json.dumps(result))
    except portrayal.PortrayalError as error:
        fail(result, as_json, error.exit_code, error.cause, error.remedy)
    except KeyboardInterrupt:
        said = f"The same command goes on: {shlex.join(['portrayal', *sys.argv[1:]])}"
        fail(result, as_json, 130, "Interrupted; what was finished is kept.", said)
    except OSError as error:
        cause = f"{error.filename or 'The disk'}: {error.strerror}."
        if error.errno == errno.ENAMETOOLONG:
            fail(result, as_json, 2, cause, "Give a shorter name.")
        if error.errno not in EXPECTED_OS_ERRORS:
            raise
        remedy = "Free some space or choose another folder with --out, then run the same command again."
        fail(result, as_json, 3, cause, remedy)


def fail(result: dict[str, Any], as_json: bool, code: int, cause: str, remedy: str) -> NoReturn:
    """Say what went wrong and leave."""
    if as_json:
        typer.echo(json.dumps(result | {"ok": False, "error": {"code": code, "message": cause, "fix": remedy}}))
    typer.secho(f"✗ {cause}", fg="red", err=True)
    if remedy:
        typer.echo(f"  {remedy}", err=True)
    if os.environ.get("PORTRAYAL_TRACEBACK"):
        traceback.print_exc()
    raise typer.Exit(code)


def say(result: dict[str, Any], as_json: bool, **values: Any) -> None:
    """Add to the JSON, or print line by line."""
    result.update(values)
    if not as_json:
        for key, value in values.items():
            for line in value if isinstance(value, list) else [value]:
                typer.echo(f"{key:>9}  {line}")


@contextmanager
def batch_table() -> Iterator[Any]:
    """A row for each subject, on standard error."""
    from portrayal.scale.table import BatchTable

    with BatchTable() as table:
        yield table.show


@contextmanager
def progress_lines(plan: portrayal.Plan | None = None) -> Iterator[Any]:
    """One line for each stage, with rate and time left, on standard error."""
    from rich.markup import escape

    from portrayal.progress import ProgressLines

    if follows():
        yield lambda _: None
        return
    with ProgressLines() as lines:
        if plan is not None:
            lines.print(f"base [bold]{escape(plan.source.name)}[/] on {plan.device}: {escape(plan.source.reason)}")
            lines.print(f"recipe [bold]{escape(plan.config.recipe or 'none')}[/]")
        yield lines.show


def show_plan(plan: portrayal.Plan, result: dict[str, Any], as_json: bool) -> None:
    """Print what would be done."""
    described = plan.as_json()
    result["plan"] = described
    if as_json:
        return
    estimated = plan.estimate()
    typer.echo(f"# base {plan.source.name} on {plan.device}: {plan.source.reason}")
    times = described["trainings"]
    trainings = [
        f"{name} ({count} steps{f', {times[name]} times' if times[name] > 1 else ''})"
        for name, count in described["models"].items()
    ]
    typer.echo(f"# trains {', '.join(trainings)}")
    typer.echo(f"# paints {plan.num_pictures} pictures of scenes; needs {plan.disk_gib:.1f} GiB of disk")
    for line in estimated.lines():
        typer.echo(f"# {line}")
    for note in described["notes"]:
        typer.echo(f"# note: {note}")
    typer.echo(plan.config.to_toml())


def show_check(found: dict[str, Any], sheet: Path, result: dict[str, Any], as_json: bool) -> None:
    """Print the verdicts on photos."""
    from portrayal.progress import print_check

    result.update(found, sheet=str(sheet))
    if not as_json:
        print_check(found, str(sheet))


def show_scores(finished: portrayal.Run, result: dict[str, Any], as_json: bool) -> None:
    """Print the small table, the conclusion in a sentence, and where things are."""
    from portrayal.progress import print_scores

    scores = json.loads((finished.folder / "scores.json").read_text(encoding="utf-8"))
    paths = {"models": str(finished.folder / "models")}
    if (finished.folder / "report.html").is_file():
        paths["report"] = str(finished.folder / "report.html")
    result.update(run=str(finished.folder), scores=scores, **paths)
    if (finished.folder / "estimate.json").is_file():
        result["estimate"] = json.loads((finished.folder / "estimate.json").read_text(encoding="utf-8"))
    if not as_json:
        print_scores(scores, paths)


SHARED = ("run", "train")
"""Commands that several processes of a launcher do together; of any other the first does all."""


def follows() -> bool:
    """Whether a launcher started this process beside a first one, which speaks for all."""
    return int(os.environ.get("RANK", 0)) > 0


def main() -> None:
    """Entry point; no traceback for a mistake that is not ours."""
    if not any(word in SHARED for word in sys.argv[1:2]):
        if follows():
            return
        os.environ.pop("WORLD_SIZE", None)
    if follows():
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)  # on import it speaks of kernels nobody asked for
    for name in ("SIGTERM", "SIGUSR1"):  # as Ctrl-C, wherever they arrive
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    app()
