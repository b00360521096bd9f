"""Judge the exported folder on people never trained on, and paint sheets to look at.

Shapes: N pictures, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
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
from transformers import CLIPModel, ResNetModel

from pretraining.clip import embed_pictures, embed_texts, prompt_embeddings, similarities
from pretraining.data import canny
from pretraining.dataset import Dataset
from pretraining.identity import embed_people
from pretraining.unet import Latents, held_out_loss
from pretraining.vae import encode_all, psnr, reconstruct

BATCH = 64
GUIDANCE = 5.0
SAMPLER_STEPS = 20


def evaluate(
    folder: Path, data: Dataset, prompts: list[str], sheets: Path, *, seeds: int, steps: int
) -> dict[str, Any]:
    """Measure every part of ``folder`` on held-out ``data``; writes the sheets and returns the figures."""
    sheets.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(data.device)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    clip = CLIPModel.from_pretrained(folder / "clip").to(data.device).eval()
    identity = ResNetModel.from_pretrained(folder / "identity").to(data.device).eval()
    with torch.no_grad():
        return {
            "vae_psnr_db": judge_vae(pipeline.vae, data, sheets / "vae.png"),
            "unet_held_out_mse": judge_unet(pipeline, clip, data),
            "clip_retrieval_top1_of_64": judge_clip(clip, data),
            "identity": judge_identity(identity, data),
            "prompt_top1": judge_prompts(pipeline, clip, prompts, seeds, steps, sheets / "samples.png"),
            "controlnet_edge_f1": judge_controlnet(folder, pipeline, data, prompts, steps, sheets / "controlnet.png"),
        }


def judge_vae(vae: AutoencoderKL, data: Dataset, sheet: Path) -> float:
    """Peak signal-to-noise ratio over all pictures, dB; the sheet holds pictures above their reconstructions."""
    batches = [data.pixels(slice(at, at + BATCH)) for at in range(0, len(data), BATCH)]
    rebuilt = torch.cat([reconstruct(vae, batch, precise=True) for batch in batches])
    value = psnr(rebuilt - torch.cat(batches)).item()
    rows = slice(0, 8 * data.per_person, data.per_person)
    save_sheet([to_images(data.pixels(rows)), to_images(rebuilt[rows])], sheet)
    return value


def judge_unet(pipeline: StableDiffusionPipeline, clip: CLIPModel, data: Dataset) -> float:
    """Noise error averaged over timesteps."""
    return held_out_loss(pipeline.unet, held_out_latents(pipeline.vae, clip, data))


def held_out_latents(vae: AutoencoderKL, clip: CLIPModel, data: Dataset) -> Latents:
    """Latents and first captions of the held-out pictures."""
    mean, deviation = encode_all(vae, data)
    prompts = prompt_embeddings(clip, data.tokens[:, 0]).unsqueeze(1)
    return Latents(mean, deviation, prompts, prompts[0, 0])


def judge_clip(clip: CLIPModel, data: Dataset) -> float:
    """Share of pictures whose own caption ranks first among 64."""
    right = []
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).to(data.device)
    for rows in order[: max(BATCH, len(data) // BATCH * BATCH)].split(BATCH):
        logits = similarities(
            clip, embed_pictures(clip, data.pixels(rows)), embed_texts(clip, data.tokens[rows, 0].long())
        )
        right.append(logits.argmax(1) == torch.arange(len(rows), device=data.device))
    return torch.cat(right).float().mean().item()


def judge_identity(model: ResNetModel, data: Dataset) -> dict[str, float]:
    """Cosines of pairs of pictures, the same person's against different people's."""
    parts = [embed_people(model, data.pixels(slice(at, at + BATCH))) for at in range(0, len(data), BATCH)]
    embeddings = functional.normalize(torch.cat(parts).float(), dim=-1)
    first, second = torch.triu_indices(len(data), len(data), offset=1, device=data.device)
    cosines = (embeddings @ embeddings.t())[first, second]
    same = first // data.per_person == second // data.per_person
    auc, error_rate = separation(cosines, same)
    means = {"same_person_cosine": cosines[same].mean().item(), "other_person_cosine": cosines[~same].mean().item()}
    return means | {"auc": auc, "equal_error_rate": error_rate}


def separation(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """Area under the ROC curve and the error rate where misses equal false alarms."""
    ranked = positive[scores.argsort(descending=True)].double()
    hits = ranked.cumsum(0) / ranked.sum()
    alarms = (1 - ranked).cumsum(0) / (1 - ranked).sum()
    area = torch.trapezoid(hits, alarms).item()
    crossing = ((1 - hits) - alarms).abs().argmin()
    return area, ((1 - hits[crossing] + alarms[crossing]) / 2).item()


def judge_prompts(
    pipeline: StableDiffusionPipeline, clip: CLIPModel, prompts: list[str], seeds: int, steps: int, sheet: Path
) -> float:
    """Share of painted pictures whose own prompt CLIP ranks first among ``prompts``; a row of the sheet per prompt."""
    rows = [paint(pipeline, prompt, seeds, steps) for prompt in prompts]
    save_sheet(rows, sheet)
    device = pipeline.device
    ids = pipeline.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    pixels = torch.stack([to_pixels(image) for row in rows for image in row]).to(device)
    logits = similarities(clip, embed_pictures(clip, pixels), embed_texts(clip, ids.to(device)))
    own = torch.arange(len(prompts), device=device).repeat_interleave(seeds)
    return (logits.argmax(1) == own).float().mean().item()


def judge_controlnet(
    folder: Path, pipeline: StableDiffusionPipeline, data: Dataset, prompts: list[str], steps: int, sheet: Path
) -> dict[str, float]:
    """F1 score of the painted edges against the asked ones, with the ControlNet and without."""
    controlled = StableDiffusionControlNetPipeline(
        **{name: getattr(pipeline, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")},
        controlnet=ControlNetModel.from_pretrained(folder / "controlnet_canny").to(data.device),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    controlled.set_progress_bar_config(disable=True)
    rows = [at * data.per_person for at in range(min(8, data.people))]
    edges = to_images(data.conditions(torch.tensor(rows, device=data.device)) * 2 - 1)
    texts = [prompts[at % len(prompts)] for at in range(len(rows))]
    options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": GUIDANCE}
    guided = controlled(texts, image=edges, generator=_generators(len(rows)), **options).images
    free = pipeline(texts, generator=_generators(len(rows)), **options).images
    references = to_images(data.pixels(torch.tensor(rows, device=data.device)))
    save_sheet([references, edges, guided, free], sheet)
    return {"with": edge_agreement(edges, guided), "without": edge_agreement(edges, free)}


def edge_agreement(edges: list[Image.Image], painted: list[Image.Image]) -> float:
    """Mean F1 score of the painted edges against those asked for, two pixels of slack either way."""
    near, scores = np.ones((5, 5), np.uint8), []
    for asked, image in zip(edges, painted, strict=True):
        wanted = np.asarray(asked)[..., 0] // 255
        found = canny(np.asarray(image)) // 255
        recall = (wanted & cv2.dilate(found, near)).sum() / max(1, wanted.sum())
        precision = (found & cv2.dilate(wanted, near)).sum() / max(1, found.sum())
        scores.append(2 * recall * precision / max(1e-9, recall + precision))
    return float(np.mean(scores))


def paint(pipeline: StableDiffusionPipeline, prompt: str, seeds: int, steps: int) -> list[Image.Image]:
    """One picture per seed, seeds counted from 0."""
    images: list[Image.Image] = pipeline(
        [prompt] * seeds, generator=_generators(seeds), num_inference_steps=steps, guidance_scale=GUIDANCE
    ).images
    return images


def _generators(count: int) -> list[torch.Generator]:
    """CPU generators, so that a seed means the same picture on every machine."""
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def to_images(pixels: Tensor) -> list[Image.Image]:
    """``(N, 3, H, W)`` in [-1, 1] as pictures."""
    values = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(value) for value in values]


def to_pixels(image: Image.Image) -> Tensor:
    """A picture as ``(3, H, W)`` in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def save_sheet(rows: list[list[Image.Image]], path: Path) -> None:
    """Paste rows of equally large pictures into one PNG."""
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * width, y * height))
    sheet.save(path, optimize=True)
