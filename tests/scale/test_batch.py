"""Many subjects: one that fails stops no other, one that is killed goes on, and all results are those of plain runs."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

import portrayal
from portrayal.cli import app
from portrayal.errors import MachineError, PhotosError, UsageError
from portrayal.run import Run
from portrayal.scale import batch as batch_module
from portrayal.scale import executors, on_ray
from portrayal.scale.batch import Batch, run_batch
from portrayal.scale.executors import Executor, Job
from portrayal.scale.outcomes import Outcome
from portrayal.scale.report import write_summary
from portrayal.scale.storage import Store
from portrayal.scale.subjects import Study
from portrayal.scale.summary import outliers, summarise
from portrayal.scale.table import BatchTable, state_of

TINY = str(Path(__file__).parents[1] / "tiny.toml")
SETTINGS = (
    "study.full_unet=false",
    "study.ranks=[2]",
    "study.learning_rates=[1]",
    "study.folds=1",
    "study.readings=1",
    "study.final=false",
    "method.lora.max_train_steps=8",
    "training.prior_loss_weight=0",
    "generation.num_images_per_scene=1",
    "generation.num_inference_steps=1",
    "control.enabled=false",
)
Hashes = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def people(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects of four drawn photos each, and one whose photos are none."""
    folder = tmp_path_factory.mktemp("people")
    files = sorted(photos.iterdir())
    for number, name in enumerate(("ann", "bea", "cid")):
        (folder / name).mkdir()
        for path in files[number : number + 4]:
            shutil.copy(path, folder / name)
    (folder / "dud").mkdir()
    (folder / "dud" / "a.jpg").write_text("no picture")
    return folder


def killed(out: Path, name: str, mark: Callable[[str], bool]) -> threading.Thread:
    """End the process that trains a subject, without a word, once it has kept a checkpoint."""
    checkpoints = out / name / "models" / ".lora-2.training" / "checkpoint"

    def end() -> None:
        deadline = time.monotonic() + 200
        while not [*checkpoints.glob("0*")] and time.monotonic() < deadline:
            time.sleep(0.005)
        for process in psutil.process_iter(["cmdline"]):
            if mark(" ".join(process.info["cmdline"] or ())):
                process.send_signal(signal.SIGKILL)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def one_by_one(people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Without Ray, one of the processes killed in mid-training."""
    out = tmp_path_factory.mktemp("one-by-one") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        killer = killed(out, "bea", lambda command: "portrayal run" in command and str(out / "bea") in command)
        summary = run_batch(people, str(out), [TINY], SETTINGS, consent=True, address="none")
        killer.join()
    return out, summary


def test_one_that_fails_is_told_and_one_that_is_killed_goes_on(one_by_one: tuple[Path, dict[str, Any]]) -> None:
    out, summary = one_by_one
    assert (summary["subjects"], summary["done"], summary["waiting"]) == (4, 3, [])
    (failed,) = summary["failed"]
    assert (failed["name"], failed["code"]) == ("dud", PhotosError.exit_code)
    assert "not a picture" in failed["message"]
    tries = {row["name"]: row["tries"] for row in summary["rows"]}
    assert tries == {"ann": 1, "bea": 2, "cid": 1}
    assert summary["again"] == 1
    assert summary["wins"] == {"lora-2": {"recommended": 3, "won": 0}}
    assert len(summary["identity"]["lora-2"]["values"]) == 3
    for name in ("ann", "bea", "cid"):
        assert Run.open(out / name).provenance["consent"] == "stated by the user"
        assert (out / name / "report.html").is_file()
    page = (out / "batch.html").read_text()
    assert page.count('src="data:image/webp;base64,') == 6
    assert all(name in page for name in ("ann", "bea", "cid", "dud"))
    assert "https://" not in page
    assert "dud" in (out / "batch.md").read_text()


def test_ray_makes_the_same_with_a_worker_killed(
    people: Path, one_by_one: tuple[Path, dict[str, Any]], tmp_path: Path, hashes: Hashes
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'portrayal[ray]'")
    reference, _ = one_by_one
    out = tmp_path / "runs"
    seen: list[tuple[int, int]] = []
    killer = killed(out, "ann", lambda command: command.startswith("ray::ann"))
    summary = run_batch(
        people, str(out), [TINY], SETTINGS, consent=True, watch=lambda b: seen.append((len(b.jobs), len(b.outcomes)))
    )
    killer.join()
    assert [one["name"] for one in summary["failed"]] == ["dud"]
    assert {row["name"]: row["tries"] for row in summary["rows"]}["ann"] > 1
    assert seen[0][1] == 0
    assert seen[-1] == (4, 4)
    for name in ("ann", "bea", "cid"):
        for pattern in ("*.safetensors", "scores.json", "images/**/*.png"):
            found = hashes(out / name, pattern)
            assert found
            assert found == hashes(reference / name, pattern), (name, pattern)


def test_the_same_call_again_tries_what_failed_and_touches_nothing_else(
    people: Path, one_by_one: tuple[Path, dict[str, Any]], hashes: Hashes
) -> None:
    out, first = one_by_one
    before = {name: hashes(out / name) for name in ("ann", "bea", "cid")}
    asked: list[str] = []

    def execute(jobs: Sequence[Job], store: Store) -> Iterator[Outcome]:
        asked.extend(job.study.name for job in jobs)
        yield from executors.one_by_one([], store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_module, "executor_for", lambda *_: Executor(execute))
        summary = run_batch(people, str(out), [TINY], SETTINGS, consent=True)
    assert asked == ["dud"]
    assert summary["waiting"] == ["dud"]
    assert [row["sentence"] for row in summary["rows"]] == [row["sentence"] for row in first["rows"]]
    assert {name: hashes(out / name) for name in before} == before


# Where runs are kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_runs_are_made_in_scratch_and_uploaded_whole(
    kind: str, people: Path, one_by_one: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path / "cache"))
    address = f"memory://{tmp_path.name}/runs" if kind == "memory" else f"file://{tmp_path}/far/runs"
    made, put = one_by_one[0], list[str]()

    def execute(jobs: Sequence[Job], store: Store) -> Iterator[Outcome]:
        for job in jobs:
            if job.study.name == "dud":
                yield Outcome("dud", error={"code": 4, "message": "none", "fix": ""})
                continue
            shutil.copytree(made / job.study.name, store.folder(job.study.name))
            yield executors.kept(job.study.name, store)

    def recorded(store: Store, path: Path, name: str) -> None:
        put.append(name)
        original(store, path, name)

    original = Store._put
    monkeypatch.setattr(Store, "_put", recorded)
    monkeypatch.setattr(batch_module, "executor_for", lambda *_: Executor(execute))
    summary = run_batch(people, address, [TINY], SETTINGS, consent=True)
    assert summary["done"] == 3
    assert [name for name in put if name.startswith("ann/")][-1] == "ann/run.json"
    store = Store(address)
    assert not store.folder("ann").exists()
    files = fsspec.core.url_to_fs(address)[0]
    kept = {path.split("/runs/", 1)[1]: files.cat_file(path) for path in files.find(f"{store.root}/ann")}
    there = {f"ann/{path.relative_to(made / 'ann').as_posix()}": path.read_bytes()
             for path in (made / "ann").rglob("*") if path.is_file()}  # fmt: skip
    assert kept == there
    assert store.read_json("batch/summary.json")["done"] == 3
    monkeypatch.setattr(batch_module, "executor_for", lambda *_: Executor(lambda jobs, _: iter(())))
    again = run_batch(people, address, [TINY], SETTINGS, consent=True)
    assert [row["name"] for row in again["rows"]] == ["ann", "bea", "cid"]
    assert again["rows"][0]["recommended"] == "lora-2"


def test_an_address_nobody_knows(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nowhere://runs"):
        run_batch(people, "nowhere://runs", [TINY])

    def missing(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MachineError, match="Install s3fs"):
        Store("s3://bucket/runs")


def test_a_place_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path))
    store = Store("memory://gone")
    monkeypatch.setattr(type(store.files), "exists", lambda *_: (_ for _ in ()).throw(ConnectionError("no route")))
    with pytest.raises(MachineError, match="no route"):
        store.has("ann")


# What goes wrong -------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be_meant_fail_their_subject_alone(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "people.csv"
    rows = [f"{people}/ann,yes,", f"{people}/bea,no,", f"{people}/cid,yes,[0]"]
    table.write_text("\n".join(["photos,consent,study.ranks", *rows]))
    monkeypatch.setattr(batch_module, "executor_for", lambda *_: Executor(lambda jobs, _: iter(())))
    summary = run_batch(table, str(tmp_path / "runs"), [TINY], SETTINGS)
    assert summary["waiting"] == ["ann"]
    assert {one["name"]: one["code"] for one in summary["failed"]} == {"bea": 2, "cid": 2}
    assert "study.ranks.0" in next(one["message"] for one in summary["failed"] if one["name"] == "cid")
    assert "does not agree" in next(one["message"] for one in summary["failed"] if one["name"] == "bea")


def test_a_process_that_is_lost_every_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = tmp_path / "count"
    code = f"import os; open({str(counted)!r}, 'a').write('x'); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(executors, "command", lambda study, store: ["-c", code])
    outcome = executors.in_a_process(Study("ann", tmp_path), Store(str(tmp_path / "runs")))
    assert outcome.tries == executors.TRIES == len(counted.read_text())
    assert outcome.error
    assert outcome.error["code"] == "lost"
    assert "-9" in outcome.error["message"]


def test_a_fault_of_ours_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "command", lambda study, store: ["-c", "raise ZeroDivisionError"])
    store = Store(str(tmp_path / "runs"))
    outcome = executors.in_a_process(Study("ann", tmp_path), store)
    assert outcome.tries == 1
    assert "ZeroDivisionError" in store.log("ann").read_text()


def test_ctrl_c_ends_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "command", lambda study, store: ["-c", "raise SystemExit(130)"])
    with pytest.raises(KeyboardInterrupt):
        executors.in_a_process(Study("ann", tmp_path), Store(str(tmp_path / "runs")))


def test_the_command_says_what_failed(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        portrayal, "run_batch", lambda *_, **__: {"subjects": 2, "failed": [{"name": "ann"}]}, raising=False
    )
    result = CliRunner().invoke(app, ["batch", str(people), "--out", str(tmp_path), "--json"])
    assert result.exit_code == 8
    record = json.loads(result.stdout)
    assert record["error"]["message"] == "1 of 2 subjects failed: ann."
    assert record["summary"]["subjects"] == 2
    missing = CliRunner().invoke(app, ["batch", str(tmp_path / "nobody")])
    assert missing.exit_code in (2, 8)


def test_without_ray_an_address_is_refused_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MachineError("Ray is not installed.", "pip install 'portrayal[ray]'")

    monkeypatch.setattr(batch_module, "ray_itself", missing)
    assert batch_module.executor_for(None) == Executor(executors.one_by_one)
    with pytest.raises(MachineError, match="not installed"):
        batch_module.executor_for("10.0.0.1:6379")


# By memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gib", "memory", "share"),
    [(None, None, 1.0), (7.0, 80.0, 0.11), (20.0, 80.0, 0.29), (45.0, 80.0, 1.0), (0.1, 80.0, 0.05)],
)
def test_a_study_gets_as_much_of_a_card_as_it_needs(gib: float | None, memory: float | None, share: float) -> None:
    assert on_ray.share_of(Job(Study("ann", Path("ann")), 60, gib, memory)) == share


def test_long_studies_come_first(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def execute(jobs: Sequence[Job], store: Store) -> Iterator[Outcome]:
        asked.extend(job.study.name for job in jobs)
        return iter(())

    table = tmp_path / "people.csv"
    rows = [f"{people}/{name},{steps}" for name, steps in (("ann", 5), ("bea", 500), ("cid", 50))]
    table.write_text("\n".join(["photos,method.lora.max_train_steps", *rows]))
    monkeypatch.setattr(batch_module, "executor_for", lambda *_: Executor(execute))
    run_batch(table, str(tmp_path / "runs"), [TINY], SETTINGS)
    assert asked == ["bea", "cid", "ann"]


def test_photos_travel_with_their_captions(people: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(people / "ann", source / "10_sks woman")
    (source / "10_sks woman" / "a.txt").write_text("a caption")
    files = on_ray.files_of(source)
    there = on_ray.unpacked(files, tmp_path / "there", source)
    assert on_ray.files_of(there) == files
    archive = tmp_path / "ann.zip"
    archive.write_bytes(b"zip")
    assert on_ray.unpacked(on_ray.files_of(archive), tmp_path / "zipped", archive).name == "ann.zip"


# What people see -------------------------------------------------------------------------------------------------


def outcome(name: str, likeness: float, winner: str | None = None) -> Outcome:
    models = {"base": {"normalised": 0.0}, "lora-8": {"normalised": likeness, "identity": likeness, "prompt": 0.5}}
    verdict = {"recommended": "lora-8", "winner": winner, "best_lora": "lora-8", "sentence": "Use LoRA 8."}
    return Outcome(
        name, 60.0, digest={"models": models, "verdict": verdict, "photos": 12, "recipe": "r", "pictures": []}
    )


def test_a_subject_far_from_the_others_is_named() -> None:
    likeness = [0.70, 0.72, 0.74, 0.71, 0.73, 0.10]
    outcomes = {str(n): outcome(str(n), value, "lora-8" if n else None) for n, value in enumerate(likeness)}
    summary = summarise([Study(name, Path(name)) for name in outcomes], outcomes, 60.0)
    assert [one["name"] for one in summary["outliers"]] == ["5"]
    assert summary["outliers"][0]["deviations"] < -10
    assert summary["wins"]["lora-8"] == {"recommended": 6, "won": 5}
    assert summary["identity"]["lora-8"]["median"] == pytest.approx(0.715)
    assert outliers(summary["rows"][:4]) == []
    assert outliers([{"name": str(n), "normalised": 0.5} for n in range(6)]) == []


def test_a_batch_of_which_nothing_is_known_has_a_report(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_summary(store, summarise([Study("<b>ann</b>", Path("ann"))], {}, 0.0))
    assert "1 not begun or interrupted" in (tmp_path / "batch.html").read_text()
    failed = {"<b>ann</b>": Outcome("<b>ann</b>", error={"code": 4, "message": "a | b", "fix": "<i>"})}
    write_summary(store, summarise([Study("<b>ann</b>", Path("ann"))], failed, 0.0))
    page = (tmp_path / "batch.html").read_text()
    assert "<b>ann" not in page
    assert "&lt;i&gt;" in page
    assert "a \\| b" in (tmp_path / "batch.md").read_text()


def test_the_table_shows_what_each_is_at(one_by_one: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = one_by_one
    running = tmp_path / "bea"
    running.mkdir()
    shutil.copy(out / "bea" / "estimate.json", running)
    events = (out / "bea" / "events.jsonl").read_text().splitlines(keepends=True)
    started = next(n for n, line in enumerate(events) if '"train.lora-2"' in line)
    (running / "events.jsonl").write_text("".join(events[: started + 1]))
    share, stage = state_of(running) or (None, "")
    assert share is not None
    assert 0 < share < 1
    assert stage == "train lora-2"
    (running / "live.json").write_text(json.dumps({"stage": "train.lora-2", "done": 3, "total": 8}))
    studies = [Study(name, Path(name)) for name in ("ann", "bea", "cid", "dud")]
    outcomes = {
        "ann": outcome("ann", 0.71),
        "dud": Outcome("dud", error={"code": 4, "message": "[no] photos", "fix": ""}),
    }
    console = Console(width=100, record=True, force_terminal=True)
    table = BatchTable(console)
    table.show(Batch(studies, Store(str(tmp_path)), [], outcomes, time.monotonic() - 65))
    console.print(table.render())
    text = console.export_text()
    for said in ("ann", "0.71", "train lora-2 3 of 8", "waits", "[no] photos", "1 of 4 done, 1 failed, 1 min 05 s"):
        assert said in text
