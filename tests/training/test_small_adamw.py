"""AdamW without masters, on the CPU: weights go where fp32's would, by bf16 and 8 more bits, rounded by chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from portrayal.config import BaseConfig, UnetMethod
from portrayal.models.base import load_base
from portrayal.models.source import find_base
from portrayal.settings import load_config
from portrayal.training import trainer
from portrayal.training.eight_bits import BLOCK, codes_of, magnitudes
from portrayal.training.small_adamw import SmallAdamW, joined, split_by_chance
from portrayal.training.task import Task

METHOD = UnetMethod(learning_rate=1e-4, max_train_steps=4, master_weights=False, train_text_encoder=True)


def optimizer_of(weight: torch.nn.Parameter, rate: float, decay: float = 0.01) -> SmallAdamW:
    return SmallAdamW([{"params": [weight], "lr": rate}], betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)


@pytest.mark.parametrize(("octaves", "levels"), [(14.0, 127), (40.0, 255)])
def test_codes_keep_the_mean_and_the_largest(octaves: float, levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.logspace(-6, 2, 1000)
    drawn = [magnitudes(*codes_of(values, octaves, levels, generator), octaves, levels) for _ in range(300)]
    mean = torch.stack(drawn).mean(0)
    tops = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK).amax(1)
    inside = values / tops.repeat_interleave(BLOCK)[: len(values)] > 2.0**-octaves
    assert float((mean / values - 1)[inside].abs().max()) < 0.03
    assert all(torch.equal(one.amax(), values.amax()) for one in drawn)


def test_rounding_by_chance_keeps_the_mean() -> None:
    value = torch.full((200_000,), 1.0 + 2.0**-18)  # an eighth of the way from 1 to the next of a bf16 and 8 bits
    halves, rest = split_by_chance(value, torch.Generator().manual_seed(0))
    found = joined(halves, rest)
    assert set(found.unique().tolist()) == {1.0, 1.0 + 2.0**-15}
    assert float((found - 1).mean()) == pytest.approx(2.0**-18, rel=0.03)


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=50), st.integers(0, 99))
def test_a_number_is_its_nearest_half_and_a_rest(numbers: list[float], seed: int) -> None:
    values = torch.tensor(numbers)
    halves, rest = split_by_chance(values, torch.Generator().manual_seed(seed))
    found = joined(halves, rest)
    assert torch.equal((found - halves.float()).abs(), (found - found.to(torch.bfloat16).float()).abs())
    away = (found.double() - values.double()).abs()
    assert bool((away <= values.double().abs() * 2.0**-15 + 2.0**-133).all())


def test_steps_smaller_than_a_half_can_tell_are_all_kept() -> None:
    """Each weight comes near to where fp32's comes, though it moves an eighth of what bf16's neighbours are apart."""
    torch.manual_seed(0)
    start = torch.rand(4096).add(1).to(torch.bfloat16)
    weight, twin = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.double())
    ours, theirs = optimizer_of(weight, 1e-5, decay=0.0), torch.optim.AdamW([twin], lr=1e-5, weight_decay=0.0)
    pull = torch.randn(4096).to(torch.bfloat16)
    for _ in range(100):
        weight.grad, twin.grad = pull.clone(), pull.double()
        ours.step()
        theirs.step()
    moved = joined(weight.detach(), ours.state[weight]["rest"]).double() - start.double()
    expected = twin.detach() - start.double()
    assert float((moved - expected).norm() / expected.norm()) < 0.2


def test_a_checkpoint_of_older_versions_has_no_rest() -> None:
    weight = torch.nn.Parameter(torch.ones(300, dtype=torch.bfloat16))
    optimizer = optimizer_of(weight, 1e-2)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    left = optimizer.state_dict()
    del left["state"][0]["rest"]
    optimizer.load_state_dict(left)
    before = weight.detach().float()
    optimizer.step()
    assert float((before - joined(weight.detach(), optimizer.state[weight]["rest"])).mean()) == pytest.approx(
        1e-2, rel=0.05
    )


def test_weights_move_as_torch_moves_them_on_average() -> None:
    torch.manual_seed(0)
    start = torch.randn(64, 64, 3, 3).mul(0.05).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    scale = torch.logspace(-6, -2, 64)[:, None, None, None]  # rows whose gradients are far apart
    weight, twin = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.double())
    ours, theirs = optimizer_of(weight, 1e-3), torch.optim.AdamW([twin], lr=1e-3, weight_decay=0.01)
    for _ in range(40):
        gradient = (torch.randn(start.shape) * scale + 0.5 * scale).to(torch.bfloat16)  # lies otherwise than the weight
        weight.grad, twin.grad = gradient.clone(), gradient.double()
        ours.step()
        theirs.step()
    moved, expected = (weight.double() - start.double()).detach(), (twin - start.double()).detach()
    assert float((moved - expected).norm() / expected.norm()) < 0.1
    rows = (moved.mean((1, 2, 3)) / expected.mean((1, 2, 3)) - 1).abs()
    assert float(rows.max()) < 0.05


def test_a_step_that_is_skipped_moves_nothing() -> None:
    weight = torch.nn.Parameter(torch.randn(300).to(torch.bfloat16))
    before, optimizer = weight.detach().clone(), optimizer_of(weight, 1e-2, decay=0.0)
    weight.grad = torch.ones_like(weight)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert torch.equal(weight, before)
    assert not optimizer.state
    optimizer.found_inf = torch.zeros(())
    optimizer.step()
    assert float((before - weight.detach()).float().mean()) == pytest.approx(1e-2, rel=0.05)


def test_what_the_kernel_left_is_gone_on_with() -> None:
    """Which counts its steps once, beside the first weight: a training may go on on a machine without Triton."""

    def two(optimizer_state: dict[str, Any] | None, start: list[torch.Tensor]) -> tuple[SmallAdamW, list[torch.Tensor]]:
        weights = [torch.nn.Parameter(one.clone()) for one in start]
        optimizer = SmallAdamW([{"params": weights, "lr": 1e-2}], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        for weight in weights:
            weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()
        return optimizer, [weight.detach() for weight in weights]

    optimizer, first = two(None, [torch.ones(300, dtype=torch.bfloat16), torch.zeros(20, dtype=torch.bfloat16)])
    left = optimizer.state_dict()
    as_kernel = left | {"state": {number: dict(kept) for number, kept in left["state"].items()}}
    as_kernel["state"][1].pop("step", None)
    found, expected = two(as_kernel, first)[1], two(left, first)[1]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not torch.equal(found[1], first[1])


def test_a_training_without_masters_goes_on_bit_for_bit(encoded, tmp_path: Path) -> None:
    """Weights, codes and chances: all are where they were."""
    base = load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cpu"), dtype=torch.bfloat16)
    config = load_config(None, ["training.mixed_precision=bf16", "training.checkpointing_steps=1"])

    def stop_at_two(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def train(name: str, progress) -> dict[str, bytes]:
        tasks = [Task("unet", METHOD, encoded, tmp_path / name)]
        trainer.train(base, tasks, config, tmp_path / f".{name}", progress)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob("*.safetensors"))}

    whole = train("whole", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop_at_two)
    assert train("stopped", lambda *_: None) == whole
    assert base.unet.dtype == torch.bfloat16
    assert not base.attached
