"""`portrayal studio`: what is needed is there, the port is free, the password is good; then the server."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path

from portrayal import MachineError, UsageError
from portrayal.studio.projects import WORKSHOP, Projects

PASSWORD = "PORTRAYAL_STUDIO_PASSWORD"
SHORTEST_PASSWORD = 8


def open_studio(
    root: Path = Path("runs"),
    *,
    port: int = 7860,
    share_on_lan: bool = False,
    browser: bool = True,
    recipe: str | None = None,
) -> None:
    """Open the studio, a web page for the whole job, and serve it until Ctrl-C. Work goes on without it.

    Args:
        root: Folder of the projects; runs in it are projects too.
        port: Where it listens, on this machine alone.
        share_on_lan: Listen to other machines too. Asks for a password, or takes `PORTRAYAL_STUDIO_PASSWORD`.
        browser: Open the page in a browser.
        recipe: What the settings of projects start from; nothing chooses by base and GPU.

    Raises:
        MachineError: If a package is missing, the port is taken or the folder cannot be written.
        UsageError: If there is no such recipe, or no password.
    """
    from portrayal import load_config

    if find_spec("gradio") is None:
        raise MachineError("The studio needs gradio, which is not installed.", "pip install 'portrayal[studio]'")
    if recipe is not None:
        load_config(recipe)
        recipe = str(Path(recipe).resolve()) if Path(recipe).is_file() else recipe
    password = chosen_password() if share_on_lan else None
    root = root.resolve()
    prepare_folder(root)
    with listening(port, lan=share_on_lan) as taken:
        from portrayal.studio.server import make_app, serve

        app = make_app(root, recipe=recipe, password=password)
        address = f"http://127.0.0.1:{port}/"
        print(f"   studio  {address}", flush=True)
        if share_on_lan:
            print(f"      lan  http://{lan_address()}:{port}/", flush=True)
        if browser:
            threading.Timer(1.0, webbrowser.open, (address,)).start()
        serve(app, taken)


def listening(port: int, *, lan: bool) -> socket.socket:
    """The open socket.

    Raises:
        MachineError: If the port is taken.
    """
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("0.0.0.0" if lan else "127.0.0.1", port))
        taken.listen(128)
    except (OSError, OverflowError) as error:
        taken.close()
        raise MachineError(f"Port {port} cannot be had: {error}.", f"Take another: --port {port + 1}") from error
    return taken


def chosen_password() -> str:
    """The password, from the environment or typed unseen; never from the command line, which others can read.

    Raises:
        UsageError: If there is none, or it is short.
    """
    password = os.environ.get(PASSWORD)
    if password is None:
        if not sys.stdin.isatty():
            raise UsageError("Sharing needs a password, and nobody is there to type one.", f"Set {PASSWORD}.")
        password = getpass.getpass("Password for whoever opens the studio: ")
    if len(password) < SHORTEST_PASSWORD:
        raise UsageError(f"The password has fewer than {SHORTEST_PASSWORD} letters.", "Choose a longer one.")
    return password


def lan_address() -> str:
    """This machine's address in its network; nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: the route is looked up, and no more
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def prepare_folder(root: Path) -> None:
    """Make what the studio needs on the disk, and have Gradio keep its copies there.

    Raises:
        MachineError: If the disk refuses, or gradio is missing.
    """
    try:
        copies = root / WORKSHOP / "gradio"
        copies.mkdir(parents=True, exist_ok=True)
        copies.parent.chmod(0o700)  # logs and uploads are nobody else's
    except OSError as error:
        raise MachineError(
            f"{root} cannot be written: {error.strerror}.", "Give another folder with --root."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(copies)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    Projects(root).sweep()
    copies.mkdir(parents=True, exist_ok=True)
