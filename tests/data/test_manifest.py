import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from portrayal.data import manifest
from portrayal.data.manifest import PreparedDataset, load_dataset, save_dataset
from portrayal.errors import PhotosError
from portrayal.photos import Finding, Prepared, PreparedPhoto


def prepared() -> Prepared:
    photos = [
        PreparedPhoto(
            id=f"{index:012x}",
            source_name=f"Größe {index}.jpg",
            width=120,
            height=90,
            crop=(15, 0, 90, 90),
            shape=(64, 64),
            upscaled=index == 0,
            caption="a photo of sks woman\u2028“am Meer”",
            caption_from="file",
            fold=0 if index == 2 else None,
            near_duplicate_of=f"{0:012x}" if index == 1 else None,
        )
        for index in range(4)
    ]
    images = {photo.id: Image.new("RGB", (16, 16), (index * 60, 0, 0)) for index, photo in enumerate(photos)}
    for image in images.values():
        image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\0\0"
        image.info["icc_profile"] = b"home"
    return Prepared(photos, images, [Finding("x.jpg", "empty", "the file is empty", "skipped")])


def save(folder: Path) -> PreparedDataset:
    return save_dataset(folder, prepared(), resolution=16, instance_prompt="a photo of sks", class_noun="woman", seed=3)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = save(tmp_path / "dataset")

    assert load_dataset(tmp_path / "dataset") == saved
    assert [photo.fold for photo in saved.photos] == [None, None, 0, None]
    assert len(saved.training(0)) == 3
    assert saved.heldout(0) == (saved.photos[2],)
    assert saved.training(None) == saved.photos
    with Image.open(saved.image_path(saved.photos[3])) as image:
        assert image.getpixel((0, 0)) == (180, 0, 0)


def test_pictures_carry_no_metadata_and_the_manifest_no_path(tmp_path: Path) -> None:
    dataset = save(tmp_path / "dataset")

    for photo in dataset.photos:
        with Image.open(dataset.image_path(photo)) as image:
            image.load()
            assert image.info == {}
    assert str(tmp_path) not in (tmp_path / "dataset" / "manifest.json").read_text(encoding="utf-8")


def test_saving_again_takes_the_place_of_the_old_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    save(tmp_path / "dataset")
    (tmp_path / "dataset" / "images" / "old.png").touch()

    save(tmp_path / "dataset")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]
    assert len(list((tmp_path / "dataset" / "images").iterdir())) == 4


def test_a_failed_save_leaves_the_old_dataset_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save(tmp_path / "dataset")

    def interrupted(image: Image.Image) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "dataset")

    assert load_dataset(tmp_path / "dataset") == saved
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]


Damage = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda content: content.pop("class_noun"), "class_noun"),
        (lambda content: content["photos"][1].pop("caption"), r"photos\.1\.caption"),
        (lambda content: content.update(schema=9), "schema"),
        (lambda content: content.update(seed="3"), "seed"),
        (lambda content: content.update(extra=1), "extra"),
        (lambda content: content["photos"][0].update(crop=[1, 2]), r"photos\.0\.crop"),
        (lambda content: content["findings"][0].update(kind="odd"), r"findings\.0\.kind"),
        (lambda content: content["photos"][0].update(id="../../secret"), "photo ids"),
        (lambda content: content["photos"][0].update(id=content["photos"][1]["id"]), "photo ids"),
    ],
)
def test_damage_is_named_with_a_remedy(tmp_path: Path, damage: Damage, named: str) -> None:
    save(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    damage(content)
    (tmp_path / "manifest.json").write_text(json.dumps(content))

    with pytest.raises(PhotosError, match=named) as caught:
        load_dataset(tmp_path)

    assert "run the same command again" in caught.value.remedy


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_manifest_that_is_no_json_is_damaged(tmp_path: Path, content: str) -> None:
    save(tmp_path)
    (tmp_path / "manifest.json").write_text(content)

    with pytest.raises(PhotosError, match="is damaged"):
        load_dataset(tmp_path)


def test_a_missing_picture_or_dataset_is_named(tmp_path: Path) -> None:
    dataset = save(tmp_path / "dataset")
    dataset.image_path(dataset.photos[1]).unlink()

    with pytest.raises(PhotosError, match="Größe 1.jpg is missing"):  # noqa: RUF043
        load_dataset(tmp_path / "dataset")
    with pytest.raises(PhotosError, match="holds no prepared dataset"):
        load_dataset(tmp_path / "elsewhere")


def test_masks_and_nearer_squares_are_saved_and_missed_when_gone(tmp_path: Path) -> None:
    plain = prepared()
    close = replace(plain.photos[3], id=plain.photos[3].id + "-close", framing="close", masked=True)
    mask = Image.linear_gradient("L").resize((16, 16))
    images = plain.images | {close.id: Image.new("RGB", (16, 16))}
    whole = replace(plain, photos=[*plain.photos, close], images=images, masks={close.id: mask})
    words = {"instance_prompt": "a photo of sks", "class_noun": "woman", "seed": 3}

    saved = save_dataset(tmp_path / "dataset", whole, resolution=16, **words)

    assert load_dataset(tmp_path / "dataset") == saved
    assert saved.training(0)[-1].photo_id == plain.photos[3].id
    with Image.open(saved.mask_path(close)) as image:
        assert image.mode == "L"
        assert image.tobytes() == mask.tobytes()
    assert [path.name for path in (tmp_path / "dataset" / "masks").iterdir()] == [f"{close.id}.png"]
    saved.mask_path(close).unlink()
    with pytest.raises(PhotosError, match="mask"):
        load_dataset(tmp_path / "dataset")


USES: list[Literal["both", "training", "judging"]] = ["both", "training", "judging"]


@st.composite
def datasets(draw: st.DrawFn) -> PreparedDataset:
    """Photos in folds or in none, some with squares to train on or to judge by alone, as `crops` and `shape` make."""
    whole, photos = prepared().photos[0], []
    for number in range(draw(st.integers(1, 6))):
        fold = draw(st.none() | st.integers(0, 2))
        ends = draw(
            st.sampled_from([{"": "both"}, {"": "judging", "-bucket": "training"}, {"": "both", "-half": "training"}])
        )
        for end, use in ends.items():
            photos.append(replace(whole, id=f"{number:012x}{end}", fold=fold, use=use, near_duplicate_of=None))
    return PreparedDataset(Path(), 64, "a photo of sks", "woman", 3, tuple(photos), ())


@given(datasets(), st.integers(0, 2))
def test_a_training_and_its_judgement_share_no_photo(dataset: PreparedDataset, fold: int) -> None:
    trained, judged = dataset.training(fold), dataset.heldout(fold)
    assert not {photo.photo_id for photo in trained} & {photo.photo_id for photo in judged}
    assert {photo.photo_id for photo in trained} | {photo.photo_id for photo in judged} == {
        photo.photo_id for photo in dataset.photos
    }
    assert len({photo.photo_id for photo in judged}) == len(judged)  # each photo is judged by once


@given(datasets())
def test_squares_are_used_for_what_they_are_there_for(dataset: PreparedDataset) -> None:
    everything = dataset.training(None)
    assert {photo.id for photo in everything} == {photo.id for photo in dataset.photos if photo.use != "judging"}
    for fold in range(3):
        assert set(dataset.training(fold)) == {photo for photo in everything if photo.fold != fold}
        assert all(photo.use != "training" for photo in dataset.heldout(fold))


def test_each_photo_is_saved_with_its_own_picture_mask_and_caption(tmp_path: Path) -> None:
    plain = prepared()
    photos = [replace(photo, masked=True, caption=f"caption {number}") for number, photo in enumerate(plain.photos)]
    masks = {photo.id: Image.new("L", (16, 16), 50 + number) for number, photo in enumerate(photos)}
    whole = replace(plain, photos=photos, masks=masks)

    save_dataset(tmp_path / "dataset", whole, resolution=16, instance_prompt="a photo", class_noun="woman", seed=3)

    dataset = load_dataset(tmp_path / "dataset")
    for number, photo in enumerate(dataset.photos):
        assert photo.caption == f"caption {number}"
        with Image.open(dataset.image_path(photo)) as image, Image.open(dataset.mask_path(photo)) as mask:
            assert image.getpixel((0, 0)) == (60 * number, 0, 0)
            assert mask.getpixel((0, 0)) == 50 + number
