"""The training loop of every stage: it stops and goes on, and a finished stage can be trained further."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pretraining.loop import Clock, Loss, Paused, Plan, Training, rate_at


def fit(plan: Plan, clock: Clock, model: nn.Linear) -> float:
    """Learn to double a number; returns the last weight."""

    def loss(forward: nn.Linear) -> Loss:
        value = torch.rand(8, 1)
        error = (forward(value) - 2 * value).square().mean()
        return error, {"error": error.detach()}

    trained = Training(plan, model, clock).run(model, loss)
    return float(trained.weight.detach())  # type: ignore[operator]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan("fit", 60.0, 0.1, 8, compile=False, max_steps=300, state_file=tmp_path / "fit.safetensors")


def test_a_stage_learns_and_its_figures_add_up_when_it_is_trained_again(plan: Plan) -> None:
    torch.manual_seed(0)
    clock, model = Clock(), nn.Linear(1, 1)
    assert fit(replace(plan, state_file=None), clock, model) == pytest.approx(2, abs=0.1)
    fit(replace(plan, state_file=None), clock, model)
    assert clock.stages["fit"]["steps"] == 600


def test_a_paused_stage_goes_on_where_it_stopped(plan: Plan) -> None:
    torch.manual_seed(0)
    with pytest.raises(Paused):
        fit(plan, Clock(call_seconds=0.0), nn.Linear(1, 1))
    again = Training(plan, nn.Linear(1, 1), Clock())
    assert again.step == 1
    assert again.optimizer.state[again.parameters[0]]["step"] == 1


def test_the_rate_warms_up_holds_and_falls() -> None:
    plan = Plan("fit", 60.0, 1.0, 8, warmup_steps=10, decay_from=0.5)
    assert rate_at(plan, 4, 0.0) == pytest.approx(0.5)
    assert rate_at(plan, 100, 0.5) == 1.0
    assert rate_at(plan, 100, 0.75) == pytest.approx(0.5)
    assert rate_at(plan, 100, 1.0) == pytest.approx(0.01)


def test_the_average_follows_the_weights(plan: Plan) -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    averaged = fit(replace(plan, state_file=None, ema=True), Clock(), model)
    assert averaged != float(model.weight.detach())
    assert averaged == pytest.approx(float(model.weight.detach()), abs=0.05)
