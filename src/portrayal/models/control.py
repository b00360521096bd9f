"""ControlNets: the base's own, a hub id or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portrayal.errors import WeightsError
from portrayal.models.base import BaseModel
from portrayal.models.lean import make_lean
from portrayal.models.source import HUB_ID, BaseSource, fetch
from portrayal.pocket import embedded_folder

CONTROLNET_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def find_controlnet(name: str, source: BaseSource, *, embedded: str, hub_id: str) -> Path:
    """Folder of a ControlNet.

    Args:
        name: Hub id, folder, or `auto`.
        source: The base.
        embedded: What `auto` is for `pocket`: a folder among its weights.
        hub_id: What `auto` is for any other base.

    Raises:
        WeightsError: If there is none of that name, or it cannot be reached.
    """
    if name == "auto" and source.kind != "pocket":
        return fetch(hub_id, None, CONTROLNET_FILES)
    if name == "auto":
        return embedded_folder(embedded)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if HUB_ID.fullmatch(name):
        return fetch(name, None, CONTROLNET_FILES)
    raise WeightsError(f"There is no ControlNet {name!r}.", "Give auto, a hub id or a folder with config.json.")


def load_controlnet(folder: Path, base: BaseModel) -> Any:
    """Load a ControlNet beside a base, frozen.

    Raises:
        WeightsError: If its files are damaged, or it was made for another base.
    """
    from diffusers import ControlNetModel

    try:
        controlnet = ControlNetModel.from_pretrained(
            folder, torch_dtype=base.dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"The ControlNet in {folder} cannot be loaded: {error}", "Get its files again.") from error
    theirs, ours = controlnet.config.cross_attention_dim, base.unet.config.cross_attention_dim
    if theirs != ours:
        raise WeightsError(
            f"The ControlNet in {folder} is made for another base (text features {theirs} instead of {ours}).",
            "Choose one that was trained on this base.",
        )
    controlnet.to(base.device).eval().requires_grad_(False)
    if base.device.type == "cuda":
        make_lean(controlnet)
    return controlnet
