"""Models of others on this machine: looked for, fetched once with size and licence told, checked.

The network is asked one question, for two seconds at most; what is here is used without asking.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

from portrayal.errors import WeightsError
from portrayal.models.catalog import KnownModel, file_size, known_model
from portrayal.run import cache_folder, fingerprint, write_json

HUB_HOST = ("huggingface.co", 443)
PATIENCE = 2.0
SHA256_DIGITS, SHA1_DIGITS = 64, 40

State = Literal["here", "missing", "damaged"]


@cache
def online(timeout: float = PATIENCE) -> bool:
    """Whether the hub can be reached; asked once. Without it the hub libraries are told not to try (23 s a file).

    The question takes no longer than the timeout, in seconds, though a name server may take minutes to give up.
    """
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return False
    answers: list[bool] = []

    def ask() -> None:
        try:
            with socket.create_connection(HUB_HOST, timeout):
                answers.append(True)
        except OSError:
            answers.append(False)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    if answers == [True]:
        return True
    os.environ["HF_HUB_OFFLINE"] = "1"
    return False


def fetch(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Folder of a hub repository's files: the copy on this machine, or fetched when the network is there.

    What was fetched whole before is taken without asking anybody. What is fetched is told first.

    Raises:
        WeightsError: If it is neither here nor reachable.
    """
    kept = fetched_before(hub_id, revision, patterns)
    return kept if kept is not None else fetch_anew(hub_id, revision, patterns)


def fetch_known(name: str) -> Path:
    """Folder of a known model, by its name or hub id; see :func:`fetch`."""
    model = known_model(name)
    if model is None:
        raise ValueError(f"{name} is not among the known models")
    return fetch(model.hub_id, model.revision, model.files)


def fetch_anew(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The same, asking the hub for what is new if it can be reached."""
    reachable = online()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    known = known_model(hub_id)
    if reachable and not snapshots(hub_id):
        told = f"{file_size(known.megabytes)}, licence {known.licence}" if known else "its licence is on its page"
        logging.getLogger(__name__).warning("Fetching %s from the hub: %s.", hub_id, told)
    try:
        folder = Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=list(patterns), local_files_only=not reachable)
        )
    except HFValidationError as error:
        raise WeightsError(f"{hub_id!r} is no name of a model.", "A hub id looks like owner/name.") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"The hub has no model {hub_id!r}, or it is private.", "Check the id, or log in: hf auth login"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        command = f"portrayal models fetch {known.name}" if known else f"hf download {hub_id}"
        size = f" ({file_size(known.megabytes)}, {known.licence})" if known else ""
        raise WeightsError(
            f"{hub_id}{size} is not on this machine and the hub cannot be reached.",
            f"With a network: {command}. Without: --base pocket, or a folder.",
        ) from error
    if reachable:
        write_json(note_of(hub_id, revision, patterns), {"folder": str(folder), "hub_id": hub_id})
    return folder


def note_of(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Where it is noted that something was fetched whole."""
    return cache_folder() / "fetched" / f"{fingerprint([hub_id, revision, list(patterns), str(hub_cache())])}.json"


def hub_cache() -> Path:
    """Where the hub's libraries keep what they fetch."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def fetched_before(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """The folder of what was fetched whole, if it is still there."""
    note = note_of(hub_id, revision, patterns)
    if not note.is_file():
        return None
    try:
        folder = Path(json.loads(note.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    there = all(any(path.exists() for path in folder.glob(pattern)) for pattern in patterns if "*" not in pattern)
    return folder if folder.is_dir() and there else None


def snapshots(hub_id: str) -> list[Path]:
    """The versions of a repository on this machine."""
    folder = hub_cache() / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def cached_file(hub_id: str, file: str) -> Path | None:
    """One file of a hub repository, if it is on this machine already."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, file)
    return Path(found) if isinstance(found, str) else None


class Found(NamedTuple):
    """What is on this machine of a known model.

    Attributes:
        model: The model.
        state: `here`, `missing`, or `damaged`.
        files: How many files were found.
        problems: What is wrong with them.
    """

    model: KnownModel
    state: State
    files: int
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        model = self.model
        return {
            "name": model.name,
            "hub_id": model.hub_id,
            "job": model.job,
            "licence": model.licence,
            "megabytes": model.megabytes,
            "state": self.state,
            "problems": list(self.problems),
        }


def look_for(model: KnownModel) -> Found:
    """Whether a known model is on this machine; its files are not opened."""
    for folder in reversed(snapshots(model.hub_id)):
        if model.revision is None or folder.name == model.revision:
            found = [[path for path in folder.glob(pattern) if path.is_file()] for pattern in model.files]
            optional = [pattern.startswith(("*", "merges", "vocab")) for pattern in model.files]
            if any(found) and all(one or may for one, may in zip(found, optional, strict=True)):
                return Found(model, "here", sum(map(len, found)))
    return Found(model, "missing", 0)


def verify(model: KnownModel) -> Found:
    """Whether a known model's files are whole: they are named by their hashes in the hub's cache."""
    found = look_for(model)
    if found.state == "missing":
        return found
    folder = next(
        folder
        for folder in reversed(snapshots(model.hub_id))
        if model.revision is None or folder.name == model.revision
    )
    files = sorted({path for pattern in model.files for path in folder.glob(pattern)})
    problems = tuple(f"{path.relative_to(folder)}: {problem}" for path in files if (problem := fault_of(path)))
    return Found(model, "damaged" if problems else "here", len(files), problems)


def fault_of(path: Path) -> str:
    """What is wrong with a file of the hub's cache; nothing if it is whole."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return "its content is gone"
    if not named_by_content(path):
        return "its content is not what was fetched"
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            return str(error)
    return ""


def named_by_content(path: Path) -> bool:
    """Whether a file has the content that its name in the hub's cache stands for; any, where the name is no hash."""
    name = path.resolve().name
    if len(name) == SHA256_DIGITS:
        return hash_files([path]) == name
    return len(name) != SHA1_DIGITS or git_hash(path) == name


def git_hash(path: Path) -> str:
    """What git calls a file's content, as the hub does where it is small: SHA-1, of no use against who means harm."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def hash_files(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, one after another."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()
