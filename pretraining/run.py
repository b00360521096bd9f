"""One run of :mod:`pretraining.make`: its folder, its stages in order, finished ones skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPModel, CLIPTokenizer, ResNetModel, VitPoseForPoseEstimation

from pretraining import architecture as build
from pretraining.card import model_card
from pretraining.clip import train_clip
from pretraining.controlnet import train_controlnet
from pretraining.data import Drawn, render, sample_captions
from pretraining.dataset import Dataset, load_dataset
from pretraining.devices import on_device, set_up_device
from pretraining.evaluate import HELD_OUT_SEED, SAMPLER_STEPS, evaluate
from pretraining.export import MAX_TOTAL_BYTES, Pocket, export
from pretraining.identity import train_identity
from pretraining.judge import Judge, build_judge, save_judge, train_judge
from pretraining.loop import Clock, Plan, save_tensors
from pretraining.pose import build_pose_reader, train_pose_reader
from pretraining.settings import STAGES, Settings
from pretraining.tokenizer import encode_prompts, learn_tokenizer, save_tokenizer, vocabulary_of
from pretraining.unet import Denoiser, Latents, train_unet
from pretraining.vae import encode_all, train_vae

Model = TypeVar("Model", bound=nn.Module)

PROMPT_SEED = 2_000_003


class Run:
    """The folder ``out``: ``state/`` to go on from, ``pocket/`` the result, sheets, ``metrics.json`` and the log."""

    def __init__(self, out: Path, settings: Settings, clock: Clock) -> None:
        self.out, self.state, self.settings, self.clock = out, out / "state", settings, clock
        self.state.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)

    @property
    def drawn(self) -> bool:
        """Whether an earlier call drew the pictures, and so also compiled."""
        return (self.state / "held_out" / "tokens.safetensors").exists()

    def save_progress(self) -> None:
        """Keep the seconds used and the finished stages' figures."""
        (self.state / "progress.json").write_text(
            json.dumps({"elapsed": self.clock.elapsed, "stages": self.clock.stages})
        )

    def draw(self, processes: int) -> None:
        """Tokenizer, training pictures and held-out pictures; must come before anything touches CUDA."""
        if not (self.state / "tokenizer").exists():
            people = 50 if self.settings.smoke else 2_000
            tokenizer = learn_tokenizer(sample_captions(np.random.default_rng([PROMPT_SEED, 1]), people))
            save_tokenizer(tokenizer, self.state / "tokenizer")
            self.clock.log(f"tokenizer: {len(tokenizer)} tokens")
        settings = self.settings
        self._draw_part("train", settings.people, settings.per_person, settings.seed, processes)
        people, each = settings.held_out_people, settings.held_out_per_person
        self._draw_part("held_out", people, each, settings.seed + HELD_OUT_SEED, processes)

    def _draw_part(self, name: str, people: int, each: int, seed: int, processes: int) -> None:
        folder = self.state / name
        if (folder / "tokens.safetensors").exists():
            return
        drawn = render(folder, people=people, per_person=each, seed=seed, processes=processes)
        self.clock.log(f"drew {len(drawn.pictures)} pictures of {people} people ({name})")
        save_tensors({"tokens": self._tokens(drawn)}, folder / "tokens.safetensors")
        self.clock.log("encoded their captions")

    def _tokens(self, drawn: Drawn) -> torch.Tensor:
        flat = [text for texts in drawn.captions for text in texts]
        ids = torch.tensor(encode_prompts(self.tokenizer, flat), dtype=torch.int16)
        return ids.view(len(drawn.captions), -1, ids.shape[-1])

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer learned by :meth:`draw`."""
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(self.state / "tokenizer")
        return tokenizer

    @cached_property
    def device(self) -> torch.device:
        """The training device; the first use starts CUDA."""
        return set_up_device()

    def load(self, name: str, per_person: int) -> Dataset:
        """The drawn pictures of ``train`` or ``held_out`` on the device."""
        return load_dataset(self.state / name, per_person, self.device)

    @cached_property
    def data(self) -> Dataset:
        """The training pictures, on the device."""
        return self.load("train", self.settings.per_person)

    def train(self, last: str = STAGES[-1], again: tuple[str, ...] = ()) -> None:
        """Every stage up to ``last``, in order of need; those of ``again`` even if they are finished."""
        settings, clock = self.settings, self.clock
        trainings: dict[str, Callable[[], nn.Module]] = {
            "vae": lambda: train_vae(self.vae, self.data, settings.vae(), clock),
            "clip": lambda: train_clip(self.clip, self.vae, self.data, settings.clip(), clock),
            "identity": lambda: train_identity(self.identity, self.vae, self.data, settings.identity(), clock),
            "judge": lambda: train_judge(self.judge, self.vae, self.data, settings.judge(), clock),
            "pose": lambda: train_pose_reader(self.pose, self.vae, self.data, settings.pose(), clock),
            "unet": lambda: train_unet(self.denoiser, self.latents, settings.unet(), clock),
            "controlnet_canny": lambda: self._train_controlnet("canny", settings.controlnet_canny()),
            "controlnet_openpose": lambda: self._train_controlnet("openpose", settings.controlnet_openpose()),
        }
        for stage in STAGES[: STAGES.index(last) + 1]:
            model: nn.Module = getattr(self, "denoiser" if stage == "unet" else stage)
            self._stage(stage, model, trainings[stage], stage in again)
            if stage == "vae":
                self.vae.register_to_config(scaling_factor=self._scaling_factor())

    @cached_property
    def vae(self) -> AutoencoderKL:
        """Autoencoder."""
        return on_device(build.build_vae(), self.device)

    @cached_property
    def clip(self) -> CLIPModel:
        """CLIP."""
        return build.build_clip(vocabulary_of(self.tokenizer)).to(self.device)

    @cached_property
    def identity(self) -> ResNetModel:
        """Identity encoder."""
        return on_device(build.build_identity(), self.device)

    @cached_property
    def judge(self) -> Judge:
        """Classifier of what is in a picture."""
        return on_device(build_judge(), self.device)

    @cached_property
    def pose(self) -> VitPoseForPoseEstimation:
        """Pose reader."""
        return on_device(build_pose_reader(), self.device)

    @cached_property
    def denoiser(self) -> Denoiser:
        """UNet, and a text encoder that starts as CLIP's."""
        text_encoder = deepcopy(self.clip.text_model).requires_grad_(True)
        return Denoiser(on_device(build.build_unet(), self.device), text_encoder)

    @cached_property
    def controlnet_canny(self) -> ControlNetModel:
        """ControlNet for edges; read only once the UNet is trained."""
        return on_device(build.build_controlnet(self.denoiser.unet), self.device)

    @cached_property
    def controlnet_openpose(self) -> ControlNetModel:
        """ControlNet for skeletons; read only once the UNet is trained."""
        return on_device(build.build_controlnet(self.denoiser.unet), self.device)

    def _train_controlnet(self, kind: str, plan: Plan) -> nn.Module:
        model: ControlNetModel = getattr(self, f"controlnet_{kind}")
        trained: nn.Module = train_controlnet(model, self.denoiser, self.data, self.latents, kind, plan, self.clock)
        return trained

    def _stage(self, name: str, model: Model, train: Callable[[], nn.Module], again: bool) -> None:
        """Load ``model``'s weights if the stage is finished; else train, put the result into ``model`` and keep it.

        A stage that is trained again starts from its weights, and once more becomes finished: the marker beside them
        says so, so that a call after a pause goes on instead of starting over.
        """
        path, marker = self.state / f"{name}.safetensors", self.state / f"{name}.again"
        if path.exists():
            model.load_state_dict(load_file(path))
        if not path.exists() or (again and not marker.exists()):
            self.clock.log(f"{name}: starts")
            weights = {key: value.detach().clone() for key, value in train().state_dict().items()}
            if name == "vae":
                self._write("vae.json", {"scaling_factor": self.vae.config.scaling_factor})
            save_tensors(weights, path)
            (self.state / f"{name}_training.safetensors").unlink(missing_ok=True)
            if again:
                marker.touch()
            self.save_progress()
            model.load_state_dict(weights)
        model.requires_grad_(False).eval()

    def _scaling_factor(self) -> float:
        value: float = json.loads((self.state / "vae.json").read_text())["scaling_factor"]
        return value

    def _write(self, name: str, value: Any) -> None:
        (self.state / name).write_text(json.dumps(value))

    @cached_property
    def latents(self) -> Latents:
        """Latents and prompt embeddings of every training picture, encoded once."""
        mean, deviation = encode_all(self.vae, self.data)
        self.clock.log(f"latents encoded; scaling factor {self.vae.config.scaling_factor:.4f}")
        empty = torch.tensor(encode_prompts(self.tokenizer, [""])[0], dtype=torch.int16, device=self.device)
        return Latents(mean, deviation, self.data.tokens, empty)

    def pocket(self) -> Pocket:
        """All parts, as they are now."""
        return Pocket(
            self.tokenizer,
            self.vae,
            self.clip,
            self.denoiser.text_encoder,
            self.identity,
            self.pose,
            self.denoiser.unet,
            {"canny": self.controlnet_canny, "openpose": self.controlnet_openpose},
        )

    def finish(self) -> None:
        """Export, judge what was exported, write the figures and the card."""
        folder = self.out / "pocket"
        sizes = export(self.pocket(), folder)
        save_judge(self.judge, self.out / "judge")
        self.clock.log(f"exported {sizes['total']:.1f} MB")
        if sizes["total"] * 1e6 > MAX_TOTAL_BYTES:
            self.clock.log(f"WARNING: larger than {MAX_TOTAL_BYTES / 1e6:.0f} MB")
        metrics = self._facts(sizes) | self._figures(folder)
        metrics["minutes"] = sum(stage["seconds"] for stage in self.clock.stages.values()) / 60
        (self.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(metrics), encoding="utf-8")
        self.clock.log(json.dumps({key: value for key, value in metrics.items() if key != "parts"}))
        self.clock.log("done")

    def _figures(self, folder: Path) -> dict[str, Any]:
        samples, steps = (8, 2) if self.settings.smoke else (1000, SAMPLER_STEPS)
        held_out = self.load("held_out", self.settings.held_out_per_person)
        seed = self.settings.seed + HELD_OUT_SEED
        return evaluate(folder, self.out / "judge", held_out, self.out, samples=samples, steps=steps, seed=seed)

    def _facts(self, sizes: dict[str, float]) -> dict[str, Any]:
        models = {
            "vae": self.vae,
            "text_encoder": self.denoiser.text_encoder,
            "unet": self.denoiser.unet,
            "controlnet_canny": self.controlnet_canny,
            "controlnet_openpose": self.controlnet_openpose,
            "clip": self.clip,
            "identity": self.identity,
            "pose": self.pose,
        }
        parts = {
            name: {
                "class": "CLIPTextModel" if name == "text_encoder" else type(model).__name__,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "megabytes": sizes[name],
            }
            for name, model in models.items()
        }
        return {
            "parts": parts,
            "total_megabytes": sizes["total"],
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "a CPU",
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "seed": self.settings.seed,
            "people": self.settings.people,
            "pictures": self.settings.people * self.settings.per_person,
            "scaling_factor": self.vae.config.scaling_factor,
            "vocabulary": len(self.tokenizer),
            "unet_batch": self.clock.stages["unet"]["batch_size"],
            "unet_steps": self.clock.stages["unet"]["steps"],
            "stages": self.clock.stages,
        }
