"""Publishing: privately unless asked, no photo unasked, and what goes is told before it goes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from typer.testing import CliRunner

import portrayal
from portrayal import Run
from portrayal.cli import app
from portrayal.errors import UsageError, WeightsError
from portrayal.models import store
from portrayal.stages.hub import Publication, gathered


@pytest.fixture
def run(tiny_run, tmp_path) -> Run:
    shutil.copytree(tiny_run.folder, tmp_path / "ann")
    return Run.open(tmp_path / "ann")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Hears what would be sent."""
    sent: list[tuple[str, Any]] = []

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> None:
            sent.append(("create", {"repo_id": repo_id, **options}))

        def upload_folder(self, *, folder_path: Path, **options: Any) -> None:
            files = sorted(str(path.relative_to(folder_path)) for path in folder_path.rglob("*") if path.is_file())
            sent.append(("upload", {"files": files, **options}))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(store, "online", lambda: True)
    return sent


def test_a_lora_goes_privately_with_card_and_pictures_and_without_photos(run: Run, hub) -> None:
    told: list[Publication] = []

    address = portrayal.publish(run, "me/ann", "lora-4", agree=lambda publication: told.append(publication) or True)

    assert address == "https://huggingface.co/me/ann"
    assert hub[0] == ("create", {"repo_id": "me/ann", "private": True, "exist_ok": True})
    files = hub[1][1]["files"]
    assert files == list(told[0].files)
    assert {"README.md", "pytorch_lora_weights.safetensors", "ann-lora-4.safetensors"} <= set(files)
    assert any(file.startswith("samples/") for file in files)
    assert not any(file.startswith("photos/") for file in files)
    assert "private" in told[0].lines()[0]
    assert not (run.folder / "exports").exists()


def test_the_card_names_scores_samples_and_no_path(run: Run) -> None:
    with gathered(run, "me/ann", "lora-4", private=False, photos=False) as publication:
        card = (publication.folder / "README.md").read_text()
        front = yaml.safe_load(card.split("---")[1])
        assert "PUBLIC" in publication.lines()[0]
        assert all((publication.folder / row["output"]["url"]).is_file() for row in front["widget"])
    assert front["instance_prompt"] in card
    assert "<Gallery />" in card
    assert "Likeness to held-out photos" in card
    assert json.loads((run.folder / "scores.json").read_text())["verdict"]["sentence"] in card
    assert str(run.folder) not in card


def test_a_full_unet_goes_as_a_whole_pipeline_and_photos_where_asked(run: Run) -> None:
    with gathered(run, "me/ann", "unet", private=True, photos=True) as publication:
        files = set(publication.files)
    assert {"model_index.json", "unet/config.json", "vae/config.json"} <= files
    assert sum(file.startswith("photos/") for file in files) >= 3


def test_cards_in_the_run_know_the_scores(run: Run) -> None:
    assert "## Scores" in (run.model_folder("lora-4") / "README.md").read_text()


def test_nothing_goes_without_consent_or_against_the_answer(run: Run, hub) -> None:
    assert portrayal.publish(run, "me/ann", agree=lambda _: False) is None
    run.record(consent="not stated")
    with pytest.raises(UsageError, match="does not record"):
        portrayal.publish(run, "me/ann")
    assert hub == []
    assert portrayal.publish(run, "me/ann", consent=True) is not None


def test_without_a_network_nothing_is_uploaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "online", lambda: False)
    with pytest.raises(WeightsError, match="cannot be reached"):
        portrayal.publish(run, "me/ann", "lora-4")


def test_the_command_asks_and_takes_yes(run: Run, hub) -> None:
    refused = CliRunner().invoke(app, ["publish", str(run.folder), "me/ann"])
    assert refused.exit_code == 2
    assert hub == []
    done = CliRunner().invoke(app, ["publish", str(run.folder), "me/ann", "--yes", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["published"] == "https://huggingface.co/me/ann"
    assert "README.md" in done.stderr
