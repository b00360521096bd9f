"""One run of :mod:`pretraining.make`: its folder, its stages in order, finished ones skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTokenizer

from pretraining import architecture as build
from pretraining.card import model_card
from pretraining.clip import prompt_embeddings, train_clip
from pretraining.controlnet import train_controlnet
from pretraining.data import Drawn, render, sample_captions
from pretraining.dataset import Dataset
from pretraining.devices import on_device, set_up_device
from pretraining.evaluate import SAMPLER_STEPS, evaluate
from pretraining.export import MAX_TOTAL_BYTES, Pocket, export
from pretraining.identity import train_identity
from pretraining.loop import Clock, save_tensors
from pretraining.settings import Settings
from pretraining.tokenizer import encode_prompts, learn_tokenizer, save_tokenizer, vocabulary_of
from pretraining.unet import Latents, train_unet
from pretraining.vae import encode_all, train_vae

Model = TypeVar("Model", bound=nn.Module)

HELD_OUT_SEED = 1_000_003
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
        folder = self.state / name
        pictures, edges = (torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("pictures", "edges"))
        tokens = load_file(folder / "tokens.safetensors")["tokens"]
        return Dataset(pictures.to(self.device), edges.to(self.device), tokens.to(self.device), per_person)

    @cached_property
    def data(self) -> Dataset:
        """The training pictures, on the device."""
        return self.load("train", self.settings.per_person)

    def train(self) -> None:
        """Every stage, in order of need."""
        settings, clock = self.settings, self.clock
        self.vae = on_device(build.build_vae(), self.device)
        self._stage("vae", self.vae, lambda: train_vae(self.vae, self.data, settings.vae(), clock))
        self.vae.register_to_config(scaling_factor=self._scaling_factor())
        self.clip = build.build_clip(vocabulary_of(self.tokenizer)).to(self.device)
        self._stage("clip", self.clip, lambda: train_clip(self.clip, self.vae, self.data, settings.clip(), clock))
        self.identity = on_device(build.build_identity(), self.device)
        self._stage(
            "identity",
            self.identity,
            lambda: train_identity(self.identity, self.vae, self.data, settings.identity(), clock),
        )
        self.unet = on_device(build.build_unet(), self.device)
        saved = self.state / "unet_training.safetensors"
        self._stage("unet", self.unet, lambda: train_unet(self.unet, self.latents, settings.unet(), clock, saved))
        self.controlnet = on_device(build.build_controlnet(self.unet), self.device)
        self._stage("controlnet", self.controlnet, self._train_controlnet)

    def _train_controlnet(self) -> nn.Module:
        plan = self.settings.controlnet()
        trained: nn.Module = train_controlnet(self.controlnet, self.unet, self.data, self.latents, plan, self.clock)
        return trained

    def _stage(self, name: str, model: Model, train: Callable[[], nn.Module]) -> None:
        """Load ``model``'s weights if the stage is finished; else train, put the result into ``model`` and keep it."""
        path = self.state / f"{name}.safetensors"
        if path.exists():
            weights = load_file(path)
        else:
            self.clock.log(f"{name}: starts")
            weights = {key: value.detach().clone() for key, value in train().state_dict().items()}
            if name == "vae":
                self._write("vae.json", {"scaling_factor": self.vae.config.scaling_factor})
            save_tensors(weights, path)
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
        count, captions, length = self.data.tokens.shape
        prompts = prompt_embeddings(self.clip, self.data.tokens.view(-1, length))
        nothing = torch.tensor(encode_prompts(self.tokenizer, [""]), device=self.device)
        empty = prompt_embeddings(self.clip, nothing)[0]
        self.clock.log(f"latents and prompts encoded; scaling factor {self.vae.config.scaling_factor:.4f}")
        return Latents(mean, deviation, prompts.view(count, captions, length, -1), empty)

    def pocket(self) -> Pocket:
        """All parts, as they are now."""
        return Pocket(self.tokenizer, self.vae, self.clip, self.identity, self.unet, self.controlnet)

    def export_unfinished(self) -> None:
        """What a paused run has so far, with an idle ControlNet: something to hold if the machine does not return."""
        weights = load_file(self.state / "unet_training.safetensors")
        average = {key.removeprefix("average."): value for key, value in weights.items() if key.startswith("average.")}
        self.unet.load_state_dict(average)
        self.controlnet = build.build_controlnet(self.unet)
        sizes = export(self.pocket(), self.out / "unfinished")
        self.clock.log(f"exported the unfinished base, {sizes['total']:.1f} MB")

    def finish(self) -> None:
        """Export, judge what was exported, write the figures and the card."""
        folder = self.out / "pocket"
        sizes = export(self.pocket(), folder)
        self.clock.log(f"exported {sizes['total']:.1f} MB")
        if sizes["total"] * 1e6 > MAX_TOTAL_BYTES:
            self.clock.log(f"WARNING: larger than {MAX_TOTAL_BYTES / 1e6:.0f} MB")
        metrics = self._facts(sizes) | self._figures(folder)
        metrics["minutes"] = self.clock.elapsed / 60
        for place in (self.out, folder):
            (place / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(metrics), encoding="utf-8")
        self.clock.log(json.dumps({key: value for key, value in metrics.items() if key != "parts"}))
        self.clock.log("done")

    def _figures(self, folder: Path) -> dict[str, Any]:
        smoke = self.settings.smoke
        prompts = self.prompts()
        held_out = self.load("held_out", self.settings.held_out_per_person)
        seeds, steps = (2, 2) if smoke else (8, SAMPLER_STEPS)
        figures = evaluate(folder, held_out, prompts, self.out, seeds=seeds, steps=steps)
        return {**figures, "prompts": len(prompts), "sample_prompts": prompts, "held_out_people": held_out.people}

    def prompts(self) -> list[str]:
        """A caption of an unseen shot in each scene."""
        from pretraining.world import SCENES, captions, sample_person, sample_shot

        rng = np.random.default_rng(PROMPT_SEED)
        return [captions(sample_person(rng), sample_shot(rng, scene=scene), rng, 1)[0] for scene in SCENES]

    def _facts(self, sizes: dict[str, float]) -> dict[str, Any]:
        models = {
            "vae": self.vae,
            "text_encoder": self.clip.text_model,
            "unet": self.unet,
            "controlnet_canny": self.controlnet,
            "clip": self.clip,
            "identity": self.identity,
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
