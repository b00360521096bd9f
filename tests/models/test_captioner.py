"""What photos show is said in words, and what the subject looks like is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.models.captioner import BATCH, blip_captioner, load_captioner, without_looks
from portrayal.models.source import BaseSource
from portrayal.pocket import FRAMINGS, PLACES, WEIGHTS

POCKET = BaseSource("pocket", "pocket", WEIGHTS)


def test_places_and_framings_of_drawn_people_are_named() -> None:
    """Ninety pictures: places and framings nearly all right, and the colour of the clothes mostly."""
    pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)
    from pretraining.world import draw, sample_person, sample_shot
    from pretraining.world.captions import SCENE_PHRASES

    scenes, framings = list(SCENE_PHRASES), {"head": "close-up", "half": "half body", "whole": "full body"}
    assert len(scenes) == len(PLACES)
    assert set(framings.values()) == set(FRAMINGS)
    rng, pictures, asked, colours = np.random.default_rng(31), [], [], []
    for number in range(90):
        person, scene, framing = sample_person(rng), scenes[number % 18], list(framings)[number % 3]
        shot = sample_shot(rng, framing=framing, gender=person.gender, scene=scene)
        pictures.append(Image.fromarray(draw(person, shot, 128)))
        asked.append(f"{PLACES[scenes.index(scene)]} {framings[framing]}")
        colours.append(f" {shot.clothes_name} ")
    said = load_captioner(POCKET, torch.device("cpu")).describe(pictures, "a photo of a person")
    assert np.mean([words.endswith(end) for words, end in zip(said, asked, strict=True)]) >= 0.9
    assert np.mean([colour in words for words, colour in zip(said, colours, strict=True)]) >= 0.75


def test_no_pictures_no_words() -> None:
    assert load_captioner(POCKET, torch.device("cpu")).describe([], "a photo of a person") == []


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("in a red dress standing in a kitchen", "in a red dress standing in a kitchen"),
        ("with long brown hair and glasses in a park", "in a park"),
        ("wearing sunglasses on the beach", "wearing sunglasses on the beach"),
        ("in a forest with her blond hair in a ponytail.", "in a forest"),
        ("", ""),
    ],
)
def test_the_subject_s_looks_are_left_to_the_token(caption: str, said: str) -> None:
    assert without_looks(caption) == said


def test_blip_goes_on_from_the_prompt_of_the_class(tmp_path: Path) -> None:
    """A small BLIP with random weights: its words mean nothing, and the same pictures get the same words."""
    folder = random_blip(tmp_path / "blip")
    captioner = blip_captioner(folder, torch.device("cpu"))
    rng = np.random.default_rng(3)
    pictures = [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(10)]
    said = captioner.describe(pictures, "a photo of a woman")
    assert len(said) == 10
    assert captioner.describe(pictures, "a photo of a woman") == said
    assert any(said)


def random_blip(folder: Path) -> Path:
    """A BLIP of two small layers, saved as the hub's are."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        *["a", "photo", "of", "woman", "in", "the", "red", "street", "smiling"],
    ]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = small | {"vocab_size": len(words), "encoder_hidden_size": 32, "bos_token_id": 5, "sep_token_id": 3}
    torch.manual_seed(0)
    config = BlipConfig(
        text_config=text | {"pad_token_id": 0, "eos_token_id": 3},
        vision_config=small | {"image_size": 32, "patch_size": 16},
        projection_dim=32,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_blip_s_words_are_what_it_generates_behind_the_prompt(tmp_path: Path) -> None:
    """By its own classes, picture by picture: the sentence begins with the prompt, and the rest is what is said."""
    from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

    folder = random_blip(tmp_path / "blip")
    model = BlipForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), BlipImageProcessorPil.from_pretrained(folder)
    rng = np.random.default_rng(3)
    pictures = [Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)) for _ in range(BATCH + 1)]
    captioner, said = blip_captioner(folder, torch.device("cpu")), {}
    for prompt in ("a photo of a woman", "the red street"):
        said[prompt] = captioner.describe(pictures, prompt)
        tokens = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        for picture, words in zip(pictures, said[prompt], strict=True):
            values = processor(images=picture, return_tensors="pt").pixel_values
            whole = model.generate(values, **tokens, num_beams=3, max_new_tokens=24, do_sample=False)[0]
            sentence = tokenizer.decode(whole, skip_special_tokens=True)
            assert sentence.removeprefix("[DEC] ") == f"{prompt} {words}".strip()  # the decoder's mark of a beginning
    assert said["a photo of a woman"] != said["the red street"]
