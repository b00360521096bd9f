import hashlib
import json
import struct

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from portrayal.formats.kohya import kohya_metadata, save_kohya_bytes, sshs_legacy_hash, sshs_model_hash, to_kohya
from portrayal.formats.ldm import Family

UNET = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
TEXT = "text_encoder.text_model.encoder.layers.3.self_attn.q_proj"


def pair(rank: int = 4, inside: int = 8, outside: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(rank, inside, generator=generator), torch.randn(outside, rank, generator=generator)


def metadata(tensors: dict[str, Tensor], **changes: object) -> dict[str, str]:
    arguments: dict[str, object] = {
        "output_name": "anna-64",
        "rank": 4,
        "alpha": 8,
        "resolution": 512,
        "trigger_phrase": "a photo of sks woman",
        "num_train_images": 14,
        "max_train_steps": 800,
        "seed": 0,
        "base_name": "/home/me/models/sd15",
        "licence": "creativeml-openrail-m",
    }
    return kohya_metadata(tensors, **{**arguments, **changes})  # type: ignore[arg-type]


def test_names_shapes_and_alpha_are_kohyas() -> None:
    down, up = pair()
    tensors = to_kohya({UNET: (down, up), TEXT: pair(2)}, {UNET: 8.0, TEXT: 22.627})

    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    text = "lora_te_text_model_encoder_layers_3_self_attn_q_proj"
    parts = ("lora_down.weight", "lora_up.weight", "alpha")
    assert list(tensors) == [f"{module}.{part}" for module in (name, text) for part in parts]
    assert torch.equal(tensors[f"{name}.lora_down.weight"], down)
    assert torch.equal(tensors[f"{name}.lora_up.weight"], up)
    assert tensors[f"{name}.alpha"].shape == ()
    assert tensors[f"{text}.alpha"].item() == pytest.approx(22.627, abs=1e-5)


def test_the_update_survives_the_file() -> None:
    down, up = pair()
    tensors = to_kohya({UNET: (down, up)}, {UNET: 2.0})

    read = safetensors.torch.load(save_kohya_bytes(tensors, metadata(tensors)))

    name = "lora_unet_" + UNET.removeprefix("unet.").replace(".", "_")
    read_down, read_up = read[f"{name}.lora_down.weight"], read[f"{name}.lora_up.weight"]
    scale = read[f"{name}.alpha"] / len(read_down)
    assert torch.equal(scale * read_up @ read_down, 0.5 * up @ down)


@pytest.mark.parametrize("prefix", ["text_encoder.", "text_encoder.text_model."])
@pytest.mark.parametrize("module", ["encoder.layers.0.self_attn.out_proj", "encoder.layers.11.mlp.fc1"])
def test_text_encoder_paths_of_every_transformers_version_have_one_name(prefix: str, module: str) -> None:
    tensors = to_kohya({prefix + module: pair()}, {prefix + module: 4.0})

    assert next(iter(tensors)) == f"lora_te_text_model_{module.replace('.', '_')}.lora_down.weight"


def test_arrays_half_precision_convolutions_and_views_are_taken() -> None:
    down = np.ones((4, 8, 3, 3), np.float32)
    up = torch.nn.Parameter(torch.ones(4, 16, 1, 1, dtype=torch.float16).transpose(0, 1))

    tensors = to_kohya({UNET: (down, up)}, {UNET: 4.0})

    _, stored, _ = tensors.values()
    assert stored.dtype == torch.float16
    assert stored.is_contiguous()
    assert not stored.requires_grad
    assert safetensors.torch.load(save_kohya_bytes(tensors, {})).keys() == tensors.keys()


@pytest.mark.parametrize(
    ("pairs", "alphas", "reason"),
    [
        ({}, {}, "no LoRA weights"),
        ({UNET: pair()}, {}, "alpha are missing"),
        ({UNET: pair()}, {UNET: 1.0, TEXT: 1.0}, "weights or alpha"),
        ({"vae.conv": pair()}, {"vae.conv": 1.0}, "begins with neither"),
        ({UNET: (pair(4)[0], pair(8)[1])}, {UNET: 1.0}, "ranks of unet.*disagree"),
        ({TEXT: pair(), TEXT.replace("text_model.", ""): pair()}, None, "same name"),
    ],
)
def test_what_cannot_be_meant_is_refused(pairs: dict, alphas: dict | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_kohya(pairs, dict.fromkeys(pairs, 1.0) if alphas is None else alphas)


def test_metadata_has_what_readers_want_and_no_path() -> None:
    tensors = to_kohya({UNET: pair()}, {UNET: 8.0})
    written = metadata(tensors, date="2026-11-22")

    assert all(isinstance(value, str) for value in written.values())
    assert written["ss_v2"] == "False"
    assert written["ss_base_model_version"] == "sd_v1"
    assert written["ss_network_module"] == "networks.lora"
    assert (written["ss_network_dim"], written["ss_network_alpha"]) == ("4", "8.0")
    assert json.loads(written["ss_tag_frequency"]) == {"anna-64": {"a photo of sks woman": 14}}
    assert written["ss_sd_model_name"] == "sd15"
    for key in ("sai_model_spec", "architecture", "implementation", "title", "resolution", "date"):
        assert written[f"modelspec.{key}"]
    assert not any("/home" in value or "\\" in value for value in written.values())
    assert "modelspec.date" not in metadata(tensors)
    assert metadata(tensors, base_name="C:\\models\\sd15")["ss_sd_model_name"] == "sd15"


def test_hashes_are_those_of_sd_scripts() -> None:
    """Over a file with the `ss_*` keys alone, long enough that the legacy hash has something to read."""
    tensors = to_kohya({UNET: pair(64, 4096, 4096)}, {UNET: 8.0})
    written = metadata(tensors)
    content = safetensors.torch.save(tensors, {key: value for key, value in written.items() if key.startswith("ss_")})
    (header,) = struct.unpack("<Q", content[:8])

    assert written["sshs_model_hash"] == hashlib.sha256(content[header + 8 :]).hexdigest()
    assert written["sshs_legacy_hash"] == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    # Readers take the first over the whole file, whose other keys must not matter.
    assert sshs_model_hash(save_kohya_bytes(tensors, written)) == written["sshs_model_hash"]
    assert sshs_legacy_hash(b"short") == hashlib.sha256(b"").hexdigest()[:8]


def test_equal_weights_give_equal_bytes_that_safetensors_reads(tmp_path) -> None:
    tensors = to_kohya({UNET: pair()}, {UNET: 8.0})
    written = metadata(tensors, trigger_phrase="Größe ♥")
    # safetensors alone writes its metadata in another order each time; five draws would show it.
    contents = {save_kohya_bytes(tensors, written) for _ in range(5)}
    assert len(contents) == 1

    path = tmp_path / "lora.safetensors"
    path.write_bytes(contents.pop())
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == written
        assert set(file.keys()) == set(tensors)


def test_every_entry_of_the_header_is_what_was_told() -> None:
    """No two of the numbers are alike, so that none can stand for another."""
    tensors = to_kohya({UNET: pair(4)}, {UNET: 22.5})

    written = kohya_metadata(
        tensors,
        output_name="anna",
        rank=4,
        alpha=22.5,
        resolution=640,
        trigger_phrase="a photo of sks woman",
        num_train_images=14,
        max_train_steps=801,
        seed=33,
        base_name="owner/base",
        licence="openrail++",
        family=Family(1024, "v_prediction"),
        date="2026-11-22",
    )

    hashes = {key: written.pop(key) for key in ("sshs_model_hash", "sshs_legacy_hash")}
    assert written == {
        "ss_v2": "True",
        "ss_base_model_version": "sd_v2_v",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "22.5",
        "ss_network_args": "{}",
        "ss_output_name": "anna",
        "ss_resolution": "(640, 640)",
        "ss_num_train_images": "14",
        "ss_steps": "801",
        "ss_seed": "33",
        "ss_sd_model_name": "base",
        "ss_tag_frequency": '{"anna": {"a photo of sks woman": 14}}',
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v2-768-v/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "anna",
        "modelspec.resolution": "640x640",
        "modelspec.prediction_type": "v",
        "modelspec.trigger_phrase": "a photo of sks woman",
        "modelspec.license": "openrail++",
        "modelspec.date": "2026-11-22",
    }
    assert list(map(len, hashes.values())) == [64, 8]


paths = st.sampled_from(["attn1.to_q", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2"]).flatmap(
    lambda end: st.integers(0, 9).map(lambda block: f"unet.down_blocks.{block}.attentions.0.transformer_blocks.0.{end}")
) | st.integers(0, 23).map(lambda layer: f"text_encoder.encoder.layers.{layer}.self_attn.q_proj")


@given(
    st.dictionaries(paths, st.tuples(st.integers(1, 5), st.floats(0.125, 512, width=32)), min_size=1, max_size=5),
    st.text(max_size=20),
)
def test_any_update_and_words_come_back_from_the_file(found: dict[str, tuple[int, float]], words: str) -> None:
    """By safetensors' own reader; kohya's names hold every path apart."""
    pairs = {path: pair(rank, inside=rank + 2) for path, (rank, _) in found.items()}
    alphas = {path: alpha for path, (_, alpha) in found.items()}
    tensors = to_kohya(pairs, alphas)
    content = save_kohya_bytes(tensors, metadata(tensors, trigger_phrase=words))

    read = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]

    assert header["modelspec.trigger_phrase"] == words
    assert json.loads(header["ss_tag_frequency"]) == {"anna-64": {words: 14}}
    assert len(read) == 3 * len(pairs)
    for path, (down, up) in pairs.items():
        name = path.replace("unet.", "lora_unet_").replace("text_encoder.", "lora_te_text_model_").replace(".", "_")
        assert torch.equal(read[f"{name}.lora_down.weight"], down)
        assert torch.equal(read[f"{name}.lora_up.weight"], up)
        assert read[f"{name}.alpha"].item() == alphas[path]
