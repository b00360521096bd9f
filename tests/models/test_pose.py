"""Reading poses: where heatmaps peak, and who can read at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from portrayal.errors import UsageError, WeightsError
from portrayal.generation.annotators import openpose
from portrayal.models import store
from portrayal.models.pose import PhotoPoseReader, PoseReader, check_pose_reader, load_pose_reader, peaks, widened
from portrayal.models.source import BaseSource


def heatmap(x: float, y: float, height: float = 1.0, side: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return height * np.exp(-((columns - x * side) ** 2 + (rows - y * side) ** 2) / 8)


def small_reader() -> PoseReader:
    """A reader of the right classes with random weights."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        image_size=[128, 128], patch_size=[8, 8], hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config = VitPoseConfig(backbone_config=backbone, scale_factor=4, use_simple_decoder=True, num_labels=17)
    return PoseReader(VitPoseForPoseEstimation(config).eval())


def test_peaks_are_found_between_cells() -> None:
    wanted = [(0.5, 0.25), (0.333, 0.8), (0.004, 0.996)]
    found = peaks(np.array([[heatmap(x, y, 0.9) for x, y in wanted]]))[0]
    assert np.abs(found[:2, :2] - wanted[:2]).max() < 1e-4
    assert np.abs(found[2, :2] - wanted[2]).max() < 1 / 64  # beyond the outermost cells' centres nothing is refined
    assert found[:2, 2] == pytest.approx(0.9, abs=0.1)


def test_flat_heatmaps_are_not_sure() -> None:
    assert (peaks(np.full((1, 17, 8, 8), -1.0))[0, :, 2] == 0).all()


def test_a_reader_reads_pictures_of_any_size() -> None:
    pictures = [Image.new("RGB", size, "grey") for size in ((128, 128), (40, 70))] * 9
    keypoints = small_reader().keypoints(pictures)
    assert keypoints.shape == (18, 17, 3)
    assert ((keypoints >= 0) & (keypoints <= 1)).all()


def test_a_picture_of_nobody_is_refused() -> None:
    class Blind(PoseReader):
        def keypoints(self, pictures: object) -> np.ndarray:
            return np.zeros((1, 17, 3))

    with pytest.raises(UsageError, match="No pose can be made out"):
        openpose(Image.new("RGB", (64, 64)), Blind(None))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "online", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("offline")
def test_other_bases_are_told_what_to_fetch_or_to_bring_a_skeleton() -> None:
    with pytest.raises(WeightsError, match=r"control\.ready_made=true") as caught:
        check_pose_reader(BaseSource("owner/name", "hub", Path("nowhere")))
    assert "portrayal models fetch vitpose rtdetr" in caught.value.remedy


class Finder(torch.nn.Module):
    """Sees these people: chance, and middle and size as parts of the picture."""

    def __init__(self, *people: tuple[float, float, float, float, float]) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.people = people

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        assert pixel_values.shape == (1, 3, 640, 640)
        logits = torch.full((1, len(self.people), 80), -9.0)
        logits[0, :, 0] = torch.tensor([person[0] for person in self.people]).logit()
        return SimpleNamespace(logits=logits, pred_boxes=torch.tensor([[person[1:] for person in self.people]]))


class Pointer(torch.nn.Module):
    """Points at the brightest place of the cut, for every joint."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(backbone_config=SimpleNamespace(image_size=(256, 192)))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        assert pixel_values.shape == (1, 3, 256, 192)
        bright = torch.nn.functional.avg_pool2d(pixel_values.mean(dim=1, keepdim=True), 4)
        return SimpleNamespace(heatmaps=(bright / bright.max()).clamp(0, 1).expand(-1, 17, -1, -1))


def lit(x: float, y: float, size: tuple[int, int] = (400, 300)) -> Image.Image:
    picture = Image.new("RGB", size, "black")
    place = (round(x * size[0]), round(y * size[1]))
    picture.paste("white", (place[0] - 8, place[1] - 8, place[0] + 8, place[1] + 8))
    return picture.filter(ImageFilter.GaussianBlur(3))


@pytest.mark.parametrize("where", [(0.3, 0.4), (0.22, 0.6), (0.38, 0.3)])
def test_places_in_the_cut_are_told_as_places_in_the_picture(where: tuple[float, float]) -> None:
    reader = PhotoPoseReader(Pointer().eval(), Finder((0.9, 0.3, 0.5, 0.25, 0.6), (0.9, 0.8, 0.8, 0.1, 0.1)).eval())

    found = reader.keypoints([lit(*where)])[0]

    assert np.abs(found[:, :2] - where).max() < 0.01
    assert (found[:, 2] > 0.9).all()


def test_where_nobody_is_found_nothing_is_sure() -> None:
    reader = PhotoPoseReader(Pointer().eval(), Finder((0.1, 0.5, 0.5, 0.9, 0.9)).eval())

    assert not reader.keypoints([lit(0.5, 0.5)])[0, :, 2].any()


def test_joints_beyond_the_edge_are_not_sure() -> None:
    """A person cut off by the picture's edge: the box widened for the reader reaches beyond it."""
    left, top, wide, high = widened((0, 0, 100, 100), (400, 300), 0.75)

    assert (wide, high) == (125, pytest.approx(125 / 0.75))
    assert left < 0
    assert top < 0


def test_the_networks_own_classes_fit() -> None:
    """ViTPose and RT-DETR of transformers with random weights, as they are saved and loaded."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 16, 16, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    sizes = {
        "d_model": 16,
        "encoder_hidden_dim": 16,
        "encoder_in_channels": [16, 16, 16],
        "encode_proj_layers": [2],
        "feat_strides": [8, 16, 32],
        "decoder_in_channels": [16] * 3,
    }
    sizes |= {"decoder_layers": 1, "num_queries": 8, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_denoising": 0}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    finder = RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **sizes)).eval()
    reader = PhotoPoseReader(small_reader().model, finder)

    found = reader.keypoints([lit(0.5, 0.5)])

    assert found.shape == (1, 17, 3)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.usefixtures("needs_pose")
def test_the_embedded_reader_reads_a_drawn_person(pocket) -> None:
    from portrayal.photos import read_photo

    reader = load_pose_reader(pocket.source, torch.device("cpu"))
    photo = read_photo(sorted((Path(__file__).parents[2] / "examples" / "photos").glob("*.jpg"))[0]).image
    assert reader.keypoints([photo]).shape == (1, 17, 3)


class Looking(torch.nn.Module):
    """Keeps what it is shown; points at nothing."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(backbone_config=SimpleNamespace(image_size=(height, width)))
        self.seen: list[torch.Tensor] = []

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        self.seen.append(pixel_values)
        return SimpleNamespace(heatmaps=torch.zeros(len(pixel_values), 17, 4, 4))


class LookingFinder(Finder):
    """A finder that keeps what it is shown."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        self.seen = pixel_values
        return super().forward(pixel_values)


def test_networks_see_the_colours_they_were_trained_with() -> None:
    """ViTPose for photographs ImageNet's, RT-DETR 0 to 1, pocket's reader -1 to 1: as their preprocessors say."""
    picture = Image.new("RGB", (400, 300), (255, 51, 0))
    finder, photographs, drawings = LookingFinder((0.9, 0.5, 0.5, 0.2, 0.2)), Looking(256, 192), Looking(128, 128)

    PhotoPoseReader(photographs.eval(), finder.eval()).keypoints([picture])
    PoseReader(drawings.eval()).keypoints([picture])

    for seen, expected in (
        (finder.seen, [1.0, 0.2, 0.0]),
        (photographs.seen[0], [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225]),
        (drawings.seen[0], [1.0, -0.6, -1.0]),
    ):
        assert seen[0, :, 64, 64].tolist() == pytest.approx(expected, abs=1e-5)


def test_of_several_people_the_largest_is_read_and_only_those_who_are_seen() -> None:
    """Whichever is named first; whoever is surer."""
    small, large, unsure = (0.95, 0.8, 0.5, 0.1, 0.2), (0.5, 0.3, 0.5, 0.3, 0.6), (0.2, 0.5, 0.5, 0.9, 0.9)
    for people in ((small, large, unsure), (unsure, large, small)):
        found = PhotoPoseReader(Pointer().eval(), Finder(*people).eval()).keypoints([lit(0.3, 0.4)])[0]
        assert np.abs(found[:, :2] - (0.3, 0.4)).max() < 0.01


@pytest.mark.usefixtures("needs_pose")
@torch.no_grad()
def test_the_embedded_reader_points_where_its_own_class_does(pocket) -> None:
    """ViTPose of transformers over the same pixels; each joint is within a cell of where its heatmap is highest."""
    from transformers import VitPoseForPoseEstimation

    from portrayal.pocket import WEIGHTS

    model = VitPoseForPoseEstimation.from_pretrained(WEIGHTS / "pose").eval()
    picture = Image.open(sorted((Path(__file__).parents[2] / "examples" / "photos").glob("*.jpg"))[0]).convert("RGB")
    height, width = model.config.backbone_config.image_size
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
    heatmaps = model(pixel_values=torch.from_numpy(pixels).permute(2, 0, 1)[None]).heatmaps[0].numpy()

    found = load_pose_reader(pocket.source, torch.device("cpu")).keypoints([picture])[0]

    for joint, heatmap in enumerate(heatmaps):
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        middle = ((x + 0.5) / heatmap.shape[1], (y + 0.5) / heatmap.shape[0])
        assert np.abs(found[joint, :2] - middle).max() <= 0.51 / min(heatmap.shape)
        assert found[joint, 2] == pytest.approx(float(np.clip(heatmap.max(), 0, 1)), abs=1e-4)
