"""What goes beside a trained model's weights: a model card, and for a LoRA the file that other tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from portrayal.config import LoraMethod
from portrayal.run import Run, write_bytes, write_text

if TYPE_CHECKING:
    from portrayal.formats.lora import LoraLayer


def publish_model(run: Run, name: str, model: str, num_photos: int) -> None:
    """Write `README.md`, and for a LoRA `NAME.kohya.safetensors`, into the folder of a trained model of the study."""
    if isinstance(run.config.methods[model], LoraMethod):
        write_kohya(run, name, model, num_photos)
    write_card(run, name, model)


def published(run: Run, name: str, model: str) -> bool:
    """Whether what goes beside a trained model's weights is there."""
    lora = [f"{name}.kohya.safetensors"] if isinstance(run.config.methods[model], LoraMethod) else []
    return all((run.model_folder(name) / file).is_file() for file in ("README.md", *lora))


def write_card(run: Run, name: str, model: str) -> None:
    """Write the model card: what it is, how to load it, the terms of the base it came from."""
    path, card = run.model_folder(name) / "README.md", card_of(run, model)
    if not path.is_file() or path.read_text(encoding="utf-8") != card:
        write_text(path, card)


def card_of(run: Run, model: str, samples: Sequence[tuple[str, str]] = ()) -> str:
    """The model card of a trained model, with its scores if it has been judged."""
    from portrayal.formats.model_card import ModelCardInfo, model_card

    method, provenance = run.config.methods[model], run.provenance
    lora = isinstance(method, LoraMethod)
    info = ModelCardInfo(
        title=f"{run.config.subject.subject}: {model}",
        base_id=provenance["base"]["name"],
        base_licence=provenance["base"]["licence"],
        kind=method.kind,
        rank=method.rank if isinstance(method, LoraMethod) else None,
        instance_prompt=run.config.subject.filled_instance_prompt,
        settings={key: str(value) for key, value in method.model_dump().items() if value is not None},
        consent=True if provenance["consent"] == "stated by the user" else None,
        weights_file="pytorch_lora_weights.safetensors" if lora else "unet",
        text_encoder_folder="text_encoder" if method.train_text_encoder and not lora else None,
        samples=tuple(samples),
        **measured(run, model),
    )
    return model_card(info)


def measured(run: Run, model: str) -> dict[str, Any]:
    """What a card says of a model's scores, if they are there."""
    path = run.folder / "scores.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"models": []}
    row = next((row for row in scores["models"] if row["name"] == model), None)
    if row is None:
        return {}
    told = {
        "Likeness to held-out photos (cosine)": interval_text(row["identity"]),
        "Real photos of the person among each other": interval_text(scores["levels"]["identity_real"]),
        "Strangers": interval_text(scores["levels"]["identity_stranger"]),
        "Prompt obeyed (cosine)": interval_text(row["prompt"]),
        "Held-out loss against the base's": f"{-100 * row['heldout_gain']['mean']:+.1f} %",
        "Lightness against the photos and the base": f"{row['colour']['lightness_difference']:+.1f} L*",
    }
    judges = [scores["encoders"][axis] for axis in ("identity", "prompt") if scores["encoders"][axis]]
    told["Judged by"] = ", ".join(f"{judge['name']} ({judge['licence']})" for judge in judges)
    known = {name: value for name, value in told.items() if value}
    return {"scores": known, "verdict": scores["verdict"]["sentence"]}


def interval_text(interval: dict[str, float | None] | None) -> str:
    """`0.90 (0.84 to 0.95)`, `0.90` where too little was seen for an interval, or nothing."""
    if interval is None or interval["mean"] is None:
        return ""
    known = interval["low"] is not None and interval["high"] is not None
    return f"{interval['mean']:.2f}" + (f" ({interval['low']:.2f} to {interval['high']:.2f})" if known else "")


def write_kohya(run: Run, name: str, model: str, num_photos: int) -> None:
    """Write a LoRA under the names that AUTOMATIC1111, Forge, ComfyUI and sd-scripts read."""
    content = kohya_bytes(run, name, saved_layers(run, name, model), num_photos)
    write_bytes(run.model_folder(name) / f"{name}.kohya.safetensors", content)


def study_model(run: Run, name: str) -> str:
    """The study's model that a trained one is, or for `final` that it was trained like."""
    if name in run.config.methods:
        return name
    told = json.loads((run.model_folder(name) / "method.json").read_text(encoding="utf-8"))
    trained = (told["kind"], told["rank"], told["settings"]["learning_rate"])
    known = {
        (method.kind, method.rank if isinstance(method, LoraMethod) else None, method.learning_rate): model
        for model, method in run.config.methods.items()
    }
    return known[trained]


def saved_layers(run: Run, name: str, model: str) -> dict[str, LoraLayer]:
    """The updates of a trained LoRA, as they were saved."""
    from safetensors.torch import load_file

    from portrayal.formats.lora import read_own

    method = run.config.methods[model]
    assert isinstance(method, LoraMethod)
    alpha = float(method.rank if method.alpha is None else method.alpha)
    return read_own(load_file(run.model_folder(name) / "pytorch_lora_weights.safetensors"), alpha)


def kohya_bytes(
    run: Run, name: str, layers: Mapping[str, LoraLayer], num_photos: int, title: str | None = None
) -> bytes:
    """A trained model's updates as a kohya file."""
    from portrayal.formats.kohya import kohya_metadata, save_kohya_bytes, to_kohya
    from portrayal.formats.ldm import Family

    provenance = run.provenance
    described = json.loads((run.model_folder(name) / "method.json").read_text(encoding="utf-8"))
    tensors = to_kohya(
        {path: (layer.down, layer.up) for path, layer in layers.items()},
        {path: layer.alpha for path, layer in layers.items()},
    )
    largest = max(layers.values(), key=lambda layer: layer.rank)
    metadata = kohya_metadata(
        tensors,
        output_name=title or name,
        rank=largest.rank,
        alpha=largest.alpha,
        resolution=run.config.base.resolution or 512,
        trigger_phrase=run.config.subject.filled_instance_prompt,
        num_train_images=num_photos,
        max_train_steps=described["step"],
        seed=run.config.seed,
        base_name=provenance["base"]["name"],
        licence=provenance["base"]["licence"],
        family=Family(**provenance.get("family", {})),
    )
    return save_kohya_bytes(tensors, metadata)
