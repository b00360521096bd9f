"""A world small enough to look at every setting in it: a base with random weights that computes in milliseconds, a
ControlNet for it, seven small photos, and a run with a trained LoRA."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from portrayal.config import Config
from portrayal.pocket import WEIGHTS
from portrayal.run import Run, write_json
from portrayal.settings import load_config

EXAMPLES = Path(__file__).parents[2] / "examples" / "photos"
SIDE = 64
"""Side of the small base's pictures; its latents are 8 pixels wide."""

SMALL = (
    f"base.resolution={SIDE}",
    "subject.class_noun=woman",
    "study.full_unet=false",
    "study.ranks=[2,4]",
    "study.learning_rates=[1]",
    "study.folds=2",
    "study.readings=1",
    "method.unet.max_train_steps=3",
    "method.lora.max_train_steps=3",
    "method.lora.target_modules=['to_q','to_out.0']",
    "training.mixed_precision=no",
    "training.num_class_images=2",
    "training.checkpointing_steps=0",
    "generation.scenes={street='a photo of {subject} on the street'}",
    "generation.num_images_per_scene=1",
    "generation.num_inference_steps=4",
    "generation.batch_size=2",
    "control.num_images=1",
    "control.scales=[0,1]",
    "evaluation.num_timesteps=2",
    "evaluation.num_noises=1",
)
"""What every observation starts from."""


class World:
    """What observations of settings share; everything in it is made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0
        self.faces: dict[str, Any] = {}
        """Faces found in images, by the image's hash."""
        self.known: dict[tuple[str, ...], dict[str, Any]] = {}
        """What was observed, by observation and settings."""

    def filled(self, text: str) -> str:
        """A setting with the paths of what it names here: PHOTO, VAE, CONFIGS, CHECKPOINT."""
        places: dict[str, Callable[[], Path]] = {
            "PHOTO": lambda: self.photos / "wide.jpg",
            "VAE": lambda: self.base / "other-vae",
            "CONFIGS": lambda: self.configs,
            "CHECKPOINT": lambda: self.checkpoint,
        }
        for name, place in places.items():
            text = text.replace(name, str(place())) if name in text else text
        return text

    def config(self, *settings: str) -> Config:
        """The small settings with others, read as the command line reads them."""
        return load_config(None, [f"base.name={self.base}", *SMALL, *settings])

    def place(self) -> Path:
        """A folder of its own for one observation."""
        self.made += 1
        folder = self.folder / "observed" / str(self.made)
        folder.mkdir(parents=True)
        return folder

    @cached_property
    def base(self) -> Path:
        """A diffusers folder of random weights."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        folder = self.folder / "base"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            UNet2DConditionModel(
                sample_size=SIDE // 8,
                block_out_channels=(8, 16),
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=16,
                attention_head_dim=4,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            ).save_pretrained(folder / "unet")
            for name in ("vae", "other-vae"):
                AutoencoderKL(
                    block_out_channels=(4,) * 4,
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    norm_num_groups=2,
                    sample_size=SIDE,
                ).save_pretrained(folder / name)
            text = CLIPTextConfig.from_pretrained(WEIGHTS, subfolder="text_encoder")
            text.update({"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2})
            CLIPTextModel(text).save_pretrained(folder / "text_encoder")
        for part in ("tokenizer", "scheduler"):
            shutil.copytree(WEIGHTS / part, folder / part)
        return folder

    @cached_property
    def configs(self) -> Path:
        """Another folder of the small base's configs."""
        shutil.copytree(self.base, self.folder / "configs")
        return self.folder / "configs"

    @cached_property
    def checkpoint(self) -> Path:
        """The header of a checkpoint in a file: what is read of it before it is loaded."""
        from safetensors.torch import save_file

        layers = {"input_blocks.0.0.weight": (8, 4, 3, 3), "input_blocks.1.1.attn2.to_k.weight": (8, 16)}
        tensors = {f"model.diffusion_model.{name}": torch.zeros(shape) for name, shape in layers.items()}
        save_file(tensors, self.folder / "small.safetensors")
        return self.folder / "small.safetensors"

    @cached_property
    def controlnet(self) -> Path:
        """A ControlNet for the small base, whose last layers are not zero: it is heard."""
        from diffusers import ControlNetModel, UNet2DConditionModel

        with torch.random.fork_rng():
            torch.manual_seed(1)
            unet = UNet2DConditionModel.from_pretrained(self.base / "unet")
            controlnet = ControlNetModel.from_unet(unet, conditioning_channels=3)
            for weight in controlnet.parameters():
                if not weight.any():
                    torch.nn.init.normal_(weight, std=0.1)
        controlnet.save_pretrained(self.folder / "controlnet")
        return self.folder / "controlnet"

    @cached_property
    def photos(self) -> Path:
        """Seven photos: captioned.jpg has a caption, masked.jpg a mask, clear.png is transparent at its top,
        plain.jpg has a small face, wide.jpg is twice as wide as high, dark.jpg should be dropped."""
        folder = self.folder / "photos"
        folder.mkdir()
        numbers = {"captioned": 2041, "masked": 2042, "plain": 2064, "wide": 2061, "other": 2047, "dark": 2050}
        for name, number in numbers.items():
            with Image.open(EXAMPLES / f"IMG_{number}.jpg") as image:
                small = image.convert("RGB")
            small.thumbnail((160, 160))
            if name == "wide":
                small = small.resize((180, 90))
            if name == "dark":
                small = small.point(lambda value: value // 12)
            small.save(folder / f"{name}.jpg", quality=95)
        (folder / "captioned.txt").write_text("a photo of my friend")
        with Image.open(folder / "masked.jpg") as image:
            mask = Image.new("L", image.size)
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
        mask.save(folder / "masked.mask.png")
        clear = Image.effect_mandelbrot((120, 120), (-2.5, -2, 1.5, 2), 50).convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(clear.size).point(lambda value: 255 * (value > 63)))
        clear.save(folder / "clear.png")
        return folder

    @cached_property
    def prepared(self) -> Run:
        """A run whose photos are prepared; its folder is copied, never written to."""
        from portrayal.stages.prepare import prepare

        return prepare(self.photos, self.config(), self.folder / "prepared")

    @cached_property
    def lora(self) -> Path:
        """Folder of a trained LoRA of rank 2, whose updates are not zero."""
        return self.trained_lora("lora-2", seed=3)

    @cached_property
    def other_lora(self) -> Path:
        """Folder of another."""
        return self.trained_lora("lora-4", seed=5)

    def trained_lora(self, name: str, seed: int) -> Path:
        """A LoRA of rank 2 from drawn weights, written as a training does."""
        from portrayal.models.methods import attach
        from portrayal.stages.shared import settled_by, shared_base

        config = self.prepared.config
        method, folder = config.methods["lora-2"], self.folder / name
        attached = attach(shared_base(settled_by(config)), method, seed=seed)
        for part, weight in attached.named_parameters().items():
            if "lora_B" in part:
                torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(seed))
        attached.save(folder, "fp32")
        attached.detach()
        write_json(folder / "method.json", {"kind": "lora", "rank": 2, "step": 3})
        return folder

    def run(self, *settings: str, trained: bool = False) -> Run:
        """A run of its own with the prepared photos and other settings; perhaps with a trained LoRA."""
        folder = self.place() / "run"
        shutil.copytree(self.prepared.folder, folder)
        run = Run(folder, self.config(*settings))
        if trained:
            shutil.copytree(self.lora, run.model_folder("lora-2"))
        return run

    def write_scores(self, run: Run, **verdict: Any) -> None:
        """Scores of a run as far as later stages read them."""
        (run.folder / "scores.json").write_text(json.dumps({"models": [], "verdict": verdict}))
