"""Do files mean the same to whoever reads them? Stable Diffusion 1.5's shapes, random weights, fp32, on the CPU.

A LoRA is put on as for training, given weights of chance and asked for its output; then its files are read: kohya's and
diffusers' by diffusers, kohya's by us, and a checkpoint that it was merged into by diffusers again. A whole pipeline
goes into a single file and is read back. With `--sd-scripts`, `--comfyui` and `--automatic1111` their unchanged code
reads the same files: the deltas that `networks/lora.py` computes, the weights that `model_util.py` converts, and the
names that the other two match.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.readers import known_to_automatic1111, known_to_comfyui, sd_scripts, sd_scripts_deltas
from benchmarks.record import print_table, save
from benchmarks.standins import write_sd15
from portrayal.config import ATTENTION_TARGETS, FEED_FORWARD_TARGETS, BaseConfig, LoraMethod
from portrayal.formats.kohya import save_kohya_bytes, to_kohya
from portrayal.formats.lora import delta, read_own
from portrayal.formats.single_file import to_single_file
from portrayal.models.base import BaseModel, load_base, pipeline_of
from portrayal.models.lora_files import LoraFile, merged_loras, with_loras
from portrayal.models.methods import LORA_FILE, attach
from portrayal.models.source import find_base

PROMPT = "a photo of sks woman in the kitchen"
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "proj_in", "proj_out")
CASES = {
    "rank 64, alpha 22.63, attention and feed-forward": LoraMethod(rank=64, alpha=22.627),
    "rank 8, alpha 1, text encoder too": LoraMethod(
        rank=8, alpha=1, train_text_encoder=True, target_modules=ATTENTION_TARGETS
    ),
    "rank 4, alpha 4, convolutions and text encoder too": LoraMethod(
        rank=4,
        train_text_encoder=True,
        target_modules=ATTENTION_TARGETS + FEED_FORWARD_TARGETS + CONVOLUTIONS,
    ),
}


@torch.no_grad()
def output_of(unet: Any, text_encoder: Any, tokenizer: Any) -> Tensor:
    """What a UNet says of fixed latents under a fixed prompt."""
    ids = tokenizer([PROMPT], padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    said: Tensor = unet(latents, torch.tensor([400]), text_encoder(ids.input_ids)[0]).sample
    return said


def output_with(base: BaseModel) -> Tensor:
    """What a base says with whatever is in place on it."""
    return output_of(base.unet, base.text_encoder, base.tokenizer)


def error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, against the largest number."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def loaded(base: BaseModel, folder: Path, name: str) -> Tensor:
    """What the base says once diffusers has loaded a LoRA file."""
    pipeline = pipeline_of(base)
    pipeline.load_lora_weights(folder, weight_name=name, local_files_only=True)
    said = output_with(base)
    pipeline.unload_lora_weights()
    base.unet.eval()
    base.text_encoder.eval()
    return said


def states(*models: Any) -> list[dict[str, Tensor]]:
    """The weights of models."""
    return [model.state_dict() for model in models]


def read_back(file: Path, base: BaseModel) -> Any:
    """What diffusers makes of a single file."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_single_file(
        str(file), config=str(base.source.path), local_files_only=True, safety_checker=None
    )


def write_checkpoint(base: BaseModel, file: Path) -> dict[str, Tensor]:
    """The base as it is now in a single file."""
    from safetensors.torch import save_file

    tensors = to_single_file(*states(base.unet, base.vae, base.text_encoder))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return tensors


def case(
    base: BaseModel, method: LoraMethod, folder: Path, peers: argparse.Namespace, keys: list[str]
) -> dict[str, Any]:
    """One LoRA through all its files; errors are relative."""
    from safetensors.torch import load_file

    attached = attach(base, method, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in attached.named_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    said = output_with(base)
    attached.save(folder, "fp32")
    attached.detach()
    plain, alpha = output_with(base), float(method.rank if method.alpha is None else method.alpha)
    layers = read_own(load_file(folder / LORA_FILE), alpha)
    tensors = to_kohya({path: (layer.down, layer.up) for path, layer in layers.items()}, dict.fromkeys(layers, alpha))
    kohya = folder / "kohya.safetensors"
    kohya.write_bytes(save_kohya_bytes(tensors, {}))
    with with_loras(base, [LoraFile(kohya)]):
        ours = output_with(base)
    with merged_loras(base, [(layers, 1.0)]):
        write_checkpoint(base, folder / "merged.safetensors")
    pipeline = read_back(folder / "merged.safetensors", base)
    merged = output_of(pipeline.unet, pipeline.text_encoder, base.tokenizer)
    found: dict[str, Any] = {
        "layers": len(layers),
        "difference it makes": error(plain, said),
        "kohya file in diffusers": error(loaded(base, folder, kohya.name), said),
        "diffusers file in diffusers": error(loaded(base, folder, LORA_FILE), said),
        "kohya file in Portrayal": error(ours, said),
        "merged checkpoint in diffusers": error(merged, said),
    }
    names = {key.partition(".")[0] for key in tensors}
    if peers.comfyui:
        matched = names & known_to_comfyui(peers.comfyui, keys)
        found["names matched by ComfyUI"] = f"{len(matched)} of {len(names)}"
    if peers.automatic1111:
        matched = known_to_automatic1111(peers.automatic1111, keys, names)
        found["names matched by AUTOMATIC1111"] = f"{len(matched)} of {len(names)}"
    if peers.sd_scripts:
        with sd_scripts(peers.sd_scripts) as theirs:
            deltas = sd_scripts_deltas(theirs.lora, kohya, base.unet, base.text_encoder)
        wanted = {
            next(iter(to_kohya({path: (layer.down, layer.up)}, {path: alpha}))).partition(".")[0]: layer
            for path, layer in layers.items()
        }
        found["layers in sd-scripts"] = f"{len(deltas.keys() & wanted.keys())} of {len(wanted)}"
        found["delta weights of sd-scripts"] = max(
            error(deltas[name].reshape(-1), delta(layer).reshape(-1)) for name, layer in wanted.items()
        )
    return found


def whole(base: BaseModel, folder: Path, peers: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """A whole pipeline through a single file."""
    file = folder / "whole.safetensors"
    tensors = write_checkpoint(base, file)
    pipeline = read_back(file, base)
    pairs = zip(
        states(pipeline.unet, pipeline.vae, pipeline.text_encoder),
        states(base.unet, base.vae, base.text_encoder),
        strict=True,
    )
    same = [equal(theirs, ours) for theirs, ours in pairs]
    found = {"tensors": len(tensors), "bit for bit in diffusers": all(same)}
    if peers.sd_scripts:
        with sd_scripts(peers.sd_scripts) as theirs:
            util, checkpoint = theirs.model_util, dict(tensors)
            made = (
                util.convert_ldm_unet_checkpoint(False, checkpoint, util.create_unet_diffusers_config(False)),
                util.convert_ldm_vae_checkpoint(checkpoint, util.create_vae_diffusers_config()),
                util.convert_ldm_clip_checkpoint_v1(checkpoint),
            )
        ours = states(base.unet, base.vae, base.text_encoder)
        found["bit for bit in sd-scripts"] = all(equal(a, b) for a, b in zip(made, ours, strict=True))
    return found, list(tensors)


def equal(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> bool:
    """Whether two models have the same weights under the same names, whatever transformers calls its model."""
    one, other = (
        {name.removeprefix("text_model."): tensor for name, tensor in state.items() if "position_ids" not in name}
        for state in (theirs, ours)
    )
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def main() -> None:
    """Make the files, read them, print and save what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a diffusers folder of SD 1.5's shapes; written if not given")
    parser.add_argument("--sd-scripts", type=Path, help="folder of kohya's sd-scripts")
    parser.add_argument("--comfyui", type=Path, help="folder of ComfyUI")
    parser.add_argument("--automatic1111", type=Path, help="folder of stable-diffusion-webui")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = find_base(BaseConfig(name=str(arguments.base or write_sd15(folder / "base"))))
        base = load_base(source, device=torch.device("cpu"), dtype=torch.float32)
        checkpoint, keys = whole(base, folder, arguments)
        figures: dict[str, Any] = {"checkpoint": checkpoint}
        for name, method in CASES.items():
            figures[name] = case(base, method, folder / "lora", arguments, keys)
    for name, found in figures.items():
        print(f"\n{name}")
        print_table([{"what": key, "found": value} for key, value in found.items()])
    peers = {name: bool(getattr(arguments, name)) for name in ("sd_scripts", "comfyui", "automatic1111")}
    save("round_trips", figures, {"dtype": "fp32", "peers": peers})


if __name__ == "__main__":
    main()
