"""One training on several GPUs of one host against one: the full UNet at global batch 16, and a pack of six LoRAs.

    python -m benchmarks.several_gpus [--gpus 2] [--steps 60] [--parts unet loras resumed] [--base FOLDER]

Stable Diffusion 1.5's shapes with random weights, 512 px, bf16, no class images. Each way is `portrayal train RUN
--gpus N` in processes of their own, from one prepared and encoded run, copied.

The full UNet: `train_batch_size=8`, `gradient_accumulation_steps=2` on one GPU and on two (each takes a pass), and
`train_batch_size=16` in one pass on one GPU, which is how one GPU would be used best: `times` is against the better of
the two. Six LoRAs (three ranks, two folds) are one pack of six on one GPU, and dealt out on several. Pictures per
second are those of the steps after the first third. `apart` is the largest relative difference of a step's loss from
the same step on one GPU, beside `noise`, that of one GPU from itself run again. At last a training on several GPUs is
killed half-way and goes on on one; its losses are compared too. Results are kept after each part, and join those of
earlier calls on the same commit and machine.

Needs several CUDA GPUs. Without them `pocket` passes through the same on the CPU, in gloo processes, and nothing is
kept.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import portrayal
from benchmarks.record import earlier, print_table, save
from benchmarks.standins import base_here
from benchmarks.timing import ONE_PHOTO, PHOTOS
from portrayal.scale import launch
from portrayal.stages.data import encoded

WANTED = {"unet": 1.85, "loras": 1.95}
"""Times one GPU's pictures per second, on two."""
PARTS = ("unet", "loras", "resumed")
LORAS = ("study.full_unet=false", "study.ranks=[32, 64, 128]", "study.folds=2", "study.unet_folds=1")
UNET = ("study.ranks=[]", "study.folds=1", "method.unet.train_text_encoder=false")
TRIAL = ("study.ranks=[2, 4, 8]",)


def main() -> None:
    """Measure, print, record where there are GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    arguments = parser.parse_args()
    on_gpus = torch.cuda.device_count() >= arguments.gpus
    figures: dict[str, list[dict[str, Any]]] = earlier("several_gpus") or {}
    with base_here(arguments.base) as name, tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, Path(folder), arguments.gpus, arguments.steps, cpu=not on_gpus)
        for part in arguments.parts:
            figures[part] = getattr(bench, part)()
            print_table(figures[part])
            if on_gpus:
                settings = {"steps": arguments.steps, "gpus": arguments.gpus, "wanted": WANTED}
                print(save("several_gpus", figures, settings))


class Bench:
    """Trainings of one base by one and by several processes.

    Args:
        base: Its name.
        folder: Where runs lie.
        gpus: How many processes are compared with one.
        steps: Of each training.
        cpu: Without GPUs.
    """

    def __init__(self, base: str, folder: Path, gpus: int, steps: int, *, cpu: bool) -> None:
        self.base, self.folder, self.gpus, self.cpu = base, folder, gpus, cpu
        self.steps, self.batch = (min(steps, 4), 2 * gpus) if cpu else (steps, 16)

    def halves(self) -> tuple[str, str]:
        """The global batch as one forward pass for each process."""
        size, passes = self.batch // self.gpus, self.gpus
        return f"training.train_batch_size={size}", f"training.gradient_accumulation_steps={passes}"

    def unet(self) -> list[dict[str, Any]]:
        """The full UNet: one pass of sixteen, two passes of eight, these twice, and shared."""
        half = self.halves()
        whole = self.trained("unet-whole", 1, *UNET, f"training.train_batch_size={self.batch}")
        passes, again = (self.trained(name, 1, *UNET, *half) for name in ("unet-passes", "unet-again"))
        shared = self.trained("unet-shared", self.gpus, *UNET, *half)
        best = max(whole["pictures/s"], passes["pictures/s"])
        rows = [whole, passes, shared]
        for row in rows:
            row["times"] = round(row["pictures/s"] / best, 3)
        shared |= {"apart": apart(shared, passes), "noise": apart(again, passes)}
        return [shown(row) for row in rows]

    def loras(self) -> list[dict[str, Any]]:
        """Six LoRAs, in one pack and dealt out."""
        changes = (*LORAS, *(TRIAL if self.cpu else ()), "training.train_batch_size=1")
        one, again = (self.trained(name, 1, *changes) for name in ("loras-one", "loras-again"))
        dealt = self.trained("loras-dealt", self.gpus, *changes)
        dealt |= {"times": round(dealt["pictures/s"] / one["pictures/s"], 3)}
        dealt |= {"apart": apart(dealt, one), "noise": apart(again, one)}
        return [shown(one), shown(dealt)]

    def resumed(self) -> list[dict[str, Any]]:
        """A shared training of the UNet that is killed half-way, and goes on with one process."""
        if not (self.folder / "unet-passes").is_dir():
            self.trained("unet-passes", 1, *UNET, *self.halves())
        run = self.prepared("killed", *UNET, *self.halves(), f"training.checkpointing_steps={max(1, self.steps // 3)}")
        started = launch.start(["train", str(run)], [self.folder / f"said-{rank}" for rank in range(self.gpus)],
                               cpu=self.cpu)  # fmt: skip
        while not [*(run / "models" / ".unet.training" / "checkpoint").glob("0*")]:
            if any(process.poll() for process in started):
                raise SystemExit((self.folder / "said-1").read_text(encoding="utf-8"))
            time.sleep(0.01)
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.command(run, 1)
        whole, gone_on = steps_of(self.folder / "unet-passes")["unet"], steps_of(run)["unet"]
        pairs = [(one["loss"], other["loss"]) for one, other in zip(gone_on, whole, strict=True)]
        furthest = max(abs(one - other) / other for one, other in pairs)
        return [{"killed on": self.gpus, "gone on with": 1, "steps": len(gone_on), "apart": furthest}]

    def trained(self, name: str, processes: int, *changes: str) -> dict[str, Any]:
        """Train a run with a number of processes; pictures per second of all models, and losses."""
        run = self.prepared(name, *changes)
        self.command(run, processes)
        steps = steps_of(run)
        rates = {model: [row["images_per_second"] for row in rows[len(rows) // 3 :]] for model, rows in steps.items()}
        method = {model: json.loads((run / "models" / model / "method.json").read_text()) for model in steps}
        packs = {tuple(values) for values in rates.values()}  # each member of a pack is told the rate of the whole pack
        memory = [one["peak_memory_gib"] for one in method.values() if one["peak_memory_gib"]]
        return {
            "trained": name,
            "processes": processes,
            "pictures/s": round(sum(statistics.median(values) for values in packs), 2),
            "peak GiB": max(memory, default=None),
            "losses": {model: [row["loss"] for row in rows] for model, rows in steps.items()},
        }

    def prepared(self, name: str, *changes: str) -> Path:
        """A run whose photos are encoded and which is to be trained."""
        batch = [one for one in changes if one.startswith("training.train_batch_size")]
        fixed = [one for one in ONE_PHOTO if not (batch and one.startswith("training.train_batch_size"))]
        fixed = [one for one in fixed if one.split("=")[0] not in {change.split("=")[0] for change in changes}]
        settings = [f'base.name="{self.base}"', *fixed, *changes, "study.readings=1", "study.final=false"]
        settings += [f"method.{kind}.max_train_steps={self.steps}" for kind in ("unet", "lora")]
        if not any(one.startswith("training.checkpointing_steps") for one in changes):
            settings.append("training.checkpointing_steps=0")
        folder = self.folder / name
        plan = portrayal.make_plan("pocket-demo" if self.base == "pocket" else "sd15-80gb", settings)
        encoded(portrayal.prepare(PHOTOS, plan.config, folder, consent=True))
        return folder

    def command(self, run: Path, processes: int) -> None:
        """`portrayal train RUN`, shared out or not."""
        code = launch.share_out(["train", str(run)], processes, cpu=self.cpu)
        if code:
            raise SystemExit(f"portrayal train ended with {code}")


def steps_of(run: Path) -> dict[str, list[dict[str, Any]]]:
    """What was logged of each step of each model."""
    return {
        path.parent.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted((run / "models").glob("*/training.jsonl"))
    }


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of two trainings' losses, step by step."""
    pairs = [
        pair for model in other["losses"] for pair in zip(one["losses"][model], other["losses"][model], strict=True)
    ]
    return max(abs(float(a) - float(b)) / abs(float(b)) for a, b in pairs)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its losses, each with the same columns."""
    columns = ("trained", "processes", "pictures/s", "times", "apart", "noise", "peak GiB")
    return {key: row.get(key, "") for key in columns}


if __name__ == "__main__":
    main()
