"""The training loop and its optimizer: the same for every method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from portrayal.config.section import Fraction, Section

Precision = Annotated[
    Literal["auto", "no", "fp16", "bf16"], BeforeValidator(lambda value: "no" if value == "fp32" else value)
]
SavePrecision = Literal["fp16", "bf16", "fp32"]
LearningRateSchedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]


class OptimizerConfig(Section):
    """The optimizer, from torch or a kept library."""

    name: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] = "adamw"
    """`adamw` (torch), `adamw8bit` (bitsandbytes), `prodigy` (prodigyopt; finds its own step
    size, so learning rates only set ratios), `adafactor` (torch; reads neither betas nor eps)."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the running means of gradient and squared gradient."""

    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""


class TrainingConfig(Section):
    """The training loop: the same for every method."""

    train_batch_size: PositiveInt = 1
    """Photos in one forward pass; with prior preservation class images ride along."""

    class_batch_size: PositiveInt | None = None
    """Class images in one forward pass; nothing means as many as photos. Fewer cost less, and their loss weighs the
    same."""

    gradient_accumulation_steps: PositiveInt = 1
    """Forward passes in one step."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    cuda_graph: bool = True
    """Run a step on a CUDA GPU as one graph, recorded once: the same step, and the GPU does not wait for the CPU."""

    mixed_precision: Precision = "auto"
    """`no` (or `fp32`), `fp16`, `bf16`; `auto` is bf16 where the GPU has it, fp16 on older ones, `no` on the CPU."""

    prior_loss_weight: NonNegativeFloat = 1.0
    """Weight of the class images' loss against the photos'; 0 turns prior preservation off."""

    background_loss_weight: float = Field(1.0, ge=0, le=1)
    """Weight of what lies outside a photo's mask (`NAME.mask.png` beside it, white on the subject, or
    `prepare.masks=model`) in its loss; 1 leaves masks out. Photos without a mask count whole."""

    random_crops: NonNegativeInt = 0
    """Slightly smaller crops of each photo, nine tenths of its sides or more, that are trained on in turn with the
    whole; all are encoded once."""

    random_flip: bool = False
    """Train on mirror images too, in turn with the photos as they are. Off, for a face is not symmetrical."""

    num_class_images: PositiveInt = 200
    """Class images the base paints once, kept for later runs."""

    caption_dropout: Fraction = 0.0
    """Chance that a photo is trained on with an empty caption, which keeps guidance at work."""

    lr_scheduler: LearningRateSchedule = "constant"
    """How the learning rate moves over the steps."""

    lr_warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises from 0; `constant` has none."""

    max_grad_norm: PositiveFloat = 1.0
    """Gradients longer than this are scaled down to it."""

    snr_gamma: PositiveFloat | None = None
    """Min-SNR weighting of the loss (Hang et al. 2023, arXiv:2303.09556); 5 is usual, nothing is off."""

    noise_offset: NonNegativeFloat = 0.0
    """Strength of a constant added to each channel's noise, which widens the range of brightness."""

    checkpointing_steps: NonNegativeInt = 250
    """Steps between checkpoints for resuming; 0 keeps none."""

    checkpoints_total_limit: PositiveInt = 2
    """Checkpoints that are kept of a training, the newest ones; where the newest is damaged, the one before goes on."""

    shard_optimizer: bool = False
    """Where several processes share the steps of a full UNet: each keeps the optimizer's numbers of its share of the
    weights alone, for less memory (ZeRO stage 1, Rajbhandari et al. 2020, arXiv:1910.02054). Goes with `adamw`."""

    save_precision: SavePrecision = "fp16"
    """Number format of the saved weights."""

    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers besides the run's own files; each needs its package."""

    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
