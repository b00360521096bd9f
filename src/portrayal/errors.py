"""The errors of Portrayal: one tree, each with a cause, a remedy and the exit code of the command line.

::

    PortrayalError                1   a fault of ours
    ├── UsageError                2   a flag, a setting, a prompt or a command that cannot be meant
    │   └── RunConflictError      2   the output folder holds another run
    ├── MachineError              3   this machine: disk, permissions, a missing package, no such device
    ├── PhotosError               4   the photos cannot be used
    ├── WeightsError              5   a base, ControlNet or scorer is unknown, missing or unreachable
    ├── OutOfMemoryError          6   the device or the machine ran out of memory
    └── TrainingDivergedError     7   the loss or the gradients stopped being finite
Some subjects of a batch failed   8   their own errors stand in its report; the same command tries them again
Interrupted (Ctrl-C)            130   what was finished is kept; the same command goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PortrayalError(Exception):
    """Something a person can act on: what is wrong, and what mends it.

    Args:
        cause: What is wrong and where, one sentence.
        remedy: What to do about it, one sentence; may be empty when the cause says it.
    """

    exit_code = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause if not remedy else f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


class UsageError(PortrayalError):
    """A flag, a setting, a prompt or a command that cannot be meant."""

    exit_code = 2


class RunConflictError(UsageError):
    """The output folder holds another run, or files that are not a run at all."""


class MachineError(PortrayalError):
    """This machine cannot do it: no disk space, no permission, a package or a device missing."""

    exit_code = 3


class PhotosError(PortrayalError):
    """The photos cannot be used: none, too few, or none readable."""

    exit_code = 4


class WeightsError(PortrayalError):
    """A base, a ControlNet or a scorer is unknown, missing, damaged or cannot be reached."""

    exit_code = 5


class OutOfMemoryError(PortrayalError):
    """The device or the machine ran out of memory."""

    exit_code = 6


class TrainingDivergedError(PortrayalError):
    """The loss or the gradients stopped being finite; the weights were not touched."""

    exit_code = 7


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean X?` for the closest of the names, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else ""


def known(names: Iterable[str]) -> str:
    """The names that exist."""
    return f"known: {', '.join(names)}"
