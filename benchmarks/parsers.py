"""Every parser of ours that reads files of others, each with whole files to start from: for `hostile` and `fuzz`.

A parser takes bytes and a folder of its own, and answers in a word: it reads them, or refuses them with one of our
errors. Anything else (another exception, a crash, a hang, a file written) is a fault.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save

from portrayal.data.manifest import load_dataset
from portrayal.errors import PortrayalError
from portrayal.estimate.afterwards import whole_stages
from portrayal.formats.png import a1111_parameters, parse_a1111, read_settings
from portrayal.generation.prompts import fragments_of
from portrayal.models.lora_files import load_lora, parse_lora
from portrayal.models.source import input_channels, part_config, pocket_source
from portrayal.photos.read import decode_photo
from portrayal.photos.sources import find_photos
from portrayal.planning import empty_parts
from portrayal.run import Run
from portrayal.settings import load_config
from portrayal.training.checkpoint import load_checkpoint, save_checkpoint

Parse = Callable[[bytes, Path], object]


class Parser(NamedTuple):
    """Reads bytes as one kind of file.

    Attributes:
        parse: Does, in a folder of its own; raises one of our errors to refuse them.
        seeds: Whole files.
    """

    parse: Parse
    seeds: Callable[[], Sequence[bytes]]


def outcome(name: str, content: bytes, folder: Path) -> str:
    """What a parser makes of bytes: `read` or `refused`.

    Raises:
        RuntimeError: If it wrote something.
        Exception: What else it raises is a fault of it.
    """
    before = set(folder.rglob("*"))
    word = "read"
    try:
        PARSERS[name].parse(content, folder)
    except PortrayalError as error:
        word = f"refused: {type(error).__name__}"
        if not error.cause.strip():
            raise RuntimeError("refused without a word") from error
    written = set(folder.rglob("*")) - before
    if [path for path in written if path.name not in WRITTEN_HERE]:
        raise RuntimeError(f"something was written: {sorted(written)}")
    return word


WRITTEN_HERE = {
    "file.safetensors", "recipe.toml", "manifest.json", "photo.jpg", "photo.txt", "metadata.jsonl", "photos.zip",
    "file.png", "config.toml", "run.json", "config.json", "unet", "events.jsonl", "00000001", "state.json",
    "tensors.safetensors", "checkpoint", "adapter_model.safetensors", "adapter_config.json",
}  # fmt: skip


def put(folder: Path, name: str, content: bytes) -> Path:
    """A file to be read."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# What they do ----------------------------------------------------------------------------------------------------


def image(content: bytes, _: Path) -> object:
    """A picture."""
    return decode_photo("photo.jpg", content)


def archive(content: bytes, folder: Path) -> object:
    """An archive, with what is in it."""
    found = find_photos(put(folder, "photos.zip", content))
    return [decode_photo(photo.name, photo.content()) for photo in found.photos[:5]]


def lora(content: bytes, folder: Path) -> object:
    """A LoRA file."""
    path = put(folder, "file.safetensors", content)
    return parse_lora(f"{path}:0.5").hash, load_lora(path, layers())


def peft(content: bytes, folder: Path) -> object:
    """The settings beside a LoRA of PEFT's."""
    put(folder, "adapter_config.json", content)
    return load_lora(put(folder, "adapter_model.safetensors", lora_seeds()[2]), layers())


def base(content: bytes, folder: Path) -> object:
    """A whole checkpoint, as far as it is looked at before it is read."""
    return input_channels(put(folder, "file.safetensors", content))


def config(content: bytes, folder: Path) -> object:
    """A config of a model's part."""
    put(folder, "unet/config.json", content)
    return part_config(folder, "unet")


def recipe(content: bytes, folder: Path) -> object:
    """A recipe."""
    return load_config(str(put(folder, "recipe.toml", content)))


def setting(content: bytes, _: Path) -> object:
    """What follows `--set`."""
    return load_config(None, [content.decode("utf-8", "replace")])


def run(content: bytes, folder: Path) -> object:
    """The settings and the record of a run, cut in two at the first zero byte."""
    first, _, second = content.partition(b"\0")
    put(folder, "config.toml", first)
    put(folder, "run.json", second)
    opened = Run.open(folder)
    return opened.provenance, opened.finished("prepare", None)


def manifest(content: bytes, folder: Path) -> object:
    """The manifest of a prepared dataset."""
    put(folder, "manifest.json", content)
    return load_dataset(folder)


def caption(content: bytes, folder: Path) -> object:
    """A caption beside a photo."""
    put(folder, "photo.jpg", picture())
    put(folder, "photo.txt", content)
    return [photo.caption for photo in find_photos(folder).photos]


def metadata(content: bytes, folder: Path) -> object:
    """Captions of a whole folder."""
    put(folder, "photo.jpg", picture())
    put(folder, "metadata.jsonl", content)
    return [photo.caption for photo in find_photos(folder).photos]


def settings(content: bytes, folder: Path) -> object:
    """The settings inside a painted picture."""
    return read_settings(put(folder, "file.png", content))


def parameters(content: bytes, _: Path) -> object:
    """What AUTOMATIC1111 writes into a picture."""
    return parse_a1111(content.decode("utf-8", "replace"))


def prompt(content: bytes, _: Path) -> object:
    """A prompt with weights."""
    return fragments_of(content.decode("utf-8", "replace"))


def events(content: bytes, folder: Path) -> object:
    """What happened in a run."""
    return whole_stages(put(folder, "events.jsonl", content))


def checkpoint(content: bytes, folder: Path) -> object:
    """A checkpoint: what is damaged is not gone on from."""
    where = folder / "checkpoint"
    save_checkpoint(where, {"step": 1, "weight": torch.zeros(2)})
    put(where / "00000001", "state.json", content)
    return load_checkpoint(where)


# What they start from --------------------------------------------------------------------------------------------


@cache
def layers() -> dict[str, tuple[int, ...]]:
    """The layers that LoRA files are read for, with the shapes of their weights: those of the embedded base."""
    found: dict[str, tuple[int, ...]] = {}
    for part, model in empty_parts(pocket_source("")).items():
        for name, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                found[f"{part}.{name}"] = tuple(layer.weight.shape)
    return found


@cache
def picture(kind: str = "JPEG", **options: int) -> bytes:
    """A small picture."""
    y, x = np.mgrid[0:24, 0:32]
    drawn = Image.fromarray(np.stack([x * 8, y * 10, (x * y) % 256], axis=2).astype(np.uint8))
    content = io.BytesIO()
    drawn.save(content, kind, **options)
    return content.getvalue()


def archive_seeds() -> list[bytes]:
    """Archives stored and packed."""
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as written:
            written.writestr("10_sks woman/a.jpg", picture())
            written.writestr("10_sks woman/a.txt", "sks woman at sea")
            written.writestr("../../up.png", picture("PNG"))
            written.writestr("metadata.jsonl", json.dumps({"file_name": "a.jpg", "text": "x"}))
        found.append(content.getvalue())
    return found


@cache
def lora_seeds() -> list[bytes]:
    """LoRA files as kohya's, diffusers and PEFT name them."""
    outputs, inputs, *_ = layers()["unet.mid_block.attentions.0.proj_in"]
    down, up = torch.ones(2, inputs), torch.ones(outputs, 2)
    told = json.dumps({"unet.r": 2, "unet.lora_alpha": 4, "unet.alpha_pattern": {"proj_in": 1.0}})
    key, plain = "lora_unet_mid_block_attentions_0_proj_in", "unet.mid_block.attentions.0.proj_in"
    return [
        save({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}),
        save({f"{plain}.lora.down.weight": down, f"{plain}.lora.up.weight": up}, {"lora_adapter_metadata": told}),
        save({f"base_model.model.{plain}.lora_A.weight": down, f"base_model.model.{plain}.lora_B.weight": up}),
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"{}",
    ]


def base_seeds() -> list[bytes]:
    """What is looked at of a checkpoint."""
    first, text = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.a.attn2.to_k.weight"
    return [save({first: torch.zeros(4, 4, 1, 1), text: torch.zeros(4, 8)}), save({"lora_a": torch.zeros(1)})]


def settings_seeds() -> list[bytes]:
    """A painted picture."""
    told, content = PngInfo(), io.BytesIO()
    told.add_text("portrayal", json.dumps({"prompt": "sks woman", "seed": 1, "controls": []}))
    told.add_itxt("parameters", "a, b\nSteps: 2", zip=True)
    Image.new("RGB", (8, 8)).save(content, "PNG", pnginfo=told)
    return [content.getvalue()]


def run_seeds() -> list[bytes]:
    """A run's two files."""
    record = json.dumps({"base": {"name": "pocket", "sha256": "0"}, "photos": ["a"]}).encode()
    return [load_config().to_toml().encode() + b"\0" + record]


def manifest_seeds() -> list[bytes]:
    """A manifest."""
    photo = {
        "id": "0" * 12, "photo_id": "0" * 12, "source_name": "a.jpg", "width": 64, "height": 64,
        "crop": [0, 0, 64, 64], "upscaled": False, "framing": "whole", "masked": False, "caption": "sks woman",
        "caption_from": "template", "fold": 0, "use": "both", "near_duplicate_of": None, "shape": [64, 64],
    }  # fmt: skip
    told = {"schema": 3, "resolution": 64, "instance_prompt": "sks woman", "class_noun": "woman", "seed": 0}
    return [json.dumps(told | {"photos": [], "findings": []}).encode(), json.dumps(told | {"photos": [photo]}).encode()]


def text_seeds(*texts: str) -> Callable[[], list[bytes]]:
    """Texts."""
    return lambda: [text.encode() for text in texts]


DEEP = "[" * 100_000
PARSERS: dict[str, Parser] = {
    "image": Parser(image, lambda: [picture(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")]),
    "archive": Parser(archive, archive_seeds),
    "lora": Parser(lora, lora_seeds),
    "peft": Parser(peft, text_seeds('{"r": 2, "lora_alpha": 4, "alpha_pattern": {"^proj": 1}}', "{}", DEEP)),
    "base": Parser(base, base_seeds),
    "config": Parser(config, text_seeds('{"_class_name": "UNet2DConditionModel", "in_channels": 4}', "[]", DEEP)),
    "recipe": Parser(
        recipe,
        text_seeds(
            "seed = 1\n[study]\nranks = [2, 4]\n[generation.scenes]\nbeach = 'a {subject}'\n",
            f"x = {DEEP}",
            "a." * 20_000 + "b = 1",
            "[subject]\nclass_noun = '../../x'\n[base]\nname = '/etc/passwd'\n",
        ),
    ),
    "setting": Parser(setting, text_seeds("study.ranks=[2,4]", "generation.scenes.beach=a {subject}", "seed=1", DEEP)),
    "run": Parser(run, run_seeds),
    "manifest": Parser(manifest, manifest_seeds),
    "caption": Parser(caption, text_seeds("sks woman at sea", "\ufeffa\r\nb", "x" * 5000)),
    "metadata": Parser(metadata, text_seeds('{"file_name": "photo.jpg", "text": "sks woman"}\n{"file_name": 3}', DEEP)),
    "settings": Parser(settings, settings_seeds),
    "parameters": Parser(
        parameters, lambda: [a1111_parameters("a, (b:1.2)", "c", {"Steps": 25, "Model": 'x: "y"'}).encode()]
    ),
    "prompt": Parser(prompt, text_seeds("a (b:1.2) [c] \\(d\\) ((e))", "(" * 3000)),
    "events": Parser(
        events,
        text_seeds(
            '{"time": 1.0, "stage": "train.unet", "kind": "started"}\n'
            '{"time": 2.5, "stage": "train.unet", "kind": "finished"}\n{"ti'
        ),
    ),
    "checkpoint": Parser(checkpoint, text_seeds('{"sha256": "0", "state": "{}"}', "[]", DEEP)),
}
