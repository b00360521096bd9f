"""The config: what cannot be meant is refused with the nearest name; what is meant survives being written down."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from portrayal.config import Config, LoraMethod
from portrayal.errors import UsageError
from portrayal.settings import load_config, parse_value, recipe_names, set_value, validate

KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
TOML_VALUES = st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("method.lora.ranks=8", "method.lora.ranks: unknown key; did you mean rank?"),
        ("trainning.snr_gamma=5", "trainning: unknown key; did you mean training?"),
        ("training.optimiser.name=prodigy", "training.optimiser: unknown key; did you mean optimizer?"),
        ("training.optimizer.bettas=[0.9,0.99]", "training.optimizer.bettas: unknown key; did you mean betas?"),
        ("sede=1", "sede: unknown key; did you mean seed?"),
        ("control.zzz=1", "control.zzz: unknown key; known: enabled, kinds, reference"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(setting: str, answer: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, [setting])
    assert answer in caught.value.cause
    assert caught.value.remedy


def test_a_list_with_wrong_items_is_not_also_called_too_short() -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, ["study.learning_rates=[0,500]"])
    assert [line.split(":")[0] for line in caught.value.cause.splitlines()] == [
        "study.learning_rates.0",
        "study.learning_rates.1",
    ]
    with pytest.raises(UsageError, match=r"study\.learning_rates: Tuple should have at least 1 item"):
        load_config(None, ["study.learning_rates=[]"])


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("method.lora.rank=0", "method.lora.rank: "),
        ("study.ranks=[4,0]", "study.ranks.1: "),
        ("study.ranks=[4,4]", "study.ranks: each rank may stand here once"),
        ("control.kinds=[]", "control: kinds: name at least one"),
        ('control.kinds=["sketch"]', "control.kinds.0: "),
        ('control.kinds=["canny","canny"]', "control: kinds: each kind may stand here once"),
        (
            'control.controlnet={sketch="auto"}',
            "control: controlnet: no kind 'sketch'; there are canny, openpose, depth",
        ),
        ("base.resolution=100", "base.resolution: must be a multiple of 8, such as 96"),
        ("training.mixed_precision=fp64", "training.mixed_precision: "),
        ("training.snr_gamma=-1", "training.snr_gamma: "),
        ("generation.scenes.beach=at the beach", "lacks {subject}"),
        ('generation.scenes.a/b="{subject}"', "names a folder"),
        ("training=5", "training: "),
        ("seed=-1", "seed: "),
        ("method.lora.dropout=1.0", "method.lora.dropout: "),
        ("method.lora.target_modules=[]", "method.lora.target_modules: "),
        ("prepare.min_photos=2", "prepare.min_photos: "),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(setting: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, [setting])
    assert key in caught.value.cause


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, ["method.lora.rank=0", "sed=1"])
    assert len(caught.value.cause.splitlines()) == 2


def test_a_study_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to train"):
        load_config(None, ["study.full_unet=false", "study.ranks=[]"])


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("7", 7),
        ("1e-4", 1e-4),
        ("true", True),
        ("[8,16]", [8, 16]),
        ('"7"', "7"),
        ("{a = 1}", {"a": 1}),
        ("woman", "woman"),
        ("a photo of {subject}, at night", "a photo of {subject}, at night"),
        ("", ""),
        ("/photos/ann #2", "/photos/ann #2"),
    ],
)
def test_a_value_is_toml_or_else_the_text_itself(raw: str, value: object) -> None:
    assert parse_value(raw) == value


@pytest.mark.parametrize("text", ["seed", "=7", "", " = 7"])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not of the form"):
        set_value({}, text)


def test_a_value_is_no_section() -> None:
    with pytest.raises(UsageError, match="seed is a value, not a section"):
        load_config(None, ["seed=1", "seed.x=2"])


def test_later_settings_win_and_spaces_do_not_matter() -> None:
    assert load_config(None, ["seed=1", " seed = 2 "]).seed == 2


@given(st.lists(KEYS, min_size=1, max_size=4), TOML_VALUES)
def test_a_set_value_is_found_at_its_path(path: list[str], value: object) -> None:
    values: dict[str, object] = {}
    set_value(values, f"{'.'.join(path)}={str(value).lower()}")
    found: object = values
    for key in path:
        assert isinstance(found, dict)
        found = found[key]
    assert found == value


@example("1\nseed = 2")
@given(st.text(max_size=30))
def test_any_text_is_a_value(raw: str) -> None:
    """No text may escape as an error of the TOML reader, and no text may set a second key."""
    try:
        whole = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        assert parse_value(raw) == raw
    else:
        assert parse_value(raw) == (whole["value"] if whole.keys() == {"value"} else raw)


@given(st.text(max_size=20), st.integers(0, 2**40), st.sets(st.integers(1, 512), min_size=1, max_size=4))
def test_a_config_survives_being_written_down(negative_prompt: str, seed: int, ranks: set[int]) -> None:
    config = validate(
        {"seed": seed, "generation": {"negative_prompt": negative_prompt}, "study": {"ranks": sorted(ranks)}}
    )
    assert validate(tomllib.loads(config.to_toml())) == config


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_loads_and_survives_being_written_down(recipe: str) -> None:
    config = load_config(recipe)
    assert config.recipe == recipe
    assert validate(tomllib.loads(config.to_toml())) == config


def test_there_are_recipes() -> None:
    assert "pocket-demo" in recipe_names()


def test_an_unknown_recipe_suggests_one() -> None:
    with pytest.raises(UsageError) as caught:
        load_config("pocket-dmo")
    assert caught.value.remedy == "did you mean pocket-demo?"


def test_a_broken_recipe_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = \n")
    with pytest.raises(UsageError, match="line 1"):
        load_config(str(path))


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no recipe"):
        load_config(str(tmp_path))


def test_the_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Config().seed = 3  # type: ignore[misc]


def test_every_lora_of_the_study_has_its_rank() -> None:
    methods = load_config(None, ["study.ranks=[2,8]", "study.learning_rates=[1]", "method.lora.dropout=0.1"]).methods
    assert list(methods) == ["unet", "lora-2", "lora-8"]
    assert [methods[name].rank for name in ("lora-2", "lora-8")] == [2, 8]
    assert methods["lora-8"].dropout == 0.1


def test_every_field_tells_what_it_is() -> None:
    """The docstrings become `--help`, the JSON schema and the labels of the web form."""
    sections = {name: part for name, part in Config.model_json_schema()["$defs"].items() if "properties" in part}
    lacking = [
        f"{name}.{key}"
        for name, part in sections.items()
        for key, field in part["properties"].items()
        if key != "kind" and "description" not in field
    ]
    assert lacking == []


def test_a_named_controlnet_is_for_one_kind() -> None:
    both = 'control.kinds=["canny","openpose"]'
    assert load_config(None, ["control.controlnet=a/b"]).control.controlnet_of("canny") == "a/b"
    with pytest.raises(UsageError, match="one for each"):
        load_config(None, [both, "control.controlnet=a/b"])
    control = load_config(None, [both, 'control.controlnet={openpose="a/b"}']).control
    assert [control.controlnet_of(kind) for kind in control.kinds] == ["auto", "a/b"]


def test_a_ready_made_control_image_is_of_one_kind() -> None:
    with pytest.raises(UsageError, match="of one kind"):
        load_config("pocket-demo", ["control.ready_made=true"])
    control = load_config(None, ["control.ready_made=true"]).control
    assert not control.reference_is_control_image  # none was given


def scales(*settings: str) -> list[float]:
    study = ["study.ranks=[4,16,64]", "study.learning_rates=[1]", "study.full_unet=false"]
    found = []
    for method in load_config(None, [*study, *settings]).methods.values():
        assert isinstance(method, LoraMethod)
        found.append((method.rank if method.alpha is None else method.alpha) / method.rank)
    return found


def test_ranks_have_one_scale_unless_another_rule_is_asked_for() -> None:
    assert scales() == [8, 2, 0.5]
    assert scales("study.lora_scale=equal") == [1, 1, 1]
    assert scales("method.lora.alpha=8") == [2, 0.5, 0.125]
    assert scales("study.lora_scale=rank_stabilized") == pytest.approx([1, 0.5, 0.25])
    assert scales("study.lora_scale=rank_stabilized", "method.lora.alpha=8") == pytest.approx([4, 2, 1])
