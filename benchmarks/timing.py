"""What the benchmarks of training share: photos as latents, and steps timed as a training takes them.

A training on a GPU is one step ahead of its records, so single steps cannot be timed: windows of many are, each from
an idle GPU to an idle GPU, after a few that are not counted (plain steps first, then the one that is recorded).
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

import portrayal
from portrayal.config import Config, Method
from portrayal.data.encode import encode
from portrayal.models.base import BaseModel, load_base
from portrayal.models.source import find_base
from portrayal.training.keeping import write_records
from portrayal.training.session import session
from portrayal.training.state import TrainingState
from portrayal.training.step import Launched, Update, launch
from portrayal.training.task import Task, TrainingData
from portrayal.training.trainer import runner_of

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
WARM_UP_STEPS = 5
ONE_PHOTO = (
    "training.train_batch_size=1",
    "training.prior_loss_weight=0",
    "training.gradient_checkpointing=false",
    "training.gradient_accumulation_steps=1",
    "method.lora.train_text_encoder=false",
    'method.lora.target_modules=["to_q", "to_k", "to_v", "to_out.0"]',
    "control.enabled=false",
)
"""The mode of the GPU: batch 1, no class images, attention adapted."""


@dataclass(frozen=True)
class Steps:
    """What was measured of steps.

    Attributes:
        windows: Seconds of a step in each window.
        pictures: That a step takes, of all learners.
        peak_gib: GPU memory at its fullest, where there is a GPU.
    """

    windows: tuple[float, ...]
    pictures: int
    peak_gib: float | None

    @property
    def seconds(self) -> float:
        """Of a step, the median of the windows."""
        return statistics.median(self.windows)

    @property
    def images_per_second(self) -> float:
        """Of all learners."""
        return self.pictures / self.seconds


def on_gpu() -> bool:
    """Whether there is a CUDA GPU; without one benchmarks of GPUs are tried on `pocket` and record nothing."""
    return torch.cuda.is_available()


def plain_config(base: str, *changes: str) -> Config:
    """Settled settings of the mode of the GPU for a base, `pocket` or Stable Diffusion 1.5's shapes."""
    name = ["method.unet.train_text_encoder=false", f'base.name="{base}"']
    recipe = "pocket-demo" if base == "pocket" else "sd15-80gb"
    return portrayal.make_plan(recipe, [*ONE_PHOTO, *name, *changes]).config


def base_for(config: Config) -> BaseModel:
    """The base of settled settings on this machine, as a run loads it."""
    half = config.training.mixed_precision == "bf16"
    return load_base(
        find_base(config.base),
        device=torch.device("cuda" if on_gpu() else "cpu"),
        dtype=torch.bfloat16 if half else torch.float32,
    )


def squares(config: Config, count: int) -> list[Image.Image]:
    """The first of the example photos in the base's size."""
    side = config.base.resolution
    assert side is not None
    return [Image.open(path).convert("RGB").resize((side, side)) for path in sorted(PHOTOS.glob("*.jpg"))[:count]]


def photos_of(base: BaseModel, config: Config, count: int = 16) -> TrainingData:
    """Example photos as the training loop reads them, without class images."""
    prompt = config.subject.filled_instance_prompt
    rows = [(f"p{number}", image, prompt) for number, image in enumerate(squares(config, count))]
    return TrainingData((encode(base, rows),), None)


def with_batch(config: Config, size: int) -> Config:
    """The settings with another batch size."""
    return config.model_copy(update={"training": config.training.model_copy(update={"train_batch_size": size})})


def time_training(
    base: BaseModel, data: TrainingData, config: Config, methods: Sequence[Method], *, steps: int, repeats: int
) -> Steps:
    """Train a method, or several LoRAs in one batch, for a number of windows of steps."""
    gc.collect()  # nothing of the training before is counted as this one's
    torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as temporary, begun(base, data, config, methods, Path(temporary)) as window:
        window(WARM_UP_STEPS)
        windows = tuple(window(steps) for _ in range(repeats))
        peak = torch.cuda.max_memory_allocated() / 2**30 if base.device.type == "cuda" else None
    return Steps(windows, len(methods) * pictures_a_step(config), peak)


def pictures_a_step(config: Config) -> int:
    """Pictures that a step of one learner takes: photos, and the class images that ride along."""
    training = config.training
    riding = (training.class_batch_size or training.train_batch_size) if training.prior_loss_weight else 0
    return (training.train_batch_size + riding) * training.gradient_accumulation_steps


class Window:
    """Takes steps of a training and times them."""

    def __init__(self, state: TrainingState, run: Update, work: Path) -> None:
        self.state, self.run, self.work = state, run, work

    def __call__(self, steps: int) -> float:
        """Take steps as `trainer.train` does, one ahead of their records on a GPU; seconds of one of them."""
        unread, on_cpu = deque[Launched](), self.state.base.device.type == "cpu"
        settle()
        started = time.perf_counter()
        for _ in range(steps):
            unread.append(launch(self.state, self.run))
            while len(unread) > (0 if on_cpu else 1):
                write_records(unread.popleft(), self.work)
        while unread:
            write_records(unread.popleft(), self.work)
        settle()
        return (time.perf_counter() - started) / steps


@contextmanager
def begun(
    base: BaseModel, data: TrainingData, config: Config, methods: Sequence[Method], folder: Path
) -> Iterator[Window]:
    """A training that is not started; the base is given back as it was."""
    endless = [method.model_copy(update={"max_train_steps": 1_000_000}) for method in methods]
    tasks = [Task(f"model-{number}", method, data, folder / str(number)) for number, method in enumerate(endless)]
    with session(base, tasks, config, folder / "work") as state:
        yield Window(state, runner_of(state, print), folder / "work")


def settle() -> None:
    """Wait until the GPU, if there is one, is idle."""
    if on_gpu():
        torch.cuda.synchronize()
