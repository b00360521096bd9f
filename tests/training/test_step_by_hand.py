"""One optimizer update worked out without the code that takes it: losses, gradients, clipping, rates, weights.

What the UNet was given is looked at, and the noise in it solved for; the rest is formulas, and autograd over plain
modules.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from portrayal.config import LoraMethod, Method, OptimizerConfig
from portrayal.data.encode import EncodedDataset
from portrayal.models.base import BaseModel
from portrayal.training import step as step_module
from portrayal.training.optimizers import build_optimizer
from portrayal.training.small_adamw import SmallAdamW
from portrayal.training.state import TrainingState
from portrayal.training.step import Inputs, Outputs, forget_gradients, gradients, launch, to_device, train_step
from portrayal.training.task import TrainingData
from tests.training.mini import (
    OPTIMIZERS,
    PACK,
    PACKAGES,
    SMALL,
    UNET,
    UNET_AND_TEXT,
    Seen,
    alpha_bar,
    config_of,
    lora,
    noise_in,
    started,
    stir,
    watched,
)

STEP, PASSES, BATCH, PRIOR, GAMMA, BACKGROUND = 3, 2, 2, 0.5, 2.0, 0.25
SCALING = 0.2  # of the VAE in conftest
SETTINGS = [
    f"training.gradient_accumulation_steps={PASSES}", f"training.train_batch_size={BATCH}",
    "training.class_batch_size=1", f"training.prior_loss_weight={PRIOR}", f"training.snr_gamma={GAMMA}",
    f"training.background_loss_weight={BACKGROUND}",
]  # fmt: skip
RATE, DECAY, EPS = 0.1, 0.2, 0.01
WITH_TEXT: dict[str, Any] = {
    "learning_rate": RATE,
    "train_text_encoder": True,
    "text_encoder_learning_rate": 0.3 * RATE,
}
METHODS: dict[str, tuple[Method, ...]] = {
    "unet": (UNET.model_copy(update={"learning_rate": RATE}),),
    "unet+text": (UNET_AND_TEXT.model_copy(update=WITH_TEXT),),
    "pack": tuple(method.model_copy(update={"learning_rate": RATE / (1 + n)}) for n, method in enumerate(PACK)),
    "pack+text": (lora(2, alpha=3.0, **WITH_TEXT), lora(3, **WITH_TEXT), lora(4, alpha=1.0, **WITH_TEXT)),
}
SEEDS = {1: (5,), 3: (5, 6, 5)}


@pytest.fixture(scope="module")
def exact(mini_data: TrainingData) -> TrainingData:
    """Photos whose latents have no spread, so that nothing of them is drawn; the subject of two is their left half."""
    (photos,), (others,) = mini_data.photos, mini_data.class_images or ()
    masks = torch.ones(len(photos), 1, *photos.mean.shape[2:])
    masks[:2, ..., masks.shape[-1] // 2 :] = 0
    photos = replace(photos, std=torch.zeros_like(photos.std), masks=masks)
    return TrainingData((photos,), (replace(others, std=torch.zeros_like(others.std)),))


class Row:
    """One picture of a forward pass, by its id."""

    def __init__(self, data: TrainingData, name: str) -> None:
        parts: list[EncodedDataset] = [*data.photos, *(data.class_images or ())]
        (part,) = (part for part in parts if name in part.ids)
        place = part.ids.index(name)
        self.is_photo = name.startswith("photo")
        self.latents, self.prompt, self.ids = (
            part.mean[place] * SCALING,
            part.prompt_embeds[place],
            part.input_ids[place],
        )
        self.weight = 1 / BATCH if self.is_photo else PRIOR
        mask = torch.ones(1, *self.latents.shape[1:]) if part.masks is None else part.masks[place]
        self.places = (mask > 0).float() + BACKGROUND * (mask == 0).float()


def rows_of(state: TrainingState, data: TrainingData, learner: int, number: int) -> list[Row]:
    """The pictures of a learner in a pass of the step: pass `p` of step `s` is the `(s·passes + p)`-th of all."""
    return [Row(data, name) for name in state.learners[learner].batches.at(STEP * PASSES + number).ids]


def loss_of(row: Row, prediction: Tensor, noise: Tensor, timestep: Tensor, *, velocity: bool = False) -> Tensor:
    """Mean square over what the mask weighs, times the Min-SNR weight of the timestep."""
    kept = alpha_bar(timestep.view(1)).item()
    target = kept**0.5 * noise - (1 - kept) ** 0.5 * row.latents if velocity else noise
    error = (prediction - target).square().mean(dim=0, keepdim=True)
    snr = kept / (1 - kept)
    return (error * row.places).sum() / row.places.sum() * min(snr, GAMMA) / (snr + velocity)


def step_of(state: TrainingState, run: Callable[..., Any] = train_step) -> tuple[list[Seen], Any]:
    state.step = STEP
    with watched(state.base.unet) as seen:
        return seen, run(state)


@pytest.mark.parametrize("name", [*METHODS, "velocity"])
def test_the_losses_of_a_step(mini, mini_velocity, exact, tmp_path: Path, name: str) -> None:
    velocity = name == "velocity"
    base, methods = (mini_velocity, METHODS["pack"]) if velocity else (mini, METHODS[name])
    with started(base, methods, exact, config_of(*SETTINGS), tmp_path, SEEDS[len(methods)]) as state:
        stir(state)
        rows = [[rows_of(state, exact, k, p) for k in range(len(methods))] for p in range(PASSES)]
        with torch.no_grad():
            prompts = [torch.stack([row.ids for part in of_pass for row in part]) for of_pass in rows]
            text = [mini.text_encoder(ids)[0] for ids in prompts] if "text" in name else None
        seen, records = step_of(state)
    assert len(seen) == PASSES
    losses: list[list[tuple[Row, float]]] = [[] for _ in methods]
    noises: list[list[Tensor]] = [[] for _ in methods]
    for number, one in enumerate(seen):
        flat = [(k, row) for k, part in enumerate(rows[number]) for row in part]
        assert len(flat) == len(one.noisy)
        noise = noise_in(one.noisy, torch.stack([row.latents for _, row in flat]), one.timesteps)
        for place, (k, row) in enumerate(flat):
            value = loss_of(row, one.prediction[place], noise[place], one.timesteps[place], velocity=velocity)
            losses[k].append((row, float(value)))
            noises[k].append(noise[place])
        expected = text[number] if text else torch.stack([row.prompt for _, row in flat])
        torch.testing.assert_close(one.prompts, expected)
    for k, record in enumerate(records):
        assert record.step == STEP + 1
        assert record.loss == pytest.approx(sum(row.weight * loss for row, loss in losses[k]) / PASSES, rel=1e-3)
        for value, photos in ((record.instance_loss, True), (record.prior_loss, False)):
            assert value == pytest.approx(mean([loss for row, loss in losses[k] if row.is_photo == photos]), rel=1e-3)
        drawn = torch.stack(noises[k])
        assert drawn.mean().abs() < 0.1
        assert float(drawn.std()) == pytest.approx(1, abs=0.1)
        assert len({round(float(noise.sum()), 3) for noise in drawn}) == len(drawn)  # each picture has its own
        same_as_first = torch.allclose(drawn, torch.stack(noises[0]), atol=1e-3)
        assert same_as_first == (SEEDS[len(methods)][k] == SEEDS[len(methods)][0])


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# Gradients and weights -------------------------------------------------------------------------------------------


def dense(module: Any, part: str, weights: Mapping[str, Tensor], method: Method) -> dict[str, Tensor]:
    """The weights of a part as a model without adapters would have them, from what is trained, by part and name."""
    if not isinstance(method, LoraMethod):
        return {
            name.removeprefix(f"{part}."): weight for name, weight in weights.items() if name.startswith(f"{part}.")
        }
    scale, found = (method.alpha or method.rank) / method.rank, {}
    for name, down in weights.items():
        if name.startswith(f"{part}.") and ".lora_A." in name:
            up = weights[name.replace(".lora_A.", ".lora_B.")]
            path = name.removeprefix(f"{part}.").partition(".lora_A.")[0] + ".weight"
            original = module.get_parameter(path)
            found[path] = original.detach() + scale * (up.T @ down).view(original.shape)
    return found


def plain_parts(base: BaseModel) -> dict[str, Any]:
    """Copies of what may be trained, as it was before anything was attached."""
    return {name: copy.deepcopy(getattr(base, name)) for name in ("unet", "text_encoder")}


def trained_of(state: TrainingState, learner: int) -> dict[str, Tensor]:
    """What a learner trains, by part and name: copies that gradients can be asked of."""
    prefix = f"m{learner}." if hasattr(state.attached, "members") else ""
    named = state.attached.named_parameters().items()
    return {
        name.removeprefix(prefix): weight.detach().float().clone().requires_grad_()
        for name, weight in named
        if name.startswith(prefix)
    }


def gradients_by_hand(
    plain: Mapping[str, Any], weights: Mapping[str, Tensor], method: Method, passes: Sequence[tuple[Seen, list[Row]]]
) -> list[Tensor]:
    """Of the loss of a step over its passes, each with what the UNet was given for the rows of one learner."""
    total = torch.zeros(())
    parts = {part: dense(module, part, weights, method) for part, module in plain.items()}
    for seen, rows in passes:
        prompts = seen.prompts
        if parts["text_encoder"]:
            ids = torch.stack([row.ids for row in rows])
            prompts = functional_call(plain["text_encoder"], parts["text_encoder"], (ids,))[0]
        prediction = functional_call(plain["unet"], parts["unet"], (seen.noisy, seen.timesteps, prompts)).sample
        noise = noise_in(seen.noisy, torch.stack([row.latents for row in rows]), seen.timesteps)
        for place, row in enumerate(rows):
            total = total + row.weight * loss_of(row, prediction[place], noise[place], seen.timesteps[place]) / PASSES
    found = torch.autograd.grad(total, list(weights.values()))
    return [gradient.detach() for gradient in found]


def rows_seen(seen: Seen, learner: int, learners: int) -> Seen:
    return Seen(
        *(getattr(seen, name).chunk(learners)[learner] for name in ("noisy", "timesteps", "prompts", "prediction"))
    )


@pytest.mark.parametrize(("name", "warm_up"), [("unet", 0), ("unet+text", 5), ("pack", 5), ("pack+text", 0)])
def test_the_weights_after_a_step(mini, exact, tmp_path: Path, name: str, warm_up: int) -> None:
    """AdamW's first step moves a weight by `rate·g/(|g| + eps)`: with a large eps, how long `g` is counts too."""
    methods, limit = METHODS[name], 0.5
    config = config_of(
        *SETTINGS, f"training.optimizer.eps={EPS}", f"training.optimizer.weight_decay={DECAY}",
        f"training.max_grad_norm={limit}", "training.lr_scheduler=constant_with_warmup",
        f"training.lr_warmup_steps={warm_up}",
    )  # fmt: skip
    plain = plain_parts(mini)
    with started(mini, methods, exact, config, tmp_path, SEEDS[len(methods)]) as state:
        stir(state)
        before = [trained_of(state, k) for k in range(len(methods))]
        rows = [[rows_of(state, exact, k, p) for p in range(PASSES)] for k in range(len(methods))]
        seen, records = step_of(state)
        after = [trained_of(state, k) for k in range(len(methods))]
    for k, method in enumerate(methods):
        own = [(rows_seen(one, k, len(methods)), rows[k][number]) for number, one in enumerate(seen)]
        found = gradients_by_hand(plain, before[k], method, own)
        length = math.sqrt(sum(float(gradient.square().sum()) for gradient in found))
        assert records[k].grad_norm == pytest.approx(length, rel=1e-3)
        for (path, leaf), gradient in zip(before[k].items(), found, strict=True):
            weight = leaf.detach()
            rate = method.learning_rate
            if path.startswith("text_encoder.") and method.text_encoder_learning_rate:
                rate = method.text_encoder_learning_rate
            rate *= STEP / warm_up if warm_up else 1
            gradient = gradient * min(1.0, limit / length)
            expected = weight * (1 - rate * DECAY) - rate * gradient / (gradient.abs() + EPS)
            moved = float((expected - weight).norm())
            assert float((after[k][path].detach() - expected).norm()) < 2e-3 * moved, path
        assert records[k].learning_rate == pytest.approx(method.learning_rate * (STEP / warm_up if warm_up else 1))


# Clipping --------------------------------------------------------------------------------------------------------


def gradients_at(state: TrainingState) -> list[list[Tensor]]:
    """The gradients of a step as the optimizer would get them, of each learner; the step is not taken."""
    found: list[list[Tensor]] = []

    def only_gradients(state: TrainingState, inputs: Sequence[Inputs]) -> Outputs:
        outputs = gradients(state, [one.map(lambda tensor: to_device(tensor, state.base.device)) for one in inputs])
        factor = state.optimizer.clip if hasattr(state.optimizer, "clip") else 1.0
        for number in range(len(state.learners)):
            of_learner = [weight.grad for weight in state.weights_of(number) if weight.grad is not None]
            found.append([gradient.float().clone() * factor for gradient in of_learner])
        forget_gradients(state)
        if state.scaler:
            state.scaler.update()
        return outputs

    state.norms_seen = launch(state, only_gradients).norms  # type: ignore[attr-defined]
    return found


def length_of(found: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in found))


CLIPPED = [("unet", "no"), ("unet", "fp16"), ("pack", "no"), ("pack", "fp16"), ("pack", "bf16"), ("small", "bf16")]


@pytest.mark.parametrize(("name", "precision"), CLIPPED)
def test_gradients_longer_than_the_limit_are_shortened_to_it_and_shorter_ones_left_alone(
    mini, mini_half, mini_data, tmp_path: Path, name: str, precision: str
) -> None:
    base = mini_half if name == "small" else mini
    methods = {"unet": (UNET,), "pack": PACK, "small": (SMALL,)}[name]

    def found_with(limit: float, folder: str) -> tuple[list[list[Tensor]], list[float]]:
        config = config_of(f"training.max_grad_norm={limit}", f"training.mixed_precision={precision}")
        with started(base, methods, mini_data, config, tmp_path / folder) as state:
            if name == "pack":  # half of whose weights start from zero
                stir(state)
            return gradients_at(state), state.norms_seen.tolist()  # type: ignore[attr-defined]

    whole, norms = found_with(1e9, "whole")
    assert norms == pytest.approx([length_of(part) for part in whole], rel=1e-3)
    between = math.sqrt(min(norms) * max(norms))
    for limit in (between,) if len(methods) > 1 else (0.5 * norms[0], 2 * norms[0]):
        clipped, seen = found_with(limit, f"{limit}")
        assert seen == pytest.approx(norms, rel=1e-4)
        for part, full, norm in zip(clipped, whole, norms, strict=True):
            factor = min(1.0, limit / norm)
            for one, other in zip(part, full, strict=True):
                torch.testing.assert_close(one, factor * other, rtol=1e-3, atol=1e-6)
    if len(methods) > 1:
        assert min(norms) < 0.9 * between < 1.1 * between < max(norms)  # so that the limit told them apart


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_optimizer_of_small_cards_takes_the_clipped_gradient(
    mini_half, mini_data, tmp_path: Path, share: float
) -> None:
    """Its first averages are a tenth of it and a thousandth of its square; of each block the largest is kept."""
    settings = ["training.mixed_precision=bf16", "training.max_grad_norm=1e9"]
    with started(mini_half, (SMALL,), mini_data, config_of(*settings), tmp_path / "look") as state:
        norm = length_of(gradients_at(state)[0])
    config = config_of("training.mixed_precision=bf16", f"training.max_grad_norm={share * norm}")
    with started(mini_half, (SMALL,), mini_data, config, tmp_path / "work") as state:
        optimizer, step, seen = state.optimizer, state.optimizer.step, dict[Tensor, Tensor]()

        def noting() -> None:
            seen.update({weight: weight.grad.float() for weight in state.trainable()})
            step()

        optimizer.step = noting
        train_step(state)
        for weight, gradient in seen.items():
            largest = min(1.0, share) * float(gradient.abs().max())
            assert float(optimizer.state[weight]["mean_top"].max()) == pytest.approx(0.1 * largest, rel=1e-2)
            assert float(optimizer.state[weight]["square_top"].max()) == pytest.approx(1e-3 * largest**2, rel=1e-2)


@pytest.mark.parametrize("name", ["unet", "pack"])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_pass_in_parts_has_the_gradients_of_the_whole(mini, exact, tmp_path: Path, name: str, parts: int) -> None:
    """Three pictures in two parts, in three, and in as many as there are."""
    found = []
    for number in (1, parts):
        with started(mini, METHODS[name], exact, config_of(*SETTINGS), tmp_path / str(number)) as state:
            stir(state)
            state.adapted = replace(state.adapted, parts=number)
            with watched(state.base.unet) as seen:
                found.append(gradients_at(state))
            assert len(seen) == PASSES * min(number, 3)
    for whole, summed in zip(*found, strict=True):
        assert length_of([one - other for one, other in zip(whole, summed, strict=True)]) < 1e-4 * length_of(whole)


def test_steps_smaller_than_halfs_digits_are_kept_on_average() -> None:
    """Twenty steps of a thousandth from 1, where bf16's numbers are four thousandths apart and more."""
    weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0), [{"params": [weight], "lr": 1e-3}])
    assert isinstance(optimizer, SmallAdamW)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert float(weight.detach().float().mean()) == pytest.approx(0.98, abs=0.001)


# What goes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("targets", [("to_q", "ff.net.2"), ("conv1",)])
def test_a_packs_gradients_in_mixed_precision_are_those_in_fp32(
    mini, mini_data, tmp_path: Path, precision: str, targets: tuple[str, ...]
) -> None:
    """Products of other functions than in fp32, with the same scales."""
    methods = [method.model_copy(update={"target_modules": targets}) for method in PACK]
    found = {}
    for name in ("no", precision):
        config = config_of("training.max_grad_norm=1e9", f"training.mixed_precision={name}")
        with started(mini, methods, mini_data, config, tmp_path / name) as state:
            stir(state)
            found[name] = gradients_at(state)
    for ours, theirs in zip(found[precision], found["no"], strict=True):
        apart = length_of([one - other for one, other in zip(ours, theirs, strict=True)])
        assert apart < 0.03 * length_of(theirs)


@pytest.mark.parametrize("text", [False, True])
def test_dropped_captions_reach_the_unet_as_the_empty_prompt(mini, exact, tmp_path: Path, text: bool) -> None:
    methods, empty = (lora(2, train_text_encoder=text),), mini.encode_prompts([""])[0]
    with started(mini, methods, exact, config_of(*SETTINGS, "training.caption_dropout=1"), tmp_path) as state:
        rows = [rows_of(state, exact, 0, number) for number in range(PASSES)]
        seen, _ = step_of(state)
    for one, part in zip(seen, rows, strict=True):
        for prompt, row in zip(one.prompts, part, strict=True):
            torch.testing.assert_close(prompt, empty if row.is_photo else row.prompt)


def test_a_noise_offset_moves_each_channel_by_a_constant_of_its_strength(mini, exact, tmp_path: Path) -> None:
    config = config_of(*SETTINGS, "training.noise_offset=10", "training.train_batch_size=8")
    with started(mini, (lora(2),), exact, config, tmp_path) as state:
        rows = [rows_of(state, exact, 0, number) for number in range(PASSES)]
        seen, _ = step_of(state)
    latents = [torch.stack([row.latents for row in part]) for part in rows]
    found = [noise_in(one.noisy, clean, one.timesteps) for one, clean in zip(seen, latents, strict=True)]
    noise = torch.cat(found).flatten(2)  # 18 pictures of 4 channels
    assert float(noise.std(dim=2).mean()) == pytest.approx(1, abs=0.05)
    assert float(noise.mean(dim=2).std()) == pytest.approx(10, rel=0.3)
    assert float(noise.mean(dim=2).std(dim=1).mean()) > 5  # the channels of a picture differ


@pytest.mark.parametrize("name", ["adamw", "small", "adamw8bit", "prodigy", "adafactor"])
def test_every_optimizer_takes_its_settings_and_moves_weights_by_them(name: str) -> None:
    """In its second step too, where the decay of the averages counts; what it does not read is known."""
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    weights: dict[str, Tensor] = {}
    for setting in ("as they are", "betas", "eps", "weight_decay"):
        values: dict[str, Any] = {"betas": (0.5, 0.6), "eps": 0.3, "weight_decay": 0.4}
        given = {} if setting == "as they are" else {setting: values[setting]}
        weight = torch.nn.Parameter(torch.linspace(0.5, 2, 64))
        weight.data = weight.data.bfloat16() if name == "small" else weight.data
        config = OptimizerConfig(name="adamw" if name == "small" else name, **given)  # type: ignore[arg-type]
        optimizer = build_optimizer(config, [{"params": [weight], "lr": 0.1}])
        for gradient in (1.0, -0.5, 0.2):
            weight.grad = torch.full_like(weight, gradient)
            optimizer.step()
        weights[setting] = weight.detach().clone()
    ignored = {"betas", "eps"} if name == "adafactor" else set()
    for setting in ("betas", "eps", "weight_decay"):
        assert torch.equal(weights[setting], weights["as they are"]) == (setting in ignored), setting
    shrunk = weights["weight_decay"].abs() < weights["as they are"].abs()
    assert shrunk.all()


def test_adapters_drop_other_inputs_in_every_step(mini, exact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps with the same inputs and weights differ by what is dropped alone; done again, they drop the same."""
    predictions, method = [], lora(2, dropout=0.5)
    for folder in ("one", "two"):
        with started(mini, (method,), exact, config_of(), tmp_path / folder) as state, monkeypatch.context() as patched:
            stir(state)
            inputs = step_module.inputs_of(state, state.learners[0].batches.at(0), 0)
            patched.setattr(step_module, "inputs_of", lambda *_, inputs=inputs: inputs)
            with watched(state.base.unet) as seen:
                gradients_at(state)
                gradients_at(state)
            predictions.append([one.prediction for one in seen])
    (first, second), (again, _) = predictions
    assert not torch.allclose(first, second)
    assert torch.equal(first, again)


# Rates -----------------------------------------------------------------------------------------------------------


def cosine(step: int, steps: int, warm_up: int) -> float:
    return step / warm_up if step < warm_up else 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def rates_in(state: TrainingState) -> dict[tuple[str, str], float]:
    """The rate of each learner's parts, as the optimizer has them now."""
    found = {}
    names = {id(weight): name for name, weight in state.attached.named_parameters().items()}
    for group in state.optimizer.param_groups:
        learner, part = names[id(group["params"][0])].split(".")[:2]
        found[learner, part] = float(group["lr"])
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_learner_has_its_own_rates_schedule_and_length(mini, mini_data, tmp_path: Path, optimizer: str) -> None:
    """Also once another has left, and with several passes in a step; a rate that was lowered is lowered for all."""
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer])
    lengths, rates, text_rates = (4, 8, 6), (1e-3, 2e-3, 3e-3), (1e-4, None, 5e-4)
    highest = rates if optimizer == "prodigy" else (1, 1, 1)  # it knows ratios only
    methods = [
        lora(2, max_train_steps=n, learning_rate=rate, text_encoder_learning_rate=text, train_text_encoder=True)
        for n, rate, text in zip(lengths, rates, text_rates, strict=True)
    ]
    config = config_of(
        "training.lr_scheduler=cosine", "training.lr_warmup_steps=2", "training.gradient_accumulation_steps=2",
        f"training.optimizer.name={optimizer}",
    )  # fmt: skip
    with started(mini, methods, mini_data, config, tmp_path) as state:
        state.adapted = replace(state.adapted, lowered=(3,))
        for step in range(6):
            if step == 4:
                state.leave(state.learners[0])
            records = train_step(state)
            expected = {}
            for k in range(0 if step < 4 else 1, 3):
                factor = cosine(step, lengths[k], 2) * (0.25 if step >= 3 else 1) / highest[k]
                expected[f"m{k}", "unet"] = rates[k] * factor
                expected[f"m{k}", "text_encoder"] = (text_rates[k] or rates[k]) * factor
            assert rates_in(state) == pytest.approx(expected, rel=1e-5)
            logged = [value for (_, part), value in expected.items() if part == "unet"]
            assert [record.learning_rate for record in records] == pytest.approx(logged, rel=1e-5)
