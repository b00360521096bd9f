"""What leaves a run: its models for other tools and for the Hub, its photos as a training folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import portrayal
from portrayal.cli.flags import JsonFlag, RunFolder
from portrayal.cli.outcome import fail, outcome, say
from portrayal.cli.printing import progress_lines


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
