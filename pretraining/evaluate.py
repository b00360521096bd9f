"""Measure a base on people never trained on: every figure of its model card, and sheets to look at.

    python -m pretraining.evaluate BASE --judges DIR --held-out DIR --out DIR

draws the held-out pictures if their folder does not exist, writes ``evaluation.json`` and the sheets, and needs minutes
on a GPU. The same seeds paint the same pictures, up to rounding, on every machine.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPTokenizer

from pretraining.bench import Bench
from pretraining.data import CAPTIONS, render
from pretraining.dataset import Dataset, load_dataset
from pretraining.devices import set_up_device
from pretraining.judge import load_judge
from pretraining.loop import save_tensors
from pretraining.settings import Settings
from pretraining.tokenizer import encode_prompts
from pretraining.world.captions import captions, prompt_for
from pretraining.world.labels import labels
from pretraining.world.people import sample_person
from pretraining.world.shots import sample_shot

SAMPLER_STEPS = 20
SAMPLES = 1000
HELD_OUT_SEED = 1_000_003
"""No training picture is drawn with it."""
PROMPT_SEED = 3_000_017


def evaluate(
    folder: Path,
    judges_folder: Path,
    held_out: Dataset,
    out: Path,
    *,
    samples: int = SAMPLES,
    steps: int = SAMPLER_STEPS,
    seed: int = HELD_OUT_SEED,
) -> dict[str, Any]:
    """Measure every part of a base; writes the sheets.

    Args:
        folder: The base.
        judges_folder: What :func:`pretraining.judge.save_judge` wrote.
        held_out: Pictures of people never trained on, twice ``samples`` for the Frechet distance between drawn ones.
        out: Where the sheets go: ``vae.png``, ``samples.png``, ``canny.png`` and ``openpose.png``.
        samples: How many pictures are painted freely, and under each ControlNet.
        steps: Of the sampler.
        seed: With which the held-out pictures were drawn: tells who is in them.

    Returns:
        The figures, ready for JSON.

    Raises:
        ValueError: If the seed is not that of the held-out pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    samples = min(samples, len(held_out))
    bench = Bench(folder, load_judge(judges_folder), held_out, held_out_prompts(held_out, seed)[:samples], steps)
    with torch.no_grad():
        return {
            **bench.facts(),
            "vae": bench.autoencoder(out / "vae.png"),
            "unet_held_out_mse": bench.denoiser_error(),
            "clip_retrieval_top1_of_64": bench.retrieval(),
            "identity": bench.identity(),
            "judge_accuracy": bench.judge_accuracy(),
            "pose_reader": bench.reader_accuracy(),
            **bench.generation(out),
        }


def held_out_prompts(data: Dataset, seed: int) -> list[str]:
    """A prompt for every picture, in the order of :func:`pretraining.data.render`, from the seed that drew them.

    Raises:
        ValueError: If the seed draws other people.
    """
    words, prompts = np.random.default_rng(PROMPT_SEED), []
    shown = data.labels.cpu().numpy()
    for index in range(data.people):
        rng = np.random.default_rng([seed, index])
        person = sample_person(rng)
        for row in range(index * data.per_person, (index + 1) * data.per_person):
            shot = sample_shot(rng, gender=person.gender)
            if not np.array_equal(labels(person, shot), shown[row]):
                raise ValueError(f"picture {row} was not drawn with seed {seed}")
            captions(person, shot, rng, CAPTIONS)  # leaves the generator where the drawing left it
            prompts.append(prompt_for(person, shot, words))
    return prompts


def draw_held_out(folder: Path, base: Path, processes: int) -> None:
    """Draw the held-out people, unless they are there, and encode their captions with the base's tokenizer."""
    if (folder / "tokens.safetensors").exists():
        return
    settings = Settings()
    people, each = settings.held_out_people, settings.held_out_per_person
    drawn = render(folder, people=people, per_person=each, seed=HELD_OUT_SEED, processes=processes)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    ids = torch.tensor(encode_prompts(tokenizer, [text for texts in drawn.captions for text in texts]))
    tokens = ids.to(torch.int16).view(len(drawn.captions), CAPTIONS, -1)
    save_tensors({"tokens": tokens}, folder / "tokens.safetensors")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="folder of the base")
    parser.add_argument("--judges", type=Path, required=True, help="folder of judge.safetensors")
    parser.add_argument("--held-out", type=Path, required=True, help="held-out pictures; drawn if missing")
    parser.add_argument("--out", type=Path, required=True, help="folder of evaluation.json and the sheets")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="pictures to paint freely and per ControlNet")
    parser.add_argument("--steps", type=int, default=SAMPLER_STEPS, help="of the sampler")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    return parser.parse_args()


def main() -> None:
    """Draw first, in processes forked before CUDA starts; then measure."""
    arguments = parse()
    draw_held_out(arguments.held_out, arguments.base, len(os.sched_getaffinity(0)))
    device = set_up_device() if arguments.device == "auto" else torch.device(arguments.device)
    data = load_dataset(arguments.held_out, Settings().held_out_per_person, device)
    out: Path = arguments.out
    figures = evaluate(arguments.base, arguments.judges, data, out, samples=arguments.samples, steps=arguments.steps)
    (out / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
