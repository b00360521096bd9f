import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portrayal.photos.caption import read_caption


@settings(deadline=None)
@given(st.text())
def test_any_words_come_back(words: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.jpg")
        photo.with_suffix(".txt").write_text(words, encoding="utf-8")

        caption, finding = read_caption(photo)

    assert caption == (" ".join(words.removeprefix("\ufeff").split()) or None)
    assert finding is None


@pytest.mark.parametrize("content", [b"", b" \r\n\t", b"\xef\xbb\xbf", None])
def test_an_empty_or_missing_caption_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "photo.txt").write_bytes(content)

    assert read_caption(tmp_path / "photo.jpg") == (None, None)


def test_notepads_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_bytes(b"\xef\xbb\xbfsks woman\r\nat sea\r\n")

    assert read_caption(tmp_path / "photo.jpg")[0] == "sks woman at sea"


def test_what_is_no_utf8_is_said(tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_bytes("sks Frau im Grünen".encode("latin-1"))

    caption, finding = read_caption(tmp_path / "photo.jpg")

    assert caption is None
    assert finding is not None
    assert (finding.file, finding.kind, finding.action) == ("photo.txt", "caption", "skipped")
