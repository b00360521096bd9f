"""Photos are found wherever people keep them, and nothing an archive says is believed."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from portrayal.errors import PhotosError
from portrayal.photos import archive as archives
from portrayal.photos import beside
from portrayal.photos.found import KohyaFolder
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
    monkeypatch.setattr(beside, "MAX_BYTES", 6000)
    photo = find_photos(path).photos[0]
    monkeypatch.setattr(beside, "MAX_BYTES", 4000)

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
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)

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
    assert found.kohya == [KohyaFolder("10_sks woman", 10, "sks", "woman")]
    assert "10 repeats, instance_token='sks', class_noun='woman'" in found.findings[0].message
    assert find_photos(folder).kohya == found.kohya  # given alone
    members = {"img/10_sks woman/a.png": png(), "img/10_sks woman/a.txt": b"sks woman"}
    assert find_photos(archive(tmp_path / "a.zip", members)).kohya == found.kohya


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
    assert [(finding.file, finding.kind) for finding in found.findings] == [("metadata.jsonl", "caption")]
    assert found.findings[0].message.endswith("text: 5, 6")


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
    assert {r"line\nbreak.png", r"\x1b[31mred.png", "фото.png"} <= {photo.name for photo in found.photos}


def test_a_file_that_is_gone_when_it_is_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    photo = find_photos(tmp_path).photos[0]
    (tmp_path / "a.png").unlink()

    with pytest.raises(UnusablePhotoError, match="cannot be opened") as caught:
        photo.content()

    assert str(tmp_path) not in str(caught.value)


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


def test_capitals_and_accents_do_not_part_a_photo_from_what_belongs_to_it(tmp_path: Path) -> None:
    composed, apart = "é", "e\u0301"
    for name in ("IMG_1.JPG", "img_1.MASK.PNG", f"{composed}.png", "Screenshot\u202fAM.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "IMG_1.TXT").write_text("one")
    (tmp_path / f"{apart}.txt").write_text("two")

    photos = find_photos(tmp_path).photos

    assert [(photo.name, photo.caption) for photo in photos] == [
        ("IMG_1.JPG", "one"),
        ("Screenshot AM.png", None),
        (f"{composed}.png", "two"),
    ]
    assert photos[0].mask is not None


def test_masks_and_captions_without_a_photo_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "lost.mask.png"):
        (tmp_path / name).write_bytes(png())
    lines = [json.dumps({"file_name": name, "prompt": "words"}) for name in ("./a.png", "b.png", "\ud800.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))

    found = find_photos(tmp_path)

    assert [photo.caption for photo in found.photos] == ["words"]
    assert [(finding.file, finding.kind) for finding in found.findings] == [
        ("lost.mask.png", "mask"),
        ("metadata.jsonl", "caption"),
    ]
    assert found.findings[1].message.endswith(r"b.png, \ud800.png")
    assert find_photos(tmp_path / "a.png").findings == []


def test_half_letters_of_json_become_whole_ones(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "sks \\ud800 woman"}')

    assert find_photos(tmp_path).photos[0].caption == "sks ? woman"


def test_archives_in_a_folder_and_what_is_no_file_are_named(tmp_path: Path) -> None:
    archive(tmp_path / "inner.zip", {"a.png": png()})
    os.mkfifo(tmp_path / "pipe.jpg")

    assert kinds(tmp_path) == [("inner.zip", "archive"), ("pipe.jpg", "unreadable")]
    assert names(tmp_path) == []


def test_a_picture_that_ends_in_an_archive_is_a_picture(tmp_path: Path) -> None:
    inner = archive(tmp_path / "inner.zip", {"b.png": png()}).read_bytes()
    (tmp_path / "a.png").write_bytes(png() + inner)

    assert names(tmp_path / "a.png") == ["a.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_and_rare_packings_are_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.png": png()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("a.png", png("blue"))
        file.writestr("b.png", png(), compress_type=zipfile.ZIP_LZMA)

    assert kinds(path) == [("a.png", "archive"), ("b.png", "archive")]
    assert find_photos(path).photos[0].content() == png()


def test_all_that_an_archive_unpacks_to_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 2 * len(png()))

    path = archive(tmp_path / "a.zip", {f"{number}.png": png() for number in range(4)})

    assert names(path) == ["0.png", "1.png"]
    assert kinds(path) == [("2.png", "archive"), ("3.png", "archive")]


@pytest.mark.parametrize("wide", [False, True])
def test_a_list_of_contents_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    """Python's zipfile reads the list whole, before anyone can count its entries."""
    path = archive(tmp_path / "a.zip", {f"{number}.png": png() for number in range(40)})
    if wide:  # the same list by ZIP64's records, which outrank the plain one
        content = path.read_bytes()
        place = content.rfind(b"PK\5\6")
        length, start = struct.unpack("<II", content[place + 12 : place + 20])
        record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 40, 40, length, start)
        locator = b"PK\6\7" + struct.pack("<IQI", 0, place, 1)
        plain = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 40, 40, 5, 0xFFFFFFFF, 0)
        path.write_bytes(content[:place] + record + locator + plain)
    assert len(names(path)) == 40
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 1000)

    with pytest.raises(PhotosError, match="list of contents"):
        find_photos(path)


def test_a_long_archive_is_read_in_no_time(tmp_path: Path) -> None:
    """The list of contents is read once, not once for each file."""
    path = archive(tmp_path / "a.zip", {f"{number}.txt": b"words" for number in range(15_000)} | {"a.png": png()})
    start = time.process_time()

    assert names(path) == ["a.png"]
    assert time.process_time() - start < 20


def test_an_archive_is_read_by_many_threads(tmp_path: Path) -> None:
    members = {f"{number:02d}.png": os.urandom(200_000) for number in range(40)}

    photos = find_photos(archive(tmp_path / "a.zip", members)).photos
    with ThreadPoolExecutor(8) as threads:
        contents = list(threads.map(lambda photo: photo.content(), photos))

    assert contents == list(members.values())


def test_a_file_without_a_name_in_an_archive_is_said(tmp_path: Path) -> None:
    """Found by the fuzzer: zipfile itself falls over such a member."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", png())
        file.writestr("good.png", png())
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    name = start + 46
    directory = bytearray(content[start:])
    directory[28:30] = b"\0\0"  # the length of the first name
    directory[30:32] = b"\1\0"  # its byte is an extra field now
    path.write_bytes(content[:start] + directory)
    assert content[name : name + 1] == b"x"

    found = find_photos(path)

    assert [photo.name for photo in found.photos] == ["good.png"]
    assert [finding.message for finding in found.findings] == ["the archive holds a file without a name"]


def test_an_archive_that_says_it_is_one_of_several_is_refused(tmp_path: Path) -> None:
    """Found by the fuzzer: Python's `is_zipfile` raises for it."""
    path = tmp_path / "photos.zip"
    path.write_bytes(b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 2) + b"PK\x05\x06" + bytes(18))
    with pytest.raises(zipfile.BadZipFile):
        zipfile.is_zipfile(path)
    with pytest.raises(PhotosError, match="damaged"):
        find_photos(path)
    (tmp_path / "a.png").write_bytes(png())
    assert [photo.name for photo in find_photos(tmp_path).photos] == ["a.png"]
