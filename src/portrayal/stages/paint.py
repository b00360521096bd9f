"""Paint anything: with the models of a run, or with a base and LoRA files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.config import Config
from portrayal.errors import UsageError
from portrayal.planning import make_plan
from portrayal.run import Event, Progress, Run
from portrayal.settings import set_value, validate
from portrayal.stages.evaluate import scores_of
from portrayal.stages.shared import FINAL, alone, base_of, checked_name, in_place, silent, stage, trained_models

if TYPE_CHECKING:
    from portrayal.generation.generator import Control
    from portrayal.models.lora_files import LoraFile

NUMBER = r"(\d+\.?\d*|\.\d+)"
KIND = re.compile(rf"([a-z]+)(?::{NUMBER})?(?::{NUMBER}-{NUMBER})?")


@dataclass(frozen=True)
class Order:
    """What is to be painted, settled.

    Attributes:
        run: The run, or a folder for pictures with the settings of none.
        wanted: Prompts and seeds.
        models: Models by name, with their folders; no folder means the base.
        controls: What to keep to.
        loras: LoRA files on top.
        recorded: Whether the run keeps a record of it.
    """

    run: Run
    wanted: Sequence[tuple[str, int]]
    models: dict[str, Path | None]
    controls: tuple[Control, ...]
    loras: tuple[LoraFile, ...]
    recorded: bool = True


@alone
def paint(
    run: Run,
    prompts: Sequence[str],
    models: Sequence[str] = (),
    *,
    count: int = 4,
    seed: int = 0,
    controls: Sequence[Path] = (),
    control_kinds: Sequence[str] = (),
    loras: Sequence[str] = (),
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Path]:
    """Paint prompts with models of a run into `RUN/pictures`; pictures that are there are never overwritten.

    Args:
        run: A run with trained models.
        prompts: What to paint, of any length; `{subject}` becomes the person, `(word:1.2)` weighs a word.
        models: Which models, `final` among them; nothing means that one, else the best LoRA if the run was judged, else
            the last one trained.
        count: Pictures of each prompt.
        seed: Seed of the first picture; the next ones count up.
        controls: Pictures whose outline, pose or the like to keep, all at once.
        control_kinds: What is kept of each of them: `KIND`, `KIND:SCALE` or `KIND:SCALE:START-END`, such as
            `openpose:0.8:0-0.6`; nothing means the first of the run's `control.kinds`.
        loras: LoRA files on top, `FILE` or `FILE:STRENGTH`.
        overrides: `generation.…` and `control.…` settings.
        progress: Called with every event.

    Returns:
        The paths of the pictures, model by model.

    Raises:
        UsageError: If a model is not trained, a weight or kind cannot be meant, or the picture shows no pose.
        WeightsError: If there is no ControlNet or pose reader for the base, or a LoRA does not fit it.
    """
    from portrayal.models.lora_files import parse_lora

    asked = asked_controls(run.config, controls, control_kinds)
    changed = with_overrides(run, overrides, asked)
    files = tuple(parse_lora(text) for text in loras)
    trained = paintable(run)
    chosen = [checked_name(name, trained) for name in models] or [default_model(run)]
    subject = run.config.subject.subject
    wanted = [(prompt.replace("{subject}", subject), seed + n) for prompt in prompts for n in range(count)]
    order = Order(
        changed, wanted, {name: trained[name] for name in chosen}, made_controls(changed, asked, overrides), files
    )
    return carry_out(order, progress)


def paint_base(
    prompts: Sequence[str],
    out: Path,
    *,
    base: str | None = None,
    count: int = 4,
    seed: int = 0,
    controls: Sequence[Path] = (),
    control_kinds: Sequence[str] = (),
    loras: Sequence[str] = (),
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Path]:
    """Paint prompts with a base and LoRA files, without a run.

    Args:
        prompts: As of :func:`paint`.
        out: Folder of the pictures, numbered on from those that are there.
        base: `pocket`, `sd15`, a hub id, a diffusers folder or a `.safetensors` file; nothing chooses by machine.
        count: As of :func:`paint`.
        seed: As of :func:`paint`.
        controls: As of :func:`paint`.
        control_kinds: As of :func:`paint`.
        loras: As of :func:`paint`.
        overrides: Any settings; those of the base's recipe hold where nothing is said.
        progress: Called with every event.

    Raises:
        UsageError: If a setting, weight or kind cannot be meant.
        WeightsError: If the base or a ControlNet cannot be had, or a LoRA does not fit.
    """
    from portrayal.models.lora_files import parse_lora

    files = tuple(parse_lora(text) for text in loras)  # before anything large is looked for
    named = [f"base.name={quoted(base)}"] if base is not None else []
    painting, others = parted(overrides)
    plan = make_plan(None, [*named, *others])
    asked = asked_controls(plan.config, controls, control_kinds)
    changed = with_overrides(Run(out, plan.config), painting, asked)
    subject = changed.config.subject.subject
    wanted = [(prompt.replace("{subject}", subject), seed + n) for prompt in prompts for n in range(count)]
    order = Order(changed, wanted, {"base": None}, made_controls(changed, asked, painting), files, recorded=False)
    return carry_out(order, progress)


def quoted(text: str) -> str:
    """A text as a TOML value."""
    import json

    return json.dumps(text, ensure_ascii=False)


def carry_out(order: Order, progress: Progress) -> list[Path]:
    """Paint what is ordered, model by model."""
    from portrayal.generation.generator import Generator
    from portrayal.generation.pictures import Picture, paint_missing

    run, paths = order.run, list[Path]()
    generator = Generator(base_of(run), run.config.generation, order.controls, run.config.base.resolution)
    keep_controls(order)
    for name, folder in order.models.items():
        where = run.folder / "pictures" / name if order.recorded else run.folder
        pictures = [
            Picture(path, prompt, seed)
            for path, (prompt, seed) in zip(free_paths(where, len(order.wanted)), order.wanted, strict=True)
        ]
        with counted(order, name, progress) as tick, in_place(run, name, folder, order.loras) as weights:
            paint_missing(generator, pictures, weights, tick)
        paths += [picture.path for picture in pictures]
    return paths


@contextmanager
def counted(order: Order, name: str, progress: Progress) -> Iterator[Any]:
    """Announce the painting of a model, in the run's record where there is one."""
    title = f"paint.{name}"
    if order.recorded:
        with stage(order.run, title, list(order.wanted), progress) as tick:
            yield tick
        return
    progress(Event(title, "started"))
    yield lambda done, total: progress(Event(title, "progress", done, total))
    progress(Event(title, "finished"))


READY_MADE = "control.ready_made"
"""Of painting it says that the pictures given are control images, of whatever kinds; the run's own keeps to one."""


def with_overrides(run: Run, overrides: Sequence[str], asked: Sequence[AskedControl] = ()) -> Run:
    """The run with other painting settings, and the kinds of the pictures that are given."""
    values: dict[str, Any] = run.config.model_dump(mode="json", exclude_none=True)
    values["control"] |= {"ready_made": False}
    kinds = list(dict.fromkeys(one.kind for one in asked))
    if kinds:
        if isinstance(run.config.control.controlnet, str) and kinds != list(run.config.control.kinds):
            values["control"]["controlnet"] = "auto"  # the one that is named is for another kind
        values["control"]["kinds"] = kinds
    painting, others = parted(overrides)
    if others:
        raise UsageError(f"--set {others[0]!r}: painting takes generation.… and control.… settings only.")
    for text in painting:
        if key_of(text) != READY_MADE:
            set_value(values, text)
    return Run(run.folder, validate(values))


def parted(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings of painting, and others."""
    painting = [text for text in overrides if key_of(text).split(".")[0] in ("generation", "control")]
    return painting, [text for text in overrides if text not in painting]


def key_of(text: str) -> str:
    """What is set by `key=value`."""
    return text.partition("=")[0].strip()


def ready_made(overrides: Sequence[str]) -> bool:
    """Whether the pictures given are control images already."""
    told = [text.partition("=")[2].strip() for text in overrides if key_of(text) == READY_MADE]
    if told and told[-1] not in ("true", "false"):
        raise UsageError(f"{READY_MADE}: true or false (got {told[-1]!r})")
    return bool(told) and told[-1] == "true"


@dataclass(frozen=True)
class AskedControl:
    """A picture to keep to, and what of it; nothing means as the settings say."""

    picture: Path
    kind: str
    scale: float | None = None
    start: float | None = None
    end: float | None = None


def asked_controls(config: Config, pictures: Sequence[Path], kinds: Sequence[str]) -> list[AskedControl]:
    """What of each picture is kept, how strongly and when.

    Raises:
        UsageError: If a kind is unknown or given without a picture.
    """
    if len(kinds) > len(pictures):
        raise UsageError("A kind of control goes with a control picture, and none is given.", "Add --control PICTURE.")
    if len(pictures) > 1 and len(kinds) < len(pictures):
        raise UsageError(
            f"There are {len(pictures)} control pictures and {len(kinds)} kinds.",
            "Give one kind for each, in the same order.",
        )
    return [read_kind(text, one) for one, text in zip(pictures, kinds or [config.control.kinds[0]], strict=False)]


def read_kind(text: str, picture: Path) -> AskedControl:
    """What `KIND:SCALE:START-END` means."""
    from portrayal.evaluation.control import CONTROL_KINDS

    match = KIND.fullmatch(text.strip())
    if match is None or match[1] not in CONTROL_KINDS:
        raise UsageError(
            f"There is no kind of control {text!r}; there are {', '.join(CONTROL_KINDS)}.",
            "With strength and range: openpose:0.8:0-0.6.",
        )
    scale, start, end = (None if number is None else float(number) for number in match.groups()[1:])
    return AskedControl(picture, match[1], scale, start, end)


def made_controls(run: Run, asked: Sequence[AskedControl], overrides: Sequence[str]) -> tuple[Control, ...]:
    """The ControlNets and their control images.

    Raises:
        UsageError: If a range of steps is empty.
    """
    from portrayal.stages.control import picture_control

    settings, given, made = run.config.control, ready_made(overrides), []
    for one in asked:
        start = settings.control_guidance_start if one.start is None else one.start
        end = settings.control_guidance_end if one.end is None else one.end
        if not 0 <= start < end <= 1:
            raise UsageError(
                f"Keeping to {one.picture.name} would begin at {start:g} and end at {end:g} of the steps.",
                "Give a range within 0-1, such as openpose:0.8:0-0.6.",
            )
        control = picture_control(run, one.kind, one.picture, ready_made=given)
        scale = settings.controlnet_conditioning_scale if one.scale is None else one.scale
        made.append(replace(control, scale=scale, start=start, end=end))
    return tuple(made)


def keep_controls(order: Order) -> None:
    """Keep the control images of pictures beside them, so that the pictures can be made again."""
    from portrayal.generation.pictures import image_hash
    from portrayal.run import atomic_path

    for control in order.controls:
        path = controls_folder(order.run, recorded=order.recorded) / f"{image_hash(control.image)[:16]}.png"
        if not path.is_file():
            with atomic_path(path) as temporary:
                control.image.save(temporary, format="PNG")


def controls_folder(run: Run, *, recorded: bool) -> Path:
    """Where control images of pictures are kept."""
    return run.folder / "pictures" / "controls" if recorded else run.folder / "controls"


def paintable(run: Run) -> dict[str, Path | None]:
    """The base, the models that are trained, and the recommended one that was trained on all photos."""
    final = run.model_folder(FINAL)
    return trained_models(run) | ({FINAL: final} if (final / "method.json").is_file() else {})


def default_model(run: Run) -> str:
    """The model trained on all photos; without one the best LoRA of a judged run, else the last model trained."""
    if FINAL in paintable(run):
        return FINAL
    judged = (run.folder / "scores.json").is_file()
    best = scores_of(run)["verdict"]["best_lora"] if judged else None
    return best or list(trained_models(run))[-1]


def free_paths(folder: Path, count: int) -> list[Path]:
    """The next free numbers in a folder of pictures."""
    taken = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdigit()]
    first = max(taken, default=-1) + 1
    return [folder / f"{number:04d}.png" for number in range(first, first + count)]
