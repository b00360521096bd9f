"""What goes beside a trained model's weights: a model card, and for a LoRA the file that other tools read."""

from __future__ import annotations

import json

from portrayal.config import LoraMethod
from portrayal.run import Run, write_bytes, write_text


def publish_model(run: Run, name: str, model: str, num_photos: int) -> None:
    """Write `README.md`, and for a LoRA `NAME.kohya.safetensors`, into the folder of a trained model of the study."""
    if isinstance(run.config.methods[model], LoraMethod):
        write_kohya(run, name, model, num_photos)
    write_card(run, name, model)


def write_card(run: Run, name: str, model: str) -> None:
    """Write the model card: what it is, how to load it, the terms of the base it came from."""
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
    )
    write_text(run.model_folder(name) / "README.md", model_card(info))


def write_kohya(run: Run, name: str, model: str, num_photos: int) -> None:
    """Write a LoRA under the names that AUTOMATIC1111, Forge, ComfyUI and sd-scripts read."""
    from safetensors.torch import load_file

    from portrayal.formats.kohya import kohya_metadata, save_kohya_bytes, to_kohya

    method, provenance = run.config.methods[model], run.provenance
    assert isinstance(method, LoraMethod)
    described = json.loads((run.model_folder(name) / "method.json").read_text(encoding="utf-8"))
    pairs: dict[str, dict[str, object]] = {}
    for key, tensor in load_file(run.model_folder(name) / "pytorch_lora_weights.safetensors").items():
        layer, end = key.split(".lora", 1)
        pairs.setdefault(layer, {})[end.split(".")[-2]] = tensor
    alpha = float(method.rank if method.alpha is None else method.alpha)
    tensors = to_kohya(
        {layer: (pair["down"], pair["up"]) for layer, pair in pairs.items()},  # type: ignore[misc]
        dict.fromkeys(pairs, alpha),
    )
    metadata = kohya_metadata(
        tensors,
        output_name=name,
        rank=method.rank,
        alpha=alpha,
        resolution=run.config.base.resolution or 512,
        trigger_phrase=run.config.subject.filled_instance_prompt,
        num_train_images=num_photos,
        max_train_steps=described["step"],
        seed=run.config.seed,
        base_name=provenance["base"]["name"],
        licence=provenance["base"]["licence"],
    )
    write_bytes(run.model_folder(name) / f"{name}.kohya.safetensors", save_kohya_bytes(tensors, metadata))
