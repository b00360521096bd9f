"""Every function that writes into a run, a project or a store: files are written beside, flushed, renamed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from portrayal import checksums, files
from portrayal.data.class_images import ensure_class_images
from portrayal.data.encode import EncodedDataset
from portrayal.data.manifest import save_dataset
from portrayal.photos import Prepared, PreparedPhoto
from portrayal.report.build import _write_files
from portrayal.report.pictures import Pictures
from portrayal.report.svg import Chart
from portrayal.run import Run
from portrayal.scale.storage import Store
from portrayal.settings import load_config
from portrayal.stages.control import save as save_control
from portrayal.stages.data import computed_once
from portrayal.stages.export import export_photos
from portrayal.stages.onlook import settle_end
from portrayal.stages.steps import keep_readings, settle
from portrayal.studio import files as studio_files
from portrayal.studio.controls import accept_control
from portrayal.studio.photos import drop
from portrayal.studio.projects import Project, Projects
from portrayal.studio.uploads import accept_photos, remove
from portrayal.training.checkpoint import save_checkpoint
from portrayal.training.health import Adaptation
from tests.writes import Writes, watched

SOURCE = Path(__file__).parents[1] / "src" / "portrayal"
PHOTO = next(iter(sorted((Path(__file__).parents[1] / "examples" / "photos").glob("*.jpg"))))
PROVENANCE = {"base": {"name": "pocket", "sha256": "0"}, "photos": ["a"], "consent": "not stated"}


def run_in(folder: Path) -> Run:
    config = load_config("pocket-demo", ["study.ranks=[2]", "study.learning_rates=[1]"])
    return Run.create(folder / "run", config, PROVENANCE)


def with_file(writing: Callable[..., Any], act: Callable[[Path], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with writing(folder / "inner" / "a") as temporary:
            act(temporary)

    return write


def folder_of_files(temporary: Path) -> None:
    (temporary / "deep" / "er").mkdir(parents=True)
    (temporary / "deep" / "er" / "a.txt").write_text("a")
    save_file({"a": torch.zeros(3)}, temporary / "a.safetensors")


def class_images(folder: Path) -> None:
    def paint(numbers: Any) -> Iterator[Image.Image]:
        return (Image.new("RGB", (8, 8), (number, 0, 0)) for number in numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(folder))
        ensure_class_images("key", 3, paint, batch_size=2)
    (folder / "class-images" / "key" / ".lock").unlink(missing_ok=True)


def prepared() -> Prepared:
    photo = PreparedPhoto(
        id="a" * 12,
        source_name="a.jpg",
        width=16,
        height=16,
        crop=(0, 0, 16, 16),
        shape=(16, 16),
        upscaled=False,
        caption="a photo of sks woman",
        caption_from="template",
        fold=0,
        near_duplicate_of=None,
        masked=True,
    )
    mask = Image.new("L", (16, 16), 255)
    return Prepared([photo], {photo.id: Image.new("RGB", (16, 16))}, [], masks={photo.id: mask})


def dataset(folder: Path) -> None:
    instance = "a photo of sks woman"
    save_dataset(folder / "dataset", prepared(), resolution=16, instance_prompt=instance, class_noun="woman", seed=0)


def training_folder(folder: Path) -> None:
    run = run_in(folder)
    save_dataset(run.dataset_folder, prepared(), resolution=16, instance_prompt="a", class_noun="woman", seed=0)
    shutil.rmtree(folder / "kohya", ignore_errors=True)
    export_photos(run, folder / "kohya")


def encoded(folder: Path) -> None:
    data = EncodedDataset(("a",), *(torch.zeros(1, 4) for _ in range(4)))
    shutil.rmtree(folder / "run" / "encoded", ignore_errors=True)
    computed_once(run_in(folder), "photos", (16, 16), lambda: data)


def chosen_step(folder: Path) -> None:
    run = run_in(folder)
    trial = run.config.trials["lora-2"]
    model = run.model_folder("lora-2")
    files.write_json(model / "method.json", {"step": 3})
    for step in (2, 3):
        with files.atomic_folder(model / "steps" / str(step)) as temporary:
            (temporary / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
        files.write_json(model / "steps" / str(step) / "heldout.json", {"losses": {"a": [[1.0]]}, "identity": None})
    keep_readings(model)
    settle(run, trial, 2)


def kept_readings(folder: Path) -> None:
    run = run_in(folder)
    study = run.config.study.model_copy(update={"keep_readings": True})
    run = replace(run, config=run.config.model_copy(update={"study": study}))
    shutil.rmtree(run.model_folder("lora-2") / "readings", ignore_errors=True)
    files.write_json(run.model_folder("lora-2") / "method.json", {"step": 3})
    files.write_json(run.model_folder("lora-2") / "steps" / "2" / "heldout.json", {"losses": {}, "identity": None})
    settle(run, run.config.trials["lora-2"], 3)


def report_files(folder: Path) -> None:
    pictures = Pictures()
    pictures.files["a.webp"] = b"picture"
    chart = Chart.__new__(Chart)
    object.__setattr__(chart, "file", "report/chart-a.svg")
    object.__setattr__(chart, "content", b"<svg/>")
    _write_files(folder / "report", pictures, [chart])


def project_in(folder: Path) -> Project:
    projects = Projects(folder)
    return projects.open("Ann") if (folder / "Ann").is_dir() else projects.create("Ann")


def photos_of_a_project(folder: Path) -> None:
    project = project_in(folder)
    for name in [path.name for path in project.photos]:
        remove(project, name)
    (kept,) = accept_photos(project, [(PHOTO, PHOTO.name)])
    assert kept.error == ""
    drop(project, kept.kept)


def control_of_a_project(folder: Path) -> None:
    project = project_in(folder)
    shutil.rmtree(project.folder / "controls", ignore_errors=True)
    accept_control(project, PHOTO, "a.jpg")


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda folder: files.write_text(folder / "inner" / "a.txt", "a"),
    "bytes": lambda folder: files.write_bytes(folder / "a.bin", b"a"),
    "json": lambda folder: files.write_json(folder / "a.json", {"a": 1}),
    "json of the studio": lambda folder: studio_files.write_json(folder / "inner" / "a.json", {"a": 1}),
    "a file": with_file(files.atomic_path, lambda path: save_file({"a": torch.zeros(3)}, path)),
    "a folder": with_file(files.atomic_folder, folder_of_files),
    "a new run": run_in,
    "a record": lambda folder: run_in(folder).record(consent="stated by the user"),
    "a finished stage": lambda folder: run_in(folder).mark_finished("train.unet", {}, 1.0),
    "checksums": lambda folder: checksums.keep(run_in(folder).folder),
    "a checkpoint": lambda folder: save_checkpoint(folder / "c", {"step": 1, "weight": torch.zeros(4)}),
    "an adaptation": lambda folder: Adaptation(parts=2).write(folder),
    "where trainings end": lambda folder: settle_end(run_in(folder), ["lora-2"], 3),
    "a chosen step": chosen_step,
    "all readings": kept_readings,
    "prepared photos": dataset,
    "photos for other trainers": training_folder,
    "encoded photos": encoded,
    "class images": class_images,
    "a control image": lambda folder: save_control(Image.new("RGB", (8, 8)), folder / "control" / "canny.png"),
    "pictures of a report": report_files,
    "a batch's record": lambda folder: Store(str(folder)).write("batch/ann.json", b"{}"),
    "a project's choices": lambda folder: project_in(folder).choose(consent=True),
    "a project's photos": photos_of_a_project,
    "a project's control image": control_of_a_project,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_appears_whole_and_is_on_the_disk_by_then(name: str, tmp_path: Path) -> None:
    """The first time, and over what was there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for again in (False, True):
        with watched(folder) as writes:
            WRITERS[name](folder)
        assert writes.faults == []
        assert writes.renamed or again


def test_who_watches_sees_what_is_written_in_place_or_not_flushed(tmp_path: Path) -> None:
    def fault(act: Callable[[], object]) -> list[str]:
        with watched(tmp_path) as writes:
            act()
        for path in tmp_path.iterdir():
            path.unlink()
        return writes.faults

    def unflushed() -> None:
        (tmp_path / ".a.txt.1.tmp").write_text("a")
        os.replace(tmp_path / ".a.txt.1.tmp", tmp_path / "a.txt")  # noqa: PTH105 - as watched
        files.flush_folder(tmp_path)

    def unnamed() -> None:
        (tmp_path / ".a.txt.1.tmp").write_text("a")
        files.flush(tmp_path / ".a.txt.1.tmp")
        (tmp_path / ".a.txt.1.tmp").replace(tmp_path / "a.txt")

    assert fault(lambda: (tmp_path / "a.txt").write_text("a")) == ["a.txt was written in its place"]
    assert fault(lambda: save_file({"a": torch.zeros(1)}, tmp_path / "a")) == ["a was written in its place"]
    assert fault(unflushed) == ["a.txt took its place before it was flushed"]
    assert fault(unnamed) == ["the names in . were not flushed"]
    assert fault(lambda: files.write_text(tmp_path / "a.txt", "a")) == []


def order(writes: Writes) -> list[str]:
    return [path.relative_to(writes.folder).as_posix() for path in writes.renamed]


def test_what_says_that_all_is_there_comes_last(tmp_path: Path) -> None:
    """A folder without `run.json` is no run, and a photo without its caption has none."""
    (tmp_path / "studio").mkdir()
    with watched(tmp_path) as writes:
        run = run_in(tmp_path)
    assert order(writes) == ["run/config.toml", "run/run.json"]
    assert run.folder.is_dir()
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(PHOTO, "a.jpg")
        packed.writestr("a.txt", "a photo of sks woman in red")
    project = Projects(tmp_path / "studio").create("Ann")
    with watched(project.folder) as writes:
        accept_photos(project, [(archive, "photos.zip")])
    found = order(writes)
    assert sorted(found[:2]) == sorted(["photos/a.txt", next(name for name in found if name.startswith("views/"))])
    assert found[2:] == ["photos/a.jpg", "photos.json"]


# Nowhere else ------------------------------------------------------------------------------------------------------

WHOLE = ("atomic_path", "atomic_folder")
ELSEWHERE = {
    "files.py": {"append_line", "flush"},
    "live.py": {"Pulse.write"},  # nothing depends on it, and it is renamed
    "data/encode.py": {"EncodedDataset.save"},  # into a path of its caller's
    "data/manifest.py": {"_png", "_write"},  # into memory; into a folder of its caller's
    "formats/kohya.py": {"save_kohya_bytes"},  # into memory
    "formats/png.py": {"png_bytes"},  # into memory
    "models/methods.py": {"save_diffusers", "write_lora"},  # into a folder of its callers'
    "report/pictures.py": {"small_copy"},  # into memory
    "scale/executors.py": {"carried_out"},  # a log
    "scale/launch.py": {"start"},  # into a folder that is deleted
    "scale/on_ray.py": {"unpacked", "work"},  # into a folder that is deleted; a log
    "scale/outcomes.py": {"thumbnail"},  # into memory
    "stages/hub.py": {"gathered", "sample_pictures"},  # into a folder that is deleted
    "studio/serve.py": {"plain"},  # into memory
    "studio/uploads.py": {"accept_content"},  # beside, and renamed once it was read
    "studio/worker.py": {"ensure_worker", "reserve", "Shift.start"},  # logs, and room that is held
    "training/keeping.py": {"save", "save_weights"},  # flushes a log; into a folder of its callers'
    "cli/__init__.py": {"main"},  # where nothing is kept
}
"""Functions that write by themselves."""


WRITING = re.compile(r"write_text|write_bytes|save|open\(|dump|copyfile|copy2")


def functions_that_write(tree: ast.AST, within: str = "", whole: bool = False) -> Iterator[str]:
    """Functions of a module that write by themselves."""
    for node in ast.iter_child_nodes(tree):
        name, inside = within, whole
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name, inside = f"{within}.{node.name}".lstrip("."), False
        elif isinstance(node, ast.With):
            inside = whole or any(called(item.context_expr) in WHOLE for item in node.items)
        elif isinstance(node, ast.Call) and not whole and writes(node):
            yield within
        yield from functions_that_write(node, name, inside)


def called(node: ast.expr) -> str:
    """The last name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def writes(node: ast.Call) -> bool:
    """Whether a call writes a file."""
    name, method = called(node), isinstance(node.func, ast.Attribute)
    texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if name == "open":
        return any(len(text) < 4 and set(text) & set("wax+") for text in texts)
    if name in ("write_text", "write_bytes"):
        return method  # else it is one of `files`
    return name in ("save_file", "savez", "dump", "copyfile", "copy2") or (
        name == "save" and method and bool(node.args)
    )


def test_no_function_but_those_that_are_named_writes_by_itself() -> None:
    """All others write through `atomic_path` or `atomic_folder`, or by the functions of `files`."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for function in functions_that_write(ast.parse(text)) if WRITING.search(text) else ():
            found.setdefault(path.relative_to(SOURCE).as_posix(), set()).add(function)
    assert found == ELSEWHERE
