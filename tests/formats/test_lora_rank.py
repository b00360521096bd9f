"""The nearest LoRA of a lower rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portrayal.formats.lora import LoraLayer, delta
from portrayal.formats.lora_rank import lower_rank


def layer(outputs: int, inputs: int, rank: int, *, kernel: tuple[int, ...] = (), seed: int = 0) -> LoraLayer:
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, inputs, *kernel, generator=generator)
    return LoraLayer(down, torch.randn(outputs, rank, *[1] * len(kernel), generator=generator), alpha=3.0)


sizes = st.integers(1, 12)


@given(outputs=sizes, inputs=sizes, rank=sizes, wanted=sizes, kernel=st.sampled_from([(), (1, 1), (3, 3)]))
def test_it_is_the_nearest_there_is_and_says_what_it_loses(
    outputs: int, inputs: int, rank: int, wanted: int, kernel: tuple[int, ...]
) -> None:
    whole = layer(outputs, inputs, rank, kernel=kernel)

    lowered = lower_rank({"a": whole}, wanted)

    found, full = delta(lowered.layers["a"]).flatten(1).double(), delta(whole).flatten(1).double()
    left, values, right = torch.linalg.svd(full, full_matrices=False)
    nearest = left[:, :wanted] * values[:wanted] @ right[:wanted]
    assert lowered.layers["a"].rank <= wanted
    assert lowered.layers["a"].down.shape[1:] == whole.down.shape[1:]
    assert torch.allclose(found, nearest, atol=1e-4 * float(values[0]))
    assert lowered.loss == pytest.approx(float((full - found).norm() / full.norm()), abs=1e-3)


def test_the_loss_is_of_all_layers_together() -> None:
    lowered = lower_rank({"a": layer(8, 8, 4), "b": layer(8, 8, 1, seed=1)}, 1)

    whole = [delta(layer(8, 8, 4)), delta(layer(8, 8, 1, seed=1))]
    found = [delta(one) for one in lowered.layers.values()]
    missing = sum(float((a - b).square().sum()) for a, b in zip(whole, found, strict=True))
    assert lowered.loss == pytest.approx((missing / sum(float(a.square().sum()) for a in whole)) ** 0.5, rel=1e-4)


def test_an_update_of_nothing_loses_nothing() -> None:
    whole = layer(4, 4, 2)

    lowered = lower_rank({"a": LoraLayer(whole.down, torch.zeros_like(whole.up), 1.0)}, 1)

    assert lowered.loss == 0
    assert not delta(lowered.layers["a"]).any()


def test_what_cannot_be_lowered_is_said() -> None:
    dora = LoraLayer(torch.ones(1, 2), torch.ones(2, 1), 1.0, magnitude=torch.ones(2, 1))

    with pytest.raises(ValueError, match="DoRA"):
        lower_rank({"a": dora}, 1)
    with pytest.raises(ValueError, match="1 or more"):
        lower_rank({"a": layer(2, 2, 2)}, 0)
