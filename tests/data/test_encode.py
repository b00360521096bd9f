"""What the training loop reads of pictures: masks at the size of the latents, and views beside the whole."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from safetensors.torch import save_file

from portrayal.config import BaseConfig
from portrayal.data.encode import EncodedDataset, encode, latent_masks
from portrayal.data.views import ITSELF, Views
from portrayal.evaluation.heldout import HeldoutGrid, heldout_losses
from portrayal.models.base import load_base
from portrayal.models.source import find_base


def test_a_mask_at_latent_size_is_the_subjects_share() -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 12, 32))

    found = latent_masks(["a", "b"], {"b": mask}, (4, 4))

    assert found.shape == (2, 1, 4, 4)
    assert found[0].unique().tolist() == [1.0]
    assert torch.allclose(found[1, 0], torch.tensor([1.0, 0.5, 0.0, 0.0]).expand(4, 4), atol=0.01)


def test_masks_are_encoded_saved_and_loaded(pocket, tmp_path: Path) -> None:
    size = (pocket.resolution, pocket.resolution)
    rows = [(name, Image.new("RGB", size, name), "a photo of sks woman") for name in ("red", "blue")]
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))

    plain, masked = encode(pocket, rows), encode(pocket, rows, {"blue": mask})

    for name, data in (("plain", plain), ("masked", masked)):
        data.save(tmp_path / name)
        again = EncodedDataset.load(tmp_path / name)
        assert again.ids == data.ids
        assert (again.masks is None) == (data.masks is None)
    assert plain.masks is None
    assert torch.equal(plain.mean, masked.mean)
    loaded = EncodedDataset.load(tmp_path / "masked").masks
    assert loaded is not None
    assert loaded.shape == (2, 1, *masked.mean.shape[2:])
    assert loaded.mean(dim=(1, 2, 3)).tolist() == [1.0, 0.5]


def test_encoding_in_half_gives_the_vae_back_and_says_nothing() -> None:
    """diffusers warns of casts that its own loading would have done better."""
    base = load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cpu"), dtype=torch.bfloat16)
    before, said = {name: value.clone() for name, value in base.vae.state_dict().items()}, list[logging.LogRecord]()
    listener = logging.Handler()
    listener.emit = said.append  # type: ignore[method-assign]
    library = logging.getLogger("diffusers")
    level = library.level
    library.addHandler(listener)
    library.setLevel(logging.WARNING)
    try:
        encode(base, [("red", Image.new("RGB", (base.resolution, base.resolution), "red"), "a photo of sks woman")])
    finally:
        library.removeHandler(listener)
        library.setLevel(level)
    assert said == []
    assert all(torch.equal(value, before[name]) for name, value in base.vae.state_dict().items())


VIEWS = Views(seed=1, crops=2, flip=True)


def pictures(side: int) -> list[tuple[str, Image.Image, str]]:
    """Two pictures without symmetry."""
    slope = Image.linear_gradient("L").resize((side, side))
    return [
        ("upright", Image.merge("RGB", [slope, slope.rotate(90), slope]), "a photo of sks woman"),
        ("turned", Image.merge("RGB", [slope.rotate(90), slope, slope.rotate(180)]), "a photo of sks woman at sea"),
    ]


@given(st.integers(0, 99), st.text(max_size=9), st.integers(1, 9))
def test_a_crop_lies_in_the_picture_and_keeps_nine_tenths_of_its_sides(seed: int, name: str, crop: int) -> None:
    left, top, right, bottom = Views(seed, 9).window(name, crop)
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert right - left == pytest.approx(bottom - top)
    assert 0.9 <= right - left + 1e-9 <= 1 + 1e-9


def test_views_are_the_picture_its_crops_and_their_mirror_images() -> None:
    image = pictures(64)[0][1].resize((64, 48))
    found = [VIEWS.take(image, "a", number) for number in range(len(VIEWS))]
    assert len({one.tobytes() for one in found}) == len(VIEWS) == 6
    assert all(one.size == image.size for one in found)
    assert found[0] is image
    for one, mirrored in zip(found[:3], found[3:], strict=True):
        assert mirrored.tobytes() == ImageOps.mirror(one).tobytes()
    again = [Views(1, 5, flip=False).take(image, "a", number) for number in range(3)]
    assert [one.tobytes() for one in again] == [one.tobytes() for one in found[:3]]  # further crops move none
    for others in (VIEWS.take(image, "b", 1), replace(VIEWS, seed=2).take(image, "a", 1)):
        assert others.tobytes() != found[1].tobytes()


def test_all_views_are_encoded_and_the_pictures_themselves_as_without_them(pocket, tmp_path: Path) -> None:
    rows = pictures(pocket.resolution)
    plain, data = encode(pocket, rows), encode(pocket, rows, views=VIEWS)
    assert (plain.num_views, data.num_views, len(data)) == (1, 6, 2)
    assert torch.equal(data.mean[:2], plain.mean)
    assert torch.equal(data.std[:2], plain.std)
    assert torch.equal(data.prompt_embeds, plain.prompt_embeds)
    alone = encode(pocket, [("turned", VIEWS.take(rows[1][1], "turned", 4), rows[1][2])])
    assert torch.allclose(data.mean[4 * 2 + 1], alone.mean[0], atol=1e-4)
    data.save(tmp_path / "data")
    again = EncodedDataset.load(tmp_path / "data")
    assert again.num_views == 6
    assert torch.equal(again.mean, data.mean)


def test_a_file_from_before_there_were_views_has_one(tmp_path: Path) -> None:
    tensors = {name: torch.rand(2, 4, 2, 2) for name in ("mean", "std")}
    tensors |= {"input_ids": torch.zeros(2, 3, dtype=torch.long), "prompt_embeds": torch.zeros(2, 3, 4)}
    save_file(tensors, tmp_path / "old", metadata={"ids": json.dumps(["a", "b"])})
    data = EncodedDataset.load(tmp_path / "old")
    assert (data.ids, data.num_views) == (("a", "b"), 1)


def test_masks_are_cropped_and_mirrored_with_their_pictures() -> None:
    """A mask that is its own picture's brightness: each view's mask is what the view shows."""
    image = pictures(64)[0][1].getchannel(1)
    found = latent_masks(["a", "b"], {"a": image}, (8, 8), VIEWS)
    assert found.shape == (12, 1, 8, 8)
    assert found[1::2].unique().tolist() == [1.0]
    for number in range(6):
        seen = latent_masks(["a"], {"a": VIEWS.take(image, "a", number)}, (8, 8))
        assert torch.equal(found[2 * number], seen[0])
    assert len({tuple(mask.flatten().tolist()) for mask in found[::2]}) == 6


def test_the_heldout_loss_reads_the_pictures_themselves(pocket) -> None:
    rows, grid = pictures(pocket.resolution), HeldoutGrid(2, 1, 0)
    plain, data = (heldout_losses(pocket, encode(pocket, rows, views=views), grid) for views in (ITSELF, VIEWS))
    assert plain.tolist() == data.tolist()


def test_each_caption_is_that_of_its_own_picture(pocket) -> None:
    """In no order, one of them twice."""
    captions = ["a photo of sks woman at sea", "a photo of sks woman", "sks woman", "a photo of sks woman"]
    image = Image.new("RGB", (pocket.resolution,) * 2, "red")

    data = encode(pocket, [(f"{number}", image, caption) for number, caption in enumerate(captions)])

    for row, caption in enumerate(captions):
        assert torch.equal(data.input_ids[row], pocket.input_ids([caption])[0])
        assert torch.allclose(data.prompt_embeds[row], pocket.encode_prompts([caption])[0], atol=1e-5)


def test_latent_distributions_are_those_of_diffusers_own_preprocessing(pocket) -> None:
    from diffusers.image_processor import VaeImageProcessor

    rows = pictures(pocket.resolution)

    data = encode(pocket, rows, batch_size=1)

    with torch.no_grad():
        pixels = VaeImageProcessor().preprocess([image for _, image, _ in rows])
        expected = pocket.vae.encode(pixels).latent_dist
    assert torch.allclose(data.mean, expected.mean, atol=1e-4)
    assert torch.allclose(data.std, expected.std, atol=1e-6)
    assert pixels.min() < -0.9
    assert data.std.min() > 0


def test_an_encoded_dataset_comes_back_from_its_file_as_it_was(pocket, tmp_path: Path) -> None:
    rows = pictures(pocket.resolution)
    data = encode(pocket, rows, {"turned": rows[0][1].getchannel(0)}, views=Views(seed=1, flip=True))

    data.save(tmp_path / "data")

    again = EncodedDataset.load(tmp_path / "data")
    assert again.ids == data.ids == ("upright", "turned")
    for name in ("mean", "std", "input_ids", "prompt_embeds", "masks"):
        assert torch.equal(getattr(again, name), getattr(data, name))
        assert getattr(again, name).dtype == getattr(data, name).dtype
