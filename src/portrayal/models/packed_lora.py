"""Several LoRAs over one frozen base, trained in one batch: the base's work is done once for all of them.

The rows of a batch are the members' rows, one member after another. In every adapted layer all members' `A` lie in one
tensor and all their `B` in another, padded with zeros to the largest rank; two batched products serve them all. The
padding keeps itself zero: a row of `A` that is zero meets a column of `B` that is zero, so both gradients are zero, and
the optimizers never see it. Each member trains as if it were alone.

Batched multi-LoRA training was shown for language models (mLoRA, Ye et al. 2023, arXiv:2312.02515).
Shapes: K members, b rows of each, n places (tokens or pixels) of these rows, r the largest rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from portrayal.config import TEXT_ENCODER_TARGETS, LoraMethod
from portrayal.errors import UsageError
from portrayal.models.base import BaseModel
from portrayal.models.methods import (
    DTYPES,
    check_free,
    check_targets,
    checkpoint_text_encoder,
    first_down,
    is_target,
    write_lora,
)
from portrayal.randomness import generator_for

DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass
class Member:
    """One LoRA of a pack.

    Attributes:
        name: Such as `lora-64`.
        method: Its rank, alpha and rates.
        seed: Of its first weights.
        weights: Its trainable weights by part and PEFT's names; those of `B` are transposed.
    """

    name: str
    method: LoraMethod
    seed: int
    weights: dict[str, nn.Parameter] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """What the product of `B` and `A` is multiplied by."""
        return (self.method.rank if self.method.alpha is None else self.method.alpha) / self.method.rank


class PackedLayer(nn.Module):
    """A frozen layer with one adapter for each member.

    Attributes:
        base_layer: The frozen layer; called as PEFT calls its own, so that who looks for the base's layers finds them.
        down: Every member's `A`, `(K, r, inputs)`, in the layer's number format; a convolution's kernel lies flat in
            `inputs`.
        up: Every member's `B`, transposed: `(K, r, outputs)`, so that a member's part is whole rows.
        masters: What is trained, both in fp32; where the layer is fp32 too, the same memory.
        scale: Of every member, `(K, 1, 1)`.
    """

    down: nn.Parameter
    up: nn.Parameter
    scale: Tensor

    def __init__(self, layer: Any, inputs: int, outputs: int, members: Sequence[Member]) -> None:
        super().__init__()
        self.base_layer = layer
        device, rank = layer.weight.device, max(member.method.rank for member in members)
        self._hold([torch.zeros(len(members), rank, size, device=device) for size in (inputs, outputs)])
        self.register_buffer("scale", torch.tensor([member.scale for member in members], device=device)[:, None, None])
        self.has_scales = any(member.scale != 1 for member in members)

    def _hold(self, masters: Sequence[Tensor]) -> None:
        """Compute with these weights from now on."""
        self.masters = list(masters)
        self.down, self.up = (nn.Parameter(master.to(self.base_layer.weight.dtype)) for master in masters)

    def as_peft(self, weight: Tensor, *, up: bool) -> Tensor:
        """A member's `A`, or its `B`, in the shape that PEFT gives it."""
        kernel = self.base_layer.weight.shape[1:]
        return weight.T.reshape(*weight.T.shape, *[1] * len(kernel[1:])) if up else weight.reshape(-1, *kernel)

    def view_of(self, number: int, rank: int) -> tuple[Tensor, Tensor]:
        """One member's part of the masters, in their own memory."""
        down, up = (master[number, :rank] for master in self.masters)
        return down, up

    def keep(self, numbers: Sequence[int], rank: int) -> None:
        """Let go of all members but these."""
        self._hold([master[list(numbers), :rank].clone() for master in self.masters])
        self.scale = self.scale[list(numbers)]

    def scaled(self, low: Tensor) -> Tensor:
        """`(K, n, r)`, each member's by its scale."""
        return low * self.scale.to(low.dtype) if self.has_scales else low


class PackedLinear(PackedLayer):
    """For a linear layer."""

    def __init__(self, layer: nn.Linear, members: Sequence[Member]) -> None:
        super().__init__(layer, layer.in_features, layer.out_features, members)

    def forward(self, x: Tensor) -> Tensor:
        """`(K·b, …, inputs)` → `(K·b, …, outputs)`."""
        rows = x.reshape(len(self.down), -1, x.shape[-1])
        y: Tensor
        if torch.is_autocast_enabled(x.device.type):  # which does not reach into a function of our own
            low = self.scaled(torch.bmm(rows, self.down.transpose(1, 2)))
            y = torch.baddbmm(self.base_layer(rows), low, self.up)
        else:
            scale = self.scale.to(rows.dtype) if self.has_scales else None
            adapted = (rows, self.base_layer.weight, self.base_layer.bias, self.down, self.up, scale)
            y = AdaptedLinear.apply(*adapted)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], -1)


class AdaptedLinear(torch.autograd.Function):
    """`x·Wᵀ + bias + scale·(x·Aᵀ)·B` of a frozen layer, `(K, n, inputs)` → `(K, n, outputs)`.

    What the adapters add, to the output and to the input's gradient, is summed inside the product: PyTorch would copy
    the one, and add the other in a pass of its own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: Tensor | None
    ) -> Tensor:
        """`down` is `(K, r, inputs)`, `up` `(K, r, outputs)`, `scale` `(K, 1, 1)` or nothing for 1."""
        low = torch.bmm(x, down.transpose(1, 2))
        low = low if scale is None else low * scale
        ctx.save_for_backward(x, weight, down, up, low, scale)
        return functional.linear(x, weight, bias).baddbmm_(low, up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of the input and the adapters; the layer is frozen."""
        x, weight, down, up, low, scale = ctx.saved_tensors
        (dy,) = gradients
        of_low = torch.bmm(dy, up.transpose(1, 2))
        of_low = of_low if scale is None else of_low * scale
        of_down, of_up = torch.bmm(of_low.transpose(1, 2), x), torch.bmm(low.transpose(1, 2), dy)
        dx = torch.matmul(dy, weight).baddbmm_(of_low, down) if ctx.needs_input_grad[0] else None
        return dx, None, None, of_down, of_up, None


class PackedConv2d(PackedLayer):
    """For a convolution: `A` has its kernel, `B` a kernel of one."""

    def __init__(self, layer: nn.Conv2d, members: Sequence[Member]) -> None:
        self.kernel = (layer.in_channels, *layer.kernel_size)
        super().__init__(layer, layer.weight[0].numel(), layer.out_channels, members)

    def forward(self, x: Tensor) -> Tensor:
        """`(K·b, inputs, H, W)` → `(K·b, outputs, H', W')`."""
        y: Tensor = self.base_layer(x)
        members, rank = self.down.shape[:2]
        rows = x.unflatten(0, (members, -1)).transpose(0, 1).flatten(1, 2)  # (b, K·inputs, H, W)
        kernels = self.down.reshape(members * rank, *self.kernel)
        low = functional.conv2d(rows, kernels, None, self.base_layer.stride, self.base_layer.padding, groups=members)
        low = low.unflatten(1, (members, rank)).permute(1, 0, 3, 4, 2)  # (K, b, H', W', r)
        high = torch.bmm(self.scaled(low.flatten(1, 3)), self.up).unflatten(1, low.shape[1:4])
        delta: Tensor = high.permute(0, 1, 4, 2, 3).flatten(0, 1)
        return y + delta


@dataclass
class Pack:
    """Several LoRAs in place on a base.

    Attributes:
        base: The base; its adapted layers are packed ones until :meth:`detach`.
        members: Those still in the pack, in the order of a batch's rows.
        layers: The packed layers by part and path.
    """

    base: BaseModel
    members: list[Member]
    layers: dict[str, PackedLayer]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable weights, by member, part and name."""
        return {f"{one.name}.{name}": weight for one in self.members for name, weight in one.weights.items()}

    def computing(self) -> dict[str, nn.Parameter]:
        """The same; what computes is copied from it."""
        return self.named_parameters()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The members' weights with their learning rates, groups for each member and part; `member` says whose."""
        groups = []
        for number, member in enumerate(self.members):
            text_rate = member.method.text_encoder_learning_rate or member.method.learning_rate
            for part, rate in {"unet": member.method.learning_rate, "text_encoder": text_rate}.items():
                weights = [weight for name, weight in member.weights.items() if name.startswith(f"{part}.")]
                if weights:
                    groups.append({"params": weights, "lr": rate, "member": number})
        return groups

    def refresh(self) -> None:
        """Bring the weights that compute up to the masters, where those are of another format."""
        computing, masters = self._apart()
        if computing:
            torch._foreach_copy_(computing, masters)

    def collect_gradients(self) -> None:
        """Give each member its part of the gradients, in the masters' format."""
        layers = list(self.layers.values())
        found = [weight.grad for layer in layers for weight in (layer.down, layer.up) if weight.grad is not None]
        if layers[0].down.dtype != torch.float32:
            halves, found = found, [torch.empty_like(master) for layer in layers for master in layer.masters]
            torch._foreach_copy_(found, halves)
        for number, path in enumerate(self.layers):
            for end, gradient in zip((DOWN, UP), found[2 * number : 2 * number + 2], strict=True):
                for row, member in enumerate(self.members):
                    member.weights[path + end].grad = gradient[row, : member.method.rank]

    def _apart(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights that compute, and their masters, where these are two."""
        layers = list(self.layers.values())
        if layers[0].down.dtype == torch.float32:
            return [], []
        computing = [weight.data for layer in layers for weight in (layer.down, layer.up)]
        return computing, [master for layer in layers for master in layer.masters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for layer in self.layers.values():
            layer.down.grad = layer.up.grad = None
        for member in self.members:
            for weight in member.weights.values():
                weight.grad = None

    def leave(self, member: Member) -> None:
        """Let a member go; the others' weights stay the same parameters, and every step costs less."""
        numbers = [number for number, other in enumerate(self.members) if other is not member]
        kept = [self.members[number] for number in numbers]
        rank = max(other.method.rank for other in kept)
        for layer in self.layers.values():
            layer.keep(numbers, rank)
        self.members = kept
        for other in kept:  # a member that left keeps its own memory alive, and nobody else's
            self._point(other)

    def save(self, member: Member, folder: Path, precision: str) -> None:
        """Write one member as the ordinary LoRA file it would be had it trained alone."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, weight in member.weights.items():
            part, _, path = name.partition(".")
            end = DOWN if name.endswith(DOWN) else UP
            layer = self.layers[name.removesuffix(end)]
            parts.setdefault(part, {})[path.replace(".default.", ".")] = layer.as_peft(weight, up=end == UP)
        write_lora(parts, member.method, folder, DTYPES[precision])

    def put(self) -> None:
        """Let the base compute with the adapters."""
        self._put(dict(self.layers))
        self.base.attached = True

    def weigh(self, strength: float) -> None:
        """Let the members' updates count this much more, or less."""
        for layer in self.layers.values():
            layer.scale *= strength
            layer.has_scales = True

    def detach(self) -> None:
        """Give the base back as it was."""
        for part in (self.base.unet, self.base.text_encoder):
            part.eval().requires_grad_(False)
        self._put({path: layer.base_layer for path, layer in self.layers.items()})
        self.base.unet.disable_gradient_checkpointing()
        checkpoint_text_encoder(self.base.text_encoder, on=False)
        self.base.attached = False

    def _point(self, member: Member) -> None:
        """Let a member's weights lie in the packed tensors."""
        number = self.members.index(member)
        for path, layer in self.layers.items():
            for end, view in zip((DOWN, UP), layer.view_of(number, member.method.rank), strict=True):
                member.weights[path + end].data = view

    def _put(self, layers: dict[str, Any]) -> None:
        for path, layer in layers.items():
            part, _, name = path.partition(".")
            getattr(self.base, part).set_submodule(name, layer)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """The base without the pack, for a while; it computes afterwards as it did."""
        training = self.base.unet.training, self.base.text_encoder.training
        parts = (*self.base.unet.modules(), *self.base.text_encoder.modules())
        recomputing = [
            (module, module._gradient_checkpointing_func)
            for module in parts
            if getattr(module, "gradient_checkpointing", False) is True
        ]
        self._put({path: layer.base_layer for path, layer in self.layers.items()})
        self.base.attached = False
        try:
            yield
        finally:
            self.put()
            self.base.unet.train(training[0])
            self.base.text_encoder.train(training[1])
            for module, function in recomputing:  # what was attached meanwhile turned it off, and reset it, as it left
                module.gradient_checkpointing, module._gradient_checkpointing_func = True, function


def attach_pack(base: BaseModel, members: Sequence[Member]) -> Pack:
    """Put several LoRAs into a base, each with the first weights it would have alone.

    Args:
        base: The base.
        members: The LoRAs; ranks, scales, rates and seeds may differ, what they adapt may not.

    Raises:
        UsageError: If the members adapt different layers, drop inputs, or adapt a grouped convolution.
        ValueError: If a method is in place already.
    """
    check_free(base)
    check_packable([member.method for member in members])
    check_targets(base.unet, members[0].method.target_modules)
    layers = {path: packed_layer(base, path, members) for path in adapted_paths(base, members[0].method)}
    pack = Pack(base, list(members), layers)
    for member in members:
        nothing = torch.empty(0, device=base.device)
        member.weights = {path + end: nn.Parameter(nothing) for path in layers for end in (DOWN, UP)}
        pack._point(member)
        draw_first(layers, member)
    pack.put()
    return pack


def adapted_paths(base: BaseModel, method: LoraMethod) -> list[str]:
    """Part and path of each layer that a method adapts, in the order of the base's own."""
    targets = {"unet": method.target_modules, "text_encoder": TEXT_ENCODER_TARGETS if method.train_text_encoder else ()}
    return [
        f"{part}.{name}"
        for part, wanted in targets.items()
        for name, _ in getattr(base, part).named_modules()
        if is_target(name, wanted)
    ]


@torch.no_grad()
def draw_first(layers: Mapping[str, PackedLayer], member: Member) -> None:
    """What a LoRA starts from: `A` as it would be drawn alone, layer by layer; `B` stays zero."""
    generator, rank = generator_for(member.seed, "lora.init"), member.method.rank
    for path, packed in layers.items():
        inputs = packed.base_layer.weight.shape[1:]
        member.weights[path + DOWN].copy_(first_down((rank, *inputs), generator).flatten(1))


def packed_layer(base: BaseModel, path: str, members: Sequence[Member]) -> PackedLayer:
    """A layer of the base with room for every member."""
    part, _, name = path.partition(".")
    layer = getattr(base, part).get_submodule(name)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1:
        return PackedConv2d(layer, members)
    if isinstance(layer, nn.Linear):
        return PackedLinear(layer, members)
    raise UsageError(
        f"{path} is a {type(layer).__name__}, which no pack of LoRAs can adapt.", "Set study.loras_at_once=1."
    )


def check_packable(methods: Sequence[LoraMethod]) -> None:
    """Refuse methods that cannot share a batch.

    Raises:
        UsageError: Which setting forbids it.
    """
    for setting in ("target_modules", "train_text_encoder"):
        if len({getattr(method, setting) for method in methods}) > 1:
            raise UsageError(f"LoRAs of one pack must have one {setting}.", "Train them one by one.")
    if any(method.dropout for method in methods):
        raise UsageError("LoRAs that drop inputs cannot be packed.", "Set method.lora.dropout=0.")
