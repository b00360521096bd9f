"""What measures the base: the judge, the pose reader's decoding, the scores, and the card that shows them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

pytest.importorskip("skia", reason="skia-python does not load here; it needs libEGL and libGL", exc_type=ImportError)

from pretraining import scores
from pretraining.bench import NAMED
from pretraining.card import model_card
from pretraining.data import canny
from pretraining.dataset import Dataset
from pretraining.evaluate import held_out_prompts
from pretraining.judge import build_judge, judge_logits, judgement_loss, load_judge, save_judge
from pretraining.pose import build_pose_reader, decode_heatmaps, pck, read_keypoints, target_heatmaps
from pretraining.world import LABELS, captions, labels, sample_person, sample_shot

SEED = 5


def _pixels(count: int, size: int = 128) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _undrawn(people: int, per_person: int) -> Dataset:
    """Labels as :func:`pretraining.data.render` draws them, without the pictures."""
    found = []
    for index in range(people):
        rng = np.random.default_rng([SEED, index])
        person = sample_person(rng)
        for _ in range(per_person):
            shot = sample_shot(rng, gender=person.gender)
            captions(person, shot, rng, 4)
            found.append(labels(person, shot))
    nothing = torch.zeros(people * per_person, 1)
    return Dataset(nothing, nothing, nothing, nothing, torch.from_numpy(np.stack(found)), nothing, per_person)


def test_a_judge_survives_being_saved(tmp_path: Path) -> None:
    judge = build_judge().eval()
    save_judge(judge, tmp_path)
    again, pixels = load_judge(tmp_path), _pixels(2)
    assert judge.features(pixels).shape == (2, 256)
    for kind, logits in judge_logits(again, pixels).items():
        assert logits.shape == (2, len(LABELS[kind]))
        torch.testing.assert_close(logits, judge_logits(judge, pixels)[kind], atol=0.02, rtol=0.02)


def test_a_judge_of_other_labels_is_refused(tmp_path: Path) -> None:
    save_judge(build_judge(), tmp_path)
    text = (tmp_path / "judge.json").read_text()
    (tmp_path / "judge.json").write_text(text.replace("kitchen", "moon"))
    with pytest.raises(ValueError, match="other labels"):
        load_judge(tmp_path)


def test_what_is_not_seen_teaches_nothing() -> None:
    logits = {"one": torch.zeros(3, 2, requires_grad=True), "other": torch.zeros(3, 4, requires_grad=True)}
    total, metrics = judgement_loss(logits, torch.tensor([[0, -1], [-1, -1], [1, -1]]))
    total.backward()
    assert total.item() == pytest.approx(np.log(2) / 2)
    assert metrics["accuracy"].item() == pytest.approx(0.5)
    assert logits["other"].grad is not None
    assert not logits["other"].grad.any()
    assert logits["one"].grad is not None
    assert not logits["one"].grad[1].any()


def test_joints_come_back_from_their_heatmaps() -> None:
    joints = torch.rand(4, 17, 3, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
    joints[..., 2] = 1
    joints[0, 3, 2] = 0
    heatmaps = target_heatmaps(joints, 64)
    found = decode_heatmaps(heatmaps)
    seen = joints[..., 2] > 0.5
    assert (found - joints)[..., :2][seen].abs().max() < 1e-3
    assert found[..., 2][seen].min() > 0.85
    assert found[0, 3, 2] == 0
    assert pck(found, joints) == 1
    far = replace_places(joints, joints[..., :2] + 0.2)
    assert pck(far, joints) == 0


def replace_places(joints: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The same joints elsewhere."""
    return torch.cat([places, joints[..., 2:]], dim=-1)


def test_the_pose_reader_is_small_and_reads_any_batch() -> None:
    reader = build_pose_reader().eval()
    assert sum(parameter.numel() for parameter in reader.parameters()) < 1_200_000
    found = read_keypoints(reader, _pixels(2))
    assert found.shape == (2, 17, 3)
    assert found.min() >= 0
    assert found.max() <= 1


def test_wilson_holds_the_rate_and_narrows() -> None:
    low, high = scores.wilson(90, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)  # the textbook's example
    assert scores.wilson(0, 10)[0] == 0
    assert scores.wilson(0, 0) == (0.0, 1.0)
    assert scores.rate(torch.tensor([True, False]))["rate"] == 0.5


def test_ssim_is_that_of_scikit_image() -> None:
    first = _pixels(2)
    second = (first + 0.3 * torch.randn(first.shape, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)
    for index, value in enumerate(scores.ssim(first, second)):
        pair = [((pixels[index] + 1) / 2).permute(1, 2, 0).numpy() for pixels in (first, second)]
        asked = structural_similarity(
            *pair, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert value.item() == pytest.approx(asked, abs=1e-4)


def test_frechet_distance_of_shifted_and_of_scaled_features() -> None:
    features = torch.randn(500, 8, generator=torch.Generator().manual_seed(3)).double()
    assert scores.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert scores.frechet_distance(features, features + 0.5) == pytest.approx(8 * 0.25)
    spread = torch.cov(features.t()).trace().item()
    assert scores.frechet_distance(features - features.mean(0), 3 * (features - features.mean(0))) == pytest.approx(
        4 * spread
    )


def test_edges_agree_with_themselves_and_within_two_pixels() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:44, 20:44] = 255
    edges = canny(picture) > 0
    assert scores.edge_f1(edges, picture) == 1
    assert scores.edge_f1(edges, np.roll(picture, 2, axis=1)) == 1
    assert scores.edge_f1(edges, np.roll(picture, 16, axis=(0, 1))) < 0.5


def test_prompts_are_told_from_the_seed_that_drew_the_pictures() -> None:
    data = _undrawn(people=3, per_person=2)
    prompts = held_out_prompts(data, SEED)
    assert len(prompts) == 6
    assert prompts == held_out_prompts(data, SEED)
    genders = data.labels[:, list(LABELS).index("gender")].tolist()
    assert all(
        LABELS["gender"][gender] in prompt.replace(",", "").split()
        for gender, prompt in zip(genders, prompts, strict=True)
    )
    with pytest.raises(ValueError, match="was not drawn with seed 6"):
        held_out_prompts(data, SEED + 1)
    with pytest.raises(ValueError, match="was not drawn with seed 5"):
        held_out_prompts(replace(data, labels=data.labels.flip(0)), SEED)


def _metrics() -> dict[str, Any]:
    rates = {kind: {"rate": 0.5, "low": 0.4, "high": 0.6, "of": 100} for kind in LABELS}
    joints = {"pck": 0.8, "standard_error": 0.01, "joints": 99, "pck_head": 0.9, "pck_half": 0.8, "pck_whole": 0.7}
    edges, fidelity = {"edge_f1": 0.9, "standard_error": 0.01}, {kind: rates[kind] for kind in NAMED}
    words = ("device", "torch", "diffusers", "transformers")
    numbers = ("seed", "people", "pictures", "unet_steps", "unet_batch", "held_out_people", "samples", "sampler_steps")
    return {
        **dict.fromkeys(words, "x"),
        **dict.fromkeys(numbers, 1),
        "parts": {"vae": {"class": "AutoencoderKL", "parameters": 4_300_000, "megabytes": 8.6}},
        "total_megabytes": 46.0,
        "minutes": 25.0,
        "guidance": 5.0,
        "vae": {"psnr_db": 32.0, "ssim": 0.95},
        "unet_held_out_mse": 0.2,
        "clip_retrieval_top1_of_64": 0.9,
        "clip_prompt_top1_of_64": 0.9,
        "identity": {"same_person_cosine": 0.8, "other_person_cosine": 0.1, "auc": 0.99, "equal_error_rate": 0.03},
        "judge_accuracy": rates,
        "pose_reader": joints,
        "prompt_fidelity": fidelity,
        "prompt_fidelity_named_exactly": rates["scene"],
        "frechet": {"painted_from_drawn": 3.0, "drawn_from_other_drawn": 1.0},
        "controlnet_canny": {"with": edges, "without": edges, "prompt_fidelity": fidelity},
        "controlnet_openpose": {"with": joints, "without": joints, "prompt_fidelity": fidelity},
    }


def test_the_card_shows_every_figure_and_admits_a_miss() -> None:
    card = model_card(_metrics())
    assert card.startswith("---\nlicense: apache-2.0")
    assert "32" in card
    assert "the size (46.0 MB, of at most 45)" in card
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in card.splitlines()}
    assert all("50.0%" in rows[kind] for kind in NAMED)
    assert "**missed**" in rows["scene"]
    assert "scene (0.5)" in card
    assert "the size" not in model_card(_metrics() | {"total_megabytes": 44.0})
