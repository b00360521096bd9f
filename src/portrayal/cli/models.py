"""The models of others, as commands of their own: `portrayal models list`, `fetch` and `verify`."""

from __future__ import annotations

from typing import Annotated

import typer

import portrayal
from portrayal.cli.flags import JsonFlag
from portrayal.cli.outcome import outcome
from portrayal.cli.printing import progress_lines

models_app = typer.Typer(
    no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode="markdown"
)

ModelNames = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names or hub ids.", show_default=False)]


@models_app.command("list")
def models_list(as_json: JsonFlag = False) -> None:
    """Every model a run may fetch: its job, size and licence, and whether it is on this machine."""
    with outcome("models list", as_json) as result:
        from portrayal.progress import print_models

        result["models"] = portrayal.list_models()
        if not as_json:
            print_models(result["models"])


@models_app.command("fetch")
def models_fetch(names: ModelNames, as_json: JsonFlag = False) -> None:
    """Fetch models, so that runs need no network; says size and licence first."""
    with outcome("models fetch", as_json) as result, progress_lines() as progress:
        result["models"] = portrayal.fetch_models(names, progress=progress)


@models_app.command("verify")
def models_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Names or hub ids.", show_default="all that are here")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that models on this machine are whole: against the hashes they were fetched by."""
    with outcome("models verify", as_json) as result, progress_lines() as progress:
        result["models"] = portrayal.verify_models(names or (), progress=progress)
