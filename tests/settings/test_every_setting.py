"""Every setting matters: for each key of the config a case shows what a change of it alone changes in what reaches the
code below it, in the direction that its docstring says, and that nothing else changes.

A case names an observation, another value, and the facts that differ, each with its values before and after.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin
from unittest.mock import ANY

import pytest

from portrayal.config import Config, Section
from tests.settings.observations import (
    Facts,
    based,
    checked,
    class_painted,
    controlled,
    curved,
    decided,
    encoders,
    estimated,
    exported,
    finished,
    gathered,
    held,
    judged,
    left,
    needed,
    painted,
    planned,
    prepared,
    shared,
    spent,
    stepped,
    studied,
    trained,
    trained_together,
    trained_unet,
)
from tests.settings.world import World


@dataclass(frozen=True)
class Matcher:
    """How a fact may differ where its exact values say nothing.

    Attributes:
        name: For messages.
        holds: Whether values before and after are so.
    """

    name: str
    holds: Callable[[Any, Any], bool]

    def __repr__(self) -> str:
        return self.name


CHANGED = Matcher("CHANGED", lambda before, after: before != after)
UP = Matcher("UP", lambda before, after: after > before)
DOWN = Matcher("DOWN", lambda before, after: after < before)


def near(value: float, tolerance: float) -> Any:
    """What equals every number that is no further away."""
    return pytest.approx(value, abs=tolerance)


def times(factor: float) -> Matcher:
    """Whether a number becomes so many times as large."""
    return Matcher(f"times({factor})", lambda before, after: after == pytest.approx(factor * before, rel=1e-4))


@dataclass(frozen=True)
class Case:
    """What a change of a setting changes.

    Attributes:
        observe: The observation.
        value: The other value, as it is given to `--set`.
        changes: The facts that differ: values before and after, or a matcher. Facts that only exist before or after
            need not be named.
        given: Other settings, the same before and after.
    """

    observe: Callable[..., Facts]
    value: str
    changes: dict[str, Any]
    given: tuple[str, ...] = ()


def refused(words: str) -> Matcher:
    """Whether what was no error becomes one that says so."""
    return Matcher(f"refused({words!r})", lambda before, after: before is None and words in after)


PHOTOS = ["captioned.jpg", "clear.png", "dark.jpg", "masked.jpg", "other.jpg", "plain.jpg", "wide.jpg"]
VERDICTS = dict.fromkeys(PHOTOS, "keep") | {"dark.jpg": "drop"}
SHOULD_NOT = "1 of the 7 photos in PHOTOS should not be trained on: dark.jpg."
MODELS = ["auraface", "canny", "clip", "dinov2", "sd15", "yunet"]
SD15 = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14")
DPM = "DPMSolverMultistepScheduler dpmsolver++"
JUDGES = [f"Judged without {judge}" for judge in ("identity by auraface", "identity by sface", "identity by dinov2")]
JUDGES += ["Judged without prompt fidelity"]
TRIALS = ["lora-2", "lora-4", "lora-2.fold-2", "lora-4.fold-2"]
AT_TWO_RATES = [
    f"lora-{rank}-lr{rate}{fold}" for fold in ("", ".fold-2") for rank in (2, 4) for rate in ("1e-4", "3e-4")
]
KEPT = ["heldout.json", "method.json", "readings.json", "weights"]
AGAIN = [f"{name}.seed-2" for name in TRIALS]
STAGES = ["measure", "generate_controlled", "measure", "train_final", "paint_model"]
ONE_SCALE = (
    "method.lora.alpha: with study.lora_scale=equal the scale is 1 at every rank; leave alpha out, or set "
    "study.lora_scale=constant"
)
NO_POSES = "Poses are read from pictures by vitpose and rtdetr, which this machine has not."
TWO_SCENES = "{street='a photo of {subject} on the street',sea='{subject} at sea'}"

ANY_IMAGE = {"noise": CHANGED, "end": CHANGED}
"""What differs where an image begins differently."""
ANY_STEP = dict.fromkeys(("latents", "latents of all steps", "noise", "noise's mean", "timesteps"), CHANGED)
ANY_STEP |= {"losses": CHANGED, "gradient": CHANGED}
"""What differs where other images are in a batch, or at other noise."""
ANOTHER_PROMPT = {"prompts": CHANGED, "losses": CHANGED, "gradient": CHANGED}
REFERENCE = dict.fromkeys(("control image", "white", "reference", "agreement"), CHANGED)
"""What differs where images are held to another reference."""
WIDER = {"sizes": (["8x8"], ["12x8"]), "image sizes": (["64x64"], ["96x64"]), "written width": (64, 96)}
HIGHER = {"sizes": (["8x8"], ["8x12"]), "image sizes": (["64x64"], ["64x96"]), "written height": (64, 96)}
LARGER = WIDER | HIGHER | {"sizes": (["8x8"], ["12x12"]), "image sizes": (["64x64"], ["96x96"])}
SECOND_PASS = {"sizes": (["8x8"], ["8x8", "12x12"]), "timesteps": CHANGED, "written hires_scale": (1.0, 1.5)}
SINGLY = {"calls": (4, 8), "at once": ([2], [1])} | dict.fromkeys(("timesteps", "prompt", "negative", "noise"), CHANGED)
MORE_IMAGES = dict.fromkeys(("train.lora s", "final s", "train.lora GiB", "final GiB"), UP)


def passes(gate: str, margin: str) -> Case:
    """With this margin of a gate, a LoRA and a cut that fail it pass."""
    return Case(
        decided, margin, {f"{gate}: set aside": (["lora-4"], []), f"{gate}: a worse cut is offered": (False, True)}
    )


def captioned(text: str) -> dict[str, list[str]]:
    """Captions of photos, where those without a file beside them have the template's."""
    return {"file": ["a photo of my friend"], "template": [text]}


def tags(text: str) -> str:
    """How often a caption occurs, as kohya files have it."""
    return json.dumps({"run-lora-2": {text: 3}})


def controlled_files(kind: str, *, images: int = 1, scales: Sequence[str] = ("0", "1")) -> list[str]:
    """The study's images held to a reference."""
    paths = [f"{kind}/control.png", "reference.png"]
    for model in ("base", "lora-2"):
        folders = [f"{kind}/{model}/{scale}" if scale != "0" else f"without/{model}" for scale in scales]
        paths += [f"{folder}/{number}.png" for folder in folders for number in range(images)]
    return sorted(f"images/control/{path}" for path in paths)


CASES: dict[str, tuple[Case, ...]] = {
    "recipe": (Case(prepared, "mine", {"recorded recipe": ("", "mine")}),),
    "seed": (
        Case(studied, "1", {"seeds": CHANGED}),
        Case(prepared, "1", {"folds": CHANGED, "manifest's seed": (0, 1), "recorded seed": (0, 1)}),
        Case(trained, "1", ANY_STEP | {"seed": (0, 1)}),
        Case(
            trained,
            "1",
            ANY_STEP | {"seed": (0, 1), "views seen": CHANGED, "encoded": CHANGED},
            ("training.random_crops=1",),
        ),
        Case(painted, "1", ANY_IMAGE | {"seeds": CHANGED}),
        Case(stepped, "1", {"timesteps": CHANGED, "latents": CHANGED, "seeds": CHANGED}, ("study.readings=2",)),
        Case(controlled, "1", REFERENCE | {"seeds": CHANGED}),
        Case(exported, "1", {"ss_seed": ("0", "1")}),
        Case(class_painted, "1", {}),  # all runs share class images
    ),
    "subject.instance_token": (
        Case(
            prepared,
            "zwx",
            {
                "captions": (captioned("a photo of sks woman"), captioned("a photo of zwx woman")),
                "manifest's instance_prompt": ("a photo of sks woman", "a photo of zwx woman"),
            },
        ),
        Case(
            painted,
            "zwx",
            {
                "prompt": CHANGED,
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman on the street"],
                    ["a photo of a woman", "a photo of zwx woman on the street"],
                ),
            },
        ),
        Case(
            stepped,
            "zwx",
            {"prompts": (["a photo of sks woman on the street"], ["a photo of zwx woman on the street"])},
            ("study.readings=2",),
        ),
        Case(
            controlled,
            "zwx",
            {
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman"] * 2,
                    ["a photo of a woman", "a photo of zwx woman"] * 2,
                ),
                "agreement": CHANGED,
            },
        ),
        Case(
            held, "zwx", {"prompt": CHANGED, "end": CHANGED, "prompts": (["sks woman dancing"], ["zwx woman dancing"])}
        ),
        Case(
            exported,
            "zwx",
            {
                "ss_tag_frequency": (tags("a photo of sks woman"), tags("a photo of zwx woman")),
                "modelspec.trigger_phrase": ("a photo of sks woman", "a photo of zwx woman"),
                "photos": ("10_sks woman", "10_zwx woman"),
                "card": CHANGED,
            },
        ),
        Case(judged, "zwx", {"instance_prompt": ("a photo of sks woman", "a photo of zwx woman")}),
    ),
    "subject.class_noun": (
        Case(
            prepared,
            "dog",
            {
                "captions": (captioned("a photo of sks woman"), captioned("a photo of sks dog")),
                "masker is asked": ("a woman", "a dog"),
                "manifest's instance_prompt": ("a photo of sks woman", "a photo of sks dog"),
                "manifest's class_noun": ("woman", "dog"),
            },
            ("prepare.masks=model",),
        ),
        Case(
            painted,
            "dog",
            {
                "prompt": CHANGED,
                "end": CHANGED,
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman on the street"],
                    ["a photo of a dog", "a photo of sks dog on the street"],
                ),
            },
        ),
        Case(
            class_painted,
            "dog",
            {"prompt": CHANGED, "end": CHANGED, "caption": ("a photo of a woman", "a photo of a dog"), "key": CHANGED},
        ),
        Case(
            controlled,
            "owl",
            REFERENCE
            | {
                "prompt": CHANGED,
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman"] * 2,
                    ["a photo of an owl", "a photo of sks owl"] * 2,
                ),
            },
        ),
        Case(gathered, "owl", {"prompts": (["a photo of a woman on the street"], ["a photo of an owl on the street"])}),
        Case(needed, "dog", {"names": (MODELS, MODELS[1:])}),
        Case(encoders, "dog", {"notes": (JUDGES, JUDGES[2:]), "tried": CHANGED}),
        Case(encoders, "man", {}),  # a person, too
        Case(
            exported,
            "dog",
            {
                "ss_tag_frequency": (tags("a photo of sks woman"), tags("a photo of sks dog")),
                "modelspec.trigger_phrase": ("a photo of sks woman", "a photo of sks dog"),
                "photos": ("10_sks woman", "10_sks dog"),
                "card": CHANGED,
            },
        ),
        Case(
            judged,
            "dog",
            {"class_noun": ("woman", "dog"), "instance_prompt": ("a photo of sks woman", "a photo of sks dog")},
        ),
    ),
    "subject.instance_prompt": (
        Case(
            prepared,
            "'{token}, a {noun}'",
            {
                "captions": (captioned("a photo of sks woman"), captioned("sks, a woman")),
                "manifest's instance_prompt": ("a photo of sks woman", "sks, a woman"),
            },
        ),
        Case(
            exported,
            "'{token}, a {noun}'",
            {
                "ss_tag_frequency": (tags("a photo of sks woman"), tags("sks, a woman")),
                "modelspec.trigger_phrase": ("a photo of sks woman", "sks, a woman"),
                "card": CHANGED,
            },
        ),
        Case(judged, "'{token}, a {noun}'", {"instance_prompt": ("a photo of sks woman", "sks, a woman")}),
    ),
    "subject.class_prompt": (
        Case(
            class_painted,
            "'one {noun}'",
            {"prompt": CHANGED, "end": CHANGED, "caption": ("a photo of a woman", "one woman"), "key": CHANGED},
        ),
        Case(
            painted,
            "'one {noun}'",
            {
                "prompt": CHANGED,
                "end": CHANGED,
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman on the street"],
                    ["one woman", "a photo of sks woman on the street"],
                ),
            },
        ),
        Case(
            prepared,
            "'one {noun}'",
            {"captioner is asked": ("a photo of a woman", "one woman")},
            ("prepare.captions=captioner",),
        ),
    ),
    "base.name": (
        Case(planned, "pocket", {"kind": ("folder", "pocket"), "base": ("base", "pocket"), "disk": UP}),
        Case(
            based,
            "sd15",
            {"name": ("base", SD15[0]), "kind": ("folder", "hub"), "fetched": ([], [SD15])},
        ),
        Case(needed, "sd21", {"names": (MODELS, sorted({*MODELS, "sd21"} - {"sd15"}))}),
    ),
    "base.revision": (
        Case(
            based,
            "v2",
            {"fetched": ([("someone/model", None)], [("someone/model", "v2")])},
            ("base.name=someone/model",),
        ),
        Case(based, "v2", {"fetched": ([SD15], [(SD15[0], "v2")])}, ("base.name=sd15",)),
    ),
    "base.config": (
        Case(based, "CONFIGS", {"fetched": ([SD15], []), "configs": ("base", "configs")}, ("base.name=CHECKPOINT",)),
        Case(class_painted, "CONFIGS", {"key": CHANGED}),
    ),
    "base.vae": (
        Case(based, "VAE", {"vae": CHANGED, "hash": CHANGED}),
        Case(needed, "vae-mse", {"names": (MODELS, sorted([*MODELS, "vae-mse"]))}),
        Case(needed, "vae-mse", {"names": ([], ["vae-mse"])}, ("base.name=pocket",)),
    ),
    "base.prediction_type": (
        Case(based, "v_prediction", {"predicts": ("epsilon", "v_prediction"), "family": ("epsilon", "v_prediction")}),
        Case(class_painted, "v_prediction", {"end": CHANGED, "key": CHANGED}),
    ),
    "base.resolution": (
        Case(planned, "96", {"resolution": (64, 96), "LoRAs at once": (95, 41)}),
        Case(checked, "96", {"verdicts": (VERDICTS, VERDICTS | {"wide.jpg": "fix"})}),
        Case(
            prepared,
            "96",
            {
                "shapes": ([(64, 64)], [(96, 96)]),
                "findings": ({"dark.jpg": ["dark"]}, {"wide.jpg": ["small"], "dark.jpg": ["dark"]}),
                "manifest's resolution": (64, 96),
            },
        ),
        Case(painted, "96", ANY_IMAGE | LARGER),
        Case(class_painted, "96", ANY_IMAGE | {"sizes": (["8x8"], ["12x12"]), "key": CHANGED}),
        Case(held, "96", ANY_IMAGE | LARGER | {"control image": CHANGED, "white": CHANGED}),
        Case(controlled, "96", REFERENCE | LARGER),
        Case(exported, "96", {"modelspec.resolution": ("64x64", "96x96"), "ss_resolution": ("(64, 64)", "(96, 96)")}),
        Case(
            estimated,
            "96",
            MORE_IMAGES | dict.fromkeys(("class_images s", "steps s", "generate s", "control s", "evaluate s"), UP),
        ),
    ),
    "prepare.num_heldout": (
        Case(
            prepared,
            "2",
            {"folds": ([None, None, None, None, None, 0, None], [None, None, 0, None, None, 0, None])},
            ("study.folds=1",),
        ),
        Case(prepared, "2", {"folds": ([0, 0, 1, 1, 0, 0, 1], [1, None, 0, None, None, 0, 1])}),
        Case(estimated, "4", {"steps s": UP}, ("study.folds=1",)),
        Case(estimated, "4", {"steps s": DOWN}),
    ),
    "prepare.min_photos": (
        Case(
            prepared,
            "8",
            {"error": (None, "PHOTOS holds 7 picture files, 7 of them usable and different; at least 8 are needed.")},
        ),
        Case(prepared, "7", {}),
    ),
    "prepare.drop": (
        Case(
            prepared,
            "['plain.jpg']",
            {
                "photos": (PHOTOS, [name for name in PHOTOS if name != "plain.jpg"]),
                "folds": CHANGED,
                "findings": ({"dark.jpg": ["dark"]}, {"plain.jpg": ["dropped"], "dark.jpg": ["dark"]}),
            },
        ),
        Case(
            checked,
            "['dark.jpg']",
            {
                "verdicts": (VERDICTS, {name: verdict for name, verdict in VERDICTS.items() if name != "dark.jpg"}),
                "left out": ([], ["dark.jpg"]),
            },
        ),
    ),
    "prepare.keep": (
        Case(prepared, "['dark.jpg']", {"error": (SHOULD_NOT, None)}, ("prepare.strict=true",)),
        Case(checked, "['dark.jpg']", {"verdicts": (VERDICTS, VERDICTS | {"dark.jpg": "keep"})}),
    ),
    "prepare.strict": (
        Case(prepared, "true", {"error": (None, SHOULD_NOT)}),
        Case(prepared, "true", {}, ("prepare.drop=['dark.jpg']",)),
    ),
    "prepare.background": (Case(prepared, "red", {"transparent": ((255, 255, 255), (255, 0, 0))}),),
    "prepare.crops": (
        Case(
            prepared,
            "several",
            {
                "photos": (PHOTOS, [*PHOTOS[:6], "plain.jpg training close", "wide.jpg"]),
                "folds": ([0, 0, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0, 0, 1]),
                "crop of plain.jpg training close": (None, [24, 11, 80, 80]),
            },
        ),
    ),
    "prepare.shape": (
        Case(
            prepared,
            "bucket",
            {
                "photos": (PHOTOS, [f"{name} {use} whole" for name in PHOTOS for use in ("training", "judging")]),
                "folds": ([0, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1]),
                "shapes": ([(64, 64)], [(56, 72), (64, 64), (72, 56), (88, 40)]),
                "masked": (["masked.jpg"], ["masked.jpg training whole", "masked.jpg judging whole"]),
            },
        ),
        Case(studied, "bucket", {"packs": ([TRIALS], [TRIALS[:2], TRIALS[2:]])}),
        Case(planned, "bucket", {"packs": ([4], [2, 2])}),
    ),
    "prepare.crop": (
        Case(prepared, "{'plain.jpg'=[3,4,80]}", {"crop of plain.jpg": ([0, 0, 120, 120], [3, 4, 80, 80])}),
        Case(checked, "{'plain.jpg'=[3,4,80]}", {"crop of plain.jpg": ([0, 0, 120, 120], [3, 4, 80, 80])}),
    ),
    "prepare.captions": (
        Case(
            prepared,
            "captioner",
            {
                "captions": (
                    captioned("a photo of sks woman"),
                    {"file": ["a photo of my friend"], "captioner": ["a photo of sks woman by the sea"]},
                ),
                "captioner is asked": (None, "a photo of a woman"),
            },
        ),
        Case(needed, "captioner", {"names": (MODELS, sorted([*MODELS, "blip"]))}),
    ),
    "prepare.masks": (
        Case(prepared, "model", {"masked": (["masked.jpg"], PHOTOS), "masker is asked": (None, "a woman")}),
        Case(needed, "model", {"names": (MODELS, sorted([*MODELS, "clipseg"]))}),
        Case(needed, "model", {"names": ([], ["clipseg"])}, ("base.name=pocket",)),
    ),
    "method.unet.learning_rate": (Case(trained_unet, "1e-3", {"rates": ([[2e-6]] * 3, [[1e-3]] * 3)}),),
    "method.unet.max_train_steps": (
        Case(
            trained_unet,
            "2",
            {
                "steps": (3, 2),
                "rates": ([[2e-6]] * 3, [[2e-6]] * 2),
                "checkpoints": ([[]] * 3, [[]] * 2),
                "readings": ([3], [2]),
                "latents of all steps": CHANGED,
            },
        ),
        Case(estimated, "6", {"train.unet s": UP}, ("study.full_unet=true",)),
    ),
    "method.unet.train_text_encoder": (
        Case(
            trained_unet,
            "true",
            {
                "weights": (208, 244),
                "text encoder's weights": (0, 36),
                "prompts": CHANGED,
                "words": (None, ["a photo of sks woman", "a photo of a woman"]),
                "gradient": CHANGED,
                "rates": ([[2e-6]] * 3, [[2e-6, 2e-6]] * 3),
            },
        ),
        Case(planned, "true", {"disk": UP}, ("study.full_unet=true",)),
    ),
    "method.unet.text_encoder_learning_rate": (
        Case(
            trained_unet,
            "1e-3",
            {"rates": ([[2e-6, 2e-6]] * 3, [[2e-6, 1e-3]] * 3)},
            ("method.unet.train_text_encoder=true",),
        ),
    ),
    "method.unet.master_weights": (
        Case(
            trained_unet,
            "false",
            {
                "optimizer": ("AdamW", "SmallAdamW"),
                "dtype of weights": ("torch.float32", "torch.bfloat16"),
                "dtype of inputs": ("torch.float32", "torch.bfloat16"),
                "dtype of weights that compute": ("torch.float32", "torch.bfloat16"),
                "gradient": CHANGED,
            },
            ("training.mixed_precision=bf16",),
        ),
        Case(estimated, "false", {"train.unet GiB": DOWN}, ("study.full_unet=true", "training.mixed_precision=bf16")),
    ),
    "method.lora.rank": (
        Case(planned, "8", {"error": (None, "method.lora.rank: each LoRA of a study has a rank of its own.")}),
    ),
    "method.lora.alpha": (
        Case(trained, "3", {"scales": ([16.0], [1.5]), "gradient": DOWN, "recorded alpha": (32.0, 3.0)}),
        Case(studied, "3", {"lora-2.alpha": (32.0, 3.0), "lora-4.alpha": (32.0, 3.0)}),
        Case(
            studied,
            "3",
            {"lora-2.alpha": (math.sqrt(2) * math.sqrt(2), 3 * math.sqrt(2)), "lora-4.alpha": (math.sqrt(2) * 2, 6.0)},
            ("study.lora_scale=rank_stabilized",),
        ),
        Case(exported, "3", {"ss_network_alpha": ("32.0", "3.0"), "alpha": ([32.0], [3.0]), "card": CHANGED}),
        Case(planned, "3", {"error": (None, ONE_SCALE)}, ("study.lora_scale=equal",)),
        Case(studied, "3", {"lora-2.alpha": (None, 3.0)}, ("study.lora_scale=equal", "study.ranks=[2]")),
    ),
    "method.lora.dropout": (
        Case(trained, "0.25", {"scales": ([16.0], []), "dropout": ([], [0.25]), "gradient": CHANGED}),
        Case(planned, "0.25", {"LoRAs at once": (95, 1), "packs": ([4], [1, 1, 1, 1])}),
        Case(
            studied,
            "0.25",
            {
                "packs": ([TRIALS], [[name] for name in TRIALS]),
                "lora-2.dropout": (0.0, 0.25),
                "lora-4.dropout": (0.0, 0.25),
            },
        ),
        Case(
            estimated,
            "0.25",
            {
                "train.lora s": UP,
                "final s": UP,
                "train.lora GiB": DOWN,
                "steps": ("CUDA graph", "plain, LoRA dropout draws from a generator that a graph cannot reseed"),
                "LoRAs at once": ("2", "1"),
            },
        ),
    ),
    "method.lora.target_modules": (
        Case(trained, "['to_q']", {"weights": (32, 16), "gradient": DOWN}),
        Case(planned, "['to_q']", {"disk": times(0.5)}),
        Case(planned, "['to_x']", {"error": CHANGED}),
    ),
    "method.lora.learning_rate": (Case(trained, "1e-3", {"rates": ([[1e-4]] * 3, [[1e-3]] * 3)}),),
    "method.lora.max_train_steps": (
        Case(
            trained,
            "2",
            {
                "steps": (3, 2),
                "rates": ([[1e-4]] * 3, [[1e-4]] * 2),
                "checkpoints": ([[]] * 3, [[]] * 2),
                "readings": ([3], [2]),
                "latents of all steps": CHANGED,
            },
        ),
        Case(
            trained,
            "2",
            {
                "steps": (3, 2),
                "rates": ([[1e-4], [1e-4 * 2 / 3], [1e-4 / 3]], [[1e-4], [5e-5]]),
                "checkpoints": ([[]] * 3, [[]] * 2),
                "readings": ([3], [2]),
                "latents of all steps": CHANGED,
            },
            ("training.lr_scheduler=linear",),
        ),
        Case(
            studied,
            "6",
            {
                "readings": ({"lora-2": (3,), "lora-4": (3,)}, {"lora-2": (6,), "lora-4": (6,)}),
                "steps": ({"lora-2": 3, "lora-4": 3}, {"lora-2": 6, "lora-4": 6}),
                "lora-2.max_train_steps": (3, 6),
                "lora-4.max_train_steps": (3, 6),
            },
        ),
        Case(estimated, "6", {"train.lora s": UP, "final s": UP}),
    ),
    "method.lora.train_text_encoder": (
        Case(
            trained,
            "true",
            {
                "weights": (32, 48),
                "text encoder's weights": (0, 16),
                "prompts": CHANGED,
                "words": (None, ["a photo of sks woman", "a photo of a woman"]),
                "gradient": UP,
                "rates": ([[1e-4]] * 3, [[1e-4, 1e-4]] * 3),
            },
        ),
        Case(planned, "true", {"disk": UP}),
    ),
    "method.lora.text_encoder_learning_rate": (
        Case(
            trained,
            "1e-3",
            {"rates": ([[1e-4, 1e-4]] * 3, [[1e-4, 1e-3]] * 3)},
            ("method.lora.train_text_encoder=true",),
        ),
        Case(
            trained,
            "1e-3",
            {"rates": ([[1e-4, 1e-4]] * 3, [[1e-4, 1e-3]] * 3)},
            ("method.lora.train_text_encoder=true", "method.lora.dropout=0.25"),
        ),
    ),
    "study.full_unet": (
        Case(
            studied,
            "true",
            {
                "trainings": (TRIALS, ["unet", *TRIALS]),
                "seeds": CHANGED,
                "readings": ({"lora-2": (3,), "lora-4": (3,)}, {"unet": (3,), "lora-2": (3,), "lora-4": (3,)}),
                "steps": ({"lora-2": 3, "lora-4": 3}, {"unet": 3, "lora-2": 3, "lora-4": 3}),
                "packs": ([TRIALS], [["unet"], TRIALS]),
                "unet.learning_rate": (None, 2e-6),
            },
        ),
        Case(
            planned,
            "true",
            {
                "disk": UP,
                "memory": UP,
                "trainings": ({"lora-2": 2, "lora-4": 2}, {"unet": 1, "lora-2": 2, "lora-4": 2}),
                "images": (5, 6),
            },
        ),
        Case(
            estimated,
            "true",
            dict.fromkeys(("steps s", "generate s", "control s", "evaluate s"), UP)
            | {"train.unet s": CHANGED, "train.unet GiB": CHANGED, "compiled": CHANGED},
        ),
    ),
    "study.ranks": (
        Case(
            studied,
            "[4]",
            {
                "trainings": (TRIALS, ["lora-4", "lora-4.fold-2"]),
                "seeds": CHANGED,
                "readings": ({"lora-2": (3,), "lora-4": (3,)}, {"lora-4": (3,)}),
                "steps": ({"lora-2": 3, "lora-4": 3}, {"lora-4": 3}),
                "packs": ([TRIALS], [["lora-4", "lora-4.fold-2"]]),
                "lora-2.rank": (2, None),
            },
        ),
        Case(
            planned,
            "[4]",
            {
                "disk": times(2 / 3),
                "packs": ([4], [2]),
                "trainings": ({"lora-2": 2, "lora-4": 2}, {"lora-4": 2}),
                "images": (5, 3),
            },
        ),
        Case(
            planned,
            "[2,128]",
            {
                "disk": times(130 / 6),
                "notes": ([], ["lora-128"]),
                "trainings": ({"lora-2": 2, "lora-4": 2}, {"lora-2": 2, "lora-128": 2}),
            },
        ),
    ),
    "study.learning_rates": (
        Case(
            studied,
            "[1,3]",
            {
                "trainings": (TRIALS, AT_TWO_RATES),
                "seeds": CHANGED,
                "readings": CHANGED,
                "steps": CHANGED,
                "packs": ([TRIALS], [AT_TWO_RATES]),
                "rates are kept of": ([], ["lora"]),
            },
        ),
        Case(studied, "[3]", {"lora-2.learning_rate": (1e-4, 3e-4), "lora-4.learning_rate": (1e-4, 3e-4)}),
        Case(trained, "[3]", {"rates": ([[1e-4]] * 3, [[3e-4]] * 3)}),
        Case(
            trained,
            "[3]",
            {"rates": ([[1e-4, 2e-5]] * 3, [[3e-4, 6e-5]] * 3)},
            ("method.lora.train_text_encoder=true", "method.lora.text_encoder_learning_rate=2e-5"),
        ),
        Case(
            planned,
            "[1,3]",
            {
                "images": (5, 9),
                "disk": times(2),
                "packs": ([4], [8]),
                "trainings": ({"lora-2": 2, "lora-4": 2}, dict.fromkeys(AT_TWO_RATES[:4], 2)),
            },
        ),
        Case(
            estimated,
            "[1,3]",
            {"train.lora s": times(2), "steps s": UP, "generate s": times(9 / 5), "evaluate s": UP},
        ),
        Case(
            spent,
            "[1,3]",
            {"rounds": ([TRIALS], [AT_TWO_RATES[:4], ["lora-4-lr3e-4.fold-2"]])},
            ("study.max_trainings=5",),
        ),
    ),
    "study.lora_scale": (
        Case(studied, "equal", {"lora-2.alpha": (32.0, None), "lora-4.alpha": (32.0, None)}),
        Case(studied, "rank_stabilized", {"lora-2.alpha": (32.0, 2.0), "lora-4.alpha": (32.0, 2 * math.sqrt(2))}),
        Case(
            trained_together,
            "rank_stabilized",
            {
                "scales": ([16.0, 8.0], [1.0, math.sqrt(0.5)]),
                "gradient": DOWN,
                "recorded alpha": (32.0, 2.0000000000000004),
            },
        ),
        Case(
            trained_together,
            "equal",
            {"scales": ([16.0, 8.0], [1.0, 1.0]), "gradient": DOWN, "recorded alpha": (32.0, 2)},
        ),
        Case(planned, "equal", {"error": (None, ONE_SCALE)}, ("method.lora.alpha=3",)),
    ),
    "study.max_trainings": (
        Case(
            planned,
            "3",
            {
                "images": (5, 4),
                "disk": times(0.5),  # of the first round
                "packs": ([4], [2, 1]),
                "trainings": ({"lora-2": 2, "lora-4": 2}, {"lora-2": 1, "lora-4": 1}),
            },
        ),
        Case(planned, "1", {"error": refused("2 LoRAs, and each is trained once at least")}),
        Case(spent, "3", {"rounds": ([TRIALS], [TRIALS[:2], ["lora-4.fold-2"]])}),
        Case(
            spent,
            "3",
            {
                "rounds": (
                    [["unet", *TRIALS[:2], "unet.fold-2", *TRIALS[2:]]],
                    [["unet", *TRIALS[:2], "unet.fold-2"], ["lora-4.fold-2"]],
                )
            },
            ("study.full_unet=true", "study.unet_folds=2"),
        ),
        Case(
            estimated,
            "3",
            {"train.lora s": DOWN, "steps s": DOWN, "generate s": times(4 / 5), "evaluate s": DOWN},
        ),
    ),
    "study.folds": (
        Case(
            studied,
            "3",
            {
                "trainings": (TRIALS, [*TRIALS, "lora-2.fold-3", "lora-4.fold-3"]),
                "seeds": CHANGED,
                "packs": ([TRIALS], [[*TRIALS, "lora-2.fold-3", "lora-4.fold-3"]]),
            },
        ),
        Case(prepared, "3", {"folds": ([0, 0, 1, 1, 0, 0, 1], [2, 0, 1, 2, 1, 0, 0])}),
        Case(
            planned,
            "3",
            {
                "disk": times(1.5),
                "packs": ([4], [6]),
                "trainings": ({"lora-2": 2, "lora-4": 2}, {"lora-2": 3, "lora-4": 3}),
                "images": (5, 7),
            },
        ),
        Case(
            estimated,
            "3",
            {"train.lora s": times(1.5), "steps s": UP, "generate s": times(7 / 5), "evaluate s": UP},
        ),
    ),
    "study.unet_folds": (
        Case(
            studied,
            "2",
            {
                "trainings": (["unet", *TRIALS], ["unet", *TRIALS[:2], "unet.fold-2", *TRIALS[2:]]),
                "seeds": CHANGED,
                "packs": ([["unet"], TRIALS], [["unet"], ["unet.fold-2"], TRIALS]),
            },
            ("study.full_unet=true",),
        ),
        Case(
            estimated,
            "2",
            {"train.unet s": times(2), "steps s": UP, "generate s": times(7 / 6), "evaluate s": UP},
            ("study.full_unet=true",),
        ),
    ),
    "study.seeds": (
        Case(
            studied,
            "2",
            {
                "trainings": (TRIALS, [*TRIALS, *AGAIN]),
                "seeds": CHANGED,
                "packs": ([TRIALS], [[*TRIALS, *AGAIN]]),
            },
        ),
        Case(
            planned,
            "2",
            {
                "disk": times(2),
                "packs": ([4], [8]),
                "trainings": ({"lora-2": 2, "lora-4": 2}, {"lora-2": 4, "lora-4": 4}),
                "images": (5, 9),
            },
        ),
        Case(
            estimated,
            "2",
            {"train.lora s": times(2), "steps s": UP, "generate s": times(9 / 5), "evaluate s": UP},
        ),
    ),
    "study.readings": (
        Case(
            studied,
            "3",
            {"readings": ({"lora-2": (3,), "lora-4": (3,)}, {"lora-2": (1, 2, 3), "lora-4": (1, 2, 3)})},
        ),
        Case(trained, "3", {"readings": ([3], [1, 2, 3])}),
        Case(
            stepped,
            "2",
            {
                "likeness": (None, 1),
                "files": ([], ["images/steps/lora-2/1/street.png"]),
                "image sizes": ([], ["64x64"]),
                "prompts": ([], ["a photo of sks woman on the street"]),
                "seeds": CHANGED,
            },
        ),
        Case(estimated, "2", {"steps s": UP}),
        Case(planned, "4", {"disk": times(4)}),
    ),
    "study.keep_readings": (
        Case(left, "true", {"files": (KEPT, sorted([*KEPT, "readings/1/heldout.json", "readings/1/weights"]))}),
    ),
    "study.final": (
        Case(finished, "false", {"stages": (STAGES, STAGES[:3])}),
        Case(estimated, "false", {"final s": (ANY, None), "final GiB": (ANY, None)}),
    ),
    "study.loras_at_once": (
        Case(studied, "3", {"packs": ([TRIALS], [TRIALS[:3], TRIALS[3:]])}),
        Case(planned, "3", {"LoRAs at once": (95, 3), "packs": ([4], [3, 1])}),
    ),
    "training.train_batch_size": (
        Case(
            trained,
            "2",
            ANY_STEP | {"shares": ([1.0] * 2, [0.5] * 4), "prompts": CHANGED, "rows of a model": (2, 4)},
        ),
        Case(
            trained,
            "2",
            ANY_STEP | {"shares": ([1.0, 1.0], [0.5, 0.5, 1.0]), "prompts": CHANGED, "rows of a model": (2, 3)},
            ("training.class_batch_size=1",),
        ),
        Case(estimated, "2", MORE_IMAGES | {"batch": ("1 photo, 1 class image", "2 photos, 2 class images")}),
        Case(planned, "2", {"LoRAs at once": (95, 47)}),
    ),
    "training.class_batch_size": (
        Case(
            trained,
            "2",
            ANY_STEP | {"shares": ([1.0, 1.0], [1.0, 0.5, 0.5]), "prompts": CHANGED, "rows of a model": (2, 3)},
        ),
        Case(estimated, "2", MORE_IMAGES | {"batch": ("1 photo, 1 class image", "1 photo, 2 class images")}),
        Case(planned, "2", {"LoRAs at once": (95, 63)}),
    ),
    "training.gradient_accumulation_steps": (
        Case(studied, "2", {"two processes share a step": (False, True)}),
        Case(trained, "2", {"passes": (1, 2), "losses": UP, "gradient": CHANGED, "latents of all steps": CHANGED}),
        Case(estimated, "2", {"train.lora s": UP, "final s": UP}),
    ),
    "training.gradient_checkpointing": (
        Case(trained, "true", {"checkpointing": ([False, False], [True, False])}),
        Case(
            trained,
            "true",
            {"checkpointing": ([False, False], [True, True])},
            ("method.lora.train_text_encoder=true",),
        ),
        Case(trained_unet, "true", {"checkpointing": ([False, False], [True, False])}),
        Case(
            estimated,
            "true",
            {
                "train.lora s": UP,
                "final s": UP,
                "train.lora GiB": DOWN,
                "final GiB": DOWN,
                "gradient checkpointing": ("off", "on"),
            },
        ),
    ),
    "training.cuda_graph": (
        Case(trained, "false", {"plain on a GPU": (None, "training.cuda_graph is off")}),
        Case(
            estimated,
            "false",
            {"train.lora s": UP, "final s": UP, "steps": ("CUDA graph", "plain, training.cuda_graph is off")},
        ),
    ),
    "training.mixed_precision": (
        Case(planned, "bf16", {"precision": ("no", "bf16"), "LoRAs at once": (95, 191)}),
        Case(
            trained,
            "bf16",
            dict.fromkeys(("encoded", "latents", "latents of all steps", "prompts", "losses", "gradient"), CHANGED)
            | {
                "dtype of inputs": ("torch.float32", "torch.bfloat16"),
                "dtype of weights that compute": ("torch.float32", "torch.bfloat16"),
            },
        ),
        Case(
            trained_unet,
            "bf16",
            dict.fromkeys(("encoded", "latents", "latents of all steps", "prompts", "losses", "gradient"), CHANGED),
        ),
        Case(class_painted, "bf16", ANY_IMAGE | {"prompt": CHANGED, "negative": CHANGED, "key": CHANGED}),
        Case(estimated, "bf16", {"number format": ("fp32", "bf16")}),
    ),
    "training.prior_loss_weight": (
        Case(trained, "0.25", {"shares": ([1.0, 1.0], [1.0, 0.25]), "gradient": CHANGED}),
        Case(
            trained,
            "0",
            ANY_STEP
            | {"class images": (2, None), "shares": ([1.0, 1.0], [1.0]), "prompts": CHANGED, "rows of a model": (2, 1)},
        ),
        Case(
            class_painted,
            "0",
            {
                "calls": (4, 0),
                "encoded": ([2], None),
                "caption": ("a photo of a woman", None),
                "latents": ([(8, 8)], None),
                "key": CHANGED,
                "cached": (2, 0),
                "strangers": (2, 3),
                "strangers by the base": (False, True),
            },
        ),
        Case(
            estimated,
            "0",
            {
                "class_images s": (ANY, None),
                "train.lora s": DOWN,
                "final s": DOWN,
                "train.lora GiB": DOWN,
                "final GiB": DOWN,
                "batch": ("1 photo, 1 class image", "1 photo, 0 class images"),
            },
        ),
        Case(planned, "0", {"LoRAs at once": (95, 190)}),
    ),
    "training.background_loss_weight": (
        Case(
            trained,
            "0",
            {"least place": (None, 0.0), "most place": (None, 1.0), "losses": CHANGED, "gradient": CHANGED},
            ("training.train_batch_size=3",),
        ),
        Case(
            trained,
            "0.25",
            {"least place": (None, 0.25), "most place": (None, 1.0), "losses": CHANGED, "gradient": CHANGED},
            ("training.train_batch_size=3",),
        ),
    ),
    "training.random_crops": (
        Case(
            trained, "2", {"views": (1, 3), "views seen": CHANGED, "encoded": CHANGED, "latents of all steps": CHANGED}
        ),
    ),
    "training.random_flip": (
        Case(
            trained,
            "true",
            dict.fromkeys(("encoded", "latents", "latents of all steps", "losses", "gradient", "views seen"), CHANGED)
            | {"views": (1, 2)},
        ),
    ),
    "training.num_class_images": (
        Case(
            trained,
            "3",
            dict.fromkeys(("latents", "latents of all steps", "losses", "gradient"), CHANGED)
            | {"class images": (2, 3)},
        ),
        Case(
            class_painted,
            "3",
            {
                "calls": (4, 8),
                "timesteps": CHANGED,
                "end": CHANGED,
                "encoded": ([2], [3]),
                "cached": (2, 4),
                "strangers": (2, 3),
            },
        ),
        Case(estimated, "3", {"class_images s": times(2)}),
    ),
    "training.caption_dropout": (
        Case(
            trained,
            "1",
            {"share of captions dropped": (0.0, 1.0), **ANOTHER_PROMPT},
        ),
        Case(trained, "0.25", {"share of captions dropped": (0.0, near(0.25, 0.15))}),
        Case(trained, "0.75", {"share of captions dropped": (0.0, near(0.75, 0.15)), **ANOTHER_PROMPT}),
    ),
    "training.lr_scheduler": (
        Case(trained, "linear", {"rates": ([[1e-4]] * 3, [[1e-4], [1e-4 * 2 / 3], [1e-4 / 3]])}),
        Case(trained, "linear", {"rates": ([[1e-4]] * 3, [[0.0], [1e-4], [5e-5]])}, ("training.lr_warmup_steps=1",)),
    ),
    "training.lr_warmup_steps": (
        Case(
            trained,
            "2",
            {"rates": ([[1e-4]] * 3, [[0.0], [5e-5], [1e-4]])},
            ("training.lr_scheduler=constant_with_warmup",),
        ),
        Case(planned, "2", {"notes": ([], ["training.lr_warmup_steps"])}),
        Case(planned, "2", {}, ("training.lr_scheduler=constant_with_warmup",)),
    ),
    "training.max_grad_norm": (
        Case(trained, "0.01", {"gradient": (ANY, near(0.01, 1e-5))}),
        Case(trained_unet, "0.5", {"gradient": (near(1, 1e-5), near(0.5, 1e-5))}),
    ),
    "training.snr_gamma": (Case(trained, "5", {"losses": DOWN, "gradient": DOWN}),),
    "training.noise_offset": (
        Case(
            trained,
            "0.5",
            {"noise": CHANGED, "noise's mean": UP, "timesteps": CHANGED, "losses": CHANGED, "gradient": CHANGED},
        ),
    ),
    "training.checkpointing_steps": (
        Case(trained, "2", {"checkpoints": ([[]] * 3, [[], [], ["2"]])}),
        Case(trained, "1", {"checkpoints": ([[]] * 3, [[], ["1"], ["1", "2"]])}),
        Case(planned, "1", {"disk": UP}),
    ),
    "training.checkpoints_total_limit": (
        Case(
            trained,
            "1",
            {"checkpoints": ([[], ["1"], ["1", "2"]], [[], ["1"], ["2"]])},
            ("training.checkpointing_steps=1",),
        ),
        Case(planned, "1", {"disk": DOWN}, ("training.checkpointing_steps=1",)),
    ),
    "training.shard_optimizer": (Case(shared, "true", {"kept": (208, 104)}),),
    "training.save_precision": (
        Case(trained, "fp32", {"files": (["F16"], ["F32"])}),
        Case(trained_unet, "bf16", {"files": (["F16"], ["BF16"])}),
        Case(planned, "fp32", {"disk": times(2)}),
        Case(exported, "fp32", {"dtypes": (["F16 F32", "F16"], ["F32", "F32"])}),
    ),
    "training.trackers": (Case(trained, "['tensorboard']", {"trackers": (None, ["tensorboard"])}),),
    "training.optimizer.name": (
        Case(trained, "prodigy", {"optimizer": ("AdamW", "GroupedProdigy"), "rates": ([[1e-4]] * 3, [[1.0]] * 3)}),
        Case(trained, "adafactor", {"optimizer": ("AdamW", "Adafactor"), "betas": CHANGED, "eps": CHANGED}),
        Case(trained, "adamw8bit", {"optimizer": ("AdamW", "AdamW8bit")}),
        Case(estimated, "adamw8bit", {"train.unet GiB": DOWN}, ("study.full_unet=true",)),
    ),
    "training.optimizer.betas": tuple(
        Case(trained, "[0.8,0.9]", {"betas": ((0.9, 0.999), (0.8, 0.9))}, (f"training.optimizer.name={name}",))
        for name in ("adamw", "adamw8bit", "prodigy")
    ),
    "training.optimizer.weight_decay": tuple(
        Case(trained, "0.5", {"weight_decay": (0.01, 0.5)}, (f"training.optimizer.name={name}",))
        for name in ("adamw", "adamw8bit", "prodigy", "adafactor")
    ),
    "training.optimizer.eps": tuple(
        Case(trained, "1e-4", {"eps": (1e-8, 1e-4)}, (f"training.optimizer.name={name}",))
        for name in ("adamw", "adamw8bit", "prodigy")
    ),
    "generation.scenes": (
        Case(
            painted,
            TWO_SCENES,
            {
                "calls": (4, 8),
                "at once": ([2], [1, 2]),
                "timesteps": CHANGED,
                "prompt": CHANGED,
                "noise": CHANGED,
                "files": (
                    ["images/class/lora-2/0.png", "images/lora-2/street/0.png"],
                    ["images/class/lora-2/0.png", "images/lora-2/sea/0.png", "images/lora-2/street/0.png"],
                ),
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman on the street"],
                    ["a photo of a woman", "sks woman at sea", "a photo of sks woman on the street"],
                ),
                "seeds": CHANGED,
            },
        ),
        Case(
            stepped,
            TWO_SCENES,
            {
                "likeness": (1, 2),
                "files": (
                    ["images/steps/lora-2/1/street.png"],
                    ["images/steps/lora-2/1/sea.png", "images/steps/lora-2/1/street.png"],
                ),
                "prompts": (
                    ["a photo of sks woman on the street"],
                    ["sks woman at sea", "a photo of sks woman on the street"],
                ),
                "seeds": CHANGED,
            },
            ("study.readings=2",),
        ),
        Case(
            estimated,
            TWO_SCENES,
            {"steps s": UP, "generate s": UP, "evaluate s": UP, "final s": UP},
            ("study.readings=2",),
        ),
        Case(planned, TWO_SCENES, {"images": (5, 10)}),
        Case(
            gathered,
            TWO_SCENES,
            {
                "prompts": (
                    ["a photo of a woman on the street"],
                    ["a photo of a woman on the street", "a woman at sea"],
                ),
                "images": ({"base": [1], "lora-2": [1]}, {"base": [1, 1], "lora-2": [1, 1]}),
            },
        ),
    ),
    "generation.num_images_per_scene": (
        Case(
            painted,
            "2",
            ANY_IMAGE
            | {
                "calls": (4, 8),
                "timesteps": CHANGED,
                "prompt": CHANGED,
                "files": (
                    ["images/class/lora-2/0.png", "images/lora-2/street/0.png"],
                    [
                        f"images/{folder}/{number}.png"
                        for folder in ("class/lora-2", "lora-2/street")
                        for number in (0, 1)
                    ],
                ),
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman on the street"],
                    [*["a photo of a woman"] * 2, *["a photo of sks woman on the street"] * 2],
                ),
                "seeds": CHANGED,
            },
        ),
        Case(planned, "2", {"images": (5, 10)}),
        Case(
            gathered,
            "2",
            {
                "images": ({"base": [1], "lora-2": [1]}, {"base": [2], "lora-2": [2]}),
                "images of the class": ([1, 1], [2, 2]),
            },
        ),
        Case(estimated, "2", {"generate s": UP, "evaluate s": UP, "final s": UP}),
    ),
    "generation.num_inference_steps": (
        Case(
            painted,
            "3",
            {"calls": (4, 3), "timesteps": CHANGED, "end": CHANGED, "written num_inference_steps": (4, 3)},
        ),
        Case(class_painted, "3", {"calls": (4, 3), "timesteps": CHANGED, "end": CHANGED, "key": CHANGED}),
        Case(
            held,
            "3",
            {
                "calls": (4, 3),
                "timesteps": CHANGED,
                "end": CHANGED,
                "control scales": ([1.0] * 4, [1.0] * 3),
                "written num_inference_steps": (4, 3),
            },
        ),
        Case(
            estimated,
            "8",
            dict.fromkeys(("class_images s", "generate s", "control s", "evaluate s", "final s"), UP),
        ),
    ),
    "generation.sampler": (
        Case(
            painted,
            "Euler",
            ANY_IMAGE
            | {
                "timesteps": CHANGED,
                "sampler": ([DPM], ["EulerDiscreteScheduler"]),
                "written sampler": ("DPM++ 2M", "Euler"),
            },
        ),
        Case(
            painted,
            "DPM++ 2M Karras",
            {
                "timesteps": CHANGED,
                "end": CHANGED,
                "sampler": ([DPM], [f"{DPM} karras"]),
                "written sampler": ("DPM++ 2M", "DPM++ 2M Karras"),
            },
        ),
        Case(
            painted,
            "Euler",
            ANY_IMAGE
            | {
                "timesteps": CHANGED,
                "sampler": ([DPM], ["EulerDiscreteScheduler"]),
                "written sampler": ("DPM++ 2M", "Euler"),
            },
            ("generation.hires_scale=1.5",),
        ),
        Case(
            class_painted,
            "Euler a",
            ANY_IMAGE | {"timesteps": CHANGED, "sampler": ([DPM], ["EulerAncestralDiscreteScheduler"]), "key": CHANGED},
        ),
    ),
    "generation.width": (
        Case(painted, "96", ANY_IMAGE | WIDER),
        Case(class_painted, "96", {}),  # these are trained on
        Case(held, "96", ANY_IMAGE | WIDER | {"control image": CHANGED, "white": CHANGED}),
        Case(controlled, "96", REFERENCE | WIDER),
    ),
    "generation.height": (
        Case(painted, "96", ANY_IMAGE | HIGHER),
        Case(class_painted, "96", {}),
        Case(held, "96", ANY_IMAGE | HIGHER | {"control image": CHANGED, "white": CHANGED}),
        Case(controlled, "96", REFERENCE | HIGHER),
    ),
    "generation.hires_scale": (
        Case(painted, "1.5", SECOND_PASS | {"calls": (4, 6), "image sizes": (["64x64"], ["96x96"]), "end": CHANGED}),
        Case(class_painted, "1.5", {}),
        Case(
            held,
            "1.5",
            SECOND_PASS
            | {
                "calls": (4, 6),
                "image sizes": (["64x64"], ["96x96"]),
                "control scales": ([1.0] * 4, [1.0] * 6),
                "control image": CHANGED,
                "white": CHANGED,
                "end": CHANGED,
            },
        ),
        Case(
            controlled,
            "1.5",
            REFERENCE
            | SECOND_PASS
            | {
                "calls": (10, 15),
                "image sizes": (["64x64"], ["64x64", "96x96"]),
                "control scales": ([1.0] * 4, [1.0] * 6),
            },
        ),
    ),
    "generation.hires_strength": (
        Case(
            painted,
            "0.75",
            {"calls": (6, 7), "timesteps": CHANGED, "end": CHANGED, "written hires_strength": (0.5, 0.75)},
            ("generation.hires_scale=1.5",),
        ),
        Case(
            painted,
            "0.25",
            {"calls": (6, 5), "timesteps": CHANGED, "end": CHANGED, "written hires_strength": (0.5, 0.25)},
            ("generation.hires_scale=1.5",),
        ),
    ),
    "generation.lora_strength": (
        Case(painted, "0.25", {"end": CHANGED, "LoRA": ([1.0], [0.25]), "written lora_strength": (1.0, 0.25)}),
        Case(
            controlled,
            "0.25",
            {"LoRA": ([1.0], [0.25]), "written lora_strength": (1.0, 0.25), "agreement": CHANGED},
        ),
    ),
    "generation.guidance_scale": (
        Case(
            painted,
            "1",
            {"guided": (True, False), "negative": (ANY, None), "end": CHANGED, "written guidance_scale": (7.5, 1.0)},
        ),
        Case(painted, "3", {"end": CHANGED, "written guidance_scale": (7.5, 3.0)}),
        Case(class_painted, "1", {"guided": (True, False), "negative": (ANY, None), "end": CHANGED, "key": CHANGED}),
        Case(class_painted, "3", {"end": CHANGED, "key": CHANGED}),
        Case(
            estimated,
            "1",
            dict.fromkeys(("class_images s", "generate s", "control s", "evaluate s", "final s"), DOWN),
        ),
    ),
    "generation.negative_prompt": (
        Case(painted, "'a hat'", {"negative": CHANGED, "end": CHANGED, "written negative_prompt": ("", "a hat")}),
        Case(class_painted, "'a hat'", {"negative": CHANGED, "end": CHANGED, "key": CHANGED}),
        Case(held, "'a hat'", {"negative": CHANGED, "end": CHANGED, "written negative_prompt": ("", "a hat")}),
    ),
    "generation.batch_size": (
        Case(painted, "1", SINGLY),
        Case(class_painted, "1", SINGLY | {"key": CHANGED}),
        Case(estimated, "1", {"class_images s": UP, "generate s": UP, "evaluate s": UP}),
    ),
    "control.enabled": (
        Case(finished, "false", {"stages": (STAGES, [STAGES[0], *STAGES[3:]])}),
        Case(estimated, "false", {"control s": (ANY, None), "evaluate s": DOWN}),
        Case(needed, "false", {"names": (MODELS, [name for name in MODELS if name != "canny"])}),
        Case(
            encoders, "false", {"notes": (["Judged without poses", *JUDGES], JUDGES)}, ("control.kinds=['openpose']",)
        ),
    ),
    "control.kinds": (
        Case(
            controlled,
            "['softedge']",
            {
                "control image": CHANGED,
                "white": CHANGED,
                "files": (controlled_files("canny"), controlled_files("softedge")),
                "evidence": (
                    [("canny", "base", [0.0, 1.0]), ("canny", "lora-2", [0.0, 1.0])],
                    [("softedge", "base", [0.0, 1.0]), ("softedge", "lora-2", [0.0, 1.0])],
                ),
                "agreement": CHANGED,
            },
        ),
        Case(held, "['softedge']", {"end": CHANGED, "control image": CHANGED, "white": CHANGED}),
        Case(
            needed,
            "['openpose']",
            {"names": (MODELS, sorted({*MODELS, "openpose", "rtdetr", "vitpose"} - {"canny"}))},
        ),
        Case(
            encoders,
            "['openpose','depth']",
            {"tried": CHANGED, "notes": (JUDGES, ["Judged without poses", "Judged without depth", *JUDGES])},
        ),
        Case(estimated, "['canny','softedge']", {"control s": UP, "evaluate s": UP}),
    ),
    "control.reference": (
        Case(
            controlled,
            "PHOTO",
            {"calls": (10, 8), "timesteps": CHANGED, **REFERENCE},
        ),
    ),
    "control.ready_made": (
        Case(
            controlled,
            "true",
            {"control image": CHANGED, "white": CHANGED, "agreement": CHANGED},
            ("control.reference=PHOTO",),
        ),
        Case(planned, "true", {"error": (NO_POSES, None)}, ("control.kinds=['openpose']", "control.reference=PHOTO")),
    ),
    "control.controlnet": (
        Case(held, "nowhere", {"error": (None, "There is no ControlNet 'nowhere'.")}),
        Case(needed, "someone/net", {"names": (MODELS, sorted({*MODELS, "someone/net"} - {"canny"}))}),
        Case(needed, "someone/net", {"names": ([], ["someone/net"])}, ("base.name=pocket",)),
    ),
    "control.prompt": (
        Case(
            controlled,
            "'{subject} standing'",
            REFERENCE
            | {
                "prompt": CHANGED,
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman"] * 2,
                    ["a woman standing", "sks woman standing"] * 2,
                ),
            },
        ),
    ),
    "control.num_images": (
        Case(
            controlled,
            "2",
            {
                "at once": ([1], [1, 2]),
                "control image": CHANGED,
                "files": (controlled_files("canny"), controlled_files("canny", images=2)),
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman"] * 2,
                    [*["a photo of a woman"] * 2, *["a photo of sks woman"] * 2] * 2,
                ),
                "seeds": CHANGED,
                "agreement": CHANGED,
            },
        ),
        Case(estimated, "2", {"control s": UP, "evaluate s": UP}),
    ),
    "control.scales": (
        Case(
            controlled,
            "[0.5,1]",
            {
                "control scales": ([1.0] * 4, [0.5, 0.5, 1.0, 1.0] * 2),
                "files": (controlled_files("canny"), controlled_files("canny", scales=("0.5", "1"))),
                "prompts": (
                    ["a photo of a woman", "a photo of sks woman"] * 2,
                    [*["a photo of a woman"] * 2, *["a photo of sks woman"] * 2],
                ),
                "evidence": (
                    [("canny", "base", [0.0, 1.0]), ("canny", "lora-2", [0.0, 1.0])],
                    [("canny", "base", [0.5, 1.0]), ("canny", "lora-2", [0.5, 1.0])],
                ),
                "agreement": CHANGED,
            },
        ),
        Case(estimated, "[0.5,1]", {"control s": UP}),
    ),
    "control.controlnet_conditioning_scale": (
        Case(held, "0.5", {"end": CHANGED, "control scales": ([1.0] * 4, [0.5] * 4)}),
        Case(controlled, "0.5", {}),  # a study has its own strengths
    ),
    "control.control_guidance_start": (
        Case(held, "0.5", {"end": CHANGED, "control scales": ([1.0] * 4, [0.0, 0.0, 1.0, 1.0])}),
    ),
    "control.control_guidance_end": (
        Case(held, "0.5", {"end": CHANGED, "control scales": ([1.0] * 4, [1.0, 1.0, 0.0, 0.0])}),
    ),
    "control.low_threshold": (
        Case(held, "20", {"end": CHANGED, "control image": CHANGED, "white": UP}),
        Case(controlled, "20", {"control image": CHANGED, "white": UP, "agreement": CHANGED, "edges kept": DOWN}),
    ),
    "control.high_threshold": (
        Case(held, "250", {"end": CHANGED, "control image": CHANGED, "white": DOWN}),
        Case(controlled, "250", {"control image": CHANGED, "white": DOWN, "agreement": CHANGED, "edges kept": DOWN}),
    ),
    "evaluation.num_timesteps": (
        Case(stepped, "3", {"timesteps": CHANGED, "latents": CHANGED, "losses": ([(2, 1)] * 4, [(3, 1)] * 4)}),
        Case(estimated, "4", {"steps s": UP}),
    ),
    "evaluation.num_noises": (
        Case(stepped, "2", {"timesteps": CHANGED, "latents": CHANGED, "losses": ([(2, 1)] * 4, [(2, 2)] * 4)}),
        Case(estimated, "2", {"steps s": UP}),
    ),
    "evaluation.identity": (
        Case(encoders, "sface", {"tried": CHANGED, "notes": (JUDGES, JUDGES[1:2] + JUDGES[3:])}),
        Case(encoders, "dinov2", {"tried": CHANGED, "notes": (JUDGES, JUDGES[2:])}),
        Case(encoders, "faces.onnx", {"tried": CHANGED, "notes": (JUDGES, ["Judged without identity", *JUDGES[3:]])}),
        Case(needed, "sface", {"names": (MODELS, sorted({*MODELS, "sface"} - {"auraface"}))}),
    ),
    "evaluation.margin_heldout_loss": (
        Case(judged, "0.05", {"heldout_loss is alike": (False, True)}),
        Case(curved, "0.05", {"overfits from": (2, None)}),
        Case(decided, "1e-5", {"used by its loss": ("lora-2", "lora-4")}),
    ),
    "evaluation.margin_identity": (
        Case(judged, "0.001", {"identity is alike": (True, False)}),
        Case(curved, "0.001", {"best step": (2, 1)}),
        Case(decided, "0.001", {"used": ("lora-2", "lora-4"), "a cut less alike is offered": (True, False)}),
    ),
    "evaluation.margin_prompt": (
        Case(judged, "0.05", {"prompt is alike": (False, True)}),
        passes("prompt", "0.05"),
    ),
    "evaluation.margin_drift": (
        Case(judged, "0.001", {"drift is alike": (True, False)}),
        passes("drift", "0.5"),
    ),
    "evaluation.margin_colour": (
        Case(judged, "0.5", {"colour is alike": (True, False)}),
        passes("colour", "9"),
    ),
}

OPTIMIZER_PACKAGES = {"name=adamw8bit": "bitsandbytes", "name=prodigy": "prodigyopt"}


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a section and of those below it, with what its value may be."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.annotation


def has_a_choice(annotation: Any) -> bool:
    """Whether a value can be another: the kind of a method cannot."""
    return not (get_origin(annotation) is Literal and len(get_args(annotation)) == 1)


KEYS = [key for key, annotation in leaves(Config) if has_a_choice(annotation)]


def test_every_key_of_the_config_has_a_case() -> None:
    assert list(CASES) == KEYS


def test_every_key_has_a_case_that_changes_something() -> None:
    assert [key for key in KEYS if not any(case.changes for case in CASES[key])] == []


def observed(world: World, case: Case, *more: str) -> Facts:
    """Facts with the settings that a case has given, and more; observed once."""
    settings = tuple(world.filled(text) for text in (*case.given, *more))
    key = (case.observe.__name__, *settings)
    if key not in world.known:
        world.known[key] = case.observe(world, *settings)
    return world.known[key]


def differences(before: Facts, after: Facts) -> dict[str, tuple[Any, Any]]:
    """The facts that differ, of those that exist both before and after; an error hides all others."""
    if "error" in before or "error" in after:
        pairs = {"error": (before.get("error"), after.get("error"))}
    else:
        pairs = {name: (before[name], after[name]) for name in before.keys() & after.keys()}
    return {name: (first, last) for name, (first, last) in pairs.items() if not alike(first, last)}


def alike(expected: Any, actual: Any) -> bool:
    """Whether values are the same, numbers to their last digits."""
    if type(expected) is float and isinstance(actual, int | float):
        return math.isclose(expected, actual, rel_tol=1e-6, abs_tol=1e-12)
    if isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        return len(expected) == len(actual) and all(map(alike, expected, actual))
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return expected.keys() == actual.keys() and all(alike(expected[key], actual[key]) for key in expected)
    return bool(expected == actual)


def fits(expected: Any, before: Any, after: Any) -> bool:
    """Whether a fact differs as it should."""
    if isinstance(expected, Matcher):
        return expected.holds(before, after)
    return alike(expected[0], before) and alike(expected[1], after)


def named_cases() -> list[Any]:
    """A parameter for each case, with a name that says what changes what."""
    named = []
    for key, cases in CASES.items():
        for number, case in enumerate(cases):
            name = f"{key}-{case.observe.__name__}" + (f"-{number}" if number else "")
            named.append(pytest.param(key, case, id=name))
    return named


@pytest.mark.parametrize(("key", "case"), named_cases())
def test_a_setting_changes_what_it_governs_and_nothing_else(world: World, key: str, case: Case) -> None:
    setting = f"{key}={world.filled(case.value)}"
    for name, package in OPTIMIZER_PACKAGES.items():
        if any(text.endswith(name) for text in (*case.given, setting)):
            pytest.importorskip(package)

    before, after = observed(world, case), observed(world, case, setting)

    found = differences(before, after)
    assert found.keys() <= case.changes.keys(), {name: found[name] for name in found.keys() - case.changes.keys()}
    for name, expected in case.changes.items():
        assert fits(expected, before.get(name), after.get(name)), (name, before.get(name), after.get(name))
