"""A studio with one project of real photos, and one whose run is done."""

from __future__ import annotations

import gc
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from portrayal.run import Run
from portrayal.studio.jobs import Queue
from portrayal.studio.projects import Project, Projects
from portrayal.studio.worker import STARTED

TINY = Path(__file__).parents[1] / "tiny.toml"


@contextmanager
def loops_of_gradio() -> Iterator[None]:
    """Gradio opens event loops when it is imported and when a page is made, and forgets them unclosed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and their children share two cores with the tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of projects; whatever still works on it afterwards is ended."""
    folder = tmp_path / "studio"
    yield folder
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()) and process.pid != os.getpid():
            process.kill()
    for worker in STARTED:
        worker.wait(10)
    STARTED.clear()


@pytest.fixture
def projects(root: Path) -> Projects:
    """All projects; their settings start from the smallest."""
    return Projects(root, str(TINY))


@pytest.fixture
def queue(projects: Projects) -> Queue:
    return Queue(projects.root, projects.recipe)


@pytest.fixture
def ann(projects: Projects, photos: Path) -> Project:
    """A project with six photos, ready to be started."""
    from portrayal.studio.uploads import accept_photos

    project = projects.create("Ann")
    taken = accept_photos(project, [(path, path.name) for path in sorted(photos.iterdir())])
    assert [one.error for one in taken] == [""] * 6
    project.choose(quality="quick", base="pocket", class_noun="woman", consent=True, settled=True)
    return project


@pytest.fixture
def finished(projects: Projects, tiny_run: Run) -> Project:
    """A run that was made by a command, as a project."""
    shutil.copytree(tiny_run.folder, projects.root / "made")
    return projects.open("made")


@pytest.fixture
def until() -> Callable[[Callable[[], bool], float], None]:
    """Waits for something to come true."""

    def wait(true: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not come true"
            time.sleep(0.05)

    return wait
