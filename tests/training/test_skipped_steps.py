"""A step that is not finite changes nothing, whatever the optimizer, method and precision; and it is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from portrayal.config import Method
from portrayal.errors import TrainingDivergedError
from portrayal.training import step as step_module
from portrayal.training.health import BLAMED, PATIENCE, PATIENCE_FP16, Adaptation, Health, StreakError
from portrayal.training.state import TrainingState
from portrayal.training.step import train_step
from tests.training.mini import OPTIMIZERS, PACK, PACKAGES, SMALL, UNET, config_of, everything_in, lora, same, started

METHODS: dict[str, tuple[Method, ...]] = {"unet": (UNET,), "pack": PACK}
CASES = [
    *((optimizer, name, precision) for optimizer in OPTIMIZERS for name in METHODS for precision in ("no", "fp16")),
    ("adamw", "small", "bf16"),
]


def everything_of(state: TrainingState, number: int) -> list[Tensor]:
    """All numbers of one learner: its weights, and what the optimizer keeps of them."""
    weights = state.weights_of(number)
    moments = [value for weight in weights for value in state.optimizer.state[weight].values()]
    computing = [*state.attached.computing().values()] if len(state.learners) == 1 else []
    return [value.detach().clone() for value in (*weights, *moments, *computing) if isinstance(value, Tensor)]


def poisoned_weight(state: TrainingState) -> Any:
    """What gets a gradient: of a UNet the last that a backward pass finds, of a pack what all learners lie in."""
    layers = getattr(state.attached, "layers", None)
    return next(iter(layers.values())).down if layers else next(iter(state.attached.computing().values()))


def train_with_bad_gradient(state: TrainingState, value: float) -> list[Any]:
    """A step whose losses are finite, and one number of one gradient is not: of a pack, the last learner's."""

    def spoil(gradient: Tensor) -> Tensor:
        spoiled = gradient.clone()
        spoiled[(-1, *[0] * (gradient.ndim - 1))] = value
        return spoiled

    handle = poisoned_weight(state).register_hook(spoil)
    try:
        return train_step(state)
    finally:
        handle.remove()


def train_with_bad_loss(state: TrainingState, monkeypatch: pytest.MonkeyPatch, value: float) -> list[Any]:
    """A step whose gradient is finite and one of whose losses is not."""
    with monkeypatch.context() as patched:
        whole = step_module.gradients

        def spoiled(*arguments: Any) -> Any:
            outputs = whole(*arguments)
            losses = outputs.losses.clone()
            losses[-1, -1] = value
            return replace(outputs, losses=losses)

        patched.setattr(step_module, "gradients", spoiled)
        return train_step(state)


@pytest.mark.parametrize(("optimizer", "name", "precision"), CASES)
def test_no_number_that_is_not_finite_reaches_weights_or_averages(
    mini,
    mini_half,
    mini_data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    name: str,
    precision: str,
) -> None:
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer])
    base, methods = (mini_half, (SMALL,)) if name == "small" else (mini, METHODS[name])
    config = config_of(f"training.optimizer.name={optimizer}", f"training.mixed_precision={precision}")
    with started(base, methods, mini_data, config, tmp_path) as state:
        assert (state.scaler is not None) == (precision == "fp16")
        assert not any(record.skipped for record in train_step(state))
        count = len(state.learners)
        hit = [number for number in range(count) if precision == "fp16" or number == count - 1]  # one scale serves all
        before = [everything_of(state, number) for number in range(count)]
        scale = state.scaler.get_scale() if state.scaler else None
        bad = [
            train_with_bad_loss(state, monkeypatch, float("inf")),
            train_with_bad_gradient(state, float("inf" if precision == "fp16" else "nan")),
        ]
        for records in bad:
            assert [number for number, record in enumerate(records) if record.skipped] == hit
        for number, (learner, earlier) in enumerate(zip(state.learners, before, strict=True)):
            assert same(earlier, everything_of(state, number)) == (number in hit)
            skipped = 2 * (number in hit)
            assert (learner.health.skipped, learner.health.in_a_row) == (skipped, skipped)
        if state.scaler:  # it falls with a gradient that overflows, not with a loss
            assert state.scaler.get_scale() == scale / 2
        assert not any(record.skipped for record in train_step(state))
        assert not any(same(earlier, everything_of(state, number)) for number, earlier in enumerate(before))
        assert all(value.isfinite().all() for value in everything_in(state))
        assert {learner.health.in_a_row for learner in state.learners} == {0}


@pytest.mark.parametrize(("precision", "patience"), [("no", PATIENCE), ("fp16", PATIENCE_FP16)])
def test_fp16_has_more_patience(mini, mini_data, tmp_path: Path, precision: str, patience: int) -> None:
    """For its scale to settle: 20 steps halve it by a million."""
    config = config_of(f"training.mixed_precision={precision}")
    with started(mini, [lora(2, target_modules=("conv_in",))], mini_data, config, tmp_path) as state:
        for _ in range(patience):
            train_with_bad_gradient(state, float("inf"))
        with pytest.raises(TrainingDivergedError, match=f"{patience + 1} steps in a row"):
            train_with_bad_gradient(state, float("inf"))


# What is remembered of such steps --------------------------------------------------------------------------------


def note(health: Health, *steps: dict[str, bool], fp16: bool = False) -> None:
    for number, pictures in enumerate(steps):
        health.note(number, pictures, skipped=not all(pictures.values()), fp16=fp16)


GOOD, BAD = {"a": True, "b": True}, {"a": False, "b": True}


def test_a_picture_is_blamed_for_losses_in_a_row_only() -> None:
    note(Health(), *[BAD, BAD, GOOD] * 5)
    note(Health(), *[BAD, {"b": True}] * (BLAMED - 1))
    with pytest.raises(TrainingDivergedError, match="loss of a was not finite"):
        note(Health(), *[BAD, {"b": True}] * BLAMED)  # in a row of its own steps: those without it do not count
    health = Health()
    note(health, BAD, BAD, GOOD)
    assert health.blamed == {}
    assert (health.skipped, health.in_a_row) == (2, 0)


@pytest.mark.parametrize(("fp16", "patience"), [(False, PATIENCE), (True, PATIENCE_FP16)])
def test_skipped_steps_in_a_row_are_borne_up_to_a_number(fp16: bool, patience: int) -> None:
    health = Health()
    for _ in range(2):  # one good step, and the count begins anew
        for step in range(patience):
            health.note(step, {f"photo{step}": True}, skipped=True, fp16=fp16)
        health.note(patience, GOOD, skipped=False, fp16=fp16)
    assert (health.skipped, health.in_a_row) == (2 * patience, 0)
    with pytest.raises(TrainingDivergedError, match=f"{patience + 1} steps in a row"):
        for step in range(patience + 1):
            health.note(step, {f"photo{step}": True}, skipped=True, fp16=fp16)


def test_only_fp16_with_finite_losses_is_blamed_on_fp16() -> None:
    for fp16, finite, kind in (
        (True, True, TrainingDivergedError),
        (True, False, StreakError),
        (False, True, StreakError),
    ):
        health = Health()
        with pytest.raises(TrainingDivergedError) as caught:
            for step in range(PATIENCE_FP16 + 1):
                health.note(step, {f"photo{step}": finite}, skipped=True, fp16=fp16)
        assert type(caught.value) is kind


def test_a_lowered_rate_holds_from_its_step_on() -> None:
    adapted = Adaptation(lowered=(3, 5))
    assert [adapted.rate_at(step) for step in range(7)] == [1, 1, 1, 1 / 4, 1 / 4, 1 / 16, 1 / 16]
    assert Adaptation(lowered=(7,)).slower(4) == Adaptation(lowered=(4, 4))  # back to 4: both hold from there on
    assert adapted.slower(6) is None
