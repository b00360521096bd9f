"""Files of others are measured before they are believed: size, depth, a header's promises; none of their code runs."""

from __future__ import annotations

import ast
import json
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks.fuzz import LARGEST
from benchmarks.hostile import figures_of, watch
from benchmarks.parsers import PARSERS, outcome
from portrayal.errors import UsageError, WeightsError
from portrayal.limits import DEEPEST, bounded_json, bounded_text, bounded_toml, check_header
from portrayal.models.lora_files import read_file
from portrayal.models.saved import attach_saved
from portrayal.models.source import input_channels
from portrayal.run import Run
from portrayal.settings import load_config

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "portrayal"
EACH = 7
"""Inputs to each parser: about a hundred and twenty."""


def test_hostile_inputs_are_read_or_refused_and_touch_nothing() -> None:
    """`python -m benchmarks.hostile` does the same with a thousand."""
    figures = figures_of(watch(1, EACH))
    assert figures["inputs"] == EACH * len(PARSERS) >= 100
    assert figures["traces"] == []
    assert figures["refused"] > 20
    assert figures["read"] > 20


def header(path: Path, told: Any, data: bytes = b"", length: int | None = None) -> Path:
    content = told if isinstance(told, bytes) else json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content + data)
    return path


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("told", "data", "length", "said"),
    [
        (b"{}", b"", 2**40, "shorter than its header"),
        (b"", b"", None, "shorter than its header"),
        ([1], b"", None, "no table"),
        (b"[" * 100_000, b"", None, "nested too deeply"),
        ({"a": ONE}, b"1234", None, "another size"),
        ({"a": ONE | {"shape": [2**40, 2**20]}}, b"12345678", None, "another size"),
        ({"a": ONE | {"shape": [-2]}}, b"12345678", None, "another size"),
        ({"a": ONE | {"dtype": "PICKLE"}}, b"12345678", None, "makes no sense"),
        ({"a": ONE | {"data_offsets": [8, 0]}}, b"12345678", None, "another size"),
        ({"a": 1}, b"", None, "makes no sense"),
        ({str(n): ONE for n in range(50_001)}, b"12345678", None, "more than 50000 tensors"),
    ],
)
def test_a_header_that_promises_what_is_not_there_is_refused_before_anything_is_allocated(
    tmp_path: Path, told: Any, data: bytes, length: int | None, said: str
) -> None:
    path = header(tmp_path / "a.safetensors", told, data, length)
    with pytest.raises(ValueError, match=said):
        check_header(path)
    for reading in (read_file, input_channels):
        with pytest.raises(WeightsError, match="damaged"):
            reading(path)


def test_every_format_of_safetensors_passes(tmp_path: Path) -> None:
    kinds = {kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)} - {torch.complex32}
    saved = 0
    for kind in kinds:
        try:
            save_file({"a": torch.zeros(3, 2).to(kind), "none": torch.zeros(0, 4).to(kind)}, tmp_path / "a.safetensors")
        except (KeyError, RuntimeError, NotImplementedError, ValueError, TypeError):
            continue  # no such format there
        check_header(tmp_path / "a.safetensors")
        saved += 1
    assert saved >= 10


plain = st.none() | st.integers() | st.text()


@settings(deadline=None)
@given(st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_read_as_it_is(value: Any) -> None:
    assert bounded_json(json.dumps(value)) == value


@settings(deadline=None)
@given(st.text(max_size=200) | st.text('[]{}:,"0123456789.-eEtrufalsn ', max_size=20))
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - what it says is Python's own
            bounded_json(text)
    else:
        assert repr(bounded_json(text)) == repr(value)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_depth_is_bounded() -> None:
    bounded_json(nested(DEEPEST))
    for deep in (nested(DEEPEST + 2), nested(200_000)):
        with pytest.raises(ValueError, match="nested too deeply"):
            bounded_json(deep)
        with pytest.raises(ValueError, match="nested too deeply"):
            bounded_toml(f"a = {deep}")
    with pytest.raises(ValueError, match="nested too deeply"):
        bounded_toml(".".join(["a"] * 100) + " = 1")


def test_a_key_of_many_dots_takes_no_time(tmp_path: Path) -> None:
    """Python's reader of TOML takes half a minute for it."""
    path = tmp_path / "recipe.toml"
    path.write_text("a." * 20_000 + "b = 1")
    started = time.monotonic()
    with pytest.raises(UsageError, match="nested too deeply"):
        load_config(str(path))
    assert time.monotonic() - started < 2


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("# " + "x" * (1 << 19))
    with pytest.raises(UsageError, match="larger than"):
        load_config(str(path))
    with pytest.raises(ValueError, match="larger than"):
        bounded_text(path, 100)


# Nobody's code, nobody's secrets -----------------------------------------------------------------------------------


def test_nothing_of_the_project_trusts_remote_code_or_pickles() -> None:
    """In no file; every from_pretrained that reads weights of others says that they be safetensors, or checks first."""
    found: list[str] = []
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if SOURCE in path.parents:
            found += [f"{path.name}: {name}" for name in weights_readers(ast.parse(text), text)]
        assert "trust_remote_code" not in text, path
        assert not re.search(r"\bpickle\.|\btorch\.load\(|weights_only\s*=\s*False", text), path

    assert len(found) >= 10
    assert [name for name in found if not name.endswith("safetensors")] == []


def weights_readers(tree: ast.AST, text: str) -> Iterator[str]:
    """The calls of `from_pretrained` that read weights, and what they say of how."""
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if not isinstance(called, ast.Attribute) or called.attr != "from_pretrained":
            continue
        kind = ast.unparse(called.value)
        if kind.endswith(("Tokenizer", "Config", "Pil")):
            continue
        assert isinstance(node, ast.Call)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        here = text.splitlines()[max(0, node.lineno - 8) : node.lineno]
        told = None in options and any('"use_safetensors": True' in line for line in here)
        yield f"{kind} {'safetensors' if options.get('use_safetensors') == 'True' or told else 'anything'}"


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_pickled_weights_of_a_run_are_not_read(pocket: Any, part: str, tmp_path: Path) -> None:
    """Where a run holds no others: it may be somebody else's."""
    for name in ("unet", "text_encoder"):
        getattr(pocket, name).save_pretrained(tmp_path / name, safe_serialization=True)
    (weights,) = (tmp_path / part).glob("*.safetensors")
    pickled = "diffusion_pytorch_model.bin" if part == "unet" else "pytorch_model.bin"
    torch.save(getattr(pocket, part).state_dict(), tmp_path / part / pickled)
    weights.unlink()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        attach_saved(pocket, tmp_path)
    assert not pocket.attached


def test_a_hub_token_is_in_no_file_of_a_run(tiny_run: Run, planted_token: str) -> None:
    """The session's environment holds one from the start."""
    files = [path for path in tiny_run.folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        assert planted_token.encode() not in path.read_bytes(), path


CORPUS = ROOT / "benchmarks" / "corpus"


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_what_the_fuzzer_found_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """The smallest inputs that reached something new; `python -m benchmarks.fuzz` starts from them."""
    for number, path in enumerate(sorted((CORPUS / name).iterdir())):
        assert path.stat().st_size <= LARGEST
        (tmp_path / str(number)).mkdir()
        outcome(name, path.read_bytes(), tmp_path / str(number))
