"""Paint anything with the models of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from portrayal.errors import UsageError
from portrayal.run import Progress, Run
from portrayal.settings import set_value, validate
from portrayal.stages.evaluate import scores_of
from portrayal.stages.shared import FINAL, base_of, checked_name, silent, stage, trained_models


def paint(
    run: Run,
    prompts: Sequence[str],
    models: Sequence[str] = (),
    *,
    count: int = 4,
    seed: int = 0,
    control: Path | None = None,
    control_kind: str | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Path]:
    """Paint prompts with models of a run into `RUN/pictures`; pictures that are there are never overwritten.

    Args:
        run: A run with trained models.
        prompts: What to paint; `{subject}` becomes the person.
        models: Which models, `final` among them; nothing means that one, else the best LoRA if the run was judged, else
            the last one trained.
        count: Pictures of each prompt.
        seed: Seed of the first picture; the next ones count up.
        control: Picture whose outline or pose to keep.
        control_kind: `canny` or `openpose`; nothing means the first of the run's `control.kinds`.
        overrides: `generation.…` and `control.…` settings.
        progress: Called with every event.

    Returns:
        The paths of the pictures, model by model.

    Raises:
        UsageError: If a model is not trained, a prompt is too long, or the picture shows no pose.
        WeightsError: If there is no ControlNet or pose reader for the base.
    """
    from portrayal.generation.generator import Generator
    from portrayal.generation.pictures import Picture, paint_missing
    from portrayal.models.methods import tuned

    changed = with_overrides(run, overrides, control, control_kind)
    trained = paintable(run)
    chosen = [checked_name(name, trained) for name in models] or [default_model(run)]
    subject = run.config.subject.subject
    wanted = [(prompt.replace("{subject}", subject), seed + n) for prompt in prompts for n in range(count)]
    generator = Generator(
        base_of(run), changed.config.generation, control_of(changed) if control else None, run.config.base.resolution
    )
    paths: list[Path] = []
    for name in chosen:
        pictures = [
            Picture(path, prompt, picture_seed)
            for path, (prompt, picture_seed) in zip(free_paths(run, name, len(wanted)), wanted, strict=True)
        ]
        with stage(run, f"paint.{name}", prompts, progress) as tick, tuned(base_of(run), trained[name]):
            paint_missing(generator, pictures, name, tick)
        paths += [picture.path for picture in pictures]
    return paths


def with_overrides(run: Run, overrides: Sequence[str], control: Path | None = None, kind: str | None = None) -> Run:
    """The run with other painting settings, and with this control picture for its reference."""
    values: dict[str, Any] = run.config.model_dump(mode="json", exclude_none=True)
    asked = values["control"]
    if control is not None:
        asked |= {"reference": str(control), "ready_made": False, "kinds": asked["kinds"][:1]}
    if kind is not None and control is None:
        raise UsageError("A kind of control goes with a control picture, and none is given.", "Add --control PICTURE.")
    if kind is not None:
        if kind not in run.config.control.kinds and isinstance(asked["controlnet"], str):
            asked["controlnet"] = "auto"  # the one that is named is for another kind
        asked["kinds"] = [kind]
    for text in overrides:
        if text.split(".")[0].strip() not in ("generation", "control"):
            raise UsageError(f"--set {text!r}: painting takes generation.… and control.… settings only.")
        set_value(values, text)
    return Run(run.folder, validate(values))


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


def control_of(run: Run) -> Any:
    """The ControlNet and the control image of the settings."""
    from portrayal.stages.control import picture_control

    settings = run.config.control
    assert settings.reference is not None
    return picture_control(run, settings.kinds[0], settings.reference)


def free_paths(run: Run, model: str, count: int) -> list[Path]:
    """The next free numbers in a model's folder of pictures."""
    folder = run.folder / "pictures" / model
    taken = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdigit()]
    first = max(taken, default=-1) + 1
    return [folder / f"{number:04d}.png" for number in range(first, first + count)]
