"""Shared by all tests: the embedded base, a few drawn photos, and one small run of everything."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from portrayal.config import BaseConfig, Config
from portrayal.pocket import WEIGHTS
from portrayal.settings import load_config

for library in ("DIFFUSERS", "TRANSFORMERS"):  # as the command line does; read when they are imported
    os.environ.setdefault(f"{library}_VERBOSITY", "error")

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Class images are kept in a folder of this session's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def planted_token() -> Iterator[str]:
    """A hub token in the environment, as most have: it must not turn up anywhere."""
    token = "hf_plantedToBeLookedFor"  # nobody's
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", token)
        yield token


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and sums keep one order."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six of the example photos."""
    folder = tmp_path_factory.mktemp("shoebox") / "photos"
    folder.mkdir()
    for path in sorted(PHOTOS.glob("*.jpg"))[:6]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def needs_pose() -> None:
    """Skips where the embedded base has no openpose ControlNet or pose reader yet."""
    if missing := missing_for_poses():
        pytest.skip(f"the embedded base lacks {' and '.join(missing)}")


def missing_for_poses() -> list[str]:
    """Folders that the embedded base lacks for poses."""
    return [name for name in ("controlnet_openpose", "pose") if not (WEIGHTS / name / "config.json").is_file()]


@pytest.fixture(scope="session")
def pocket():
    """The embedded base, in fp32 on the CPU: whoever attaches something gives it back as it was."""
    import torch

    from portrayal.models.base import load_base
    from portrayal.models.source import find_base

    return load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def encoded(pocket):
    """Four photos and two pictures that stand for class images, as the training loop reads them."""
    from portrayal.data.encode import encode
    from portrayal.generation.annotators import fit
    from portrayal.training.task import TrainingData

    squares = []
    for path in sorted(PHOTOS.glob("*.jpg"))[:6]:
        with Image.open(path) as image:
            squares.append(fit(image, (pocket.resolution, pocket.resolution)))
    rows = [(f"photo{n}", image, "a photo of sks woman") for n, image in enumerate(squares[:4])]
    others = [(f"class{n}", image, "a photo of a woman") for n, image in enumerate(squares[4:])]
    return TrainingData((encode(pocket, rows),), (encode(pocket, others),))


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """The smallest settings that go through every stage; without poses where the embedded base cannot read them."""
    return load_config(str(TINY), ['control.kinds=["canny"]'] if missing_for_poses() else [])


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that all its workers share; of its only process where pytest-xdist starts none."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny_run(photos: Path, tiny_config: Config, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """One run of everything; tests read it, and copy it before they change it.

    The first worker makes it, and each has a copy: tests of two workers may lock it at once.
    """
    from portrayal import portray
    from portrayal.run import Run

    shared, made = shared_folder / "tiny", shared_folder / "tiny.made"
    with FileLock(shared_folder / "tiny.lock"):
        if not made.is_file():
            portray(photos, tiny_config, shared, consent=True)
            made.touch()
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(shared, folder)
    before = files_of(folder)
    yield Run.open(folder)
    assert files_of(folder) == before, "a test changed the shared run instead of a copy"


def files_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file below a folder: other ones once something was written."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found.items()}


@pytest.fixture
def hashes() -> Callable[[Path], dict[str, str]]:
    """SHA-256 of every file below a folder, by relative path."""

    def read(folder: Path, pattern: str = "*") -> dict[str, str]:
        files = sorted(path for path in folder.rglob(pattern) if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return read
