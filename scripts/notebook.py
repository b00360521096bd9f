"""Write notebooks/portrayal.ipynb and run it: `python -m scripts.notebook`; its outputs are kept in it.

About ten minutes on two CPU cores. `--blank` writes it without running. A test runs it with the smallest settings.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "notebooks" / "portrayal.ipynb"

CELLS: list[tuple[str, str]] = [
    (
        "markdown",
        """# Portrayal: a person from a few photos, cell by cell

The experiment that the project began with: DreamBooth on the photos of one person, the full UNet and LoRAs at several
ranks, five scenes, a ControlNet, and a comparison. Here it runs on `pocket`, the base inside the package, which paints
drawings of 128 pixels on the CPU in minutes. **For Stable Diffusion 1.5 change one line**, `BASE = "sd15"`, on a
machine with a GPU (Colab: *Runtime → Change runtime type → GPU*).""",
    ),
    (
        "code",
        """# On Colab, or where it is not installed: from a wheel uploaded beside this notebook, or from the index.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("portrayal") is None:
    package = sorted(map(str, Path().glob("portrayal-*.whl")))[-1:] or ["portrayal"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *package], check=True)  # torch is kept as it is""",
    ),
    (
        "parameters",
        """BASE = "pocket"  # "sd15" for Stable Diffusion 1.5 on a GPU
PHOTOS = "examples/photos"  # a folder or .zip of ten to twenty photos of one person
CLASS = "woman"  # what the person is: woman, man, person, dog, …
RUN = "runs/notebook"
SETTINGS = ["study.folds=1", "study.readings=3", "study.final=false"]  # quick: each model is trained once""",
    ),
    (
        "code",
        """import json
from pathlib import Path

from IPython.display import Markdown, display
from PIL import Image

import portrayal


def show(paths, columns=5, side=128):
    \"\"\"Pictures in a grid, as a JPEG.\"\"\"
    rows = -(-len(paths) // columns)
    grid = Image.new("RGB", (columns * side, rows * side), "white")
    for place, path in enumerate(paths):
        with Image.open(path) as picture:
            picture.thumbnail((side, side))
            grid.paste(picture.convert("RGB"), (place % columns * side, place // columns * side))
    display(grid)


plan = portrayal.make_plan(None, [f'base.name="{BASE}"', f'subject.class_noun="{CLASS}"', *SETTINGS])
print(f"base {plan.source.name} on {plan.device}: {plan.source.reason}")
print("\\n".join(plan.estimate().lines()))""",
    ),
    (
        "markdown",
        """## The photos
What the check says of each, and of the set. Consent first: train only on people who agreed, on drawn ones, or on
animals.""",
    ),
    (
        "code",
        """found = portrayal.check_photos(Path(PHOTOS), plan.config, sheet=Path(RUN + "-check.jpg"))
for photo in found.as_json()["photos"]:
    said = "; ".join(finding["message"] for finding in photo["findings"])
    print(f"{photo['verdict']:5} {photo['file']:24} {said}")""",
    ),
    (
        "code",
        """run = portrayal.prepare(Path(PHOTOS), plan.config, Path(RUN), consent=True)
show(sorted((run.dataset_folder / "images").glob("*.png")), columns=9, side=96)""",
    ),
    (
        "markdown",
        """## Training
The full UNet, and a LoRA at each rank, all in one batch; latents and prompts are encoded once.""",
    ),
    (
        "code",
        """portrayal.train(run)
for name in run.config.methods:
    told = json.loads((run.model_folder(name) / "method.json").read_text())
    print(f"{name:8} best step {told['step']:4}  {told['train_seconds']:6.1f} s  {told['file_megabytes']:6.1f} MB")""",
    ),
    (
        "markdown",
        """## Five scenes
Street, football, kitchen, office, forest; one row for the base and each model, all from the same seeds.""",
    ),
    (
        "code",
        """portrayal.generate(run)
for name in ["base", *run.config.methods]:
    print(name)
    show([run.image_path(name, scene, 0) for scene in run.config.generation.scenes])""",
    ),
    (
        "markdown",
        """## The verdict
Held-out loss, likeness to photos that were not trained on, obedience to the prompt and colour, on the same random
numbers for every model. "Too bright" is measured too: lightness against the photos and the base's own pictures.
Pictures held to an outline by a ControlNet are painted and measured along the way.""",
    ),
    (
        "code",
        """scores = portrayal.evaluate(run)
lines = ["| model | held-out gain | likeness | prompt | lightness |", "|---|---|---|---|---|"]
for row in scores["models"]:
    likeness = "–" if row["identity"] is None else f"{row['identity']['mean']:.2f}"
    prompt = "–" if row["prompt"] is None else f"{row['prompt']['mean']:.3f}"
    gain, light = 100 * row["heldout_gain"]["mean"], row["colour"]["lightness_difference"]
    lines.append(f"| {row['name']} | {gain:+.1f} % | {likeness} | {prompt} | {light:+.1f} L* |")
display(Markdown("\\n".join(lines)))
print(scores["verdict"]["sentence"])""",
    ),
    (
        "code",
        """control = run.folder / "images" / "control"
for kind in run.config.control.kinds:
    folder = control / kind
    painted = sorted(path for path in folder.rglob("*.png") if path.name == "0.png" and path.parent.name == "1")
    if painted:
        print(kind, [path.parent.parent.name for path in painted])
        show([control / "reference.png", folder / "control.png", *painted])""",
    ),
    (
        "markdown",
        """## The report
One HTML file with all of it, to open in a browser.""",
    ),
    ("code", """print(portrayal.write_report(run))"""),
    (
        "markdown",
        """## Paint anything
Prompts of any length, `(words:1.3)` with a weight, other samplers and shapes. Each picture carries what made it, and
`portrayal.paint_like(picture)` makes it again.""",
    ),
    (
        "code",
        """painted = portrayal.paint(
    run,
    ["a photo of {subject} in the (park:1.2)"],
    count=5,
    seed=7,
    overrides=["generation.sampler=Euler a"],
)
show(painted)""",
    ),
    (
        "markdown",
        """## Take it elsewhere
A LoRA for AUTOMATIC1111, Forge and ComfyUI; the same for diffusers; a whole checkpoint with it merged in.""",
    ),
    (
        "code",
        """best = scores["verdict"]["best_lora"] or list(run.config.methods)[-1]
for path in portrayal.export_models(run, ["kohya", "diffusers", "single-file"], [best]):
    print(path)""",
    ),
]


def notebook(settings: dict[str, Any] | None = None) -> Any:
    """The notebook without outputs; settings take the place of the parameters of their names."""
    cells = []
    for number, (kind, source) in enumerate(CELLS):
        if kind == "markdown":
            cell = nbformat.v4.new_markdown_cell(source)
        else:
            given = "".join(f"\n{name} = {value!r}" for name, value in (settings or {}).items())
            cell = nbformat.v4.new_code_cell(source + (given if kind == "parameters" else ""))
            cell.metadata["tags"] = ["parameters"] if kind == "parameters" else []
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book.metadata["accelerator"] = "GPU"
    book.metadata["colab"] = {"provenance": [], "gpuType": "T4"}
    return book


def executed(book: Any, *, timeout: int = 3600) -> Any:
    """The notebook with its outputs, run from the top of the checkout.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    NotebookClient(book, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times of day
    return book


def main() -> None:
    """Write the notebook, run it, keep its outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blank", action="store_true", help="do not run it")
    blank = parser.parse_args().blank
    PAGE.parent.mkdir(exist_ok=True)
    if blank:
        nbformat.write(notebook(), PAGE)
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    with tempfile.TemporaryDirectory() as scratch:
        book = executed(notebook({"RUN": f"{scratch}/notebook"}))
        for cell, clean in zip(book.cells, notebook().cells, strict=True):
            cell.source = clean.source
            kept = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
            cell["outputs"] = kept  # warnings name paths of this machine
            for output in kept:
                if "text" in output:
                    output["text"] = output["text"].replace(scratch, "runs")
        nbformat.write(book, PAGE)


if __name__ == "__main__":
    main()
