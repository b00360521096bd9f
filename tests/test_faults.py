"""The plug pulled, full disks, two writers, clocks set back: what was done is whole, and the same call goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import portrayal
from benchmarks.kills import content
from portrayal import interruption, lock
from portrayal.config import Config
from portrayal.errors import MachineError, RunConflictError
from portrayal.files import atomic_folder, sweep, write_text
from portrayal.report import svg
from portrayal.run import Event, Run
from portrayal.settings import load_config
from portrayal.stages.shared import stage
from tests.writes import Writes, watched

ROOT = Path(__file__).parents[1]
PROVENANCE = {"base": {"name": "pocket", "sha256": "0"}, "photos": ["a", "b"], "consent": "not stated"}


def python(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process that finds this project and uses one thread."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True)


# Killed ----------------------------------------------------------------------------------------------------------


def test_a_run_killed_at_twelve_moments_is_the_run(tiny_run: Run, photos: Path) -> None:
    """`python -m benchmarks.kills` does the same at sixty."""
    ours = ["--moments", "12", "--seed", "3", "--reference", str(tiny_run.folder), "--photos", str(photos), "--json"]
    output, errors = python("-m", "benchmarks.kills", *ours).communicate()
    assert output, errors
    found = json.loads(output)
    assert found["moments"] == 12
    assert found["differing"] == []
    assert found["left_over"] == []
    assert found["files_compared"] > 80
    assert len(found["stages"]) >= 4, found["stages"]


def test_a_folder_that_was_just_being_replaced_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the old one's stepping aside and the new one's taking its place."""
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a.txt").write_text("old")
    replace, renames = Path.replace, list[Path]()

    class KilledError(BaseException):
        pass

    def once(path: Path, target: Path) -> Path:
        if renames:
            os._exit(9)
        renames.append(path)
        return replace(path, target)

    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(Path, "replace", once)
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "a.txt").write_text("new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert not (tmp_path / "model").exists()
    assert len(sweep(tmp_path)) == 2
    assert {path.name: path.is_dir() for path in tmp_path.iterdir()} == {"model": True}
    assert (tmp_path / "model" / "a.txt").read_text() == "old"


def test_only_what_is_half_written_is_swept(tmp_path: Path) -> None:
    kept = [".hidden", ".git/config", "a.tmp", "notes.old", ".a.training/checkpoint/00000001/state.json"]
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ".unet.7.tmp").touch()
    (tmp_path / "models" / ".lora-2.x1_y.tmp").mkdir()
    assert sorted(sweep(tmp_path)) == [".lora-2.x1_y.tmp", ".unet.7.tmp"]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_pictures_of_steps_that_are_let_go_are_let_go_also_after_a_kill(tiny_run: Run, tmp_path: Path) -> None:
    """Killed between the weights' going and the pictures'."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    left = run.folder / "images" / "steps" / "lora-4.fold-2" / "2"
    left.mkdir(parents=True)
    (left / "street.png").touch()
    portrayal.train(run)
    assert not left.parent.exists()
    assert (run.folder / "images" / "steps" / "lora-4" / "2").is_dir()


def test_a_run_killed_as_it_was_begun_goes_on(tmp_path: Path) -> None:
    """Its settings are there, and what says that it is a run is not."""
    config = load_config()
    write_text(tmp_path / "config.toml", config.to_toml())
    (tmp_path / ".run.json.77.tmp").write_text("{")
    Run.create(tmp_path, config, PROVENANCE)
    (tmp_path / "run.json").unlink()
    (tmp_path / "config.toml").write_text("seed = 3  # somebody's own")
    with pytest.raises(RunConflictError, match="not empty"):
        Run.create(tmp_path, config, PROVENANCE)


def test_an_event_half_written_is_cut_off(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_config(), PROVENANCE)
    run.log(Event("prepare", "started"))
    path = run.folder / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"time": 17')
    with pytest.raises(MachineError), portrayal.stages.shared.at_work(run.folder, lambda _: None):
        run.log(Event("prepare", "finished"))
        raise MachineError("enough")
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["started", "finished"]


# Disks -----------------------------------------------------------------------------------------------------------


class Faults:
    """Makes each place that writes fail once: the first time it comes there, and never again."""

    def __init__(self) -> None:
        self.met: set[tuple[str, ...]] = set()
        self.errors = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS]

    def at(self, operation: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """An operation that fails at places it has not failed at yet."""

        def faulty(*arguments: Any, **named: Any) -> Any:
            frames = [one for one in traceback.extract_stack()[:-1] if "src/portrayal/" in one.filename]
            ours = [f"{Path(one.filename).name}:{one.name}" for one in frames]
            callers = [name for name in ours if not name.startswith("files.py")]
            place = (operation, ours[-1] if ours else "", callers[-1] if callers else "")
            if ours and place not in self.met:
                self.met.add(place)
                number = self.errors[len(self.met) % len(self.errors)]
                raise OSError(number, os.strerror(number))
            return act(*arguments, **named)

        return faulty


@contextmanager
def failing_writes(faults: Faults) -> Iterator[None]:
    """Opening to write, writing, flushing and renaming fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", faults.at("flush", os.fsync))
        patch.setattr(Path, "replace", faults.at("rename", Path.replace))
        patch.setattr(Path, "write_bytes", faults.at("write", Path.write_bytes))
        patch.setattr(Path, "write_text", faults.at("write", Path.write_text))
        patch.setattr(Path, "mkdir", faults.at("make", Path.mkdir))
        patch.setattr(Image.Image, "save", faults.at("save", Image.Image.save))
        patch.setattr("safetensors.torch.save_file", faults.at("save", __import__("safetensors.torch").torch.save_file))
        yield


def smaller(config: Config) -> Config:
    """Settings that write from every place and compute less."""
    scenes = {"scenes": dict(list(config.generation.scenes.items())[:1]), "num_images_per_scene": 1}
    return config.model_copy(
        update={
            "study": config.study.model_copy(update={"ranks": (2,), "folds": 1, "readings": 1}),
            "generation": config.generation.model_copy(update=scenes),
            "control": config.control.model_copy(update={"kinds": ("canny",)}),
        }
    )


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Writes]:
    """A whole run whose disk has no faults, and what it wrote; class images of its own among it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, watched(folder) as writes:
        patch.setenv("PORTRAYAL_CACHE", str(folder / "cache"))
        return portrayal.portray(photos, smaller(tiny_config), folder / "run", consent=True), writes


def test_every_file_of_a_run_appears_whole_and_is_on_the_disk_by_then(undisturbed: tuple[Run, Writes]) -> None:
    """Whoever writes it, whatever library does."""
    run, writes = undisturbed
    assert writes.faults == []
    names = {path.relative_to(run.folder).as_posix() for path in writes.renamed if run.folder in path.parents}
    assert names >= {"run.json", "dataset", "models/lora-2/steps/3", "models/lora-2/method.json", "scores.json"}
    assert any(path.match("class-images/*/0.png") for path in writes.renamed)


def test_each_write_of_a_run_may_fail_once(
    photos: Path, tiny_config: Config, undisturbed: tuple[Run, Writes], tmp_path: Path
) -> None:
    """Disk full, I/O error, quota, read-only: said each time, nothing half there, and the same call goes on.

    Stage by stage, so that what is finished need not be looked over after each fault; then all of it as one. Charts are
    drawn in memory: each once.
    """
    config, faults, remedies, left = smaller(tiny_config), Faults(), list[str](), list[str]()
    out = tmp_path / "run"

    def whole() -> Run:
        return portrayal.portray(photos, config, out, consent=True)

    def begin() -> Run:
        return portrayal.prepare(photos, config, out, consent=True)

    stages = [portrayal.train, portrayal.generate, portrayal.evaluate, portrayal.write_report]
    calls = [begin, *(lambda work=work: work(Run.open(out)) for work in stages), whole]

    def drawn(name: str, alt: str, *how: Any) -> svg.Chart:
        if (name, alt) not in charts:
            charts[name, alt] = svg.draw_chart(name, alt, *how)
        return charts[name, alt]

    charts: dict[tuple[str, str], svg.Chart] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAYAL_CACHE", str(tmp_path / "cache"))  # class images are written too
        patch.setattr("portrayal.report.charts.draw_chart", drawn)
        while calls:
            try:
                with failing_writes(faults):
                    calls[0]()
                calls.pop(0)
            except MachineError as error:
                remedies.append(error.remedy)
                left += [path.name for path in out.rglob(".*") if not path.name.endswith(".training")]
    assert {place[0] for place in faults.met} == {"flush", "rename", "write", "make", "save"}
    assert len(remedies) >= 40
    assert all(remedies)
    assert left == []
    assert content(out) == content(undisturbed[0].folder)


def test_a_folder_that_cannot_be_written_is_said_before_photos_are_read(
    photos: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(MachineError, match="Read-only") as caught:
        portrayal.prepare(photos, tiny_config, tmp_path / "run")
    assert "--out" in caught.value.remedy


def test_a_folder_that_goes_away_is_said(tmp_path: Path) -> None:
    """As when a network drive is unplugged: the mount point is there, and holds nothing."""
    run = Run.create(tmp_path / "run", load_config(), PROVENANCE)
    run.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(MachineError, match="could not be written"):
        run.log(Event("prepare", "started"))


def test_a_disk_that_is_full_in_the_middle_of_an_event_leaves_no_half_of_it(tmp_path: Path, monkeypatch) -> None:
    run = Run.create(tmp_path / "run", load_config(), PROVENANCE)
    run.log(Event("prepare", "started"))
    before = (run.folder / "events.jsonl").read_bytes()
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(MachineError, match="too large"):
            run.log(Event("prepare", "note", message="m" * 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert (run.folder / "events.jsonl").read_bytes() == before


def test_a_clock_that_is_set_back_ends_no_stage_before_it_began(tmp_path: Path, monkeypatch) -> None:
    from portrayal.estimate.afterwards import whole_stages

    run, before = Run.create(tmp_path / "run", load_config(), PROVENANCE), iter([5000.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: next(before, 1000.0))
        with stage(run, "evaluate", None, lambda _: None):
            pass
    assert whole_stages(run.folder / "events.jsonl") == {"evaluate": 0.0}
    seconds = json.loads((run.folder / "stages" / "evaluate.json").read_text())["seconds"]
    assert 0 <= seconds < 10
    assert "at it for 0 min" in lock.said_of({"pid": 1, "host": "x", "since": time.time() + 9999, "command": "y"})


# Two writers -----------------------------------------------------------------------------------------------------

HOLD = "import sys, time\nfrom pathlib import Path\nfrom portrayal.lock import held\n"
WAIT = HOLD + "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
RACE = """
from portrayal.errors import RunConflictError
try:
    with held(Path(sys.argv[1])) as left:
        print("held" + (", taken over" if left else ""), flush=True)
        time.sleep(3)
except RunConflictError as error:
    print("refused", flush=True)
"""


def test_a_second_process_is_told_who_is_at_work(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_config(), PROVENANCE)
    other = python("-c", WAIT, str(run.folder))
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunConflictError, match=f"process {other.pid} on ") as caught:
            portrayal.train(run)
        assert "at it for 0 min" in caught.value.cause
        assert f"kill {other.pid}" in caught.value.remedy
        assert Run.open(run.folder).config == run.config  # reading needs no lock
    finally:
        other.kill()
        other.communicate()
    seen: list[Event] = []
    with portrayal.stages.shared.at_work(run.folder, seen.append):
        pass
    assert [event.kind for event in seen] == ["note"]
    assert f"process {other.pid} on " in seen[0].message
    assert "did not come to its end" in seen[0].message
    assert not (run.folder / lock.NAME).exists()


def test_of_processes_that_race_for_a_run_one_wins(tmp_path: Path) -> None:
    """Also for one whose owner was killed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock.NAME).write_text(json.dumps(lock.owner() | {"pid": 2**22 + 1}))
    racers = [python("-c", HOLD + RACE, str(tmp_path / "run")) for _ in range(5)]
    said = sorted(racer.communicate()[0].strip() for racer in racers)
    assert said == ["held, taken over", *["refused"] * 4]


def test_what_a_process_holds_it_may_take_again_and_another_thread_may_not(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def take() -> None:
        with lock.held(tmp_path / "run"):
            pass

    with lock.held(tmp_path / "run"), lock.held(tmp_path / "run"):
        with ThreadPoolExecutor(1) as threads, pytest.raises(RunConflictError, match=f"process {os.getpid()}"):
            threads.submit(take).result()
        assert (tmp_path / "run" / lock.NAME).is_file()
    assert not (tmp_path / "run").exists()


def test_where_files_cannot_be_locked_the_owner_s_being_alive_decides(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / lock.NAME).write_text(json.dumps(lock.owner() | {"started": 1}))  # another process had the number
    with lock.held(tmp_path) as left:
        assert left is not None
        lock._held.clear()
        with pytest.raises(RunConflictError), lock.held(tmp_path):
            pass
    (tmp_path / lock.NAME).write_text(json.dumps(lock.owner() | {"host": "elsewhere"}))
    with pytest.raises(RunConflictError, match="on elsewhere"), lock.held(tmp_path):
        pass


# Signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_stage_stops_at_the_next_tick_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    run, seen, ticks = Run.create(tmp_path / "run", load_config(), PROVENANCE), list[Event](), list[int]()
    with (
        pytest.raises(KeyboardInterrupt),
        portrayal.stages.shared.at_work(run.folder, seen.append),
        stage(run, "generate.base", None, seen.append) as tick,
    ):
        for done in range(5):
            ticks.append(done)
            if done == 2:
                os.kill(os.getpid(), number)
            tick(done, 5)
    assert ticks == [0, 1, 2]
    assert [event.message for event in seen if event.kind == "note"] == [interruption.SAID]
    assert not run.finished("generate.base", None)


def test_a_second_ctrl_c_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruption.interruption() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)  # a scheduler may warn more than once
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_is_asked_to_stop_says_how_it_goes_on_and_does(
    photos: Path, tiny_config: Config, tmp_path: Path
) -> None:
    """The whole command: exit code 130, the command that goes on, no lock, nothing half there."""
    recipe, out = tmp_path / "smaller.toml", tmp_path / "run"
    recipe.write_text(smaller(tiny_config).to_toml(), encoding="utf-8")
    command = ["run", str(photos), "--recipe", str(recipe), "--out", str(out), "--consent"]
    child = python("-m", "portrayal", *command)
    for _ in range(2400):
        if list(out.glob("models/*/steps/*")) or child.poll() is not None:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
    assert f"The same command goes on: portrayal run {photos}" in said
    assert "Traceback" not in said
    left = [path.name for path in out.rglob(".*")]
    assert all(name.endswith(".training") for name in left)
    assert (out / "run.json").is_file()
    assert not (out / "report.html").exists()
