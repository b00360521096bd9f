"""A trained model from a folder, in place on a base: to be read, painted with, exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portrayal.config import LoraMethod, UnetMethod
from portrayal.errors import WeightsError
from portrayal.models.base import BaseModel
from portrayal.models.checkpoints import check_files
from portrayal.models.lora_files import PARTS, layers_of, load_lora, plain
from portrayal.models.methods import LORA_FILE, Attached, check_free, replace_parts
from portrayal.models.packed_lora import Member, Pack, packed_layer


@contextmanager
def tuned(base: BaseModel, folder: Path | None, strength: float = 1.0) -> Iterator[BaseModel]:
    """The base with a saved model in place, a LoRA at a strength; nothing means the base itself.

    Raises:
        WeightsError: If the folder holds no trained model.
    """
    if folder is None:
        yield base
        return
    attached = attach_saved(base, folder)
    if strength != 1 and isinstance(attached, Pack):
        attached.weigh(strength)
    try:
        yield base
    finally:
        attached.detach()


def has_weights(folder: Path) -> bool:
    """Whether a folder holds the files of a trained model's weights; none of them is read."""
    if (folder / LORA_FILE).is_file():
        return True
    parts = [part for part in (folder / "unet", folder / "text_encoder") if part.is_dir()]
    whole = [(part / "config.json").is_file() and any(part.glob("*.safetensors")) for part in parts]
    return (folder / "unet").is_dir() and all(whole)


def attach_saved(base: BaseModel, folder: Path) -> Attached | Pack:
    """Put a trained model in place for painting and judging.

    Raises:
        WeightsError: If the folder holds no trained model, or a damaged one; the base is as it was then.
        ValueError: If a method is in place already.
    """
    from safetensors import SafetensorError

    check_free(base)
    lora = (folder / LORA_FILE).is_file()
    if not lora and not (folder / "unet").is_dir():
        raise WeightsError(f"{folder} holds no trained model.", "Train it first: portrayal train RUN")
    try:
        return attach_saved_lora(base, folder / LORA_FILE) if lora else attach_saved_full(base, folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, WeightsError) as error:
        cause = error.cause if isinstance(error, WeightsError) else error
        raise WeightsError(
            f"The weights in {folder} cannot be loaded: {cause}", f"Delete {folder} and train it again."
        ) from error


def attach_saved_lora(base: BaseModel, file: Path) -> Pack:
    """Put adapters of ours in place, as a pack of one: quicker at its work than PEFT's layers, and in place at once."""
    return attach_saved_loras(base, [file])


def attach_saved_loras(base: BaseModel, files: Sequence[Path]) -> Pack:
    """Put several LoRAs of ours in place, each for its own rows of a batch.

    Args:
        base: The base.
        files: LoRA files that adapt the same layers; ranks and alphas may differ.

    Raises:
        ValueError: If they adapt different layers.
    """
    shapes = {path: tuple(layer.weight.shape) for path, layer in layers_of(base).items()}
    loras = [load_lora(file, shapes) for file in files]
    if any(lora.keys() != loras[0].keys() for lora in loras):
        raise ValueError(f"{len(files)} LoRAs adapt different layers")
    names = [f"{part}.{name}" for part in PARTS for name, _ in getattr(base, part).named_modules()]
    own = {plain(name): name for name in names}  # in the file they are called as all versions of transformers call them
    members = [
        Member(file.parent.name, LoraMethod(rank=max(len(layer.down) for layer in lora.values())), seed=0)
        for file, lora in zip(files, loras, strict=True)
    ]
    layers = {own[path]: packed_layer(base, own[path], members) for path in loras[0]}
    for number, lora in enumerate(loras):
        for packed, layer in zip(layers.values(), lora.values(), strict=True):
            rank = len(layer.down)
            down, up = packed.view_of(number, rank)
            down.copy_(layer.down.flatten(1))
            up.copy_(layer.up.flatten(1).T * (layer.alpha / rank))
    for packed in layers.values():
        packed.eval().requires_grad_(False)
    pack = Pack(base, members, layers)
    pack.refresh()
    pack.put()
    return pack


def attach_saved_full(base: BaseModel, folder: Path) -> Attached:
    """Put saved models in the places of the base's."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    check_files(folder.glob("*/*.safetensors"))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=base.dtype, use_safetensors=True)
    parts: dict[str, Any] = {"unet": unet}
    if (folder / "text_encoder").is_dir():
        parts["text_encoder"] = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=base.dtype, use_safetensors=True
        )
    return replace_parts(base, UnetMethod(), parts, trainable=False)
