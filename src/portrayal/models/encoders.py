"""Scorers: images (and texts) → embeddings. The embedded base brings its own; real photos are read by fetched ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from portrayal.errors import WeightsError
from portrayal.models.base import in_batches as within_memory
from portrayal.models.depth import DepthReader, load_depth_reader
from portrayal.models.identity import arcface_features, face_embeddings, sface_features, yunet_landmarks
from portrayal.models.pose import PhotoPoseReader, PoseReader, load_pose_reader
from portrayal.models.source import BaseSource
from portrayal.models.store import fetch_known, hash_files
from portrayal.parallel import in_threads
from portrayal.pocket import WEIGHTS

DINO = "facebook/dinov2-base"
CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # SD 1.5 conditions on another CLIP, so it does not mark its own work
BATCH = 16
T = TypeVar("T")

Embed = Callable[[Sequence[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Scorer:
    """One encoder and where it is from."""

    name: str
    licence: str
    images: Embed
    texts: Embed | None = None

    revision: str = ""
    """Commit of its repository, or hash of its file."""

    def as_json(self) -> dict[str, str]:
        """What `scores.json` records of it."""
        told = {"name": self.name, "licence": self.licence}
        return told | ({"revision": self.revision} if self.revision else {})


@dataclass(frozen=True)
class Encoders:
    """The scorers of a run; what could not be had is nothing, and `notes` says so."""

    identity: Scorer | None
    prompt: Scorer | None
    notes: tuple[str, ...] = field(default=())
    pose: PoseReader | PhotoPoseReader | None = None
    depth: DepthReader | None = None


class Judging(NamedTuple):
    """What the choice of scorers depends on, besides the base.

    Attributes:
        identity: `auto`, `auraface`, `sface`, `dinov2`, or an ONNX file of a face recogniser.
        person: Whether the subject is a person.
        readers: What pictures held to control images are read by: `pose`, `depth`.
    """

    identity: str = "auto"
    person: bool = True
    readers: tuple[str, ...] = ()


DEFAULT_JUDGING = Judging()


def load_encoders(source: BaseSource, device: torch.device, judging: Judging = DEFAULT_JUDGING) -> Encoders:
    """The scorers that fit a base: its own for `pocket`; for photographs faces or DINOv2, and a CLIP not the base's."""
    notes: list[str] = []
    if source.kind == "pocket":
        pose: Any = attempt(lambda: load_pose_reader(source, device), "poses", notes)
        clip = clip_scorer(WEIGHTS / "clip", "pocket's CLIP", "Apache-2.0", device)
        return Encoders(pocket_identity(device), clip, tuple(notes), pose)
    pose = attempt(lambda: load_pose_reader(source, device), "poses", notes) if "pose" in judging.readers else None
    depth = attempt(lambda: load_depth_reader(str(device)), "depth", notes) if "depth" in judging.readers else None
    identity = load_identity(judging, device, notes)
    prompt = attempt(lambda: revised_clip(device), "prompt fidelity", notes)
    return Encoders(identity, prompt, tuple(notes), pose, depth)


def load_identity(judging: Judging, device: torch.device, notes: list[str]) -> Scorer | None:
    """What tells the subject from others: faces for people, where they can be had; DINOv2 for anything else."""
    choices: dict[str, Callable[[], Scorer]] = {
        "auraface": auraface_scorer,
        "sface": sface_scorer,
        "dinov2": lambda: dino_scorer(fetch_known(DINO), device),
    }
    if judging.identity == "auto":
        order = ["auraface", "sface", "dinov2"] if judging.person else ["dinov2"]
    elif judging.identity in choices:
        order = [judging.identity]
    else:
        file = Path(judging.identity).expanduser()
        return attempt(lambda: file_scorer(file), "identity", notes)
    for name in order:
        found = attempt(choices[name], f"identity by {name}", notes)
        if found is not None:
            return found
    return None


def auraface_scorer() -> Scorer:
    """AuraFace over YuNet: a face recogniser that may be used for anything."""
    find, folder = yunet_landmarks(), fetch_known("auraface")
    features = arcface_features(folder / "glintr100.onnx")
    return Scorer(
        "AuraFace v1", "Apache-2.0", partial(face_embeddings, find=find, features=features), revision=folder.name
    )


def sface_scorer() -> Scorer:
    """SFace over YuNet."""
    find, folder = yunet_landmarks(), fetch_known("sface")
    features = sface_features(folder / "face_recognition_sface_2021dec.onnx")
    return Scorer("SFace", "Apache-2.0", partial(face_embeddings, find=find, features=features), revision=folder.name)


def file_scorer(file: Path) -> Scorer:
    """A face recogniser of the user's own, under terms that are the user's to keep."""
    if not file.is_file():
        raise WeightsError(f"evaluation.identity: there is no file {file}.", "Give auto, or an ONNX file.")
    features = arcface_features(file)
    hashed = hash_files([file])
    name = f"{file.name} (given by the user)"
    return Scorer(
        name, "not known", partial(face_embeddings, find=yunet_landmarks(), features=features), revision=hashed
    )


def attempt(load: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """A scorer, or nothing and a note when its weights cannot be had."""
    try:
        return load()
    except WeightsError as error:
        notes.append(f"Judged without {what}: {error.cause} {error.remedy}")
        return None


def pocket_identity(device: torch.device) -> Scorer:
    """The embedded identity encoder: metric learning over drawn people."""
    from transformers import ResNetModel

    folder = WEIGHTS / "identity"
    model = ResNetModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).to(device).eval()
    size = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))["crop_size"]["height"]

    def embed(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return in_batches(images, lambda chunk: model(pixels(chunk, size, device)).pooler_output.flatten(1))

    return Scorer("pocket's identity encoder", "Apache-2.0", embed)


def dino_scorer(folder: Path, device: torch.device) -> Scorer:
    """DINOv2's class token (Oquab et al. 2023, arXiv:2304.07193): subject fidelity as in DreamBooth's DINO metric."""
    from transformers import AutoModel

    options = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
    model = AutoModel.from_pretrained(folder, **options).to(device).eval()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def embed(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return in_batches(images, lambda chunk: model(pixels(chunk, 224, device, mean, std)).last_hidden_state[:, 0])

    return Scorer(DINO, "Apache-2.0", embed, revision=folder.name)


def clip_scorer(folder: Path, name: str, licence: str, device: torch.device) -> Scorer:
    """A CLIP (Radford et al. 2021, arXiv:2103.00020), both halves."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    options = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
    model = CLIPModel.from_pretrained(folder, **options).to(device).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    has_tokenizer = (folder / "vocab.json").is_file()
    tokenizer = CLIPTokenizer.from_pretrained(folder if has_tokenizer else WEIGHTS / "tokenizer", local_files_only=True)

    def embed_images(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        def features(chunk: Sequence[Any]) -> Tensor:
            values = in_threads(lambda image: processor(images=image, return_tensors="pt").pixel_values, chunk)
            return projected(model.get_image_features(pixel_values=torch.cat(values).to(device)))

        return in_batches(images, features)

    def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
        def features(chunk: Sequence[Any]) -> Tensor:
            tokens = tokenizer(list(chunk), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            return projected(model.get_text_features(**tokens.to(device)))

        return in_batches(texts, features)

    return Scorer(name, licence, embed_images, embed_texts)


def revised_clip(device: torch.device) -> Scorer:
    """The CLIP that judges prompts of photographs."""
    folder = fetch_known(CLIP)
    return replace(clip_scorer(folder, CLIP, "MIT", device), revision=folder.name)


def projected(output: Any) -> Tensor:
    """The projected features, which transformers returns as a tensor or inside an output object."""
    tensor: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return tensor


@torch.no_grad()
def in_batches(items: Sequence[Any], features: Callable[[Sequence[Any]], Tensor]) -> NDArray[np.float32]:
    """Features of all items, shape `(N, D)`; of fewer at once where memory is too small."""
    chunks = list(within_memory(items, BATCH, lambda chunk: features(chunk).float().cpu()))
    array: NDArray[np.float32] = torch.cat(chunks).numpy()
    return array


def pixels(
    images: Sequence[Image.Image],
    side: int,
    device: torch.device,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> Tensor:
    """Normalised pixels, shape `(N, 3, side, side)`."""

    def resized(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

    tensor = torch.from_numpy(np.stack(in_threads(resized, images))).permute(0, 3, 1, 2).float() / 255
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return ((tensor - shift) / scale).to(device)
