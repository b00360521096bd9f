"""The server: Gradio's page behind the guard, files of projects, and an eye on the worker. It does no work itself."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal import MachineError
from portrayal.studio.desk import DESK
from portrayal.studio.guard import MAX_UPLOAD, Guard
from portrayal.studio.jobs import AT_WORK, Queue
from portrayal.studio.login import Door
from portrayal.studio.projects import Projects
from portrayal.studio.worker import ensure_worker

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI
    from starlette.types import ASGIApp

CARE_SECONDS = 2.0
"""Between two looks at whether queued work has a worker."""


def serve(app: ASGIApp, taken: socket.socket) -> None:
    """Answer requests until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[taken])


def make_app(root: Path, blocks: Any = None, *, recipe: str | None = None, password: str | None = None) -> Guard:
    """The whole application.

    Args:
        root: Folder of the projects; see :func:`prepare_folder`.
        blocks: Gradio's page; nothing makes the studio's own.
        recipe: What the settings of projects start from.
        password: What other machines must say to come in; nothing keeps them out.
    """
    import gradio as gr
    from fastapi import FastAPI

    from portrayal.studio.serve import router

    look: dict[str, Any] = {"footer_links": [], "ssr_mode": False}
    if blocks is None:
        from portrayal.studio.page import app as page

        blocks, look = page.make_page(root, recipe), page.look()
    projects = Projects(root, recipe)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=caretaker(projects))
    app.include_router(router(projects))
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name="127.0.0.1",
        **look,
        allowed_paths=[],
        blocked_paths=[str(root)],
        max_file_size=MAX_UPLOAD,
        show_error=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
    inner: ASGIApp = app if password is None else Door(app, password)
    return Guard(inner, lan=password is not None)


def caretaker(projects: Projects) -> Any:
    """While the server lives, see to it that work that waits has a worker."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=care, args=(Queue(projects.root, projects.recipe), ended), daemon=True)
        thread.start()
        yield
        ended.set()
        DESK.close()

    return lifespan


def care(queue: Queue, ended: threading.Event) -> None:
    """Look again and again until the end."""
    while not ended.is_set():
        began = time.monotonic()
        with suppress(OSError, MachineError):  # a full disk: it is tried again
            if any(job.state == "queued" or job.state in AT_WORK for job in queue.jobs()):
                ensure_worker(queue.root, queue.recipe)
        ended.wait(max(0.1, CARE_SECONDS - (time.monotonic() - began)))
