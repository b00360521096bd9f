"""What is measured, as pure functions of arrays: likeness, obedience to the prompt, edges, held-out loss.

Shapes: G generated pictures, R reference photos, P photos, D embedding features, T timestep strata, N noise draws.
Colour lives in :mod:`portrayal.evaluation.colour`, intervals in :mod:`portrayal.evaluation.intervals`; both can be
had from here.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from portrayal.evaluation.colour import Colour, colour_statistics
from portrayal.evaluation.intervals import Floats, Interval, mean_estimate, two_way_estimate

__all__ = [
    "Colour",
    "Interval",
    "colour_statistics",
    "copying",
    "cosine_matrix",
    "diversity",
    "edge_f1",
    "heldout_gain",
    "log_ratio",
    "mean_estimate",
    "nearest_photos",
    "normalised",
    "pck",
    "prompt_fidelity",
    "real_fidelity",
    "subject_fidelity",
    "two_way_estimate",
]


def cosine_matrix(a: ArrayLike, b: ArrayLike) -> Floats:
    """Cosine of every row of ``a`` ``(A, D)`` to every row of ``b`` ``(B, D)``: shape ``(A, B)``, in [-1, 1].

    A row of zeros, which an encoder makes of an image that shows nothing, has a cosine of 0 to every other.

    Raises:
        ValueError: If a set is empty, holds a non-finite row, or the sizes ``D`` differ.
    """
    unit_a, unit_b = _unit_rows(a), _unit_rows(b)
    if unit_a.shape[1] != unit_b.shape[1]:
        raise ValueError(f"embedding sizes differ: {unit_a.shape[1]} and {unit_b.shape[1]}")
    return np.clip(unit_a @ unit_b.T, -1.0, 1.0)


def subject_fidelity(generated: ArrayLike, references: ArrayLike) -> Floats:
    """Score how much each generated picture looks like the subject.

    Mean cosine to all references: the DINO metric of Ruiz et al. 2023, arXiv:2208.12242, Sec. 4.1, kept per picture
    so that models can be compared in pairs. Rewards memorisation when used alone: report it beside
    :func:`prompt_fidelity`, against photos held out of training.

    Args:
        generated: Image embeddings, shape ``(G, D)``, any scale; L2-normalised here.
        references: Embeddings of held-out photos from the same encoder, shape ``(R, D)``.

    Returns:
        Cosines in [-1, 1], no unit, shape ``(G,)``; higher means more alike.

    Raises:
        ValueError: If a set is empty, holds a non-finite row, or the sizes ``D`` differ.
    """
    return np.asarray(cosine_matrix(generated, references).mean(axis=1), dtype=np.float64)


def real_fidelity(references: ArrayLike, others: ArrayLike) -> Floats:
    """Real against real, the level a perfect model would reach: the "Real Images" row of arXiv:2208.12242, Table 1.

    Args:
        references: Embeddings of the held-out photos, shape ``(R, D)``.
        others: Embeddings of the training photos of the same person, shape ``(P, D)``; no photo in both.

    Returns:
        Mean cosine of each held-out photo to the others, in [-1, 1], shape ``(R,)``.

    Raises:
        ValueError: As :func:`subject_fidelity`.
    """
    return subject_fidelity(references, others)


def prompt_fidelity(images: ArrayLike, texts: ArrayLike) -> Floats:
    """Score how well each picture follows its own prompt: CLIP-T of Ruiz et al. 2023, arXiv:2208.12242, Sec. 4.1.

    Args:
        images: Image embeddings of a joint image-text encoder, shape ``(G, D)``.
        texts: Embedding of each picture's prompt, shape ``(G, D)``, the rare identifier left out.

    Returns:
        Cosines in [-1, 1], shape ``(G,)``; higher means more obedient.

    Raises:
        ValueError: If the shapes differ, nothing is given, or a row is not finite.
    """
    unit_images, unit_texts = _unit_rows(images), _unit_rows(texts)
    if unit_images.shape != unit_texts.shape:
        raise ValueError(f"one text per picture: shapes {unit_images.shape} and {unit_texts.shape}")
    return np.asarray(np.clip((unit_images * unit_texts).sum(axis=1), -1.0, 1.0), dtype=np.float64)


def normalised(value: float, stranger: float, real: float) -> float | None:
    """Place a likeness between a stranger (0) and the real person (1): ``(value - stranger) / (real - stranger)``.

    Returns:
        A fraction without unit, below 0 or above 1 when ``value`` lies outside; ``None`` when the encoder does not
        hold the person's own photos to be more alike than a stranger's, for then it cannot judge.
    """
    gap = real - stranger
    if not math.isfinite(gap) or gap <= 0:
        return None
    fraction = (value - stranger) / gap
    return fraction if math.isfinite(fraction) else None


def edge_f1(result_edges: NDArray[Any], control_edges: NDArray[Any], tolerance: float = 2.0) -> float:
    """How well the edges of a picture agree with the edges that a ControlNet was given.

    F1 of precision (result edges that lie near a control edge) and recall (control edges that the result has): the
    boundary measure of Martin, Fowlkes & Malik 2004, doi:10.1109/TPAMI.2004.1273918, with a distance in place of
    its one-to-one matching.

    Args:
        result_edges: Edge map of the generated picture, shape ``(H, W)``; anything but 0 is an edge.
        control_edges: The control image, same shape.
        tolerance: Greatest Euclidean distance that still counts as agreement, in pixels.

    Returns:
        F1 in [0, 1]. Two maps without edges agree (1); an empty one against a drawn one does not (0).

    Raises:
        ValueError: If the shapes differ, are empty or not two-dimensional, or the tolerance is negative.
    """
    result, control = np.asarray(result_edges) != 0, np.asarray(control_edges) != 0
    if result.shape != control.shape or result.ndim != 2 or result.size == 0 or tolerance < 0:
        raise ValueError(f"expected two equal maps (H, W) and a tolerance >= 0: {result.shape}, {control.shape}")
    if not result.any() or not control.any():
        return float(result.any() == control.any())
    precision = _share_near(result, control, tolerance)
    recall = _share_near(control, result, tolerance)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def pck(found: NDArray[Any], wanted: NDArray[Any], fraction: float = 0.1, seen: float = 0.3) -> float:
    """Share of the wanted joints that a picture has in their place: the percentage of correct keypoints.

    Yang & Ramanan 2013, doi:10.1109/TPAMI.2012.261: a joint is right within a fraction of the longer side of the
    box around the wanted joints. A joint that is not seen in the picture is wrong.

    Args:
        found: Joints of the picture, shape ``(J, 3)``: x, y in any unit, confidence.
        wanted: Joints of the control image, same shape and unit.
        fraction: Greatest distance, as a fraction of the box.
        seen: Confidence from which a joint counts.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: If the shapes differ, or no joint is wanted.
    """
    result, control = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    asked = control[:, 2] >= seen
    if result.shape != control.shape or not asked.any():
        raise ValueError(f"expected equal shapes (J, 3) and a joint to look for: {result.shape}, {control.shape}")
    reach = fraction * np.ptp(control[asked, :2], axis=0).max()
    distance = np.hypot(*(result - control)[asked, :2].T)
    return float(((distance <= reach) & (result[asked, 2] >= seen)).mean())


def diversity(embeddings: ArrayLike) -> float | None:
    """How different the pictures of one prompt are: 1 less their mean cosine to one another, 0 when all are alike.

    The DIV metric of Ruiz et al. 2023, arXiv:2208.12242, Sec. 4.4, on embeddings in place of LPIPS.

    Args:
        embeddings: Of the pictures of one prompt at different seeds, shape ``(K, D)``.

    Returns:
        A number in [0, 2]; nothing for a single picture.

    Raises:
        ValueError: As :func:`cosine_matrix`.
    """
    cosines = cosine_matrix(embeddings, embeddings)
    count = len(cosines)
    return None if count < 2 else float(1 - (cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def copying(generated: ArrayLike, training: ArrayLike, heldout: ArrayLike) -> Floats:
    """How much nearer each picture is to the nearest photo that was trained on than to the nearest that was not.

    A person looks alike in both; what a model copies is in the training photos alone. The nearest of many photos is
    nearer than that of few, so of the larger side the expected nearest of as many photos as the smaller side has is
    taken, over all such choices.

    Args:
        generated: Embeddings of pictures, shape ``(G, D)``, from an encoder of the whole picture.
        training: Of the training photos, shape ``(N, D)``.
        heldout: Of photos of the same person that were held out, shape ``(R, D)``.

    Returns:
        Differences of cosines, in [-2, 2], shape ``(G,)``; about 0 when nothing was copied.

    Raises:
        ValueError: As :func:`cosine_matrix`.
    """
    trained, unseen = cosine_matrix(generated, training), cosine_matrix(generated, heldout)
    size = min(trained.shape[1], unseen.shape[1])
    return _expected_largest(trained, size) - _expected_largest(unseen, size)


def nearest_photos(generated: ArrayLike, photos: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Which photo each picture is nearest to, and how near.

    Args:
        generated: Embeddings of pictures, shape ``(G, D)``, from an encoder of the whole picture.
        photos: Of photos, shape ``(N, D)``.

    Returns:
        Places of the photos and the cosines, both of shape ``(G,)``.

    Raises:
        ValueError: As :func:`cosine_matrix`.
    """
    cosines = cosine_matrix(generated, photos)
    return cosines.argmax(axis=1), cosines.max(axis=1)


def _expected_largest(values: Floats, size: int) -> Floats:
    """Mean, over all choices of ``size`` of the ``n`` values in each row, of the largest chosen."""
    count = values.shape[1]
    shares = np.array([math.comb(count - 1 - place, size - 1) for place in range(count)]) / math.comb(count, size)
    return np.asarray(-np.sort(-values, axis=1) @ shares, dtype=np.float64)


def log_ratio(model_losses: ArrayLike, base_losses: ArrayLike) -> Floats:
    """Log of model loss over base loss, for each photo and timestep stratum, the noise averaged first.

    Both models must have seen the same photos, timesteps and noise; the base then acts as a control variate and
    takes out nearly all of the variance, which is the timestep's and the noise's.

    Args:
        model_losses: Losses of one model, shape ``(P, T, N)``, all above 0.
        base_losses: Losses of the untouched base on the same cells, same shape.

    Returns:
        ``log(mean_N model / mean_N base)``, shape ``(P, T)``; below 0 where the model is better.

    Raises:
        ValueError: If the shapes differ or a loss is not above 0 and finite.
    """
    model, base = np.asarray(model_losses, dtype=np.float64), np.asarray(base_losses, dtype=np.float64)
    if model.shape != base.shape or model.ndim != 3 or model.size == 0:
        raise ValueError(f"expected two equal shapes (P, T, N), got {model.shape} and {base.shape}")
    if not (np.isfinite(model).all() and np.isfinite(base).all() and (model > 0).all() and (base > 0).all()):
        raise ValueError("a loss is not above 0 and finite")
    return np.asarray(np.log(model.mean(axis=2) / base.mean(axis=2)), dtype=np.float64)


def heldout_gain(log_ratio: Interval) -> Interval:
    """Fraction by which the loss on held-out photos fell below the base's: ``1 - exp(log ratio)``.

    Args:
        log_ratio: Mean of :func:`log_ratio` over photos and timestep strata. Every stratum weighs the same, so that the
            large losses of small timesteps do not speak for all.

    Returns:
        The gain, without unit, below 1; 0.02 means 2 % less loss, negative means worse than the base.
    """
    low = None if log_ratio.high is None else -math.expm1(log_ratio.high)
    high = None if log_ratio.low is None else -math.expm1(log_ratio.low)
    return Interval(-math.expm1(log_ratio.mean), low, high)


def _unit_rows(embeddings: ArrayLike) -> Floats:
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0 or not np.isfinite(rows).all():
        raise ValueError(f"expected finite embeddings (n, D), got shape {rows.shape}")
    largest = np.abs(rows).max(axis=1, keepdims=True)
    shows_nothing = largest == 0
    rows = rows / np.where(shows_nothing, 1, largest)  # first to a safe size: squares of very small numbers vanish
    norms = np.where(shows_nothing, 1, np.linalg.norm(rows, axis=1, keepdims=True))
    return np.asarray(rows / norms, dtype=np.float64)


def _share_near(edges: NDArray[np.bool_], targets: NDArray[np.bool_], tolerance: float) -> float:
    """Fraction of ``edges`` at most ``tolerance`` pixels away from the nearest of ``targets``."""
    distance = cv2.distanceTransform((~targets).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[edges] <= tolerance).mean())
