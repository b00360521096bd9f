"""The whole job by one command: for one subject or many, only as a plan, or from a web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import portrayal
from portrayal.cli.flags import (
    BaseFlag,
    ClassFlag,
    ConsentFlag,
    DryRunFlag,
    HiddenGpusFlag,
    JsonFlag,
    OutFlag,
    Photos,
    QuickFlag,
    RecipeFlag,
    SetFlag,
    ThoroughFlag,
    VaeFlag,
    ask_consent,
    effort,
    folder_for,
    overrides,
)
from portrayal.cli.launcher import share_out
from portrayal.cli.outcome import fail, outcome, say
from portrayal.cli.printing import batch_table, progress_lines, show_plan, show_scores


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

    Each rank is trained at three learning rates, once without a third of the photos and judged on that third; the best
    are trained again without the other thirds. `--quick` trains each rank just once, at one rate: sooner done, but it
    cannot tell how much is chance, or whether another rate is better. `--thorough` spends up to 45 trainings on
    LoRAs, and sees finer differences. `--vae` puts another autoencoder in the base: a hub id, a diffusers folder or a
    .safetensors file. `--gpus 4` shares the work out over four GPUs of this machine. `--live` looks at trainings as
    they go on, not when they are done: their pictures and readings are there sooner, and the same.

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
