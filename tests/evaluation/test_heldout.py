"""Held-out loss: the same cells for every model, spread over the schedule, and never a number that training used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portrayal.config import LoraMethod
from portrayal.data.encode import EncodedDataset
from portrayal.evaluation.heldout import HeldoutGrid, heldout_losses
from portrayal.evaluation.metrics import log_ratio
from portrayal.generation.pictures import picture_seed
from portrayal.models.base import load_base
from portrayal.models.methods import attach
from portrayal.randomness import derived_seed

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


def test_no_seed_of_evaluation_occurs_in_training() -> None:
    """torch's CPU generator starts from the lower 32 bits of a seed: those must differ."""
    training = {
        derived_seed(seed, stage, step=step) % 2**32
        for seed in range(3)
        for stage in ("train.noise", "train.latents", "train.dropout", "train.order.photos", "train.order.class_images")
        for step in range(800)
    }
    judging = {derived_seed(seed, "heldout.noise", step=photo) % 2**32 for seed in range(3) for photo in range(20)}
    judging |= {derived_seed(seed, "heldout.timesteps") % 2**32 for seed in range(3)}
    scenes = ("street", "football", "kitchen", "office", "forest", "control", "reference", "class")
    judging |= {picture_seed(seed, scene, number) for seed in range(3) for scene in scenes for number in range(8)}
    assert not training & judging
