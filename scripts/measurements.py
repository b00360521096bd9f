"""Put what benchmarks measured into the table that estimates rest on: `python -m scripts.measurements [--probe]`.

Training comes from `costs.json`, or while that is not there from `training_speed.json`; painting
from `painting_speed.json`, or else a pass counts as a third of a step of the full UNet. With `--probe` this machine's
probe becomes the reference of its kind: on the machine that the benchmarks ran on, and whenever the probe changes.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from portrayal.estimate.afterwards import part_of
from portrayal.estimate.costs import TABLE, Costs
from portrayal.estimate.machine import Machine, probe
from portrayal.estimate.reckoning import stages_of
from portrayal.run import write_json
from portrayal.settings import load_config

ROOT = Path(__file__).parents[1]
RESULTS, EXAMPLES = ROOT / "benchmarks" / "results", ROOT / "examples"
SD15_WEIGHTS, POCKET_WEIGHTS = 859_520_964, 8_413_516
PLAIN_STEP_SECONDS = 0.14
"""A step of SD 1.5's shapes at batch 1 before steps were graphs (measured at commit 6bf30ff): its launches alone."""

Json = dict[str, Any]


def results(name: str) -> Json | None:
    """What a benchmark wrote, if it has been run."""
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def row(method: str, rank: int | None, batch: int, pack: int, resolution: int, speed: float, gib: Any = None) -> Json:
    """A training."""
    return {
        "method": method,
        "rank": rank,
        "batch": batch,
        "pack": pack,
        "resolution": resolution,
        "images_per_second": round(speed, 3),
        "peak_gib": gib or None,
    }


def on_cpu() -> Json:
    """`pocket` and the demo's recipe: two photos and a class image in a step, sixteen steps a picture, guided."""
    full, quick = results("pocket_demo"), results("pocket_demo_quick")
    assert full is not None
    assert quick is not None
    stages, alone = full["figures"]["stage_seconds"], full["figures"]["one_by_one_seconds"]
    training = [row("unet", None, 3, 1, 128, 450 * 3 / stages["train.unet"])]
    for rank in (8, 16, 32):
        took = [seconds for name, seconds in alone.items() if name.split(".")[1] == f"lora-{rank}"]
        training.append(row("lora", rank, 3, 1, 128, 430 * 3 * len(took) / sum(took)))
    for pack, found in ((3, quick["figures"]["stage_seconds"]), (9, stages)):
        seconds = sum(took for name, took in found.items() if part_of(name) == "train.lora")
        training.append(row("lora", 32, 3, pack, 128, 430 * 3 * pack / seconds))
    painted = [took for name, took in stages.items() if name.startswith("generate.") and name != "generate.final"]
    free = stages["generate.base"] / 24
    held = stages["control.openpose.base"] / 16  # at strength 0 they are there, painted for the first kind
    evaluated = 13 * 24 + 120  # ten trainings and the base on three folds, and what was held to control images
    return {
        "machine": f"{full['machine']['cpu']}, {full['machine']['cpus']} CPUs",
        "device": "cpu",
        "base": "pocket",
        "resolution": 128,
        "unet_weights": POCKET_WEIGHTS,
        "training": training,
        "painting": [{"batch": 20, "resolution": 128, "seconds": round(sum(painted) / len(painted) / 24 * 10 / 16, 4)}],
        "seconds": {
            "load": 2.0,
            "prepare_photo": round(stages["prepare"] / 18, 4),
            "decode_picture": 0.0,
            "judge_picture": round(stages["evaluate"] / evaluated, 4),
            "report": stages["report"],
            "begin_training": 0.0,
            "begin_painting": 0.0,
            "begin_reading": 0.0,
        },
        "controlnet_factor": round(held / free, 3),
        "plain_step_seconds": 0.0,
        "assumed": ["load", "decode_picture is in painting, and to begin in what follows"],
        "from": ["pocket_demo", "pocket_demo_quick"],
    }


def on_gpu(cpu: Json) -> Json:
    """SD 1.5's shapes."""
    costs, speeds = results("costs"), results("training_speed")
    used = costs or speeds
    assert used is not None
    if costs is not None:
        keys = ("method", "rank", "batch", "pack", "resolution", "images_per_second", "peak_gib")
        training = [{key: found.get(key) for key in keys} for found in rows_of(costs)]
    else:
        training = []
        for found in used["figures"]["training"]:
            ranks = [int(rank) for rank in re.findall(r"\d+", found["trained"])]
            kind, widest = ("lora", max(ranks)) if ranks else ("unet", None)  # a pack is padded to its widest
            sizes = (found["batch"], max(1, len(ranks)), used["settings"]["resolution"])
            training.append(row(kind, widest, *sizes, found["images/s"], found["peak GiB"]))
    painting, measured = painting_rows(training)
    table = {
        "machine": used["machine"]["gpu"],
        "device": "cuda",
        "base": "sd15",
        "resolution": 512,
        "unet_weights": SD15_WEIGHTS,
        "training": training,
        "painting": painting,
        "seconds": around_training(),
        "controlnet_factor": controlnet_factor() or cpu["controlnet_factor"],
        "plain_step_seconds": PLAIN_STEP_SECONDS,
        "assumed": ["decode_picture", *([] if measured else ["painting", "controlnet_factor, which is pocket's"])],
        "from": [
            "costs" if costs else "training_speed",
            *(["painting_speed"] if measured else []),
            "experiment_speed",
        ],
    }
    return table | {"seconds": table["seconds"] | beginning(table)}


def beginning(table: Json) -> dict[str, float]:
    """Seconds that the stages of the whole experiment took beyond their steps and passes, each time weights changed."""
    found = results("experiment_speed")
    assert found is not None
    took, none = found["figures"]["stages"], dict.fromkeys(("begin_training", "begin_painting", "begin_reading"), 0.0)
    # It was recorded when a study had one learning rate.
    config = load_config("sd15-80gb", ["study.learning_rates=[1]", *found["settings"]["settings"]])
    machine = Machine("cuda", table["machine"], None, 1.0)
    costs = Costs(config, table | {"probe_seconds": 1.0, "seconds": table["seconds"] | none}, machine, 1.0)
    photos = len(list((EXAMPLES / "photos").glob("*.jpg")))
    reckoned = {stage.name: stage.seconds for stage in stages_of(costs, [len(config.study.ranks)], photos)}

    def each(times: int, *stages: str) -> float:
        return round(max(0.0, sum(took[stage] - reckoned[stage] for stage in stages)) / times, 2)

    models = 1 + len(config.methods)
    return {
        "begin_training": each(2, "train.unet", "train.lora"),
        "begin_painting": each(models, "generate"),
        "begin_reading": each(models, "steps"),
    }


def around_training() -> dict[str, float]:
    """Seconds of what is neither training nor painting, by what it counts with."""
    found = results("experiment_speed")
    assert found is not None
    stages, made = found["figures"]["stages"], found["figures"]["made"]
    judged = made["scene and class pictures"] + sum(made["held to an outline"].values())
    return {
        "load": stages["between and around"],
        "prepare_photo": round(stages["prepare"] / len(list((EXAMPLES / "photos").glob("*.jpg"))), 4),
        "decode_picture": 0.02,
        "judge_picture": round(stages["evaluate"] / judged, 4),
        "report": stages["report"],
    }


def rows_of(found: Json) -> list[Json]:
    """The rows of a benchmark, however they are kept."""
    figures = found["figures"]
    return list(figures if isinstance(figures, list) else figures["rows"])


def controlnet_factor() -> float | None:
    """By what a ControlNet lengthens painting, where that was measured."""
    found = results("painting_speed")
    if found is None:
        return None
    speeds: dict[str, float] = {
        one["way"]: one["pictures/s"] for one in found["figures"]["pictures"] if one["side"] == "ours"
    }
    return round(speeds["plain"] / speeds["ControlNet"], 3)


def painting_rows(training: list[Json]) -> tuple[list[Json], bool]:
    """Seconds of one pass by batch, and whether they were measured: forward is a third of a step of the full UNet."""
    found = results("painting_speed")
    if found is not None:
        return [{key: one[key] for key in ("batch", "resolution", "seconds")} for one in rows_of(found)], True
    return [
        {
            "batch": one["batch"],
            "resolution": one["resolution"],
            "seconds": round(one["batch"] / one["images_per_second"] / 3, 5),
        }
        for one in training
        if one["method"] == "unet"
    ], False


def assembled(there: Json) -> Json:
    """The table anew; its probes are kept."""
    probes = {table["device"]: table["probe_seconds"] for table in there["machines"]}
    cpu = on_cpu()
    machines = [{**table, "probe_seconds": probes[table["device"]]} for table in (cpu, on_gpu(cpu))]
    return {"schema": 1, "made_by": "python -m scripts.measurements", "machines": machines}


def main() -> None:
    """Write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", action="store_true", help="measure the probe on this machine")
    there = json.loads(TABLE.read_text(encoding="utf-8"))
    if parser.parse_args().probe:
        import torch

        device, precision = ("cuda", "bf16") if torch.cuda.is_available() else ("cpu", "no")
        table = next(table for table in there["machines"] if table["device"] == device)
        table["probe_seconds"] = round(probe(device, precision), 5)
        print(f"{device}: the probe takes {table['probe_seconds']} s")
    write_json(TABLE, assembled(there))


if __name__ == "__main__":
    main()
