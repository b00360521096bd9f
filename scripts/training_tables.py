"""The tables of docs/training.md: speeds, memory, packs, what small cards cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from scripts.results import figures_of, record_of, rows_of, taken

SCALES = {"constant": "alpha 32 at every rank", "equal": "scale 1 at every rank"}
"""Ways to scale a LoRA, by the names benchmarks give them."""


def training_speeds() -> str:
    """Images a second of each training on the large card, beside diffusers' scripts and its limit, and memory."""
    limit, times = "of the card's limit", "times diffusers"
    lines = [f"| trained | photos in a batch | images/s | {times} | {limit} | peak GiB |", "|---|---|---|---|---|---|"]
    for row in rows_of("training_speed", "training"):
        beside = f"{row[times]:.1f}" if row[times] else ""
        figures = f"{row['images/s']:.1f} | {beside} | {100 * row[limit]:.0f} % | {row['peak GiB']:.1f}"
        lines.append(f"| {row['trained']} | {row['batch']} | {figures} |")
    return "\n".join([*lines, "", taken("training_speed")])


def first_step() -> str:
    """Seconds from the command to the first step."""
    record = record_of("first_step")
    row, where = record["figures"]["seconds"], record["figures"]["where"]
    imports = sum(one["seconds"] for one in where if one["what"].startswith("import "))
    share = imports / max(one["seconds"] for one in where)
    lines = [
        f"From the command `portrayal train` to the first step on disk (LoRA 64, second run on a machine): "
        f"{row['seconds']:.0f} s{', Python keeping no bytecode' * (not record['settings']['bytecode is kept'])}. "
        f"Of another start, under watch, imports took {share:.0%}. {taken('first_step')}"
    ]
    if row["diffusers"]:
        lines.append(f"diffusers' LoRA script: {row['diffusers']:.0f} s.")
    return " ".join(lines)


def painting_speeds() -> str:
    """Pictures a second, beside diffusers' pipelines."""
    limit = "of the card's limit"
    lines = [f"| painted | ours, pictures/s | diffusers, pictures/s | times | {limit} |", "|---|---|---|---|---|"]
    rows = {(row["side"], row["way"]): row for row in rows_of("painting_speed", "pictures")}
    for side, way in rows:
        if side == "ours":
            ours, theirs = rows[side, way], rows["diffusers", way]
            speeds = f"{ours['pictures/s']:.1f} | {theirs['pictures/s']:.1f} | {ours['times diffusers']:.2f}"
            lines.append(f"| {way} | {speeds} | {100 * ours[limit]:.0f} % |")
    return "\n".join([*lines, "", taken("painting_speed")])


def experiment() -> str:
    """Seconds of the whole experiment by stage, the first time on a machine and after."""
    found = figures_of("experiment_speed")
    lines = ["| part | first run on a machine, s | then, s |", "|---|---|---|"]
    titles = {"train.unet": "train the full UNet", "train.lora": "train the LoRAs", "steps": "choose steps"}
    for stage, seconds in found["stages"].items():
        lines.append(f"| {titles.get(stage, stage)} | {found['stages, cold'][stage]:.0f} | {seconds:.0f} |")
    lines.append(f"| **all** | **{found['cold']:.0f}** | **{found['seconds']:.0f}** |")
    return "\n".join([*lines, "", taken("experiment_speed")])


def small_cards() -> str:
    """What fits under a cap."""
    lines = ["| trained | cap, GiB | images/s | peak of tensors, GiB | held by PyTorch, GiB |", "|---|---|---|---|---|"]
    for row in rows_of("small_cards", "fitting"):
        title = "full UNet" if row["model"] == "unet" else "LoRA 64"
        figures = f"{row['images/s']:.1f} | {row['peak GiB']:.1f} | {row['held GiB']:.2f}"
        lines.append(f"| {title} | {row['cap, GiB']} | {figures} |")
    return "\n".join([*lines, "", taken("small_cards")])


def small_quality() -> str:
    """What training without fp32 masters costs."""
    lines = ["| full UNet of `pocket` | seed | held-out loss | likeness |", "|---|---|---|---|"]
    for row in rows_of("small_cards_quality", "quality"):
        if row["seed"] != "":
            lines.append(f"| {row['way']} | {row['seed']} | {row['held-out loss']:.4f} | {row['identity']:.3f} |")
        elif row["way"] == "mean difference":
            lines.append(f"| {row['way']} | | {row['held-out loss']:+.4f} | {row['identity']:+.3f} |")
    return "\n".join(lines)


def two_cores() -> str:
    """Ours against the plain loop on two CPU cores."""
    heads = ("ours, pictures/s", "plain diffusers, pictures/s", "times")
    lines = [f"| | {' | '.join(heads)} |", "|---|---|---|---|"]
    for row in rows_of("pocket_speed", "training") + rows_of("pocket_speed", "painting"):
        lines.append(f"| {row['what']} | {row[heads[0]]:.1f} | {row[heads[1]]:.1f} | {row['times']:.2f} |")
    return "\n".join(lines)


def packs(name: str) -> str:
    """Images a second of packs of LoRAs, beside diffusers' script where that was measured."""
    rows = rows_of(name, "packs")
    peer = figures_of(name).get("diffusers")
    rows += peer["runs"] if peer else []
    heads = ["trained", "ms a step", "images/s of all", "times one alone", "peak GiB"]
    heads += ["times diffusers’ three runs"] if peer else []
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        memory = row["peak GiB"]
        cells = [
            row.get("way", "") if row.get("way", "").startswith("diffusers") else counted(row["LoRAs"]),
            f"{row['ms a step']:.0f}",
            f"{row['images/s']:.1f}",
            f"{row['times one alone']:.1f}",
            f"{memory:.1f}" if memory else "–",
        ]
        cells += [f"{row['times diffusers']:.2f}"] if peer else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def counted(loras: int) -> str:
    """How many train together."""
    return "one alone" if loras == 1 else f"a pack of {loras}"


def study_times() -> str:
    """Where the time of the default study goes, and what its LoRAs take one by one."""
    figures = figures_of("pocket_demo")
    stages, alone = figures["stage_seconds"], figures["one_by_one_seconds"]
    groups = {
        "full UNet, one training": ("train.unet",),
        "LoRAs, each round in packs": ("train.lora",),
        "reading every kept step": ("steps.",),
        "painting what is judged": ("generate.base", "generate.unet", "generate.lora", "control."),
        "measuring, choosing the rounds, the verdict": ("evaluate",),
        "cutting the recommended LoRA": ("cuts",),
        "the recommended model on all photos": ("train.final", "generate.final"),
    }
    lines = ["| part | seconds |", "|---|---|"]
    for title, starts in groups.items():
        took = [seconds for name, seconds in stages.items() if name.startswith(starts)]
        lines += [f"| {title} | {sum(took):.0f} |"] if took else []
    lines.append(f"| **all, with the rest** | **{figures['total_seconds']:.0f}** |")
    lines.append(f"| for comparison: the {len(alone)} LoRA trainings one by one | {sum(alone.values()):.0f} |")
    return "\n".join(lines)


def rank_speed() -> str:
    """How far the first steps move the UNet's prediction at each rank, with either way to scale a LoRA."""
    shapes = {name: found for name, found in figures_of("rank_speed").items() if "rows" in found}
    ranks = sorted({row["rank"] for found in shapes.values() for row in found["rows"]})
    lines = [f"| shapes | scale | steps | {' | '.join(f'rank {rank}' for rank in ranks)} | furthest from the mean |"]
    lines.append("|---|---|---|" + "---|" * (len(ranks) + 1))
    names = {"pocket": "`pocket`", "sd15": "SD 1.5"}
    for shape, found in shapes.items():
        for scale, title in SCALES.items():
            (departure,) = (row for row in found["departures"] if row["largest departure in %"] == scale)
            for column, steps in (("after 1 step", 1), ("after 10 steps", 10)):
                moved = {row["rank"]: row[column] for row in found["rows"] if row["scale"] == scale}
                cells = " | ".join(f"{moved[rank]:.3f}" if rank in moved else "" for rank in ranks)
                last = f"{departure[column]:.0f} %"
                lines.append(f"| {names.get(shape, shape)} | {title} | {steps} | {cells} | {last} |")
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "h100": training_speeds,
    "first": first_step,
    "painting": painting_speeds,
    "experiment": experiment,
    "small": small_cards,
    "quality": small_quality,
    "cores": two_cores,
    "gpu": partial(packs, "lora_packs"),
    "cpu": partial(packs, "lora_packs_cpu"),
    "study": study_times,
    "rank-speed": rank_speed,
}
"""By the names of their places in the page."""
