"""What reaches the code below a setting: each observation runs a stage as a run does, and returns what went in or came
out as a flat table of names and values.

What a stage hands over (to a training step, to the UNet, to the ControlNet) is recorded on the way. Nothing is replaced
but what would have to be fetched.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from portrayal.errors import PortrayalError, WeightsError
from portrayal.run import Event, Run
from tests.settings.world import World

Facts = dict[str, Any]


def digest(value: Any) -> str:
    """A short hash of a tensor, an image or bytes."""
    if isinstance(value, torch.Tensor):
        value = value.detach().float().contiguous().numpy().tobytes()
    if isinstance(value, Image.Image):
        value = repr((value.mode, value.size)).encode() + value.tobytes()
    return hashlib.sha256(value).hexdigest()[:12]


def flat(values: Any, prefix: str = "") -> Facts:
    """Nested tables as a single table with dotted names."""
    if not isinstance(values, dict):
        return {prefix: values}
    facts: Facts = {}
    for key, value in values.items():
        facts |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return facts


def ignore(*_: Any, **__: Any) -> None:
    """For what reports progress."""


def loaded(path: Path) -> Image.Image:
    """An image, its file closed."""
    with Image.open(path) as image:
        image.load()
        return image


def json_of(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


# Plans -----------------------------------------------------------------------------------------------------------


def planned(world: World, *settings: str) -> Facts:
    """What is settled before anything is made: base, sizes, how LoRAs share batches; with 12 GiB of memory."""
    from portrayal import planning
    from portrayal.models.store import Found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "memory", lambda: 12.0)
        patch.setattr("portrayal.models.pose.look_for", lambda model: Found(model, "missing", 0))
        try:
            plan = planning.settle(world.config(*settings))
        except PortrayalError as error:
            return {"error": error.cause.splitlines()[0]}
        return {
            "kind": plan.source.kind,
            "base": Path(plan.config.base.name).name,
            "resolution": plan.config.base.resolution,
            "precision": plan.config.training.mixed_precision,
            "disk": round((plan.disk_gib - planning.PICTURES_GIB) * 2**30),
            "notes": [note.split(":")[0] for note in plan.notes],
            "memory": round(planning.memory_needed(plan.config, "cpu", 10**9) * 2**30),
            "LoRAs at once": planning.loras_at_once(plan.config),
            "packs": planning.lora_packs(plan.config),
            "trainings": plan.num_trainings,
            "images": plan.num_pictures,
        }


def estimated(world: World, *settings: str) -> Facts:
    """Seconds and memory of each part of a run with 12 photos on a fixed GPU, and how the work is done there."""
    from portrayal.estimate.machine import Machine
    from portrayal.estimate.reckoning import estimate
    from portrayal.planning import lora_packs

    config = world.config("study.loras_at_once=2", *settings)
    machine = Machine("cuda", "a GPU", 24.0, 0.02)
    whole = estimate(config, machine, unet_weights=859_520_964, packs=lora_packs(config), photos=12)
    seconds = {f"{stage.name} s": round(stage.seconds, 4) for stage in whole.stages}
    memory = {f"{stage.name} GiB": stage.peak_gib for stage in whole.stages if stage.peak_gib is not None}
    return {**seconds, **memory, **whole.modes}


def studied(world: World, *settings: str) -> Facts:
    """What each training of the study is given, and which of them share a batch."""
    from portrayal import planning
    from portrayal.processes import ALONE
    from portrayal.stages.train import shared_out, task_of
    from portrayal.training.sharing import shares_steps

    run = Run(world.place(), world.config(*settings))
    trials = run.config.trials
    tasks = {name: task_of(run, trial, dict.fromkeys(range(9))) for name, trial in trials.items()}  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "memory", lambda: 12.0)
        packs = [names for names, _ in shared_out(run, list(trials.values()), ALONE)]
    return {
        "trainings": list(tasks),
        "seeds": [task.seed for task in tasks.values()],
        "readings": {trials[name].model: task.readings for name, task in tasks.items()},
        "steps": {trials[name].model: task.num_steps for name, task in tasks.items()},
        "packs": packs,
        "rates are kept of": sorted({task.method.kind for task in tasks.values() if task.keeps_rate}),
        "two processes share a step": shares_steps(run.config.method.unet, run.config, 2),
    } | flat({trials[name].model: task.method.model_dump() for name, task in tasks.items()})


def spent(world: World, *settings: str) -> Facts:
    """Which trainings each round of the study takes, when the last LoRA is the best so far, then the one before it."""
    from portrayal.stages import rounds

    run = world.run(*settings)
    loras = [name for name in reversed(run.config.methods) if name != "unet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "chances_of", lambda *_: {name: 1 / (place + 2) for place, name in enumerate(loras)})
        while not run.rounds_ended:
            run.record_round(rounds.choose_round(run, ignore))
    return {"rounds": run.rounds}


def needed(world: World, *settings: str) -> Facts:
    """Which models of others a run on Stable Diffusion 1.5 asks for."""
    from portrayal.stages.models import needed_names

    return {"names": sorted(needed_names(world.config("base.name=sd15", *settings)))}


# The base ----------------------------------------------------------------------------------------------------------


def based(world: World, *settings: str) -> Facts:
    """The base as it is loaded, and what would be fetched for it: hub ids with their revisions."""
    from portrayal.models import source
    from portrayal.models.base import load_base

    fetched: list[tuple[str, str | None]] = []

    def fetch(hub_id: str, revision: str | None, patterns: Any) -> Path:
        fetched.append((hub_id, revision))
        return world.base

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "fetch", fetch)
        found = source.find_base(world.config(*settings).base)
        facts = {"name": found.name, "kind": found.kind, "fetched": fetched, "configs": found.folder.name}
        if found.path.is_file():  # a file that has a header alone
            return facts
        base = load_base(found, device=torch.device("cpu"), dtype=torch.float32)
    facts |= {part: digest(next(getattr(base, part).parameters())) for part in ("unet", "vae", "text_encoder")}
    return facts | {
        "predicts": base.noise_scheduler.config.prediction_type,
        "family": found.family.prediction_type,
        "hash": found.weight_hash(),
    }


# Photos ------------------------------------------------------------------------------------------------------------


def finding_once(world: World) -> Callable[..., Any]:
    """Finds faces once in each image: that takes most of the time."""
    from portrayal.photos.faces import find_faces

    def find_once(image: Image.Image, yunet: Path | None = None) -> Any:
        key = digest(image)
        world.faces[key] = world.faces[key] if key in world.faces else find_faces(image, yunet)
        return world.faces[key]

    return find_once


def checked(world: World, *settings: str) -> Facts:
    """What `prepare --check` advises, and what it would train on."""
    from portrayal.photos import examine
    from portrayal.stages.check import check_photos

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine, "find_faces", finding_once(world))
        check = check_photos(world.photos, world.config(*settings))
    return {
        "verdicts": {photo.file: photo.verdict for photo in check.photos},
        "left out": [finding.file for finding in check.left_out],
        **{f"crop of {name}": list(frame.cut) for name, frame in check.frames.items()},
    }


def prepared(world: World, *settings: str) -> Facts:
    """What `prepare` makes of the photos, by file name, and what the run records."""
    from portrayal.models import captioner, masker
    from portrayal.photos import examine
    from portrayal.stages.prepare import prepare

    asked: Facts = {"captioner": None, "masker": None}

    def describe(images: Any, prompt: str) -> list[str]:
        asked["captioner"] = prompt
        return ["by the sea"] * len(images)

    def mask(images: Any, words: str) -> list[Image.Image]:
        asked["masker"] = words
        left = Image.new("L", images[0].size)
        left.paste(255, (0, 0, left.width // 2, left.height))
        return [left] * len(images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examine, "find_faces", finding_once(world))
        patch.setattr(captioner, "load_captioner", lambda *_: captioner.Captioner("words", "none", describe))
        patch.setattr(masker, "load_masker", lambda *_: masker.Masker("masks", "none", mask))
        try:
            run = prepare(world.photos, world.config(*settings), world.place() / "run")
        except PortrayalError as error:
            return {"error": error.cause.splitlines()[0].replace(str(world.photos), "PHOTOS")}
    manifest = json_of(run.dataset_folder / "manifest.json")
    photos = {
        photo["source_name"] + ("" if photo["use"] == "both" else f" {photo['use']} {photo['framing']}"): photo
        for photo in manifest["photos"]
    }
    captions: dict[str, set[str]] = {}
    for photo in photos.values():
        captions.setdefault(photo["caption_from"], set()).add(photo["caption"])
    findings: dict[str, list[str]] = {}
    for finding in manifest["findings"]:
        findings.setdefault(finding["file"], []).append(finding["kind"])
    facts: Facts = {f"crop of {name}": photo["crop"] for name, photo in photos.items()}
    if "clear.png" in photos:
        image = loaded(run.dataset_folder / "images" / f"{photos['clear.png']['id']}.png")
        facts["transparent"] = image.getpixel((2, 2))
    config = tomllib.loads((run.folder / "config.toml").read_text())
    return facts | {
        "photos": list(photos),
        "folds": [photo["fold"] for photo in photos.values()],
        "shapes": sorted({tuple(photo["shape"]) for photo in photos.values()}),
        "captions": {source: sorted(texts) for source, texts in captions.items()},
        "findings": findings,
        "masked": [name for name, photo in photos.items() if photo["masked"]],
        "captioner is asked": asked["captioner"],
        "masker is asked": asked["masker"],
        **{f"manifest's {key}": manifest[key] for key in ("resolution", "instance_prompt", "class_noun", "seed")},
        "recorded recipe": config["recipe"],
        "recorded seed": json_of(run.folder / "run.json")["seed"],
    }


# Training ----------------------------------------------------------------------------------------------------------


class Recorder:
    """Takes the steps of a training as it would go without it, and keeps what they read.

    Args:
        work: The folder of the models.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self.facts: Facts = {}
        self.rates: list[list[float]] = []
        self.checkpoints: list[list[str]] = []
        self.latents: list[torch.Tensor] = []

    def __call__(self, state: Any, inputs: Any) -> Any:
        """A step."""
        from portrayal.training.step import descend, forget_gradients, gradients

        self.rates.append([group["lr"] for group in state.optimizer.param_groups])
        self.checkpoints.append(sorted(str(int(path.name)) for path in self.work.glob(".*/checkpoint/*")))
        self.latents += [one.latents for one in inputs]
        first = not self.facts
        if first:
            self.facts = self.of_state(state) | self.of_inputs(state, inputs)
        outputs = gradients(state, inputs)
        if first:
            weights = [weight.grad for weight in state.trainable() if weight.grad is not None]
            self.facts["losses"] = float(outputs.losses.sum())
            self.facts["gradient"] = float(torch.linalg.vector_norm(torch.stack([w.norm() for w in weights])))
            self.facts["dtype of weights that compute"] = str(next(state.base.unet.parameters()).dtype)
        descend(state, outputs)
        forget_gradients(state)
        return outputs

    def of_state(self, state: Any) -> Facts:
        """What a training holds before its first step."""
        from portrayal.training.graph import why_plain

        group, unet, text = state.optimizer.param_groups[0], state.base.unet, state.base.text_encoder
        source, names = state.learners[0].batches, state.attached.named_parameters()
        on_gpu: Any = SimpleNamespace(
            base=SimpleNamespace(device=torch.device("cuda")), config=state.config, learners=[], scaler=None
        )
        empty = state.base.encode_prompts([""])[0].float()
        dropped = [bool((source.at(place).prompt_embeds[0] == empty).all()) for place in range(40)]
        return {
            "optimizer": type(state.optimizer).__name__,
            **{key: group.get(key) for key in ("betas", "eps", "weight_decay")},
            "weights": len(names),
            "text encoder's weights": sum(".text_model." in name or "text_encoder." in name for name in names),
            "ranks": [learner.method.rank for learner in state.learners if learner.method.kind == "lora"],
            "scales": [member.scale for member in getattr(state.attached, "members", ())],
            "dropout": sorted({module.p for name, module in unet.named_modules() if "lora_dropout." in name}),
            "checkpointing": [
                any(getattr(module, "gradient_checkpointing", False) for module in part.modules())
                for part in (unet, text)
            ],
            "dtype of weights": str(next(iter(names.values())).dtype),
            "dtype of inputs": str(state.computes_in),
            "plain on a GPU": why_plain(on_gpu),
            "seed": state.learners[0].seed,
            "photos": sum(map(len, source.photos)),
            "shapes": [tuple(photos.mean.shape[-2:]) for photos in source.photos],
            "views": source.photos[0].num_views,
            "views seen": [source.view(source.photos[0], 0, epoch, 0) for epoch in range(12)],
            "encoded": digest(source.photos[0].mean),
            "class images": None if source.class_images is None else len(source.class_images[0]),
            "share of captions dropped": sum(dropped) / len(dropped),
        }

    def of_inputs(self, state: Any, inputs: Any) -> Facts:
        """What the first step reads."""
        one, decode = inputs[0], state.base.tokenizer.decode
        words = one.prompts if one.prompts.dtype == torch.int64 else None
        middle = one.noise.mean(dim=(2, 3), keepdim=True)
        return {
            "passes": len(inputs),
            "shares": [round(share, 4) for share in one.weights.tolist()],
            "latents": digest(one.latents),
            "noise": digest(one.noise),
            "noise's mean": float(middle.abs().mean()),
            "timesteps": one.timesteps.tolist(),
            "prompts": digest(one.prompts),
            "words": None if words is None else [decode(row, skip_special_tokens=True) for row in words],
            "least place": None if one.place_weights is None else round(float(one.place_weights.min()), 4),
            "most place": None if one.place_weights is None else round(float(one.place_weights.max()), 4),
        }


def trained(world: World, *settings: str, names: tuple[str, ...] = ("lora-2",)) -> Facts:
    """What trainings read in their first step, their rates and checkpoints, and the files they leave."""
    import accelerate

    from portrayal.stages.train import train_together
    from portrayal.training import trainer
    from portrayal.training.task import rows_of

    run = world.run(*settings)
    of_class = () if run.config.training.prior_loss_weight else None
    tasks: Any = [SimpleNamespace(data=SimpleNamespace(class_images=of_class))]
    recorder, trackers = Recorder(run.folder / "models"), list[Any]()
    plain = accelerate.Accelerator

    def accelerator(*, log_with: Any, **options: Any) -> Any:
        trackers.append(log_with)
        return plain(**options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(world.folder / "cache"))
        patch.setattr(accelerate, "Accelerator", accelerator)
        patch.setattr(trainer, "update", recorder)
        train_together(run, names, ignore)
    folder = run.model_folder(names[0])
    described = json_of(folder / "method.json")
    return recorder.facts | {
        "steps": len(recorder.rates),
        "latents of all steps": digest(torch.cat(recorder.latents)),
        "rates": recorder.rates,
        "checkpoints": recorder.checkpoints,
        "trackers": trackers[0],
        "readings": sorted(int(path.name) for path in folder.glob("steps/*")),
        "files": sorted({dtype_of(path) for path in folder.rglob("*.safetensors")}),
        "pack": described["pack"],
        "rows of a model": rows_of(tasks, run.config),
        "recorded alpha": described["alpha"],
    }


def trained_together(world: World, *settings: str) -> Facts:
    """The same of two LoRAs in a batch."""
    return trained(world, *settings, names=("lora-2", "lora-4"))


def trained_unet(world: World, *settings: str) -> Facts:
    """The same of a full UNet."""
    return trained(world, "study.full_unet=true", *settings, names=("unet",))


def dtype_of(path: Path) -> str:
    """Number formats of the tensors in a file."""
    with safe_open(path, framework="pt") as file:
        return " ".join(sorted({file.get_slice(name).get_dtype() for name in file.keys()}))  # noqa: SIM118


def shared(world: World, *settings: str) -> Facts:
    """What the first of two processes that train a full UNet together keeps in its optimizer."""
    from portrayal.processes import Processes
    from portrayal.stages.shared import settled_by, shared_base
    from portrayal.training.session import attach_tasks, release_accelerator, start
    from portrayal.training.task import Task, TrainingData

    run = world.run("study.full_unet=true", *settings)
    base = shared_base(settled_by(run.config))
    task = Task("unet", run.config.methods["unet"], TrainingData((), None), run.folder / "models" / "unet")
    attached = attach_tasks(base, [task], run.config.seed)
    try:
        state = start(base, attached, [task], run.config, run.folder, Processes(0, 2))
        kept = sum(len(group["params"]) for group in state.optimizer.param_groups)
        return {"kept": kept, "weights": len(attached.named_parameters())}
    finally:
        attached.detach()
        release_accelerator(base.device)


# Generating --------------------------------------------------------------------------------------------------------


class Calls:
    """What reaches the UNet while images are made, call by call, and by which schedulers."""

    def __init__(self) -> None:
        self.samples: list[torch.Tensor] = []
        self.timesteps: list[float] = []
        self.prompts: list[torch.Tensor] = []
        self.lora: set[float] = set()
        self.samplers: list[str] = []

    def note(self, unet: Any, arguments: Any, keywords: Facts) -> None:
        """A call."""
        self.samples.append(arguments[0].clone())
        self.timesteps.append(round(float(arguments[1]), 2))
        self.prompts.append(keywords["encoder_hidden_states"].clone())
        packed = (module for module in unet.modules() if hasattr(module, "base_layer"))
        self.lora |= {round(float(layer.scale.flatten()[0]), 4) for layer in packed}

    def pipeline_of(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """A maker of pipelines whose schedulers are noted."""

        def made(*arguments: Any, **options: Any) -> Any:
            pipeline = make(*arguments, **options)
            scheduler = pipeline.scheduler
            extra = [str(scheduler.config.get("algorithm_type", "")), scheduler.config.get("use_karras_sigmas")]
            self.samplers.append(" ".join([type(scheduler).__name__, extra[0], "karras" * bool(extra[1])]).strip())
            return pipeline

        return made

    def facts(self) -> Facts:
        """The record; with guidance the second half of a batch has the prompt, the first the negative."""
        if not self.samples:
            return {"calls": 0}
        rows, first = len(self.samples[0]), self.samples[0]
        guided = rows > 1 and bool((first[: rows // 2] == first[rows // 2 :]).all())
        half = rows // 2 if guided else 0
        return {
            "calls": len(self.samples),
            "guided": guided,
            "at once": sorted({len(sample) // (2 if guided else 1) for sample in self.samples}),
            "sizes": list(dict.fromkeys(f"{sample.shape[3]}x{sample.shape[2]}" for sample in self.samples)),
            "timesteps": self.timesteps,
            "prompt": digest(self.prompts[0][half:]),
            "negative": digest(self.prompts[0][:half]) if guided else None,
            "noise": digest(first[half:]),
            "end": digest(self.samples[-1][-1:]),
            "sampler": list(dict.fromkeys(self.samplers)),
            "LoRA": sorted(self.lora),
        }


@contextmanager
def generating(base: Any) -> Iterator[Calls]:
    """Record what reaches a base's UNet."""
    from portrayal.generation import generator

    calls = Calls()
    hook = base.unet.register_forward_pre_hook(calls.note, with_kwargs=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generator, "pipeline_of", calls.pipeline_of(generator.pipeline_of))
            yield calls
    finally:
        hook.remove()


def files_of(run: Run, *folders: str) -> Facts:
    """The images below folders of a run: their paths, sizes, prompts and seeds, and the settings in the first."""
    from portrayal.formats.png import read_settings

    paths = sorted(path for folder in folders for path in (run.folder / folder).rglob("*.png"))
    inside = [read_settings(path) for path in paths]
    images = [loaded(path) for path in paths]
    made = [settings for settings in inside if settings]
    kept = ("num_inference_steps", "sampler", "guidance_scale", "negative_prompt", "hires_scale", "hires_strength")
    return {
        "files": [str(path.relative_to(run.folder)) for path in paths],
        "image sizes": sorted({f"{image.width}x{image.height}" for image in images}),
        "prompts": [settings["prompt"] for settings in made],
        "seeds": [settings["seed"] for settings in made],
        **{f"written {key}": made[0][key] for key in (*kept, "lora_strength", "width", "height") if made},
    }


def painted(world: World, *settings: str) -> Facts:
    """Scenes and class images of a trained LoRA."""
    from portrayal.stages.generate import generate
    from portrayal.stages.shared import base_of

    run = world.run(*settings, trained=True)
    with generating(base_of(run)) as calls:
        generate(run, ["lora-2"])
    return calls.facts() | files_of(run, "images")


def class_painted(world: World, *settings: str) -> Facts:
    """Class images for prior preservation as they are encoded, where they are cached, and who stands for strangers."""
    from portrayal.stages.data import class_images
    from portrayal.stages.evaluate import strangers
    from portrayal.stages.shared import base_of

    run, cache = world.run(*settings), world.place()
    with generating(base_of(run)) as calls, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(cache))
        encoded = class_images(run, ignore)
        others = strangers(run, [["image of the base"] * 3], ignore)
    keys = [path.name for path in (cache / "class-images").glob("*")]
    decode = base_of(run).tokenizer.decode
    return calls.facts() | {
        "encoded": encoded and [len(part) for part in encoded],
        "caption": encoded and decode(encoded[0].input_ids[0], skip_special_tokens=True),
        "latents": encoded and [tuple(part.mean.shape[-2:]) for part in encoded],
        "key": keys,
        "cached": len(list(cache.rglob("*.png"))),
        "strangers": len(others),
        "strangers by the base": others[0] == "image of the base",
    }


def stepped(world: World, *settings: str) -> Facts:
    """A reading of a training: held-out losses at fixed noise, and perhaps an image of each scene."""
    from portrayal.models.encoders import Encoders
    from portrayal.stages import steps as stage
    from portrayal.stages.shared import base_of

    run = world.run(*settings, trained=True)
    steps = run.model_folder("lora-2") / "steps" / "1"
    run.model_folder("lora-2").rename(run.folder / "weights")
    steps.parent.mkdir(parents=True)
    (run.folder / "weights").rename(steps)
    unet, rows = base_of(run).unet, list[tuple[Any, Any]]()

    def note(_: Any, arguments: Any, keywords: Facts) -> None:
        if "encoder_hidden_states" not in keywords:  # not of an image
            rows.append((arguments[0].clone(), arguments[1].clone()))

    hook = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "encoders_of", lambda _: Encoders(by_color(), None))
            reading = stage.read_step(run, run.config.trials["lora-2"], 1)
    finally:
        hook.remove()
    return {
        "timesteps": sorted(int(step) for _, steps in rows for step in steps),
        "latents": digest(torch.cat([sample for sample, _ in rows])),
        "losses": [np.asarray(losses).shape for losses in reading["losses"].values()],
        "likeness": reading["identity"] and len(reading["identity"]),
    } | files_of(run, "images/steps")


def by_color() -> Any:
    """A scorer whose embedding of an image is its mean color."""
    from portrayal.models.encoders import Scorer

    def embed(images: Any) -> Any:
        return np.array([np.asarray(image.convert("RGB"), np.float32).mean((0, 1)) + 1 for image in images])

    return Scorer("mean color", "none", embed)


# Control -----------------------------------------------------------------------------------------------------------


@contextmanager
def controlling(run: Run) -> Iterator[list[Facts]]:
    """Record what reaches ControlNets: the strength of each call, and a hash of its control image."""
    from portrayal.stages import control

    calls: list[Facts] = []
    load = control.controlnet_for

    def note(_: Any, arguments: Any, keywords: Facts) -> None:
        image = keywords["controlnet_cond"]
        calls.append({"scale": keywords["conditioning_scale"], "image": digest(image), "white": float(image.mean())})

    def loaded(run: Run, kind: str) -> Any:
        controlnet = load(run, kind)
        controlnet.register_forward_pre_hook(note, with_kwargs=True)
        return controlnet

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "controlnet_for", loaded)
        yield calls


def control_facts(calls: list[Facts]) -> Facts:
    """The record of ControlNets."""
    return {
        "control scales": [call["scale"] for call in calls],
        "control image": list(dict.fromkeys(call["image"] for call in calls)),
        "white": [round(white, 5) for white in dict.fromkeys(call["white"] for call in calls)],
    }


def held(world: World, *settings: str) -> Facts:
    """Any prompt painted by the base, held to a photo."""
    from portrayal.stages.paint import paint
    from portrayal.stages.shared import base_of

    run = world.run(f"control.controlnet={world.controlnet}", *settings)
    with generating(base_of(run)) as calls, controlling(run) as controls:
        try:
            paint(run, ["{subject} dancing"], ["base"], count=1, controls=[world.photos / "plain.jpg"])
        except PortrayalError as error:
            return {"error": error.cause}
    return calls.facts() | control_facts(controls) | files_of(run, "pictures/base")


def controlled(world: World, *settings: str) -> Facts:
    """The study's images held to a reference, by the base and the LoRA, and how well they keep to it."""
    from portrayal.evaluation.control import CONTROL_KINDS, edges_kept
    from portrayal.generation.annotators import canny, fit
    from portrayal.models.encoders import Encoders
    from portrayal.stages.control import generate_controlled
    from portrayal.stages.evaluate import control_evidence
    from portrayal.stages.shared import base_of, judging_of

    nets = ", ".join(f"{kind} = '{world.controlnet}'" for kind in CONTROL_KINDS)
    few = ("generation.num_inference_steps=2", "control.controlnet={" + nets + "}")
    run = world.run(*few, *settings, trained=True)
    world.write_scores(run, best_lora="lora-2")
    events: list[Event] = []
    with generating(base_of(run)) as calls, controlling(run) as controls:
        generate_controlled(run, progress=events.append)
    evidence, encoders = control_evidence(run), Encoders(None, None)
    agreement = [
        CONTROL_KINDS[made.kind].agreement(row, made.image, run.config.control, getattr(encoders, "pose", None))
        for made in evidence
        for row in made.pictures.values()
    ]
    photo = fit(loaded(world.photos / "plain.jpg"), (64, 64))
    references = [run.folder / "images" / "control" / "reference.png"]
    facts = calls.facts() | control_facts(controls) | files_of(run, "images/control")
    return {key: facts[key] for key in facts if key not in ("end", "noise")} | {
        "reference": [digest(loaded(path)) for path in references if path.is_file()],
        "edges kept": round(float(edges_kept([photo], canny(photo), run.config.control, None)[0]), 4),
        "evidence": [(made.kind, made.name, [*made.pictures]) for made in evidence],
        "agreement": [round(float(score), 4) for scores in agreement if scores is not None for score in scores],
        "readers": judging_of(run.config).readers,
        "notes": [event.message for event in events if event.kind == "note"],
    }


# Judging -----------------------------------------------------------------------------------------------------------


def judged(world: World, *settings: str) -> Facts:
    """Which differences of two LoRAs, each well above chance and small, count as none."""
    from portrayal.config import Trial
    from portrayal.evaluation.evaluate import score
    from portrayal.evaluation.evidence import Evidence, PaintedModel, PaintedTraining
    from portrayal.models.encoders import Encoders, Scorer

    config = world.config("study.folds=1", "study.unet_folds=1", *settings)

    def gray(*levels: float) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), (round(level),) * 3) for level in levels]

    def turned(images: Any) -> Any:
        """Levels of gray as angles up to 90 degrees."""
        angles = [np.pi / 2 * np.asarray(image, np.float64).mean() / 255 for image in images]
        return np.array([[np.cos(angle), np.sin(angle)] for angle in angles])

    def painted(name: str, rank: int | None, level: float, loss: float) -> PaintedModel:
        levels = [level + offset for offset in range(4)]
        losses = {f"photo{number}": [[loss * (1 + number / 1e5)]] for number in range(4)}
        training = PaintedTraining(Trial(name, name, 0, 0), losses, lambda: [gray(*levels)], lambda: gray(*levels))
        return PaintedModel(name, "lora" if rank else "base", rank, [training], None)  # type: ignore[arg-type]

    scorer = Scorer("gray", "none", turned, lambda texts: np.array([[1.0, 0.0]] * len(texts)))
    models = [painted("base", None, 120, 1.0), painted("lora-2", 2, 100, 0.9), painted("lora-4", 4, 103, 0.89)]
    photos = dict(zip((f"photo{number}" for number in range(4)), gray(150, 151, 152, 153), strict=True))
    training = dict(zip(("other0", "other1"), gray(149, 154), strict=True))
    evidence = Evidence(config, models, ["a photo of a woman"], [photos], [training], gray(20, 30))
    scores = score(evidence, Encoders(scorer, scorer), base_name="small")
    pairs = [row for row in scores["verdict"]["comparisons"] if {row["a"], row["b"]} == {"lora-2", "lora-4"}]
    facts = {f"{row['axis']} is alike": row["equivalent"] for row in pairs}
    assert all(row["distinguishable"] for row in pairs), pairs
    return facts | {key: scores[key] for key in ("class_noun", "instance_prompt")}


def decided(world: World, *settings: str) -> Facts:
    """Which of two LoRAs is used, and which does not pass a gate; whether a cut is offered. Much was measured, and what
    differs does not vary: only margins say whether it matters."""
    from portrayal.evaluation.comparisons import GATES, ModelEvidence, Training, compare_all
    from portrayal.evaluation.cuts import judge_cuts
    from portrayal.evaluation.evaluate import margins_of
    from portrayal.evaluation.selection import choose

    margins = margins_of(world.config(*settings))

    def lora(rank: int, *, loss: float = -0.03, likeness: float | None = 0.7, **gates: float) -> ModelEvidence:
        def grid(mean: float) -> Any:
            return np.full((1, 4), mean) + np.arange(4) / 1e6 * rank

        trainings = tuple(
            Training(
                fold,
                0,
                heldout_log_ratios=grid(loss).T,
                identity=None if likeness is None else grid(likeness),
                **{gate: grid(1.0 + gates.get(gate, 0.0)) for gate in GATES},
            )
            for fold in range(12)
        )
        return ModelEvidence(f"lora-{rank}", "lora", rank, trainings)

    def chosen(*models: ModelEvidence) -> Any:
        return choose(models, compare_all(models, margins), margins)

    def is_offered(**changes: float) -> bool:
        (cut,) = judge_cuts(lora(4), [lora(2, **changes)], {2: 1.0}, margins)
        return cut.no_worse

    worse = {"prompt": -0.008, "drift": 0.08, "colour": 3.0}
    lost = {gate: chosen(lora(2), lora(4, **{gate: by})).gates_failed for gate, by in worse.items()}
    return {
        "used": chosen(lora(2), lora(4, likeness=0.701)).best_lora.name,
        "used by its loss": chosen(lora(2, likeness=None), lora(4, likeness=None, loss=-0.03005)).best_lora.name,
        "a cut less alike is offered": is_offered(likeness=0.696),
        **{f"{gate}: set aside": [*found] for gate, found in lost.items()},
        **{f"{gate}: a worse cut is offered": is_offered(**{gate: by}) for gate, by in worse.items()},
    }


def gathered(world: World, *settings: str) -> Facts:
    """What a run is judged by, once the base and a LoRA have painted."""
    from portrayal.evaluation.curves import draw_curve
    from portrayal.stages.evaluate import gather
    from portrayal.stages.generate import generate
    from portrayal.stages.steps import curve_path, losses_now

    run = world.run(*settings, trained=True)
    curve = draw_curve([3], np.zeros((4, 1)), None, loss_margin=0.1, identity_margin=0.1)
    curve_path(run, "lora-2").write_text(json.dumps(curve.as_json()))
    losses = {"losses": losses_now(run, 0), "identity": None}
    (run.model_folder("lora-2") / "heldout.json").write_text(json.dumps(losses))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(world.place()))
        generate(run)
        evidence = gather(run, ignore, ignore)
    trainings = {model.name: model.trainings[0] for model in evidence.models}
    return {
        "prompts": list(evidence.scene_prompts),
        "models": {name: training.trial.model for name, training in trainings.items()},
        "images": {name: [len(scene) for scene in training.pictures()] for name, training in trainings.items()},
        "images of the class": [len(training.of_class()) for training in trainings.values()],
        "folds": [len(part) for part in evidence.heldout],
        "losses": sorted(
            {np.asarray(grid).shape for training in trainings.values() for grid in training.losses.values()}
        ),
        "strangers": len(evidence.strangers),
    }


def curved(world: World, *settings: str) -> Facts:
    """The best step of a training whose likeness and held-out loss move a little, and from where it overfits."""
    from portrayal.stages.steps import curve_of

    run = world.run(*settings)
    photos = [f"photo{number}" for number in range(6)]
    (run.model_folder("base")).mkdir(parents=True)
    (run.model_folder("base") / "heldout.json").write_text(json.dumps({"losses": {photo: [[1.0]] for photo in photos}}))
    for step, loss, likeness in ((1, 0.5, 0.515), (2, 0.505, 0.5)):
        folder = run.model_folder("lora-2") / "steps" / str(step)
        folder.mkdir(parents=True)
        losses = {photo: [[loss * (1 + number / 1e4)]] for number, photo in enumerate(photos)}
        (folder / "heldout.json").write_text(json.dumps({"losses": losses, "identity": [likeness] * 4}))
    curve = curve_of(run, [run.config.trials["lora-2"]], ignore)
    return {"best step": curve.best_step, "overfits from": curve.overfitting_from}


def encoders(world: World, *settings: str) -> Facts:
    """Which judges of photographs are tried, where none can be fetched."""
    from portrayal.models import depth, encoders, identity, pose
    from portrayal.stages.shared import encoders_of, shared_encoders

    tried: list[str] = []

    def fetch_known(name: str) -> Path:
        tried.append(name)
        raise WeightsError(f"no {name}", "")

    run = world.run(*settings)
    with pytest.MonkeyPatch.context() as patch:
        for module in (depth, encoders, identity, pose):
            patch.setattr(module, "fetch_known", fetch_known)
        shared_encoders.cache_clear()
        notes = encoders_of(run).notes
        shared_encoders.cache_clear()
    return {"tried": tried, "notes": [note.split(":")[0] for note in notes]}


# The end of a run --------------------------------------------------------------------------------------------------


def finished(world: World, *settings: str) -> Facts:
    """What `evaluate` goes on to do once models are judged."""
    from portrayal import workflow

    run, done = world.run(*settings), list[str]()
    scores = {"models": [{"name": "lora-2", "step": 2}], "verdict": {"recommended": "lora-2"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "measured", lambda *_: done.append("measure") or scores)
        patch.setattr(workflow, "write_card", ignore)
        patch.setattr(workflow, "check_final", ignore)  # nothing is trained here
        for name in ("generate_controlled", "train_final", "paint_model"):
            patch.setattr(workflow, name, lambda *_, name=name, **__: done.append(name))
        workflow.evaluate(run)
    return {"stages": done}


def left(world: World, *settings: str) -> Facts:
    """Which weights stay once the best step of a training is chosen."""
    from portrayal.stages.steps import settle

    run = world.run(*settings)
    folder = run.model_folder("lora-2")
    for step in (1, 2):
        (folder / "steps" / str(step)).mkdir(parents=True)
        (folder / "steps" / str(step) / "weights").write_text(str(step))
        reading = json.dumps({"losses": {"photo": [[1.0]]}, "identity": None})
        (folder / "steps" / str(step) / "heldout.json").write_text(reading)
    (folder / "method.json").write_text("{}")
    settle(run, run.config.trials["lora-2"], 2)
    return {"files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())}


def exported(world: World, *settings: str) -> Facts:
    """Files for other tools of a trained LoRA, and the folder of its photos."""
    from portrayal.stages.export import export_photos
    from portrayal.stages.export_models import export_models

    run = world.run(*settings, trained=True)
    kohya, diffusers = export_models(run, ["kohya", "diffusers"], ["lora-2"], out=run.folder / "out")
    photos = export_photos(run, run.folder / "photos")
    with safe_open(kohya, framework="pt") as file:
        metadata, names = file.metadata(), sorted(file.keys())
        alpha = {float(file.get_tensor(name)) for name in names if name.endswith(".alpha")}
    kept = {key: metadata[key] for key in metadata if "hash" not in key and "date" not in key}
    return flat(kept) | {
        "names": [kohya.name, diffusers.name],
        "dtypes": [dtype_of(kohya), dtype_of(diffusers / "pytorch_lora_weights.safetensors")],
        "alpha": sorted(alpha),
        "photos": photos.name,
        "card": digest((diffusers / "README.md").read_bytes()),
    }
