"""Each statement on which scores rest is noticed when it does not hold, and only then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from portrayal.evaluation.validity import Facts, TrainingFacts, check

PARTS = (frozenset("ab"), frozenset("cd"))
"""The photos held out in each of two folds."""


def training(name: str, model: str, fold: int, seed: int) -> TrainingFacts:
    return TrainingFacts(name, model, (fold, seed), PARTS[1 - fold], 100 * fold + seed, PARTS[fold], PARTS[fold])


SOUND = Facts(
    [
        training("unet", "unet", 0, 0),
        training("lora-8", "lora-8", 0, 0),
        training("lora-8.fold-2", "lora-8", 1, 0),
        training("lora-8.seed-2", "lora-8", 0, 1),
    ],
    PARTS,
    (PARTS[1], PARTS[0]),
    {"choosing": [1, 2], "judging": [3, 4, 5], "class": [6, 7], "class images": [8, 9, 10]},
    {"base": [("street/0.png", 3)], "unet": [("street/0.png", 3)], "lora-8": [("street/0.png", 3)]},
)


def changed(number: int, **values: object) -> Facts:
    """Sound facts, but for one training."""
    rows = list(SOUND.trainings)
    rows[number] = replace(rows[number], **values)  # type: ignore[arg-type]
    return replace(SOUND, trainings=rows)


def broken(facts: Facts) -> dict[str, tuple[str, ...]]:
    return {one.statement: one.violations for one in check(facts) if not one.holds}


def test_all_statements_hold_of_a_sound_run() -> None:
    assert broken(SOUND) == {}
    assert all(one.cases for one in check(SOUND))


BROKEN = {
    "No training saw a photo that its likeness is measured against.": changed(2, photos=frozenset("abc")),
    "No training saw a photo that its held-out loss is measured on.": changed(2, loss_photos=frozenset("bcd")),
    "No best step was chosen by a photo that the training saw.": changed(2, reading_photos=frozenset("acd")),
    "Each training saw all photos but those of its fold.": changed(2, photos=frozenset("a")),
    "Each training is judged by the photos of its own fold.": changed(2, loss_photos=frozenset("c")),
    "Trainings of different folds or repeats have different seeds, and models of the same the same.": changed(
        2, seed=0
    ),
    "The level of real photos compares no photo with itself.": replace(SOUND, training=(frozenset("bcd"), PARTS[0])),
    "Images to choose by, to judge by and of the class have seeds of their own.": replace(
        SOUND, image_seeds={"choosing": [3, 4], "judging": [3, 4, 5]}
    ),
    "All models are judged at the same scenes and seeds.": replace(
        SOUND, cells={**SOUND.cells, "lora-8": [("street/0.png", 4)]}
    ),
}


@pytest.mark.parametrize("statement", BROKEN)
def test_a_statement_that_does_not_hold_is_noticed(statement: str) -> None:
    violations = broken(BROKEN[statement])
    assert len(violations[statement]) == 1
    assert statement in {one.statement for one in check(SOUND)}


def test_every_statement_has_a_case_in_which_it_does_not_hold() -> None:
    assert [one.statement for one in check(SOUND)] == list(BROKEN)


def test_a_model_with_a_seed_of_its_own_in_a_split_is_noticed() -> None:
    (violation,) = broken(changed(1, seed=7)).values()
    assert violation == ("fold 1, seed 1: 2 different seeds",)


def test_a_training_judged_by_no_photo_is_noticed() -> None:
    assert "lora-8: judged by no photo" in {
        line for lines in broken(changed(1, loss_photos=frozenset())).values() for line in lines
    }


@pytest.mark.parametrize("shared", [1, 2])
def test_one_seed_in_common_may_be_an_accident_of_32_bits_and_two_are_not(shared: int) -> None:
    seeds = {"judging": [1, 2, 3], "class": [*range(1, shared + 1), 8, 9]}
    assert bool(broken(replace(SOUND, image_seeds=seeds))) is (shared == 2)


def test_a_seed_that_serves_all_images_is_noticed() -> None:
    assert broken(replace(SOUND, image_seeds={"judging": [5, 5, 5]}))
