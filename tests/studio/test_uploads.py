"""Photos that are handed in: pictures by their content, few and small enough, under names that lead nowhere."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from portrayal import UsageError, load_config
from portrayal.studio import desk, uploads
from portrayal.studio.desk import DESK
from portrayal.studio.names import free_name, shown_name
from portrayal.studio.photos import contact, crop, drop, keep
from portrayal.studio.projects import Project, Projects
from tests.photos.heic import heic

JPEG = next(iter(sorted((Path(__file__).parents[2] / "examples" / "photos").glob("*.jpg")))).read_bytes()


def handed(folder: Path, name: str, content: bytes) -> tuple[Path, str]:
    """An uploaded file, kept under a name of the server's, with the name a person gave it."""
    path = folder / f"upload-{len(list(folder.iterdir()))}{Path(name).suffix[:8] if '/' not in name else ''}"
    path.write_bytes(content)
    return path, name


def picture(colour: str, kind: str = "PNG", size: tuple[int, int] = (200, 150)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, kind)
    return content.getvalue()


@pytest.fixture
def project(projects: Projects) -> Project:
    return projects.create("Ann")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_photos_are_kept_as_they_are_and_shown_small(ann: Project, photos: Path) -> None:
    found = contact(ann).photos
    assert [one.name for one in found] == sorted(path.name for path in photos.iterdir())
    for one in found:
        assert (ann.photos_folder / one.name).read_bytes() == (photos / one.name).read_bytes()
        with Image.open(one.view) as view:
            assert max(view.size) <= uploads.VIEW_SIDE
            assert not view.getexif()
            assert abs(view.width / view.height - one.width / one.height) < 0.02
        left, top, side = one.crop
        assert side == min(one.width, one.height)
        assert left + side <= one.width
        assert top + side <= one.height
        assert one.verdict is None


PATHS = (
    "../../../../etc/cron.d/x.jpg",
    "/etc/x.jpg",
    "..\\..\\x.jpg",
    "C:\\x.jpg",
    "x.jpg/../../y.jpg",
    "...",
    " .jpg",
)
ODD = (
    ".bashrc.jpg",
    "a\0b.jpg",
    "x" * 400 + ".jpg",
    "con.jpg",
    "\u202egpj.exe",
    "a\nb.jpg",
    "",
    " .jpg",
    "photos.json",
)


@pytest.mark.parametrize("name", [*PATHS, *ODD])
def test_no_name_leads_out_of_the_project(project: Project, inbox: Path, name: str) -> None:
    (taken,) = uploads.accept_photos(project, [handed(inbox, name, JPEG)])
    assert taken.error == ""
    kept = project.photos_folder / taken.kept
    assert kept.is_file()
    assert kept.parent == project.photos_folder
    assert kept.name[0] != "."
    everything = {path.relative_to(project.root).parts[0] for path in project.root.rglob("*")}
    assert everything <= {"Ann", ".studio"}
    load_config(project.recipe, project.settings)


@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_name_becomes_one_file_s(name: str, taken: list[str]) -> None:
    kept = free_name(shown_name(name), JPEG, taken)
    assert Path(kept).name == kept
    assert kept.endswith(".jpg")
    assert not kept.startswith(".")
    assert kept not in taken
    assert kept.isprintable()


def test_a_type_is_what_the_content_says(project: Project, inbox: Path) -> None:
    given = [
        handed(inbox, "photo.png", JPEG),
        handed(inbox, "page.jpg", b"<html><script>alert(1)</script></html>"),
        handed(inbox, "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        handed(inbox, "run.exe", b"MZ" + bytes(1000)),
        handed(inbox, "empty.jpg", b""),
        handed(inbox, "half.jpg", JPEG[: len(JPEG) // 2]),
        handed(inbox, "script.ps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        handed(inbox, "raw.dng", b"II*\0" + bytes(1000)),
    ]
    taken = {one.name: one for one in uploads.accept_photos(project, given)}
    assert taken["photo.png"].kept == "photo.jpg"
    assert [name for name, one in taken.items() if not one.error] == ["photo.png"]
    assert all(one.error for name, one in taken.items() if name != "photo.png")
    assert [path.name for path in project.photos] == ["photo.jpg"]
    assert not [path for path in project.folder.rglob("*") if path.name.startswith(".upload")]


def test_heic_is_taken_and_shown(project: Project, inbox: Path) -> None:
    pytest.importorskip("pi_heif")
    content = heic(Image.new("RGB", (64, 48), "red"))
    (taken,) = uploads.accept_photos(project, [handed(inbox, "IMG_1.HEIC", content)])
    assert (taken.error, taken.kept) == ("", "IMG_1.heic")
    (one,) = contact(project).photos
    with Image.open(one.view) as view:
        assert view.format == "JPEG"


def test_what_is_too_large_or_too_much_is_refused(
    project: Project, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", len(JPEG) - 1)
    (taken,) = uploads.accept_photos(project, [handed(inbox, "large.jpg", JPEG)])
    assert "a photo may have" in taken.error
    monkeypatch.setattr(uploads, "MAX_PHOTOS", 2)
    small = [handed(inbox, f"{colour}.png", picture(colour)) for colour in ("red", "green", "blue")]
    assert [bool(one.error) for one in uploads.accept_photos(project, small)] == [False, False, True]
    assert len(contact(project).photos) == 2


def test_an_archive_is_read_by_its_pictures(project: Project, inbox: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../../evil.jpg", JPEG)
        archive.writestr("deep/folder/one.png", picture("red"))
        archive.writestr("deep/folder/one.txt", "a photo of sks woman in red")
        archive.writestr("other/one.png", picture("green"))
        archive.writestr("notes.html", "<html>")
        archive.writestr("inner.zip", b"PK\3\4")
    taken = {one.name: one for one in uploads.accept_photos(project, [handed(inbox, "photos.zip", packed.getvalue())])}
    assert {path.name for path in project.photos} == {"one.png", "one (2).png"}
    assert (project.photos_folder / "one.txt").read_text() == "a photo of sks woman in red"
    assert taken["evil.jpg"].error
    assert taken["inner.zip"].error
    (broken,) = uploads.accept_photos(project, [handed(inbox, "broken.zip", b"PK\3\4 nothing")])
    assert broken.error


def test_the_same_photo_is_taken_once_and_names_are_told_apart(project: Project, inbox: Path) -> None:
    first = [handed(inbox, "a.png", picture("red")), handed(inbox, "a.png", picture("blue"))]
    assert [one.kept for one in uploads.accept_photos(project, first)] == ["a.png", "a (2).png"]
    (again,) = uploads.accept_photos(project, [handed(inbox, "b.png", picture("red"))])
    assert again.error == "it is here already, as a.png"


def test_what_is_decided_of_a_photo(ann: Project) -> None:
    first, second = contact(ann).photos[:2]
    drop(ann, first.name)
    keep(ann, second.name)
    crop(ann, second.name, (5, 6, 300))
    config = load_config(ann.recipe, ann.settings)
    assert config.prepare.drop == (first.name,)
    assert config.prepare.keep == (second.name,)
    assert config.prepare.crop == {second.name: (5, 6, 300)}
    one, two = contact(ann).photos[:2]
    assert (one.left_out, two.kept, two.crop, two.by_hand) == (True, True, (5, 6, 300), True)
    keep(ann, first.name)
    crop(ann, second.name, None)
    assert not contact(ann).photos[0].left_out
    assert not contact(ann).photos[1].by_hand
    for wrong in ((-1, 0, 100), (0, 0, 10**6), (0, 0, 1), (10**6, 0, 100)):
        with pytest.raises(UsageError, match="does not lie in"):
            crop(ann, second.name, wrong)
    for name in ("../x", "nobody.jpg"):
        with pytest.raises(UsageError, match="no photo"):
            drop(ann, name)
        with pytest.raises(UsageError, match="no photo"):
            uploads.remove(ann, name)
    uploads.remove(ann, first.name)
    assert first.name not in [one.name for one in contact(ann).photos]
    assert not (ann.photos_folder / first.name).exists()
    assert not first.view.exists()


def test_photos_are_looked_at_in_another_process(ann: Project, until: Callable[..., None]) -> None:
    try:
        assert desk.check(ann) is None
        until(lambda: desk.check(ann) is not None, 120)
        found = desk.check(ann)
        assert found is not None
        assert found.checked
        assert all(one.verdict in ("keep", "fix", "drop") for one in found.photos)
        assert any("are few" in remark for remark in found.remarks)
        assert contact(ann) == found
        drop(ann, found.photos[0].name)
        assert not contact(ann).checked
        until(lambda: desk.outlook(ann) is not None, 120)
        outlook = desk.outlook(ann)
        assert outlook is not None
        assert outlook.error == ""
        assert outlook.base == "pocket"
        assert outlook.downloads == ()
        assert (outlook.minutes or 0) > 0
        assert (outlook.disk_gib or 0) > 0
        assert outlook.trainings == {"unet": 1, "lora-2": 1, "lora-4": 1}
    finally:
        DESK.close()
