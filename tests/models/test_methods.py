"""Lifecycles of methods: attach, save, load, detach, in every order, with nothing left behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from portrayal.config import LoraMethod, Method, UnetMethod
from portrayal.errors import UsageError, WeightsError
from portrayal.models.base import BaseModel
from portrayal.models.methods import Attached, attach
from portrayal.models.saved import attach_saved, tuned
from portrayal.pocket import WEIGHTS

METHODS: dict[str, Method] = {
    "unet": UnetMethod(),
    "unet+text": UnetMethod(train_text_encoder=True),
    "lora": LoraMethod(rank=2),
    "lora+text": LoraMethod(rank=2, train_text_encoder=True),
}


def state_of(base: BaseModel) -> dict[str, Tensor]:
    parts = {"unet": base.unet, "text_encoder": base.text_encoder}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


@torch.no_grad()
def output_of(base: BaseModel) -> Tensor:
    """What the UNet says of fixed latents under a fixed prompt."""
    latents = torch.randn(1, base.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    embeds = base.encode_prompts(["a photo of sks woman"])
    return base.unet(latents, torch.tensor([300]), embeds).sample


def move(attached: Attached) -> None:
    """Change every trainable weight a little, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in attached.named_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)


@pytest.fixture(scope="module")
def untouched(pocket) -> tuple[dict[str, Tensor], Tensor]:
    return {name: value.clone() for name, value in state_of(pocket).items()}, output_of(pocket)


@pytest.fixture(autouse=True)
def given_back(pocket, untouched) -> Iterator[None]:
    """After every test the shared base is what it was, bit for bit."""
    yield
    state, output = untouched
    left = pocket.attached
    pocket.attached = False
    assert not left
    now = state_of(pocket)
    assert now.keys() == state.keys()
    assert all(torch.equal(now[name], value) for name, value in state.items())
    assert torch.equal(output_of(pocket), output)
    for part in (pocket.unet, pocket.text_encoder, pocket.vae):
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not any(module.training for module in part.modules())


def trained_folder(pocket, method: Method, folder: Path, precision: str = "fp32") -> Tensor:
    """Save a changed model as a training does; returns what it said before it was saved."""
    attached = attach(pocket, method, seed=0)
    move(attached)
    output = output_of(pocket)
    attached.save(folder, precision)
    attached.detach()
    (folder / "method.json").write_text(json.dumps({"settings": {"kind": method.kind}}))
    return output


@pytest.mark.parametrize("name", METHODS)
def test_detaching_gives_back_the_base(pocket, untouched, name: str) -> None:
    attached = attach(pocket, METHODS[name], seed=0)
    move(attached)
    assert not torch.equal(output_of(pocket), untouched[1])
    attached.detach()


def test_methods_follow_one_another_in_any_order(pocket) -> None:
    for name in ("lora+text", "unet", "lora", "unet+text", "unet", "lora+text"):
        attached = attach(pocket, METHODS[name], seed=0)
        move(attached)
        attached.detach()


def test_detaching_twice_does_no_harm(pocket) -> None:
    for method in METHODS.values():
        attached = attach(pocket, method, seed=0)
        attached.detach()
        attached.detach()


@pytest.mark.parametrize("first", ["unet", "lora"])
@pytest.mark.parametrize("second", ["unet", "lora"])
def test_attaching_twice_is_refused_and_the_first_stays(pocket, first: str, second: str) -> None:
    attached = attach(pocket, METHODS[first], seed=0)
    parameters = attached.named_parameters().keys()
    with pytest.raises(ValueError, match="detach it first"):
        attach(pocket, METHODS[second], seed=0)
    assert attached.named_parameters().keys() == parameters
    attached.detach()


@pytest.mark.parametrize("name", METHODS)
def test_what_is_trained_is_what_was_asked_for(pocket, name: str) -> None:
    attached = attach(pocket, METHODS[name], seed=0)
    names = attached.named_parameters()
    assert {key.split(".")[0] for key in names} == ({"unet", "text_encoder"} if "text" in name else {"unet"})
    assert all(("lora_" in key) == name.startswith("lora") for key in names)
    assert all(parameter.dtype == torch.float32 for parameter in names.values())
    in_groups = [parameter for group in attached.parameter_groups() for parameter in group["params"]]
    assert {id(parameter) for parameter in in_groups} == {id(parameter) for parameter in names.values()}
    attached.detach()


def test_the_text_encoder_has_its_own_learning_rate(pocket) -> None:
    method = LoraMethod(rank=2, train_text_encoder=True, learning_rate=1e-3, text_encoder_learning_rate=1e-5)
    attached = attach(pocket, method, seed=0)
    assert [group["lr"] for group in attached.parameter_groups()] == [1e-3, 1e-5]
    attached.detach()


def test_a_target_that_matches_nothing_is_refused_before_anything_changes(pocket) -> None:
    with pytest.raises(UsageError, match="'to_qq' matches no layer of the UNet; did you mean to_q") as caught:
        attach(pocket, LoraMethod(rank=2, target_modules=("to_v", "to_qq")), seed=0)
    assert "to_out.0" in caught.value.remedy
    assert not pocket.attached


@pytest.mark.parametrize("targets", [("to_q",), ("conv1", "conv2"), ("to_out.0", "ff.net.2"), ("conv_in",)])
def test_adapters_sit_where_they_were_asked_for(pocket, targets: tuple[str, ...]) -> None:
    attached = attach(pocket, LoraMethod(rank=2, target_modules=targets), seed=0)
    layers = {name.split(".lora_")[0] for name in attached.named_parameters()}
    assert layers
    assert all(layer.endswith(targets) for layer in layers)
    attached.detach()


@pytest.mark.parametrize("rank", [2, 8])
def test_a_lora_starts_as_the_base_with_scale_one(pocket, untouched, rank: int) -> None:
    attached = attach(pocket, LoraMethod(rank=rank), seed=0)
    assert torch.equal(output_of(pocket), untouched[1])
    scales = {module.scaling["default"] for module in pocket.unet.modules() if hasattr(module, "lora_A")}
    assert scales == {1.0}
    attached.detach()


def test_a_lora_starts_the_same_in_every_process_and_moves_no_global_generator(pocket) -> None:
    """The hash was taken in another process, on another day."""
    torch.manual_seed(99)
    state = torch.get_rng_state()
    attached = attach(pocket, LoraMethod(rank=4, train_text_encoder=True), seed=3)
    digest = hashlib.sha256()
    for name, parameter in sorted(attached.named_parameters().items()):
        digest.update(name.encode() + parameter.detach().numpy().tobytes())
    attached.detach()
    assert digest.hexdigest()[:16] == "7c45406f15fd704d"
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_starts_elsewhere(pocket) -> None:
    starts = []
    for seed in (0, 1):
        attached = attach(pocket, LoraMethod(rank=2), seed=seed)
        starts.append(next(p.detach().clone() for name, p in attached.named_parameters().items() if "lora_A" in name))
        attached.detach()
    assert not torch.equal(*starts)


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_model_says_what_the_trained_one_said(pocket, tmp_path: Path, name: str) -> None:
    output = trained_folder(pocket, METHODS[name], tmp_path)
    with tuned(pocket, tmp_path) as base:
        assert torch.allclose(output_of(base), output, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_on_disk_changes_little(pocket, untouched, tmp_path: Path, name: str) -> None:
    output = trained_folder(pocket, METHODS[name], tmp_path, "fp16")
    moved = (output - untouched[1]).abs().max()
    with tuned(pocket, tmp_path) as base:
        assert (output_of(base) - output).abs().max() < 0.02 * moved


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_alpha_survives_being_saved_here_and_in_diffusers(pocket, tmp_path: Path, train_text_encoder: bool) -> None:
    """Without the header diffusers takes alpha for rank, and the picture is another one."""
    from diffusers import StableDiffusionPipeline

    method = LoraMethod(rank=4, alpha=1.0, train_text_encoder=train_text_encoder)
    output = trained_folder(pocket, method, tmp_path)
    with tuned(pocket, tmp_path) as base:
        assert torch.equal(output_of(base), output)
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, dtype=torch.float32, safety_checker=None)
    pipeline.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    theirs = BaseModel(
        pocket.source, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.unet, None, pocket.device,
        torch.float32,
    )  # fmt: skip
    theirs.text_encoder.eval()
    assert torch.allclose(output_of(theirs), output, atol=1e-6)


def test_a_saved_full_unet_loads_in_diffusers(pocket, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    attached = attach(pocket, METHODS["unet+text"], seed=0)
    move(attached)
    attached.save(tmp_path, "fp32")
    unet = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    text_encoder = CLIPTextModel.from_pretrained(tmp_path, subfolder="text_encoder")
    for ours, theirs in ((pocket.unet, unet), (pocket.text_encoder, text_encoder)):
        found = theirs.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in ours.state_dict().items())
    attached.detach()
    assert not list(tmp_path.rglob("*.bin"))


def test_saving_leaves_the_trained_weights_alone(pocket, tmp_path: Path) -> None:
    attached = attach(pocket, METHODS["unet"], seed=0)
    attached.save(tmp_path, "fp16")
    assert all(parameter.dtype == torch.float32 for parameter in attached.named_parameters().values())
    attached.detach()


def test_a_lora_with_dropout_drops_nothing_when_it_paints(pocket, tmp_path: Path) -> None:
    """New adapter layers begin in training mode, where dropout would make every picture a matter of chance."""
    trained_folder(pocket, LoraMethod(rank=2, dropout=0.5, train_text_encoder=True), tmp_path)
    with tuned(pocket, tmp_path) as base:
        assert torch.equal(output_of(base), output_of(base))


def test_painting_with_a_saved_lora_moves_no_global_generator(pocket, tmp_path: Path) -> None:
    trained_folder(pocket, METHODS["lora"], tmp_path)
    state = torch.get_rng_state()
    with tuned(pocket, tmp_path):
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["unet", "lora"])
def test_a_damaged_model_is_said_and_the_base_given_back(pocket, tmp_path: Path, name: str) -> None:
    trained_folder(pocket, METHODS[name], tmp_path)
    weights = next(tmp_path.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"is damaged|cannot be loaded"):
        attach_saved(pocket, tmp_path)
    assert not pocket.attached


def test_a_lora_of_another_base_is_said_and_the_base_given_back(pocket, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    trained_folder(pocket, METHODS["lora"], tmp_path)
    weights = tmp_path / "pytorch_lora_weights.safetensors"
    save_file({name: torch.cat([value, value], dim=1) for name, value in load_file(weights).items()}, weights)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        attach_saved(pocket, tmp_path)


def test_an_empty_folder_holds_no_model(pocket, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no trained model"), tuned(pocket, tmp_path):
        pass


def test_an_error_inside_gives_the_base_back(pocket, tmp_path: Path) -> None:
    trained_folder(pocket, METHODS["lora"], tmp_path)
    with pytest.raises(ZeroDivisionError), tuned(pocket, tmp_path):
        _ = 1 / 0


def test_a_saved_lora_tells_nothing_of_the_machine(pocket, tmp_path: Path) -> None:
    from safetensors import safe_open

    trained_folder(pocket, LoraMethod(rank=2, train_text_encoder=True), tmp_path / "lora")
    with safe_open(tmp_path / "lora" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        description = json.loads(file.metadata()["lora_adapter_metadata"])
    paths = [value for value in description.values() if isinstance(value, str) and "/" in value]
    assert not paths
    assert description["text_encoder.target_modules"] == sorted(description["text_encoder.target_modules"])
