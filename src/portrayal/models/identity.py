"""Whose face it is: faces found by YuNet, brought upright, and told apart by AuraFace or SFace.

Shapes: N pictures, D features of a face.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portrayal.errors import WeightsError
from portrayal.models.store import fetch_known
from portrayal.photos.faces import find_landmarks

SIDE = 112
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""Where eyes, tip of the nose and corners of the mouth lie in an upright face of 112 pixels, as face recognisers are
trained (Deng et al. 2019, arXiv:1801.07698): image left to right."""

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""An upright face, RGB `(112, 112, 3)`, → `(D,)`."""

Landmarks = Callable[[Image.Image], NDArray[np.float64] | None]
"""The five points of the largest face in a picture, `(5, 2)` in pixels, or nothing."""


def face_embeddings(pictures: Sequence[Image.Image], find: Landmarks, features: Features) -> NDArray[np.float32]:
    """Embeddings of the largest face in each picture, `(N, D)`, of length 1.

    A picture without a face gets a direction of its own, drawn from its pixels, that is like nobody's: in so many
    dimensions cosines to others are about 0.
    """
    found: list[NDArray[np.float32] | None] = []
    for picture in pictures:
        points = find(picture)
        face = None if points is None else features(aligned(picture, points))
        found.append(None if face is None or not np.linalg.norm(face) else face / np.linalg.norm(face))
    size = next((len(face) for face in found if face is not None), 512)
    rows = [own_direction(one, size) if face is None else face for one, face in zip(pictures, found, strict=True)]
    return np.stack(rows).astype(np.float32)


def own_direction(picture: Image.Image, size: int) -> NDArray[np.float32]:
    """A unit vector that depends on the picture alone."""
    seed = int.from_bytes(hashlib.sha256(picture.convert("RGB").tobytes()).digest()[:8], "little")
    drawn = np.random.default_rng(seed).standard_normal(size)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float32)


def aligned(picture: Image.Image, points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The face upright, RGB `(112, 112, 3)`: moved, turned and scaled so that its points lie nearest the template's.

    As complex numbers the least-squares similarity is `z → a·z + b` with
    `a = Σ conj(z − z̄)(w − w̄) / Σ |z − z̄|²` (Umeyama 1991, without the reflection).
    """
    here, there = points @ [1, 1j], TEMPLATE @ [1, 1j]
    centred, wanted = here - here.mean(), there - there.mean()
    turn = (np.conj(centred) @ wanted) / np.maximum(np.sum(np.abs(centred) ** 2), 1e-9)
    shift = there.mean() - turn * here.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    pixels = np.asarray(picture.convert("RGB"))
    return np.asarray(cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def yunet_landmarks() -> Landmarks:
    """YuNet's, fetched if it must be.

    Raises:
        WeightsError: If it cannot be had.
    """
    file = fetch_known("yunet") / "face_detection_yunet_2023mar.onnx"
    return lambda picture: find_landmarks(picture, file)


def arcface_features(file: Path) -> Features:
    """An ArcFace-like network (AuraFace's `glintr100.onnx`) by ONNX Runtime, on the CPU.

    Raises:
        WeightsError: If the file is damaged, or takes no faces of 112 pixels.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    try:
        session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise WeightsError(f"{file} is damaged, or no ONNX file: {error}.", "Get it again.") from error
    (taken, *others) = session.get_inputs()
    if others or list(taken.shape[1:]) != [3, SIDE, SIDE]:
        raise WeightsError(
            f"{file} takes {taken.shape}, not one upright face of {SIDE} × {SIDE} pixels.",
            "Give an ArcFace-like recogniser.",
        )

    def features(face: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = (face.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5
        return np.asarray(session.run(None, {taken.name: pixels})[0], dtype=np.float32).ravel()

    return features


def sface_features(file: Path) -> Features:
    """SFace (Zhong et al. 2021, arXiv:2205.12010) by OpenCV.

    Raises:
        WeightsError: If the file is damaged.
    """
    try:
        recogniser = cv2.FaceRecognizerSF.create(str(file), "")
    except (cv2.error, SystemError) as error:
        raise WeightsError(
            f"{file} is damaged, or not SFace's ONNX file.", "Fetch it again: portrayal models fetch sface"
        ) from error
    return lambda face: np.asarray(recogniser.feature(np.ascontiguousarray(face[..., ::-1])), np.float32).ravel()
