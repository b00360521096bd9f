"""What the benchmarks of endurance make of what they saw."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks import kills, soak


def rows(*memory: float, files: float = 10) -> list[dict[str, float]]:
    return [{"memory": one, "files": files, "threads": 3, "disk": 1.0} for one in memory]


def test_a_soak_is_flat_when_nothing_grows_after_the_first_quarter() -> None:
    steady = soak.figures_of(rows(100, 480, 500, 500, 505, 500, 503, 505), 16)
    assert (steady["studies"], steady["seconds_each"]) == (8, 2.0)
    assert soak.flat(steady)
    assert not soak.flat(soak.figures_of(rows(100, 200, 300, 400, 500, 600, 700, 800), 16))
    leaking = rows(500, 500, 500, 500) + rows(500, 500, 500, 500, files=14)
    assert not soak.flat(soak.figures_of(leaking, 16))


def test_what_a_soak_reads_of_this_process_is_so(tmp_path: Path) -> None:
    before = soak.held()
    assert before["memory"] > 10
    with (tmp_path / "one").open("wb") as file:
        file.write(b"x" * (1 << 20))
        file.flush()
        assert soak.held()["files"] == before["files"] + 1
        assert soak.disk(tmp_path) == 1.0


def test_moments_of_kills_are_drawn_from_their_seed_and_spread_over_a_run() -> None:
    one, other = ([kills.draw(random.Random(seed), 12) for _ in range(1)] for seed in (1, 1))
    assert one == other
    rng = random.Random(2)
    drawn = [kills.draw(rng, 12) for _ in range(400)]
    mean = sum(moment.after for moment in drawn) / len(drawn)
    assert 0.9 * kills.WRITES / 12 < mean < 1.2 * kills.WRITES / 12
    assert 0.4 < sum(moment.delay > 0 for moment in drawn) / len(drawn) < 0.6


def test_a_run_is_compared_by_what_it_is_judged_by(tmp_path: Path) -> None:
    for name, text in (("report.md", "loss 0.1\n| LoRA | 0.3 s |\n| Created | today |"), ("scores.json", "{}")):
        (tmp_path / name).write_text(text)
    before = kills.content(tmp_path)
    (tmp_path / "report.md").write_text("loss 0.1\n| LoRA | 1.8 s |\n| Created | tomorrow |")
    assert kills.content(tmp_path) == before
    (tmp_path / "report.md").write_text("loss 0.2\n| LoRA | 1.8 s |\n| Created | tomorrow |")
    assert kills.content(tmp_path) != before
