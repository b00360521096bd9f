"""Where weights come from: `pocket`, a hub id, a diffusers folder or a `.safetensors` file. Nothing is loaded here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from portrayal.config import BaseConfig
from portrayal.errors import WeightsError, nearest
from portrayal.formats.ldm import OPEN_CLIP_FEATURES, Family
from portrayal.limits import bounded_json, bounded_text, check_header, on_disk
from portrayal.models import store
from portrayal.models.catalog import CATALOG, PARTS, PIPELINE_FILES, WEIGHTS_FILES, known_model
from portrayal.models.store import fetch, hash_files
from portrayal.pocket import WEIGHTS

SD15, SD21 = (model.hub_id for model in CATALOG if model.name in ("sd15", "sd21"))
ALIASES = {model.name: model.hub_id for model in CATALOG if model.job.startswith("base")}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
LDM_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
CONFIG_FILES = ("model_index.json", "scheduler/*.json", "tokenizer/*", *(f"{part}/config.json" for part in PARTS))

Kind = Literal["pocket", "hub", "folder", "file"]


@dataclass(frozen=True)
class BaseSource:
    """A base that has been found, and the folder or file it lies in.

    Attributes:
        name: What a person calls it: `pocket`, a hub id, or the name of the folder or file.
        kind: How it was given.
        path: Diffusers folder, or `.safetensors` file.
        config_folder: Folder with the configs and tokenizer that a `.safetensors` file is read with.
        revision: Commit of a hub id.
        reason: Why this base was chosen.
        vae: Folder or file of the autoencoder that takes the place of its own.
        prediction_type: What it predicts, where that was said.
    """

    name: str
    kind: Kind
    path: Path
    config_folder: Path | None = None
    revision: str | None = None
    reason: str = ""
    vae: Path | None = None
    prediction_type: str | None = None

    @property
    def licence(self) -> str:
        """Licence of the base's weights, which tuned weights inherit: that of its family where it is not known."""
        if self.kind == "pocket":
            return "apache-2.0"
        known = known_model(self.name) if self.kind == "hub" else None
        if known is not None:
            return known.licence
        return "openrail++" if self.family.second else "creativeml-openrail-m"

    @property
    def folder(self) -> Path:
        """Where its configs and its tokenizer lie."""
        return self.config_folder or self.path

    @property
    def family(self) -> Family:
        """Which Stable Diffusion it is."""
        scheduler = self.folder / "scheduler" / "scheduler_config.json"
        told = read_config(scheduler) if scheduler.is_file() else {}
        features = part_config(self.folder, "text_encoder").get("hidden_size", 768)
        return Family(int(features), self.prediction_type or str(told.get("prediction_type", "epsilon")))

    def weight_hash(self) -> str:
        """SHA-256 over the weight files, in the order of their names, and over those of another VAE."""
        return weights_hash(self.path, *([self.vae] if self.vae else []))


def weights_hash(*paths: Path) -> str:
    """SHA-256 over the weight files of a base or a trained model, in the order of their names; read once a process."""
    files = [file for path in paths for file in weight_files(path)]
    return _hash_of(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@cache
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    return hash_files(file for file, _, _ in files)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a base, sorted."""
    if path.is_file():
        return [path]
    parts = sorted(file for part in PARTS for file in (path / part).glob("*.safetensors"))
    return parts or sorted(path.glob("*.safetensors"))


def pinned(hub_id: str) -> str | None:
    """The commit of a known model that is fetched where nobody asks for another: the same command, the same weights."""
    model = known_model(hub_id)
    return model.revision if model else None


def find_base(config: BaseConfig) -> BaseSource:
    """Find the base a config names; fetch it from the hub if it must be.

    Raises:
        WeightsError: If the name is unknown, or the weights are missing, unsafe or cannot be reached.
    """
    return replace(
        found_base(config),
        vae=None if config.vae is None else find_vae(config.vae),
        prediction_type=config.prediction_type,
    )


def found_base(config: BaseConfig) -> BaseSource:
    """The base itself."""
    name = config.name
    if name == "auto":
        return choose_base(config)
    if name == "pocket":
        return pocket_source("as asked")
    path = Path(name).expanduser()
    if on_disk(path) == "folder":
        return folder_source(path)
    if on_disk(path) == "file" or path.suffix in {".safetensors", ".ckpt", ".pt", ".pth", ".bin"}:
        return file_source(path, config)
    hub_id = ALIASES.get(name, name)
    if HUB_ID.fullmatch(hub_id):
        folder = fetch(hub_id, config.revision or pinned(hub_id), PIPELINE_FILES)
        return BaseSource(hub_id, "hub", checked_folder(folder), revision=folder.name, reason="as asked")
    hint = nearest(name, ["pocket", *ALIASES])
    raise WeightsError(
        f"There is no base {name!r}" + (f"; {hint}" if hint else "."),
        "Give pocket, sd15, a hub id such as owner/name, a diffusers folder or a .safetensors file.",
    )


def choose_base(config: BaseConfig) -> BaseSource:
    """`sd15` where there is a GPU and the weights are here or can be fetched; `pocket` otherwise."""
    import torch

    if not torch.cuda.is_available():
        return pocket_source("no GPU; --base sd15 insists on Stable Diffusion 1.5")
    if not is_cached(SD15, config.revision or pinned(SD15)) and not store.online():
        return pocket_source("no network, and no copy of Stable Diffusion 1.5 on this machine")
    source = find_base(config.model_copy(update={"name": "sd15"}))
    return BaseSource(source.name, source.kind, source.path, revision=source.revision, reason="a GPU is here")


def pocket_source(reason: str) -> BaseSource:
    """The embedded base."""
    return BaseSource("pocket", "pocket", checked_folder(WEIGHTS), reason=reason)


def folder_source(path: Path) -> BaseSource:
    """A diffusers folder on this machine."""
    return BaseSource(path.resolve().name, "folder", checked_folder(path), reason="as asked")


def checked_folder(folder: Path) -> Path:
    """The folder, if it holds a Stable Diffusion 1.x pipeline in safetensors.

    Raises:
        WeightsError: If something is missing, pickled, or of another family.
    """
    check_parts(folder)
    for part in PARTS:
        if not list((folder / part).glob("*.safetensors")):
            raise WeightsError(
                f"{folder / part} holds no .safetensors weights; pickled weights are never loaded.",
                "Save the model again with safe_serialization=True.",
            )
    check_family(folder)
    return folder


def check_parts(folder: Path) -> None:
    """Refuse a folder that lacks a part's config or the tokenizer."""
    missing = [part for part in PARTS if not (folder / part / "config.json").is_file()]
    if missing or not (folder / "tokenizer").is_dir():
        raise WeightsError(
            f"{folder} is no diffusers folder of Stable Diffusion 1.5: it lacks {', '.join(missing) or 'tokenizer'}.",
            "Give the folder that holds model_index.json, unet, vae, text_encoder and tokenizer.",
        )


def part_config(folder: Path, part: str) -> dict[str, Any]:
    """The config of a part.

    Raises:
        WeightsError: If it cannot be read.
    """
    return read_config(folder / part / "config.json")


def read_config(path: Path) -> dict[str, Any]:
    """A config file of a model.

    Raises:
        WeightsError: If it cannot be read.
    """
    try:
        return dict(bounded_json(bounded_text(path)))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is damaged: {error}.", "Get the model's files again.") from error


def check_family(folder: Path) -> None:
    """Refuse a base whose UNet is not that of Stable Diffusion 1.x or 2.x text-to-image."""
    unet, vae = part_config(folder, "unet"), part_config(folder, "vae")
    if unet.get("_class_name") != "UNet2DConditionModel" or unet.get("addition_embed_type"):
        raise WeightsError(
            f"{folder.name} is not of the Stable Diffusion 1.5 family.",
            "SDXL, SD 3 and Flux are not supported; try sd15.",
        )
    if unet.get("in_channels") != vae.get("latent_channels"):
        raise WeightsError(
            f"{folder.name} is an inpainting or depth model: its UNet takes {unet.get('in_channels')} channels.",
            "Give the text-to-image model it was made from.",
        )


def file_source(path: Path, config: BaseConfig) -> BaseSource:
    """A single-file checkpoint, and the configs and tokenizer to read it with."""
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path} is no .safetensors file; a pickle can run code and is never loaded.",
            "Convert it, or get the .safetensors form of the same model.",
        )
    if not path.is_file():
        raise WeightsError(f"{path} does not exist.", "Check the path, or give a hub id such as sd15.")
    channels, features = input_channels(path)
    wanted = config.config or (SD21 if features == OPEN_CLIP_FEATURES else SD15)
    local = Path(wanted).expanduser()
    hub_id = ALIASES.get(wanted, wanted)
    folder = local if on_disk(local) == "folder" else fetch(hub_id, pinned(hub_id), CONFIG_FILES)
    check_parts(folder)
    check_family(folder)
    if channels != part_config(folder, "unet").get("in_channels"):
        raise WeightsError(
            f"{path.name} is an inpainting or depth model, or not of the family of {folder.name}: "
            f"its UNet takes {channels} channels.",
            "Give the text-to-image model it was made from, or its own configs with base.config.",
        )
    return BaseSource(path.stem, "file", path, config_folder=folder, reason="as asked")


def find_vae(name: str) -> Path:
    """Folder or file of an autoencoder; fetched from the hub if it must be.

    Raises:
        WeightsError: If there is none of that name, or it is pickled.
    """
    path = Path(name).expanduser()
    if on_disk(path) == "folder":
        inner = path / "vae" if (path / "vae" / "config.json").is_file() else path
        if (inner / "config.json").is_file() and list(inner.glob("*.safetensors")):
            return inner.resolve()
        raise WeightsError(f"{path} holds no VAE in safetensors.", "Give a folder with config.json and weights.")
    if on_disk(path) == "file" and path.suffix == ".safetensors":
        return path.resolve()
    if on_disk(path) == "file" or path.suffix in {".ckpt", ".pt", ".pth", ".bin"}:
        raise WeightsError(
            f"{path} is no .safetensors file; a pickle can run code and is never loaded.",
            "Get the .safetensors form of the same VAE.",
        )
    if HUB_ID.fullmatch(name):
        return fetch(name, None, WEIGHTS_FILES)
    raise WeightsError(f"There is no VAE {name!r}.", "Give a hub id, a diffusers folder or a .safetensors file.")


OTHER_FAMILIES = {
    "conditioner.": "SDXL",
    "model.diffusion_model.joint_blocks.": "SD 3",
    "model.diffusion_model.double_blocks.": "Flux",
    "double_blocks.": "Flux",
    "joint_blocks.": "SD 3",
    "cond_stage_model.transformer.encoder.block.": "DeepFloyd or PixArt",
    "control_model.": "a ControlNet",
    "lora_": "a LoRA",
}


def input_channels(path: Path) -> tuple[int, int]:
    """Channels that the UNet of a checkpoint takes, and its text features.

    Raises:
        WeightsError: If the file is damaged, or no checkpoint of Stable Diffusion 1.x or 2.x.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_header(path)
        with safe_open(path, framework="pt") as opened:
            names = set(opened.keys())
            channels = opened.get_slice(LDM_FIRST_LAYER).get_shape()[1] if LDM_FIRST_LAYER in names else 0
            reading = [name for name in names if name.startswith("model.diff") and name.endswith("attn2.to_k.weight")]
            features = opened.get_slice(min(reading)).get_shape()[-1] if reading else 0
    except (SafetensorError, OSError, ValueError, IndexError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}.", "Download it again.") from error
    other = {what for start, what in OTHER_FAMILIES.items() if any(name.startswith(start) for name in names)}
    if not channels or other:
        raise WeightsError(
            f"{path} is no checkpoint of Stable Diffusion 1.5{f': it is {sorted(other)[0]}' if other else ''}.",
            "LoRA files, SDXL, SD 3 and Flux are no base here; give a whole checkpoint of SD 1.5.",
        )
    return int(channels), int(features)


def is_cached(hub_id: str, revision: str | None) -> bool:
    """Whether a hub id's weights are already on this machine."""
    from huggingface_hub import try_to_load_from_cache

    files = (f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae"))
    return all(isinstance(try_to_load_from_cache(hub_id, file, revision=revision), str) for file in files)
