"""Put measured figures into pages of docs/: `python -m scripts.docs_tables`; a test fails when they are stale."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts import readme_figures, training_tables
from scripts.results import figures_of, record_of, rows_of, taken
from scripts.training_tables import SCALES

DOCS = Path(__file__).parents[1] / "docs"


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
    said = [
        f"with {row['held-out photos']} held-out photos {100 * row['flagged']:.1f} % are flagged, of these "
        f"{100 * row['best step before the onset']:.1f} % with the step of the lowest loss before the onset, and "
        f"{100 * row['flat ones flagged']:.1f} % of the flat ones"
        for row in rows_of("verdict", "overfitting")
    ]
    return f"Found: {'; '.join(said)}."


def courses() -> str:
    """When the losses and likeness of recorded trainings were at their best."""
    rows = rows_of("verdict", "courses")
    last = rows[0]["last step"]
    lowest, onset, alike = (
        counted([row[key] for row in rows])
        for key in ("lowest held-out loss", "overfitting from", "best step by likeness")
    )
    return (
        f"Of {len(rows)} recorded courses, four readings up to step {last}, the held-out loss is lowest at step "
        f"{lowest}; it surely rises from step {onset}; and likeness is within the margin of its highest first at step "
        f"{alike}."
    )


def counted(steps: Sequence[int | None]) -> str:
    """Steps with how often each occurs, such as `0 (7 of 9) and 108 (2 of 9)`."""
    each = [
        f"{step} ({steps.count(step)} of {len(steps)})"
        for step in sorted(set(steps), key=lambda step: (step is None, step))
    ]
    return " or ".join(each)


def rules() -> str:
    """How often rules read off the training loss agree with the verdict, and with themselves."""
    keys = ("names a rank the verdict leaves", "drawing lots would", "names the same rank again")
    lines = [f"| rule | trained | choices | {' | '.join(keys)} |", "|" + "---|" * 6]
    for row in rows_of("verdict", "rules"):
        shares = " | ".join(f"{100 * row[key]:.0f} %" for key in keys)
        lines.append(f"| {row['rule']} | {row['trained']} | {row['choices']} | {shares} |")
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
    record = record_of("several_gpus")
    found, gpus = record["figures"], record["settings"]["gpus"]
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
    return "\n".join([*lines, "", told, taken("several_gpus", gpus=str(gpus))])


def subjects() -> str:
    """Subjects an hour of one card, by how many share it."""
    heads = "studies at once | subjects | seconds | subjects an hour | seconds of a study | peak GiB"
    lines = [f"| {heads} |", "|---|---|---|---|---|---|"]
    for row in rows_of("subjects_per_hour", "rows"):
        figures = f"{row['seconds']:.0f} | {row['subjects an hour']:.1f} | {row['seconds of a study']:.0f}"
        lines.append(f"| {row['studies at once']} | {row['subjects']} | {figures} | {row['peak GiB']:.1f} |")
    return "\n".join([*lines, "", taken("subjects_per_hour")])


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


def mutants() -> str:
    """Programming errors that the tests notice, by kind and by package."""
    found = figures_of("mutants")["after"]
    lines = ["| errors | tried | noticed |", "|---|---|---|"]
    for key in ("kind", "package"):
        rows = found[f"{key}s"][: None if key == "package" else -1]
        lines += [f"| {key}: {row[key]} | {row['mutants']} | {row['percent']:g} % |" for row in rows]
    return "\n".join(lines)


OURS = "Portrayal's verdict"


def regret() -> str:
    """What rules that pick a rank and a rate give away, by scale, and which do better than ours."""
    found = figures_of("rate_rules")
    heads = [f"{title}: mean regret | over 0.05 | likeness again" for title in ("alpha 32", "scale 1")]
    lines = [f"| rule | {' | '.join(heads)} |", "|" + "---|" * 7]
    for rows in zip(*(found[scale]["rules"] for scale in SCALES), strict=True):
        figures = [
            f"{row['mean regret']:.3f} | {row['regret over 0.05']} | {row['likeness again']}".replace("%", " %")
            for row in rows
        ]
        name = f"**{rows[0]['rule']}**" if rows[0]["rule"] == OURS else rows[0]["rule"]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join([*lines, "", unbeaten(found["constant"]["rules"])])


def unbeaten(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which rules give away less than ours."""
    ours = next(row["mean regret"] for row in rows if row["rule"] == OURS)
    fewer = [f"“{row['rule']}” ({row['mean regret']:.3f})" for row in rows if row["mean regret"] < ours]
    return f"With alpha 32, rules that give away less than the verdict ({ours:.3f}): {', '.join(fewer) or 'none'}."


def rates() -> str:
    """Mean likeness by rank and rate, with either way to scale a LoRA, and how many of the trainings diverged."""
    found = figures_of("rate_rules")
    multiples = [key for key in found["constant"]["likeness"][0] if key != "rank" and not key.endswith(" diverged")]
    lines = [f"| scale | rank | {' | '.join(multiples)} |", "|---|---|" + "---|" * len(multiples)]
    for scale, title in SCALES.items():
        for row in found[scale]["likeness"]:
            cells = [likeness(row[multiple], row[f"{multiple} diverged"]) for multiple in multiples]
            lines.append(f"| {title} | {row['rank']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def likeness(mean: float | None, diverged: str) -> str:
    """Mean likeness of the trainings that did not diverge, and how many did."""
    said = "–" if mean is None else f"{mean:.2f}"
    return said if diverged == "0%" else f"{said} ({diverged.replace('%', ' %')} diverged)"


def chances() -> str:
    """How often the chance that a verdict states is right."""
    lines = ["| stated chance to be the best | verdicts | mean stated | truly the best |", "|---|---|---|---|"]
    for row in rows_of("rate_rules", "chances"):
        lines.append(f"| {row['stated']} | {row['studies']} | {row['mean stated']} | {row['truly the best']} |")
    return "\n".join(lines).replace("%", " %")


def a_a() -> str:
    """Entries that differ only by luck."""
    found = figures_of("rate_rules")["a_a"]
    worse, any_worse, stated = (
        found[key].replace("%", " %")
        for key in ("an entry is called worse", "any of the nine is", "mean stated chance of the leader")
    )
    return (
        f"In {found['draws']} such studies {worse} of the entries are called worse, and any of the nine in {any_worse} "
        f"of the studies; the leader's stated chance is {stated} on average."
    )


def sureness() -> str:
    """How sure the verdict is, and how often it is right, in a sentence for everybody."""
    return readme_figures.headline(readme_figures.README, readme_figures.promise()).strip()


PAGES: dict[str, Mapping[str, Callable[[], str]]] = {
    "photos.md": {"planted": planted, "captions": captions, "pay": pay, "speed": speed},
    "training.md": training_tables.TABLES,
    "studio.md": {"studio": studio},
    "promises.md": {"endured": endured, "fuzzed": fuzzed, "mutants": mutants},
    "formats.md": {"round-trips": round_trips},
    "scale.md": {
        "several": several_gpus,
        "batch": batch,
        "subjects": subjects,
        "scales": scales,
        "simulated": simulated,
    },
    "verdict.md": {
        "studies": studies,
        "overfitting": overfitting,
        "courses": courses,
        "rules": rules,
        "sureness": sureness,
        "rates": rates,
        "regret": regret,
        "chances": chances,
        "a-a": a_a,
    },
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
