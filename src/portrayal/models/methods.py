"""What is trained: attach a method to a base, save it, detach it exactly.

A method is attached by replacing the base's UNet (full UNet) or by putting adapters into it (LoRA). Detaching gives
back the base bit for bit: the replaced module returns, or the adapters are taken out of layers that never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from portrayal.config import TEXT_ENCODER_TARGETS, LoraMethod, Method, UnetMethod
from portrayal.errors import UsageError, nearest
from portrayal.formats.kohya import sorted_metadata
from portrayal.models.base import BaseModel, parts_of, pipeline_of
from portrayal.models.checkpoints import cast
from portrayal.models.lean import let_go, make_lean
from portrayal.randomness import generator_for

ADAPTER = "default"
ROOMY_GIB = 40
LORA_FILE = "pytorch_lora_weights.safetensors"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass
class Attached:
    """A method in place on a base.

    Attributes:
        base: The base; its `unet` and `text_encoder` are the tuned ones until :meth:`detach`.
        method: What was attached.
        original: The parts that were replaced, to give back.
        masters: What is trained, in fp32, where the weights that compute are half; by part and name. Where several
            processes share the training, perhaps a part of them.
        elsewhere: The other masters, gathered to be saved.
    """

    base: BaseModel
    method: Method
    original: dict[str, nn.Module]
    masters: dict[str, nn.Parameter] = field(default_factory=dict)
    elsewhere: dict[str, Tensor] = field(default_factory=dict)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by part and name."""
        return self.masters or self.computing()

    def computing(self) -> dict[str, nn.Parameter]:
        """The trainable weights that compute, by part and name."""
        parts = {"unet": self.base.unet, "text_encoder": self.base.text_encoder}
        return {
            f"{part}.{name}": parameter
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained with its learning rates, one group for each part; `weights` are what computes, if apart."""
        named, computing = self.named_parameters(), self.computing()
        text_rate = self.method.text_encoder_learning_rate or self.method.learning_rate
        rates = {"unet": self.method.learning_rate, "text_encoder": text_rate}
        groups = [
            {"params": [p for name, p in named.items() if name.startswith(f"{part}.")], "lr": rate}
            | ({"weights": [p for name, p in computing.items() if name.startswith(f"{part}.")]} if self.masters else {})
            for part, rate in rates.items()
        ]
        return [group for group in groups if group["params"]]

    def halve(self) -> None:
        """Compute in the base's half format from now on; what is trained stays fp32, beside it."""
        self.masters = {name: nn.Parameter(weight.detach().clone()) for name, weight in self.computing().items()}
        for part in self.original:
            cast(getattr(self.base, part), self.base.dtype)

    def refresh(self) -> None:
        """Bring the weights that compute up to the masters."""
        if self.masters:
            computing = self.computing()
            torch._foreach_copy_([computing[name].data for name in self.masters], list(self.masters.values()))

    def collect_gradients(self) -> None:
        """Give the masters the gradients, in their format."""
        if self.masters:
            for master in self.masters.values():
                master.grad = torch.empty_like(master)
            found = [weight.grad for weight in self.computing().values() if weight.grad is not None]
            torch._foreach_copy_([master.grad for master in self.masters.values() if master.grad is not None], found)

    def zero_grad(self) -> None:
        """Forget the gradients of weights that compute beside masters: the optimizer knows only those."""
        if self.masters:
            for weight in self.computing().values():
                weight.grad = None

    def save(self, folder: Path, precision: str) -> None:
        """Write safetensors: a diffusers UNet folder, or a LoRA file for diffusers."""
        if isinstance(self.method, UnetMethod):
            for part in ["unet", "text_encoder"] if self.method.train_text_encoder else ["unet"]:
                masters = {
                    name.removeprefix(f"{part}."): master
                    for name, master in {**self.masters, **self.elsewhere}.items()
                    if name.startswith(f"{part}.")
                }
                save_part(getattr(self.base, part), folder / part, DTYPES[precision], masters)
        else:
            save_lora(self.base, self.method, folder, DTYPES[precision])

    def detach(self) -> None:
        """Give the base back as it was."""
        for part in (self.base.unet, self.base.text_encoder):
            part.eval().requires_grad_(False)
        if isinstance(self.method, LoraMethod):
            pipeline_of(self.base).unload_lora_weights()
            self.base.unet.disable_gradient_checkpointing()
            checkpoint_text_encoder(self.base.text_encoder, on=False)
        for part_name, module in self.original.items():
            let_go(getattr(self.base, part_name))
            setattr(self.base, part_name, module.to(self.base.device))
        self.original.clear()
        self.masters.clear()
        self.elsewhere.clear()
        self.base.attached = False


def attach(base: BaseModel, method: Method, *, seed: int) -> Attached:
    """Attach a method for training: trainable weights in fp32, everything else frozen.

    Raises:
        UsageError: If a target module matches no layer; nothing has been changed then.
        ValueError: If a method is in place already.
    """
    check_free(base)
    match method:
        case UnetMethod():
            return attach_full(base, method)
        case LoraMethod():
            return attach_lora(base, method, seed)


def checkpoint_text_encoder(text_encoder: Any, *, on: bool) -> None:
    """Turn gradient checkpointing on or off; transformers renamed this after 5.17."""
    end = "enable" if on else "disable"
    renamed = f"activation_checkpointing_{end}"
    getattr(text_encoder, renamed if hasattr(text_encoder, renamed) else f"gradient_checkpointing_{end}")()
    # Without reentry inputs need no gradient; the hook that gives them one would stay with the base.
    text_encoder.disable_input_require_grads()


def check_free(base: BaseModel) -> None:
    """Refuse a second method on one base: neither could be taken off exactly."""
    if base.attached:
        raise ValueError("a method is attached to this base already; detach it first")


def attach_full(base: BaseModel, method: UnetMethod) -> Attached:
    """Replace the UNet (and the text encoder) by trainable copies read from the base's own files.

    They are fp32; on CUDA half, with fp32 masters beside them; in bf16 without, if the method wants none.
    """
    source, cuda = base.source, base.device.type == "cuda"
    half = cuda and base.dtype != torch.float32
    small = base.device.type in ("cpu", "cuda") and not method.master_weights and base.dtype == torch.bfloat16
    dtype, names = base.dtype if small else torch.float32, ["unet"] + ["text_encoder"] * method.train_text_encoder
    fresh = parts_of(source, dtype, names)
    attached = replace_parts(base, method, {name: fresh[name] for name in names}, trainable=True)
    if half and not small:
        attached.halve()
    return attached


def replace_parts(base: BaseModel, method: Method, parts: dict[str, Any], *, trainable: bool) -> Attached:
    """Put other modules in the places of the base's, which wait where there is room."""
    original = {}
    for name, module in parts.items():
        original[name] = getattr(base, name).to(waiting_room(base.device))
        setattr(base, name, module.to(base.device).eval().requires_grad_(trainable))
        if name == "unet" and base.device.type == "cuda":
            make_lean(module)
    base.attached = True
    return Attached(base, method, original)


def waiting_room(device: torch.device) -> torch.device:
    """Where replaced parts wait: on a large GPU where they are, which saves seconds each time; else on the CPU."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(index)  # torch 2.6 cannot tell
        if share * torch.cuda.get_device_properties(device).total_memory >= ROOMY_GIB * 2**30:
            return device
    return torch.device("cpu")


def attach_lora(base: BaseModel, method: LoraMethod, seed: int) -> Attached:
    """Put adapters into the UNet (and the text encoder); `B` starts at zero, so the model starts as the base."""
    check_targets(base.unet, method.target_modules)
    base.attached = True
    with torch.random.fork_rng():  # PEFT draws from the global generator; what it draws is replaced below
        base.unet.add_adapter(lora_config(method, method.target_modules), adapter_name=ADAPTER)
        if method.train_text_encoder:
            base.text_encoder.add_adapter(lora_config(method, TEXT_ENCODER_TARGETS), adapter_name=ADAPTER)
    attached = Attached(base, method, {})
    generator = generator_for(seed, "lora.init")
    for name, parameter in attached.named_parameters().items():
        parameter.data = parameter.data.float()
        if "lora_A" in name:
            parameter.data.copy_(first_down(parameter.shape, generator))
    return attached


def first_down(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """First weights of an `A`: Kaiming uniform with a = sqrt(5), as PEFT draws them, but from our own generator."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.rand(*shape, generator=generator).mul_(2).mul_(bound).sub_(bound)


def lora_config(method: LoraMethod, targets: tuple[str, ...]) -> Any:
    """PEFT's description of the adapters; no alpha means scale 1 at every rank."""
    from peft import LoraConfig

    alpha = method.rank if method.alpha is None else method.alpha
    return LoraConfig(r=method.rank, lora_alpha=alpha, lora_dropout=method.dropout, target_modules=list(targets))


def adapted_layers(module: nn.Module, targets: tuple[str, ...]) -> list[tuple[int, int]]:
    """Inputs (a kernel's places among them) and outputs of each linear or convolutional layer that is a target."""
    return [
        (layer.weight[0].numel(), layer.weight.shape[0])
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and is_target(name, targets)
    ]


def is_target(layer: str, targets: tuple[str, ...]) -> bool:
    """Whether PEFT would adapt a layer of that name."""
    return any(layer == target or layer.endswith(f".{target}") for target in targets)


def check_targets(unet: nn.Module, targets: tuple[str, ...]) -> None:
    """Refuse a target that matches no linear or convolutional layer."""
    layers = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for target in targets:
        if not any(is_target(layer, (target,)) for layer in layers):
            ends = sorted({".".join(layer.split(".")[-count:]) for layer in layers for count in (1, 2, 3)})
            raise UsageError(
                f"method.lora.target_modules: {target!r} matches no layer of the UNet; {nearest(target, ends)}",
                "Usual ones: to_q, to_k, to_v, to_out.0, ff.net.0.proj, ff.net.2, conv1, conv2.",
            )


def save_part(module: Any, folder: Path, dtype: torch.dtype, masters: Mapping[str, Tensor]) -> None:
    """Write one model in another number format, from its masters where it has some; the model itself stays as it is."""
    state = {
        name: masters.get(name, tensor).detach().to("cpu", dtype).contiguous()
        for name, tensor in module.state_dict().items()
    }
    module.save_pretrained(folder, state_dict=state) if hasattr(module, "config_class") else save_diffusers(
        module, folder, state
    )


def save_diffusers(module: Any, folder: Path, state: dict[str, Tensor]) -> None:
    """What `ModelMixin.save_pretrained` writes, for a state dict of another number format."""
    from safetensors.torch import save_file

    module.save_config(folder)
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(contiguous, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def save_lora(base: BaseModel, method: LoraMethod, folder: Path, dtype: torch.dtype) -> None:
    """Write the adapters that are in place for diffusers."""
    parts = {"unet": base.unet, "text_encoder": base.text_encoder if method.train_text_encoder else None}
    found = {name: adapters_of(module) for name, module in parts.items() if module is not None}
    write_lora(found, method, folder, dtype)


def write_lora(parts: Mapping[str, Mapping[str, Tensor]], method: LoraMethod, folder: Path, dtype: torch.dtype) -> None:
    """Write adapters for diffusers, with alpha in the header.

    Args:
        parts: Of each part the adapters by PEFT's names, such as `mid_block.….to_q.lora_A.weight`.
        method: What they are.
        folder: Where the file goes.
        dtype: Its number format.
    """
    from diffusers import StableDiffusionPipeline

    targets = {"unet": method.target_modules, "text_encoder": TEXT_ENCODER_TARGETS}
    described = {f"{part}_lora_adapter_metadata": lora_config(method, targets[part]).to_dict() for part in parts}
    # transformers since 5.6 knows no `text_model.`, but every reader of LoRA files does
    text = {"prefix": "text_model.", "infix": "lora_linear_layer"}
    layers = {
        part: lora_layers(found, dtype, **(text if part == "text_encoder" else {})) for part, found in parts.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=layers["unet"],
        text_encoder_lora_layers=layers.get("text_encoder"),
        **portable(described),  # without it alpha is lost
    )
    file = folder / LORA_FILE
    file.write_bytes(sorted_metadata(file.read_bytes()))  # equal trainings give equal files


def adapters_of(module: Any) -> dict[str, Tensor]:
    """The adapters in place in a part, by PEFT's names."""
    from peft.utils import get_peft_model_state_dict

    found: dict[str, Tensor] = get_peft_model_state_dict(module, adapter_name=ADAPTER, save_embedding_layers=False)
    return found


def portable(metadata: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """PEFT's description without this machine in it: no path of the base, and sets sorted, not as hashes fall."""
    return {
        part: {key: sorted(value) if isinstance(value, set | list) else value for key, value in description.items()}
        | {"base_model_name_or_path": None}
        for part, description in metadata.items()
    }


def lora_layers(
    state: Mapping[str, Tensor], dtype: torch.dtype, *, prefix: str = "", infix: str = "lora"
) -> dict[str, Tensor]:
    """The adapters of one part under the names diffusers writes, on the CPU.

    diffusers' own converter leaves the feed-forward layers' names as they are, and readers take one naming a file.
    """
    ends = {".lora_A.weight": f".{infix}.down.weight", ".lora_B.weight": f".{infix}.up.weight"}
    layers = {}
    for name, tensor in state.items():
        for old, new in ends.items():
            if name.endswith(old):
                path = name.removesuffix(old)
                path = path if path.startswith(prefix) else prefix + path
                layers[path + new] = tensor.detach().to("cpu", dtype).contiguous()
    return layers
