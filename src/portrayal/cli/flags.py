"""The flags that several commands share, and what they come to: settings, and the folder of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

import portrayal

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
