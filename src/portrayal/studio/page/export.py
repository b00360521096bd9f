"""The eighth screen: files for other tools, and where to put them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portrayal.studio.files import read_json
from portrayal.studio.page.asked import Action, Asked, Outcome, Values, Wrong, listed
from portrayal.studio.page.models import models_of
from portrayal.studio.watch import run_of
from portrayal.studio.worker import ensure_worker

FORMS = ("kohya", "diffusers", "single-file", "pipeline")
USUAL = {"lora": ("kohya",), "unet": ("single-file",)}
MIB_IN_GIB = 1024


@dataclass(frozen=True)
class Form:
    """One form that a model can be written in."""

    name: str
    possible: bool
    chosen: bool
    size: str


@dataclass(frozen=True)
class File:
    """One file that was written."""

    name: str
    size: str
    address: str


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    models, run, job = models_of(asked.mine), run_of(asked.mine), asked.job("export")
    model = asked.place.get("model", "")
    model = model if model in models else next(iter(models), "")
    working = job is not None and not job.ended
    waiting = "export.writing" if job and job.state != "queued" else "generate.waiting"
    return {
        "models": models,
        "model": model,
        "forms": forms(asked, model) if model else [],
        "files": list(files(asked)),
        "folder": str((asked.mine.run_folder / "exports").resolve()),
        "subject": run.config.subject.subject if run else "",
        "working": asked.t(waiting) if working else "",
        "failed": job.error if job and job.state == "failed" else None,
        "poll": 1000 if working else 0,
    }


def forms(asked: Asked, model: str) -> list[Form]:
    """The forms of a model, with what each would weigh: a LoRA its own file, a whole model about what the base does."""
    told = read_json(asked.mine.run_folder / "models" / model / "method.json")
    kind = "lora" if told.get("kind") == "lora" else "unet"
    own = float(told.get("file_megabytes") or 0) / MIB_IN_GIB
    sizes = {"kohya": own, "diffusers": own} if kind == "lora" else {}
    return [
        Form(
            name,
            kind == "lora" or name != "kohya",
            name in USUAL[kind],
            asked.t.size(sizes[name]) if name in sizes else "",
        )
        for name in FORMS
    ]


def files(asked: Asked) -> Iterator[File]:
    """What was written so far, file by file."""
    folder = asked.mine.run_folder / "exports"
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            size = asked.t.size(path.stat().st_size / 2**30)
            yield File(path.relative_to(folder).as_posix(), size, asked.file(path))


def pick(asked: Asked, values: Values) -> Outcome:
    """Look at another model's forms."""
    return Outcome(values={"place": {"model": str(values.get("model", ""))}})


def write(asked: Asked, values: Values) -> Outcome:
    """Have the files written."""
    wanted = listed(values.get("forms"))
    chosen = [name for name in FORMS if name in wanted]
    if not chosen:
        return Outcome(wrong=Wrong(asked.t("export.none")))
    arguments: dict[str, Any] = {"forms": chosen, "models": [str(values.get("model", ""))]}
    if values.get("precision"):
        arguments["precision"] = str(values["precision"])
    asked.queue.submit(asked.mine, "export", arguments)
    ensure_worker(asked.queue.root, asked.queue.recipe)
    return Outcome(said=asked.t("export.writing"), values={"place": {"model": arguments["models"][0]}})


ACTIONS: dict[str, Action] = {"pick": pick, "write": write}
