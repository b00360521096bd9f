"""The formulas behind the figures of :mod:`pretraining.evaluate`.

Shapes: N pictures, D features.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pretraining.data import canny

WINDOW, WINDOW_SIGMA = 11, 1.5
Z_95 = 1.959964


def wilson(right: int, asked: int) -> tuple[float, float]:
    """95 % interval of a rate: Wilson 1927, without continuity correction."""
    if asked == 0:
        return 0.0, 1.0
    share, slack = right / asked, Z_95**2 / asked
    centre = (share + slack / 2) / (1 + slack)
    half = Z_95 * math.sqrt(share * (1 - share) / asked + slack / (4 * asked)) / (1 + slack)
    return max(0.0, centre - half), min(1.0, centre + half)


def rate(right: Tensor) -> dict[str, float]:
    """The share of true values in ``(N,)``, its 95 % interval and N."""
    hits, asked = int(right.sum()), len(right)
    low, high = wilson(hits, asked)
    return {"rate": hits / max(1, asked), "low": low, "high": high, "of": asked}


def standard_error(values: np.ndarray) -> float:
    """Of the mean of ``(N,)``."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of pictures in [-1, 1], ``(N, 3, H, W)`` -> ``(N,)``, the mean over the channels.

    Wang et al. 2004, Eq. 13, with the paper's Gaussian window of 11 pixels and constants.
    """
    places = torch.arange(WINDOW, device=first.device, dtype=first.dtype) - WINDOW // 2
    line = torch.exp(-(places**2) / (2 * WINDOW_SIGMA**2))
    line = line / line.sum()
    channels = first.shape[1]
    window = (line[:, None] * line).expand(channels, 1, WINDOW, WINDOW)

    def local_mean(values: Tensor) -> Tensor:
        return functional.conv2d(values, window, groups=channels)

    x, y = (first + 1) / 2, (second + 1) / 2
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x, variance_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (alike / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean(dim=(1, 2, 3))


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared distance of two Gaussians fitted to features ``(N, D)``: Heusel et al. 2017, arXiv:1706.08500, Eq. 6."""
    first, second = first.double().cpu(), second.double().cpu()
    if min(len(first), len(second)) < 2:
        return float("nan")
    mean_gap = (first.mean(0) - second.mean(0)).square().sum()
    covariances = torch.cov(first.t()), torch.cov(second.t())
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.t()
    # the eigenvalues of C1 C2 are those of the symmetric C1^1/2 C2 C1^1/2
    common = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    return float(mean_gap + covariances[0].trace() + covariances[1].trace() - 2 * common)


def separation(values: Tensor, positive: Tensor) -> tuple[float, float]:
    """Area under the ROC curve and the error rate where misses equal false alarms."""
    ranked = positive[values.argsort(descending=True)].double()
    hits = ranked.cumsum(0) / ranked.sum()
    alarms = (1 - ranked).cumsum(0) / (1 - ranked).sum()
    area = torch.trapezoid(hits, alarms).item()
    crossing = ((1 - hits) - alarms).abs().argmin()
    return area, ((1 - hits[crossing] + alarms[crossing]) / 2).item()


def edge_f1(wanted: np.ndarray, picture: np.ndarray) -> float:
    """F1 score of a picture's edges against those asked for, two pixels of slack either way.

    Args:
        wanted: Bool ``(H, W)``.
        picture: Uint8 RGB ``(H, W, 3)``.
    """
    near = np.ones((5, 5), np.uint8)
    asked, found = wanted.astype(np.uint8), (canny(picture) > 0).astype(np.uint8)
    recall = np.logical_and(asked, cv2.dilate(found, near)).sum() / max(1, asked.sum())
    precision = np.logical_and(found, cv2.dilate(asked, near)).sum() / max(1, found.sum())
    return float(2 * recall * precision / max(1e-9, recall + precision))
