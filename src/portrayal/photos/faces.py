"""Find faces: by YuNet when its file is at hand, by the Haar cascades that come with OpenCV otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from portrayal.errors import WeightsError

YUNET_HUB_ID: Final = "opencv/face_detection_yunet"
YUNET_FILE: Final = "face_detection_yunet_2023mar.onnx"
"""YuNet (Wu, Peng and Yu 2023, doi:10.1007/s11633-023-1423-y), MIT licence, 230 kB."""

FRONTAL = "haarcascade_frontalface_alt2.xml"
"""Of OpenCV's frontal cascades, the fastest and the one with the fewest false alarms: with `SECOND_FRONTAL` one
(a cup) in 240 pictures of drawn people, of whom every second is found, and none in six of a dog."""

SECOND_FRONTAL = "haarcascade_frontalface_alt.xml"
PROFILE = "haarcascade_profileface.xml"

LEAST_FACES: Final = {FRONTAL: 10, SECOND_FRONTAL: 10, PROFILE: 5}
"""How many of the smallest face each looks for fit into the short side; looking for profiles of half that size would
take twice as long, and they are a second chance."""

NEIGHBOURS, CONFIRMING_NEIGHBOURS, SURE, PROFILE_NEIGHBOURS = 5, 3, 12, 6
"""Windows that must agree on a face. Below `SURE` the second cascade must see it too: real faces have 30 and more,
the nose of a dog had 6. Profiles are looked for only where no frontal face is found."""

DETECTION_SIDE, PROFILE_SIDE, YUNET_SIDE = 400, 200, 480
"""Short side of the copy in which faces are looked for; 85 ms of one core where a face is found, 170 where not."""

MAX_ENLARGED = 2.0
"""Small pictures are enlarged for looking, by no more than this: faces below 24 pixels are not seen at all."""

YUNET_SCORE = 0.7
NON_MAXIMUM_SUPPRESSION = 0.3

Grey = npt.NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    def scaled(self, factor: float) -> Box:
        """The same rectangle in a picture `factor` times as large."""
        return Box(*(round(value * factor) for value in self))


class Face(NamedTuple):
    """One face, from brow to chin."""

    box: Box
    score: float
    """How sure the detector is, from 0 to 1: YuNet's own score, or `n / (n + 5)` where `n` of the cascade's windows
    agree. The two do not compare."""


class _Detectors(threading.local):
    """OpenCV's detectors keep scratch memory: each thread has its own, loaded when first used."""

    def __init__(self) -> None:
        self.cascades: dict[str, Any] = {}
        self.yunet: dict[Path, Any] = {}


_detectors = _Detectors()


def find_faces(image: Image.Image, yunet: Path | None = None) -> list[Face]:
    """Find the faces of an upright RGB picture, the largest first.

    Haar cascades (Viola and Jones 2001) see frontal faces and, where there is none, profiles; YuNet sees turned,
    tilted and half-hidden ones too. A missed face costs a worse crop, never a cut through what was found.

    Args:
        image: The picture, at any size.
        yunet: YuNet's ONNX file; nothing means the cascades.

    Raises:
        WeightsError: If `yunet` is no ONNX file that OpenCV can read.
    """
    side = DETECTION_SIDE if yunet is None else YUNET_SIDE
    scale = min(MAX_ENLARGED, side / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    found = _by_cascades(np.asarray(small.convert("L"))) if yunet is None else _by_yunet(np.asarray(small), yunet)
    faces = [Face(_enlarged(box, scale, image.size), score) for box, score in found]
    return sorted(faces, key=lambda face: (-face.box.width * face.box.height, face.box))


def find_landmarks(image: Image.Image, yunet: Path) -> npt.NDArray[np.float64] | None:
    """The points of the largest face in an upright RGB picture: eyes, tip of the nose, corners of the mouth.

    Args:
        image: The picture, at any size.
        yunet: YuNet's ONNX file.

    Returns:
        `(5, 2)`: x and y in the picture's pixels, from the picture's left to its right; nothing without a face.

    Raises:
        WeightsError: If `yunet` is no ONNX file that OpenCV can read.
    """
    scale = min(MAX_ENLARGED, YUNET_SIDE / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    rows = _yunet_rows(np.asarray(small), yunet)
    if not len(rows):
        return None
    largest = max(rows, key=lambda row: row[2] * row[3])
    return np.asarray(largest[4:14], dtype=np.float64).reshape(5, 2) / (size[0] / image.width, size[1] / image.height)


def _by_yunet(small: npt.NDArray[np.uint8], file: Path) -> Iterator[tuple[tuple[float, ...], float]]:
    for row in _yunet_rows(small, file):
        yield tuple(float(value) for value in row[:4]), float(row[14])


def _yunet_rows(small: npt.NDArray[np.uint8], file: Path) -> Any:
    """What YuNet finds: of each face its box, five points and score."""
    detector = _detectors.yunet.get(file)
    try:
        if detector is None:
            detector = cv2.FaceDetectorYN.create(
                str(file), "", (320, 320), score_threshold=YUNET_SCORE, nms_threshold=NON_MAXIMUM_SUPPRESSION
            )
            _detectors.yunet[file] = detector
    except (cv2.error, SystemError) as error:
        raise WeightsError(
            f"{file} is damaged, or not YuNet's ONNX file.", "Fetch it again: portrayal models fetch yunet"
        ) from error
    detector.setInputSize((small.shape[1], small.shape[0]))
    _, rows = detector.detect(np.ascontiguousarray(small[..., ::-1]))
    return () if rows is None else rows


def _by_cascades(grey: Grey) -> Iterator[tuple[tuple[float, ...], float]]:
    candidates = _by_cascade(grey, FRONTAL, NEIGHBOURS)
    frontal = [(box, score) for box, score in candidates if score >= SURE / (SURE + 5) or _confirmed(grey, box)]
    if frontal:
        yield from frontal
        return
    shrunk = min(1.0, PROFILE_SIDE / min(grey.shape))
    size = (max(1, round(grey.shape[1] * shrunk)), max(1, round(grey.shape[0] * shrunk)))
    grey = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
    for box, score in _profiles(grey):
        yield tuple(value / shrunk for value in box), score


def _profiles(grey: Grey) -> Iterator[tuple[tuple[float, ...], float]]:
    """The cascade knows one cheek only; the mirrored picture shows it the other."""
    yield from _by_cascade(grey, PROFILE, PROFILE_NEIGHBOURS)
    for (left, top, wide, high), score in _by_cascade(np.ascontiguousarray(grey[:, ::-1]), PROFILE, PROFILE_NEIGHBOURS):
        yield (grey.shape[1] - left - wide, top, wide, high), score


def _confirmed(grey: Grey, box: tuple[float, ...]) -> bool:
    """Whether the second cascade sees a face of that size there, too."""
    left, top, side = (int(value) for value in box[:3])
    around = side // 3
    part = grey[max(0, top - around) : top + side + around, max(0, left - around) : left + side + around]
    found = _by_cascade(np.ascontiguousarray(part), SECOND_FRONTAL, CONFIRMING_NEIGHBOURS)
    return any(box[2] > side / 2 for box, _ in found)


def _by_cascade(grey: Grey, name: str, neighbours: int) -> Iterator[tuple[tuple[float, ...], float]]:
    cascade = _cascade(name)
    if cascade is None:
        return
    smallest = max(24, min(grey.shape) // LEAST_FACES[name])
    boxes, votes = cascade.detectMultiScale2(
        grey, scaleFactor=1.1, minNeighbors=neighbours, minSize=(smallest, smallest)
    )
    for box, vote in zip(boxes, votes, strict=True):
        yield tuple(float(value) for value in box), float(vote) / (float(vote) + 5)


def _cascade(name: str) -> Any | None:
    """This thread's cascade, or nothing where OpenCV has none (its version 5 dropped them)."""
    if name not in _detectors.cascades:
        file = Path(getattr(getattr(cv2, "data", None), "haarcascades", "")) / name
        there = hasattr(cv2, "CascadeClassifier") and file.is_file()
        _detectors.cascades[name] = cv2.CascadeClassifier(str(file)) if there else None
    return _detectors.cascades[name]


def _enlarged(box: tuple[float, ...], scale: float, size: tuple[int, int]) -> Box:
    """Bring a box found in the small copy back to the photo's own pixels, and what hangs over the edge inside."""
    left, top = (max(0, min(round(value / scale), most - 1)) for value, most in zip(box[:2], size, strict=True))
    right, bottom = (
        max(1, min(round((start + length) / scale), most))
        for start, length, most in zip(box[:2], box[2:], size, strict=True)
    )
    return Box(left, top, max(1, right - left), max(1, bottom - top))
