"""ControlNets: the base's own, a hub id or a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from portrayal.errors import WeightsError
from portrayal.limits import on_disk
from portrayal.models.base import BaseModel
from portrayal.models.catalog import WEIGHTS_FILES, known_model
from portrayal.models.checkpoints import check_files, read_part, without_memory
from portrayal.models.lean import make_lean
from portrayal.models.source import HUB_ID, BaseSource, weight_files
from portrayal.models.store import fetch, fetch_known
from portrayal.pocket import WEIGHTS, embedded_folder


def find_controlnet(name: str, source: BaseSource, *, embedded: str, hub_id: str) -> Path:
    """Folder or single file of a ControlNet.

    Args:
        name: Hub id, folder, `.safetensors` file, or `auto`.
        source: The base.
        embedded: What `auto` is for `pocket`: a folder among its weights.
        hub_id: What `auto` is for any other base.

    Raises:
        WeightsError: If there is none of that name, or it cannot be reached.
    """
    if name == "auto" and source.kind != "pocket":
        return fetch_known(hub_id)
    if name == "auto" and not (WEIGHTS / embedded).is_dir():
        raise WeightsError(
            f"pocket has no ControlNet of this kind ({embedded.removeprefix('controlnet_')}).",
            "It has those of canny and openpose; any other base has all kinds.",
        )
    if name == "auto":
        return embedded_folder(embedded)
    path = Path(name).expanduser()
    if on_disk(path) == "folder":
        return path
    if on_disk(path) == "file" or path.suffix in {".safetensors", ".ckpt", ".pt", ".pth", ".bin"}:
        return checked_file(path)
    known = known_model(name)
    if known is not None and known.job.startswith("ControlNet"):
        return fetch_known(name)
    if HUB_ID.fullmatch(name):
        return fetch(name, None, WEIGHTS_FILES)
    raise WeightsError(
        f"There is no ControlNet {name!r}.", "Give auto, a hub id, a folder with config.json or a .safetensors file."
    )


def checked_file(path: Path) -> Path:
    """A ControlNet's single file, if it is one."""
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path} is no .safetensors file; a pickle can run code and is never loaded.",
            "Get the .safetensors form of the same ControlNet.",
        )
    if not path.is_file():
        raise WeightsError(f"{path} does not exist.", "Check the path, or give a hub id.")
    return path


def load_controlnet(path: Path, base: BaseModel) -> Any:
    """Load a ControlNet beside a base, frozen, from a folder or a single file.

    Raises:
        WeightsError: If its files are damaged, or it was made for another base.
    """
    from diffusers import ControlNetModel

    check_files(weight_files(path))
    if path.is_file():
        unet = base.unet  # a single file has no config: it is of the base's shape, or not for it

        def build() -> Any:
            return without_memory(partial(ControlNetModel.from_unet, unet, load_weights_from_unet=False))

        controlnet = read_part("controlnet", path, build, base.dtype)
    else:
        try:
            controlnet = ControlNetModel.from_pretrained(
                path, torch_dtype=base.dtype, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(f"The ControlNet in {path} cannot be loaded: {error}", "Get its files again.") from error
    theirs, ours = controlnet.config.cross_attention_dim, base.unet.config.cross_attention_dim
    if theirs != ours:
        raise WeightsError(
            f"The ControlNet in {path} is made for another base (text features {theirs} instead of {ours}).",
            "Choose one that was trained on this base.",
        )
    controlnet.to(base.device).eval().requires_grad_(False)
    if base.device.type == "cuda":
        make_lean(controlnet)
    return controlnet
