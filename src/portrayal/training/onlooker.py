"""Who looks on while a training goes on: reads what it has learned so far, paints with it, or ends it early.

Meanwhile the base is as it was, and afterwards the training goes on as if nothing had been: looking changes no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from portrayal.models.methods import Attached, waiting_room
from portrayal.models.packed_lora import Pack

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Onlooker:
    """What is done with a training under way.

    Attributes:
        reading: Looks at the weights of a training that were just kept, by its name and step.
        wishes: What is asked of the training: `sample`, `stop`; after every step.
        sample: Paints with weights in a folder; by the training's name and step.
        end_at: At which step trainings end that were asked to stop at this one, by their names; keeps it in mind.
    """

    reading: Callable[[str, int], None]
    wishes: Callable[[], set[str]]
    sample: Callable[[str, int, Path], None]
    end_at: Callable[[Sequence[str], int], int]


def can_lift(attached: Attached | Pack) -> bool:
    """Whether what is attached can be taken off for a while: not PEFT's own adapters, which drop inputs."""
    return isinstance(attached, Pack) or bool(attached.original)


def lifted(attached: Attached | Pack) -> AbstractContextManager[None]:
    """The base as it was, for a while."""
    return attached.lifted() if isinstance(attached, Pack) else parts_lifted(attached)


@contextmanager
def parts_lifted(attached: Attached) -> Iterator[None]:
    """The base with its own parts in the places of those that are trained."""
    base, device = attached.base, attached.base.device
    trained: dict[str, nn.Module] = {name: getattr(base, name) for name in attached.original}
    for name, module in attached.original.items():
        setattr(base, name, module.to(device))
    base.attached = False
    try:
        yield
    finally:
        for name, module in trained.items():
            attached.original[name] = getattr(base, name).to(waiting_room(device))
            setattr(base, name, module)
        base.attached = True


@contextmanager
def look(attached: Attached | Pack, note: Callable[[str], None]) -> Iterator[None]:
    """Look at a training; where memory is too small for both, say so: it is looked at later."""
    try:
        with lifted(attached):
            yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        note("There is not memory enough to look at it while it trains; it is looked at when it is done.")
