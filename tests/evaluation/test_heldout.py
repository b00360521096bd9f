"""Held-out loss: the same cells for every model, spread over the schedule, and never a number that training used."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from portrayal import randomness
from portrayal.config import LoraMethod
from portrayal.data.encode import EncodedDataset
from portrayal.evaluation.heldout import HeldoutGrid, heldout_losses
from portrayal.evaluation.metrics import log_ratio
from portrayal.generation import pictures
from portrayal.generation.pictures import picture_seed
from portrayal.models.base import load_base
from portrayal.models.methods import attach
from portrayal.randomness import derived_seed
from portrayal.settings import load_config
from portrayal.training import step as step_module
from portrayal.training.session import session
from portrayal.training.step import train_step
from portrayal.training.task import Task
from tests.training.mini import Seen, noise_in, watched

GRID = HeldoutGrid(num_timesteps=3, num_noises=2, seed=0, batch_size=5)


def two(data: EncodedDataset) -> EncodedDataset:
    return EncodedDataset(
        data.ids[:2], *(value[:2] for value in (data.mean, data.std, data.input_ids, data.prompt_embeds))
    )


@pytest.mark.parametrize("strata", [2, 20, 1000])
def test_every_stratum_is_read_by_every_reading(strata: int) -> None:
    steps = HeldoutGrid(strata, 2, seed=3).timesteps(range(4), 1000)
    assert steps.shape == (4, strata, 2)
    which = steps * strata // 1000
    assert (which == np.arange(strata).reshape(1, -1, 1)).all()


def test_readings_of_a_stratum_spread_over_it() -> None:
    """Offsets of a low-discrepancy sequence: sixteen readings leave no gap of a quarter of the stratum."""
    steps = np.sort(HeldoutGrid(5, 4, seed=1).timesteps(range(4), 1000)[:, 2, :].ravel())
    assert len(set(steps.tolist())) == 16
    assert np.diff(np.concatenate([[400], steps, [600]])).max() < 50


def test_noise_comes_in_antithetic_pairs() -> None:
    noise = HeldoutGrid(2, 5, seed=0).noise(1, (8, 4, 4))
    assert noise.shape == (5, 8, 4, 4)
    assert torch.equal(noise[0], -noise[1])
    assert torch.equal(noise[2], -noise[3])
    assert not torch.equal(noise[0], noise[2])


def test_photos_have_noise_of_their_own() -> None:
    assert not torch.equal(GRID.noise(0, (8, 4, 4)), GRID.noise(1, (8, 4, 4)))


def test_two_readings_are_the_same_and_the_base_against_itself_is_zero(pocket, encoded) -> None:
    data = two(encoded.photos[0])
    torch.manual_seed(1)
    one = heldout_losses(pocket, data, GRID)
    torch.manual_seed(2)
    again = heldout_losses(pocket, data, GRID)
    assert one.shape == (2, 3, 2)
    assert (one == again).all()
    assert (log_ratio(again, one) == 0).all()


def test_a_photo_of_a_subset_keeps_its_timesteps_and_noise(pocket, encoded) -> None:
    data = two(encoded.photos[0])
    both, second = heldout_losses(pocket, data, GRID), data.subset({data.ids[1]})
    assert heldout_losses(pocket, second, GRID, [1])[0] == pytest.approx(both[1], rel=1e-4)
    assert heldout_losses(pocket, second, GRID)[0] != pytest.approx(both[1], rel=1e-4)


def test_an_untrained_lora_is_the_base(pocket, encoded) -> None:
    data = two(encoded.photos[0])
    one = heldout_losses(pocket, data, GRID)
    attached = attach(pocket, LoraMethod(rank=2), seed=0)
    try:
        assert (heldout_losses(pocket, data, GRID) == one).all()
    finally:
        attached.detach()


def test_a_half_base_reads_in_its_own_format(pocket, encoded) -> None:
    """As every base on a GPU is: the losses stay near those in fp32."""
    half = load_base(pocket.source, device=torch.device("cpu"), dtype=torch.bfloat16)
    data = two(encoded.photos[0])
    assert heldout_losses(half, data, GRID) == pytest.approx(heldout_losses(pocket, data, GRID), rel=0.1)


def test_readings_do_not_depend_on_how_many_are_made_at_once(pocket, encoded) -> None:
    data = two(encoded.photos[0])
    few, many = (heldout_losses(pocket, data, HeldoutGrid(3, 2, 0, batch_size=size)) for size in (1, 12))
    assert few == pytest.approx(many, rel=1e-4)


def test_another_seed_reads_elsewhere() -> None:
    assert (GRID.timesteps(range(2), 1000) != HeldoutGrid(3, 2, seed=1).timesteps(range(2), 1000)).any()


def stages_drawn(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> set[str]:
    """What random numbers were drawn for, in whatever module."""
    found = set[str]()

    def noting(seed: int, stage: str, rank: int = 0, step: int = 0) -> int:
        found.add(stage)
        return derived_seed(seed, stage, rank, step)

    with monkeypatch.context() as patched:
        for module in (randomness, step_module, pictures):
            patched.setattr(module, "derived_seed", noting)
        act()
    return found


def test_no_seed_of_evaluation_occurs_in_training(
    pocket, encoded, tiny_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that a training and its judging do draw. torch's CPU generator starts from the lower 32 bits of a seed:
    those must differ."""
    method = LoraMethod(rank=2, target_modules=("conv_in",), dropout=0.1)
    config = load_config(None, ["training.mixed_precision=no", "training.caption_dropout=0.5"])

    def train() -> None:
        with session(pocket, [Task("m", method, encoded, tmp_path / "m")], config, tmp_path / "work") as state:
            train_step(state)

    trained = stages_drawn(monkeypatch, train)
    assert trained >= {"lora.init", "train.noise", "train.latents", "train.dropout", "train.order.photos"}
    scenes = [*tiny_config.generation.scenes, *(f"steps.{scene}" for scene in tiny_config.generation.scenes)]
    scenes += ["control", "reference", "class", "class_drift"]
    judged = stages_drawn(monkeypatch, lambda: heldout_losses(pocket, two(encoded.photos[0]), GRID))
    judged |= stages_drawn(monkeypatch, lambda: [picture_seed(0, scene, 0) for scene in scenes])
    assert judged >= {"heldout.noise", "heldout.timesteps", "images.class"}
    assert not trained & judged
    training = {
        derived_seed(seed, stage, step=step) % 2**32 for seed in range(3) for stage in trained for step in range(800)
    }
    judging = {
        derived_seed(seed, stage, step=number) % 2**32 for seed in range(3) for stage in judged for number in range(20)
    }
    assert not training & judging


# Worked out by hand ----------------------------------------------------------------------------------------------


def cells_of(base, data: EncodedDataset, grid: HeldoutGrid, places: list[int] | None = None) -> tuple[Any, list[Seen]]:
    """The losses, and what the UNet was given in each cell, photo after photo, stratum after stratum."""
    with watched(base.unet) as seen:
        losses = heldout_losses(base, data, grid, places)
    parts = ("noisy", "timesteps", "prompts", "prediction")
    rows = zip(*(torch.cat([getattr(one, part) for one in seen]) for part in parts), strict=True)
    return losses, [Seen(*row) for row in rows]


def test_held_out_losses_worked_out_by_hand(pocket, encoded) -> None:
    """Of every cell: noise is solved for in what the UNet was given, from latents scaled by the VAE's factor."""
    scale = json.loads((pocket.source.path / "vae" / "config.json").read_text())["scaling_factor"]
    assert scale != 1
    data = two(encoded.photos[0])
    losses, cells = cells_of(pocket, data, GRID)
    noises = []
    for (photo, stratum, number), cell in zip(np.ndindex(*losses.shape), cells, strict=True):
        noise = noise_in(cell.noisy[None], scale * data.mean[photo][None], cell.timesteps[None])[0]
        noises.append(noise)
        assert losses[photo, stratum, number] == pytest.approx(
            float((cell.prediction - noise).square().mean()), rel=1e-3
        )
        assert stratum == int(cell.timesteps) * 3 // 1000  # a third of the schedule each
        torch.testing.assert_close(cell.prompts, data.prompt_embeds[photo], rtol=1e-3, atol=1e-3)
    for even, odd in zip(noises[::2], noises[1::2], strict=True):
        assert (even + odd).abs().max() < 0.02  # antithetic: the larger, the less is left of it
        assert float(even.std()) == pytest.approx(1, abs=0.05)
    of_photo = torch.stack(noises[::2]).view(2, 3, -1)
    torch.testing.assert_close(of_photo[:, 0], of_photo[:, 2], rtol=0, atol=0.02)  # one noise for all strata
    assert abs(float((of_photo[0, 0] * of_photo[1, 0]).mean())) < 0.1  # and another for the other photo


def test_a_photo_of_any_subset_is_read_in_its_own_cells(pocket, encoded) -> None:
    (photos,), grid, numbers = encoded.photos, HeldoutGrid(2, 2, seed=4), [3, 5, 8, 13]
    losses, cells = cells_of(pocket, photos, grid, numbers)
    of_photo = {name: cells[4 * place : 4 * place + 4] for place, name in enumerate(photos.ids)}
    for chosen in ((3,), (0, 2), (1, 2, 3)):
        part = photos.subset({photos.ids[place] for place in chosen})
        found, read = cells_of(pocket, part, grid, [numbers[place] for place in chosen])
        assert found == pytest.approx(losses[list(chosen)], rel=1e-4)
        expected = [cell for name in part.ids for cell in of_photo[name]]
        for one, other in zip(read, expected, strict=True):
            assert torch.equal(one.noisy, other.noisy)
            assert torch.equal(one.timesteps, other.timesteps)


def test_held_out_losses_are_of_the_tuned_text_encoder_and_unet(pocket, encoded) -> None:
    data, method = two(encoded.photos[0]), LoraMethod(rank=2, train_text_encoder=True)
    plain, _ = cells_of(pocket, data, GRID)
    for part in ("unet.", "text_encoder."):
        attached = attach(pocket, method, seed=0)
        try:
            with torch.no_grad():
                for name, weight in attached.named_parameters().items():
                    if name.startswith(part):
                        weight.add_(0.1)
            tuned, cells = cells_of(pocket, data, GRID)
            expected = pocket.text_encoder(data.input_ids)[0]
        finally:
            attached.detach()
        assert not np.allclose(tuned, plain, rtol=1e-3)
        torch.testing.assert_close(torch.stack([cells[0].prompts, cells[6].prompts]), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("strata", [1, 4, 8])
def test_timesteps_cover_the_whole_schedule_evenly(strata: int) -> None:
    steps = HeldoutGrid(strata, 2, seed=0).timesteps(range(40), 1000)
    for stratum in range(strata):
        found = np.sort(steps[:, stratum].ravel()) * strata / 1000 - stratum
        assert 0 <= found[0] < 0.05
        assert 0.95 < found[-1] < 1
        assert found.mean() == pytest.approx(0.5, abs=0.02)


TRAINING_STAGES = (
    *("lora.init", "train.noise", "train.latents", "train.dropout", "train.rounding", "train.shapes"),
    *("train.caption_dropout", "train.order.photos", "train.order.class_images"),
)
JUDGING_STAGES = ("heldout.noise", "heldout.timesteps")


def record_seeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """Seeds by stage, of everything that is drawn from here on."""
    asked: dict[str, set[int]] = {}

    def recorded(seed: int, stage: str, rank: int = 0, step: int = 0) -> int:
        found = derived_seed(seed, stage, rank, step)
        asked.setdefault(stage, set()).add(found % 2**32)
        return found

    for name, module in list(sys.modules.items()):
        if name.startswith("portrayal.") and getattr(module, "derived_seed", None) is derived_seed:
            monkeypatch.setattr(module, "derived_seed", recorded)
    return asked


def test_what_is_drawn_in_training_and_in_judging_is_drawn_by_stages_that_differ(
    pocket, encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for when a LoRA is trained and judged, with all that draws at random in between."""
    method = LoraMethod(rank=2, max_train_steps=2)
    config = load_config(None, ["training.mixed_precision=no", "training.caption_dropout=0.5"])
    asked = record_seeds(monkeypatch)
    with session(pocket, [Task("m", method, encoded, tmp_path / "m")], config, tmp_path / "work") as state:
        for _ in range(2):
            train_step(state)
    training = {stage: set(seeds) for stage, seeds in asked.items()}
    assert {"train.noise", "train.latents", "train.order.photos", "lora.init"} <= training.keys() <= {*TRAINING_STAGES}
    asked.clear()
    heldout_losses(pocket, two(encoded.photos[0]), GRID)
    assert asked.keys() == {*JUDGING_STAGES}
    for scene in config.generation.scenes:
        picture_seed(config.seed, scene, 0)
    assert asked.keys() == {*JUDGING_STAGES, *(f"images.{scene}" for scene in config.generation.scenes)}
    assert not set().union(*training.values()) & set().union(*asked.values())


def test_one_held_out_loss_by_hand() -> None:
    """Noise that is found again from `√ᾱ · s · m + √(1 - ᾱ) · noise` as if the latent were 0, and the prompt's q.

    A UNet that divides by √(1 - ᾱ) and adds q is off by √(ᾱ / (1 - ᾱ)) · s · m + q at every place, whatever the noise:
    the latent's mean m times the VAE's factor s, at the photo's own timesteps, with its own prompt.
    """
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    factor, means, prompts = 0.5, np.array([0.8, -0.3, 2.0]), np.array([0.1, 0.4, -0.2])

    def unet(noisy: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor) -> SimpleNamespace:
        spread = torch.tensor(np.sqrt(1 - alphas[timesteps.numpy()]), dtype=torch.float32)
        return SimpleNamespace(sample=noisy / spread[:, None, None, None] + embeds[:, :1, :1, None])

    base: Any = SimpleNamespace(
        noise_scheduler=scheduler,
        unet=unet,
        vae=SimpleNamespace(config=SimpleNamespace(scaling_factor=factor)),
        text_encoder=lambda ids: (torch.tensor(prompts, dtype=torch.float32)[ids][..., None],),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    mean = torch.tensor(means, dtype=torch.float32)[:, None, None, None].expand(3, 4, 8, 8)
    ids = torch.arange(3)[:, None]
    data = EncodedDataset(("a", "b", "c"), mean, torch.full_like(mean, 100.0), ids, torch.zeros(3, 1, 1))
    places = [5, 0, 2]
    grid = HeldoutGrid(num_timesteps=4, num_noises=3, seed=1, batch_size=7)
    alpha = alphas[grid.timesteps(places, 1000)]
    by_hand = (np.sqrt(alpha / (1 - alpha)) * factor * means[:, None, None] + prompts[:, None, None]) ** 2
    assert heldout_losses(base, data, grid, places) == pytest.approx(by_hand, rel=2e-3)
