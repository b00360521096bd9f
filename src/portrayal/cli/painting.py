"""Painting: a run's scenes, or any prompt by its models, by a base, or as another picture was painted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import portrayal
from portrayal.cli.flags import JsonFlag, ModelFlag, SetFlag
from portrayal.cli.outcome import outcome, say
from portrayal.cli.printing import progress_lines


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
        check_generate(opened, model, prompt, like, base, out, [count, seed, lora, control, control_kind, settings])
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
    model: list[str] | None,
    prompt: list[str] | None,
    like: Path | None,
    base: str | None,
    out: Path | None,
    painting: list[Any],
) -> None:
    """Refuse flags that do not go together."""
    if opened is not None and (base is not None or out is not None):
        raise typer.BadParameter("--base and --out are for painting without a run.")
    if opened is None and model and like is None:
        raise typer.BadParameter("--model names a model of a run; give the run's folder.")
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
