"""Masks of what words name: of the picture's size, from safetensors on this machine alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import portrayal
from portrayal.config import Config
from portrayal.errors import WeightsError
from portrayal.models import masker, store
from portrayal.models.masker import Masker, clipseg_masker, load_masker
from portrayal.pocket import WEIGHTS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPSeg of small random layers, saved as the hub's is."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("clipseg")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    shutil.copytree(WEIGHTS / "tokenizer", folder, dirs_exist_ok=True)
    words = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    torch.manual_seed(0)
    config = CLIPSegConfig(
        text_config={**small, "vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def pictures(number: int) -> list[Image.Image]:
    rng = np.random.default_rng(5)
    return [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(number)]


def test_each_picture_gets_a_mask_of_its_size(clipseg: Path) -> None:
    """One more than two batches: a picture alone gets the same mask as among others."""
    found = clipseg_masker(clipseg, CPU)
    masks = found.mask(pictures(9), "a woman")
    assert [(mask.mode, mask.size) for mask in masks] == [("L", (60, 40))] * 9
    alone = np.asarray(found.mask(pictures(9)[8:], "a woman")[0], int)
    assert np.abs(np.asarray(masks[8], int) - alone).max() <= 1
    assert found.mask([], "a woman") == []
    assert np.asarray(masks[0]).std() > 0


def test_pickled_weights_are_never_loaded(clipseg: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clipseg, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        clipseg_masker(folder, CPU)


def test_without_network_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "online", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="not on this machine") as caught:
        load_masker(CPU)
    assert "portrayal models fetch clipseg" in caught.value.remedy


def test_photos_without_a_mask_get_one_and_the_user_s_own_stays(
    photos: Path, tiny_config: Config, tmp_path: Path, clipseg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small model stands where the fetched one would; its random weights mark some of each picture, or none."""
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    first, second = sorted(own.glob("*.jpg"))[:2]
    with Image.open(first) as image:
        given = Image.new("L", image.size)
    given.paste(255, (0, 0, image.width, image.height // 2))
    given.save(first.with_suffix(".mask.png"))
    random = clipseg_masker(clipseg, CPU)

    def mask(pictures: list[Image.Image], words: str) -> list[Image.Image]:
        assert words == "a woman"
        made = random.mask(pictures, words)
        halves = [np.asarray(one) > np.median(np.asarray(one)) for one in made]
        return [Image.new("L", made[0].size), *(Image.fromarray(255 * half.astype(np.uint8)) for half in halves[1:])]

    monkeypatch.setattr(masker, "load_masker", lambda device: Masker(random.name, random.licence, mask))
    settings = tiny_config.prepare.model_copy(update={"masks": "model"})
    run = portrayal.prepare(own, tiny_config.model_copy(update={"prepare": settings}), tmp_path / "run")
    manifest = json.loads((run.dataset_folder / "manifest.json").read_text())
    rows = {row["source_name"]: row for row in manifest["photos"]}
    assert [name for name, row in rows.items() if not row["masked"]] == [second.name]
    (finding,) = (finding for finding in manifest["findings"] if finding["kind"] == "mask")
    assert finding["file"] == second.name
    assert "hardly any woman" in finding["message"]
    with Image.open(run.dataset_folder / "masks" / f"{rows[first.name]['id']}.png") as kept:
        values = np.asarray(kept)
    assert values[: len(values) // 3].min() > 200
    assert values[-len(values) // 3 :].max() < 50


@torch.no_grad()
def test_a_mask_is_white_where_the_network_sees_what_the_words_name(clipseg: Path) -> None:
    """Its own classes over a picture and the words: chances from 0, black, to 255, white."""
    from transformers import CLIPSegForImageSegmentation, CLIPTokenizer, ViTImageProcessorPil

    model = CLIPSegForImageSegmentation.from_pretrained(clipseg).eval()
    first, second = pictures(2)
    found = {}
    for words in ("a woman", "a dog"):
        tokens = CLIPTokenizer.from_pretrained(clipseg)([words] * 2, return_tensors="pt")
        values = ViTImageProcessorPil.from_pretrained(clipseg)(images=[first, second], return_tensors="pt")
        chances = model(**tokens, **values).logits.sigmoid().numpy()
        masks = clipseg_masker(clipseg, CPU).mask([first, second], words)
        for mask, chance in zip(masks, chances, strict=True):
            expected = Image.fromarray((255 * chance).round().astype(np.uint8)).resize(
                mask.size, Image.Resampling.BILINEAR
            )
            assert np.abs(np.asarray(mask, int) - np.asarray(expected, int)).max() <= 1
        found[words] = np.asarray(masks[0], int)
    assert np.abs(found["a woman"] - found["a dog"]).max() > 0
