"""The command line: parse, call the public API, print; nothing else.

Here the commands are put together. Each module has those about one subject; `flags`, `outcome`, `printing` and
`launcher` hold what they share.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from portrayal.cli.checking import doctor, verify
from portrayal.cli.flags import overrides
from portrayal.cli.handing_on import export, export_photos, publish
from portrayal.cli.launcher import SHARED, follows
from portrayal.cli.models import models_app
from portrayal.cli.painting import generate
from portrayal.cli.stages import evaluate, prepare, report, train
from portrayal.cli.whole import batch, plan, run, studio

__all__ = ["app", "main", "overrides"]

COMMANDS: tuple[Callable[..., None], ...] = (
    *(run, plan, batch, prepare, train, generate, evaluate, report),
    *(export, studio, publish, export_photos, verify, doctor),
)
"""In the order of `--help`."""

app = typer.Typer(
    name="portrayal",
    help="Ten to twenty photos of a person → tuned Stable Diffusion weights, a verdict on LoRA rank, pictures, report.",
    epilog="Exit codes: 0 done · 1 a fault of ours · 2 usage · 3 this machine · 4 photos · 5 weights · 6 memory · "
    "7 training diverged · 8 some subjects of a batch failed · 130 interrupted (the same command goes on).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(models_app, name="models", help="The models of others: list, fetch and verify them.")


def main() -> None:
    """Entry point; no traceback for a mistake that is not ours."""
    if not any(word in SHARED for word in sys.argv[1:2]):
        if follows():
            return
        os.environ.pop("WORLD_SIZE", None)
    if follows():
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)  # on import it speaks of kernels nobody asked for
    for name in ("SIGTERM", "SIGUSR1"):  # as Ctrl-C, wherever they arrive
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    app()
