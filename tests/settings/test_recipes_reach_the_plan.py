"""Recipes, efforts and single settings, and what they come to together: every key of a recipe reaches the plan."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from portrayal import planning
from portrayal.cli.printing import progress_lines
from portrayal.config import BaseConfig
from portrayal.models.source import find_base
from portrayal.planning import Plan, make_plan
from portrayal.settings import effort_settings, load_config, recipe_folder, recipe_names
from tests.settings.observations import flat
from tests.settings.world import World

SETTLED = {"base.name", "training.mixed_precision"}
"""Keys for which the plan has what was found in place of what was asked for."""


@pytest.fixture
def any_base(world: World, monkeypatch: pytest.MonkeyPatch) -> list[BaseConfig]:
    """Whatever base a recipe names, the small base is found; the list gets what was asked for."""
    asked: list[BaseConfig] = []

    def found(config: BaseConfig) -> Any:
        asked.append(config)
        return find_base(BaseConfig(name="pocket" if config.name == "pocket" else str(world.base)))

    monkeypatch.setattr(planning, "find_base", found)
    return asked


def own_settings(recipe: str) -> dict[str, Any]:
    """What a recipe says, by dotted key."""
    return flat(tomllib.loads((recipe_folder() / f"{recipe}.toml").read_text(encoding="utf-8")))


def settled(plan: Plan) -> dict[str, Any]:
    """The settings of a plan, by dotted key."""
    return flat(plan.config.model_dump(mode="json"))


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_key_of_a_recipe_reaches_the_plan(recipe: str, any_base: list[BaseConfig]) -> None:
    own = own_settings(recipe)
    found, plain = settled(make_plan(recipe, [])), settled(make_plan("pocket-demo", []))
    assert own
    assert {key: found[key] for key in own if key not in SETTLED} == {
        key: value for key, value in own.items() if key not in SETTLED
    }
    assert any_base[0].name == own["base.name"]
    assert found["recipe"] == recipe
    assert recipe == "pocket-demo" or found != plain


@pytest.mark.parametrize("recipe", recipe_names())
def test_what_a_recipe_does_not_say_is_the_default(recipe: str, any_base: list[BaseConfig]) -> None:
    defaults = flat(load_config().model_dump(mode="json"))
    found = settled(make_plan(recipe, []))
    left_open = {"recipe", "base.resolution", "base.revision", *SETTLED, *own_settings(recipe)}
    assert {key: value for key, value in found.items() if key not in left_open} == {
        key: value for key, value in defaults.items() if key not in left_open
    }


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_setting_wins_over_the_recipe_and_leaves_its_others(recipe: str, any_base: list[BaseConfig]) -> None:
    before = settled(make_plan(recipe, []))
    after = settled(make_plan(recipe, ["training.num_class_images=7", "seed=3"]))
    changed = {key: after[key] for key in after if after[key] != before[key]}
    assert changed == {"training.num_class_images": 7, "seed": 3}


@pytest.mark.parametrize(
    ("gib", "recipe"), [(80, "sd15-80gb"), (41, "sd15-80gb"), (24, "sd15-24gb"), (16, "sd15-8gb"), (8, "sd15-8gb")]
)
def test_the_recipe_is_chosen_by_the_gpu(
    gib: int, recipe: str, any_base: list[BaseConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    plan = make_plan(None, ["base.name=sd15", "seed=5"])
    own = own_settings(recipe)
    assert plan.config.recipe == recipe
    assert plan.config.seed == 5
    assert {key: settled(plan)[key] for key in own if key not in SETTLED} == {
        key: value for key, value in own.items() if key not in SETTLED
    }


def test_the_embedded_base_has_its_recipe(any_base: list[BaseConfig]) -> None:
    plan = make_plan(None, ["base.name=pocket", "study.ranks=[4]"])
    assert plan.config.recipe == "pocket-demo"
    assert plan.config.study.ranks == (4,)
    assert plan.config.prepare.captions == "captioner"


@pytest.mark.parametrize("recipe", [*recipe_names(), None])
@pytest.mark.parametrize(("effort", "unet", "lora"), [("quick", 1, 1), ("balanced", 1, 3), ("thorough", 5, 15)])
def test_an_effort_says_how_often_each_model_is_trained(
    effort: str, unet: int, lora: int, recipe: str | None, tmp_path: Path
) -> None:
    """Whatever the recipe says, but where nothing is asked for."""
    if recipe is None:
        (tmp_path / "mine.toml").write_text("[study]\nfolds = 4\nunet_folds = 2\nseeds = 2\nreadings = 9")
        recipe, (unet, lora) = str(tmp_path / "mine.toml"), (2, 8) if effort == "balanced" else (unet, lora)
    config = load_config(recipe, effort_settings(effort))
    models = [trial.model for trial in config.trials.values()]
    assert {name: models.count(name) for name in config.methods} == {
        name: unet if name == "unet" else lora for name in config.methods
    }
    assert config.study.final is (effort != "quick")
    assert effort != "quick" or (config.study.readings, config.study.learning_rates) == (3, (1.0,))


def test_a_setting_wins_over_the_effort() -> None:
    config = load_config("pocket-demo", [*effort_settings("quick"), "study.folds=2", "study.readings=4"])
    assert (config.study.folds, config.study.readings, config.study.final) == (2, 4, False)


def test_scenes_of_a_file_take_the_place_of_all_and_a_single_one_joins_them(tmp_path: Path) -> None:
    (tmp_path / "scenes.toml").write_text("sea = 'a photo of {subject} at sea'")
    file = f"generation.scenes={tmp_path / 'scenes.toml'}"
    (tmp_path / "mine.toml").write_text(f"[generation]\nscenes = '{tmp_path / 'scenes.toml'}'")
    sea = {"sea": "a photo of {subject} at sea"}
    assert load_config(None, [file]).generation.scenes == sea
    assert load_config(str(tmp_path / "mine.toml")).generation.scenes == sea
    both = load_config(None, [file, "generation.scenes.moon={subject} on the moon"]).generation.scenes
    assert both == sea | {"moon": "{subject} on the moon"}
    more = load_config(None, ["generation.scenes.moon={subject} on the moon"]).generation.scenes
    assert more == load_config().generation.scenes | {"moon": "{subject} on the moon"}


def test_the_recipe_is_shown_before_a_run(capsys: pytest.CaptureFixture[str], world: World) -> None:
    plan = planning.settle(world.config("recipe=mine"))
    with progress_lines(plan):
        pass
    assert "recipe mine" in capsys.readouterr().err
