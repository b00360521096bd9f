"""Training: the losses are frozen, a resumed run is the run, and nothing that is not finite reaches the weights.

The golden losses are written anew with PORTRAYAL_GOLDEN=write; a change that should not move them, must not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from portrayal.config import Config, LoraMethod, Method, UnetMethod
from portrayal.data.batches import Batch
from portrayal.errors import MachineError, TrainingDivergedError
from portrayal.settings import load_config
from portrayal.training import step as step_module
from portrayal.training import trainer
from portrayal.training.checkpoint import load_checkpoint, save_checkpoint
from portrayal.training.loss import Noise
from portrayal.training.state import Rate, TrainingState
from portrayal.training.step import StepRecord
from portrayal.training.trainer import Task, TrainingData

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
    return trainer.session(base, [Task(name, method, data, work / "unused")], config, work)


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


def test_ctrl_c_finishes_the_step_and_keeps_it(pocket, encoded, tmp_path: Path) -> None:
    """Even where no checkpoints are asked for: nothing of what was done is lost."""
    config = config_of("training.checkpointing_steps=0")
    handler = signal.getsignal(signal.SIGINT)

    def ctrl_c(done: int, total: int) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(pocket, "m", LORA, encoded, config, tmp_path / "broken" / "m", ctrl_c)
    assert signal.getsignal(signal.SIGINT) is handler
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


@pytest.mark.parametrize("name", ["unet", "lora"])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(pocket, encoded, tmp_path: Path, name: str) -> None:
    mean = encoded.photos[0].mean.clone()
    mean[2] = float("nan")
    data = TrainingData((replace(encoded.photos[0], mean=mean),), None)
    config = config_of("training.prior_loss_weight=0")
    with session(pocket, "m", METHODS[name], data, config, tmp_path / "look") as state:
        with pytest.raises(TrainingDivergedError, match="photo2") as caught:
            while True:
                before = {key: p.detach().clone() for key, p in state.attached.named_parameters().items()}
                train_step(state)
        assert all(torch.equal(p, before[key]) for key, p in state.attached.named_parameters().items())
    assert "learning rate" in caught.value.remedy
    with pytest.raises(TrainingDivergedError):
        method = METHODS[name].model_copy(update={"max_train_steps": 4})  # one epoch
        train(pocket, "m", method, data, config, tmp_path / "models" / "m", ignore)
    assert not (tmp_path / "models" / "m").exists()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(pocket, encoded, tmp_path: Path) -> None:
    with session(pocket, "m", LORA, encoded, config_of(), tmp_path / "work") as state:
        batch = state.learners[0].batches.at(0)
        state.learners[0].batches = Fixed(replace(batch, weights=batch.weights * float("inf")))
        before = {key: p.detach().clone() for key, p in state.attached.named_parameters().items()}
        with pytest.raises(TrainingDivergedError, match="gradients of step 1"):
            train_step(state)
        assert all(torch.equal(p, before[key]) for key, p in state.attached.named_parameters().items())


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
        save_checkpoint(tmp_path / "c", {"x": {1, 2}})
    assert not list(tmp_path.iterdir())


def test_weights_with_masters_beside_them_are_trained_as_weights_without(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU in half precision with an optimizer of torch's; here both are fp32, so the steps are the same."""
    records = {}
    for masters in (False, True):
        attached = trainer.attach_tasks
        with monkeypatch.context() as patched:

            def beside(*arguments: Any, masters: bool = masters, attached: Any = attached) -> Any:
                found = attached(*arguments)
                if masters:
                    found.halve()
                return found

            patched.setattr(trainer, "attach_tasks", beside)
            folder = tmp_path / str(masters)
            with session(pocket, "unet", METHODS["unet+text"], encoded, config_of(), folder) as state:
                assert bool(state.attached.masters) is masters
                records[masters] = [train_step(state) for _ in range(STEPS)]
    for alone, beside_masters in zip(records[False], records[True], strict=True):
        assert beside_masters.loss == pytest.approx(alone.loss, rel=1e-5)
        assert beside_masters.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)
