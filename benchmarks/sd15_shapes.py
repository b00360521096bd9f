"""The whole job on Stable Diffusion 1.5's shapes with random weights: steps per second and peak memory.

    python -m benchmarks.sd15_shapes [--steps 40] [--photos examples/photos]

Prepares, paints class images, trains the full UNet and a LoRA of rank 64 in bf16 at 512 px, paints, controls, judges
(without scorers for real photos, which need weights) and reports; then trains again at other batch sizes for speed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import portrayal
from benchmarks.record import print_table, read, save
from benchmarks.standins import write_sd15

WARM_UP_STEPS = 5


def settings(base: Path, batch: int, steps: int, *, prior: bool) -> list[str]:
    """What differs from the recipe: a few steps, few pictures."""
    return [
        f'base.name="{base}"',
        f'control.controlnet="{base / "controlnet_canny"}"',
        "study.ranks=[64]",
        f"training.train_batch_size={batch}",
        "training.mixed_precision=auto",
        "training.gradient_checkpointing=false",
        "training.gradient_accumulation_steps=1",
        "training.checkpointing_steps=0",
        "training.num_class_images=4",
        f"training.prior_loss_weight={1.0 if prior else 0.0}",
        f"method.unet.max_train_steps={steps}",
        f"method.lora.max_train_steps={steps}",
        'method.lora.target_modules=["to_q", "to_k", "to_v", "to_out.0"]',
        "generation.num_images_per_scene=1",
        "generation.num_inference_steps=5",
        "control.num_images=1",
        "evaluation.num_timesteps=4",
    ]


def speeds(run: portrayal.Run, batch: int) -> list[dict[str, Any]]:
    """Steps per second (median over steps after the first few) and peak memory of each model."""
    rows = []
    for name in run.config.methods:
        folder = run.folder / "models" / name
        lines = records(folder / "training.jsonl")[WARM_UP_STEPS:]
        per_second = statistics.median(line["images_per_second"] for line in lines)
        forward = batch * (2 if run.config.training.prior_loss_weight else 1)
        rows.append(
            {
                "model": name,
                "batch": batch,
                "prior": bool(run.config.training.prior_loss_weight),
                "steps/s": round(per_second / forward, 3),
                "images/s": round(per_second, 2),
                "peak GiB": read(folder / "method.json")["peak_memory_gib"],
            }
        )
    return rows


def records(path: Path) -> list[dict[str, Any]]:
    """Lines of a JSONL file."""
    import json

    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--batches", type=int, nargs="*", default=[4], help="further batch sizes, training only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = write_sd15(Path(temporary) / "sd15")
        started = time.perf_counter()
        changes = settings(base, 1, arguments.steps, prior=True)
        config = portrayal.make_plan("sd15-80gb", changes).config
        run = portrayal.portray(arguments.photos, config, Path(temporary) / "whole")
        seconds = time.perf_counter() - started
        rows = speeds(run, 1)
        for batch in [1, *arguments.batches]:
            config = portrayal.make_plan("sd15-80gb", settings(base, batch, arguments.steps, prior=False)).config
            run = portrayal.prepare(arguments.photos, config, Path(temporary) / f"batch-{batch}")
            portrayal.train(run)
            rows += speeds(run, batch)
        report_size = (Path(temporary) / "whole" / "report.html").stat().st_size
    print_table(rows)
    print(f"whole job with {arguments.steps} steps: {seconds:.0f} s; report {report_size / 1e6:.1f} MB")
    figures = {"training": rows, "whole_job_seconds": round(seconds, 1), "report_bytes": report_size}
    print(save("sd15_shapes", figures, {"steps": arguments.steps, "resolution": 512, "precision": "auto"}))


if __name__ == "__main__":
    main()
