"""Spend a study's trainings where they tell most: every LoRA once, then the best of them on the other folds.

Sequential halving (Karnin, Koren and Somekh 2013): the first round trains every LoRA on the first fold, the next the
best of them on all other folds, as many as `study.max_trainings` allows. Where the study has further seeds, two at a
time go on while it is open which is the best. LoRAs that diverged, lost a gate or are clearly behind go no further;
a training that diverged does not count. What was chosen stands in `models/rounds.json`: see `Run.rounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from portrayal.config import Trial
from portrayal.processes import here
from portrayal.run import Event, Progress, Run
from portrayal.stages.generate import paint_model
from portrayal.stages.shared import encoders_of, looks_of, silent, stage, tell, trained_trials

FINALISTS_OF_LATER_ROUNDS = 2


def begin_next_round(run: Run, progress: Progress) -> bool:
    """Choose what is trained next, once all that was chosen so far is trained; whether there is anything."""
    if run.rounds_ended:
        return False
    painters = ["base", *(trial.name for trial in trained_trials(run))]
    for name in here().mine(painters):
        paint_model(run, name, None if name == "base" else run.model_folder(name), unless_skipped(progress))
    here().wait()
    if here().first:
        chosen = choose_round(run, progress)
        run.record_round(chosen)
        if chosen:
            names = ", ".join(dict.fromkeys(run.config.trials[name].model for name in chosen))
            message = f"the best so far go on to the next round, {len(chosen)} trainings: {names}"
            tell(run, Event("study", "note", message=message), progress)
    here().wait()
    return not run.rounds_ended


def unless_skipped(progress: Progress) -> Progress:
    """Progress that does not tell what was done before: a later round meets it again."""

    def show(event: Event) -> None:
        if event.kind != "skipped":
            progress(event)

    return show


def choose_round(run: Run, progress: Progress) -> list[str]:
    """Names of the trainings of the next round; none ends the study."""
    chances = chances_of(run, progress)
    spent = sum(1 for name, trial in run.trials.items() if trial.model != "unet" and not run.has_diverged(name))
    left = run.config.study.most_trainings - spent
    ranking = sorted(chances, key=lambda name: -chances[name])
    return next_trainings(ranking, chances, left, [*run.config.trials.values()], run.trials)


def next_trainings(
    ranking: Sequence[str],
    chances: Mapping[str, float],
    left: int,
    possible: Sequence[Trial],
    planned: Mapping[str, Trial],
) -> list[str]:
    """Names of the trainings of the next round.

    Args:
        ranking: The LoRAs that may go on, the best first.
        chances: The chance of each to be the best.
        left: How many trainings are allowed.
        possible: All trainings the study could have.
        planned: Those of the rounds so far, by name.
    """
    from portrayal.evaluation.selection import SURE

    blocks = {model: next_block(model, possible, planned) for model in ranking}
    going = [model for model in ranking if blocks[model]]
    if not going:
        return []
    later, each = blocks[going[0]][0].seed > 0, len(blocks[going[0]])
    if later and (len(ranking) < 2 or chances[ranking[0]] >= SURE or left < FINALISTS_OF_LATER_ROUNDS * each):
        return []
    going = going[:FINALISTS_OF_LATER_ROUNDS] if later else going
    ends = accumulate(len(blocks[model]) for model in going)  # one may be a seed further than another
    return [trial.name for model, end in zip(going, ends, strict=True) if end <= left for trial in blocks[model]]


def next_block(model: str, possible: Sequence[Trial], planned: Mapping[str, Trial]) -> list[Trial]:
    """The trainings of a model that are not planned yet, of the first seed that has any."""
    missing = [trial for trial in possible if trial.model == model and trial.name not in planned]
    first = min((trial.seed for trial in missing), default=0)
    return [trial for trial in missing if trial.seed == first]


def chances_of(run: Run, progress: Progress) -> Mapping[str, float]:
    """The chance of each LoRA that may go on to be the best, by all its trainings so far."""
    from portrayal.evaluation.comparisons import compare_all
    from portrayal.evaluation.evaluate import evidence_of, look_at_all, margins_of
    from portrayal.evaluation.judge import Judge
    from portrayal.evaluation.selection import choose
    from portrayal.stages.evaluate import gather

    if not any(trial.model != "unet" for trial in trained_trials(run)):
        return {}
    with stage(
        run, f"evaluate.round-{len(run.rounds)}", [trial.name for trial in trained_trials(run)], progress
    ) as tick:
        evidence = gather(run, tick, silent)
        measured = look_at_all(evidence, Judge(evidence, encoders_of(run), looks_of(run)))
        models, margins = evidence_of(evidence, measured), margins_of(evidence.config)
        return choose(models, compare_all(models, margins), margins).chances
