"""Hand trained models to other tools, each in the form that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from portrayal.config import LoraMethod, SavePrecision
from portrayal.errors import UsageError, known, nearest
from portrayal.run import Event, Progress, Run, atomic_folder, atomic_path, write_bytes, write_text
from portrayal.stages.data import num_photos
from portrayal.stages.paint import default_model, paintable
from portrayal.stages.publish import card_of, kohya_bytes, saved_layers, study_model
from portrayal.stages.shared import FINAL, alone, checked_name, silent, stage, tell

if TYPE_CHECKING:
    import torch

    from portrayal.formats.lora import LoraLayer
    from portrayal.models.base import BaseModel

Export = Literal["kohya", "diffusers", "single-file", "pipeline"]
FORMS: tuple[Export, ...] = get_args(Export)
PRECISIONS: tuple[SavePrecision, ...] = get_args(SavePrecision)
OF_LORAS = ("kohya",)
WHOLE = ("single-file", "pipeline")


@dataclass(frozen=True)
class Wanted:
    """What is exported, of one model.

    Attributes:
        run: The run.
        name: The model.
        precision: Number format of the weights.
        strength: How strongly a LoRA counts where it is merged.
        rank: The highest rank of a LoRA's updates; nothing keeps them.
        out: Folder of the files.
        notes: What a person should know of it; filled on the way.
    """

    run: Run
    name: str
    precision: SavePrecision
    strength: float
    rank: int | None
    out: Path
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The study's model it is, or was trained like."""
        return study_model(self.run, self.name)

    @property
    def lora(self) -> bool:
        """Whether it is a LoRA."""
        return isinstance(self.run.config.methods[self.model], LoraMethod)

    def title(self, form: Export) -> str:
        """The name of its file or folder, which says what was changed."""
        merged = self.lora and form in WHOLE
        parts = [self.run.folder.resolve().name, self.name, *([f"rank-{self.rank}"] if self.rank and self.lora else [])]
        parts += [f"at-{self.strength:g}"] if merged and self.strength != 1 else []
        parts += [self.precision] if self.precision != self.run.config.training.save_precision else []
        parts += {"diffusers": ["diffusers"], "single-file": ["checkpoint"], "pipeline": ["pipeline"]}.get(form, [])
        return "-".join(parts)


@alone
def export_models(
    run: Run,
    to: Sequence[str] = ("diffusers", "kohya", "single-file"),
    models: Sequence[str] = (),
    *,
    out: Path | None = None,
    precision: str | None = None,
    strength: float = 1.0,
    rank: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Write trained models as other tools read them; what is there of that name is replaced, whole or not at all.

    Args:
        run: A run with trained models.
        to: `kohya`: a LoRA for AUTOMATIC1111, Forge, ComfyUI and sd-scripts. `diffusers`: a LoRA for diffusers; of a
            full UNet the same as `pipeline`. `single-file`: a whole checkpoint, a LoRA merged into it. `pipeline`: the
            same as a diffusers folder, for ControlNets too.
        models: Which models, `final` among them; nothing means that one, else the best LoRA if the run was judged, else
            the last one trained.
        out: Folder of the files; nothing means `RUN/exports`.
        precision: Number format of the weights; nothing means `training.save_precision`.
        strength: How strongly a LoRA counts in a checkpoint or pipeline, 1 as it was trained; not in files of its own.
        rank: Cut a LoRA's updates to this rank; the note says what they lose.
        progress: Called with every event; what is worth knowing comes as notes.

    Returns:
        The files and folders written.

    Raises:
        UsageError: If a form or model is unknown, or cannot be had of that model.
        WeightsError: If the base cannot be had.
    """
    forms = [checked_form(form) for form in dict.fromkeys(to)]
    trained = {name: folder for name, folder in paintable(run).items() if folder is not None}
    if not trained:
        raise UsageError(f"{run.folder} holds no trained model.", f"Train them first: portrayal train {run.folder}")
    chosen = [checked_name(name, trained) for name in models] or [default_model(run)]
    settled = checked_precision(precision) if precision else run.config.training.save_precision
    asked = [Wanted(run, name, settled, strength, rank, out or run.folder / "exports") for name in chosen]
    for one in asked:
        check(one, forms)
    paths: list[Path] = []
    for one in asked:
        with stage(run, f"export.{one.name}", forms, progress):
            paths += export_one(one, forms)
        for note in one.notes:
            tell(run, Event(f"export.{one.name}", "note", message=note), progress)
    return list(dict.fromkeys(paths))


def checked_form(form: str) -> Export:
    """The form, if there is one of that name."""
    for one in FORMS:
        if form == one:
            return one
    raise UsageError(f"There is no form {form!r} of a model; {nearest(form, FORMS) or known(FORMS)}")


def checked_precision(precision: str) -> SavePrecision:
    """The number format, if there is one of that name."""
    for one in PRECISIONS:
        if precision == one:
            return one
    raise UsageError(f"Weights have no number format {precision!r}; {known(PRECISIONS)}")


def check(one: Wanted, forms: Sequence[Export]) -> None:
    """Refuse what cannot be meant, before anything is written."""
    if one.rank is not None and one.rank < 1:
        raise UsageError(f"--rank {one.rank}: a rank is 1 or more.")
    if one.lora and one.strength != 1 and not set(forms) & set(WHOLE):
        raise UsageError(
            f"--strength {one.strength:g} counts where a LoRA is merged; its own files hold it as it was trained.",
            f"Add {' or '.join(WHOLE)} to --to, or leave it out.",
        )
    if one.lora:
        return
    if one.strength != 1 or one.rank is not None:
        raise UsageError(f"{one.name} is a full UNet: it has neither a strength nor a rank.", "Choose a LoRA.")
    if set(forms) <= set(OF_LORAS):
        raise UsageError(
            f"{one.name} is a full UNet, which has no {' or '.join(forms)} form.", "Take single-file or pipeline."
        )


def export_one(one: Wanted, forms: Sequence[Export]) -> list[Path]:
    """Write one model in all forms."""
    paths: list[Path] = []
    if one.lora:
        layers = lora_layers(one)
        if "kohya" in forms:
            paths.append(export_kohya(one, layers))
        if "diffusers" in forms:
            paths.append(export_lora(one, layers))
        if one.strength != 1 and paths:
            one.notes.append(
                f"{one.name}'s own files hold it at full strength: who loads them says how strongly it counts"
            )
        forms = [form for form in forms if form in WHOLE]
    elif "kohya" in forms:
        one.notes.append(f"{one.name} is a full UNet: its weights go into a checkpoint, and there is no kohya file")
    whole: list[Export] = ["pipeline" if form == "diffusers" else form for form in forms if form not in OF_LORAS]
    return paths + (export_whole(one, list(dict.fromkeys(whole))) if whole else [])


def lora_layers(one: Wanted) -> dict[str, LoraLayer]:
    """A LoRA's updates, at the rank that is wanted."""
    from portrayal.formats.lora_rank import lower_rank

    layers = saved_layers(one.run, one.name, one.model)
    if one.rank is None:
        return layers
    highest = max(layer.rank for layer in layers.values())
    if one.rank >= highest:
        one.notes.append(f"{one.name} has rank {highest}: nothing to lower")
        return layers
    lowered = lower_rank(layers, one.rank)
    one.notes.append(f"{one.name} at rank {one.rank} loses {lowered.loss:.1%} of its update (Frobenius norm)")
    return lowered.layers


def export_kohya(one: Wanted, layers: dict[str, LoraLayer]) -> Path:
    """The LoRA for AUTOMATIC1111, Forge, ComfyUI, sd-scripts."""
    title = one.title("kohya")
    path = one.out / f"{title}.safetensors"
    stored = {name: in_precision(layer, one.precision) for name, layer in layers.items()}
    write_bytes(path, kohya_bytes(one.run, one.name, stored, photos_of(one), title))
    return path


def export_lora(one: Wanted, layers: dict[str, LoraLayer]) -> Path:
    """The LoRA for diffusers, in a folder with its model card."""
    from safetensors.torch import save

    from portrayal.formats.kohya import sorted_metadata
    from portrayal.formats.lora import to_diffusers
    from portrayal.models.methods import LORA_FILE

    path = one.out / one.title("diffusers")
    with atomic_folder(path) as temporary:
        stored = {name: in_precision(layer, one.precision) for name, layer in layers.items()}
        (temporary / LORA_FILE).write_bytes(sorted_metadata(save(*to_diffusers(stored))))
        (temporary / "README.md").write_text(card_of(one.run, one.model), encoding="utf-8")
    return path


def export_whole(one: Wanted, forms: Sequence[Export]) -> list[Path]:
    """The base with the model in it: a checkpoint, a pipeline's folder."""
    import torch

    from portrayal.models.base import load_base
    from portrayal.models.lora_files import merged_loras
    from portrayal.models.saved import tuned
    from portrayal.models.source import find_base

    # In fp32 on the CPU, so that weights are rounded once, when they are written.
    base = load_base(find_base(one.run.config.base), device=torch.device("cpu"), dtype=torch.float32)
    folder = one.run.model_folder(one.name)
    if one.lora:
        with merged_loras(base, [(lora_layers(one), one.strength)]):
            return write_whole(one, base, forms)
    with tuned(base, folder):
        return write_whole(one, base, forms)


def write_whole(one: Wanted, base: BaseModel, forms: Sequence[Export]) -> list[Path]:
    """What is in place on a base, as a checkpoint or a pipeline's folder."""
    from safetensors.torch import save_file

    from portrayal.formats.single_file import single_file_metadata, to_single_file
    from portrayal.models.base import pipeline_of
    from portrayal.models.checkpoints import cast
    from portrayal.models.methods import DTYPES

    dtype, paths = DTYPES[one.precision], list[Path]()
    for part in (base.unet, base.vae, base.text_encoder):
        cast(part, dtype)
    if "single-file" in forms:
        path = one.out / f"{one.title('single-file')}.safetensors"
        tensors = to_single_file(*(part.state_dict() for part in (base.unet, base.vae, base.text_encoder)))
        metadata = single_file_metadata(
            title=path.stem,
            resolution=one.run.config.base.resolution or base.resolution,
            family=base.source.family,
            licence=base.source.licence,
            trigger_phrase=one.run.config.subject.filled_instance_prompt,
        )
        with atomic_path(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
        paths.append(path)
    if "pipeline" in forms:
        path = one.out / one.title("pipeline")
        with atomic_folder(path) as temporary:
            pipeline_of(base).save_pretrained(temporary, safe_serialization=True)
            write_text(temporary / "README.md", card_of(one.run, one.model))
        paths.append(path)
    return paths


def in_precision(layer: LoraLayer, precision: SavePrecision) -> LoraLayer:
    """A layer's update in a number format."""
    from dataclasses import replace

    from portrayal.models.methods import DTYPES

    dtype: torch.dtype = DTYPES[precision]
    return replace(layer, down=layer.down.to(dtype), up=layer.up.to(dtype))


def photos_of(one: Wanted) -> int:
    """How many photos the model was trained on."""
    return num_photos(one.run, None if one.name == FINAL else 0)
