"""`alpha/rank`: the same factor in training, alone and in a pack, in the files, in what is painted with and merged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from portrayal.config import Config, LoraMethod, OptimizerConfig
from portrayal.formats.lora import delta, read_own, to_diffusers
from portrayal.formats.lora_rank import lower_rank
from portrayal.models.base import BaseModel
from portrayal.models.lora_files import LoraFile, load_lora, merged_loras, with_loras
from portrayal.models.methods import DTYPES, LORA_FILE, attach
from portrayal.models.packed_lora import Pack
from portrayal.models.saved import attach_saved, tuned
from portrayal.run import Run
from portrayal.stages.publish import publish_model
from portrayal.training import trainer
from portrayal.training.keeping import save_weights
from portrayal.training.optimizers import build_optimizer
from portrayal.training.task import Task, TrainingData
from tests.training.mini import OPTIMIZERS, PACKAGES, TARGETS, UNET_AND_TEXT, config_of, lora, started, stir, tasks_of

RANKS = (2, 4, 9)
STEPS = 3
RULES = {
    "equal": ["study.lora_scale=equal"],
    "constant": ["study.lora_scale=constant"],
    "constant, alpha": ["study.lora_scale=constant", "method.lora.alpha=3"],
    "rank_stabilized": ["study.lora_scale=rank_stabilized"],
    "rank_stabilized, alpha": ["study.lora_scale=rank_stabilized", "method.lora.alpha=3"],
}
SCALES = {  # of ranks 2, 4 and 9
    "equal": (1, 1, 1),
    "constant": (32 / 2, 32 / 4, 32 / 9),
    "constant, alpha": (3 / 2, 3 / 4, 3 / 9),
    "rank_stabilized": (1, math.sqrt(2) / 2, math.sqrt(2) / 3),
    "rank_stabilized, alpha": (3 / math.sqrt(2), 3 / 2, 3 / 3),
}


def config_with(*settings: str) -> Config:
    fixed = [
        f"study.ranks={list(RANKS)}",
        "study.learning_rates=[1]",
        f"method.lora.max_train_steps={STEPS}",
        f"method.lora.target_modules={list(TARGETS)}",
        "method.lora.learning_rate=0.01",
        "method.lora.train_text_encoder=true",
        "study.full_unet=false",
    ]
    return config_of(*fixed, *settings)


def methods_of(config: Config) -> list[LoraMethod]:
    return [method for method in config.methods.values() if isinstance(method, LoraMethod)]


@torch.no_grad()
def output_of(base: BaseModel) -> Tensor:
    latents = torch.randn(1, base.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return base.unet(latents, torch.tensor([300]), base.encode_prompts(["a photo of sks woman"])).sample


def ignore(done: int, total: int) -> None:
    """Progress nobody watches."""


def trained(base: BaseModel, tasks: list[Task], config: Config, work: Path) -> list[dict[str, Tensor]]:
    trainer.train(base, tasks, config, work, ignore)
    return [load_file(task.folder / LORA_FILE) for task in tasks]


def stirred_lora(base: BaseModel, method: LoraMethod, folder: Path) -> Tensor:
    """Save a LoRA with weights of chance, as PEFT has it in place; returns what the base says with it."""
    attached = attach(base, method, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in attached.named_parameters().values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    said = output_of(base)
    attached.save(folder, "fp32")
    attached.detach()
    return said


@pytest.mark.parametrize("rule", RULES)
def test_the_scale_of_each_rank_follows_its_rule(rule: str) -> None:
    methods = methods_of(config_with(*RULES[rule]))
    found = [(method.rank if method.alpha is None else method.alpha) / method.rank for method in methods]
    assert found == pytest.approx(SCALES[rule])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_member_of_a_pack_trains_as_it_would_alone(
    mini, mini_data: TrainingData, tmp_path: Path, optimizer: str
) -> None:
    """Whatever the others are: their optimizer is one, and knows nothing of who else is in it."""
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer])
    settings = ["method.lora.text_encoder_learning_rate=0.005", f"training.optimizer.name={optimizer}"]
    config, seeds = config_with(*settings, *RULES["rank_stabilized, alpha"]), (0, 3, 0)
    rates = [{"learning_rate": 0.01 / (1 + number)} for number in range(len(RANKS))]
    methods = [method.model_copy(update=rate) for method, rate in zip(methods_of(config), rates, strict=True)]
    together = tasks_of(methods, mini_data, tmp_path / "together", seeds)
    alone = tasks_of(methods, mini_data, tmp_path / "alone", seeds)
    packed = trained(mini, together, config, tmp_path / "work")
    for task, found in zip(alone, packed, strict=True):
        (expected,) = trained(mini, [task], config, tmp_path / "work")
        apart = sum(float((found[name] - expected[name]).square().sum()) for name in expected)
        ups = sum(float(weight.square().sum()) for name, weight in expected.items() if ".up." in name)  # from zero
        assert ups > 0
        assert apart < 1e-6 * ups


def test_prodigys_groups_keep_the_ratio_of_their_rates() -> None:
    """Equal weights with equal gradients; the second's rate is a fifth."""
    prodigyopt = pytest.importorskip("prodigyopt")
    config = OptimizerConfig(name="prodigy", weight_decay=0.1)
    whole, alone, fifth = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(3))
    groups = [{"params": [whole], "lr": 1e-3}, {"params": [fifth], "lr": 2e-4}]
    ours, theirs = build_optimizer(config, groups), prodigyopt.Prodigy([alone], weight_decay=0.1)
    for weight in (whole, alone, fifth):
        weight.grad = torch.linspace(1, 2, 7)
    start = whole.detach().clone()
    ours.step()
    theirs.step()
    torch.testing.assert_close(whole, alone)
    torch.testing.assert_close((fifth - start).detach(), 0.2 * (whole - start).detach(), rtol=0.1, atol=0)
    assert [group["lr"] for group in ours.param_groups] == pytest.approx([1, 0.2])


@pytest.mark.parametrize("alpha", [None, 1.0, 5.0])
def test_a_saved_lora_says_the_same_in_every_way_it_is_put_in_place(mini, tmp_path: Path, alpha: float | None) -> None:
    said = stirred_lora(mini, lora(3, alpha=alpha, train_text_encoder=True), tmp_path)
    before = output_of(mini)
    moved = float((said - before).norm())
    assert moved > 0.01
    shapes = {f"unet.{name}".removesuffix(".weight"): tuple(w.shape) for name, w in mini.unet.named_parameters()}
    shapes |= {
        f"text_encoder.{name}".removesuffix(".weight"): tuple(w.shape)
        for name, w in mini.text_encoder.named_parameters()
    }
    layers = load_lora(tmp_path / LORA_FILE, shapes)
    whole = lower_rank(layers, 3)
    assert whole.loss < 1e-6
    for name, form in (("diffusers", to_diffusers(layers)), ("lowered", to_diffusers(whole.layers))):
        save_file(form[0], tmp_path / f"{name}.safetensors", form[1])
    for strength in (1.0, 0.5, -2.0):
        outputs = []
        with tuned(mini, tmp_path, strength):
            outputs.append(output_of(mini))
        with with_loras(mini, [LoraFile(tmp_path / LORA_FILE, strength)]):
            outputs.append(output_of(mini))
        for own in (whole.layers, read_own(load_file(tmp_path / LORA_FILE), 3.0 if alpha is None else alpha)):
            with merged_loras(mini, [(own, strength)]):
                outputs.append(output_of(mini))
        for name in ("diffusers", "lowered"):
            with with_loras(mini, [LoraFile(tmp_path / f"{name}.safetensors", strength)]):
                outputs.append(output_of(mini))
        if strength == 1:
            outputs.append(said)
        for output in outputs:
            assert float((output - outputs[0]).norm()) < 1e-3 * moved
    assert torch.equal(output_of(mini), before)


def test_an_update_is_alpha_over_rank_times_up_times_down(mini, tmp_path: Path) -> None:
    """On paper: rank 2, alpha 6; `down` of ones and `up` of twos give 6/2 · 2 · 2·1 = 12 everywhere."""
    stirred_lora(mini, lora(2, alpha=6.0), tmp_path)
    tensors = load_file(tmp_path / LORA_FILE)
    tensors = {name: torch.full_like(weight, 1.0 if ".down." in name else 2.0) for name, weight in tensors.items()}
    layers = read_own(tensors, 6.0)
    assert layers
    assert all(torch.equal(delta(layer), torch.full_like(delta(layer), 12.0)) for layer in layers.values())
    lowered = lower_rank(layers, 1).layers
    for path, layer in lowered.items():
        assert layer.rank == layer.alpha == 1
        torch.testing.assert_close(delta(layer), delta(layers[path]))


def test_who_stays_in_a_pack_keeps_its_own_scale(mini, mini_data: TrainingData, tmp_path: Path) -> None:
    """Members leave from the front, the middle and the end; linear layers and convolutions."""
    alphas = (1.0, 8.0, 2.0, 20.0)
    for leaving in range(len(alphas)):
        methods = [lora(2, alpha=alpha) for alpha in alphas]
        with started(mini, methods, mini_data, config_of(), tmp_path / str(leaving)) as state:
            state.leave(state.learners[leaving])
            expected = [alpha / 2 for number, alpha in enumerate(alphas) if number != leaving]
            for layer in state.attached.layers.values():
                assert layer.scale.flatten().tolist() == expected


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_weights_on_disk_are_those_that_were_trained_rounded_once(
    mini, mini_half, mini_data: TrainingData, tmp_path: Path, precision: str
) -> None:
    """Of every member its own; also where half weights compute, whose masters are fp32."""
    dtype = DTYPES[precision]
    config = config_of(f"training.save_precision={precision}")
    with started(mini, [UNET_AND_TEXT], mini_data, config, tmp_path / "unet") as state:
        stir(state)
        save_weights(state, state.learners[0], config, tmp_path / "full")
        for part in ("unet", "text_encoder"):
            (file,) = (tmp_path / "full" / part).glob("*.safetensors")
            found = load_file(file)
            assert {weight.dtype for weight in found.values()} == {dtype}
            for name, weight in getattr(mini, part).named_parameters():
                assert torch.equal(found[name], weight.to(dtype))
    for name, base in (("whole", mini), ("half", mini_half)):
        with started(base, [lora(2, alpha=3.0), lora(3)], mini_data, config, tmp_path / name) as state:
            stir(state)
            assert isinstance(state.attached, Pack)
            for learner, member in zip(state.learners, state.attached.members, strict=True):
                folder = tmp_path / name / learner.name
                save_weights(state, learner, config, folder)
                found = load_file(folder / LORA_FILE)
                assert len(found) == len(member.weights)
                for name, weight in member.weights.items():
                    path, _, end = name.partition(".lora_")
                    up = end.startswith("B")
                    trained = state.attached.layers[path].as_peft(weight.detach(), up=up)
                    assert torch.equal(found[f"{path}.lora.{'up' if up else 'down'}.weight"], trained.to(dtype))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_masters_are_saved_not_the_halves_that_compute(mini_half, tmp_path: Path, precision: str) -> None:
    """Of a full UNet as on a GPU: what is smaller than half's digits is learned, and kept."""
    attached = attach(mini_half, UNET_AND_TEXT, seed=0)
    try:
        attached.halve()
        with torch.no_grad():
            for master in attached.masters.values():
                master.mul_(1 + 2.0**-12)
        attached.refresh()
        assert all(
            torch.equal(weight, attached.masters[name].bfloat16()) for name, weight in attached.computing().items()
        )
        attached.save(tmp_path, precision)
        for part in ("unet", "text_encoder"):
            (file,) = (tmp_path / part).glob("*.safetensors")
            found = load_file(file)
            wanted = {name: w.to(DTYPES[precision]) for name, w in attached.masters.items() if name.startswith(part)}
            assert len(found) == len(wanted) > 10
            assert all(torch.equal(found[name.removeprefix(f"{part}.")], weight) for name, weight in wanted.items())
    finally:
        attached.detach()


# The file for other tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_the_kohya_file_has_the_alpha_rank_and_steps_of_the_training(
    mini, mini_data: TrainingData, tmp_path: Path, rule: str
) -> None:
    """And its updates, so that any tool paints as the trained model does; the training ends before its schedule."""
    config = config_with("seed=11", *RULES[rule])
    provenance = {"base": {"name": "mini", "licence": "none"}, "photos": [], "consent": "not stated"}
    run = Run.create(tmp_path / "run", config, provenance)
    name, ended = f"lora-{RANKS[-1]}", STEPS - 1
    method = config.methods[name]
    assert isinstance(method, LoraMethod)
    task = Task(name, method, mini_data, run.model_folder(name), last_step=ended)
    trainer.train(mini, [task], config, tmp_path / "work", ignore)
    publish_model(run, name, name, num_photos=5)
    path = run.model_folder(name) / f"{name}.kohya.safetensors"
    with safe_open(path, "pt") as opened:
        header, tensors = opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    alpha = SCALES[rule][-1] * RANKS[-1]
    assert float(header["ss_network_alpha"]) == pytest.approx(alpha)
    assert header["ss_network_dim"] == str(RANKS[-1])
    assert header["ss_steps"] == str(ended)
    assert (header["ss_seed"], header["ss_num_train_images"]) == ("11", "5")
    alphas = [float(value) for key, value in tensors.items() if key.endswith(".alpha")]
    assert alphas == pytest.approx([alpha] * len(alphas))
    assert {len(value) for key, value in tensors.items() if "lora_down" in key} == {RANKS[-1]}
    described = json.loads((run.model_folder(name) / "method.json").read_text())
    assert (described["rank"], described["step"]) == (RANKS[-1], ended)
    assert described["alpha"] == pytest.approx(alpha)
    with tuned(mini, run.model_folder(name)):
        said = output_of(mini)
    with with_loras(mini, [LoraFile(path)]):
        found = output_of(mini)
    moved = float((said - output_of(mini)).norm())
    assert moved > 0
    assert float((found - said).norm()) < 1e-2 * moved


def test_attaching_a_saved_lora_leaves_the_base_as_it_was(mini, tmp_path: Path) -> None:
    stirred_lora(mini, lora(3, alpha=5.0), tmp_path)
    before = {name: weight.clone() for name, weight in mini.unet.state_dict().items()}
    attach_saved(mini, tmp_path).detach()
    after = mini.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
