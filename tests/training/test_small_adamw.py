"""AdamW without masters, on the CPU: its rounding is by chance, so that weights go where fp32's would on average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from portrayal.config import BaseConfig, UnetMethod
from portrayal.models.base import load_base
from portrayal.models.source import find_base
from portrayal.settings import load_config
from portrayal.training import trainer
from portrayal.training.eight_bits import BLOCK, codes_of, magnitudes
from portrayal.training.small_adamw import SmallAdamW, rounded_by_chance
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
    value = torch.full((200_000,), 1.0 + 2.0**-10)  # an eighth of the way from 1 to the next bf16
    rounded = rounded_by_chance(value, torch.Generator().manual_seed(0)).float()
    assert set(rounded.unique().tolist()) == {1.0, 1.0 + 2.0**-7}
    assert float(rounded.mean()) == pytest.approx(1.0 + 2.0**-10, abs=5e-5)


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
