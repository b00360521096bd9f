"""The drawn world, and the example photos drawn from it."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

pytest.importorskip("skia", reason="skia-python does not load here; it needs libEGL and libGL", exc_type=ImportError)

from examples.draw_photos import PHOTOS, WOMAN, encode, takes
from pretraining.world import (
    CLOTHES_COLOURS,
    FRAMINGS,
    HAIR_COLOURS,
    HAIR_STYLES,
    LABELS,
    POSES,
    SCENE_PHRASES,
    SCENES,
    Person,
    Shot,
    captions,
    draw,
    draw_canvas,
    keypoints,
    labels,
    sample_person,
    sample_shot,
)
from pretraining.world.captions import MOST_WORDS, prompt_for
from pretraining.world.labels import UNSEEN
from pretraining.world.shots import FREE_HANDED, POSES_IN

RARE = ("sks", "ohwx", "zwx", "shs", "bnha")
POSE_WORDS = ("standing", "arms", "waving", "hips", "kick", "sitting", "seated", "walking", "walk")


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _crowd(seed: int, count: int) -> list[tuple[Person, Shot]]:
    """People in random shots."""
    rng, pairs = _rng(seed), []
    for _ in range(count):
        person = sample_person(rng)
        pairs.append((person, sample_shot(rng, gender=person.gender)))
    return pairs


def _shown(person: Person, shot: Shot) -> dict[str, str | None]:
    """Labels as names."""
    return {
        kind: None if number == UNSEEN else LABELS[kind][number]
        for kind, number in zip(LABELS, labels(person, shot).tolist(), strict=True)
    }


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
    shot = replace(sample_shot(_rng(6), scene="park", framing="head"), head_height=0.5, x=0.5, y=0.45, hat=None)
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
    assert len(SCENES) == 18
    assert len({style for shares in HAIR_STYLES.values() for style in shares}) == 13
    assert set(SCENE_PHRASES) == set(SCENES)
    assert len(CLOTHES_COLOURS) == 8
    assert all(sum(shares.values()) == pytest.approx(1.0) for shares in HAIR_STYLES.values())


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scene 'moon'; choose one of street"):
        sample_shot(_rng(), scene="moon")


def test_captions_are_short_lower_case_and_never_use_a_rare_token() -> None:
    rng = _rng(7)
    said: list[str] = []
    for person, shot in _crowd(7, 600):
        lines = captions(person, shot, rng, 4)
        assert len(lines) == 4
        said += lines
        assert not any(("woman" if person.gender == "man" else " man ") in f"{line} " for line in lines)
    assert all(line == line.lower() and len(line.split()) <= MOST_WORDS for line in said)
    assert not any(word in RARE for line in said for word in re.split(r"\W+", line))
    # CLIP reads 77 tokens: two mark the ends, every word and every comma or hyphen is one
    assert max(len(re.findall(r"\w+|[^\w\s]", line)) for line in said) <= 75
    assert np.mean([line in ("a photo of a woman", "a photo of a man", "a photo of a person") for line in said]) > 0.05
    assert any(line.startswith(("woman,", "man,", "person,")) for line in said)


def test_captions_name_what_is_seen_about_as_often_as_not() -> None:
    """A model learns a word only if the word comes and goes with what it means."""
    rng, named = _rng(8), {kind: [0, 0] for kind in ("scene", "clothes", "glasses", "hat", "pose", "held")}
    for person, shot in _crowd(8, 1500):
        shown = _shown(person, shot)
        for line in captions(person, shot, rng, 2):
            words = [*SCENE_PHRASES[shot.scene], f"{shot.scene},", "football field", "snowy mountains", "concert stage"]
            hits = {
                "scene": any(word in f"{line}," for word in words),
                "clothes": f"{shot.clothes_name} " in line and shot.clothes in line,
                "glasses": None if person.glasses is None else "glasses" in line,
                "hat": None if shot.hat is None else f"{shot.hat_name} {shot.hat}" in line,
                "pose": None if shown["pose"] is None else any(word in line for word in POSE_WORDS),
                "held": None if shown["held"] in (None, "nothing") else "holding" in line,
            }
            for kind, hit in hits.items():
                if hit is not None:
                    named[kind][0] += hit
                    named[kind][1] += 1
    shares = {kind: hits / total for kind, (hits, total) in named.items()}
    assert 0.80 < shares.pop("scene") < 0.92
    assert all(0.47 < share < 0.68 for share in shares.values()), shares


def test_captions_name_only_what_the_picture_shows() -> None:
    rng = _rng(9)
    for person, shot in _crowd(9, 800):
        shown = _shown(person, shot)
        for line in [*captions(person, shot, rng, 3), prompt_for(person, shot, rng)]:
            words = set(re.split(r"[ ,]+", line))
            if person.glasses is None:
                assert "glasses" not in words or "without glasses" in line
            if shot.hat is None:
                assert not {"cap", "beanie", "straw"} & words
            if shown["held"] in (None, "nothing"):
                assert "holding" not in words
            if shot.framing == "head":
                assert not ({"waving", "sitting", "hips", "kicking", "arms", "trousers", "full"} & words)
            if shown["pose"] not in (None, "walking"):
                assert "walking" not in words
            if shown["hair style"] is None:
                assert not {"bald", "spiky", "bun", "mohawk", "curly", "fringe"} & words
            if shot.pattern == "plain":
                assert not {"striped", "dotted", "checked"} & words
            if person.beard is None:
                assert not {"beard", "goatee", "moustache", "stubble"} & words


def test_a_prompt_names_everything_that_is_judged() -> None:
    rng = _rng(10)
    for person, shot in _crowd(10, 500):
        prompt, shown = prompt_for(person, shot, rng), _shown(person, shot)
        assert person.gender in prompt
        assert f"{shot.clothes_name} " in prompt
        assert shot.clothes in prompt
        assert ("without glasses" in prompt) == (person.glasses is None)
        assert "glasses" in prompt
        assert shown["hair colour"] is None or shown["hair colour"] in prompt
        assert shown["pose"] is None or any(word in prompt for word in POSE_WORDS)
        assert shot.hat is None or shot.hat in prompt
        assert shot.pattern == "plain" or shot.pattern in prompt
        assert len(prompt.split()) <= MOST_WORDS


def test_the_vocabulary_stays_small() -> None:
    """Every word costs a row of the text encoder's table."""
    rng = _rng(11)
    words = {
        word for person, shot in _crowd(11, 1500) for line in captions(person, shot, rng, 4)
        for word in re.findall(r"\w+", line)
    }  # fmt: skip
    assert len(words) < 260
    assert set(CLOTHES_COLOURS) | set(HAIR_COLOURS) <= words


def test_labels_answer_in_the_order_of_their_kinds() -> None:
    for person, shot in _crowd(12, 300):
        numbers = labels(person, shot)
        assert numbers.dtype == np.int8
        assert numbers.shape == (len(LABELS),)
        assert all(UNSEEN <= number < len(names) for number, names in zip(numbers, LABELS.values(), strict=True))
        shown = _shown(person, shot)
        assert shown["scene"] == shot.scene
        assert shown["clothes colour"] == shot.clothes_name
        assert shown["framing"] == shot.framing
        assert shown["gender"] == person.gender
        assert shown["glasses"] == ("no glasses" if person.glasses is None else "glasses")
    assert [*LABELS][:8] == [
        "scene", "clothes colour", "hair colour", "hair style", "glasses", "pose", "framing", "gender",
    ]  # fmt: skip


def test_labels_do_not_answer_what_cannot_be_seen() -> None:
    for person, shot in _crowd(13, 300):
        shown = _shown(person, shot)
        assert (shown["pose"] is None) == (shot.framing == "head")
        bald = _shown(replace(person, hair_style="bald"), replace(shot, hat=None))
        assert (bald["hair colour"], bald["hair style"]) == (None, "bald")
        covered = _shown(replace(person, hair_style="spiky"), replace(shot, hat="beanie"))
        assert (covered["hair colour"], covered["hair style"], covered["hat"]) == (None, None, "beanie")
        busy = replace(shot, framing="whole", pose="arms raised", held="cup")
        assert _shown(person, busy)["held"] == "nothing"
        assert "arms raised" not in FREE_HANDED


def test_a_framing_shows_only_its_poses() -> None:
    for _, shot in _crowd(14, 400):
        assert shot.framing in FRAMINGS
        assert shot.pose in POSES_IN[shot.framing]
    with pytest.raises(ValueError, match="no pose 'kicking' in framing head"):
        sample_shot(_rng(), framing="head", pose="kicking")


def test_joints_are_in_the_picture_as_far_as_the_framing_shows_them() -> None:
    for person, shot in _crowd(15, 300):
        joints = keypoints(person, shot)
        assert joints.shape == (17, 3)
        assert joints.dtype == np.float32
        inside = np.all((joints[:, :2] >= 0) & (joints[:, :2] < 1), axis=1)
        np.testing.assert_array_equal(joints[:, 2], inside)
        assert inside[:5].all(), "the face is always in the picture"
        assert shot.framing != "whole" or inside.all()


def test_left_is_the_subjects_own_left() -> None:
    for person, shot in _crowd(16, 200):
        joints = keypoints(person, shot)
        for left in (1, 5, 11):  # eyes, shoulders, hips
            assert joints[left, 0] > joints[left + 1, 0]
        assert joints[0, 1] < joints[5, 1] < joints[11, 1]


def test_poses_differ_and_each_varies() -> None:
    rng = _rng(17)
    person, shot = sample_person(rng), sample_shot(rng, framing="whole", pose="standing")
    joints = {pose: keypoints(person, replace(shot, pose=pose))[:, :2] for pose in POSES}
    for index, first in enumerate(POSES):
        again = keypoints(person, replace(shot, pose=first, pose_seed=shot.pose_seed + 2))[:, :2]
        assert 0 < np.abs(again - joints[first]).max() < 0.2
        for second in POSES[index + 1 :]:
            assert np.linalg.norm(joints[first] - joints[second], axis=1).max() > 0.05, (first, second)


def test_joints_lie_on_the_person() -> None:
    """Drawn once more in other clothes and skin before the same scene, the pixels around a joint change."""
    changed = total = 0
    for index, (person, shot) in enumerate(_crowd(18, 40)):
        shot = replace(shot, hat=None, held=None, framing="whole" if index % 2 else shot.framing)
        other = replace(
            shot, clothes_colour=(250, 20, 240), accent=(20, 250, 240), bottoms_colour=(250, 240, 10),
            shoes_colour=(20, 20, 250),
        )  # fmt: skip
        painted = replace(person, skin=(40, 200, 60))
        gap = np.abs(draw(person, shot, 128).astype(int) - draw(painted, other, 128)).sum(2) > 40
        for x, y, inside in keypoints(person, shot)[5:]:
            if inside:
                row, column = int(y * 128), int(x * 128)
                total += 1
                changed += bool(gap[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].any())
    assert changed > 0.97 * total


def test_the_example_woman_is_nobody_from_pretraining() -> None:
    rng = _rng(0)
    assert all(sample_person(rng) != WOMAN for _ in range(200))


def test_eighteen_photos_in_the_mess_that_phones_make() -> None:
    shown = takes()
    assert len(shown) == 18
    assert {take.shot.scene for take in shown} <= set(SCENES)
    assert len({take.shot.scene for take in shown}) >= 10
    assert {take.shot.framing for take in shown} == set(FRAMINGS)
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
