"""One step taken by several processes: each takes some of its forward passes, and the gradients are summed.

The passes of a step (`gradient_accumulation_steps`) are functions of (seed, position) and are the same whoever takes
them: pass `p` belongs to process `p mod count`. One process sums their gradients in order, ((g0 + g1) + g2) + …. On the
CPU several do too: after each round every process adds what the others found, in the order of the passes, so that the
weights are those of one process bit for bit. On GPUs each sums its own passes, and NCCL sums these: equal to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from portrayal.config import Config, Method, UnetMethod
from portrayal.models.methods import Attached
from portrayal.processes import others_alive

if TYPE_CHECKING:
    from portrayal.training.state import TrainingState

BUCKET = 1 << 27
"""Numbers that are sent at once: 256 MiB of halves."""


def shares_steps(method: Method, config: Config, count: int) -> bool:
    """Whether `count` processes can share the steps of a training: a full UNet's, if each has as many passes.

    LoRAs are dealt out whole, which needs no words between processes.
    """
    return count > 1 and isinstance(method, UnetMethod) and config.training.gradient_accumulation_steps % count == 0


class GradientSum:
    """Sums the gradients of a step over its processes; of one process, nothing is left to do.

    Args:
        state: The training.
    """

    def __init__(self, state: TrainingState) -> None:
        self.processes = state.processes
        shared = self.processes.count > 1 and isinstance(state.attached, Attached)
        self.weights: list[Tensor] = [*state.attached.computing().values()] if shared else []
        self.in_order = shared and state.base.device.type != "cuda"
        self.total: list[Tensor] = []
        self.found: list[tuple[Tensor, Tensor]] = []

    def add_round(self) -> None:
        """After a pass of every process: on the CPU, add what each of them found, in their order."""
        if not self.in_order:
            return
        self.found = self._gradients()
        for number, bucket in enumerate(buckets([lying(gradient) for _, gradient in self.found])):
            own = torch.cat(bucket)
            gathered = [torch.empty_like(own) for _ in range(self.processes.count)]
            with others_alive():
                distributed.all_gather(gathered, own)
            if number == len(self.total):
                self.total.append(gathered.pop(0))
            for other in gathered:
                self.total[number] += other
        for weight, _ in self.found:
            weight.grad = None

    def finish(self) -> None:
        """After the last pass: leave the sum with the weights, in every process."""
        if not self.weights:
            return
        found = self.found or self._gradients()
        for number, bucket in enumerate(buckets([lying(gradient) for _, gradient in found])):
            if self.in_order:
                total = self.total[number]
            else:
                total = torch.cat(bucket)
                distributed.all_reduce(total)
            torch._foreach_copy_(bucket, list(total.split([len(one) for one in bucket])))
        for weight, gradient in found:
            weight.grad = gradient

    def _gradients(self) -> list[tuple[Tensor, Tensor]]:
        return [(weight, weight.grad) for weight in self.weights if weight.grad is not None]


def lying(tensor: Tensor) -> Tensor:
    """All numbers of a tensor without gaps, in the order they lie in; its own memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of about :data:`BUCKET` numbers."""
    group: list[Tensor] = []
    for tensor in tensors:
        group.append(tensor)
        if sum(map(len, group)) >= BUCKET:
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
