from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from skimage import data

from portrayal.errors import PhotosError, UsageError
from portrayal.photos import Prepared, PrepareSettings, prepare_photos
from portrayal.photos.folds import choose_folds
from portrayal.photos.prepare import PreparedPhoto

ASTRONAUT = Image.fromarray(data.astronaut())


def picture(seed: int) -> Image.Image:
    """Smooth noise: no two seeds look alike, and it survives JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)


def fill(folder: Path, count: int, name: Callable[[int], str] = "photo_{:02d}.jpg".format) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        picture(index).save(folder / name(index))
    return folder


def prepare(folder: Path, *, resolution: int = 64, num_heldout: int | None = None, seed: int = 0) -> Prepared:
    return prepare_photos(folder, PrepareSettings(resolution, "a photo of sks woman", num_heldout, seed))


def heldout(prepared: Prepared) -> list[PreparedPhoto]:
    """The pictures to judge by."""
    return [photo for photo in prepared.photos if photo.fold is not None and photo.use != "training"]


def kinds(prepared: Prepared) -> list[tuple[str, str]]:
    return [(finding.file, finding.kind) for finding in prepared.findings]


def test_a_folder_becomes_square_pictures_in_order_of_name(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    (tmp_path / "photo_02.txt").write_text("sks woman, laughing")
    calls: list[tuple[int, int]] = []

    prepared = prepare_photos(
        tmp_path, PrepareSettings(64, "a photo of sks woman", None, 0), lambda *call: calls.append(call)
    )

    assert [photo.source_name for photo in prepared.photos] == [f"photo_{index:02d}.jpg" for index in range(6)]
    assert {image.size for image in prepared.images.values()} == {(64, 64)}
    assert {image.mode for image in prepared.images.values()} == {"RGB"}
    assert prepared.photos[2].caption == "sks woman, laughing"
    assert prepared.photos[0].caption == "a photo of sks woman"
    left, *rest = prepared.photos[0].crop
    assert rest == [0, 72, 72]
    assert 0 <= left <= 24
    assert (prepared.photos[0].width, prepared.photos[0].height) == (96, 72)
    assert prepared.findings == []
    assert calls == [(done, 6) for done in range(1, 7)]
    assert len(heldout(prepared)) == 1


def test_bad_files_are_skipped_with_a_finding_and_the_rest_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (tmp_path / "a_empty.jpg").touch()
    (tmp_path / "b_text.jpg").write_text("no picture")
    (tmp_path / "c_cut.jpg").write_bytes((tmp_path / "photo_00.jpg").read_bytes()[:-600])
    fill(tmp_path / "more", 2)

    prepared = prepare(tmp_path)

    assert len(prepared.photos) == 4
    assert kinds(prepared) == [
        ("more", "subfolder"),
        ("a_empty.jpg", "empty"),
        ("b_text.jpg", "not_an_image"),
        ("c_cut.jpg", "unreadable"),
    ]
    assert {finding.action for finding in prepared.findings} == {"skipped"}


def test_small_photos_are_kept_and_said(tmp_path: Path) -> None:
    prepared = prepare(fill(tmp_path, 3), resolution=128)

    assert all(photo.upscaled for photo in prepared.photos)
    assert kinds(prepared) == [(f"photo_0{index}.jpg", "small") for index in range(3)]
    assert "72 pixels is enlarged to 128" in prepared.findings[0].message


def test_equal_bytes_and_equal_pixels_are_duplicates(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "photo_01.jpg").read_bytes())
    with Image.open(tmp_path / "photo_03.jpg") as photo:
        photo.save(tmp_path / "same.png")
    (tmp_path / "same.txt").write_text("the one with words is kept")

    prepared = prepare(tmp_path)

    assert len(prepared.photos) == 4
    assert kinds(prepared) == [("photo_01.jpg", "duplicate"), ("photo_03.jpg", "duplicate")]
    assert prepared.photos[-1].caption == "the one with words is kept"


@pytest.mark.parametrize("seed", range(8))
def test_near_duplicates_are_kept_and_never_held_out(tmp_path: Path, seed: int) -> None:
    fill(tmp_path, 3)
    ASTRONAUT.save(tmp_path / "x1.jpg")
    ImageEnhance.Brightness(ASTRONAUT).enhance(1.2).save(tmp_path / "x2.jpg")
    ASTRONAUT.crop((4, 4, 508, 508)).save(tmp_path / "x3.jpg")

    prepared = prepare(tmp_path, num_heldout=3, seed=seed)

    by_name = {photo.source_name: photo for photo in prepared.photos}
    first = by_name["x1.jpg"]
    assert first.near_duplicate_of is None
    assert {by_name[name].near_duplicate_of for name in ("x2.jpg", "x3.jpg")} == {first.id}
    assert kinds(prepared) == [("x2.jpg", "near_duplicate"), ("x3.jpg", "near_duplicate")]
    assert {photo.source_name for photo in heldout(prepared)} == {f"photo_0{index}.jpg" for index in range(3)}


def test_only_near_duplicates_leave_nothing_to_judge_by(tmp_path: Path) -> None:
    for index, quality in enumerate((60, 75, 90)):
        ASTRONAUT.save(tmp_path / f"{index}.jpg", quality=quality)

    with pytest.raises(PhotosError, match="almost the same"):
        prepare(tmp_path)


def test_the_split_depends_on_the_photos_and_the_seed_and_not_on_names(tmp_path: Path) -> None:
    def chosen(folder: Path, seed: int) -> set[str]:
        return {photo.id for photo in heldout(prepare(folder, num_heldout=3, seed=seed))}

    one = fill(tmp_path / "one", 10)
    two = fill(tmp_path / "two", 10, lambda index: f"{9 - index}_renamed.jpg")

    assert chosen(one, 0) == chosen(two, 0)
    assert len({frozenset(chosen(one, seed)) for seed in range(4)}) > 1


IDS = st.sets(st.text("0123456789abcdef", min_size=12, max_size=12), min_size=3, max_size=40)


@settings(deadline=None)
@given(IDS, st.integers(0, 1000), st.integers(1, 4), st.data())
def test_parts_leave_both_sides_something_and_no_look_alikes_apart(
    ids: set[str], seed: int, folds: int, data: st.DataObject
) -> None:
    followers = data.draw(st.sets(st.sampled_from(sorted(ids)), max_size=len(ids) - 2))
    leader = min(ids - followers)
    alike = dict.fromkeys(followers, leader)
    free = len(ids) - len(followers) - bool(followers)
    most = min(len(ids) - 2, free // folds)
    wish = data.draw(st.integers(1, most)) if most else 1

    def chosen(order: list[str]) -> dict[str, int]:
        return choose_folds(order, alike, folds=folds, num_heldout=wish, seed=seed)

    if not most:
        with pytest.raises((UsageError, PhotosError)):
            chosen(sorted(ids))
        return
    found = chosen(sorted(ids))
    assert found == chosen(sorted(ids, reverse=True))
    assert not found.keys() & {*alike, *alike.values()}
    assert [list(found.values()).count(fold) for fold in range(folds)] == [wish] * folds


@settings(deadline=None)
@given(IDS, st.integers(0, 1000), st.integers(2, 6), st.data())
def test_every_photo_has_its_turn_and_look_alikes_have_it_together(
    ids: set[str], seed: int, folds: int, data: st.DataObject
) -> None:
    followers = data.draw(st.sets(st.sampled_from(sorted(ids)), max_size=len(ids) // 3))
    leader = min(ids - followers)
    alike = dict.fromkeys(followers, leader)
    too_many, left = folds > len(ids) - len(followers), len(ids) - max(len(followers) + 1, -(-len(ids) // folds))
    if too_many or left < 2:
        with pytest.raises(UsageError, match="folds"):
            choose_folds(sorted(ids), alike, folds=folds, num_heldout=None, seed=seed)
        return
    found = choose_folds(sorted(ids), alike, folds=folds, num_heldout=None, seed=seed)
    sizes = [list(found.values()).count(fold) for fold in range(folds)]
    assert found.keys() == ids
    assert len({found[photo] for photo in {*followers, leader}}) == 1
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= max(1, len(followers))


def test_more_folds_than_photos_are_refused_with_how_many_there_can_be(tmp_path: Path) -> None:
    settings_ = PrepareSettings(64, "a photo of sks woman", None, 0, folds=5)
    with pytest.raises(UsageError, match=r"study.folds = 5 is too many for 4 photos"):
        prepare_photos(fill(tmp_path, 4), settings_)
    with pytest.raises(UsageError, match=r"Set study.folds=4"):
        prepare_photos(tmp_path, settings_)
    assert {photo.fold for photo in prepare_photos(tmp_path, replace(settings_, folds=4)).photos} == {0, 1, 2, 3}


@pytest.mark.parametrize(("photos", "expected"), [(3, 1), (5, 1), (8, 2), (10, 2), (14, 3), (18, 4), (60, 4)])
def test_the_rule_of_one_fold_is_a_fifth_of_the_photos_four_at_most(photos: int, expected: int) -> None:
    names = [str(index) for index in range(photos)]
    assert len(choose_folds(names, {}, folds=1, num_heldout=None, seed=0)) == expected


@pytest.mark.parametrize("num_heldout", [3, 4, 5])
def test_holding_out_too_many_is_refused(tmp_path: Path, num_heldout: int) -> None:
    with pytest.raises(UsageError, match="Hold out 2 at most"):
        prepare(fill(tmp_path, 4), num_heldout=num_heldout)


def test_an_empty_folder_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match="holds no photos") as caught:
        prepare(tmp_path)

    assert "ten to twenty" in caught.value.remedy


def test_too_few_photos_name_what_was_found(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "photo_01.jpg").read_bytes())
    for index in range(6):
        (tmp_path / f"empty_{index}.jpg").touch()

    with pytest.raises(PhotosError) as caught:
        prepare(tmp_path)

    assert "9 picture files, 2 of them usable and different; at least 3 are needed" in caught.value.cause
    assert caught.value.cause.count("skipped") == 5
    assert "and 2 more" in caught.value.cause
    assert caught.value.remedy.startswith("Add 1 or more photos")


def test_no_readable_photo_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")

    with pytest.raises(PhotosError, match="its contents are not a picture"):
        prepare(tmp_path)


def test_pillows_warnings_about_phones_stay_silent(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    content = (tmp_path / "photo_00.jpg").read_bytes()
    broken_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"
    segment = b"\xff\xe1" + (len(broken_exif) + 2).to_bytes(2, "big") + broken_exif
    (tmp_path / "photo_00.jpg").write_bytes(content[:2] + segment + content[2:])

    assert len(prepare(tmp_path).photos) == 3


def test_several_squares_share_a_photos_id_and_side_of_the_split(tmp_path: Path) -> None:
    for index, degrees in enumerate((0, 2, 4, 6, 8)):
        picture = Image.fromarray(np.random.default_rng(index).integers(0, 256, (1000, 980, 3), dtype=np.uint8) // 4)
        picture.paste(ASTRONAUT.rotate(degrees - 4), (20 + 60 * index, 10 + 90 * index))
        picture.save(tmp_path / f"{index}.png")
    settings_ = PrepareSettings(128, "a photo of sks woman", 2, 0, crops="several")

    one, several = (prepare_photos(tmp_path, replace(settings_, crops=crops)) for crops in ("one", "several"))

    assert {photo.framing for photo in several.photos} == {"whole", "half", "close"}
    assert {photo.photo_id for photo in several.photos} == {photo.id for photo in one.photos}
    for photo in several.photos:
        assert photo.id == photo.photo_id + ("" if photo.framing == "whole" else f"-{photo.framing}")
        assert several.images[photo.id].size == (128, 128)
        assert photo.framing == "whole" or (photo.use == "training" and not photo.upscaled)
    wholes = [photo for photo in several.photos if photo.framing == "whole"]
    assert wholes == one.photos
    assert len(heldout(several)) == 2
