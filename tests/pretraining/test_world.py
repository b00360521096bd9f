"""The drawn world, and the example photos drawn from it."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

pytest.importorskip("skia", reason="skia-python does not load here; it needs libEGL and libGL", exc_type=ImportError)

from examples.draw_photos import PHOTOS, WOMAN, encode, takes
from pretraining.world import (
    CLOTHES_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    SCENE_PHRASES,
    SCENES,
    Person,
    captions,
    draw,
    draw_canvas,
    sample_person,
    sample_shot,
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _brightness_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two pictures, in [0, 255]."""
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


def test_the_same_seed_gives_the_same_person_shot_and_pixels() -> None:
    first, second = _rng(5), _rng(5)
    people = sample_person(first), sample_person(second)
    shots = sample_shot(first), sample_shot(second)
    assert people[0] == people[1]
    assert shots[0] == shots[1]
    np.testing.assert_array_equal(draw(people[0], shots[0], 128), draw(people[1], shots[1], 128))


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_is_drawn_at_any_size(scene: str) -> None:
    rng = _rng(1)
    person, shot = sample_person(rng), sample_shot(rng, scene=scene)
    for size in (64, 128, 200):
        pixels = draw(person, shot, size)
        assert pixels.shape == (size, size, 3)
        assert pixels.dtype == np.uint8
        assert pixels.std() > 20


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_reaches_the_corners_of_a_wide_and_of_a_tall_picture(scene: str) -> None:
    """The canvas starts black: a corner left black is a scene that ends too early."""
    rng = _rng(2)
    person = sample_person(rng)
    for width, height in ((240, 135), (135, 240)):
        pixels = draw_canvas(person, sample_shot(rng, scene=scene), width, height)
        for corner in (pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]):
            assert corner.max() > 15


def test_the_centre_of_a_canvas_is_the_square_picture() -> None:
    rng = _rng(3)
    person, shot = sample_person(rng), sample_shot(rng)
    assert _brightness_gap(draw_canvas(person, shot, 200, 128)[:, 36:164], draw(person, shot, 128)) < 0.1  # rounding


def test_one_person_looks_different_in_two_shots_and_two_people_in_one() -> None:
    rng = _rng(4)
    first, second = sample_person(rng), sample_person(rng)
    shot, other = sample_shot(rng, scene="office"), sample_shot(rng, scene="office")
    assert _brightness_gap(draw(first, shot, 128), draw(first, other, 128)) > 5
    assert _brightness_gap(draw(first, shot, 128), draw(second, shot, 128)) > 3


def test_traits_that_no_word_names_change_the_picture() -> None:
    shot = replace(sample_shot(_rng(6), scene="park"), head_height=0.5, x=0.5, y=0.45)
    changes: list[Person] = [
        replace(WOMAN, face_width=1.1), replace(WOMAN, jaw=0.85), replace(WOMAN, eye_distance=0.9),
        replace(WOMAN, brow_thickness=1.5),
        replace(WOMAN, nose_width=1.3), replace(WOMAN, lip_fullness=0.7), replace(WOMAN, freckles=0.0),
        replace(WOMAN, mole=None),
    ]  # fmt: skip
    before = draw(WOMAN, shot, 128)
    assert all(_brightness_gap(before, draw(person, shot, 128)) > 0.01 for person in changes)


def test_scenes_and_names() -> None:
    assert {"street", "football", "kitchen", "office", "forest"} <= set(SCENES)
    assert len(SCENES) == 10
    assert set(SCENE_PHRASES) == set(SCENES)
    assert len(CLOTHES_COLOURS) == 8
    assert all(sum(shares.values()) == pytest.approx(1.0) for shares in HAIR_STYLES.values())


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scene 'moon'; choose one of street"):
        sample_shot(_rng(), scene="moon")


def test_captions_are_short_lower_case_and_never_use_the_rare_token() -> None:
    rng = _rng(7)
    said: list[str] = []
    for _ in range(600):
        person, shot = sample_person(rng), sample_shot(rng)
        lines = captions(person, shot, rng, 4)
        assert len(lines) == 4
        said += lines
        assert not any(("woman" if person.gender == "man" else " man ") in f"{line} " for line in lines)
    assert all(line == line.lower() and 4 <= len(line.split()) <= 25 for line in said)
    assert not any("sks" in line for line in said)
    phrases = [phrase for wordings in SCENE_PHRASES.values() for phrase in wordings] + ["in his bedroom"]
    with_scene = sum(any(phrase in line for phrase in phrases) for line in said)
    assert 0.80 < with_scene / len(said) < 0.90
    assert said.count("a photo of a woman") > 0.02 * len(said)
    assert any(name in line for line in said for name in HAIR_COLOURS)


def test_the_example_woman_is_nobody_from_pretraining() -> None:
    rng = _rng(0)
    assert all(sample_person(rng) != WOMAN for _ in range(200))


def test_eighteen_photos_in_the_mess_that_phones_make() -> None:
    shown = takes()
    assert len(shown) == 18
    assert {take.shot.scene for take in shown} == set(SCENES)
    assert len({(take.width, take.height) for take in shown}) > 8
    assert sorted(path.name for path in PHOTOS.glob("IMG_*")) == sorted(take.name for take in shown)
    assert sum(path.stat().st_size for path in PHOTOS.glob("IMG_*")) < 3_000_000


def test_redrawing_a_photo_gives_identical_bytes() -> None:
    """Twice here; another processor may round a gradient otherwise, so the stored file only has to look the same."""
    take = takes()[0]
    again = encode(take)
    assert again == encode(take)
    with Image.open(PHOTOS / take.name) as stored:
        assert _brightness_gap(np.asarray(Image.open(io.BytesIO(again))), np.asarray(stored)) < 1.0


def test_the_sideways_photo_is_upright_once_its_flag_is_honoured() -> None:
    take = next(take for take in takes() if take.sideways)
    with Image.open(PHOTOS / take.name) as stored:
        assert stored.getexif()[ExifTags.Base.Orientation] == 6
        upright = np.asarray(ImageOps.exif_transpose(stored))
    assert _brightness_gap(upright, draw_canvas(WOMAN, take.shot, take.width, take.height)) < 3


def test_some_photos_tell_the_place() -> None:
    located = set()
    for path in PHOTOS.glob("IMG_*"):
        with Image.open(path) as photo:
            if photo.getexif().get_ifd(ExifTags.IFD.GPSInfo):
                located.add(path.name)
    assert located == {take.name for take in takes() if take.located}
