"""Faces brought upright and told apart, with stand-ins of the networks' own shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from portrayal.config import SubjectConfig
from portrayal.errors import WeightsError
from portrayal.models import encoders
from portrayal.models.encoders import Judging, load_encoders
from portrayal.models.identity import TEMPLATE, aligned, arcface_features, face_embeddings, sface_features
from portrayal.models.source import BaseSource


def write_recogniser(file: Path, *, side: int = 112, features: int = 16) -> Path:
    """A network of AuraFace's inputs and outputs: the face in a coarse grid, mixed at random."""
    generator = np.random.default_rng(0)
    pooled = side // 14 * (side // 14) * 3
    weight = numpy_helper.from_array(generator.standard_normal((pooled, features)).astype(np.float32), "weight")
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["pooled"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["683"]),
    ]
    taken = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, side, side])
    given = helper.make_tensor_value_info("683", TensorProto.FLOAT, [1, features])
    graph = helper.make_graph(nodes, "face", [taken], [given], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, file)
    return file


def drawn_face(angle: float = 0.0, scale: float = 1.5, colour: int = 90) -> tuple[Image.Image, np.ndarray]:
    """A face of blobs at the template's places, turned and scaled; and where they are now."""
    turn = scale * np.exp(1j * np.radians(angle))
    centre = 56 + 56j
    places = ((TEMPLATE @ [1, 1j]) - centre) * turn + 150 + 140j
    points = np.stack([places.real, places.imag], axis=1)
    picture = np.full((300, 300, 3), 200, np.uint8)
    for number, (x, y) in enumerate(points):
        cv2.circle(picture, (round(x), round(y)), round(6 * scale), (colour, 40 * number, 255 - 40 * number), -1)
    return Image.fromarray(picture), points


def test_a_turned_face_comes_upright() -> None:
    upright = aligned(*drawn_face(0, 1.0)).astype(int)

    for angle, scale in ((0, 1.6), (25, 1.2), (-70, 2.0), (180, 1.0)):
        found = aligned(*drawn_face(angle, scale)).astype(int)
        assert np.abs(found - upright).mean() < 6, (angle, scale)


def test_one_face_is_itself_and_another_is_not(tmp_path: Path) -> None:
    faces = {}
    for key, options in {"a": {}, "a turned": {"angle": 30.0}, "b": {"colour": 250}}.items():
        picture, points = drawn_face(**options)
        faces[picture.tobytes()] = points
        faces[key] = picture
    pictures = [faces["a"], faces["a turned"], faces["b"], Image.new("RGB", (80, 80), "green")]
    features = arcface_features(write_recogniser(tmp_path / "net.onnx", features=512))

    rows = face_embeddings(pictures, lambda picture: faces.get(picture.tobytes()), features)

    cosines = rows @ rows.T
    assert np.allclose(np.diag(cosines), 1, atol=1e-5)
    assert cosines[0, 1] > 0.98
    assert cosines[0, 1] > cosines[0, 2]
    assert np.abs(cosines[3, :3]).max() < 0.2  # no face is like nobody
    assert rows.dtype == np.float32


def test_without_any_face_there_are_embeddings_all_the_same() -> None:
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]

    rows = face_embeddings(pictures, lambda _: None, lambda _: np.ones(4, np.float32))

    assert rows.shape == (2, 512)
    assert abs(float(rows[0] @ rows[1])) < 0.2


def test_a_file_that_is_no_recogniser_is_said(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    with pytest.raises(WeightsError, match="damaged"):
        arcface_features(tmp_path / "odd.onnx")
    with pytest.raises(WeightsError, match="SFace"):
        sface_features(tmp_path / "odd.onnx")
    with pytest.raises(WeightsError, match="112"):
        arcface_features(write_recogniser(tmp_path / "large.onnx", side=224))


SOURCE = BaseSource("sd15", "folder", Path())
CPU = torch.device("cpu")


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Known models that can be had; their files are stand-ins, and DINOv2 and the CLIP are marked names."""
    there: set[str] = set()

    def fetched(name: str) -> Path:
        if name not in there:
            raise WeightsError(f"{name} is not here.", f"portrayal models fetch {name}")
        folder = tmp_path / name / "abc123"
        folder.mkdir(parents=True, exist_ok=True)
        write_recogniser(folder / "glintr100.onnx")
        return folder

    def found_faces() -> Any:
        fetched("yunet")
        return lambda _: None

    monkeypatch.setattr(encoders, "fetch_known", fetched)
    monkeypatch.setattr(encoders, "yunet_landmarks", found_faces)
    monkeypatch.setattr(encoders, "DINO", "dinov2")
    monkeypatch.setattr(encoders, "CLIP", "clip")
    monkeypatch.setattr(
        encoders, "dino_scorer", lambda *_: encoders.Scorer("DINOv2", "Apache-2.0", lambda _: np.ones(1))
    )
    return there


def judged(judging: Judging) -> tuple[str | None, str]:
    found = load_encoders(SOURCE, CPU, judging)
    return (found.identity.name if found.identity else None), " ".join(found.notes)


def test_people_are_judged_by_their_faces_where_that_can_be_had(at_hand: set[str]) -> None:
    assert judged(Judging())[0] is None
    at_hand |= {"dinov2"}
    name, notes = judged(Judging())
    assert name == "DINOv2"
    assert "identity by auraface" in notes
    assert "portrayal models fetch" in notes
    at_hand |= {"yunet", "auraface"}
    assert judged(Judging())[0] == "AuraFace v1"
    assert judged(Judging(person=False))[0] == "DINOv2"
    assert judged(Judging("dinov2"))[0] == "DINOv2"


def test_licence_and_revision_are_recorded(at_hand: set[str]) -> None:
    at_hand |= {"yunet", "auraface"}
    identity = load_encoders(SOURCE, CPU).identity
    assert identity is not None
    assert identity.as_json() == {"name": "AuraFace v1", "licence": "Apache-2.0", "revision": "abc123"}


def test_a_recogniser_of_one_s_own_is_taken_by_its_file_alone(at_hand: set[str], tmp_path: Path) -> None:
    at_hand |= {"yunet", "auraface"}
    file = write_recogniser(tmp_path / "arcface.onnx")
    identity = load_encoders(SOURCE, CPU, Judging(str(file))).identity
    assert identity is not None
    assert identity.licence == "not known"
    assert len(identity.revision) == 64
    name, notes = judged(Judging(str(tmp_path / "no.onnx")))
    assert name is None
    assert "no file" in notes


@pytest.mark.parametrize(
    ("noun", "person"), [("woman", True), ("young Man", True), ("dog", False), ("teddy bear", False)]
)
def test_nouns_of_people_are_known(noun: str, person: bool) -> None:
    assert SubjectConfig(class_noun=noun).person is person


def write_mean_colours(file: Path, taken: str, given: str) -> Path:
    """A network that answers with the mean of each channel, in the order in which it is shown them."""
    nodes = [
        helper.make_node("GlobalAveragePool", [taken], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [given]),
    ]
    inputs = helper.make_tensor_value_info(taken, TensorProto.FLOAT, [1, 3, 112, 112])
    outputs = helper.make_tensor_value_info(given, TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "face", [inputs], [outputs])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    return file


FACE = np.full((112, 112, 3), (255, 102, 0), np.uint8)


def test_arcface_is_shown_red_first_from_minus_one_to_one(tmp_path: Path) -> None:
    """As insightface shows faces: `(face - 127.5) / 127.5`, RGB."""
    found = arcface_features(write_mean_colours(tmp_path / "net.onnx", "input.1", "683"))(FACE)
    assert found.tolist() == pytest.approx([1.0, -0.2, -1.0], abs=1e-4)


def test_sface_is_shown_red_first_as_bytes(tmp_path: Path) -> None:
    """OpenCV takes blue first, and turns it round for the network."""
    found = sface_features(write_mean_colours(tmp_path / "net.onnx", "data", "fc1"))(FACE)
    assert found.tolist() == pytest.approx([255.0, 102.0, 0.0], abs=1e-3)
