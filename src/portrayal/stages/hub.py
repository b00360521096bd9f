"""Publish a trained model on the Hugging Face Hub: privately unless asked, and never a photo of the person unasked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portrayal.errors import UsageError, WeightsError
from portrayal.run import Event, Progress, Run
from portrayal.stages.export_models import export_models
from portrayal.stages.paint import default_model, paintable
from portrayal.stages.publish import card_of, study_model
from portrayal.stages.shared import checked_name, dataset_of, silent

MAX_SAMPLES = 5


@dataclass(frozen=True)
class Publication:
    """What will be uploaded.

    Attributes:
        repo_id: Where to.
        private: Whether only its owner will see it.
        folder: Where it lies until then.
        files: Its files by relative path, with their sizes in bytes.
    """

    repo_id: str
    private: bool
    folder: Path
    files: dict[str, int]

    def lines(self) -> list[str]:
        """What a person should read before it is uploaded."""
        kind = "a private" if self.private else "a PUBLIC"
        return [
            f"To {kind} repository: https://huggingface.co/{self.repo_id}",
            *(f"{size / 1e6:8.1f} MB  {name}" for name, size in self.files.items()),
        ]


def publish(
    run: Run,
    repo_id: str,
    model: str | None = None,
    *,
    private: bool = True,
    photos: bool = False,
    consent: bool = False,
    agree: Callable[[Publication], bool] | None = None,
    progress: Progress = silent,
) -> str | None:
    """Upload a trained model with its card and a few of its pictures.

    Args:
        run: A run with trained models.
        repo_id: `owner/name` on the Hub; made if it is not there.
        model: Which model; nothing means the recommended one.
        private: Only its owner sees it.
        photos: The training photos go along.
        consent: The person agrees to the publication; needed where the run does not record consent.
        agree: Asked with what will be uploaded; `False` stops. Nothing means nobody is asked.
        progress: Called with every event.

    Returns:
        The address of the repository, or nothing if it was stopped.

    Raises:
        UsageError: If the model is unknown, or it is not recorded that the person agreed.
        WeightsError: If the Hub cannot be reached or refuses.
    """
    trained = {name: folder for name, folder in paintable(run).items() if folder is not None}
    name = checked_name(model, trained) if model else default_model(run)
    if not consent and run.provenance.get("consent") != "stated by the user":
        raise UsageError(
            f"{run.folder} does not record that the person shown agreed; nothing was uploaded.",
            "Ask them, and say so: --consent.",
        )
    with gathered(run, repo_id, name, private=private, photos=photos, progress=progress) as publication:
        if agree is not None and not agree(publication):
            return None
        progress(Event("publish", "started"))
        address = upload(publication)
        progress(Event("publish", "finished"))
        return address


@contextmanager
def gathered(
    run: Run, repo_id: str, name: str, *, private: bool, photos: bool, progress: Progress = silent
) -> Iterator[Publication]:
    """The files of a publication, in a folder of their own until the block ends."""
    with tempfile.TemporaryDirectory(prefix="portrayal-publish-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        lora = study_model(run, name) != "unet"
        forms = ["diffusers", "kohya"] if lora else ["pipeline"]
        for path in export_models(run, forms, [name], out=Path(scratch) / "exports", progress=progress):
            if path.is_dir():
                shutil.copytree(path, folder, dirs_exist_ok=True)
            else:
                shutil.move(path, folder / path.name)
        samples = sample_pictures(run, name, folder)
        (folder / "README.md").write_text(card_of(run, study_model(run, name), samples), encoding="utf-8")
        if photos:
            dataset = dataset_of(run)
            for photo in dataset.photos:
                target = folder / "photos" / f"{photo.id}.png"
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(dataset.image_path(photo), target)
        files = {
            str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
        }
        yield Publication(repo_id, private, folder, files)


def sample_pictures(run: Run, name: str, folder: Path) -> list[tuple[str, str]]:
    """Copies of a picture of each scene that the model painted, and their prompts."""
    samples: list[tuple[str, str]] = []
    for scene, prompt in run.config.generation.scenes.items():
        path = run.image_path(name, scene, 0)
        if path.is_file() and len(samples) < MAX_SAMPLES:
            target = folder / "samples" / f"{scene}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            samples.append((f"samples/{scene}.png", prompt.replace("{subject}", run.config.subject.subject)))
    return samples


def upload(publication: Publication) -> str:
    """Make the repository if it is not there, and upload the folder.

    Raises:
        WeightsError: If the Hub cannot be reached, or refuses.
    """
    from portrayal.models import store

    if not store.online():
        raise WeightsError("The Hub cannot be reached; nothing was uploaded.", "Try again with a network.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        api = HfApi()
        api.create_repo(publication.repo_id, private=publication.private, exist_ok=True)
        api.upload_folder(repo_id=publication.repo_id, folder_path=publication.folder, commit_message="Portrayal")
    except HFValidationError as error:
        raise UsageError(f"{publication.repo_id!r} is no name for a model.", "A name looks like owner/name.") from error
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(f"The Hub refused: {error}", "Log in with a token that may write: hf auth login") from error
    return f"https://huggingface.co/{publication.repo_id}"
