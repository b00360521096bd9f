"""What the studio takes in, gives out and does for a project: sizes, places, moments, on projects that take no time."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageColor
from PIL.PngImagePlugin import PngInfo
from starlette.responses import FileResponse

from portrayal import UsageError
from portrayal.files import write_bytes, write_json
from portrayal.run import Run
from portrayal.settings import load_config
from portrayal.studio import serve, uploads, votes
from portrayal.studio.controls import accept_control
from portrayal.studio.files import below, born_at, live_of
from portrayal.studio.jobs import Job, Queue
from portrayal.studio.photos import crop, drop, keep
from portrayal.studio.projects import Project, Projects
from portrayal.studio.worker import Shift, next_job

PROVENANCE = {"base": {"name": "pocket", "sha256": "0"}, "photos": ["a"], "consent": "not stated"}


def picture(colour: str = "red") -> bytes:
    content, told = io.BytesIO(), PngInfo()
    told.add_text("portrayal", '{"model": "lora-64"}')
    Image.new("RGB", (100, 80), colour).save(content, "PNG", pnginfo=told)
    return content.getvalue()


@pytest.fixture
def project(projects: Projects, tmp_path: Path) -> Project:
    """A project with one photo."""
    made = projects.create("Ann")
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    (taken,) = uploads.accept_photos(made, [(path, "a.png")])
    assert taken.error == ""
    return made


@pytest.fixture
def started(project: Project) -> Project:
    """The same, whose run has been started."""
    Run.create(project.run_folder, load_config("pocket-demo"), PROVENANCE)
    return project


# What comes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "size", "refused"),
    [
        (picture(), (40 << 20) + 1, True),
        (picture("blue"), 1 << 20, False),
        (b"PK\3\4", (40 << 20) + 1, True),  # of an archive only its end says that it is one
    ],
)
def test_a_photo_may_have_forty_megabytes(
    project: Project, tmp_path: Path, start: bytes, size: int, refused: bool
) -> None:
    assert (uploads.MAX_BYTES, uploads.MAX_ARCHIVE_BYTES, uploads.MAX_PHOTOS) == (40 << 20, 512 << 20, 200)
    path = tmp_path / "large.png"
    with path.open("wb") as file:  # sparse
        file.write(start)
        file.truncate(size)
    (taken,) = uploads.accept_photos(project, [(path, "large.png")])
    assert ("40 MB" in taken.error) is refused
    if refused:
        with pytest.raises(UsageError, match="40 MB"):
            accept_control(project, path, "large.png")


def test_a_project_that_was_started_keeps_its_photos_and_settings(started: Project, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in started.folder.rglob("*") if path.is_file()}
    (tmp_path / "b.png").write_bytes(picture("blue"))
    for act in (
        lambda: uploads.accept_photos(started, [(tmp_path / "b.png", "b.png")]),
        lambda: uploads.remove(started, "a.png"),
        lambda: drop(started, "a.png"),
        lambda: keep(started, "a.png"),
        lambda: crop(started, "a.png", (0, 0, 20)),
        lambda: started.choose(consent=True),
    ):
        with pytest.raises(UsageError, match="has been started"):
            act()
    assert {path: path.read_bytes() for path in started.folder.rglob("*") if path.is_file()} == before


# What goes out -----------------------------------------------------------------------------------------------------

SEEN = (
    "photos/a.png",
    "views/a.jpg",
    "controls/a.png",
    "controls/seen/a.canny.png",
    "run/images/lora-2/street/0.png",
    "run/pictures/final/0000.png",
    "run/report/chart.svg",
    "run/dataset/images/a.png",
    "run/report.html",
    "run/report.md",
    "run/exports/ann.safetensors",
)
UNSEEN = (
    "choices.json",
    "photos.json",
    "project.json",
    "photos/a.txt",
    "run/run.json",
    "run/config.toml",
    "run/scores.json",
    "run/cuts.json",
    "run/events.jsonl",
    "run/votes.json",
    "run/dataset/manifest.json",
    "run/dataset/masks/a.png",
    "run/models/lora-2/pytorch_lora_weights.safetensors",
    "run/models/lora-2/README.md",
    "run/models/unet/a.png",
    "run/encoded/photos.safetensors",
    "run/images/notes.html",
    "run/report.html.png",
    "report.html",
    "a.png",
    ".hidden/a.png",
    "photos/.upload.png",
    "photos/",
    "photos",
    "",
)


def test_a_browser_may_have_pictures_reports_and_exports_and_nothing_else(started: Project) -> None:
    for name in (*SEEN, *UNSEEN):
        if Path(name).suffix:
            write_bytes(started.folder / name, picture()) if not (started.folder / name).exists() else None
    for name in SEEN:
        assert serve.allowed(started, name) == (started.folder / name).resolve()
    for name in UNSEEN:
        with pytest.raises(UsageError):
            serve.allowed(started, name)


@pytest.mark.parametrize(
    "path",
    [
        "../other/photos/a.png",
        "photos/../../other/photos/a.png",
        "/etc/passwd",
        "photos/../photos/a.png",
        "photos/./a.png",
        "photos//a.png",
        "photos/link.png",
        "photos/away/a.png",
        "photos/a.png\0.txt",
    ],
)
def test_no_path_of_a_project_leads_out_of_it(started: Project, projects: Projects, path: str) -> None:
    other = projects.create("other")
    write_bytes(other.photos_folder / "a.png", picture())
    (started.photos_folder / "link.png").symlink_to(other.photos_folder / "a.png")
    (started.photos_folder / "away").symlink_to(other.photos_folder)
    with pytest.raises(UsageError):
        serve.allowed(started, path)


def test_a_path_below_a_folder_stays_there_whatever_it_is_called(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "inner-2").mkdir()
    (inner / "out").symlink_to(tmp_path / "inner-2")
    assert below(inner) == inner
    assert below(inner, "a", "b.png") == inner / "a" / "b.png"
    assert below(inner, "a", "..", "b.png") == inner / "b.png"
    for parts in (("..",), ("..", "inner-2"), ("a", "..", ".."), ("/etc",), ("out",), ("out", "a.png"), ("a\0",)):
        with pytest.raises(UsageError):
            below(inner, *parts)


def test_a_picture_to_vote_on_tells_nothing_of_its_model(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(picture())
    assert b"lora-64" in path.read_bytes()
    shown = serve.plain(path)
    assert b"lora-64" not in shown
    with Image.open(io.BytesIO(shown)) as one, Image.open(path) as other:
        assert one.info.keys() <= {"loop", "background", "timestamp", "duration"}
        assert one.convert("RGB").tobytes() == other.convert("RGB").tobytes()


def test_a_small_copy_has_no_exif_and_is_made_once(started: Project) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    Image.new("RGB", (800, 600), "red").save(started.photos_folder / "b.jpg", exif=exif)
    answer = serve.answer(started, started.photos_folder / "b.jpg", {"w": "320"}, {})
    assert isinstance(answer, FileResponse)
    small = Path(answer.path)
    with Image.open(small) as image:
        assert (image.size, dict(image.getexif())) == ((320, 240), {})
    assert b"at home" not in small.read_bytes()
    before = small.stat().st_mtime_ns
    serve.answer(started, started.photos_folder / "b.jpg", {"w": "320"}, {})
    assert small.stat().st_mtime_ns == before


# Jobs --------------------------------------------------------------------------------------------------------------


def job_in(queue: Queue, **values: object) -> Job:
    job = replace(Job("000001", "Ann", "run", created=1.0), **values)  # type: ignore[arg-type]
    queue.write(job)
    return job


@pytest.mark.parametrize(
    ("state", "wish", "asked", "then"),
    [
        ("queued", "", "pause", ("paused", "")),
        ("queued", "", "cancel", ("cancelled", "")),
        ("paused", "", "cancel", ("cancelled", "")),
        ("running", "", "pause", ("pausing", "pause")),
        ("running", "", "cancel", ("stopping", "cancel")),
        ("pausing", "pause", "cancel", ("stopping", "cancel")),
        ("stopping", "cancel", "pause", ("stopping", "cancel")),  # it is given up, whatever is asked after that
        ("stopping", "cancel", "cancel", ("stopping", "cancel")),
        ("done", "", "pause", None),
        ("failed", "", "cancel", None),
        ("cancelled", "cancel", "pause", None),
    ],
)
def test_what_is_asked_of_a_job(
    queue: Queue, project: Project, state: str, wish: str, asked: str, then: tuple[str, str] | None
) -> None:
    job = job_in(queue, state=state, wish=wish)
    if then is None:
        with pytest.raises(UsageError):
            queue.ask(job.id, asked)  # type: ignore[arg-type]
        return
    found = queue.ask(job.id, asked)  # type: ignore[arg-type]
    assert (found.state, found.wish) == then
    assert bool(found.ended) is (found.state == "cancelled")


def test_a_process_is_a_job_s_if_it_began_when_the_job_did(queue: Queue, project: Project) -> None:
    """A number alone may come to be another's."""
    born = born_at(os.getpid())
    for process, alive in (((os.getpid(), born), True), ((os.getpid(), born - 5), False), ((2**22 + 1, born), False)):
        assert Shift(queue, job_in(queue, state="running", process=process)).alive() is alive
    assert not Shift(queue, job_in(queue, state="running")).alive()


def test_a_run_is_live_while_its_process_is(tmp_path: Path) -> None:
    born = born_at(os.getpid())
    told = {"process": os.getpid(), "time": born + 1, "stage": "train.unet"}
    for changed, live in (
        ({}, True),
        ({"time": born - 1}, False),
        ({"process": 2**22 + 1}, False),
        ({"time": "x"}, False),
    ):
        write_json(tmp_path / "live.json", told | changed)
        assert bool(live_of(tmp_path)) is live


def test_what_was_begun_goes_before_what_waits(queue: Queue, project: Project) -> None:
    job_in(queue, state="queued")
    job_in(queue, id="000002", state="running")
    job_in(queue, id="000003", state="queued")
    assert next_job(queue) == queue.job("000002")


@pytest.mark.parametrize("consent", [True, False])
def test_a_job_is_begun_with_the_consent_that_was_given(queue: Queue, project: Project, consent: bool) -> None:
    """Also when it was taken back while the job waited."""
    project.choose(consent=True)
    job = queue.submit(project, "run")
    project.choose(consent=consent)
    seen: list[list[str]] = []

    class Child:
        pid, returncode = os.getpid(), 0

        def __init__(self, words: list[str], **_: object) -> None:
            seen.append(words)

        def poll(self) -> int:
            return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portrayal.studio.worker.subprocess.Popen", Child)
        Shift(queue, job).carry_out()
    assert [("--consent" in words) for words in seen] == [True] * consent
    assert queue.job(job.id).state == "failed"
    error = queue.job(job.id).error
    assert error is not None
    assert ("consent" in error.message) is not consent


def test_a_project_is_gone_from_sight_at_once_when_it_is_deleted(
    projects: Projects, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it is emptied, it is no project with half of its photos; the rest goes the next time."""

    class KilledError(BaseException):
        pass

    def killed(folder: Path, **_: object) -> None:
        if folder.name.startswith("deleted-") or folder == project.folder:
            (project.folder / "photos" / "a.png").unlink(missing_ok=True)
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("portrayal.studio.projects.shutil.rmtree", killed)
        projects.delete("Ann")
    assert projects.all() == []
    assert not project.folder.exists()
    projects.sweep()
    assert not list(projects.root.rglob("a.png"))


# Votes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def painted(projects: Projects) -> Project:
    """A run that a command made, of three models that have painted; who painted a picture is told by its colour."""
    folder = projects.root / "made"
    settings = [
        "study.ranks=[2]",
        "study.learning_rates=[1]",
        "generation.num_images_per_scene=2",
        "generation.scenes={a = '{subject}', b = '{subject} at sea'}",
    ]
    run = Run.create(folder, load_config("pocket-demo", settings), PROVENANCE)
    for model in ("base", "unet", "lora-2"):
        for scene in ("a", "b"):
            for number in range(2):
                Image.new("RGB", (8, 8), COLOURS[model]).save(made_at(run.image_path(model, scene, number)))
    return projects.open("made")


COLOURS = {"base": "red", "unet": "blue", "lora-2": "green"}


def made_at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def colour(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        found = image.convert("RGB").getpixel((0, 0))
    assert isinstance(found, tuple)
    return tuple(map(int, found))


def test_a_vote_is_counted_for_the_model_whose_picture_was_chosen(painted: Project) -> None:
    """By somebody who likes green best, then blue; and who cannot tell the first picture of a scene."""
    liking = [colour_of(COLOURS[name]) for name in ("lora-2", "unet", "base")]
    while (pair := votes.next_pair(painted)) is not None:
        sides = {"a": pair.a, "b": pair.b}
        assert {side: votes.picture_of(painted, pair.id, side) for side in ("a", "b")} == sides  # type: ignore[arg-type]
        best = min(sides, key=lambda side: liking.index(colour(sides[side])))
        told = votes.vote(painted, pair.id, "equal" if pair.a.stem == "0" else best)  # type: ignore[arg-type]
        assert [colour_of(COLOURS[name]) for name in told] == [colour(pair.a), colour(pair.b)]
    counted = {(one.a, one.b): (one.wins, one.losses, one.ties, one.share) for one in votes.tally(painted)}
    assert counted == {
        ("base", "unet"): (0, 2, 2, 0.0),
        ("base", "lora-2"): (0, 2, 2, 0.0),
        ("unet", "lora-2"): (0, 2, 2, 0.0),
    }
    kept = json.loads((painted.run_folder / "votes.json").read_text())
    assert len(kept["votes"]) == 12
    for one in kept["votes"]:
        best = min((one["left"], one["right"]), key=["lora-2", "unet", "base"].index)
        assert one["winner"] == (None if one["seed"] == 0 else best)


def colour_of(name: str) -> tuple[int, ...]:
    return ImageColor.getrgb(name)
