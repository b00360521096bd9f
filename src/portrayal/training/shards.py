"""The optimizer's numbers of a full UNet, each kept by one of the processes that share its steps.

AdamW keeps two averages of every weight, and where halves compute an fp32 master: 12 of a weight's 16 bytes. Here each
process keeps those of its share of the weights and moves these alone; then every process gets what the others moved
(ZeRO, Rajbhandari et al. 2020, arXiv:1910.02054, stage 1). The numbers are those of one process; so is a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed

from portrayal.models.methods import Attached
from portrayal.processes import Processes, deal, others_alive
from portrayal.training.sharing import buckets, lying

Json = dict[str, Any]


@dataclass
class Shards:
    """Who keeps what of a training.

    Attributes:
        processes: Who shares it.
        groups: Names of the weights of each of the optimizer's groups, in order.
        owners: Whose each weight is.
        gathered: At the first process what the others keep, as of the last :meth:`gather`: by weight and kind.
    """

    processes: Processes
    groups: list[list[str]]
    owners: dict[str, int]
    gathered: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, attached: Attached, groups: Sequence[Mapping[str, Any]], processes: Processes) -> Shards:
        """Deal the weights out by their sizes."""
        names = {id(weight): name for name, weight in attached.named_parameters().items()}
        named = [[names[id(weight)] for weight in group["params"]] for group in groups]
        sizes = {names[id(weight)]: float(weight.numel()) for group in groups for weight in group["params"]}
        return cls(processes, named, dict(zip(sizes, deal(list(sizes.values()), processes.count), strict=True)))

    def mine(self, name: str) -> bool:
        """Whether a weight is of this process's share."""
        return self.owners[name] == self.processes.rank

    def own(self, groups: Sequence[Mapping[str, Any]]) -> list[Json]:
        """The groups with what is of this process's share alone."""
        found = []
        for names, group in zip(self.groups, groups, strict=True):
            lists = {key: group[key] for key in ("params", "weights") if key in group}
            kept = {
                key: [weight for name, weight in zip(names, weights, strict=True) if self.mine(name)]
                for key, weights in lists.items()
            }
            found.append({**group, **kept})
        return found

    def let_go(self, attached: Attached) -> None:
        """Free the masters that others keep."""
        for name in [name for name in attached.masters if not self.mine(name)]:
            del attached.masters[name]

    @torch.no_grad()
    def spread(self, computing: Mapping[str, Tensor]) -> None:
        """Give every process the weights that each has moved."""
        for owner in range(self.processes.count):
            theirs = [lying(weight.data) for name, weight in computing.items() if self.owners.get(name) == owner]
            for bucket in buckets(theirs):
                sent = torch.cat(bucket)
                distributed.broadcast(sent, owner)
                torch._foreach_copy_(bucket, list(sent.split([len(one) for one in bucket])))

    def gather(self, attached: Attached, optimizer: torch.optim.Optimizer) -> None:
        """Bring what others keep to the first process, on the CPU, to be written; all must call this."""
        from safetensors.torch import load, save

        self.gathered.clear()
        kept = dict(zip(self._own_names(), parameters_of(optimizer), strict=True))
        for name in [name for names in self.groups for name in names if self.owners[name]]:
            if self.mine(name):
                parts = dict(optimizer.state[kept[name]])
                parts |= {"weight": attached.masters[name].detach()} if attached.masters else {}
                blob = save({key: part.cpu().contiguous() for key, part in parts.items()})
                send(torch.frombuffer(bytearray(blob), dtype=torch.uint8))
            elif self.processes.first:
                self.gathered[name] = load(bytes(receive(self.owners[name]).numpy()))

    def whole_parameters(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All that is trained, by name: what is here, and what was gathered."""
        names = [name for names in self.groups for name in names]
        return {name: own[name] if name in own else self.gathered[name]["weight"] for name in names}

    def whole_state(self, optimizer: torch.optim.Optimizer) -> Json:
        """The optimizer's state as one process would have it."""
        state = optimizer.state_dict()
        kept = dict(zip(self._own_names(), parameters_of(optimizer), strict=True))
        places = {name: place for place, name in enumerate(name for names in self.groups for name in names)}
        moments = {
            places[name]: optimizer.state[kept[name]]
            if name in kept
            else {key: part for key, part in self.gathered[name].items() if key != "weight"}
            for name in places
        }
        groups = [
            group | {"params": [places[name] for name in names]}
            for names, group in zip(self.groups, state["param_groups"], strict=True)
        ]
        return {"state": moments, "param_groups": groups}

    def own_state(self, saved: Mapping[str, Any]) -> Json:
        """This process's share of a whole state."""
        names = [name for names in self.groups for name in names]
        places = [place for place, name in enumerate(names) if self.mine(name)]
        moments = {number: dict(saved["state"][place]) for number, place in enumerate(places)}
        if "step" not in moments[0] and "step" in saved["state"][0]:  # counted once, with the first weight
            moments[0]["step"] = saved["state"][0]["step"]
        groups, first = [], 0
        for names, group in zip(self.groups, saved["param_groups"], strict=True):
            count = sum(map(self.mine, names))
            groups.append({**group, "params": list(range(first, first + count))})
            first += count
        return {"state": moments, "param_groups": groups}

    def _own_names(self) -> list[str]:
        return [name for names in self.groups for name in names if self.mine(name)]


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What an optimizer moves, group by group."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def send(content: Tensor) -> None:
    """Send bytes to the first process."""
    with others_alive():
        distributed.send(torch.tensor(len(content)), 0)
        distributed.send(content, 0)


def receive(source: int) -> Tensor:
    """Receive what a process sends."""
    length = torch.tensor(0)
    with others_alive():
        distributed.recv(length, source)
        content = torch.empty(int(length), dtype=torch.uint8)
        distributed.recv(content, source)
    return content
