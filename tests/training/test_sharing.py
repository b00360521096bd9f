"""Sums of gradients that are sent while others are found: those of one process, to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn

from portrayal.training.sharing import OverlappedSum

PROCESSES = 2
SIZES = (1, 100)
"""Numbers that are sent at once: those of each weight, or of several."""


class Small(nn.Module):
    """Convolutions channels last, a weight that is used twice, one in another format, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 1)
        self.scale = nn.Parameter(torch.ones(8, dtype=torch.float64))
        self.last = nn.Linear(8, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        found = self.twice(self.twice(self.first(pictures)).relu()).mean((2, 3))
        return self.last(found * self.scale.to(found.dtype))


def gradients(rank: int, count: int, size: int) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Those of four passes, of which each process takes its own; and how they lie."""
    torch.manual_seed(0)
    module, pictures = Small().to(memory_format=torch.channels_last), torch.randn(4, 2, 3, 6, 6)
    named = dict(module.named_parameters())
    total = OverlappedSum([named[name] for name in reversed(named)], size) if count > 1 else None
    own, all_of_them = pictures[rank::count], len(total.unsent) if total else 0
    for number, one in enumerate(own):
        with total.last_pass() if total and number == len(own) - 1 else nullcontext():
            module(one).square().sum().backward()
    if total:
        assert len(total.unsent) < all_of_them  # some went on their way
        total.finish()
        assert len(total.under_way) == all_of_them - (2 if size == 1 else 1)  # without what is not used
    assert not [weight for weight in named.values() if weight._post_accumulate_grad_hooks]
    found = {name: weight.grad for name, weight in named.items() if weight.grad is not None}
    return found, {name: gradient.stride() for name, gradient in found.items()}


def as_one(rank: int, folder: Path) -> None:
    """In a process of several: write what it found for each size."""
    store = distributed.FileStore(str(folder / "store"), PROCESSES)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    for size in SIZES:
        torch.save(gradients(rank, PROCESSES, size), folder / f"{rank}-{size}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("shared")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, __file__, str(folder)]
    started = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(PROCESSES)]
    assert [process.wait(120) for process in started] == [0] * PROCESSES
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_the_sum_of_two_processes_is_that_of_one(shared: Path, size: int) -> None:
    wanted, lying = gradients(0, 1, size)
    assert len(wanted) == 7
    for rank in range(PROCESSES):
        found, strides = torch.load(shared / f"{rank}-{size}.pt")
        assert strides == lying
        assert {name: one.dtype for name, one in found.items()} == {name: one.dtype for name, one in wanted.items()}
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient)


def test_a_pass_that_fails_leaves_no_hook_behind() -> None:
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ZeroDivisionError), OverlappedSum([weight]).last_pass():
        raise ZeroDivisionError
    weight.sum().backward()  # nothing is sent: there is nobody
    assert weight.grad is not None


if __name__ == "__main__":
    as_one(int(sys.argv[2]), Path(sys.argv[1]))
