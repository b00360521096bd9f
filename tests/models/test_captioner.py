"""What photos show is said in words, and what the subject looks like is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.models.captioner import load_captioner
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
