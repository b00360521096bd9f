"""What every stage uses: the run's base, painting with it, announcing what goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from portrayal import checksums, interruption
from portrayal.config import Config, Trial
from portrayal.errors import PortrayalError, UsageError
from portrayal.files import DISK_ERRORS, mend_lines, sweep, write_fault
from portrayal.live import Pulse
from portrayal.lock import held
from portrayal.processes import Processes
from portrayal.run import Event, Progress, Run

Work = TypeVar("Work", bound=Callable[..., Any])

if TYPE_CHECKING:
    from portrayal.data.manifest import PreparedDataset
    from portrayal.generation.generator import Control, Generator
    from portrayal.generation.pictures import Weights
    from portrayal.models.base import BaseModel
    from portrayal.models.encoders import Encoders, Judging
    from portrayal.models.lora_files import LoraFile


FINAL = "final"
"""The recommended model, trained once more on all photos."""


def silent(event: Event) -> None:
    """Progress nobody watches."""


@contextmanager
def at_work(folder: Path, progress: Progress) -> Iterator[None]:
    """Work on a run alone, on what a process that was killed left whole; signals to stop wait for the next tick.

    Raises:
        RunConflictError: If another process works on it.
        MachineError: If the disk is full, read-only, broken or gone.
    """

    def said(message: str) -> None:
        progress(Event("run", "note", message=message))

    with held(folder) as left, interruption.interruption(said):
        try:
            if left != "":
                sweep(folder)
                mend_lines(folder / "events.jsonl")
            if left:
                said(left)
            try:
                yield
            except BaseException:
                with suppress(PortrayalError, OSError):  # what goes wrong first is told
                    keep_checksums(folder, left)
                raise
            keep_checksums(folder, left)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise write_fault(Path(error.filename or folder), error) from error


def keep_checksums(folder: Path, left: str | None) -> None:
    """Write down what a run has made, at the end of the outermost of its commands."""
    if left != "" and (folder / "run.json").is_file():
        checksums.keep(folder)


def alone(work: Work) -> Work:
    """Let a function of a run work on it alone, see :func:`at_work`."""

    @wraps(work)
    def working(run: Run, *args: Any, **kwargs: Any) -> Any:
        with at_work(run.folder, kwargs.get("progress", silent)):
            return work(run, *args, **kwargs)

    return cast(Work, working)


@contextmanager
def stage(
    run: Run, name: str, inputs: object, progress: Progress, *, stops: bool = True
) -> Iterator[Callable[[int, int], None]]:
    """Announce and time a stage; it counts as finished only if the block ends well.

    Args:
        run: The run.
        name: Of the stage.
        inputs: What it depends on.
        progress: Called with its events.
        stops: Whether it may stop at each tick, when that was asked for; a training saves itself first.

    Raises:
        KeyboardInterrupt: If it was asked to stop; what was done up to the tick is kept.
    """
    started = time.monotonic()
    interruption.check()
    tell(run, Event(name, "started"), progress)
    pulse = Pulse(run.folder, name)
    pulse.write()

    def tick(done: int, total: int) -> None:
        pulse.beat(done, total)
        progress(Event(name, "progress", done, total))
        if stops and done < total:
            interruption.check()

    yield tick
    run.mark_finished(name, inputs, time.monotonic() - started)
    tell(run, Event(name, "finished"), progress)


@contextmanager
def shared_stage(
    run: Run, name: str, inputs: object, progress: Progress, processes: Processes, *, stops: bool = True
) -> Iterator[Callable[[int, int], None]]:
    """A stage that several processes go through together; the first of them announces it."""
    if not processes.first:
        yield lambda *_: None
        return
    with stage(run, name, inputs, progress, stops=stops) as tick:
        yield tick


def tell(run: Run, event: Event, progress: Progress) -> None:
    """Log an event and show it."""
    run.log(event)
    progress(event)


class Settled(NamedTuple):
    """What a loaded base depends on."""

    config: str
    precision: str


@lru_cache(maxsize=1)
def shared_base(settled: Settled) -> BaseModel:
    """The base in memory, one at a time: methods give it back as it was, so stages can share it."""
    import torch

    from portrayal.models.base import choose_device, load_base
    from portrayal.models.source import find_base

    source = find_base(Config.model_validate_json(settled.config).base)
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[settled.precision]
    return load_base(source, device=choose_device(), dtype=dtype)


@lru_cache(maxsize=1)
def shared_encoders(settled: Settled, judging: Judging) -> Encoders:
    """The scorers that fit a base, loaded once."""
    from portrayal.models.encoders import load_encoders

    base = shared_base(settled)
    return load_encoders(base.source, base.device, judging)


def judging_of(config: Config) -> Judging:
    """What the choice of scorers depends on."""
    from portrayal.evaluation.control import CONTROL_KINDS
    from portrayal.models.encoders import Judging

    kinds = config.control.kinds if config.control.enabled else ()
    readers = sorted({CONTROL_KINDS[kind].reader or "" for kind in kinds} - {""})
    return Judging(config.evaluation.identity, config.subject.person, tuple(readers))


def settled_base(run: Run) -> Settled:
    """What the run's base depends on."""
    return settled_by(run.config)


def settled_by(config: Config) -> Settled:
    """What the base of settled settings depends on."""
    return Settled(Config(base=config.base).model_dump_json(), config.training.mixed_precision)


def encoders_of(run: Run) -> Encoders:
    """What judges the run's pictures."""
    return shared_encoders(settled_base(run), judging_of(run.config))


@lru_cache(maxsize=1)
def shared_looks(settled: Settled, judging: Judging) -> dict[bytes, Any]:  # noqa: ARG001 - other encoders, other looks
    """What was seen of pictures so far: scores are measured again once there are pictures held to control images."""
    return {}


def looks_of(run: Run) -> dict[bytes, Any]:
    """What was seen of the run's pictures in this process."""
    return shared_looks(settled_base(run), judging_of(run.config))


def base_of(run: Run) -> BaseModel:
    """The run's base, loaded when first asked for."""
    return shared_base(settled_base(run))


@contextmanager
def base_ahead(config: Config) -> Iterator[None]:
    """Load the base of settled settings in a thread, so that it is there when the block ends."""
    import diffusers
    import transformers

    # Taken from the packages here, which makes them import their parts: two threads must not do that at once.
    _ = diffusers.AutoencoderKL, diffusers.DDPMScheduler, diffusers.UNet2DConditionModel
    _ = transformers.CLIPTextModel, transformers.CLIPTokenizer

    def load() -> None:
        with suppress(PortrayalError):  # who needs the base meets it again, and tells
            shared_base(settled_by(config))

    thread = Thread(target=load, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def dataset_of(run: Run) -> PreparedDataset:
    """The run's photos."""
    from portrayal.data.manifest import load_dataset

    return load_dataset(run.dataset_folder)


def generator_of(run: Run, *controls: Control) -> Generator:
    """Paints with whatever is in place on the run's base."""
    from portrayal.generation.generator import Generator

    return Generator(base_of(run), run.config.generation, controls, run.config.base.resolution)


@contextmanager
def in_place(run: Run, name: str, folder: Path | None, loras: Sequence[LoraFile] = ()) -> Iterator[Weights]:
    """A model of the run on its base, other LoRAs on top of it, and what pictures tell of them.

    Args:
        run: The run.
        name: What the model is called.
        folder: Its weights; nothing means the base.
        loras: LoRA files on top.
    """
    from portrayal.generation.pictures import UsedLora, Weights
    from portrayal.models.lora_files import LoraFile, with_loras
    from portrayal.models.methods import LORA_FILE
    from portrayal.models.saved import tuned
    from portrayal.models.source import weights_hash

    strength = run.config.generation.lora_strength
    used, unet_hash = list[UsedLora](), ""
    if folder is not None and (folder / LORA_FILE).is_file():
        kohya = folder / f"{name}.kohya.safetensors"
        file = LoraFile(kohya if kohya.is_file() else folder / LORA_FILE)
        used.append(UsedLora(name, file.hash, strength, own=True))
    elif folder is not None:
        unet_hash = weights_hash(folder)
    used += [UsedLora(lora.name, lora.hash, lora.strength) for lora in loras]
    base_hash = run.base_hash or base_of(run).source.weight_hash()
    with tuned(base_of(run), folder, strength), with_loras(base_of(run), loras):
        yield Weights(name, base_hash, unet_hash, tuple(used))


def trained_models(run: Run) -> dict[str, Path | None]:
    """The base (no folder) and the models that are trained, in the study's order."""
    done = {trial.name for trial in trained_trials(run)}
    return {"base": None} | {name: run.model_folder(name) for name in run.config.methods if name in done}


def trained_trials(run: Run) -> list[Trial]:
    """The study's trainings that can be painted with: they are done, their step is chosen, their weights are there."""
    return [trial for trial in run.trials.values() if has_model(run, trial.name)]


def judged_trials(run: Run) -> list[Trial]:
    """Those of which everything is there that they are judged by."""
    return [trial for trial in trained_trials(run) if trained(run, trial.name)]


def has_model(run: Run, name: str) -> bool:
    """Whether a training has left weights to paint with."""
    from portrayal.models.saved import has_weights

    folder = run.model_folder(name)
    return (folder / "method.json").is_file() and not (folder / "steps").is_dir() and has_weights(folder)


def trained(run: Run, name: str) -> bool:
    """Whether a training has come to its end, and what came of it is there: weights, losses, its model's curve."""
    from portrayal.models.saved import has_weights

    folder, trial = run.model_folder(name), run.trials.get(name)
    if run.has_diverged(name):
        return True
    if not (folder / "method.json").is_file():
        return False
    if (folder / "steps").is_dir():  # whose step is still to be chosen
        return True
    judged = [] if trial is None else [folder / "heldout.json", curve_path(run, trial.model)]
    return has_weights(folder) and all(path.is_file() for path in judged)


def curve_path(run: Run, model: str) -> Path:
    """Where the curve of a model lies."""
    return run.model_folder(model) / "curve.json"


def checked_name(name: str, known: Any) -> str:
    """The name, if the study has such a model."""
    if name not in known:
        raise UsageError(f"This run has no model {name!r}.", f"It has: {', '.join(known)}")
    return name


def with_article(noun: str) -> str:
    """`a woman`, `an owl`."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
