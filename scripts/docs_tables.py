"""Put measured figures into pages of docs/: `python -m scripts.docs_tables`; a test fails when they are stale."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"


def rows_of(name: str, key: str) -> list[dict[str, Any]]:
    """The rows that a benchmark wrote."""
    found: list[dict[str, Any]] = figures_of(name)[key]
    return found


def figures_of(name: str) -> dict[str, Any]:
    """All that a benchmark found."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    return found


def taken(name: str) -> str:
    """On which GPU figures were taken, and of which commit."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return f"One {found['machine']['gpu']}, commit {found['commit'][:7]}."


def planted() -> str:
    """Precision and recall of each finding."""
    lines = ["| finding | planted | precision | recall |", "|---|---|---|---|"]
    for row in rows_of("planted_photos", "findings"):
        kind = str(row["finding"]).replace("_", " ")
        lines.append(f"| {kind} | {row['planted']} | {row['precision']:.2f} | {row['recall']:.2f} |")
    return "\n".join(lines)


def captions() -> str:
    """Identity and obedience with one caption for all, and with the captioner's."""
    lines = ["| model | identity | lowest person | scene | colour of the clothes |", "|---|---|---|---|---|"]
    for row in rows_of("captions", "rows"):
        identity = f"{row['identity']:.2f} | {row['identity, lowest person']:.2f}"
        lines.append(f"| {row['model']} | {identity} | {row['scene']:.0%} | {row['clothes colour']:.0%} |")
    return "\n".join(lines)


def pay() -> str:
    """Identity after training on the planted sets as they are, and as the check advises."""
    lines = ["| photos | trained on | identity | real photos among each other | scene |", "|---|---|---|---|---|"]
    for row in rows_of("photos_pay", "rows"):
        identity = f"{row['identity']:.2f} | {row['of real photos']:.2f}"
        lines.append(f"| {row['photos']} | {row['photos used']:.0f} | {identity} | {row['scene']:.0%} |")
    return "\n".join(lines)


def speed() -> str:
    """Seconds and memory of making many large photos ready."""
    lines = ["| way | photos | seconds | photos a second | peak memory |", "|---|---|---|---|---|"]
    for row in rows_of("photos_speed", "ways"):
        figures = f"{row['seconds']:.0f} | {row['photos/s']:.1f} | {row['peak memory (MiB)']} MiB"
        lines.append(f"| {row['way']} | {row['photos']} | {figures} |")
    return "\n".join(lines)


def packs(name: str) -> str:
    """Images a second of packs of LoRAs, beside diffusers' script where that was measured."""
    rows = rows_of(name, "packs")
    peer = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["figures"].get("diffusers")
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


def studies() -> str:
    """False winners, and planted differences that were found."""
    lines = [
        "| noise | study | false winner | 3 margins found | 6 margins found | the better one called worse |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows_of("verdict", "studies"):
        size = f"{row['study']}, {row['folds']} × {row['seeds']}"
        shares = [row[key] for key in ("false winners", "planted found", "twice that found", "planted called worse")]
        lines.append(f"| {row['noise']} | {size} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    return "\n".join(lines)


def overfitting() -> str:
    """Curves with planted overfitting, and flat ones."""
    lines = [
        "| held-out photos | flagged | of these, best step before the onset | flat curves flagged |",
        "|---|---|---|---|",
    ]
    for row in rows_of("verdict", "overfitting"):
        shares = [row[key] for key in ("flagged", "best step before the onset", "flat ones flagged")]
        lines.append(f"| {row['held-out photos']} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    return "\n".join(lines)


def courses() -> str:
    """Where recorded trainings were at their best."""
    keys = ("lowest held-out loss", "overfitting from", "best step by likeness")
    lines = [f"| person | model | {' | '.join(keys)} | last step |", "|---|---|---|---|---|---|"]
    for row in rows_of("verdict", "courses"):
        steps = " | ".join(str(row[key]) for key in (*keys, "last step"))
        lines.append(f"| {row['person']} | {row['model']} | {steps} |")
    return "\n".join(lines)


def rules() -> str:
    """How often rules read off the training loss agree with the verdict, and with themselves."""
    keys = ("names a rank the verdict leaves", "drawing lots would", "names the same rank again")
    lines = [f"| rule | trained | choices | {' | '.join(keys)} |", "|" + "---|" * 6]
    for row in rows_of("verdict", "rules"):
        shares = " | ".join(f"{100 * row[key]:.0f} %" for key in keys)
        lines.append(f"| {row['rule']} | {row['trained']} | {row['choices']} | {shares} |")
    return "\n".join(lines)


def study_times() -> str:
    """Where the time of the default study goes, and what its LoRAs take one by one."""
    figures = figures_of("pocket_demo")
    stages, alone = figures["stage_seconds"], figures["one_by_one_seconds"]
    groups = {
        "full UNet, one training": ("train.unet",),
        "LoRAs, all in one pack": ("train.lora",),
        "reading every kept step": ("steps.",),
        "painting what is judged": ("generate.base", "generate.unet", "generate.lora", "control."),
        "measuring and the verdict": ("evaluate",),
        "the recommended model on all photos": ("train.final", "generate.final"),
    }
    lines = ["| part | seconds |", "|---|---|"]
    for title, starts in groups.items():
        lines.append(f"| {title} | {sum(took for name, took in stages.items() if name.startswith(starts)):.0f} |")
    lines.append(f"| **all, with the rest** | **{figures['total_seconds']:.0f}** |")
    lines.append(f"| for comparison: the {len(alone)} LoRA trainings one by one | {sum(alone.values()):.0f} |")
    return "\n".join(lines)


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
    record = json.loads((RESULTS / "first_step.json").read_text(encoding="utf-8"))
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


def short(value: Any) -> str:
    """A count as it is, an error with its power of ten."""
    return f"{value:.1e}" if isinstance(value, float) and value else str(value or 0)


def round_trips() -> str:
    """What other readers make of our files."""
    found = figures_of("round_trips")
    loras = {name: row for name, row in found.items() if name != "checkpoint"}
    lines = [f"| | {' | '.join(f'LoRA of {name}' for name in loras)} |", "|---|" + "---|" * len(loras)]
    for key in next(iter(loras.values())):
        cells = [short(row[key]) for row in loras.values()]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    whole = found["checkpoint"]
    said = " and ".join(name.removeprefix("bit for bit in ") for name, same in whole.items() if same is True)
    return "\n".join([*lines, "", f"A checkpoint of {whole['tensors']} tensors is read bit for bit by {said}."])


def two_cores() -> str:
    """Ours against the plain loop on two CPU cores."""
    heads = ("ours, pictures/s", "plain diffusers, pictures/s", "times")
    lines = [f"| | {' | '.join(heads)} |", "|---|---|---|---|"]
    for row in rows_of("pocket_speed", "training") + rows_of("pocket_speed", "painting"):
        lines.append(f"| {row['what']} | {row[heads[0]]:.1f} | {row[heads[1]]:.1f} | {row['times']:.2f} |")
    return "\n".join(lines)


def studio() -> str:
    """How quick the studio's page is."""
    found = figures_of("studio_speed")
    median = {
        key: sorted(found[key])[len(found[key]) // 2]
        for key in ("start_answer_seconds", "start_screen_seconds", "start_cpu_seconds")
    }
    rows = {
        "cold start until the page answers": f"{median['start_answer_seconds']:.1f} s",
        "cold start until the first screen": f"{median['start_screen_seconds']:.1f} s",
        "of it, work of one CPU core": f"{median['start_cpu_seconds']:.1f} s",
        "click to screen during training, median": f"{found['click_median_ms']:.0f} ms",
        "click to screen during training, 95 of 100": f"{found['click_p95_ms']:.0f} ms",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {took} |" for what, took in rows.items())])


def batch() -> str:
    """Twelve subjects on two cores, each way."""
    lines = ["| way | seconds | of each study | done | begun again | same results |", "|---|---|---|---|---|---|"]
    for row in rows_of("batch_speed", "rows"):
        figures = f"{row['seconds']:.0f} | {row['a study']:.0f} | {row['done']} | {row['begun again']}"
        lines.append(f"| {row['way']} | {figures} | {'yes' if row['same results'] else 'no'} |")
    return "\n".join(lines)


def several_gpus() -> str:
    """One training on several GPUs against one, and one that goes on with fewer."""
    found = figures_of("several_gpus")
    named = {
        "unet-whole": "full UNet, a pass of 16",
        "unet-passes": "full UNet, passes of 8",
        "unet-shared": "full UNet, passes of 8",
        "loras-one": "six LoRAs, one pack",
        "loras-dealt": "six LoRAs, a pack of three on each",
    }
    lines = [
        "| trained | GPUs | images/s | times one GPU | losses apart | two runs of one GPU apart | peak GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in [*found["unet"], *found["loras"]]:
        apart = [f"{float(row[key]):.0e}" if row[key] else "" for key in ("apart", "noise")]
        times = f"{float(row['times']):.2f}" if row["times"] else ""
        sides = [named[row["trained"]], str(row["processes"]), f"{row['pictures/s']:.1f}", times, *apart]
        lines.append(f"| {' | '.join(sides)} | {row['peak GiB']:.1f} |")
    (gone_on,) = found["resumed"]
    told = (
        f"A full UNet's training was killed on {gone_on['killed on']} GPUs and went on with {gone_on['gone on with']}: "
        f"of its {gone_on['steps']} losses none is further than {gone_on['apart']:.0e} from those of one GPU."
    )
    return "\n".join([*lines, "", told, taken("several_gpus")])


def scales() -> str:
    """Cards, money, storage and network of each scale."""
    rows = rows_of("scale_model", "scales")
    heads = [f"{row['subjects a day']:,} a day" for row in rows]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(rows)]
    for key in rows[0]:
        if key != "subjects a day":
            lines.append(f"| {key} | {' | '.join(f'{row[key]:,}' for row in rows)} |")
    return "\n".join(lines)


def simulated() -> str:
    """The simulation's small case beside the batch it is of."""
    found = figures_of("scale_model")["check"]
    made, took, around = (found[key] for key in ("simulated seconds of work", "the command took", "around it"))
    return (
        f"{found['studies']} studies on {found['workers']} workers, simulated: {made:.0f} s. The command took "
        f"{took:.0f} s, {around:.0f} s of them to start Ray, to plan and to sum up."
    )


def endured() -> str:
    """What killing, hostile inputs and a soak found."""
    kills, hostile = (figures_of(name) for name in ("kills", "hostile"))
    stages = ", ".join(f"{name} {count}" for name, count in kills["stages"].items())
    rows = {
        "`benchmarks.kills`": f"{kills['moments']} moments of SIGKILL in {kills['runs']} runs ({stages}): "
        f"{len(kills['differing'])} of {kills['files_compared']} files differ, {len(kills['left_over'])} left over",
        "`benchmarks.hostile`": f"{hostile['inputs']} inputs to {len(hostile['parsers'])} parsers: "
        f"{hostile['faults']} faults, {hostile['read']} read and {hostile['refused']} refused, the longest took "
        f"{hostile['longest (s)']} s",
        "`benchmarks.soak`": "in one process " + soaked("soak"),
        "`benchmarks.soak --queue`": "through the studio's queue, of its worker " + soaked("soak_queue"),
    }
    return "\n".join(["| command | found |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows.items())])


def soaked(name: str) -> str:
    """What many short studies held, in the second quarter of them and the last."""
    found: dict[str, Any] = figures_of(name)
    told = {"memory": ".0f", "open files": ".0f", "disk": ".1f"}
    sides = [
        f"{what} {found[key]['second_quarter']:{form}} and {found[key]['last_quarter']:{form}}"
        for what, form in told.items()
        for key in [what.removeprefix("open ")]
    ]
    return f"{found['studies']} short studies, second against last quarter: {', '.join(sides)} (MiB)"


def fuzzed() -> str:
    """How far the fuzzer came with each parser."""
    found: Any = figures_of("fuzz")
    lines = ["| parser | minutes | inputs | places reached, first and last | faults |", "|---|---|---|---|---|"]
    for row in found:
        reached = f"{row['at the start']}, {row['edges']}"
        lines.append(f"| {row['parser']} | {row['minutes']:g} | {row['inputs']:,} | {reached} | {row['faults']} |")
    return "\n".join(lines)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "photos.md": {"planted": planted, "captions": captions, "pay": pay, "speed": speed},
    "training.md": {
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
    },
    "studio.md": {"studio": studio},
    "promises.md": {"endured": endured, "fuzzed": fuzzed},
    "formats.md": {"round-trips": round_trips},
    "scale.md": {"several": several_gpus, "batch": batch, "scales": scales, "simulated": simulated},
    "verdict.md": {"studies": studies, "overfitting": overfitting, "courses": courses, "rules": rules},
}
"""Of each page the tables by their names."""


def page(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A page with fresh tables."""
    for name, table in tables.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = place.sub(lambda _, table=table: table() + "\n", text)  # type: ignore[misc]
    return text


def main() -> None:
    """Rewrite the tables."""
    for name, tables in PAGES.items():
        file = DOCS / name
        file.write_text(page(file.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
