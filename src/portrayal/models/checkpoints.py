"""Models from single files: whole checkpoints as latent diffusion names them, and files of one part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portrayal.errors import WeightsError
from portrayal.formats.single_file import Piece, pieces_of
from portrayal.limits import check_header


def read_part(part: str, file: Path, build: Callable[[], Any], dtype: torch.dtype) -> Any:
    """A model with its weights from a file; tensors that are not its own, such as averaged ones, stay unread.

    Args:
        part: `unet`, `vae`, `text_encoder` or `controlnet`.
        file: A `.safetensors` file.
        build: Makes the model, without weights where that can be.
        dtype: Number format of the weights.

    Raises:
        WeightsError: If the file is damaged, lacks weights of the part, or has them in other shapes.
    """
    from safetensors import SafetensorError, safe_open

    model = build()
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if "position_ids" not in name}
    check_files([file])
    try:
        with safe_open(file, framework="pt") as opened:
            pieces = pieces_of(part, wanted, set(opened.keys()))
            missing = [name for name in wanted if name not in pieces]
            if missing:
                raise lacking(part, file, missing, len(wanted))
            state = {
                name: shaped(cut(opened.get_tensor(piece.key), piece), shape, name, file).to(dtype)
                for name, shape in wanted.items()
                for piece in [pieces[name]]
            }
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} is damaged or no safetensors file: {error}.", "Get it again.") from error
    model.load_state_dict(state, strict=False, assign=True)
    return cast(model, dtype)


def cast(model: Any, dtype: torch.dtype) -> Any:
    """A model in another number format; diffusers' own `to` warns of layers to be kept in fp32 where there are none."""
    return torch.nn.Module.to(model, dtype)


def check_files(files: Iterable[Path]) -> None:
    """Refuse safetensors files whose headers promise what is not there, before anything is allocated for them.

    Raises:
        WeightsError: If one does.
    """
    for file in files:
        try:
            check_header(file)
        except (ValueError, OSError) as error:
            raise WeightsError(f"{file} is damaged or no safetensors file: {error}.", "Get it again.") from error


def lacking(part: str, file: Path, missing: list[str], total: int) -> WeightsError:
    """What it means that weights are not there."""
    if len(missing) == total and part == "vae":
        return WeightsError(
            f"{file} has no VAE.", "Give one beside it: --vae stabilityai/sd-vae-ft-mse, a folder or a file."
        )
    return WeightsError(
        f"{file} lacks {len(missing)} of the {total} weights of its {part.replace('_', ' ')}, such as {missing[0]}.",
        "Give a whole checkpoint of Stable Diffusion 1.x or 2.x, or its own configs with base.config.",
    )


def cut(tensor: Tensor, piece: Piece) -> Tensor:
    """The third of a tensor's rows that is meant, or all of it."""
    return tensor if piece.third is None else tensor.chunk(3)[piece.third]


def shaped(tensor: Tensor, shape: tuple[int, ...], name: str, file: Path) -> Tensor:
    """A tensor in the shape that the model has: a kernel of one place is a linear layer's weight.

    Raises:
        WeightsError: If it has another size.
    """
    if tuple(size for size in tensor.shape if size != 1) != tuple(size for size in shape if size != 1):
        raise WeightsError(
            f"{name} in {file} has shape {tuple(tensor.shape)}, and the model's has {shape}.",
            "Give the configs it was made with: --set base.config=FOLDER.",
        )
    return tensor.reshape(shape).contiguous()


def without_memory(build: Callable[[], Any]) -> Any:
    """A model whose weights take no memory until they are read."""
    with torch.device("meta"):
        return build()
