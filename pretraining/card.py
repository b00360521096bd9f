"""The model card of the embedded base, with the figures of the run that made it."""

from __future__ import annotations

from typing import Any

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# pocket

A text-to-image model of {total_megabytes:.0f} MB with the classes and the folder of Stable Diffusion 1.5, trained from
nothing on a drawn world, so that every path of Portrayal can be tried, tested and measured offline, on a CPU, in
seconds. It paints 128x128 pictures of drawn people, from a close-up to the whole body. It knows no photograph, no real
person and no artist's work.

| folder | class | millions of parameters | MB (fp16) |
|---|---|---|---|
{parts}

`controlnet_canny` follows edges, `controlnet_openpose` skeletons of OpenPose's colours; `pose` reads the 17 joints of
COCO from a picture; `people/` (12,000 weights in 8 bits, `pretraining.heads`) finds heads. `sks`, `ohwx`, `zwx`, `shs`
and `bnha` are single tokens that no training caption holds: names for a new subject.

## How it was made
`python -m pretraining.make`: {people} drawn people, {pictures} pictures in 18 scenes, four captions each;
{minutes:.1f} minutes of training on {device} (torch {torch}, diffusers {diffusers},
transformers {transformers}), seed {seed}.
UNet and text encoder: {unet_steps} steps of {unet_batch}, averaged weights, Min-SNR 5, a tenth of the captions dropped.

## Figures
On {held_out_people} people never trained on; {samples} painted pictures for every row that paints, from as many prompts
that name scene, clothes, hair, glasses or none, framing and, where it is seen, the pose; {sampler_steps} steps of
DPM-Solver++, guidance {guidance:g}. `python -m pretraining.evaluate` measures all of it again.

| what | value | target | |
|---|---|---|---|
{figures}

### What the prompt names, and the picture shows
The judge is a classifier trained on drawn pictures alone. It is no part of the base, and it errs: its own accuracy on
drawn pictures of unseen people stands beside. In brackets 95 % Wilson intervals. The control image is that of the drawn
picture which the prompt describes, so the two agree.

| named | target | | judge on drawn pictures | painted freely | with canny | with openpose |
|---|---|---|---|---|---|---|
{fidelity}

The judge sees everything that a prompt names in {exactly}. On drawn pictures it is also right about {unnamed}.

### How the control is followed
Edges: F1 score, two pixels of slack. Joints: PCK@0.1, the share of the joints inside the drawn picture that the pose
reader finds in the painted one within a tenth of the longer side of the box around those joints. Without control means
the same prompts and seeds.

| | with control | without | the reader on drawn pictures |
|---|---|---|---|
{control}

{personalisation}## Limits
{misses}One person per picture, the scenes and clothes of the drawn world, English captions of its kind. Judge real
photos with real encoders: `clip/`, `identity/` and `pose/` know drawings alone.

## Licence
Weights: Apache-2.0. The drawn pictures: CC0.
"""

MOST_MEGABYTES = 45.0
LEAST_SPREAD = 0.05
"""Of identity between the ranks, below which they count as alike."""
LEAST_IDENTITY, MOST_DISOBEDIENCE, MOST_SECONDS = 0.8, 0.05, 180
"""Of a learned person: identity, shares of scene and clothes less than the base's, seconds of training on two cores."""
TARGETS: dict[str, float] = {
    "autoencoder, peak signal-to-noise ratio (dB)": 32.0,
    "autoencoder, structural similarity": 0.95,
    "canny, F1 score of the edges": 0.75,
    "openpose, PCK@0.1": 0.85,
}
"""The least that a figure of the first table should be, by its name; set before the run, never after it."""
FIDELITY_TARGETS: dict[str, float] = {
    "scene": 0.97,
    "clothes colour": 0.95,
    "hair colour": 0.95,
    "hair style": 0.90,
    "glasses": 0.90,
    "pose": 0.85,
}
"""The least share of freely painted pictures that should show what was named."""


def model_card(metrics: dict[str, Any]) -> str:
    """Fill the card from ``metrics.json``'s content."""
    values = figures(metrics)
    exact, accuracy = metrics["prompt_fidelity_named_exactly"], metrics["judge_accuracy"]
    unnamed = [kind for kind in accuracy if kind not in metrics["prompt_fidelity"]]
    return CARD.format(
        **{
            **metrics,
            "parts": "\n".join(_part(name, part) for name, part in metrics["parts"].items()),
            "figures": "\n".join(_figure(name, value) for name, value in values.items()),
            "fidelity": "\n".join(_named(kind, metrics) for kind in metrics["prompt_fidelity"]),
            "exactly": f"{_rate(exact)} of the pictures painted freely",
            "unnamed": ", ".join(f"{kind} ({accuracy[kind]['rate']:.1%})" for kind in unnamed),
            "control": _control(metrics),
            "personalisation": _personalisation(metrics),
            "misses": _misses(values | _fidelity(metrics), metrics),
        }
    )


def figures(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures of the card's first table, by name."""
    identity, named, frechet = metrics["identity"], metrics["prompt_fidelity"], metrics["frechet"]
    rates = [part["rate"] for part in named.values() if part["of"]]
    return {
        "autoencoder, peak signal-to-noise ratio (dB)": metrics["vae"]["psnr_db"],
        "autoencoder, structural similarity": metrics["vae"]["ssim"],
        "denoiser, noise error averaged over timesteps": metrics["unet_held_out_mse"],
        "CLIP, own caption first among 64": metrics["clip_retrieval_top1_of_64"],
        "CLIP, own prompt of a painted picture first among 64": metrics["clip_prompt_top1_of_64"],
        "identity, mean cosine of the same person": identity["same_person_cosine"],
        "identity, mean cosine of others": identity["other_person_cosine"],
        "identity, area under the ROC curve": identity["auc"],
        "identity, equal error rate": identity["equal_error_rate"],
        "prompts, mean share of what is named that is shown": sum(rates) / max(1, len(rates)),
        "Fréchet distance in the judge's features, painted from drawn": frechet["painted_from_drawn"],
        "Fréchet distance in the judge's features, drawn from other drawn": metrics["frechet"][
            "drawn_from_other_drawn"
        ],
        "canny, F1 score of the edges": metrics["controlnet_canny"]["with"]["edge_f1"],
        "openpose, PCK@0.1": metrics["controlnet_openpose"]["with"]["pck"],
    }


def _fidelity(metrics: dict[str, Any]) -> dict[str, float]:
    """Shares of freely painted pictures that show what was named, of the kinds that have a target."""
    return {kind: metrics["prompt_fidelity"][kind]["rate"] for kind in FIDELITY_TARGETS}


def met(name: str, value: float) -> bool | None:
    """Whether a figure reaches its target; None without one."""
    target = (TARGETS | FIDELITY_TARGETS).get(name)
    return None if target is None else value >= target


def _part(name: str, part: dict[str, Any]) -> str:
    return f"| `{name}/` | {part['class']} | {part['parameters'] / 1e6:.2f} | {part['megabytes']:.1f} |"


def _figure(name: str, value: float) -> str:
    target = f"≥ {TARGETS[name]:g}" if name in TARGETS else ""
    return f"| {name} | {value:.4g} | {target} | {_verdict(name, value)} |"


def _verdict(name: str, value: float) -> str:
    return {True: "met", False: "**missed**", None: ""}[met(name, value)]


def _named(kind: str, metrics: dict[str, Any]) -> str:
    control = (metrics[f"controlnet_{name}"]["prompt_fidelity"][kind] for name in ("canny", "openpose"))
    rates = (metrics["judge_accuracy"][kind], metrics["prompt_fidelity"][kind], *control)
    target = f"≥ {FIDELITY_TARGETS[kind]:.0%}" if kind in FIDELITY_TARGETS else ""
    verdict = _verdict(kind, metrics["prompt_fidelity"][kind]["rate"])
    return f"| {kind} | {target} | {verdict} | " + " | ".join(_rate(part) for part in rates) + " |"


def _rate(part: dict[str, float]) -> str:
    if not part["of"]:
        return "no sample"
    return f"{part['rate']:.1%} ({part['low']:.1%} to {part['high']:.1%} of {part['of']})"


def _control(metrics: dict[str, Any]) -> str:
    edges, joints, reader = metrics["controlnet_canny"], metrics["controlnet_openpose"], metrics["pose_reader"]
    rows = [f"| edges | {_mean(edges['with'], 'edge_f1')} | {_mean(edges['without'], 'edge_f1')} | |"]
    names = {"all": "pck", "close-ups": "pck_head", "half bodies": "pck_half", "whole bodies": "pck_whole"}
    for name, key in names.items():
        cells = " | ".join(_mean(part, key) for part in (joints["with"], joints["without"], reader))
        rows.append(f"| joints, {name} | {cells} |")
    return "\n".join(rows)


def _mean(part: dict[str, float], key: str) -> str:
    slack = f" ± {1.96 * part['standard_error']:.3f}" if key in ("edge_f1", "pck") else ""
    return f"{part[key]:.3f}{slack}"


PERSONALISATION = """### How well people are learned
{people} people never seen, eighteen photos each, the recipe `pocket-demo`, on {machine}. Identity: cosine to photos
that were not trained on, from 0 (strangers) to 1 (those photos among each other); at least 0.80 is wanted of the full
UNet and of the best LoRA. Scene and clothes: what the judge sees; at most 5 points less than the base is wanted.
{ranks}

| model | identity | lowest of the {people} | scene | colour of the clothes | training |
|---|---|---|---|---|---|
{rows}

Prior preservation: pictures of the class, without the token, have a cosine of {base:.2f} to the person's photos when
the base paints them, {kept:.2f} after the full UNet was trained with it, {free:.2f} without.

"""


UNMEASURED = """### How well people are learned
Not measured yet on this version; `python -m benchmarks.pocket --only people` does.

"""


def _personalisation(metrics: dict[str, Any]) -> str:
    """The section about learned people; before they were measured, it says so."""
    if "personalisation" not in metrics:
        return UNMEASURED
    part = metrics["personalisation"]
    likeness = part["class_likeness"]
    return PERSONALISATION.format(
        people=len(part["people"]),
        machine=part["machine"].get("gpu", f"{part['machine']['cpus']} CPU cores"),
        rows="\n".join(_model(row) for row in part["models"]),
        ranks=_ranks(part["models"]),
        base=likeness["base"],
        kept=likeness["with prior preservation"],
        free=likeness["without"],
    )


def _model(row: dict[str, Any]) -> str:
    seconds = "" if row["train_seconds"] is None else f"{row['train_seconds']:.0f} s"
    shares = f"{row['scene']:.0%} | {row['clothes colour']:.0%}"
    return f"| {row['model']} | {row['identity']:.2f} | {row['identity, lowest person']:.2f} | {shares} | {seconds} |"


def _ranks(rows: list[dict[str, Any]]) -> str:
    """Whether the LoRAs' identities lie apart, by their spread."""
    loras = [row["identity"] for row in rows if row["model"].startswith("lora")]
    spread = max(loras) - min(loras)
    if spread < LEAST_SPREAD:
        return f"The ranks do not differ: their identities lie within {spread:.2f}."
    return f"The ranks differ: their identities lie {spread:.2f} apart."


def _misses(values: dict[str, float], metrics: dict[str, Any]) -> str:
    """Every target that was missed, in words, or nothing."""
    missed = [f"{name} ({value:.4g})" for name, value in values.items() if met(name, value) is False]
    if metrics["total_megabytes"] > MOST_MEGABYTES:
        missed.append(f"the size ({metrics['total_megabytes']:.1f} MB, of at most {MOST_MEGABYTES:g})")
    if "personalisation" in metrics:
        missed += _missed_people(metrics["personalisation"]["models"])
    return f"Missed targets: {'; '.join(missed)}.\n" if missed else ""


def _missed_people(rows: list[dict[str, Any]]) -> list[str]:
    """What the full UNet and the best LoRA fall short of with people never seen."""
    models = {row["model"]: row for row in rows}
    loras = [row for row in rows if row["model"].startswith("lora")]
    missed = []
    for row in (models["unet"], max(loras, key=lambda row: row["identity"])):
        if row["identity"] < LEAST_IDENTITY:
            missed.append(f"the identity of {row['model']} ({row['identity']:.2f}, of at least {LEAST_IDENTITY})")
        missed += [
            f"{kind} obeyed by {row['model']} ({row[kind]:.0%}, the base {models['base'][kind]:.0%})"
            for kind in ("scene", "clothes colour")
            if row[kind] < models["base"][kind] - MOST_DISOBEDIENCE
        ]
        if row["train_seconds"] > MOST_SECONDS:
            missed.append(f"the training of {row['model']} ({row['train_seconds']:.0f} s, of at most {MOST_SECONDS})")
    return missed
