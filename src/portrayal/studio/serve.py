"""Files of a project that a browser may have: pictures, the report, exports; small copies of pictures.

/files/PROJECT/PATH?w=320      a picture of the project, no wider than so many pixels
/files/PROJECT/PATH?download   a file to be kept
/votes/PROJECT/PAIR/a          a picture of a blind pair: no name, no settings in it
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from PIL import Image, UnidentifiedImageError
from starlette.responses import FileResponse, Response

from portrayal import PortrayalError, UsageError, atomic_path, read_photo
from portrayal.studio.files import below
from portrayal.studio.projects import SMALL, WORKSHOP, Project, Projects
from portrayal.studio.votes import picture_of

WIDTHS = (64, 1600)
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".svg": "image/svg+xml",
}
UNSEEN = frozenset({".heic", ".heif", ".tif", ".tiff", ".bmp"})
"""Pictures that a browser cannot show: small copies of them only."""

PAGES = {"report.html": "text/html; charset=utf-8", "report.md": "text/markdown; charset=utf-8"}
IN_PROJECT = ("photos", "views", "controls")
IN_RUN = ("images", "pictures", "report", "dataset/images", "exports")
YEAR = 31536000
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; sandbox"
"""For drawings: nothing in them may run."""

REPORT = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""For reports, which bring all with them; their own policy names the one script that may run."""


def router(projects: Projects) -> APIRouter:
    """The routes of files."""
    routes = APIRouter()

    @routes.get("/files/{name}/{path:path}")
    @routes.head("/files/{name}/{path:path}")
    def file(name: str, path: str, request: Request) -> Response:
        try:
            project = projects.open(name)
            found = allowed(project, path)
            return answer(project, found, request.query_params, request.headers)
        except (UsageError, OSError):
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such file.") from None
        except PortrayalError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, error.cause) from None

    @routes.get("/votes/{name}/{pair}/{side}")
    def vote_picture(name: str, pair: str, side: str) -> Response:
        if side not in ("a", "b"):
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such picture.")
        try:
            picture = picture_of(projects.open(name), pair, "a" if side == "a" else "b")
            return Response(plain(picture), media_type="image/webp", headers={"cache-control": "private, max-age=600"})
        except (UsageError, OSError):
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such picture.") from None

    return routes


def allowed(project: Project, path: str) -> Path:
    """A file of a project that may be seen.

    Raises:
        UsageError: If there is none: outside of the project, of another kind, or nothing at all.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise UsageError(f"There is no file {path!r}.")
    found = below(project.folder, *parts)
    if not found.is_file() or not may_be_seen(project, found):
        raise UsageError(f"There is no file {path!r}.")
    return found


def may_be_seen(project: Project, found: Path) -> bool:
    """Whether a file is among those that a browser may have: by its place and its kind, links followed."""
    run, folder, kind = project.run_folder.resolve(), project.folder.resolve(), found.suffix.lower()
    if found.parent == run and found.name in PAGES:
        return True
    if run / "exports" in found.parents:
        return True
    places = [*(folder / name for name in IN_PROJECT), *(run / name for name in IN_RUN)]
    return any(place in found.parents for place in places) and (kind in PICTURES or kind in UNSEEN)


def answer(project: Project, found: Path, query: Mapping[str, str], headers: Mapping[str, str]) -> Response:
    """A file, or a small copy of a picture."""
    kind = found.suffix.lower()
    exported = (project.run_folder / "exports").resolve() in found.parents
    if not exported and ("w" in query or kind in UNSEEN) and kind != ".svg":
        found = small_copy(project, found, width_of(query.get("w", str(WIDTHS[1]))))
        kind = ".webp"
    state = found.stat()
    tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
    told = {
        "etag": tag,
        "last-modified": formatdate(state.st_mtime, usegmt=True),
        "cache-control": f"private, max-age={YEAR}, immutable" if "v" in query else "private, no-cache",
    }
    if kind == ".svg":
        told["content-security-policy"] = SANDBOX
    if found.name == "report.html":
        told["content-security-policy"] = REPORT
    if headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=told)
    media = "application/octet-stream" if exported else PAGES.get(found.name) or PICTURES[kind]
    name = found.name if "download" in query or exported else None
    if name == "report.html":
        name = f"{project.name}.html"
    return FileResponse(found, media_type=media, filename=name, headers=told)


def width_of(text: str) -> int:
    """Pixels that were asked for, within bounds.

    Raises:
        UsageError: If it is no number.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise UsageError(f"{text!r} is no width.")
    return max(WIDTHS[0], min(WIDTHS[1], int(text)))


def small_copy(project: Project, picture: Path, width: int) -> Path:
    """A copy of a picture no wider than so many pixels, upright and without EXIF, made once."""
    state = picture.stat()
    told = f"{picture}|{state.st_mtime_ns}|{state.st_size}|{width}"
    name = hashlib.sha256(told.encode()).hexdigest()[:32]
    target = small_folder(project.root, project.name) / f"{name}.webp"
    if not target.is_file():
        image = opened(picture)
        if image.width > width:
            image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
        own = target.with_name(f"{name}.{os.urandom(4).hex()}.webp")  # two browsers may ask at once
        with atomic_path(own) as temporary:
            image.save(temporary, "WEBP", quality=88)
        own.replace(target)
    return target


def small_folder(root: Path, project: str) -> Path:
    """Where small copies of a project's pictures lie; they are deleted with it."""
    return root / WORKSHOP / SMALL / project


def opened(picture: Path) -> Image.Image:
    """A picture as a person sees it, whatever wrote it."""
    if picture.suffix.lower() in (".png", ".webp"):
        with Image.open(picture, formats=("PNG", "WEBP")) as image:
            return image.convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken EXIF, which phones write
        return read_photo(picture).image


def plain(picture: Path) -> bytes:
    """A picture's pixels and nothing else."""
    try:
        with Image.open(picture, formats=("PNG",)) as image:
            content = BytesIO()
            image.convert("RGB").save(content, "WEBP", lossless=True)
            return content.getvalue()
    except UnidentifiedImageError as error:
        raise UsageError("There is no such picture.") from error
