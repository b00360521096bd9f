"""Train the pose reader: where the joints of a drawn person are (Xu et al. 2022, arXiv:2204.12484).

Shapes: B pictures, J = 17 joints in COCO's order, S the heatmaps' side.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

from pretraining.architecture import PICTURE_SIZE
from pretraining.dataset import Dataset
from pretraining.loop import Clock, Loss, Plan, Training
from pretraining.vae import reconstruct

JOINT_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
LAYERS = 4
PATCH = 8
UPSAMPLING = 4
SIGMA = 1.5
"""Of a target's peak, in pixels of the heatmap."""
JOINT_WEIGHT = 30.0
"""How much more an error on a joint counts than one beside it: without it, the first minutes learn to paint nothing."""
LOSS_SCALE = 300.0
REBUILT_SHARE = 0.25


def build_pose_reader() -> VitPoseForPoseEstimation:
    """ViTPose with the simple decoder, 0.9 million parameters: heatmaps ``(B, J, 64, 64)`` of 128x128 pictures."""
    backbone = VitPoseBackboneConfig(
        image_size=[PICTURE_SIZE, PICTURE_SIZE],
        patch_size=[PATCH, PATCH],
        hidden_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        out_features=[f"stage{LAYERS}"],
        part_features=128,
    )
    labels = {str(joint): name for joint, name in enumerate(JOINT_NAMES)}
    return VitPoseForPoseEstimation(
        VitPoseConfig(
            backbone_config=backbone,
            scale_factor=UPSAMPLING,
            use_simple_decoder=True,
            id2label=labels,
            label2id={name: int(joint) for joint, name in labels.items()},
        )
    )


def train_pose_reader(
    model: VitPoseForPoseEstimation, vae: AutoencoderKL, data: Dataset, plan: Plan, clock: Clock
) -> VitPoseForPoseEstimation:
    """Squared error, heavier at joints, of heatmaps with a peak at every joint in the picture; no picture is moved."""

    def loss(forward: Callable[..., Tensor]) -> Loss:
        rows = data.random_rows(plan.batch_size)
        pixels = retouched(data.pixels(rows), vae)
        with torch.autocast(data.device.type, torch.bfloat16):
            heatmaps = forward(pixels).float()
        keypoints = data.keypoints[rows].float()
        target = target_heatmaps(keypoints, heatmaps.shape[-1])
        errors = (heatmaps - target).square() * (1 + JOINT_WEIGHT * target)
        return LOSS_SCALE * errors.mean(), {"pck": pck(decode_heatmaps(heatmaps.detach()), keypoints)}

    Training(plan, model, clock).run(lambda pixels: heatmaps_of(model, pixels), loss)
    model.requires_grad_(False)
    return model


def retouched(pixels: Tensor, vae: AutoencoderKL) -> Tensor:
    """Blur, tint and noise, all mild and none of them moving anything; a quarter went through the autoencoder.

    Args:
        pixels: ``(B, 3, H, W)`` in [-1, 1]; every picture draws its own strengths.
        vae: What rebuilds, with a little noise in the latents, as generation does.
    """
    count, device = len(pixels), pixels.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device) * (high - low) + low

    rebuilt = max(1, round(count * REBUILT_SHARE))
    pixels = torch.cat([reconstruct(vae, pixels[:rebuilt], noise=0.1), pixels[rebuilt:]])
    soft = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = torch.lerp(pixels, soft, uniform(0, 1) * (uniform(0, 1) < 0.5))
    tinted = mixed * uniform(0.9, 1.1) + uniform(-0.07, 0.07) + torch.randn(count, 3, 1, 1, device=device) * 0.02
    noisy = (tinted + torch.randn_like(tinted) * uniform(0, 0.05)).clamp(-1, 1)
    return noisy.contiguous(memory_format=torch.channels_last)


def heatmaps_of(model: VitPoseForPoseEstimation, pixels: Tensor) -> Tensor:
    """Heatmaps ``(B, J, S, S)`` of pictures in [-1, 1]."""
    heatmaps: Tensor = model(pixel_values=pixels).heatmaps
    return heatmaps


def target_heatmaps(keypoints: Tensor, side: int) -> Tensor:
    """A Gaussian of height one at every joint inside the picture, ``(B, J, side, side)``.

    Args:
        keypoints: ``(B, J, 3)``: x, y in [0, 1] and 1 if inside.
        side: Pixels of a heatmap.
    """
    centres = (torch.arange(side, device=keypoints.device) + 0.5).view(1, 1, -1)
    across = torch.exp(-((centres - keypoints[..., :1] * side) ** 2) / (2 * SIGMA**2))
    down = torch.exp(-((centres - keypoints[..., 1:2] * side) ** 2) / (2 * SIGMA**2))
    inside = (keypoints[..., 2] > 0.5)[..., None, None]
    return down.unsqueeze(-1) * across.unsqueeze(-2) * inside


def decode_heatmaps(heatmaps: Tensor) -> Tensor:
    """Joints at the highest pixels, refined by a parabola through the logarithms: exact for a Gaussian.

    Zhang et al. 2019, arXiv:1910.06278, Sec. 3.1, along each axis.

    Returns:
        ``(B, J, 3)``: x, y in [0, 1] of the picture, and the peak's height in [0, 1].
    """
    height, width = heatmaps.shape[-2:]
    peak, place = heatmaps.flatten(2).max(dim=2)
    y, x = place // width, place % width
    logs = heatmaps.clamp(min=1e-3).log().flatten(2)

    def offset(before: Tensor, after: Tensor, inside: Tensor) -> Tensor:
        left, middle, right = (logs.gather(2, at.unsqueeze(2)).squeeze(2) for at in (before, place, after))
        bend = (2 * middle - left - right).clamp(min=1e-6)
        return ((right - left) / (2 * bend)).clamp(-0.5, 0.5) * inside

    most = height * width - 1
    dx = offset((place - 1).clamp(min=0), (place + 1).clamp(max=most), (x > 0) & (x < width - 1))
    dy = offset((place - width).clamp(min=0), (place + width).clamp(max=most), (y > 0) & (y < height - 1))
    return torch.stack([(x + 0.5 + dx) / width, (y + 0.5 + dy) / height, peak.clamp(0, 1)], dim=2)


@torch.no_grad()
def read_keypoints(model: VitPoseForPoseEstimation, pixels: Tensor) -> Tensor:
    """Joints ``(B, J, 3)`` of pictures in [-1, 1]: x, y in [0, 1] of the picture, and a confidence in [0, 1]."""
    return decode_heatmaps(heatmaps_of(model, pixels).float())


def joints_right(found: Tensor, keypoints: Tensor, share: float = 0.1) -> tuple[Tensor, Tensor]:
    """Which joints count, and which of them were found: both bool ``(B, J)``.

    A joint counts if it is inside the picture. It is found if it is nearer than ``share`` of the longest side of the
    box around all of the person's joints that count, whatever the confidence: PCK (Yang and Ramanan 2013).

    Args:
        found: ``(B, J, 3)`` as :func:`read_keypoints` gives it.
        keypoints: ``(B, J, 3)``: x, y in [0, 1] and 1 if inside.
        share: Of the longest side.
    """
    counts = keypoints[..., 2] > 0.5
    places = keypoints[..., :2]
    low = places.masked_fill(~counts.unsqueeze(-1), float("inf")).amin(1)
    high = places.masked_fill(~counts.unsqueeze(-1), float("-inf")).amax(1)
    longest = (high - low).amax(1, keepdim=True)
    distance = (found[..., :2] - places).norm(dim=-1)
    return counts, counts & (distance < share * longest)


def pck(found: Tensor, keypoints: Tensor, share: float = 0.1) -> Tensor:
    """Share of the joints inside the picture that were found; see :func:`joints_right`."""
    counts, right = joints_right(found, keypoints, share)
    return right.sum() / counts.sum().clamp(min=1)
