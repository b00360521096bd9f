"""Law 1: random numbers are a function of (seed, stage, rank, step), and of nothing else."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from portrayal.randomness import derived_seed, generator_for


def test_the_numbers_are_frozen() -> None:
    """Changing them changes every result: it may happen, but never unnoticed."""
    assert derived_seed(0, "train.noise") == 5683846088709956287
    assert derived_seed(7, "images.street", 1, 3) == 7248596530180787645


def test_all_four_matter() -> None:
    cells = list(itertools.product((0, 1, 11), ("a", "a/1"), (0, 1, 11), (0, 1, 11)))
    assert len({derived_seed(*cell) for cell in cells}) == len(cells)


@given(st.integers(0, 2**63), st.text(max_size=10), st.integers(0, 999), st.integers(0, 10**6))
def test_any_seed_seeds_a_generator(seed: int, stage: str, rank: int, step: int) -> None:
    one, two = (torch.rand(3, generator=generator_for(seed, stage, rank, step)) for _ in range(2))
    assert torch.equal(one, two)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    one = torch.rand(3, generator=generator_for(0, "x"))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = torch.rand(3, generator=generator_for(0, "x"))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)
