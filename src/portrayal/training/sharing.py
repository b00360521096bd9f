"""One step taken by several processes: each takes some of its forward passes, and the gradients are summed.

The passes of a step (`gradient_accumulation_steps`) are functions of (seed, position) and are the same whoever takes
them: pass `p` belongs to process `p mod count`. One process sums their gradients in order, ((g0 + g1) + g2) + …. On the
CPU several do too: after each round every process adds what the others found, in the order of the passes, so that the
weights are those of one process bit for bit. On GPUs each sums its own passes, and NCCL sums these, equal to rounding,
while the last backward pass goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from portrayal.config import Config, Method, UnetMethod
from portrayal.models.methods import Attached
from portrayal.processes import others_alive

if TYPE_CHECKING:
    from portrayal.training.state import TrainingState

BUCKET, SENT_EARLY = 1 << 27, 1 << 25
"""Numbers that are sent at once: 256 MiB of halves, and 64 while others are still found."""


def shares_steps(method: Method, config: Config, count: int) -> bool:
    """Whether `count` processes can share the steps of a training: a full UNet's, if each has as many passes.

    LoRAs are dealt out whole, which needs no words between processes.
    """
    return count > 1 and isinstance(method, UnetMethod) and config.training.gradient_accumulation_steps % count == 0


class GradientSum:
    """Sums the gradients of a step over its processes; of one process, nothing is left to do."""

    def add_round(self) -> None:
        """After a pass of every process."""

    def last_pass(self) -> AbstractContextManager[None]:
        """Around the last backward pass of this process."""
        return nullcontext()

    def finish(self) -> None:
        """After the last pass: leave the sum with the weights, in every process."""


def gradient_sum(state: TrainingState) -> GradientSum:
    """How the gradients of a training are summed."""
    if state.processes.count == 1 or not isinstance(state.attached, Attached):
        return GradientSum()
    weights = state.attached.computing()
    if state.base.device.type != "cuda":
        return OrderedSum([*weights.values()], state.processes.count)
    # What is computed last is found first; the text encoder's are found after all of the UNet's.
    parts = dict.fromkeys(name.partition(".")[0] for name in weights)
    backwards = [name for part in parts for name in reversed(weights) if name.startswith(f"{part}.")]
    return OverlappedSum([weights[name] for name in backwards])


class OrderedSum(GradientSum):
    """On the CPU: after each round every process adds what each of them found, in their order.

    Args:
        weights: Whose gradients are summed.
        count: How many processes there are.
    """

    def __init__(self, weights: Sequence[Tensor], count: int) -> None:
        self.weights, self.count = weights, count
        self.total: list[Tensor] = []
        self.found: list[tuple[Tensor, Tensor]] = []

    def add_round(self) -> None:
        """Add what each process found in its pass."""
        self.found = [(weight, weight.grad) for weight in self.weights if weight.grad is not None]
        for number, bucket in enumerate(buckets([lying(gradient) for _, gradient in self.found])):
            own = torch.cat(bucket)
            gathered = [torch.empty_like(own) for _ in range(self.count)]
            with others_alive():
                distributed.all_gather(gathered, own)
            if number == len(self.total):
                self.total.append(gathered.pop(0))
            for other in gathered:
                self.total[number] += other
        for weight, _ in self.found:
            weight.grad = None

    def finish(self) -> None:
        """Give the weights the sum."""
        for number, bucket in enumerate(buckets([lying(gradient) for _, gradient in self.found])):
            torch._foreach_copy_(bucket, list(self.total[number].split([len(one) for one in bucket])))
        for weight, gradient in self.found:
            weight.grad = gradient


class OverlappedSum(GradientSum):
    """On GPUs: gradients are sent while the last backward pass still finds others.

    Buckets are sent in one order, whatever the order in which their gradients are found: all processes must send the
    same (Li et al. 2020, arXiv:2006.15704, Sec. 3.2.3). The sums are the new gradients, where they were received.

    Args:
        weights: Whose gradients are summed, those first that a backward pass finds first.
        size: Numbers of a bucket, about.
    """

    def __init__(self, weights: Sequence[Tensor], size: int = SENT_EARLY) -> None:
        self.unsent = list(buckets(weights, size))
        self.found: set[Tensor] = set()
        self.under_way: list[Any] = []

    @contextmanager
    def last_pass(self) -> Iterator[None]:
        """Send what is found as it is found."""
        weights = [weight for bucket in self.unsent for weight in bucket]
        hooks = [weight.register_post_accumulate_grad_hook(self._note) for weight in weights]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self) -> None:
        """Send what is left, and wait for the sums: on the GPU alone."""
        while self.unsent:
            self._send()
        for work in self.under_way:
            with others_alive():
                work.wait()

    def _note(self, weight: Tensor) -> None:
        self.found.add(weight)
        while self.unsent and self.found.issuperset(self.unsent[0]):
            self._send()

    def _send(self) -> None:
        bucket = [(weight, weight.grad) for weight in self.unsent.pop(0) if weight.grad is not None]
        if not bucket:
            return
        total, first = torch.cat([lying(gradient) for _, gradient in bucket]), 0
        for weight, gradient in bucket:
            weight.grad = total.as_strided(gradient.size(), gradient.stride(), first)
            first += gradient.numel()
        with others_alive():
            self.under_way.append(distributed.all_reduce(total, async_op=True))


def lying(tensor: Tensor) -> Tensor:
    """All numbers of a tensor without gaps, in the order they lie in; its own memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def buckets(tensors: Sequence[Tensor], size: int = BUCKET) -> Iterator[list[Tensor]]:
    """The tensors in groups of about so many numbers, each of one format."""
    group: list[Tensor] = []
    for tensor in tensors:
        if group and tensor.dtype != group[0].dtype:
            yield group
            group = []
        group.append(tensor)
        if sum(map(Tensor.numel, group)) >= size:
            yield group
            group = []
    if group:
        yield group


def all_losses(own: Tensor, state: TrainingState) -> Tensor:
    """The losses of every pass of a step, `(A, B)`, from those of this process's own."""
    processes = state.processes
    if processes.count == 1:
        return own
    whole = own.new_zeros(state.config.gradient_accumulation_steps, own.shape[1])
    whole[processes.rank :: processes.count] = own
    distributed.all_reduce(whole)
    return whole
