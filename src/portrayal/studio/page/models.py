"""The models of a project's run that can be used: to paint, to be exported."""

from __future__ import annotations

from pathlib import Path

from portrayal.studio.files import read_json
from portrayal.studio.projects import Project
from portrayal.studio.watch import run_of


def models_of(project: Project) -> list[str]:
    """Names of the trained models: the final one first, then the recommended one, then the others of the study."""
    run = run_of(project)
    if run is None:
        return []
    recommended = read_json(run.folder / "scores.json").get("verdict", {}).get("recommended")
    names = ["final", *([recommended] if recommended else []), *run.config.methods]
    return [name for name in dict.fromkeys(names) if usable(run.model_folder(name))]


def usable(folder: Path) -> bool:
    """Whether a model is trained, and its best step chosen."""
    return (folder / "method.json").is_file() and not (folder / "steps").is_dir()
