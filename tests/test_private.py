"""What leaves the machine, and what is recorded of consent: nothing unasked, on a small run that is there by name."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from PIL import Image

from portrayal.data.manifest import load_dataset, save_dataset
from portrayal.errors import MachineError, PhotosError, UsageError, WeightsError
from portrayal.files import write_bytes, write_json
from portrayal.limits import LARGEST_HEADER, LARGEST_TEXT, bounded_json, bounded_text, check_header
from portrayal.models import store
from portrayal.photos import Prepared, PreparedPhoto, archive
from portrayal.photos.read import MAX_BYTES, MAX_PIXELS, UnusablePhotoError, decode_photo
from portrayal.photos.sources import find_photos
from portrayal.planning import settle
from portrayal.run import Run
from portrayal.scale.outcomes import finished
from portrayal.scale.storage import Store
from portrayal.scale.subjects import Study, read_studies
from portrayal.settings import load_config
from portrayal.stages import hub
from portrayal.stages.hub import Publication, gathered, publish, sample_pictures, upload
from portrayal.stages.prepare import provenance

PHOTOS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with two photos and a LoRA that has painted; its files are there by name."""
    base = {"name": "pocket", "licence": "apache-2.0", "sha256": "0"}
    recorded = {"base": base, "photos": list(PHOTOS), "consent": "stated by the user"}
    config = load_config("pocket-demo", ["study.ranks=[2]", "study.learning_rates=[1]"])
    run = Run.create(tmp_path / "ann", config, recorded)
    shape = {"crop": (0, 0, 16, 16), "shape": (16, 16), "width": 16, "height": 16, "upscaled": False}
    more = {"caption": "a", "caption_from": "template", "fold": None, "near_duplicate_of": None}
    photos = [PreparedPhoto(id=name, source_name=f"{name}.jpg", **shape, **more) for name in PHOTOS]  # type: ignore[arg-type]
    images = {name: Image.new("RGB", (16, 16), "red") for name in PHOTOS}
    save_dataset(
        run.dataset_folder, Prepared(photos, images, []), resolution=16, instance_prompt="a", class_noun="b", seed=0
    )
    write_json(run.model_folder("lora-2") / "method.json", {"kind": "lora", "rank": 2})
    for scene in run.config.generation.scenes:
        for number in range(2):
            write_bytes(run.image_path("lora-2", scene, number), f"{scene} {number}".encode())
    return run


@pytest.fixture
def exported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's files, without a model."""

    def export(run: Run, forms: Any, names: Any, *, out: Path, progress: Any) -> list[Path]:
        write_bytes(out / "ann-lora-2.safetensors", b"weights")
        return [out / "ann-lora-2.safetensors"]

    monkeypatch.setattr(hub, "export_models", export)
    monkeypatch.setattr(hub, "paintable", lambda run: {"base": None, "lora-2": run.model_folder("lora-2")})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the hub would have been told."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> None:
            found.append(("create", {"repo_id": repo_id, **options}))

        def upload_folder(self, **options: Any) -> None:
            found.append(("upload", options))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(store, "online", lambda: True)
    return found


# The Hub -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [True, False])
def test_the_hub_is_told_whether_it_is_private(private: bool, tmp_path: Path, sent: list[Any]) -> None:
    upload(Publication("me/ann", private, tmp_path, {}))
    assert [kind for kind, _ in sent] == ["create", "upload"]
    assert sent[0][1] == {"repo_id": "me/ann", "private": private, "exist_ok": True}
    assert sent[1][1] == {"repo_id": "me/ann", "folder_path": tmp_path, "commit_message": "Portrayal"}


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("photos", [True, False])
def test_photos_go_only_where_that_was_asked(run: Run, private: bool, photos: bool) -> None:
    with gathered(run, "me/ann", "lora-2", private=private, photos=photos) as publication:
        assert publication.private is private
        there = {path.relative_to(publication.folder).as_posix(): path for path in publication.folder.rglob("*.*")}
        content = {name: path.read_bytes() for name, path in there.items()}
        card = (publication.folder / "README.md").read_text()
    assert content.keys() == publication.files.keys()
    originals = [load_dataset(run.dataset_folder).image_path(one) for one in load_dataset(run.dataset_folder).photos]
    same = sorted(name for name, data in content.items() if data in [path.read_bytes() for path in originals])
    assert same == ([f"photos/{name}.png" for name in PHOTOS] if photos else [])
    assert str(run.folder) not in card
    assert not publication.folder.exists()


def test_the_pictures_that_go_are_the_model_s_own(run: Run, tmp_path: Path) -> None:
    found = sample_pictures(run, "lora-2", tmp_path)
    scenes = list(run.config.generation.scenes)[: hub.MAX_SAMPLES]
    assert [name for name, _ in found] == [f"samples/{scene}.png" for scene in scenes]
    assert [(tmp_path / name).read_bytes() for name, _ in found] == [f"{scene} 0".encode() for scene in scenes]
    assert sample_pictures(run, "lora-4", tmp_path / "other") == []


@pytest.mark.usefixtures("exported")
def test_nothing_goes_before_the_answer_nor_without_consent(run: Run, sent: list[Any]) -> None:
    asked: list[Publication] = []

    def answer(yes: bool) -> Callable[[Publication], bool]:
        def agree(publication: Publication) -> bool:
            assert sent == []
            asked.append(publication)
            return yes

        return agree

    assert publish(run, "me/ann", "lora-2", agree=answer(False)) is None
    for stated in ("not stated", "refused", None):
        run.record(consent=stated)
        with pytest.raises(UsageError, match="does not record"):
            publish(run, "me/ann", "lora-2", agree=answer(True))
    assert sent == []
    assert len(asked) == 1
    run.record(consent="stated by the user")
    assert publish(run, "me/ann", "lora-2", agree=answer(True)) == "https://huggingface.co/me/ann"
    assert sent[0][1]["private"] is True


def test_a_refusal_of_the_hub_is_said(tmp_path: Path, sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    publication = Publication("me/ann", True, tmp_path, {})
    monkeypatch.setattr(store, "online", lambda: False)
    with pytest.raises(WeightsError, match="nothing was uploaded"):
        upload(publication)
    assert sent == []


# Consent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consent", "recorded"), [(True, "stated by the user"), (False, "refused"), (None, "not stated")]
)
def test_consent_is_recorded_as_it_was_given(consent: bool | None, recorded: str, tmp_path: Path) -> None:
    plan = settle(load_config("pocket-demo"))
    record = provenance(plan, ["b", "a"], consent)
    assert record["consent"] == recorded
    assert record["photos"] == ["a", "b"]
    assert Run.create(tmp_path / "run", plan.config, record).provenance["consent"] == recorded


@pytest.mark.parametrize("consent", [True, False, None])
def test_a_study_states_the_consent_that_its_subject_gave(consent: bool | None, tmp_path: Path) -> None:
    words = Study("ann", tmp_path, consent=consent).arguments(tmp_path / "out")
    assert ("--consent" in words) is (consent is True)


def test_a_table_s_own_word_counts_more_than_what_is_said_of_all(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("photos,consent\na,yes\nb,no\nc,\n")
    assert [study.consent for study in read_studies(table, consent=True)] == [True, False, True]
    assert [study.consent for study in read_studies(table)] == [True, False, None]


# Many runs ---------------------------------------------------------------------------------------------------------


def test_a_run_is_kept_elsewhere_whole_before_it_is_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torn off, it is not there, and this machine still has it."""
    monkeypatch.setenv("PORTRAYAL_CACHE", str(run.folder.parent / "cache"))
    store_of_runs, put = Store(f"memory://{run.folder.parent.name}"), list[str]()
    shutil.copytree(run.folder, store_of_runs.folder("ann"))
    original = Store._put

    def torn(store: Store, path: Path, name: str) -> None:
        if len(put) == 3:
            raise ConnectionError("no route")
        put.append(name)
        original(store, path, name)

    with monkeypatch.context() as patch, pytest.raises(MachineError, match="no route"):
        patch.setattr(Store, "_put", torn)
        store_of_runs.keep("ann")
    assert not store_of_runs.has("ann")
    assert (store_of_runs.folder("ann") / "run.json").is_file()
    store_of_runs.keep("ann")
    assert store_of_runs.has("ann")
    assert not store_of_runs.folder("ann").exists()


def test_a_run_is_done_when_its_report_is(run: Run) -> None:
    needed = ["scores.json", "stages/report.json", "report.html"]
    for number, name in enumerate(needed):
        assert not finished(run.folder), needed[:number]
        write_json(run.folder / name, {})
    assert finished(run.folder)
    assert Store(str(run.folder.parent)).has("ann")
    for name in (*needed, "run.json"):
        (run.folder / name).rename(run.folder / "elsewhere")
        assert not finished(run.folder)
        (run.folder / "elsewhere").rename(run.folder / name)


# Limits, as they are -----------------------------------------------------------------------------------------------


def test_limits_are_of_the_size_they_are_meant_to_be(tmp_path: Path) -> None:
    assert (LARGEST_TEXT, LARGEST_HEADER, MAX_BYTES, MAX_PIXELS) == (4 << 20, 8 << 20, 512 << 20, 200_000_000)
    assert (archive.MAX_ENTRIES, archive.MAX_RATIO) == (20_000, 200)
    assert (archive.MAX_TOTAL_BYTES, archive.MAX_DIRECTORY_BYTES) == (16 << 30, 16 << 20)
    path = tmp_path / "a"
    path.write_bytes(b" " * LARGEST_TEXT)
    assert len(bounded_text(path)) == LARGEST_TEXT
    path.write_bytes(b" " * (LARGEST_TEXT + 1))
    with pytest.raises(ValueError, match="larger than 4 MiB"):
        bounded_text(path)
    with pytest.raises(ValueError, match="larger than 8 MiB"):
        bounded_json(b" " * (LARGEST_HEADER + 1))


def test_a_header_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:  # sparse: it takes no room
        file.write(struct.pack("<Q", 2 << 30) + b"{}")
        file.truncate((2 << 30) + 100)
    with pytest.raises(ValueError, match="its header is larger than 8 MiB"):
        check_header(path)


@pytest.mark.parametrize(("width", "height", "refused"), [(20_000, 10_000, False), (20_000, 10_001, True)])
def test_a_picture_is_refused_by_its_header(width: int, height: int, refused: bool) -> None:
    """A PNG of so many pixels, of which the file has none."""
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    data = bytearray(content.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(UnusablePhotoError) as caught:
        decode_photo("a.png", bytes(data))
    assert (caught.value.finding.kind == "too_large") is refused


def test_what_is_packed_too_well_is_not_unpacked(tmp_path: Path) -> None:
    """Eight hundred bytes for each byte of the archive; a photo has hardly more than one."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb.png", b"\0" * 1_000_000)
        packed.writestr("drawn.png", bytes(range(256)) * 30)
        packed.writestr("empty.png", b"\0" * 9_000)
    found = {finding.file: finding.message for finding in find_photos(path).findings}
    assert "bomb.png" in found
    assert "drawn.png" not in found
    assert "empty.png" not in found  # small things may


def test_a_photo_s_bytes_are_read_no_further_than_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.png", bytes(1000))
    opened = zipfile.ZipFile(path)
    reader = archive._Archive(opened)
    assert len(reader.read(opened.getinfo("a.png"), 10)) == 11
    opened.close()
    (tmp_path / "none.zip").write_bytes(b"PK")
    with pytest.raises(PhotosError):
        find_photos(tmp_path / "none.zip")


def test_what_is_kept_of_a_photo_is_its_pixels(run: Run) -> None:
    """As a person hands it in, with a place in it; as the run keeps it, without."""
    exif = Image.Exif()
    exif[0x010E] = "at home"
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(content, "JPEG", exif=exif, comment=b"at home")
    assert b"at home" in content.getvalue()
    image = decode_photo("a.jpg", content.getvalue()).image
    assert (image.info, dict(image.getexif())) == ({}, {})
    for path in run.dataset_folder.rglob("*.png"):
        with Image.open(path) as kept:
            assert kept.info == {}
    assert "/" not in "".join(json.dumps(one.source_name) for one in load_dataset(run.dataset_folder).photos)
