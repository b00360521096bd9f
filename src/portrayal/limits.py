"""What is asked of files of others before they are believed: size, depth, and what a header promises.

Every function raises ValueError, with what is wrong: who reads the file knows what to tell of it.
"""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any, Literal

LARGEST_TEXT = 1 << 22
"""Bytes of a settings, config or metadata file: the largest real ones are a hundredth of it."""
DEEPEST, MOST_DOTS = 40, 250
"""Levels of tables; dots in a line of TOML, where Python's reader takes half a minute for a key of twenty thousand."""
LARGEST_HEADER, MOST_TENSORS = 1 << 23, 50_000
"""Bytes and tensors of a safetensors header; a whole checkpoint of Stable Diffusion has 150 KB and 1,130."""
MOST_AXES = 8
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64} | {
    kind: 8 * size
    for size, kinds in {
        1: ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"),
        2: ("I16", "U16", "F16", "BF16"),
        4: ("I32", "U32", "F32"),
        8: ("I64", "U64", "F64"),
    }.items()
    for kind in kinds
}


def on_disk(path: Path) -> Literal["folder", "file", "nothing"]:
    """What lies at a path; a name that no disk can hold is nothing."""
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else "nothing"
    except (OSError, ValueError):
        return "nothing"


def bounded_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """The text of a file that is no larger than such files are.

    Raises:
        ValueError: If it is, or is no UTF-8.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most / 2**20:.0f} MiB")
    return content.decode("utf-8")


def bounded_json(text: str | bytes) -> Any:
    """Read JSON of a sensible size and depth.

    Raises:
        ValueError: If it is none.
    """
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"it is larger than {LARGEST_HEADER / 2**20:.0f} MiB")
    try:
        return shallow(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def bounded_toml(text: str) -> dict[str, Any]:
    """Read TOML of a sensible size and depth.

    Raises:
        ValueError: If it is none.
    """
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise ValueError("a key of it is nested too deeply")
    try:
        found: dict[str, Any] = shallow(tomllib.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found


def shallow(value: Any) -> Any:
    """The value, if it is not nested too deeply."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return value


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose header is too large, or promises what the file does not hold.

    Nothing is allocated for its tensors.

    Raises:
        ValueError: If it is.
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > size - 8:
            raise ValueError("it is shorter than its header says")
        if length > LARGEST_HEADER:
            raise ValueError(f"its header is larger than {LARGEST_HEADER / 2**20:.0f} MiB")
        header = bounded_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    tensors = {name: told for name, told in header.items() if name != "__metadata__"}
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"it has more than {MOST_TENSORS} tensors")
    for name, told in tensors.items():
        check_tensor(name, told, size - 8 - length)


def check_tensor(name: str, told: Any, available: int) -> None:
    """Refuse a tensor whose shape does not fit the bytes that are there.

    Raises:
        ValueError: If it does not.
    """
    try:
        shape, (start, end) = list(told["shape"]), told["data_offsets"]
        bits = BITS[told["dtype"]]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"what its header tells of {name[:80]!r} makes no sense") from error
    fits = whole and len(shape) <= MOST_AXES and start <= end <= available
    if not fits or 8 * (end - start) != bits * math.prod(shape):
        raise ValueError(f"{name[:80]!r} is of another size than its header says")
