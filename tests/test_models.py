"""The models of others: listed, fetched, checked; and the network asked once, briefly, or not at all."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import portrayal
from portrayal.cli import app
from portrayal.errors import UsageError, WeightsError
from portrayal.models import store
from portrayal.models.catalog import CATALOG, file_size, known_model
from portrayal.models.store import fetch, look_for, online, verify
from portrayal.run import write_json


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub's, and none of ours."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that were put to the network, none of which is answered."""
    questions: list[str] = []

    def nobody(*_: object) -> bool:
        questions.append("online?")
        return False

    monkeypatch.setattr(store, "online", nobody)
    return questions


def put(hub: Path, name: str) -> Path:
    """Files of a known model as the hub's library keeps them: contents by their hash, links by their name."""
    model = known_model(name)
    assert model is not None
    repository = hub / f"models--{model.hub_id.replace('/', '--')}"
    folder = repository / "snapshots" / (model.revision or "0" * 40)
    (repository / "blobs").mkdir(parents=True)
    for number, pattern in enumerate(model.files):
        file = folder / pattern.replace("*", "a")
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"a": torch.full((2,), float(number))}, file)
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        file.replace(blob)
        file.symlink_to(blob)
    return folder


def test_every_model_says_its_job_size_and_licence() -> None:
    assert len({model.name for model in CATALOG}) == len({model.hub_id for model in CATALOG}) == len(CATALOG)
    for model in CATALOG:
        assert model.job
        assert model.licence
        assert model.megabytes > 0
        assert model.files
        assert "nc" not in model.licence.split("-")  # nothing non-commercial without being asked for


@pytest.mark.parametrize(("megabytes", "said"), [(4265, "4.3 GB"), (346, "346 MB"), (0.23, "230 KB")])
def test_sizes_are_said_as_people_say_them(megabytes: float, said: str) -> None:
    assert file_size(megabytes) == said


def test_what_is_here_is_found_and_checked(hub: Path) -> None:
    model = known_model("canny")
    assert model is not None
    assert look_for(model).state == verify(model).state == "missing"
    folder = put(hub, "canny")

    assert look_for(model).state == verify(model).state == "here"

    blob = (folder / "config.json").resolve()
    blob.write_bytes(blob.read_bytes() + b"!")
    assert verify(model).state == "damaged"
    assert "config.json" in verify(model).problems[0]


def test_the_commands_list_and_check(hub: Path) -> None:
    folder = put(hub, "yunet")
    listed = CliRunner().invoke(app, ["models", "list", "--json"])
    states = {row["name"]: row["state"] for row in json.loads(listed.stdout)["models"]}
    assert states["yunet"] == "here"
    assert states["sd15"] == "missing"
    shown = CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "200"})
    assert "creativeml-openrail-m" in shown.stdout
    assert "4.3 GB" in shown.stdout
    assert CliRunner().invoke(app, ["models", "verify"]).exit_code == 0

    (folder / "face_detection_yunet_2023mar.onnx").resolve().write_bytes(b"")
    damaged = CliRunner().invoke(app, ["models", "verify"])
    assert damaged.exit_code == 5
    assert "portrayal models fetch yunet" in damaged.stderr
    missing = CliRunner().invoke(app, ["models", "verify", "sd15"])
    assert missing.exit_code == 5
    assert "sd15 is missing" in missing.stderr


def test_an_unknown_model_is_refused_with_the_nearest_name(hub: Path) -> None:
    with pytest.raises(UsageError, match="did you mean vitpose"):
        portrayal.fetch_models(["vitpos"])
    with pytest.raises(UsageError, match="no known model"):
        portrayal.verify_models(["x/y"])


def test_fetching_without_a_network_says_size_licence_and_command(hub: Path, asked: list[str]) -> None:
    notes: list[str] = []
    with pytest.raises(WeightsError, match="cannot be reached") as caught:
        portrayal.fetch_models(["auraface"], progress=lambda event: notes.append(event.message))
    assert "261 MB" in caught.value.cause
    assert "portrayal models fetch auraface" in caught.value.remedy
    assert any("apache-2.0" in note for note in notes)
    assert asked == ["online?"]


def test_what_was_fetched_whole_is_used_without_asking(hub: Path, asked: list[str]) -> None:
    model = known_model("dinov2")
    assert model is not None
    folder = put(hub, "dinov2")
    write_json(store.note_of(model.hub_id, model.revision, model.files), {"folder": str(folder)})

    assert fetch(model.hub_id, model.revision, model.files) == folder
    assert asked == []

    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError):
        fetch(model.hub_id, model.revision, [*model.files, "other.json"])
    assert asked == ["online?"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"folder": 1}'])
def test_a_damaged_note_is_no_note(hub: Path, asked: list[str], content: str) -> None:
    model = known_model("dinov2")
    assert model is not None
    note = store.note_of(model.hub_id, model.revision, model.files)
    note.parent.mkdir(parents=True)
    note.write_text(content)

    with pytest.raises(WeightsError):
        fetch(model.hub_id, model.revision, model.files)


@pytest.mark.parametrize("slow", ["name", "connection"])
def test_the_one_question_takes_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    """A name server that gives no answer is waited for no longer than a host that gives none."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def never(*_: object, **__: object) -> None:
        time.sleep(6)
        raise OSError("timed out")

    monkeypatch.setattr(socket, "getaddrinfo" if slow == "name" else "create_connection", never)
    online.cache_clear()
    started = time.monotonic()

    assert not online()

    assert time.monotonic() - started < 4  # two, on a busy machine; not six
    assert online() is False  # and is not asked again
    assert time.monotonic() - started < 4.5
    online.cache_clear()
    monkeypatch.delenv("HF_HUB_OFFLINE")


WATCHED = """
import socket, sys
def told(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        if not (isinstance(address, (str, bytes)) and event == "socket.connect"):
            print("REACHED OUT", event, address, file=sys.stderr)
sys.addaudithook(told)
from portrayal.cli import main
main()
"""


def test_nothing_reaches_out_where_nothing_is_needed(photos: Path, tmp_path: Path) -> None:
    """A whole run on the embedded base, in a process whose every connection is heard."""
    tiny = Path(__file__).with_name("tiny.toml")
    command = [
        "run",
        str(photos),
        "--base",
        "pocket",
        "--recipe",
        str(tiny),
        "--consent",
        "--out",
        str(tmp_path / "run"),
    ]
    command += ["--set", "study.ranks=[2]", "--set", "study.folds=1", "--set", "study.full_unet=false"]
    done = subprocess.run([sys.executable, "-c", WATCHED, *command], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert "REACHED OUT" not in done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
