"""Training: the losses are frozen, a resumed run is the run, and nothing that is not finite reaches the weights.

The golden losses are written anew with PORTRAYAL_GOLDEN=write; a change that should not move them, must not.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from portrayal.config import Config, LoraMethod, Method, UnetMethod
from portrayal.data.batches import Batch
from portrayal.errors import MachineError, OutOfMemoryError, TrainingDivergedError
from portrayal.settings import load_config
from portrayal.training import session as training_session
from portrayal.training import step as step_module
from portrayal.training import trainer
from portrayal.training.checkpoint import kept, load_checkpoint, save_checkpoint
from portrayal.training.health import Health, StreakError
from portrayal.training.loss import Noise
from portrayal.training.state import Rate, TrainingState
from portrayal.training.step import StepRecord
from portrayal.training.task import Task, TrainingData

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
STEPS = 3
UNET = UnetMethod(learning_rate=1e-4, max_train_steps=STEPS)
LORA = LoraMethod(rank=2, learning_rate=1e-3, max_train_steps=STEPS)
METHODS: dict[str, Method] = {
    "unet": UNET,
    "unet+text": UNET.model_copy(update={"train_text_encoder": True, "text_encoder_learning_rate": 5e-5}),
    "lora": LORA,
    "lora+text": LORA.model_copy(update={"train_text_encoder": True}),
}


def train(
    base: Any,
    name: str,
    method: Method,
    data: TrainingData,
    config: Config,
    folder: Path,
    progress: Callable[..., None],
) -> None:
    trainer.train(base, [Task(name, method, data, folder)], config, folder.with_name(f".{name}.training"), progress)


def session(
    base: Any, name: str, method: Method, data: TrainingData, config: Config, work: Path
) -> AbstractContextManager[TrainingState]:
    return training_session.session(base, [Task(name, method, data, work / "unused")], config, work)


def train_step(state: TrainingState) -> StepRecord:
    (record,) = step_module.train_step(state)
    return record


def config_of(*settings: str) -> Config:
    fixed = ["training.mixed_precision=no", "training.save_precision=fp32", "training.checkpointing_steps=1"]
    return load_config(None, [*fixed, *settings])


def ignore(done: int, total: int) -> None:
    """Progress nobody watches."""


def steps(state: TrainingState, count: int = STEPS) -> list[float]:
    return [train_step(state).loss for _ in range(count)]


def losses_of(
    pocket, method: Method, data: TrainingData, config: Config, work: Path, count: int = STEPS
) -> list[float]:
    with session(pocket, "m", method, data, config, work) as state:
        return steps(state, count)


def weights_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def record_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


@pytest.fixture(autouse=True)
def base_given_back(pocket) -> Iterator[None]:
    yield
    assert not pocket.attached
    for part in (pocket.unet, pocket.text_encoder):
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not hasattr(part, "peft_config") or not part.peft_config


# The numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_golden(pocket, encoded, tmp_path: Path, name: str) -> None:
    config = config_of("training.snr_gamma=5", "training.noise_offset=0.1", "training.prior_loss_weight=0.5")
    losses = losses_of(pocket, METHODS[name], encoded, config, tmp_path / "work")
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if os.environ.get("PORTRAYAL_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(golden | {name: losses}, indent=1, sort_keys=True) + "\n")
        pytest.skip("written")
    assert losses == pytest.approx(golden[name], rel=1e-4)


def test_the_first_loss_does_not_depend_on_the_method(pocket, encoded, tmp_path: Path) -> None:
    """Common random numbers: every method starts as the base and meets the same photos, timesteps and noise."""
    first = [losses_of(pocket, METHODS[m], encoded, config_of(), tmp_path / m, 1)[0] for m in METHODS]
    assert first == pytest.approx([first[0]] * len(first), rel=1e-5)


def test_training_neither_reads_nor_moves_the_global_generator(pocket, encoded, tmp_path: Path) -> None:
    method = LORA.model_copy(update={"dropout": 0.3, "train_text_encoder": True})
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        found.append(losses_of(pocket, method, encoded, config_of(), tmp_path / str(seed)))
        assert torch.equal(torch.get_rng_state(), state)
    assert found[0] == found[1]


def test_gradient_checkpointing_changes_no_loss(pocket, encoded, tmp_path: Path) -> None:
    for name in ("unet+text", "lora+text"):
        method = METHODS[name]
        if isinstance(method, LoraMethod):
            method = method.model_copy(update={"dropout": 0.2})  # the second forward pass must drop the same inputs
        plain, checkpointed = (
            losses_of(
                pocket, method, encoded, config_of(f"training.gradient_checkpointing={flag}"), tmp_path / name / flag
            )
            for flag in ("false", "true")
        )
        assert checkpointed == pytest.approx(plain, rel=1e-6)


def test_gradient_checkpointing_reaches_every_trained_part(pocket, encoded, tmp_path: Path) -> None:
    config = config_of("training.gradient_checkpointing=true")
    with session(pocket, "m", METHODS["lora+text"], encoded, config, tmp_path / "work"):
        assert pocket.unet.is_gradient_checkpointing
        assert any(getattr(m, "gradient_checkpointing", False) and m.training for m in pocket.text_encoder.modules())
    assert not pocket.unet.is_gradient_checkpointing
    assert not any(getattr(module, "gradient_checkpointing", False) for module in pocket.text_encoder.modules())


def test_dropout_drops_in_every_trained_part_by_its_own_seed(pocket, encoded, tmp_path: Path) -> None:
    dropping = METHODS["lora+text"].model_copy(update={"dropout": 0.5})
    with session(pocket, "m", dropping, encoded, config_of(), tmp_path / "look"):
        for part in (pocket.unet, pocket.text_encoder):
            found = [module for module in part.modules() if isinstance(module, torch.nn.Dropout) and module.p == 0.5]
            assert found
            assert all(module.training for module in found)
    plain = losses_of(pocket, METHODS["lora+text"], encoded, config_of(), tmp_path / "plain")
    one, two = (
        losses_of(pocket, dropping, encoded, config_of(f"seed={seed}"), tmp_path / str(seed)) for seed in (0, 1)
    )
    assert one[0] == pytest.approx(plain[0], rel=1e-6)  # B is zero: nothing to drop yet
    assert one[1] != pytest.approx(plain[1], rel=1e-6)
    assert one != two


def test_bf16_autocast_stays_near_fp32_and_keeps_fp32_weights(pocket, encoded, tmp_path: Path) -> None:
    exact = losses_of(pocket, LORA, encoded, config_of(), tmp_path / "fp32")
    with session(pocket, "m", LORA, encoded, config_of("training.mixed_precision=bf16"), tmp_path / "bf16") as state:
        rough = steps(state)
        assert all(p.dtype == torch.float32 for p in state.attached.named_parameters().values())
    assert rough == pytest.approx(exact, rel=0.05)
    assert rough != exact


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs loss scaling, which needs CUDA")
def test_fp16_trains_with_a_scaled_loss(encoded, tmp_path: Path) -> None:
    from portrayal.config import BaseConfig
    from portrayal.models.base import load_base
    from portrayal.models.source import find_base

    base = load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cuda"), dtype=torch.float16)
    with session(base, "m", LORA, encoded, config_of("training.mixed_precision=fp16"), tmp_path / "work") as state:
        before = {name: p.detach().clone() for name, p in state.attached.named_parameters().items()}
        records = [train_step(state) for _ in range(6)]
        moved = [not torch.equal(p, before[name]) for name, p in state.attached.named_parameters().items()]
    assert all(moved)
    assert all(torch.isfinite(torch.tensor(record.loss)) for record in records)


# One step --------------------------------------------------------------------------------------------------------


class Fixed:
    """Batches that are given instead of drawn."""

    def __init__(self, *batches: Batch) -> None:
        self.batches = batches

    def at(self, position: int, rank: int = 0) -> Batch:
        return self.batches[position % len(self.batches)]


def noise_from_latents(latents: Tensor, num_timesteps: int, **_: Any) -> Noise:
    """Noise that a picture meets in whatever batch it comes."""
    return Noise(latents.flip(-1), (latents.abs().mean(dim=(1, 2, 3)) * 997).long() % num_timesteps)


def pick(batch: Batch, rows: list[int], weights: list[float]) -> Batch:
    parts = {name: getattr(batch, name)[rows] for name in ("latents", "input_ids", "prompt_embeds")}
    return replace(
        batch,
        ids=tuple(batch.ids[row] for row in rows),
        weights=torch.tensor(weights),
        is_photo=tuple(row == rows[0] for row in rows),
        **parts,
    )


def gradients_of(pocket, encoded, config: Config, work: Path, batches: Fixed | None) -> tuple[dict[str, Tensor], float]:
    """Gradients of one step: plain descent with step size 1 moves the weights by just them."""
    with session(pocket, "m", LORA, encoded, config, work) as state:
        if batches is not None:
            state.learners[0].batches = batches
        parameters = list(state.attached.named_parameters().values())
        descent = torch.optim.SGD(parameters, lr=1.0)
        state.optimizer, state.rates = descent, [Rate(1.0, lambda step: 1.0)]
        before = {name: p.detach().clone() for name, p in state.attached.named_parameters().items()}
        record = train_step(state)
        return {name: before[name] - p.detach() for name, p in state.attached.named_parameters().items()}, record.loss


def test_two_accumulated_passes_of_one_are_one_pass_of_two(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "draw_noise", noise_from_latents)
    common = ["training.max_grad_norm=1e9", "training.prior_loss_weight=0.5"]
    pair = config_of(*common, "training.train_batch_size=2")
    with session(pocket, "m", LORA, encoded, pair, tmp_path / "look") as state:
        batch = state.learners[0].batches.at(0)
    assert batch.weights.tolist() == [0.5, 0.5, 0.25, 0.25]
    singles = Fixed(pick(batch, [0, 2], [1.0, 0.5]), pick(batch, [1, 3], [1.0, 0.5]))
    accumulating = config_of(*common, "training.gradient_accumulation_steps=2")
    whole, loss = gradients_of(pocket, encoded, pair, tmp_path / "pair", Fixed(batch))
    summed, accumulated_loss = gradients_of(pocket, encoded, accumulating, tmp_path / "singles", singles)
    assert accumulated_loss == pytest.approx(loss, rel=1e-5)
    largest = max(gradient.abs().max() for gradient in whole.values())
    assert largest > 0
    for name, gradient in whole.items():
        assert (summed[name] - gradient).abs().max() < 1e-5 * largest


def test_gradients_are_clipped_to_the_norm(pocket, encoded, tmp_path: Path) -> None:
    clipped, _ = gradients_of(pocket, encoded, config_of("training.max_grad_norm=1e-4"), tmp_path / "work", None)
    norm = torch.stack([gradient.norm() for gradient in clipped.values()]).norm()
    assert norm.item() == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "learning_rate"), [("adamw", 2e-3), ("adamw8bit", 2e-3), ("prodigy", 1.0), ("adafactor", 2e-2)]
)
def test_every_optimizer_lowers_the_loss_of_a_fixed_batch(
    pocket,
    encoded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    learning_rate: float,
) -> None:
    package = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}.get(name)
    if package:
        pytest.importorskip(package)
    monkeypatch.setattr(step_module, "draw_noise", noise_from_latents)
    method = LORA.model_copy(update={"learning_rate": learning_rate, "rank": 8})
    config = config_of(f"training.optimizer.name={name}", "training.prior_loss_weight=0")
    with session(pocket, "m", method, TrainingData(encoded.photos, None), config, tmp_path / "work") as state:
        state.learners[0].batches = Fixed(state.learners[0].batches.at(0))
        losses = steps(state, 12)
    assert losses[-1] < 0.995 * losses[0]
    assert capsys.readouterr().out == ""  # standard output belongs to --json


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("constant_with_warmup", [0, 0.5, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 2 / 3, 1 / 3]),
        ("cosine", [0, 0.5, 1, 0.75, 0.25]),
        ("cosine_with_restarts", [0, 0.5, 1, 0.75, 0.25]),
        ("polynomial", [0, 0.5, 1, 2 / 3, 1 / 3]),
    ],
)
def test_learning_rate_schedules(pocket, encoded, tmp_path: Path, schedule: str, rates: list[float]) -> None:
    method = LORA.model_copy(update={"max_train_steps": 5, "target_modules": ("conv_in",)})
    config = config_of(f"training.lr_scheduler={schedule}", "training.lr_warmup_steps=2")
    found = []
    with session(pocket, "m", method, encoded, config, tmp_path / "work") as state:
        for _ in rates:
            found += state.set_rates()
            state.step += 1
    expected = [1e-3 * rate for rate in ([1, 1, 1, 1, 1] if schedule == "constant" else rates)]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_a_step_tells_photos_from_class_images(pocket, encoded, tmp_path: Path) -> None:
    with session(pocket, "m", LORA, encoded, config_of("training.prior_loss_weight=0.5"), tmp_path / "a") as state:
        record = train_step(state)
    assert record.step == 1
    assert record.loss == pytest.approx(record.instance_loss + 0.5 * record.prior_loss, rel=1e-5)
    alone = TrainingData(encoded.photos, None)
    with session(pocket, "m", LORA, alone, config_of("training.prior_loss_weight=0"), tmp_path / "b") as state:
        record = train_step(state)
    assert record.prior_loss is None
    assert record.loss == pytest.approx(record.instance_loss)


# Whole trainings -------------------------------------------------------------------------------------------------


def interrupt_at(step: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
@pytest.mark.parametrize("name", ["unet", "lora+text"])
def test_resumed_is_uninterrupted_bit_for_bit(pocket, encoded, tmp_path: Path, name: str, optimizer: str) -> None:
    if optimizer == "prodigy":
        pytest.importorskip("prodigyopt")
    config, method = config_of(f"training.optimizer.name={optimizer}", "training.lr_scheduler=cosine"), METHODS[name]
    train(pocket, "m", method, encoded, config, tmp_path / "straight" / "m", ignore)
    with pytest.raises(KeyboardInterrupt):
        train(pocket, "m", method, encoded, config, tmp_path / "broken" / "m", interrupt_at(2))
    assert not (tmp_path / "broken" / "m").exists()
    seen: list[int] = []
    train(pocket, "m", method, encoded, config, tmp_path / "broken" / "m", lambda done, _: seen.append(done))
    assert seen == [1, 2, 3]  # from the checkpoint after the first step
    assert weights_of(tmp_path / "broken" / "m") == weights_of(tmp_path / "straight" / "m")
    assert record_of(tmp_path / "broken" / "m") == record_of(tmp_path / "straight" / "m")
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == ["m"]


def test_two_trainings_are_identical_bit_for_bit(pocket, encoded, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        train(pocket, "m", METHODS["unet+text"], encoded, config_of(), tmp_path / folder / "m", ignore)
    assert weights_of(tmp_path / "one" / "m") == weights_of(tmp_path / "two" / "m")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_stop_finishes_the_step_and_keeps_it(
    pocket, encoded, tmp_path: Path, number: signal.Signals
) -> None:
    """Even where no checkpoints are asked for: nothing of what was done is lost."""
    config = config_of("training.checkpointing_steps=0")
    handler = signal.getsignal(number)

    def ctrl_c(done: int, total: int) -> None:
        if done == 1:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        train(pocket, "m", LORA, encoded, config, tmp_path / "broken" / "m", ctrl_c)
    assert signal.getsignal(number) is handler
    seen: list[int] = []
    train(pocket, "m", LORA, encoded, config, tmp_path / "broken" / "m", lambda done, _: seen.append(done))
    assert seen[0] in (1, 2)
    train(pocket, "m", LORA, encoded, config, tmp_path / "straight" / "m", ignore)
    assert weights_of(tmp_path / "broken" / "m") == weights_of(tmp_path / "straight" / "m")


def test_what_a_training_leaves(pocket, encoded, tmp_path: Path) -> None:
    train(pocket, "lora-2", LORA, encoded, config_of(), tmp_path / "models" / "lora-2", ignore)
    folder = tmp_path / "models" / "lora-2"
    description = json.loads((folder / "method.json").read_text())
    assert (description["name"], description["kind"], description["rank"], description["alpha"]) == (
        "lora-2",
        "lora",
        2,
        2,
    )
    assert description["settings"]["training"]["optimizer"]["name"] == "adamw"
    assert description["trainable_parameters"] > 0
    assert [row["step"] for row in record_of(folder)] == [1, 2, 3]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lora-2"]


def with_bad_photo(encoded: TrainingData, value: float) -> TrainingData:
    """Photos of which the third is not what it should be."""
    mean = encoded.photos[0].mean.clone()
    mean[2] = value
    return TrainingData((replace(encoded.photos[0], mean=mean),), None)


def weights_now(state: TrainingState) -> list[Tensor]:
    """Copies of all that a step may change: weights and averages."""
    moments = [moment for moments in state.optimizer.state.values() for moment in moments.values()]
    return [one.detach().clone() for one in (*state.attached.named_parameters().values(), *moments)]


@pytest.mark.parametrize("name", ["unet", "lora"])
def test_a_loss_that_is_not_finite_is_skipped_counted_and_never_reaches_weights_or_averages(
    pocket, encoded, tmp_path: Path, name: str
) -> None:
    data, config = with_bad_photo(encoded, float("nan")), config_of("training.prior_loss_weight=0")
    with session(pocket, "m", METHODS[name], data, config, tmp_path / "look") as state:
        seen = []
        with pytest.raises(TrainingDivergedError, match="photo2") as caught:
            for _ in range(12):
                before = weights_now(state)
                seen.append(train_step(state))
                if seen[-1].skipped:
                    assert (seen[-1].loss, seen[-1].grad_norm) == (None, 0.0)
                    assert all(torch.equal(one, other) for one, other in zip(before, weights_now(state), strict=True))
        assert sum(record.skipped for record in seen) == 2  # it is borne twice, and the others are trained on
        assert all(one.isfinite().all() for one in weights_now(state))
    assert "prepare.drop" in caught.value.remedy


def test_a_photo_whose_latents_are_not_finite_is_named_before_anything_is_trained(pocket, encoded, tmp_path) -> None:
    data = with_bad_photo(encoded, float("nan"))
    with pytest.raises(TrainingDivergedError, match="photo2"):
        train(pocket, "m", LORA, data, config_of("training.prior_loss_weight=0"), tmp_path / "models" / "m", ignore)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_gradient_that_is_not_finite_never_reaches_weights_or_averages(
    pocket, encoded, tmp_path: Path, precision: str
) -> None:
    config = config_of(f"training.mixed_precision={precision}")
    with session(pocket, "m", LORA, encoded, config, tmp_path / "work") as state:
        fine = state.learners[0].batches.at(0)
        state.learners[0].batches = Fixed(fine, replace(fine, weights=fine.weights * float("inf")))
        assert not train_step(state).skipped
        before = weights_now(state)
        assert train_step(state).skipped
        assert all(torch.equal(one, other) for one, other in zip(before, weights_now(state), strict=True))
        assert (state.learners[0].health.skipped, state.learners[0].health.in_a_row) == (1, 1)
        assert not train_step(state).skipped
        assert state.learners[0].health.in_a_row == 0


def diverging(pocket, above: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its eighth step on, losses at more than a learning rate are not finite, as of weights that have exploded."""
    whole = step_module.gradients

    def exploding(state: TrainingState, inputs: Any) -> Any:
        found = whole(state, inputs)
        exploded = state.step >= 7 and state.optimizer.param_groups[0]["lr"] > above
        return replace(found, losses=found.losses * float("inf")) if exploded else found

    monkeypatch.setattr(step_module, "gradients", exploding)


@pytest.mark.parametrize(("above", "lowered"), [(0.5e-3, [7]), (0.1e-3, [0, 0])])
def test_a_training_that_diverges_goes_back_and_on_with_a_lower_rate(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: float, lowered: list[int]
) -> None:
    diverging(pocket, above, monkeypatch)
    method, said = LORA.model_copy(update={"max_train_steps": 14}), list[str]()
    task, work = Task("m", method, encoded, tmp_path / "m"), tmp_path / ".m.training"
    trainer.train(pocket, [task], config_of(), work, ignore, said.append)
    rates = [row["learning_rate"] for row in record_of(tmp_path / "m")]
    expected = [1e-3 * 0.25 ** sum(step >= since for since in lowered) for step in range(14)]
    assert rates == pytest.approx(expected)
    described = json.loads((tmp_path / "m" / "method.json").read_text())
    assert described["adapted"] == {"learning_rate_lowered_at": lowered}
    assert described["skipped_steps"] == 0  # those were taken back
    assert len(said) == len(lowered)
    assert all("learning rate is too high" in one for one in said)
    assert not work.exists()


def test_a_training_that_a_lower_rate_does_not_mend_is_stopped(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(pocket, 0.0, monkeypatch)
    method = LORA.model_copy(update={"max_train_steps": 14})
    with pytest.raises(TrainingDivergedError, match="6 steps in a row") as caught:
        train(pocket, "m", method, encoded, config_of(), tmp_path / "m", ignore)
    assert "lower" in caught.value.remedy
    assert not (tmp_path / "m").exists()


def test_fp16_that_overflows_is_told_from_a_rate_that_is_too_high() -> None:
    health, pictures = Health(), {"photo": True}
    for step in range(20):
        health.note(step, pictures, skipped=True, fp16=True)
    with pytest.raises(TrainingDivergedError, match="fp16 that overflows") as caught:
        health.note(20, pictures, skipped=True, fp16=True)
    assert not isinstance(caught.value, StreakError)  # a lower rate would not help
    assert "bf16" in caught.value.remedy


# Memory ------------------------------------------------------------------------------------------------------------


@contextmanager
def memory_for(pocket, rows: int, *, checkpointed: int = 0, once_at: int = 0) -> Iterator[list[int]]:
    """As on a device whose memory holds so many rows in a forward pass, and more where activations are recomputed."""
    kind, seen = type(pocket.unet), list[int]()
    forward = kind.forward

    def limited(unet: Any, noisy: Tensor, *arguments: Any, **named: Any) -> Any:
        most = checkpointed if unet.is_gradient_checkpointing else rows
        seen.append(len(noisy))
        if len(noisy) > most and len(seen) > once_at:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(unet, noisy, *arguments, **named)

    kind.forward = limited
    try:
        yield seen
    finally:
        kind.forward = forward


def losses_in(folder: Path) -> list[float]:
    return [row["loss"] for row in record_of(folder)]


@pytest.mark.parametrize(
    ("name", "rows", "checkpointed", "once_at", "adapted"),
    [
        ("lora", 2, 0, 0, {"forward_passes": 2}),
        ("unet+text", 2, 0, 2, {"forward_passes": 2}),
        ("lora", 0, 1, 0, {"forward_passes": 4, "gradient_checkpointing": True}),
    ],
)
def test_too_little_memory_makes_smaller_passes_of_the_same_batches(
    pocket, encoded, tmp_path: Path, name: str, rows: int, checkpointed: int, once_at: int, adapted: dict[str, Any]
) -> None:
    """At the start or later on; the losses are those with memory enough but for rounding, and it is told once each."""
    config, said = config_of("training.train_batch_size=2"), list[str]()
    train(pocket, "m", METHODS[name], encoded, config, tmp_path / "ample" / "m", ignore)
    task = Task("m", METHODS[name], encoded, tmp_path / "scarce" / "m")
    with memory_for(pocket, rows, checkpointed=checkpointed, once_at=once_at):
        trainer.train(pocket, [task], config, tmp_path / "scarce" / ".m.training", ignore, said.append)
    assert losses_in(tmp_path / "scarce" / "m") == pytest.approx(losses_in(tmp_path / "ample" / "m"), rel=1e-4)
    described = json.loads((tmp_path / "scarce" / "m" / "method.json").read_text())
    assert described["adapted"] == adapted
    assert len(said) == len(set(said)) == (adapted["forward_passes"] // 2) + ("gradient_checkpointing" in adapted)
    ours, theirs = (weights_of(tmp_path / folder / "m").keys() for folder in ("ample", "scarce"))
    assert ours == theirs


def test_a_pack_with_too_little_memory_keeps_every_member_s_rows_apart(pocket, encoded, tmp_path: Path) -> None:
    config = config_of("training.train_batch_size=2")
    for folder, rows in (("ample", 99), ("scarce", 4)):
        tasks = [
            Task(f"lora-{rank}", LORA.model_copy(update={"rank": rank}), encoded, tmp_path / folder / f"lora-{rank}")
            for rank in (2, 4)
        ]
        with memory_for(pocket, rows):
            trainer.train(pocket, tasks, config, tmp_path / folder / ".pack.training", ignore, lambda _: None)
    for rank in (2, 4):
        ours, theirs = (losses_in(tmp_path / folder / f"lora-{rank}") for folder in ("ample", "scarce"))
        assert theirs == pytest.approx(ours, rel=1e-4)


def test_memory_for_not_one_picture_is_said(pocket, encoded, tmp_path: Path) -> None:
    with memory_for(pocket, 0), pytest.raises(OutOfMemoryError, match="while training m") as caught:
        train(pocket, "m", LORA, encoded, config_of(), tmp_path / "m", ignore)
    assert "sd15-8gb" in caught.value.remedy


def test_memory_that_runs_out_while_the_weights_move_goes_on_from_the_last_checkpoint(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some weights may have moved and others not: what is in memory is no state of any step."""
    config, times = config_of(), []
    train(pocket, "m", LORA, encoded, config, tmp_path / "ample" / "m", ignore)
    step = torch.optim.AdamW.step

    def torn(optimizer: Any, *arguments: Any, **named: Any) -> Any:
        times.append(1)
        if len(times) == 2:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].add_(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(optimizer, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", torn)
    task = Task("m", LORA, encoded, tmp_path / "scarce" / "m")
    trainer.train(pocket, [task], config, tmp_path / "scarce" / ".m.training", ignore, lambda _: None)
    assert losses_in(tmp_path / "scarce" / "m") == pytest.approx(losses_in(tmp_path / "ample" / "m"), rel=1e-4)


# Signals and checkpoints -------------------------------------------------------------------------------------------


def test_an_optimizer_whose_package_is_missing_names_it(pocket, encoded, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(MachineError, match="prodigyopt") as caught:
        train(pocket, "m", LORA, encoded, config_of("training.optimizer.name=prodigy"), tmp_path / "m", ignore)
    assert "pip install" in caught.value.remedy


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    state = {
        "step": 3,
        "optimizer": {"state": {0: {"m": torch.arange(3.0), "step": torch.tensor(3.0)}}, "betas": (0.9, 0.999)},
        "none": None,
        "list": [1, 2.5, "x", True],
        "half": torch.ones(2, 2, dtype=torch.bfloat16).t(),
    }
    assert load_checkpoint(tmp_path / "c") is None
    save_checkpoint(tmp_path / "c", state)
    found = load_checkpoint(tmp_path / "c")
    assert found is not None
    assert torch.equal(found["optimizer"]["state"][0].pop("m"), state["optimizer"]["state"][0].pop("m"))
    assert torch.equal(found["half"], state["half"])
    assert {k: found[k] for k in ("step", "none", "list")} == {k: state[k] for k in ("step", "none", "list")}
    assert found["optimizer"]["betas"] == (0.9, 0.999)


def test_a_checkpoint_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold set"):
        save_checkpoint(tmp_path / "c", {"step": 1, "x": {1, 2}})
    assert not list(tmp_path.iterdir())


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path, {"step": step, "weight": torch.full((4,), float(step))}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000010"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # a bit of the last weight, or of the last words: the file can still be read
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_a_training_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    pocket, encoded, tmp_path: Path, damage: Callable[[Path], object], file: str
) -> None:
    config, said, seen = config_of(), list[str](), list[int]()
    train(pocket, "m", LORA, encoded, config, tmp_path / "straight" / "m", ignore)
    work = tmp_path / "broken" / ".m.training"
    with pytest.raises(KeyboardInterrupt):
        train(pocket, "m", LORA, encoded, config, tmp_path / "broken" / "m", interrupt_at(3))
    assert [path.name for path in kept(work / "checkpoint")] == ["00000002", "00000001"]
    damage(work / "checkpoint" / "00000002" / file)
    task = Task("m", LORA, encoded, tmp_path / "broken" / "m")
    trainer.train(pocket, [task], config, work, lambda done, _: seen.append(done), said.append)
    assert seen == [1, 2, 3]
    assert len(said) == 1
    assert "checkpoint of step 2 is damaged" in said[0]
    assert weights_of(tmp_path / "broken" / "m") == weights_of(tmp_path / "straight" / "m")
    assert record_of(tmp_path / "broken" / "m") == record_of(tmp_path / "straight" / "m")


def test_a_checkpoint_that_cannot_be_read_just_now_is_not_taken_for_damaged(tmp_path: Path, monkeypatch) -> None:
    save_checkpoint(tmp_path, {"step": 1})

    def gone(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", gone)
    with pytest.raises(OSError, match="Input/output"):
        load_checkpoint(tmp_path)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path) == {"step": 1}


def test_weights_with_masters_beside_them_are_trained_as_weights_without(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU in half precision with an optimizer of torch's; here both are fp32, so the steps are the same."""
    records = {}
    for masters in (False, True):
        attached = training_session.attach_tasks
        with monkeypatch.context() as patched:

            def beside(*arguments: Any, masters: bool = masters, attached: Any = attached) -> Any:
                found = attached(*arguments)
                if masters:
                    found.halve()
                return found

            patched.setattr(training_session, "attach_tasks", beside)
            folder = tmp_path / str(masters)
            with session(pocket, "unet", METHODS["unet+text"], encoded, config_of(), folder) as state:
                assert bool(state.attached.masters) is masters
                records[masters] = [train_step(state) for _ in range(STEPS)]
    for alone, beside_masters in zip(records[False], records[True], strict=True):
        assert beside_masters.loss == pytest.approx(alone.loss, rel=1e-5)
        assert beside_masters.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)


# On a GPU ----------------------------------------------------------------------------------------------------------

ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU whose memory could be capped")


def base_on_gpu(dtype: torch.dtype) -> Any:
    from portrayal.config import BaseConfig
    from portrayal.models.base import load_base
    from portrayal.models.source import find_base

    return load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cuda"), dtype=dtype)


@pytest.mark.gpu
@ON_A_GPU
def test_a_cap_on_a_gpu_s_memory_leaves_the_losses_as_they_are(encoded, tmp_path: Path) -> None:
    base, config, said = base_on_gpu(torch.float32), config_of("training.train_batch_size=16"), list[str]()
    method = LORA.model_copy(update={"max_train_steps": 6})
    train(base, "m", method, encoded, config, tmp_path / "ample" / "m", ignore)
    held, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + 0.6 * (peak - held)) / whole)
    try:
        task = Task("m", method, encoded, tmp_path / "scarce" / "m")
        trainer.train(base, [task], config, tmp_path / "scarce" / ".m.training", ignore, said.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert losses_in(tmp_path / "scarce" / "m") == pytest.approx(losses_in(tmp_path / "ample" / "m"), rel=1e-2)
    assert json.loads((tmp_path / "scarce" / "m" / "method.json").read_text())["adapted"]["forward_passes"] >= 2
    assert said


@pytest.mark.gpu
@ON_A_GPU
def test_fp16_that_overflows_settles_and_poisons_nothing(encoded, tmp_path: Path) -> None:
    base = base_on_gpu(torch.float16)
    with session(base, "m", LORA, encoded, config_of("training.mixed_precision=fp16"), tmp_path / "work") as state:
        state.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**30)
        records = [train_step(state) for _ in range(20)]
        assert records[0].skipped
        assert not records[-1].skipped
        assert all(one.isfinite().all() for one in weights_now(state))
        assert state.learners[0].health.skipped == sum(record.skipped for record in records)
