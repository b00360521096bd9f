"""How a command ends: its JSON or its lines, and on a mistake cause, remedy and exit code, without a traceback."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

import portrayal

EXPECTED_OS_ERRORS = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT, errno.EIO}


@contextmanager
def outcome(command: str, as_json: bool) -> Iterator[dict[str, Any]]:
    """Collect what a command has to say; on an error, say cause and remedy and leave with its exit code."""
    result: dict[str, Any] = {"schema": 1, "ok": True, "command": command}
    try:
        yield result
        if as_json:
            typer.echo(json.dumps(result))
    except portrayal.PortrayalError as error:
        fail(result, as_json, error.exit_code, error.cause, error.remedy)
    except KeyboardInterrupt:
        said = f"The same command goes on: {shlex.join(['portrayal', *sys.argv[1:]])}"
        fail(result, as_json, 130, "Interrupted; what was finished is kept.", said)
    except OSError as error:
        cause = f"{error.filename or 'The disk'}: {error.strerror}."
        if error.errno == errno.ENAMETOOLONG:
            fail(result, as_json, 2, cause, "Give a shorter name.")
        if error.errno not in EXPECTED_OS_ERRORS:
            raise
        remedy = "Free some space or choose another folder with --out, then run the same command again."
        fail(result, as_json, 3, cause, remedy)


def fail(result: dict[str, Any], as_json: bool, code: int, cause: str, remedy: str) -> NoReturn:
    """Say what went wrong and leave."""
    if as_json:
        typer.echo(json.dumps(result | {"ok": False, "error": {"code": code, "message": cause, "fix": remedy}}))
    typer.secho(f"✗ {cause}", fg="red", err=True)
    if remedy:
        typer.echo(f"  {remedy}", err=True)
    if os.environ.get("PORTRAYAL_TRACEBACK"):
        traceback.print_exc()
    raise typer.Exit(code)


def say(result: dict[str, Any], as_json: bool, **values: Any) -> None:
    """Add to the JSON, or print line by line."""
    result.update(values)
    if not as_json:
        for key, value in values.items():
            for line in value if isinstance(value, list) else [value]:
                typer.echo(f"{key:>9}  {line}")
