"""One command in several processes: it starts them itself, or a launcher such as accelerate or Slurm did.

The first process speaks for all; the others say nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

import portrayal

SHARED = ("run", "train")
"""Commands that several processes of a launcher do together; of any other the first does all."""


def follows() -> bool:
    """Whether a launcher started this process beside a first one, which speaks for all."""
    return int(os.environ.get("RANK", 0)) > 0


def share_out(gpus: int | None, more: Sequence[str] = ()) -> NoReturn:
    """Let several processes do this command instead, and leave as they do."""
    given = [word for word in sys.argv[1:] if not word.startswith("--gpus=")]
    if "--gpus" in given:
        place = given.index("--gpus")
        del given[place : place + 2]
    raise typer.Exit(portrayal.share_out([*given, *more], gpus or 1))
