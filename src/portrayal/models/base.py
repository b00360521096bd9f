"""The base: its parts on one device, and what is asked of them everywhere.

Shapes: B prompts, L prompt tokens, D text features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from portrayal.errors import OutOfMemoryError, UsageError, WeightsError
from portrayal.models.checkpoints import check_files, read_part, without_memory
from portrayal.models.lean import make_lean
from portrayal.models.source import BaseSource, weight_files
from portrayal.models.starting import collector_at_rest, waking
from portrayal.parallel import LOADING

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass
class BaseModel:
    """A text-to-image model of SD 1.5's classes.

    Attributes:
        source: Where it came from.
        vae: `AutoencoderKL`.
        text_encoder: `CLIPTextModel`.
        tokenizer: `CLIPTokenizer`.
        unet: `UNet2DConditionModel`.
        noise_scheduler: `DDPMScheduler`, the noise schedule it was trained with.
        device: Where the parts live.
        dtype: Number format of the frozen parts.
        attached: Whether a method is in place.
    """

    source: BaseSource
    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    noise_scheduler: Any
    device: torch.device
    dtype: torch.dtype
    attached: bool = False

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures it was trained on."""
        return int(self.unet.config.sample_size) * self.scale_factor

    @property
    def scale_factor(self) -> int:
        """Pixels to a latent, along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def input_ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids, shape `(B, L)`, padded to the model's length.

        Raises:
            UsageError: If a prompt is longer than the model reads.
        """
        check_prompts(self.tokenizer, prompts)
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=length, return_tensors="pt")
        ids: Tensor = tokens.input_ids.to(self.device)
        return ids

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Prompt embeddings, shape `(B, L, D)`."""
        embeds: Tensor = self.text_encoder(self.input_ids(prompts))[0]
        return embeds


def check_prompts(tokenizer: Any, prompts: Sequence[str]) -> None:
    """Refuse prompts that would be cut off, naming the words that would be lost."""
    limit = int(tokenizer.model_max_length)
    for prompt in prompts:
        ids = tokenizer(prompt, truncation=False).input_ids if prompt else []
        if len(ids) > limit:
            lost = tokenizer.decode(ids[limit - 1 : -1]).strip()
            raise UsageError(
                f"A prompt has {len(ids)} tokens and the model reads {limit}; it would lose: …{lost[:120]!r}",
                "Shorten it.",
            )


def load_base(source: BaseSource, *, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """Load a base onto a device, frozen and in evaluation mode.

    Raises:
        WeightsError: If the weights do not fit their configs.
        OutOfMemoryError: If the device is too small.
    """
    check_files(weight_files(source.path))
    try:
        with LOADING, waking(device, dtype), collector_at_rest():
            parts = parts_of(source, dtype)
        for name in ("vae", "text_encoder", "unet"):
            parts[name].to(device).eval().requires_grad_(False)
        if device.type == "cuda":
            make_lean(parts["unet"])
            make_lean(parts["vae"])
    except WeightsError:
        raise
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(f"{source.name} does not fit on {device}.", "Use a smaller base or the CPU.") from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsError(
            f"{source.name} cannot be loaded: {error}", "The weights may be damaged; get them again."
        ) from error
    return BaseModel(source=source, device=device, dtype=dtype, **parts)


PARTS = ("vae", "text_encoder", "tokenizer", "unet", "noise_scheduler")


def folder_parts(folder: Path, dtype: torch.dtype, names: Collection[str] = PARTS) -> dict[str, Any]:
    """The parts of a diffusers folder, or some of them."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    hush()
    local = {"local_files_only": True}
    weights = local | {"use_safetensors": True}
    loaders = {
        "vae": partial(AutoencoderKL.from_pretrained, subfolder="vae", torch_dtype=dtype, **weights),
        "text_encoder": partial(CLIPTextModel.from_pretrained, subfolder="text_encoder", dtype=dtype, **weights),
        "tokenizer": partial(CLIPTokenizer.from_pretrained, subfolder="tokenizer", **local),
        "unet": partial(UNet2DConditionModel.from_pretrained, subfolder="unet", torch_dtype=dtype, **weights),
        "noise_scheduler": partial(DDPMScheduler.from_pretrained, subfolder="scheduler", **local),
    }
    return {name: loaders[name](folder) for name in names}


def hush() -> None:
    """Silence the libraries' own bars for loading; a load takes a moment and says nothing of the run."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def file_parts(source: BaseSource, dtype: torch.dtype, names: Collection[str] = PARTS) -> dict[str, Any]:
    """The parts of a single-file checkpoint, or some of them."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = source.folder

    def of_config(model: Any, part: str) -> Any:
        return model.from_config(model.load_config(folder, subfolder=part, local_files_only=True))

    builders: dict[str, Callable[[], Any]] = {
        "vae": partial(without_memory, partial(of_config, AutoencoderKL, "vae")),
        "unet": partial(without_memory, partial(of_config, UNet2DConditionModel, "unet")),
        # Made in memory: it has numbers of its own besides its weights.
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder")),
    }
    found = {part: read_part(part, source.path, builders[part], dtype) for part in builders if part in names}
    return found | folder_parts(folder, dtype, [name for name in names if name not in builders])


def parts_of(source: BaseSource, dtype: torch.dtype, names: Collection[str] = PARTS) -> dict[str, Any]:
    """The parts of a base, or some of them, with the VAE and the prediction type that take the place of its own."""
    replaced = ["vae"] if source.vae is not None and "vae" in names else []
    own = [name for name in names if name not in replaced]
    found = file_parts(source, dtype, own) if source.kind == "file" else folder_parts(source.path, dtype, own)
    if replaced:
        found["vae"] = other_vae(source, dtype)
    if "noise_scheduler" in found and source.prediction_type is not None:
        scheduler = found["noise_scheduler"]
        found["noise_scheduler"] = type(scheduler).from_config(scheduler.config, prediction_type=source.prediction_type)
    return found


def other_vae(source: BaseSource, dtype: torch.dtype) -> Any:
    """The autoencoder that takes the place of the base's own."""
    from diffusers import AutoencoderKL

    assert source.vae is not None
    if source.vae.is_dir():
        return AutoencoderKL.from_pretrained(source.vae, torch_dtype=dtype, use_safetensors=True, local_files_only=True)
    config = AutoencoderKL.load_config(source.folder, subfolder="vae", local_files_only=True)
    return read_part("vae", source.vae, partial(without_memory, partial(AutoencoderKL.from_config, config)), dtype)


SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 2M SDE Karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
}
"""diffusers' scheduler of each sampler, by the sampler's common name."""


def pipeline_of(
    base: BaseModel, controlnets: Sequence[Any] = (), *, sampler: str = "DPM++ 2M", painting_over: bool = False
) -> Any:
    """A diffusers pipeline over the base's own parts; nothing is copied.

    Args:
        base: The base.
        controlnets: What it is held to.
        sampler: A name of :data:`SCHEDULERS`.
        painting_over: Whether it starts from a picture.
    """
    import diffusers

    scheduler, options = SCHEDULERS[sampler]
    parts = {
        "vae": base.vae,
        "text_encoder": base.text_encoder,
        "tokenizer": base.tokenizer,
        "unet": base.unet,
        "scheduler": getattr(diffusers, scheduler).from_config(base.noise_scheduler.config, **options),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    name = f"StableDiffusion{'ControlNet' if controlnets else ''}{'Img2Img' if painting_over else ''}Pipeline"
    parts |= {"controlnet": list(controlnets) if len(controlnets) > 1 else controlnets[0]} if controlnets else {}
    pipeline = getattr(diffusers, name)(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def in_batches(items: Sequence[Item], size: int, act: Callable[[Sequence[Item]], Found]) -> Iterator[Found]:
    """Act on items, a number of them at once; fewer from where the device's memory is too small for so many.

    Raises:
        torch.OutOfMemoryError: If it is too small for one.
    """
    start = 0
    while start < len(items):
        found: list[Found] = []
        try:
            found.append(act(items[start : start + size]))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        if found:
            start += size
            yield found[0]
        else:
            size //= 2
            torch.cuda.empty_cache()


@lru_cache(maxsize=1)
def recording_stream() -> torch.cuda.Stream:
    """Where graphs are recorded: one for all, since libraries keep 64 MiB of workspace for each stream."""
    return torch.cuda.Stream()


def choose_device() -> torch.device:
    """The fastest device here: a CUDA GPU, Apple's, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """What `auto` means on a device: bf16 where the GPU has it, fp16 on older ones, `no` on the CPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
