"""The finder of heads: its pictures, its targets, and that what is stored is what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)

from portrayal.models.people import SIDE, HeadFinder, peaks
from pretraining.heads import (
    CELLS,
    draw_pictures,
    figures_of,
    save_finder,
    spoiled,
    targets,
    train_head_finder,
)


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    return draw_pictures(60, seed=3, processes=1)


def test_pictures_show_nobody_one_two_and_three(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    pictures, heads = drawn
    assert pictures.shape == (60, 3, SIDE, SIDE)
    assert set((heads[..., 2] > 0).sum(1).tolist()) == {0, 1, 2, 3}
    there = heads[heads[..., 2] > 0]
    assert ((there > 0) & (there < 1)).all()


def test_a_target_read_back_is_the_heads(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    heads = drawn[1]
    for target, wanted in zip(targets(heads), heads, strict=True):
        found = peaks(target * 0.99, torch.full((CELLS, CELLS), 8.0))
        places = {(int(x * CELLS), int(y * CELLS)) for x, y, height in wanted.tolist() if height}
        assert {(int(head.x * CELLS), int(head.y * CELLS)) for head in found} == places


def test_spoiling_moves_heads_with_their_pictures(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    pictures, heads = drawn
    pixels = pictures.float() / 127.5 - 1
    after, moved = spoiled(pixels, heads)
    mirrored = moved[:, 0, 0] != heads[:, 0, 0]
    assert mirrored.any()
    assert not mirrored.all()
    for index, flip in enumerate(mirrored.tolist()):
        same, other = (after[index] - candidate for candidate in (pixels[index], pixels[index].flip(2)))
        same, other = (other, same) if flip else (same, other)
        assert float((same - same.mean()).abs().mean()) < float((other - other.mean()).abs().mean())


def test_what_is_stored_is_what_was_trained(drawn: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    finder = train_head_finder(*drawn, 0.2, torch.device("cpu"))
    save_finder(finder, tmp_path)
    again = HeadFinder()
    again.load_state_dict({name: value.float() for name, value in load_file(tmp_path / "model.safetensors").items()})
    weights = {name: value for name, value in finder.state_dict().items() if value.ndim > 1}
    assert all(torch.equal(again.state_dict()[name], value) for name, value in weights.items())
    assert figures_of(finder, *drawn)["pictures"] == 60
