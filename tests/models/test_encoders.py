"""Scorers are asked in the way they were trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.models import encoders
from portrayal.pocket import WEIGHTS


def test_the_identity_encoder_sees_pictures_of_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At half its size it takes two photos of one person for different people."""
    shutil.copytree(WEIGHTS / "identity", tmp_path / "identity")
    file = tmp_path / "identity" / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["crop_size"] = {"height": 96, "width": 96}
    file.write_text(json.dumps(settings), encoding="utf-8")
    monkeypatch.setattr(encoders, "WEIGHTS", tmp_path)
    noise = torch.randint(0, 256, (96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    picture = Image.fromarray(noise)
    own = encoders.pocket_identity(torch.device("cpu")).images([picture])
    settings["crop_size"] = {"height": 64, "width": 64}
    file.write_text(json.dumps(settings), encoding="utf-8")
    smaller = encoders.pocket_identity(torch.device("cpu")).images([picture])
    shrunk = picture.resize((64, 64), Image.Resampling.BICUBIC)
    assert abs(own - smaller).max() > 1e-3
    assert smaller == pytest.approx(encoders.pocket_identity(torch.device("cpu")).images([shrunk]), abs=1e-5)


CPU = torch.device("cpu")


def noise(*size: int, seed: int = 0) -> Image.Image:
    """A picture of which every pixel and colour is another."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@torch.no_grad()
def test_the_identity_encoder_is_asked_as_its_preprocessor_says() -> None:
    """Of pictures of another size and shape too, which are made square."""
    from transformers import CLIPImageProcessorPil, ResNetModel

    model = ResNetModel.from_pretrained(WEIGHTS / "identity").eval()
    own = json.loads((WEIGHTS / "identity" / "preprocessor_config.json").read_text())["crop_size"]["height"]
    pictures = [noise(own, own), noise(60, 90, seed=1)]
    squares = [picture.resize((own, own), Image.Resampling.BICUBIC) for picture in pictures]
    values = CLIPImageProcessorPil.from_pretrained(WEIGHTS / "identity")(images=squares, return_tensors="pt")
    expected = model(values.pixel_values).pooler_output.flatten(1).numpy()

    found = encoders.pocket_identity(CPU).images(pictures)

    assert found == pytest.approx(expected, abs=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-2


@torch.no_grad()
def test_both_halves_of_the_clip_are_what_its_own_classes_make_of_them() -> None:
    """More than a batch of each, in order; texts to their last word."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(WEIGHTS / "clip").eval()
    pictures = [noise(128, 128, seed=number) for number in range(encoders.BATCH + 1)]
    long = "a photo of a woman wearing a red dress in the kitchen, with a blue cup, in the park, "
    texts = ["a photo", *(f"{long}number {number}" for number in range(encoders.BATCH))]
    values = CLIPImageProcessorPil.from_pretrained(WEIGHTS / "clip")(images=pictures, return_tensors="pt")
    tokens = CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer")(texts, padding="max_length", return_tensors="pt")
    expected = model(**tokens, **values)

    scorer = encoders.clip_scorer(WEIGHTS / "clip", "clip", "Apache-2.0", CPU)

    assert scorer.texts is not None
    assert unit(scorer.images(pictures)) == pytest.approx(expected.image_embeds.numpy(), abs=1e-4)
    assert unit(scorer.texts(texts)) == pytest.approx(expected.text_embeds.numpy(), abs=1e-4)


@torch.no_grad()
def test_dinov2_sees_imagenet_s_colours_and_answers_with_its_class_token(tmp_path: Path) -> None:
    """A small one of random weights. Of one colour, so that every pixel is known: `(colour - mean) / deviation`."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 224, "patch_size": 56}
    model = Dinov2Model(Dinov2Config(**sizes)).eval()
    model.save_pretrained(tmp_path)
    seen: list[torch.Tensor] = []
    patches = Dinov2Model.forward

    def looking(model: Dinov2Model, pixel_values: torch.Tensor) -> object:
        seen.append(pixel_values)
        return patches(model, pixel_values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dinov2Model, "forward", looking)
        found = encoders.dino_scorer(tmp_path, CPU).images([Image.new("RGB", (90, 60), (255, 51, 0)), noise(224, 224)])

    assert [tuple(one.shape) for one in seen] == [(2, 3, 224, 224)]
    red, green, blue = (0.0 + (1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225)
    assert seen[0][0].amax(dim=(1, 2)).tolist() == pytest.approx([red, green, blue], abs=1e-5)
    assert seen[0][0].amin(dim=(1, 2)).tolist() == pytest.approx([red, green, blue], abs=1e-5)
    assert found == pytest.approx(model(seen[0]).last_hidden_state[:, 0].numpy(), abs=1e-4)
