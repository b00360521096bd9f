"""Each picture is looked at once, however often scores are measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from portrayal.evaluation.judge import Judge, Look
from portrayal.models.encoders import Encoders, Scorer


def test_a_picture_is_looked_at_once_and_keeps_its_place() -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(5)]
    seen: list[int] = []

    def embed(images: Any) -> np.ndarray:
        seen.append(len(images))
        return np.array([np.asarray(image, np.float32).mean((0, 1)) for image in images])

    evidence: Any = SimpleNamespace(photos={"a": pictures[0], "b": pictures[1]})
    encoders = Encoders(Scorer("mean colour", "none", embed), None)
    known: dict[bytes, Look] = {}
    judge = Judge(evidence, encoders, known)
    looked = judge.look([pictures[3], pictures[0], pictures[4], pictures[3]])
    assert seen == [2, 2]  # the photos, then what is new
    assert looked.prompt is None
    assert looked.identity is not None
    wanted = [np.asarray(pictures[place], np.float64).mean((0, 1)) for place in (3, 0, 4, 3)]
    assert np.allclose(looked.identity, wanted, atol=1e-4)
    assert len(looked.colours) == 4
    again = Judge(evidence, encoders, known).look(pictures[3:])
    assert seen == [2, 2]
    assert np.allclose(np.asarray(again.identity), wanted[0:1] + wanted[2:3], atol=1e-4)
