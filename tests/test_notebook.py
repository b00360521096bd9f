"""The notebook: its kept outputs are of the cells it has, and it runs from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from scripts.notebook import PAGE, executed, notebook

ROOT = Path(__file__).parents[1]
SMALL = [
    "method.unet.max_train_steps=2",
    "method.lora.max_train_steps=2",
    "training.num_class_images=2",
    "study.ranks=[2,4]",
    "study.learning_rates=[1]",
    "study.folds=1",
    "study.readings=1",
    "study.final=false",
    "generation.num_inference_steps=2",
    "generation.num_images_per_scene=1",
    "control.num_images=1",
    "control.scales=[0,1]",
    "evaluation.num_timesteps=2",
]


def test_the_kept_notebook_is_the_one_its_script_writes_with_the_outputs_of_a_whole_run() -> None:
    kept, written = nbformat.read(PAGE, as_version=4), notebook()
    said = "stale; write and run it anew: python -m scripts.notebook"
    assert [cell.source for cell in kept.cells] == [cell.source for cell in written.cells], said
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), said
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not [word for word in ("/tmp/", "site-packages") if word in json.dumps(outputs)]


def test_it_runs_from_the_first_cell_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = executed(notebook({"RUN": str(tmp_path / "run"), "SETTINGS": SMALL}), timeout=600)
    assert not [o for cell in book.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert (tmp_path / "run" / "report.html").is_file()
    assert list((tmp_path / "run" / "exports").rglob("*.safetensors"))
