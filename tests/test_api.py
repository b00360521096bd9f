"""The Python API: a few dozen names at most, each importable and documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import portrayal


def test_all_names_are_imported_and_told() -> None:
    assert sorted(portrayal.__all__) == dir(portrayal)
    for name in portrayal.__all__:
        assert inspect.getdoc(getattr(portrayal, name)), name


def test_no_name_is_that_of_a_submodule() -> None:
    """Importing `portrayal.report` would put the module in the place of a function of that name."""
    modules = {path.stem for path in Path(portrayal.__file__).parent.iterdir()}
    assert not modules & set(portrayal.__all__)


def test_there_are_few() -> None:
    assert 10 <= len(portrayal.__all__) <= 40


def test_every_public_function_is_typed() -> None:
    functions = [item for name in portrayal.__all__ if inspect.isfunction(item := getattr(portrayal, name))]
    assert functions
    for function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())


def test_every_error_of_the_tree_has_a_documented_exit_code() -> None:
    from portrayal import errors

    kinds = [item for item in vars(errors).values() if inspect.isclass(item) and item.__module__ == errors.__name__]
    assert len(kinds) == 8
    for kind in kinds:
        assert issubclass(kind, portrayal.PortrayalError)
        assert f"{kind.__name__:<20}" in errors.__doc__ or kind.__name__ in errors.__doc__
        assert f"{kind.exit_code}   " in errors.__doc__


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'potray'"):
        _ = portrayal.potray


@pytest.mark.parametrize(
    "module", ["portrayal", "portrayal.cli", "portrayal.config", "portrayal.run", "portrayal.photos"]
)
def test_importing_is_quick(module: str) -> None:
    """Nothing that takes seconds to import is imported before it is needed."""
    code = (
        f"import sys, {module}; print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
