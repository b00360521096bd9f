"""The embedded base stays small, and its folder loads with the classes of Stable Diffusion 1.5."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import nn
from transformers import CLIPModel, CLIPTextModel

from pretraining import architecture
from pretraining.architecture import Vocabulary, build_clip, build_scheduler, build_unet
from pretraining.dataset import CONTROLS
from pretraining.export import MAX_TOTAL_BYTES, NAME_NORM, Pocket, export
from pretraining.pose import build_pose_reader
from pretraining.tokenizer import RARE_WORDS, encode_prompts, learn_tokenizer, vocabulary_of

BIGGEST_FILE = 16 * 2**20


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(["a photo of a person"])
    clip, unet = build_clip(vocabulary_of(tokenizer)), build_unet()
    return Pocket(
        tokenizer,
        architecture.build_vae(),
        clip,
        clip.text_model,
        architecture.build_identity(),
        build_pose_reader(),
        unet,
        {kind: architecture.build_controlnet(unet) for kind in CONTROLS},
    )


@pytest.fixture(scope="module")
def folder(pocket: Pocket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pocket")
    export(pocket, folder)
    return folder


def half_bytes(model: nn.Module) -> int:
    return 2 * sum(parameter.numel() for parameter in model.parameters())


def test_parts_fit_the_budget_with_a_full_vocabulary(pocket: Pocket) -> None:
    clip = build_clip(Vocabulary())
    parts = (pocket.vae, pocket.unet, *pocket.controlnets.values(), pocket.identity, pocket.pose, clip, clip.text_model)
    assert sum(map(half_bytes, parts)) < MAX_TOTAL_BYTES


def test_a_controlnet_starts_from_the_unets_convolutions_and_changes_nothing(pocket: Pocket) -> None:
    controlnet = pocket.controlnets["canny"]
    first = pocket.unet.down_blocks[0].resnets[0].conv1.weight
    assert torch.equal(controlnet.down_blocks[0].resnets[0].conv1.weight, first)
    latents, prompts = torch.randn(1, architecture.LATENT_CHANNELS, 16, 16), torch.randn(1, 77, 128)
    down, middle = controlnet(latents, 5, prompts, controlnet_cond=torch.rand(1, 3, 128, 128), return_dict=False)
    assert not any(residual.any() for residual in (*down, middle))
    with torch.no_grad():
        painted = pocket.unet(
            latents, 5, prompts, down_block_additional_residuals=down, mid_block_additional_residual=middle
        )
        assert torch.equal(painted.sample, pocket.unet(latents, 5, prompts).sample)


def test_no_file_is_too_big_for_a_repository(folder: Path) -> None:
    assert max(file.stat().st_size for file in folder.rglob("*.safetensors")) < BIGGEST_FILE


def test_every_width_is_a_multiple_of_32() -> None:
    """Tensor cores want it, and the heads of 32 need it."""
    assert all(width % 32 == 0 for width in build_unet().config.block_out_channels)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' schedulers and NumPy 2
def test_folder_paints(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (architecture.PICTURE_SIZE, architecture.PICTURE_SIZE)


def test_an_exported_text_encoder_gives_what_was_trained(folder: Path, pocket: Pocket) -> None:
    """transformers renamed the weights of CLIPTextModel; a silent mismatch would load random ones."""
    ids = torch.tensor(encode_prompts(pocket.tokenizer, ["a photo", "a photo of a person"]))
    alone = CLIPTextModel.from_pretrained(folder / "text_encoder")(ids)
    half = CLIPModel.from_pretrained(folder / "clip").text_model(ids)
    assert torch.equal(alone.last_hidden_state, half.last_hidden_state)
    assert torch.equal(alone.pooler_output, half.pooler_output)
    assert not torch.equal(alone.pooler_output[0], alone.pooler_output[1])


def test_names_for_new_subjects_weigh_as_much_as_words_and_differ(folder: Path, pocket: Pocket) -> None:
    before = pocket.text_encoder.get_input_embeddings().weight.clone()
    embeddings = CLIPTextModel.from_pretrained(folder / "text_encoder").get_input_embeddings().weight.detach()
    rows = [pocket.tokenizer.get_vocab()[f"{word}</w>"] for word in RARE_WORDS]
    names = embeddings[rows]
    assert names.norm(dim=1).tolist() == pytest.approx([NAME_NORM] * len(rows), abs=1e-3)
    assert (names @ names.t() - torch.eye(len(rows))).abs().max() < 0.5
    others = [row for row in range(len(embeddings)) if row not in rows]
    assert torch.allclose(embeddings[others], before[others], atol=1e-3)
    assert torch.equal(pocket.text_encoder.get_input_embeddings().weight, before)


def test_scaling_factor_is_exported(pocket: Pocket, tmp_path: Path) -> None:
    """diffusers' ``from_config`` drops a value registered after building, and latents would be six times too small."""
    pocket.vae.register_to_config(scaling_factor=0.75)
    export(pocket, tmp_path)
    assert AutoencoderKL.from_pretrained(tmp_path / "vae").config.scaling_factor == 0.75


def test_schedule_is_sd15s() -> None:
    config = DDPMScheduler.from_config(build_scheduler().config).config
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert config.prediction_type == "epsilon"
    assert not config.clip_sample
