"""A study of more LoRAs than it may train on every fold: each once, then the best; one that diverges is a row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from portrayal import evaluate, portray
from portrayal.config import Trial
from portrayal.errors import TrainingDivergedError, UsageError
from portrayal.run import DIVERGED, Event, Run
from portrayal.settings import load_config
from portrayal.stages import steps
from portrayal.stages.rounds import next_trainings

TINY = Path(__file__).parents[1] / "tiny.toml"
SETTINGS = [
    "study.full_unet=false",
    "study.folds=3",
    "study.readings=1",
    "study.max_trainings=5",
    "method.lora.learning_rate=1e20",
    "study.learning_rates=[1e-23,1]",
    "method.lora.max_train_steps=9",
    "control.enabled=false",
    "training.checkpointing_steps=0",
]


def possible(models: str, folds: int, seeds: int = 1) -> list[Trial]:
    return [
        Trial(f"{model}.{fold}.{seed}", model, fold, seed)
        for seed in range(seeds)
        for fold in range(folds)
        for model in models
    ]


def names(trials: list[Trial], *wanted: str) -> dict[str, Trial]:
    return {trial.name: trial for trial in trials if trial.name in wanted or not wanted}


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder / "run")
    return Run.open(folder / "run")


def test_the_best_go_on_to_all_other_folds_as_far_as_the_budget_allows() -> None:
    trials = possible("abcd", folds=3)
    first = names(trials, "a.0.0", "b.0.0", "c.0.0", "d.0.0")
    chances = {"c": 0.5, "a": 0.3, "b": 0.2}
    assert next_trainings([*chances], chances, 5, trials, first) == ["c.1.0", "c.2.0", "a.1.0", "a.2.0"]
    assert next_trainings([*chances], chances, 4, trials, first) == ["c.1.0", "c.2.0", "a.1.0", "a.2.0"]
    assert next_trainings([*chances], chances, 3, trials, first) == ["c.1.0", "c.2.0"]
    assert next_trainings([*chances], chances, 1, trials, first) == []
    assert next_trainings([*chances], chances, 99, trials, first) == [
        f"{model}.{fold}.0" for model in "cab" for fold in (1, 2)
    ]


def test_two_at_a_time_take_further_seeds_while_it_is_open_which_is_best() -> None:
    trials = possible("abc", folds=2, seeds=2)
    planned = names([one for one in trials if one.seed == 0])
    chances = {"b": 0.6, "a": 0.3, "c": 0.1}
    wanted = ["b.0.1", "b.1.1", "a.0.1", "a.1.1"]
    assert next_trainings([*chances], chances, 4, trials, planned) == wanted
    assert next_trainings([*chances], chances, 3, trials, planned) == []
    assert next_trainings(["b", "a"], {"b": 0.96, "a": 0.04}, 9, trials, planned) == []
    assert next_trainings(["b", "a"], chances, 9, trials, planned | names(trials, *wanted)) == []
    assert next_trainings([], {}, 9, trials, planned) == []


def test_a_round_takes_no_more_than_is_left_though_some_are_a_seed_further() -> None:
    """The best now was behind when the others took all folds: it has two folds to go, each of them a seed of three."""
    trials = possible("abc", folds=3, seeds=2)
    planned = names([one for one in trials if one.seed == 0 and (one.model != "c" or one.fold == 0)])
    chances = {"c": 0.5, "a": 0.3, "b": 0.2}
    folds, seed = ["c.1.0", "c.2.0"], ["a.0.1", "a.1.1", "a.2.1"]
    assert next_trainings([*chances], chances, 4, trials, planned) == folds
    assert next_trainings([*chances], chances, 7, trials, planned) == folds + seed
    assert next_trainings([*chances], chances, 8, trials, planned) == [*folds, *seed, "b.0.1", "b.1.1", "b.2.1"]


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Event]]:
    events: list[Event] = []
    folder = tmp_path_factory.mktemp("rounds") / "run"
    return portray(photos, load_config(str(TINY), SETTINGS), folder, consent=True, progress=events.append), events


def test_a_run_goes_on_with_the_best_and_tells_which_diverged(made: tuple[Run, list[Event]]) -> None:
    run, events = made
    first = ["lora-2-lr1e-3", "lora-2-lr1e20", "lora-4-lr1e-3", "lora-4-lr1e20"]
    assert run.rounds[0] == first
    (second,) = run.rounds[1:]
    (finalist,) = {run.config.trials[name].model for name in second}
    assert second == [f"{finalist}.fold-2", f"{finalist}.fold-3"]
    assert run.rounds_ended
    scores = json.loads((run.folder / "scores.json").read_text())
    assert scores["study"]["trainings"] == {"lora-2-lr1e-3": 1, "lora-4-lr1e-3": 1, finalist: 3}
    lost = [(one["model"], one["rank"], one["learning_rate"], one["step"]) for one in scores["diverged"]]
    assert lost == [("lora-2-lr1e20", 2, 1e20, 7), ("lora-4-lr1e20", 4, 1e20, 7)]
    assert scores["verdict"]["recommended"] in ("lora-2-lr1e-3", "lora-4-lr1e-3")
    assert "LoRA 2 at 1e20 and LoRA 4 at 1e20 diverged" in " ".join(scores["verdict"]["conclusions"])
    assert "1e20" in (run.folder / "report.html").read_text()
    told = [event.message for event in events if event.stage == "study"]
    assert told == [f"the best so far go on to the next round, 2 trainings: {finalist}"]


def test_the_same_command_again_does_nothing(made: tuple[Run, list[Event]], photos: Path, tmp_path: Path) -> None:
    again, events = copied(made[0], tmp_path), list[Event]()
    portray(photos, load_config(str(TINY), SETTINGS), again.folder, consent=True, progress=events.append)
    assert {event.kind for event in events if event.stage != "prepare"} == {"skipped"}


def test_a_later_round_ends_at_the_step_that_the_first_has_found(made: tuple[Run, list[Event]]) -> None:
    run, _ = made
    for name in run.rounds[1]:
        described = json.loads((run.model_folder(name) / "method.json").read_text())
        curve = json.loads((run.model_folder(run.config.trials[name].model) / "curve.json").read_text())
        assert described["step"] == curve["best_step"]


def test_the_step_is_chosen_over_the_first_round(
    made: tuple[Run, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later rounds go to the best only: over them too, one LoRA would have more readings to choose by than another."""
    run = copied(made[0], tmp_path)
    finalist = run.config.trials[run.rounds[1][0]].model
    curve, looked = steps.curve_of_model(run, finalist), list[str]()

    def noted(_: Run, trials: Sequence[Trial], __: Any) -> Any:
        looked.extend(trial.name for trial in trials)
        return curve

    monkeypatch.setattr(steps, "curve_of", noted)
    steps.curve_path(run, finalist).unlink()
    steps.choose_steps(run, [finalist], lambda _: None)
    assert looked == [finalist]
    assert steps.curve_of_model(run, finalist) == curve


def test_a_lora_of_which_a_later_training_diverged_is_recommended_no_more(
    made: tuple[Run, list[Event]], tmp_path: Path
) -> None:
    run = copied(made[0], tmp_path)
    lost, *_ = run.rounds[1]
    finalist = run.config.trials[lost].model
    (other,) = {"lora-2-lr1e-3", "lora-4-lr1e-3"} - {finalist}
    shutil.rmtree(run.model_folder(lost))
    (run.model_folder(lost)).mkdir()
    (run.model_folder(lost) / DIVERGED).write_text(json.dumps({"step": 5}))
    scores = evaluate(run)
    assert scores["study"]["trainings"][finalist] == 2
    assert (finalist, 5) in [(one["model"], one["step"]) for one in scores["diverged"]]
    assert (scores["verdict"]["recommended"], [*scores["verdict"]["chances"]]) == (other, [other])


def test_a_study_whose_every_training_diverges_says_so(photos: Path, tmp_path: Path) -> None:
    config = load_config(str(TINY), [*SETTINGS, "study.learning_rates=[1,2]", "study.ranks=[2]"])
    with pytest.raises(TrainingDivergedError, match=r"Every training of .* diverged") as caught:
        portray(photos, config, tmp_path / "run", consent=True)
    assert "study.learning_rates" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["study.learning_rates=[1,1.0001]"], "each learning rate may stand here once"),
        (["study.learning_rates=[0]"], "greater than 0"),
        (["study.learning_rates=[101]"], "less than or equal to 100"),
        (["study.learning_rates=[]"], "at least 1"),
        (["study.ranks=[2,4,8]", "study.max_trainings=8", "study.learning_rates=[1,2,3]"], "9 LoRAs"),
        (["study.lora_scale=equal", "method.lora.alpha=8"], "the scale is 1 at every rank"),
    ],
)
def test_a_grid_that_cannot_work_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(None, settings)
