"""LoRA files in a base: they do what the trained adapters do, and leave nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from portrayal.config import LoraMethod
from portrayal.errors import UsageError, WeightsError
from portrayal.formats.lora import LoraLayer
from portrayal.models.base import BaseModel, pipeline_of
from portrayal.models.lora_files import LoraFile, layers_of, load_lora, merged, parse_lora, read_file, with_loras
from portrayal.models.methods import LORA_FILE, attach
from portrayal.models.saved import tuned


@torch.no_grad()
def output_of(base: BaseModel) -> Tensor:
    """What the UNet says of fixed latents under a fixed prompt."""
    latents = torch.randn(1, base.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    embeds = base.encode_prompts(["a photo of sks woman"])
    return base.unet(latents, torch.tensor([300]), embeds).sample


def state_of(base: BaseModel) -> dict[str, Tensor]:
    parts = {"unet": base.unet, "text_encoder": base.text_encoder}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def train(base: BaseModel, folder: Path, *, alpha: float, seed: int = 1, convolutions: bool = False) -> Tensor:
    """Save adapters with weights of chance, text encoder too; returns what the model said with them."""
    targets = ("to_q", "to_out.0", "ff.net.2", *(["conv1", "proj_in"] if convolutions else []))
    method = LoraMethod(rank=3, alpha=alpha, target_modules=targets, train_text_encoder=True)
    attached = attach(base, method, seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attached.named_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    said = output_of(base)
    attached.save(folder, "fp32")
    attached.detach()
    return said


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("convolutions", [False, True])
def test_a_file_says_what_the_adapters_said_and_goes_without_a_trace(pocket, tmp_path, convolutions) -> None:
    before, plain = {name: value.clone() for name, value in state_of(pocket).items()}, output_of(pocket)
    said = train(pocket, tmp_path, alpha=5.0, convolutions=convolutions)

    with with_loras(pocket, [parse_lora(str(tmp_path))]):
        found = output_of(pocket)

    assert error(found, said) < 1e-4
    assert error(plain, said) > 1e-2  # it makes a difference at all
    after = state_of(pocket)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_strengths_add_up_and_nothing_is_nothing(pocket, tmp_path) -> None:
    train(pocket, tmp_path / "a", alpha=3.0)
    train(pocket, tmp_path / "b", alpha=1.0, seed=2)
    first, second = parse_lora(str(tmp_path / "a")), parse_lora(str(tmp_path / "b"))
    plain = output_of(pocket)

    with with_loras(pocket, [LoraFile(first.path, 0.7), LoraFile(second.path, -0.3), LoraFile(first.path, 0.3)]):
        both = output_of(pocket)
    with with_loras(pocket, [LoraFile(second.path, -0.3), first]):
        other = output_of(pocket)
    with with_loras(pocket, [LoraFile(first.path, 0.0)]):
        none = output_of(pocket)

    assert error(both, other) < 1e-5
    assert torch.equal(none, plain)


def test_they_come_on_top_of_a_trained_model(pocket, tmp_path) -> None:
    train(pocket, tmp_path / "a", alpha=3.0)
    train(pocket, tmp_path / "b", alpha=1.0, seed=2)
    first, second = parse_lora(str(tmp_path / "a")), parse_lora(str(tmp_path / "b"))

    with tuned(pocket, tmp_path / "a"), with_loras(pocket, [second]):
        on_top = output_of(pocket)
    with with_loras(pocket, [first, second]):
        both = output_of(pocket)

    assert error(on_top, both) < 1e-4


def test_peft_folders_are_read_with_their_alpha(pocket, tmp_path) -> None:
    said = train(pocket, tmp_path / "ours", alpha=5.0)
    tensors = load_file(tmp_path / "ours" / LORA_FILE)
    ends = {".down.": "_A.", ".up.": "_B."}
    renamed = {
        f"base_model.model.{key.replace('_linear_layer', '').replace('.lora' + old, '.lora' + new)}": tensor
        for key, tensor in tensors.items()
        for old, new in ends.items()
        if old in key
    }
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(renamed, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 5.0, "use_rslora": False}))

    with with_loras(pocket, [parse_lora(str(folder))]):
        assert error(output_of(pocket), said) < 1e-4

    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(WeightsError, match="damaged"), with_loras(pocket, [parse_lora(str(folder))]):
        pass


def test_doras_say_what_peft_makes_of_them(pocket, tmp_path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pocket.unet.add_adapter(LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=["to_q", "conv1"]))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in pocket.unet.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    said = output_of(pocket)
    state = get_peft_model_state_dict(pocket.unet, adapter_name="default", save_embedding_layers=False)
    pipeline_of(pocket).unload_lora_weights()
    pocket.unet.eval().requires_grad_(requires_grad=False)
    told = json.dumps({"unet.r": 2, "unet.lora_alpha": 3})
    file = tmp_path / "dora.safetensors"
    save_file(
        {f"unet.{key}": tensor.contiguous() for key, tensor in state.items()}, file, {"lora_adapter_metadata": told}
    )

    with with_loras(pocket, [LoraFile(file)]):
        assert error(output_of(pocket), said) < 1e-4


def test_a_file_that_does_not_fit_changes_nothing(pocket, tmp_path) -> None:
    train(pocket, tmp_path / "a", alpha=3.0)
    good = parse_lora(str(tmp_path / "a"))
    other = {f"lora_unet_nowhere.{end}": torch.ones(2, 2) for end in ("lora_down.weight", "lora_up.weight")}
    save_file(other, tmp_path / "other.safetensors")
    plain = output_of(pocket)

    with (
        pytest.raises(WeightsError, match="2 of 2 keys"),
        with_loras(pocket, [good, LoraFile(tmp_path / "other.safetensors")]),
    ):
        pass

    assert torch.equal(output_of(pocket), plain)


def test_names_and_strengths(tmp_path) -> None:
    file = tmp_path / "ann.safetensors"
    save_file({"a": torch.ones(1)}, file)
    odd = tmp_path / "of:1.safetensors"
    shutil.copy(file, odd)

    assert parse_lora(str(file)) == LoraFile(file, 1.0)
    assert parse_lora(f"{file}:0.8") == LoraFile(file, 0.8)
    assert parse_lora(f"{file}:-1") == LoraFile(file, -1.0)
    assert parse_lora(str(odd)) == LoraFile(odd, 1.0)
    assert parse_lora(str(tmp_path / "ann.safetensors")).name == "ann"
    assert LoraFile(tmp_path / "anna" / LORA_FILE).name == "anna"
    for text, cause in [
        (f"{file}:much", "no strength"),
        (f"{file}:nan", "no strength"),
        (f"{tmp_path}/nothing.safetensors", "no LoRA file"),
        (f"{tmp_path}/nothing.safetensors:0.5", "no LoRA file"),
        (str(tmp_path), "2 .safetensors"),
    ]:
        with pytest.raises((UsageError, WeightsError), match=cause):
            parse_lora(text)


def test_pickles_are_refused(tmp_path) -> None:
    file = tmp_path / "ann.pt"
    file.write_bytes(b"anything")

    with pytest.raises(WeightsError, match="never loaded"):
        parse_lora(str(file))


def test_a_layers_path_does_not_depend_on_what_is_attached(pocket, tmp_path) -> None:
    train(pocket, tmp_path, alpha=3.0)
    plain = {path: tuple(layer.weight.shape) for path, layer in layers_of(pocket).items()}

    with tuned(pocket, tmp_path):
        adapted = {path: tuple(layer.weight.shape) for path, layer in layers_of(pocket).items()}

    assert adapted == plain


@given(data=st.data())
def test_no_damage_to_a_file_breaks_the_reader(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    file = folder / "lora.safetensors"
    tensors = {"text_encoder.a.lora_A.weight": torch.ones(2, 3), "text_encoder.a.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, file, {"lora_adapter_metadata": "{}"})
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        else:
            content = content[: data.draw(st.integers(1, len(content)))]
    file.write_bytes(content)

    try:
        read, metadata = read_file(file)
        load_lora(file, {"text_encoder.a": (4, 3)})
    except WeightsError:
        return
    assert all(isinstance(tensor, Tensor) for tensor in read.values())
    assert all(isinstance(value, str) for value in metadata.values())


@pytest.mark.parametrize("strength", [1.0, -0.4])
def test_a_locon_in_tucker_form_is_the_product_of_its_three_kernels(pocket, tmp_path, strength: float) -> None:
    """By hand, and on top of a plain update of the same layer."""
    layer = pocket.unet.mid_block.resnets[0].conv1
    outputs, inputs = layer.weight.shape[:2]
    generator = torch.Generator().manual_seed(0)
    down, mid, up = (
        torch.randn(*shape, generator=generator) / 9 for shape in ((3, inputs, 1, 1), (3, 3, 3, 3), (outputs, 3, 1, 1))
    )
    plain_down, plain_up = torch.randn(2, inputs, 3, 3, generator=generator), torch.randn(outputs, 2, 1, 1) / 9
    name = "lora_unet_mid_block_resnets_0_conv1"
    tucker = {f"{name}.lora_{part}.weight": tensor for part, tensor in (("down", down), ("mid", mid), ("up", up))}
    save_file(tucker | {f"{name}.alpha": torch.tensor(1.5)}, tmp_path / "tucker.safetensors")
    plain = {f"{name}.lora_down.weight": plain_down, f"{name}.lora_up.weight": plain_up}
    save_file(plain, tmp_path / "plain.safetensors")
    before = layer.weight.clone()

    loras = [LoraFile(tmp_path / "tucker.safetensors", strength), LoraFile(tmp_path / "plain.safetensors", 0.5)]
    with with_loras(pocket, loras):
        found = layer.weight - before

    kernels = torch.einsum("oa,abhw,bi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    expected = strength * 1.5 / 3 * kernels + 0.5 * torch.einsum("or,rihw->oihw", plain_up[:, :, 0, 0], plain_down)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(layer.weight, before)


@given(data=st.data())
def test_updates_are_added_each_at_its_own_strength(data) -> None:
    """`W + Σ strength · alpha/rank · up · down`, in any order."""
    updates, total = [], torch.zeros(4, 3, dtype=torch.float64)
    for seed in range(data.draw(st.integers(1, 3))):
        rank, alpha, strength = (data.draw(one) for one in (st.integers(1, 4), st.floats(0, 8), st.floats(-2, 2)))
        generator = torch.Generator().manual_seed(seed)
        down, up = torch.randn(rank, 3, generator=generator), torch.randn(4, rank, generator=generator)
        updates.append((LoraLayer(down, up, alpha), strength))
        total += strength * alpha / rank * up.double() @ down.double()
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(9))

    assert torch.allclose(merged(weight, updates), weight + total.float(), atol=1e-4)
    assert torch.allclose(merged(weight, updates[::-1]), weight + total.float(), atol=1e-4)
