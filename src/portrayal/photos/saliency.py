"""Where the eye goes first: for pets, drawn people and things, in which no face is found."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Map = npt.NDArray[np.float32]

SIDE: Final = 64
"""Long side of the copy looked at, as in the paper: details are not what stands out."""

BLUR: Final = 2.5
PRIOR_CENTRE: Final = (0.5, 0.42)
"""Where subjects are before anything is seen, in shares of width and height: heads are above the middle."""

PRIOR_SPREAD: Final = 0.35
SALIENT_SHARE: Final = 0.2
"""Only the most salient fifth of a picture counts for the focus."""


def saliency(image: Image.Image) -> Map:
    """How much each place stands out, times a prior for the middle; shape `(h, w)` of a copy of `SIDE` pixels.

    Spectral residual (Hou and Zhang, CVPR 2007, doi:10.1109/CVPR.2007.383267): what remains of the log spectrum after
    its local mean is taken away is what is unlike the rest of the picture. Sizes and blurs are the paper's.
    """
    scale = SIDE / max(image.size)
    size = (max(4, round(image.width * scale)), max(4, round(image.height * scale)))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float32)
    spectrum = np.fft.fft2(grey)
    log_amplitude = np.log(np.abs(spectrum) + 1e-8)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REPLICATE)
    found = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return (cv2.GaussianBlur(found, (0, 0), BLUR) * _prior(found.shape)).astype(np.float32)


def focus(image: Image.Image) -> tuple[float, float]:
    """The middle of what stands out, `(x, y)` in the picture's pixels."""
    found = saliency(image)
    return weighted_middle(np.where(found >= np.quantile(found, 1 - SALIENT_SHARE), found, 0), image.size)


def weighted_middle(weights: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[float, float]:
    """The middle of a map `(h, w)` of weights, in pixels of a picture of `size`; its centre if nothing weighs."""
    total = float(weights.sum())
    if total <= 0:
        return size[0] / 2, size[1] / 2
    height, width = weights.shape
    x = float(weights.sum(axis=0) @ (np.arange(width) + 0.5)) / total
    y = float(weights.sum(axis=1) @ (np.arange(height) + 0.5)) / total
    return x / width * size[0], y / height * size[1]


def _prior(shape: tuple[int, ...]) -> Map:
    y, x = ((np.arange(length) + 0.5) / length for length in shape)
    across = np.exp(-((x - PRIOR_CENTRE[0]) ** 2) / (2 * PRIOR_SPREAD**2))
    down = np.exp(-((y - PRIOR_CENTRE[1]) ** 2) / (2 * PRIOR_SPREAD**2))
    return np.outer(down, across).astype(np.float32)
