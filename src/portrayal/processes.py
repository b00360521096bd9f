"""The processes that share one run: which of them this one is, what its share is, and how they agree.

A launcher (`--gpus N`, `accelerate launch`, `torchrun`) starts one command several times and tells each process its
number in `RANK` and `WORLD_SIZE`. Whole trainings, pictures and encodings are dealt out, which needs no words between
them; the steps of one training are shared in `training.sharing`. Without a launcher there is one process, and all that
is here is the plain thing. What is said between them goes over gloo on the CPU, gradients over NCCL where there are
GPUs.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

from portrayal.errors import MachineError

Item = TypeVar("Item")

LAUNCHED = ("WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""What is taken out of the environment; `RANK` stays, which alone says nothing of others."""
PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one may train alone for hours. A launcher ends all when one fails."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes what all share."""
        return self.rank == 0

    def mine(self, items: Sequence[Item], costs: Sequence[float] | None = None) -> list[Item]:
        """Its share of the items, in their order; see :func:`deal`."""
        owners = deal(costs if costs is not None else [1.0] * len(items), self.count)
        return [item for item, owner in zip(items, owners, strict=True) if owner == self.rank]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Whether one of them says so; all must ask."""
        if self.count == 1:
            return flag
        import torch

        said = torch.tensor(int(flag))
        with others_alive():
            torch.distributed.all_reduce(said)
        return bool(said)

    def agree(self, value: Any) -> Any:
        """What the first process says, as JSON gives it back; all must ask."""
        if self.count == 1:
            return value
        import torch

        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor(len(text))
        with others_alive():
            torch.distributed.broadcast(length, 0)
            text = text if self.first else torch.empty(int(length), dtype=torch.uint8)
            torch.distributed.broadcast(text, 0)
        return json.loads(bytes(text.tolist()))


ALONE = Processes()


def deal(costs: Sequence[float], count: int) -> list[int]:
    """Who of `count` takes each item: the costly ones first, each to who has least to do so far.

    Graham 1969, "Bounds on multiprocessing timing anomalies": a third longer than the best deal at most.
    """
    load, owners = [0.0] * count, [0] * len(costs)
    for item in sorted(range(len(costs)), key=lambda item: (-costs[item], item)):
        owners[item] = min(range(count), key=lambda one: (load[one], one))
        load[owners[item]] += costs[item]
    return owners


@contextmanager
def others_alive() -> Iterator[None]:
    """Say what it means when another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise MachineError(
            f"Another process of this run has ended: {str(error).splitlines()[0][:120]}",
            "What it said stands above. The same command goes on where the run was left.",
        ) from error


@lru_cache(maxsize=1)
def here() -> Processes:
    """This process among those of its launcher, whom it joins when this is first asked.

    The launcher's variables are taken out of the environment: accelerate and others would read them again and take each
    training for a distributed one.

    Raises:
        MachineError: If the processes cannot find one another, or there are more of them than GPUs.
    """
    found = Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    launched = {name: os.environ.pop(name) for name in LAUNCHED if name in os.environ}
    if found.count == 1:
        return found
    import torch
    from torch import distributed

    backend = "gloo"
    if torch.cuda.is_available():
        local = int(launched.get("LOCAL_RANK", found.rank))
        if local >= torch.cuda.device_count():
            raise MachineError(
                f"There are more processes than GPUs: this machine has {torch.cuda.device_count()}.",
                f"Start {torch.cuda.device_count()} at most.",
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend, rank=found.rank, world_size=found.count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise MachineError(
            f"The {found.count} processes of this run did not find one another: {error}",
            "MASTER_ADDR and MASTER_PORT say where they meet; see docs/scale.md.",
        ) from error
    atexit.register(distributed.destroy_process_group)  # its threads must not outlive the interpreter
    return found
