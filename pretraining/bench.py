"""What is measured of a base, one method a figure: reconstruction, prompts obeyed, control followed, realism.

Shapes: N pictures, B of a batch, D features, J joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, ResNetModel, VitPoseForPoseEstimation

from pretraining import scores
from pretraining.clip import embed_pictures, embed_texts, similarities
from pretraining.dataset import CONTROLS, Dataset
from pretraining.identity import embed_people
from pretraining.judge import Judge, judge_logits
from pretraining.pose import joints_right, read_keypoints
from pretraining.tokenizer import encode_prompts
from pretraining.unet import Denoiser, Latents, held_out_loss
from pretraining.vae import encode_all, reconstruct
from pretraining.world.labels import LABELS, UNSEEN

BATCH = 64
GUIDANCE = 5.0
NAMED = (
    "scene", "clothes colour", "clothes", "pattern", "hair colour", "hair style", "glasses", "hat", "pose", "framing",
    "gender",
)  # fmt: skip
"""What prompts surely name, where the picture shows it; see :func:`pretraining.world.captions.prompt_for`."""
NAMED_IF_PRESENT = ("pattern", "hat")
"""What prompts do not mention when there is none: the first class does not count."""


@dataclass(frozen=True)
class Bench:
    """A base, its judge, and the pictures that it is asked to paint: the first ones held out."""

    folder: Path
    judge: Judge
    data: Dataset
    prompts: list[str]
    steps: int

    def __post_init__(self) -> None:
        self.judge.to(self.data.device)

    @property
    def rows(self) -> slice:
        """Of the pictures that the prompts describe."""
        return slice(0, len(self.prompts))

    @cached_property
    def pipeline(self) -> StableDiffusionPipeline:
        """The base with its sampler."""
        pipeline = StableDiffusionPipeline.from_pretrained(self.folder).to(self.data.device)
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @cached_property
    def clip(self) -> CLIPModel:
        """The base's CLIP."""
        return CLIPModel.from_pretrained(self.folder / "clip").to(self.data.device).eval()

    @cached_property
    def reader(self) -> VitPoseForPoseEstimation:
        """The base's pose reader."""
        return VitPoseForPoseEstimation.from_pretrained(self.folder / "pose").to(self.data.device).eval()

    def facts(self) -> dict[str, Any]:
        """How many pictures, and of what."""
        return {
            "samples": len(self.prompts),
            "sampler_steps": self.steps,
            "guidance": GUIDANCE,
            "held_out_people": self.data.people,
            "held_out_pictures": len(self.data),
            "sample_prompts": self.prompts[:8],
        }

    def autoencoder(self, sheet: Path) -> dict[str, float]:
        """Peak signal-to-noise ratio and structural similarity; the sheet holds pictures above reconstructions."""
        vae: AutoencoderKL = self.pipeline.vae
        pictures = [self.data.pixels(rows) for rows in self.batches(len(self.prompts))]
        rebuilt = [reconstruct(vae, batch, precise=True) for batch in pictures]
        shown = slice(0, 8 * self.data.per_person, self.data.per_person)
        save_sheet([torch.cat(pictures)[shown], torch.cat(rebuilt)[shown]], sheet)
        pairs = list(zip(pictures, rebuilt, strict=True))
        squares = torch.cat([(first - second).square().mean(dim=(1, 2, 3)) for first, second in pairs])
        return {
            "psnr_db": (10 * torch.log10(4 / squares.mean())).item(),
            "ssim": torch.cat([scores.ssim(first, second) for first, second in pairs]).mean().item(),
        }

    def denoiser_error(self) -> float:
        """Noise error averaged over timesteps."""
        mean, deviation = encode_all(self.pipeline.vae, self.data)
        latents = Latents(mean, deviation, self.data.tokens, self.data.tokens[0, 0])
        return held_out_loss(Denoiser(self.pipeline.unet, self.pipeline.text_encoder), latents)

    def retrieval(self) -> float:
        """Share of pictures whose own caption CLIP ranks first among 64."""
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(0)).to(self.data.device)
        right = []
        for rows in order[: max(BATCH, len(self.data) // BATCH * BATCH)].split(BATCH):
            pictures = embed_pictures(self.clip, self.data.pixels(rows))
            logits = similarities(self.clip, pictures, embed_texts(self.clip, self.data.tokens[rows, 0].long()))
            right.append(logits.argmax(1) == torch.arange(len(rows), device=self.data.device))
        return torch.cat(right).float().mean().item()

    def identity(self) -> dict[str, float]:
        """Cosines of pairs of pictures, the same person's against different people's."""
        model = ResNetModel.from_pretrained(self.folder / "identity").to(self.data.device).eval()
        parts = [embed_people(model, self.data.pixels(rows)) for rows in self.batches(len(self.data))]
        embeddings = functional.normalize(torch.cat(parts).float(), dim=-1)
        first, second = torch.triu_indices(len(self.data), len(self.data), offset=1, device=self.data.device)
        cosines = (embeddings @ embeddings.t())[first, second]
        same = first // self.data.per_person == second // self.data.per_person
        auc, error_rate = scores.separation(cosines, same)
        means = {"same_person_cosine": cosines[same].mean().item(), "other_person_cosine": cosines[~same].mean().item()}
        return means | {"auc": auc, "equal_error_rate": error_rate}

    def judge_accuracy(self) -> dict[str, dict[str, float]]:
        """How often the judge is right about drawn pictures: the ceiling of what it can find in painted ones."""
        answers = self.answers([self.data.pixels(rows) for rows in self.batches(len(self.data))])
        return agreement(answers, self.data.labels, tuple(LABELS))

    def reader_accuracy(self) -> dict[str, Any]:
        """How well the pose reader finds the joints of drawn people."""
        batches = [self.data.pixels(rows) for rows in self.batches(len(self.data))]
        return self.pose_agreement(batches, slice(0, len(self.data)))

    def generation(self, out: Path) -> dict[str, Any]:
        """What the base paints from the prompts, freely and under each ControlNet whose control fits the prompt."""
        free = self.paint(self.pipeline)
        save_sheet(list(free[0][:BATCH].split(8)), out / "samples.png")
        figures: dict[str, Any] = {
            "prompt_fidelity": self.fidelity(free),
            "prompt_fidelity_named_exactly": self.all_named(free),
            "frechet": self.frechet(free),
            "clip_prompt_top1_of_64": self.prompt_retrieval(free),
        }
        shown = slice(0, 8 * self.data.per_person, self.data.per_person)
        for kind in CONTROLS:
            painted = self.paint(self.controlled(kind), kind)
            measure = self.edge_agreement if kind == "canny" else self.pose_agreement
            figures[f"controlnet_{kind}"] = {
                "with": measure(painted, self.rows),
                "without": measure(free, self.rows),
                "prompt_fidelity": self.fidelity(painted),
            }
            pictures = (self.data.pixels(self.rows), self.data.conditions(self.rows, kind) * 2 - 1)
            save_sheet(
                [part[shown][:8] for part in (*pictures, torch.cat(painted), torch.cat(free))], out / f"{kind}.png"
            )
        return figures

    def controlled(self, kind: str) -> StableDiffusionControlNetPipeline:
        """The base with one of its ControlNets."""
        parts = {
            name: getattr(self.pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        }
        pipeline = StableDiffusionControlNetPipeline(
            **parts,
            controlnet=ControlNetModel.from_pretrained(self.folder / f"controlnet_{kind}").to(self.data.device),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def paint(self, pipeline: Any, kind: str | None = None) -> list[Tensor]:
        """A picture of every prompt as batches in [-1, 1]; picture ``i`` starts from CPU noise with seed ``i``.

        With a ``kind``, the control image is that of the drawn picture which the prompt describes.
        """
        painted = []
        for rows in self.batches(len(self.prompts)):
            generators = [torch.Generator().manual_seed(index) for index in range(rows.start, rows.stop)]
            images: Tensor = pipeline(
                self.prompts[rows],
                **({} if kind is None else {"image": self.data.conditions(rows, kind)}),
                generator=generators,
                num_inference_steps=self.steps,
                guidance_scale=GUIDANCE,
                output_type="pt",
            ).images
            painted.append((images.float() * 255).round() / 127.5 - 1)
        return painted

    def answers(self, batches: list[Tensor]) -> dict[str, Tensor]:
        """The judge's class of every picture, ``(N,)``, by kind."""
        parts = [judge_logits(self.judge, batch) for batch in batches]
        return {kind: torch.cat([part[kind] for part in parts]).argmax(1) for kind in LABELS}

    def fidelity(self, painted: list[Tensor]) -> dict[str, dict[str, float]]:
        """By kind, how often the judge sees in a painted picture what its prompt names."""
        return agreement(self.answers(painted), self.named(), NAMED)

    def all_named(self, painted: list[Tensor]) -> dict[str, float]:
        """How often the judge sees everything that the prompt names."""
        answers, named = self.answers(painted), self.named()
        columns = [list(LABELS).index(kind) for kind in NAMED]
        found = torch.stack([answers[kind] for kind in NAMED], dim=1)
        right = ((found == named[:, columns]) | (named[:, columns] == UNSEEN)).all(1)
        return scores.rate(right)

    def named(self) -> Tensor:
        """Labels of the prompts, ``(N, kinds)``, ``UNSEEN`` where the prompt says nothing."""
        wanted = self.data.labels[self.rows].clone()
        for kind in NAMED_IF_PRESENT:
            column = wanted[:, list(LABELS).index(kind)]
            column[column == 0] = UNSEEN
        return wanted

    def frechet(self, painted: list[Tensor]) -> dict[str, float]:
        """Distances in the judge's features: painted from drawn with the same prompts, drawn from other drawn."""
        count = len(self.prompts)

        def features(batches: Iterable[Tensor]) -> Tensor:
            return torch.cat([self.judge.features(batch) for batch in batches])

        drawn = features(self.data.pixels(rows) for rows in self.batches(count))
        others = features(
            [self.data.pixels(rows) for rows in self.batches(len(self.data), start=count)][: len(painted)]
        )
        return {
            "painted_from_drawn": scores.frechet_distance(features(painted), drawn),
            "drawn_from_other_drawn": scores.frechet_distance(others, drawn),
        }

    def prompt_retrieval(self, painted: list[Tensor]) -> float:
        """Share of painted pictures whose own prompt CLIP ranks first in its batch of 64; full batches count."""
        right = []
        full = max(1, len(self.prompts) // BATCH)
        for rows, pixels in zip(list(self.batches(len(self.prompts)))[:full], painted, strict=False):
            ids = torch.tensor(encode_prompts(self.pipeline.tokenizer, self.prompts[rows]), device=self.data.device)
            logits = similarities(self.clip, embed_pictures(self.clip, pixels), embed_texts(self.clip, ids))
            right.append(logits.argmax(1) == torch.arange(len(pixels), device=self.data.device))
        return torch.cat(right).float().mean().item()

    def edge_agreement(self, painted: list[Tensor], rows: slice) -> dict[str, float]:
        """Mean F1 score of the painted edges against the drawn ones, two pixels of slack either way."""
        wanted = (self.data.conditions(rows, "canny")[:, 0] > 0.5).cpu().numpy()
        pictures = to_bytes(torch.cat(painted))
        values = np.array([scores.edge_f1(edges, picture) for edges, picture in zip(wanted, pictures, strict=True)])
        return {"edge_f1": float(values.mean()), "standard_error": scores.standard_error(values)}

    def pose_agreement(self, painted: list[Tensor], rows: slice) -> dict[str, Any]:
        """PCK@0.1: the share of joints inside the drawn picture that the reader finds in place in the painted one.

        Also by framing, as a close-up has few joints, and the standard error over pictures.
        """
        found = torch.cat([read_keypoints(self.reader, batch) for batch in painted])
        counts, right = joints_right(found, self.data.keypoints[rows].float())
        framing = self.data.labels[rows, list(LABELS).index("framing")]
        each = (right.sum(1) / counts.sum(1).clamp(min=1)).cpu().numpy()
        by_framing = {
            f"pck_{name}": (right[framing == index].sum() / counts[framing == index].sum().clamp(min=1)).item()
            for index, name in enumerate(LABELS["framing"])
        }
        whole = (right.sum() / counts.sum().clamp(min=1)).item()
        return {"pck": whole, "standard_error": scores.standard_error(each), "joints": int(counts.sum()), **by_framing}

    def batches(self, stop: int, start: int = 0) -> Iterator[slice]:
        """Slices of at most 64 rows."""
        return (slice(at, min(at + BATCH, stop)) for at in range(start, stop, BATCH))


def agreement(answers: dict[str, Tensor], wanted: Tensor, kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By kind, the rate of right answers among the pictures that have one, with its 95 % Wilson interval."""
    rates = {}
    for kind in kinds:
        column = wanted[:, list(LABELS).index(kind)].long()
        asked = column != UNSEEN
        rates[kind] = scores.rate(answers[kind][asked] == column[asked])
    return rates


def to_bytes(pixels: Tensor) -> np.ndarray:
    """``(N, 3, H, W)`` in [-1, 1] as uint8 ``(N, H, W, 3)``."""
    values: np.ndarray = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return values


def save_sheet(rows: list[Tensor], path: Path) -> None:
    """Paste rows of pictures in [-1, 1], each ``(N, 3, H, W)``, into one PNG; shorter rows end in white."""
    longest = max(len(row) for row in rows)
    strips = []
    for row in rows:
        padding = row.new_ones(longest - len(row), *row.shape[1:])
        strips.append(np.concatenate(list(to_bytes(torch.cat([row, padding]))), axis=1))
    Image.fromarray(np.concatenate(strips, axis=0)).save(path, optimize=True)
