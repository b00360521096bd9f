"""How the steps of a script are timed by its progress bar, and what is read from the file it writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.peers import adapted_layers, last_shown, median_step, timed_steps
from benchmarks.timing import WARM_UP_STEPS

SHOWS_STEPS = """
import time
from tqdm.auto import tqdm

time.sleep(0.5)
for _ in tqdm(range(3), desc="Loading pipeline components..."):
    pass
bar = tqdm(range(0, 12), desc="Steps")
for _ in range(12):
    time.sleep(0.02)
    bar.update(1)
    time.sleep(0.03)
    bar.set_postfix(loss=0.5, lr=1e-4)
"""


def test_steps_are_timed_by_the_bar_and_the_start_up_is_not_among_them(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHOWS_STEPS, encoding="utf-8")
    timed = timed_steps([sys.executable, str(script)], tmp_path)
    assert timed.step == pytest.approx(0.05, abs=0.03)
    assert 0.5 < timed.first < timed.whole - 11 * 0.05


def test_a_script_is_stopped_once_its_steps_are_known(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHOWS_STEPS + "\ntime.sleep(60)\n", encoding="utf-8")
    assert timed_steps([sys.executable, str(script)], tmp_path, until=WARM_UP_STEPS + 3).whole < 30


@pytest.mark.parametrize("text", ["raise ValueError('no such base')", "print('no such base')"])
def test_a_script_that_trains_nothing_is_said_with_its_words(tmp_path: Path, text: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="no such base"):
        timed_steps([sys.executable, str(script)], tmp_path)


def test_a_step_is_done_when_its_loss_is_shown() -> None:
    pieces = [
        (1.0, "\rLoading pipeline components...: 5/6 [00:01<00:00]\rSteps:   0%|          | 0/9 [00:00<?, ?it/s]"),
        (2.0, "\rSteps:  11%|█         | 1/9 [00:01<00:08,  1.0s/it]"),  # before its loss is read
        (2.5, "\rSteps:  11%|█         | 1/9 [00:01<00:08,  1.0s/it, loss=0.9, lr=0.0001]"),
        (3.5, "\rSteps:  22%|██        | 2/9 [00:02<00:07,  1.0s/it, loss=0.9, lr=0.0001]"),
    ]
    *_, shown = last_shown(pieces)
    assert shown == {0: 1.0, 1: 2.5, 2: 3.5}


def test_neither_the_first_steps_nor_the_bar_drawn_once_more_count() -> None:
    shown = {step: 100.0 * step for step in range(WARM_UP_STEPS)}
    shown |= {WARM_UP_STEPS + more: 1000.0 + more for more in range(3)}
    assert median_step(shown | {max(shown) + 1: 5000.0}) == 1.0


def test_the_adapted_layers_are_read_from_the_names_of_the_weights(tmp_path: Path) -> None:
    block = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    names = [f"{block}.to_q.lora.down.weight", f"{block}.to_q.lora.up.weight", f"{block}.to_out.0.lora_A.weight"]
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "lora.safetensors")
    assert adapted_layers(tmp_path / "lora.safetensors") == {"to_q", "to_out.0"}
