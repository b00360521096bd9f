"""Photos are found wherever people keep them, and nothing an archive says is believed."""

from __future__ import annotations

import io
import json
import os
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from portrayal.errors import PhotosError
from portrayal.photos import sources
from portrayal.photos.read import UnusablePhotoError
from portrayal.photos.sources import find_photos


def png(colour: str = "red") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(content, "PNG")
    return content.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def names(source: Path) -> list[str]:
    return [photo.name for photo in find_photos(source).photos]


def kinds(source: Path) -> list[tuple[str, str]]:
    return [(finding.file, finding.kind) for finding in find_photos(source).findings]


def test_pictures_are_found_by_ending_or_by_their_first_bytes(tmp_path: Path) -> None:
    for name in ("b.JPG", "nameless", ".hidden.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "a.jpeg").touch()
    (tmp_path / "notes.txt").write_text("a caption")
    (tmp_path / "inner.png").mkdir()

    assert names(tmp_path) == ["a.jpeg", "b.JPG", "nameless"]


@pytest.mark.parametrize(("name", "said"), [("missing", "no folder"), ("a.txt", "no picture"), ("a.zip", "damaged")])
def test_what_is_no_source_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 and no more")

    with pytest.raises(PhotosError, match=said):
        find_photos(tmp_path / name)


def test_one_picture_is_a_source_with_its_caption(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "a.txt").write_text("sks woman at sea")

    found = find_photos(tmp_path / "a.png")

    assert [(photo.name, photo.caption) for photo in found.photos] == [("a.png", "sks woman at sea")]
    assert found.photos[0].content() == png()


def test_an_archive_is_read_whole_with_what_lies_beside_its_photos(tmp_path: Path) -> None:
    members = {
        "ann/b.png": png("blue"),
        "ann/a.png": png(),
        "ann/a.txt": b"sks woman",
        "ann/a.mask.png": png("white"),
        "__MACOSX/ann/._a.png": b"resource fork",
        "ann/.DS_Store": b"",
        "readme.md": b"hello",
    }
    found = find_photos(archive(tmp_path / "photos.zip", members))

    assert [(photo.name, photo.caption) for photo in found.photos] == [("ann/a.png", "sks woman"), ("ann/b.png", None)]
    assert found.photos[1].content() == png("blue")
    assert found.photos[0].mask is not None
    assert found.photos[0].mask() == png("white")
    assert found.findings == []


def test_what_an_archive_should_not_hold_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    members = {"../up.png": png(), "/root.png": png(), "C:/win.png": png(), "..\\back.png": png(), "good.png": png()}
    path = archive(tmp_path / "photos.zip", members)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("inner.zip", b"PK")
        file.writestr("bomb.png", b"\0" * 50_000_000)

    assert names(path) == ["good.png"]
    bad = ["../up.png", "..\\back.png", "/root.png", "C:/win.png", "bomb.png", "inner.zip", "link.png"]
    assert kinds(path) == [(name, "archive") for name in bad]
    assert not (tmp_path.parent / "up.png").exists()


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "photos.zip", {"a.png": os.urandom(5000)})
    monkeypatch.setattr(sources, "MAX_BYTES", 6000)
    photo = find_photos(path).photos[0]
    monkeypatch.setattr(sources, "MAX_BYTES", 4000)

    with pytest.raises(UnusablePhotoError) as caught:
        photo.content()

    assert caught.value.finding.kind == "too_large"


def test_a_damaged_member_is_a_finding(tmp_path: Path) -> None:
    path = archive(tmp_path / "photos.zip", {"a.png": os.urandom(3000), "b.png": png()})
    content = bytearray(path.read_bytes())
    content[500:600] = bytes(100)
    path.write_bytes(content)
    damaged, fine = find_photos(path).photos

    with pytest.raises(UnusablePhotoError, match="damaged"):
        damaged.content()
    assert fine.content() == png()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_ENTRIES", 3)

    with pytest.raises(PhotosError, match="4 files"):
        find_photos(archive(tmp_path / "a.zip", {f"{number}.png": png() for number in range(4)}))


def test_kohyas_folders_are_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "10_sks woman"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    (folder / "a.caption").write_text("sks woman, smiling")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "b.png").write_bytes(png())

    found = find_photos(tmp_path)

    assert [(photo.name, photo.caption) for photo in found.photos] == [("10_sks woman/a.png", "sks woman, smiling")]
    assert [(finding.file, finding.kind) for finding in found.findings] == [
        ("10_sks woman", "kohya_folder"),
        ("holiday", "subfolder"),
    ]
    assert "'sks woman'" in found.findings[0].message


def test_captions_come_from_the_text_file_first_and_from_the_list_last(tmp_path: Path) -> None:
    for letter in "abcd":
        (tmp_path / f"{letter}.png").write_bytes(png())
        (tmp_path / f"{letter}.txt").write_text({"a": "from txt"}.get(letter, " \n"))
    for letter in "ab":
        (tmp_path / f"{letter}.caption").write_text(f"from  caption {letter}")
    lines = [json.dumps({"file_name": f"{letter}.png", "text": f"from the list {letter}"}) for letter in "abc"]
    (tmp_path / "metadata.jsonl").write_text("\n".join([*lines, "", "no json", "[]", '{"file_name": "d.png"}']))

    found = find_photos(tmp_path)

    captions = ["from txt", "from caption b", "from the list c", None]
    assert [photo.caption or None for photo in found.photos] == captions
    assert [(finding.file, finding.kind) for finding in found.findings] == [("metadata.jsonl", "caption")] * 2


@settings(deadline=None)
@given(st.text())
def test_any_words_of_a_caption_come_back(words: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.png").write_bytes(png())
        Path(folder, "a.txt").write_text(words, encoding="utf-8")

        found = find_photos(Path(folder))

    assert found.photos[0].caption == (" ".join(words.removeprefix("\ufeff").split()) or None)
    assert found.findings == []


def test_notepads_byte_order_mark_is_dropped_and_other_encodings_are_said(tmp_path: Path) -> None:
    for letter in "ab":
        (tmp_path / f"{letter}.png").write_bytes(png())
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfsks woman\r\nat sea\r\n")
    (tmp_path / "b.txt").write_bytes("sks Frau im Grünen".encode("latin-1"))

    found = find_photos(tmp_path)

    assert [photo.caption for photo in found.photos] == ["sks woman at sea", None]
    assert [(finding.file, finding.kind) for finding in found.findings] == [("b.txt", "caption")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names and links")
def test_circles_of_links_and_wild_names_are_shown_safely(tmp_path: Path) -> None:
    (tmp_path / "one.png").symlink_to(tmp_path / "two.png")
    (tmp_path / "two.png").symlink_to(tmp_path / "one.png")
    wild = ["line\nbreak.png", "фото.png", "写真.png", "\x1b[31mred.png", "a'\"<b>.png"]
    for name in wild:
        (tmp_path / name).write_bytes(png())
    (tmp_path / "itself").symlink_to(tmp_path)

    found = find_photos(tmp_path)

    assert [(finding.file, finding.kind) for finding in found.findings[:2]] == [
        ("one.png", "unreadable"),
        ("two.png", "unreadable"),
    ]
    assert len(found.photos) == len(wild)
    assert all(photo.name.isprintable() and photo.content() == png() for photo in found.photos)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "a.png").chmod(0)

    with pytest.raises(UnusablePhotoError, match="cannot be opened"):
        find_photos(tmp_path).photos[0].content()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
        st.binary(max_size=60),
    )
)
def test_no_archive_makes_it_fall_over(members: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = archive(Path(folder, "a.zip"), members)
        for photo in find_photos(path).photos:
            assert photo.name.isprintable()
            photo.content()
        assert [entry.name for entry in Path(folder).iterdir()] == ["a.zip"]
