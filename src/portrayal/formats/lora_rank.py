"""A LoRA of a lower rank: the nearest one there is, and what it loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from portrayal.formats.lora import LoraLayer


class Lowered(NamedTuple):
    """A LoRA at another rank.

    Attributes:
        layers: Its updates; alpha is the rank, so their scale is 1.
        loss: Frobenius norm of what is missing, over all layers, against that of the whole update: 0 to 1.
    """

    layers: dict[str, LoraLayer]
    loss: float


def lower_rank(layers: Mapping[str, LoraLayer], rank: int) -> Lowered:
    """Cut each layer's update to its largest singular values (Eckart and Young 1936: no nearer one has that rank).

    The update is never written out: with `up = Q₁R₁` and `downᵀ = Q₂R₂` its singular values are those of `R₁R₂ᵀ`, a
    square of the rank's side. Layers of that rank or below keep what they have.

    Args:
        layers: Updates by layer; neither DoRA nor in Tucker form, whose products have another form.
        rank: The highest rank of a layer, 1 or more.

    Raises:
        ValueError: If the rank is below 1, or a layer is a DoRA or in Tucker form.
    """
    if rank < 1:
        raise ValueError("a LoRA's rank is 1 or more")
    found, missing, whole = dict[str, LoraLayer](), 0.0, 0.0
    for path, layer in layers.items():
        if layer.mid is not None or layer.magnitude is not None:
            raise ValueError(f"{path} is a DoRA or in Tucker form")
        up, values, down = _factors(layer)
        kept = min(rank, len(values))
        root = values[:kept].sqrt()
        found[path] = LoraLayer(
            (root[:, None] * down[:kept]).float().view(kept, *layer.down.shape[1:]),
            (up[:, :kept] * root).float().view(len(up), kept, *layer.up.shape[2:]),
            alpha=float(kept),
        )
        missing += float(values[kept:].square().sum())
        whole += float(values.square().sum())
    return Lowered(found, (missing / whole) ** 0.5 if whole else 0.0)


def _factors(layer: LoraLayer) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors and values of an update, in float64: `(O, R)`, `(R,)`, `(R, I…)`."""
    outer, left = torch.linalg.qr(layer.up.double().flatten(1))
    inner, right = torch.linalg.qr(layer.down.double().flatten(1).T)
    first, values, last = torch.linalg.svd(left @ right.T * (layer.alpha / layer.rank))
    size = len(values)
    return outer @ first[:, :size], values, (inner @ last[:size].T).T
