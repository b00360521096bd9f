"""What pages show: the form of the settings, what goes on, the comparison, and blind votes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portrayal import Config, Run, UsageError, load_config
from portrayal.studio.compare import table
from portrayal.studio.forms import Field, fields, is_path, parse, plan, table_text
from portrayal.studio.lanes import points
from portrayal.studio.logs import Log
from portrayal.studio.parts import stages_of
from portrayal.studio.projects import Project, Projects, as_toml
from portrayal.studio.votes import next_pair, picture_of, tally, vote, wilson
from portrayal.studio.watch import look

# The form --------------------------------------------------------------------------------------------------------


def leaves(values: object, prefix: str = "") -> set[str]:
    """Dotted keys of every setting."""
    if not isinstance(values, dict) or prefix in ("generation.scenes.", "prepare.crop."):
        return {prefix[:-1]}
    return {key for name, value in values.items() for key in leaves(value, f"{prefix}{name}.")}


def test_every_setting_has_a_field_with_its_docstring() -> None:
    found = {one.key: one for one in fields()}
    elsewhere = {"recipe", "control.reference", "control.ready_made", "method.lora.rank"} | {
        f"prepare.{name}" for name in ("drop", "keep", "crop")
    }
    kinds = {"method.unet.kind", "method.lora.kind"}
    assert set(found) == leaves(Config().model_dump()) - elsewhere - kinds
    assert all(one.help for one in found.values())
    assert found["study.ranks"].help.startswith("Train LoRAs at each of these ranks")
    assert found["training.mixed_precision"].choices == ("auto", "no", "fp16", "bf16")
    assert (found["training.background_loss_weight"].minimum, found["training.background_loss_weight"].maximum) == (
        0,
        1,
    )
    assert found["base.resolution"].optional


def as_typed(one: Field) -> object:
    """What stands in a field before anybody touches it."""
    if one.kind == "table":
        return table_text(one.default)
    if one.kind == "list":
        return ", ".join(map(str, one.default))
    return "" if one.default is None else one.default


@pytest.mark.parametrize("recipe", [None, "pocket-demo", "sd15-24gb", str(Path(__file__).parents[1] / "tiny.toml")])
def test_a_form_that_nobody_touched_says_nothing(recipe: str | None) -> None:
    parsed = parse({one.key: as_typed(one) for one in fields(recipe)}, recipe)
    assert parsed.errors == {}
    assert parsed.overrides == {}


def test_a_form_is_read_as_it_was_meant() -> None:
    said = {"seed": "7", "study.ranks": "4, 8", "method.lora.learning_rate": "0,002", "study.full_unet": False}
    parsed = parse(said | {"generation.scenes": 'sea = "{subject} by the sea"', "control.kinds": ["openpose", "canny"]})
    assert parsed.errors == {}
    config = load_config(None, [f"{key}={as_toml(value)}" for key, value in parsed.overrides.items()])
    assert (config.seed, config.study.ranks, config.method.lora.learning_rate) == (7, (4, 8), 0.002)
    assert config.generation.scenes == {"sea": "{subject} by the sea"}
    assert config.control.kinds == ("openpose", "canny")
    assert not config.study.full_unet


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "-1"),
        ("seed", "seven"),
        ("seed", "1.5"),
        ("study.ranks", "4, 4"),
        ("study.ranks", "x"),
        ("training.mixed_precision", "fp8"),
        ("generation.scenes", "not toml"),
        ("seed", "INF"),
        ("method.lora.learning_rate", "nan"),
        ("generation.scenes", 'sea = "nobody there"'),
        ("nothing.of.this", "1"),
        ("control.reference", "/etc/passwd"),
        ("base.name", "/etc/passwd"),
        ("base.name", "../../model"),
        ("base.name", "model.safetensors"),
        ("base.vae", "~/vae"),
        ("evaluation.identity", "C:\\face.onnx"),
        ("control.controlnet", "./net"),
        ("generation.scenes", "/etc/passwd"),
    ],
)
def test_what_cannot_be_meant_is_told_beside_its_field(key: str, value: str) -> None:
    parsed = parse({key: value})
    assert list(parsed.errors) == [key]
    assert parsed.errors[key]
    assert "Traceback" not in parsed.errors[key]


@given(st.sampled_from([one.key for one in fields()]), st.text(max_size=30) | st.integers() | st.booleans() | st.none())
@settings(max_examples=300, deadline=None)
def test_no_form_breaks_the_reader(key: str, value: object) -> None:
    parsed = parse({key: value})
    if not parsed.errors:
        load_config(None, [f"{name}={as_toml(found)}" for name, found in parsed.overrides.items()])


def test_settings_that_contradict_each_other_are_told() -> None:
    assert "folds" in parse({"study.folds": "2", "study.unet_folds": "3"}).errors[""]


@pytest.mark.parametrize("hub", ["pocket", "sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", "auto"])
def test_hub_ids_are_no_paths(hub: str) -> None:
    assert not is_path(hub)
    assert parse({"base.name": hub}).errors == {}


def test_a_plan_says_what_would_be_fetched(projects: Projects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = projects.create("Ann")
    made.choose(base="sd15", class_noun="woman", overrides={"control.kinds": ["openpose"]})
    found = {one.name: one for one in plan(made).downloads}
    if "sd15" not in found:
        pytest.skip("Stable Diffusion 1.5 is on this machine")
    assert {"sd15", "openpose", "vitpose", "rtdetr", "clip", "dinov2", "auraface", "yunet"} <= set(found)
    assert found["sd15"].licence == "creativeml-openrail-m"
    assert found["sd15"].megabytes > 4000
    assert plan(made).minutes is None
    made.choose(base="pocket", overrides={"study.folds": 99})
    assert plan(made).downloads == ()
    made.choose(overrides={"study.ranks": [0]})
    assert "ranks" in plan(made).error
    assert plan(made).fix


# What goes on ----------------------------------------------------------------------------------------------------


def test_a_log_is_read_on_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path)
    assert log.rows() == []
    path.write_text('{"a": 1}\n{"a": 2')
    assert log.rows() == [{"a": 1}]
    with path.open("a") as file:
        file.write("}\nnonsense\n[1]\n{}\n")
    assert log.rows() == [{"a": 1}, {"a": 2}, {}]
    other = tmp_path / "other"
    other.write_text('{"b": 1}\n')
    other.replace(path)  # a training that went back
    assert log.rows() == [{"b": 1}]
    path.unlink()
    assert log.rows() == []


def test_a_curve_has_few_points_each_the_mean_of_its_steps() -> None:
    rows = [{"step": step, "loss": float(step)} for step in range(1, 1001)]
    curve = points(rows)
    assert len(curve) <= 240
    assert curve[0] == (5, 3.0)
    assert curve[-1][0] == 1000
    assert points([{"step": 1, "loss": None}]) == []


def test_a_run_that_is_done_is_shown_whole(finished: Project) -> None:
    view = look(finished)
    assert (view.state, view.seconds_left, view.can_ask, view.failure) == ("done", None, False, None)
    names = [lane.name for lane in view.lanes]
    assert names[:3] == ["unet", "lora-2", "lora-4"]
    for lane in view.lanes[:3]:
        assert (lane.state, lane.step, lane.total) == ("done", 3, 3)
        assert lane.best_step is not None
        assert [step for step, _ in lane.heldout] == [2, 3]
        assert all(one.path.is_file() for one in lane.samples)
    assert view.lanes[1].trainings == 2
    assert [stage.state for stage in view.stages] == ["done"] * len(view.stages)
    assert view.notes


def test_while_a_lora_is_cut_judging_is_as_far_as_its_pictures(finished: Project) -> None:
    """What was judged before took no time beside them."""
    rows = [("evaluate", "started", 100.0), ("evaluate", "finished", 101.0), ("evaluate.cuts", "started", 101.0)]
    events = [{"stage": stage, "kind": kind, "time": time} for stage, kind, time in rows]
    live = {"stage": "evaluate.cuts", "done": 54, "total": 216, "first": 0, "started": 101.0, "time": 110.0}
    run = Run.open(finished.run_folder)
    (part,) = [one for one in stages_of(run, events, live, [], finished=False) if one.name == "evaluate"]
    assert (part.state, part.done, part.total, part.share, part.rate) == ("running", 54, 216, 0.25, 6.0)
    assert part.seconds_left == pytest.approx(3 * (9 + 1))


def test_a_damaged_run_is_shown_as_far_as_it_goes(finished: Project) -> None:
    (finished.run_folder / "events.jsonl").write_text("half a li")
    (finished.run_folder / "live.json").write_text("{")
    (finished.run_folder / "estimate.json").write_text("[]")
    (finished.run_folder / "models" / "unet" / "readings.json").write_text("")
    assert look(finished).state == "done"


# Comparison ------------------------------------------------------------------------------------------------------


def test_pictures_stand_beside_each_other_with_what_was_measured(finished: Project) -> None:
    found = table(finished)
    assert found is not None
    assert [name for name, _ in found.scenes] == ["street", "forest"]
    assert found.scenes[0][1] == "a photo of sks woman on the street"
    assert found.models[:4] == ["base", "unet", "lora-2", "lora-4"]
    assert found.seeds == [0, 1]
    scores = json.loads((finished.run_folder / "scores.json").read_text())
    for model in found.models[:4]:
        cells = [found.cell(scene, model, seed) for scene, _ in found.scenes for seed in found.seeds]
        for cell in cells:
            assert cell is not None
            assert cell.path.is_file()
            assert cell.near is not None
            assert cell.near.stem == cell.near_id
            assert -1 <= (cell.similarity or 0) <= 1
    manifest = json.loads((finished.run_folder / "dataset" / "manifest.json").read_text())
    heldout = {row["id"] for row in manifest["photos"] if row["fold"] == 0}
    nearest = {cell.near_id for cell in found.cells.values() if cell.near_id}
    assert not nearest & heldout  # of those that were trained on
    row = next(one for one in found.rows if one.model == "lora-2")
    told = next(one for one in scores["models"] if one["name"] == "lora-2")
    assert row.identity is not None
    assert row.identity.mean == told["identity"]["mean"]
    assert found.verdict is not None
    assert found.verdict.sentence == scores["verdict"]["sentence"]
    assert found.charts["identity"].startswith(("<?xml", "<svg"))
    assert found.report is not None
    assert found.cell("street", "nobody", 0) is None


def test_what_each_picture_scored_makes_up_its_model_s_score(finished: Project) -> None:
    """The base's pictures are judged in every split; its first training's are those of the first fold."""
    looks = json.loads((finished.run_folder / "looks.json").read_text())
    scores = json.loads((finished.run_folder / "scores.json").read_text())
    (unet,) = (row for row in scores["models"] if row["name"] == "unet")
    identity = [cell["identity"] for row in looks["unet"] for cell in row]
    assert sum(identity) / len(identity) == pytest.approx(unet["identity"]["mean"], abs=1e-3)
    assert "pictures" not in scores


def test_without_pictures_there_is_nothing_to_compare(projects: Projects) -> None:
    made = projects.create("Ann")
    assert table(made) is None
    assert next_pair(made) is None
    assert tally(made) == []


# Votes -----------------------------------------------------------------------------------------------------------


def test_votes_are_blind_counted_and_kept(finished: Project) -> None:
    seen, sides = [], {"left": 0, "right": 0}
    while (pair := next_pair(finished)) is not None:
        assert next_pair(finished) == pair  # until it is voted on
        assert not re.search("base|unet|lora", pair.id + pair.scene)
        assert pair.number == len(seen)
        left, right = vote(finished, pair.id, "a" if len(seen) % 3 else "equal")
        assert left != right
        assert pair.a.parent == finished.run_folder / "images" / left / pair.scene
        assert (pair.a.name, picture_of(finished, pair.id, "b")) == (pair.b.name, pair.b)
        sides["left" if left == "base" else "right"] += "base" in (left, right)
        seen.append((pair.scene, pair.a.name, frozenset((left, right))))
    assert len(set(seen)) == len(seen) == 2 * 2 * 6  # scenes, seeds, pairs of four models
    assert min(sides.values()) > 0
    first = [pair for _, _, pair in seen[:6]]
    assert len(set(first)) == 6  # every two models once before any twice
    counted = tally(finished)
    assert len(counted) == 6
    assert all(one.wins + one.losses + one.ties == 4 for one in counted)
    kept = json.loads((finished.run_folder / "votes.json").read_text())
    assert len(kept["votes"]) == 24
    assert kept["tally"][0]["a"] == "base"


def test_a_vote_that_cannot_be_meant_is_refused(finished: Project) -> None:
    pair = next_pair(finished)
    assert pair is not None
    for id, choice in ((pair.id, "c"), ("nothing", "a"), ("../..", "b")):
        with pytest.raises(UsageError):
            vote(finished, id, choice)  # type: ignore[arg-type]
    vote(finished, pair.id, "a")
    vote(finished, pair.id, "b")  # a second thought takes the place of the first
    (counted,) = tally(finished)
    assert counted.wins + counted.losses == 1


@pytest.mark.parametrize(
    ("wins", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_wilson_s_interval(wins: int, count: int, low: float, high: float) -> None:
    """Against the values of R's `prop.test(..., correct = FALSE)`."""
    share, found_low, found_high = wilson(wins, count)
    assert share == wins / count
    assert found_low == pytest.approx(low, abs=2e-4)
    assert found_high == pytest.approx(high, abs=2e-4)
    assert wilson(0, 0) == (None, None, None)
