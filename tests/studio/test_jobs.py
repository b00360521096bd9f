"""The queue and its worker, with real trainings: in order, paused, cancelled, killed, found again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from portrayal import UsageError
from portrayal.studio.commands import command
from portrayal.studio.jobs import Failure, Job, Queue, tail
from portrayal.studio.projects import Project, Projects
from portrayal.studio.uploads import accept_photos
from portrayal.studio.watch import look
from portrayal.studio.worker import Shift, ensure_worker, next_job, work

LONG = {"method.unet.max_train_steps": 400, "method.lora.max_train_steps": 400, "training.checkpointing_steps": 5}
ONE = {"study.full_unet": False, "study.ranks": [2], "control.enabled": False, "generation.num_images_per_scene": 1}
Until = Callable[..., None]


def child_of(queue: Queue, id: str) -> int:
    """The process that works on a job."""
    process = queue.job(id).process
    assert process is not None
    return process[0]


def lock_holder(root: Path) -> psutil.Process:
    """The worker."""
    return next(
        one
        for one in psutil.process_iter(["cmdline"])
        if "portrayal.studio.worker" in (one.info["cmdline"] or ()) and str(root) in one.info["cmdline"]
    )


# The queue alone -------------------------------------------------------------------------------------------------


def test_jobs_keep_their_order_and_outlive_everybody(ann: Project, finished: Project, queue: Queue) -> None:
    first = queue.submit(ann, "run")
    second = queue.submit(finished, "report")
    third = queue.submit(finished, "paint", {"prompts": ["a photo of {subject}"], "count": 1})
    assert [job.id for job in queue.jobs()] == [first.id, second.id, third.id] == ["000001", "000002", "000003"]
    assert [job.place for job in queue.jobs()] == [0, 1, 2]
    assert ann.state == "queued"
    with pytest.raises(UsageError, match="being worked on already"):
        queue.submit(ann, "run")
    queue.pause(first.id)
    assert ann.state == "paused"
    assert [job.place for job in queue.jobs()] == [0, 0, 1]
    assert next_job(queue) == queue.job(second.id)
    queue.resume(first.id)
    assert next_job(queue) == queue.job(first.id)
    assert queue.cancel(first.id).state == "cancelled"
    assert ann.state == "planned"
    for deed in (queue.pause, queue.cancel, queue.resume, queue.sample_now, queue.stop_and_keep):
        with pytest.raises(UsageError):
            deed(first.id)
    with pytest.raises(UsageError, match="no job"):
        queue.job("../../etc")
    assert Queue(queue.root).job(third.id).arguments == {"prompts": ["a photo of {subject}"], "count": 1}


def test_what_cannot_be_meant_never_waits(ann: Project, finished: Project, projects: Projects, queue: Queue) -> None:
    empty = projects.create("empty")
    with pytest.raises(UsageError, match="no photos"):
        queue.submit(empty, "run")
    ann.choose(consent=False)
    with pytest.raises(UsageError, match="consent"):
        queue.submit(ann, "run")
    with pytest.raises(UsageError, match="no run yet"):
        queue.submit(ann, "export")
    wrong: list[dict[str, object]] = [
        {"prompts": []},
        {"prompts": "a text"},
        {"prompts": ["x" * 3000]},
        {"prompts": ["x"], "count": 1000},
        {"prompts": ["x"], "count": -1},
        {"prompts": ["x"], "count": "many"},
        {"prompts": ["x"], "models": ["--out=/tmp/x"]},
        {"prompts": ["x"], "models": ["../../x"]},
        {"prompts": ["x"], "controls": ["../other/photos/a.png"]},
        {"prompts": ["x"], "controls": ["/etc/passwd"]},
        {"prompts": ["x"], "control_kinds": ["canny; rm"]},
        {"prompts": ["x"], "settings": {"control.reference": "/etc/passwd"}},
        {"prompts": ["x"], "settings": {"training.optimizer.name": "x"}},
        {"prompts": ["x"], "loras": ["/etc/passwd"]},
    ]
    for arguments in wrong:
        with pytest.raises(UsageError):
            queue.submit(finished, "paint", arguments)
    for arguments in ({"forms": ["kohya", "--out"]}, {"models": ["--out=x"]}, {"precision": "x;y"}, {"out": "/tmp"}):
        with pytest.raises(UsageError):
            queue.submit(finished, "export", arguments)
    assert queue.jobs() == []


def test_a_prompt_is_never_a_flag(finished: Project) -> None:
    job = Job("1", "made", "paint", {"prompts": ["--out=/tmp/x", '"quoted" -- $(x)'], "strength": 0.5})
    arguments = command(finished, job)
    assert "--prompt=--out=/tmp/x" in arguments
    assert "--set=generation.lora_strength=0.5" in arguments
    assert arguments[0] == "generate"


def test_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert tail(log, 3) == []
    log.write_bytes(b"\xff" + b"".join(b"line %d\n" % number for number in range(10000)))
    assert tail(log, 2) == ["line 9998", "line 9999"]


# The worker ------------------------------------------------------------------------------------------------------


def test_a_project_goes_from_photos_to_files(ann: Project, queue: Queue) -> None:
    """A whole run, pictures and exports, one after the other; then the worker leaves."""
    ann.choose(overrides=ONE)
    run = queue.submit(ann, "run")
    work(queue.root, queue.recipe, idle=0)
    assert queue.job(run.id).state == "done", queue.job(run.id).error
    assert (ann.state, look(ann).failure) == ("done", None)
    view = look(ann)
    assert {stage.state for stage in view.stages} == {"done"}
    (lane,) = (one for one in view.lanes if one.name == "lora-2")
    assert (lane.state, lane.step, lane.total, len(lane.losses)) == ("done", 3, 3, 3)
    assert [step for step, _ in lane.heldout] == [1, 2, 3]
    assert lane.heldout_base is not None
    assert {(one.step, one.scene) for one in lane.samples} == {(s, n) for s in (1, 2, 3) for n in ("street", "forest")}
    jobs = [
        queue.submit(ann, "paint", {"prompts": ["{subject} at the sea"], "count": 2, "seed": 3, "strength": 0.5}),
        queue.submit(ann, "export", {"forms": ["kohya"]}),
        queue.submit(ann, "report"),
        queue.submit(ann, "paint", {"prompts": ["x"], "models": ["lora-64"]}),
    ]
    work(queue.root, queue.recipe, idle=0)
    painted, exported, report, failed = (queue.job(job.id) for job in jobs)
    assert [Path(path).parent.name for path in painted.result["pictures"]] == ["lora-2", "lora-2"]
    assert all(Path(path).is_file() for path in (*exported.result["files"], report.result["report"]))
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.code == 2
    assert "lora-64" in failed.error.message
    assert "lora-2" in failed.error.fix
    assert ann.state == "done"
    command_line = json.loads((ann.run_folder / "run.json").read_text())
    assert command_line["consent"] == "stated by the user"


def test_a_training_is_paused_goes_on_and_its_killers_are_told(ann: Project, queue: Queue, until: Until) -> None:
    """A killed worker's child goes on and is found again; a killed child's job has failed, and can go on."""
    ann.choose(overrides=ONE | LONG)
    job = queue.submit(ann, "run")
    ensure_worker(queue.root, queue.recipe)

    def training() -> bool:
        assert queue.job(job.id).state == "running" or queue.job(job.id).state == "queued", queue.job(job.id)
        return any(lane.step >= 7 and lane.seconds_left is not None for lane in look(ann).lanes)

    until(training)
    view = look(ann)
    assert (view.state, view.can_ask) == ("running", True)
    assert (view.seconds_left or 0) > 0
    queue.pause(job.id)
    assert queue.job(job.id).state == "pausing"
    until(lambda: queue.job(job.id).state == "paused")
    assert look(ann).state == "paused"
    reached = look(ann).lanes[0].step
    assert list(ann.run_folder.glob("models/.*.training/checkpoint*"))

    queue.resume(job.id)
    ensure_worker(queue.root, queue.recipe)
    until(lambda: look(ann).lanes[0].step > reached + 3)
    child = child_of(queue, job.id)
    lock_holder(queue.root).kill()
    time.sleep(0.5)
    assert psutil.pid_exists(child)
    ensure_worker(queue.root, queue.recipe)
    until(lambda: any(True for _ in [lock_holder(queue.root)]))
    assert child_of(queue, job.id) == child
    os.kill(child, signal.SIGKILL)
    until(lambda: queue.job(job.id).state == "failed")
    error = queue.job(job.id).error
    assert error is not None
    assert "ended from outside" in error.message
    assert error.fix
    assert look(ann).failure == error
    assert ann.state == "failed"

    queue.resume(job.id)
    ensure_worker(queue.root, queue.recipe)
    until(lambda: (view := look(ann)).can_ask and view.lanes[0].step > reached)
    queue.sample_now(job.id)
    until(lambda: list(ann.run_folder.glob("images/now/lora-2/*/street.png")))
    queue.stop_and_keep(job.id)
    until(lambda: not look(ann).can_ask)
    assert json.loads((ann.run_folder / "models" / "stopped.json").read_text())["lora-2"] < 400
    queue.cancel(job.id)
    until(lambda: queue.job(job.id).state == "cancelled")
    assert queue.job(job.id).ended
    assert not look(ann).can_ask


def test_a_job_that_is_found_dead_says_so(ann: Project, queue: Queue) -> None:
    """The machine was restarted: the process id is another's now."""
    job = queue.submit(ann, "run")
    queue.log(job.id).write_text("paint class images: done\ntrain unet: 3 of 800\n")
    queue.change(job.id, lambda one: Job(**{**vars(one), "state": "running", "process": (os.getpid(), 12.0)}))
    work(queue.root, queue.recipe, idle=0)
    found = queue.job(job.id)
    assert found.state == "failed"
    assert isinstance(found.error, Failure)
    assert "ended from outside" in found.error.message
    assert found.error.last_lines == ("paint class images: done", "train unet: 3 of 800")


def test_a_job_s_outcome_is_found_after_its_worker_is_gone(ann: Project, queue: Queue) -> None:
    job = queue.submit(ann, "run")
    queue.change(job.id, lambda one: Job(**{**vars(one), "state": "running", "process": (2**22 + 1, 12.0)}))
    (queue.folder / job.id / "said.json").write_bytes(b'{"ok": true, "report": "x"}\n' + bytes(1000))
    work(queue.root, queue.recipe, idle=0)
    assert queue.job(job.id).state == "done"
    assert queue.job(job.id).result["report"] == "x"


def test_two_workers_are_one(ann: Project, queue: Queue, until: Until) -> None:
    ann.choose(overrides=ONE | LONG)
    job = queue.submit(ann, "run")
    for _ in range(3):
        ensure_worker(queue.root, queue.recipe)
    until(lambda: queue.job(job.id).state == "running")
    time.sleep(1)
    runs = [one for one in psutil.process_iter(["cmdline"]) if f"--out={ann.run_folder}" in (one.info["cmdline"] or ())]
    assert len(runs) == 1
    projects = Projects(queue.root, queue.recipe)
    projects.delete("Ann")
    assert not [one for one in runs if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not ann.folder.exists()
    assert queue.jobs() == []


def test_what_cannot_be_started_is_told(ann: Project, queue: Queue) -> None:
    job = queue.submit(ann, "run")
    for path in ann.photos:
        path.unlink()
    work(queue.root, queue.recipe, idle=0)
    error = queue.job(job.id).error
    assert error is not None
    assert (queue.job(job.id).state, error.code) == ("failed", 2)
    assert "no photos" in error.message


def test_a_full_disk_is_told(ann: Project, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command could still say is taken; what it could not is known from its exit code."""
    job = queue.submit(ann, "run")
    shift = Shift(queue, job)
    shift.said.write_bytes(bytes(100))
    told = shift.outcome(3)
    assert "disk" in told["error"].message
    queue.log(job.id).write_text("Traceback")
    assert shift.outcome(1)["error"].last_lines == ("Traceback",)
    assert "signal 9" in shift.outcome(-9)["error"].message
    assert shift.outcome(130) == {"state": "paused", "process": None, "wish": ""}


def test_the_server_is_killed_and_the_work_goes_on(
    projects: Projects, photos: Path, queue: Queue, until: Until, tmp_path: Path
) -> None:
    """A server starts what waits; killed, it leaves the work at work; the next one finds it."""
    import urllib.request

    project = projects.create("Ann")
    accept_photos(project, [(path, path.name) for path in sorted(photos.iterdir())])
    project.choose(quality="quick", base="pocket", class_noun="woman", consent=True, overrides=ONE | LONG)
    job = queue.submit(project, "run")
    port = 18000 + os.getpid() % 2000

    def server() -> subprocess.Popen[bytes]:
        command_line = [sys.executable, "-m", "portrayal", "studio", "--root", str(projects.root), "--no-browser"]
        more = ["--port", str(port), "--recipe", str(projects.recipe)]
        return subprocess.Popen([*command_line, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    first = server()
    until(lambda: queue.job(job.id).state == "running")
    first.kill()
    first.wait()
    child = child_of(queue, job.id)
    until(lambda: any(lane.step >= 1 for lane in look(project).lanes))
    second = server()
    try:
        until(answers)
        assert child_of(queue, job.id) == child
        assert queue.job(job.id).state == "running"
    finally:
        second.send_signal(signal.SIGINT)
        assert second.wait(30) in (0, 130)
    queue.cancel(job.id)
    until(lambda: queue.job(job.id).state == "cancelled")


def test_gradio_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from portrayal.cli import app

    monkeypatch.setattr("portrayal.studio.opening.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["studio", "--root", str(tmp_path / "runs"), "--no-browser"])
    assert result.exit_code == 3
    assert "pip install 'portrayal[studio]'" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_what_the_studio_cannot_open_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    from typer.testing import CliRunner

    from portrayal.cli import app

    def opened(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["studio", "--root", str(tmp_path / "runs"), "--no-browser", *arguments])
        return result.exit_code, result.stderr

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = opened("--port", str(taken.getsockname()[1]))
        assert (code, "Take another" in said) == (3, True)
    monkeypatch.delenv("PORTRAYAL_STUDIO_PASSWORD", raising=False)
    code, said = opened("--share-on-lan")
    assert (code, "Set PORTRAYAL_STUDIO_PASSWORD" in said) == (2, True)
    monkeypatch.setenv("PORTRAYAL_STUDIO_PASSWORD", "short")
    code, said = opened("--share-on-lan")
    assert (code, "fewer than 8" in said) == (2, True)
    code, said = opened("--recipe", "nonsense")
    assert (code, "no recipe" in said) == (2, True)
    (tmp_path / "file").write_text("")
    assert CliRunner().invoke(app, ["studio", "--root", str(tmp_path / "file" / "x"), "--no-browser"]).exit_code == 3


def test_a_copied_run_is_watched_cheaply(finished: Project) -> None:
    """A large run: looking again costs little, whoever made it."""
    log = finished.run_folder / "models" / "lora-2" / "training.jsonl"
    row = json.loads(log.read_text().splitlines()[0])
    log.write_text("".join(json.dumps(row | {"step": step}) + "\n" for step in range(1, 20001)))
    shutil.copy(log, log.parents[1] / "lora-4" / "training.jsonl")
    look(finished)
    started = time.perf_counter()
    for _ in range(10):
        view = look(finished)
    assert (time.perf_counter() - started) / 10 < 0.1  # 20 ms on an idle machine
    assert len(view.lanes[1].losses) <= 240
