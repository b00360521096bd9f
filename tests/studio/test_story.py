"""The studio as a person meets it, in headless Chromium: from dropped photos to an exported LoRA, really trained."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors import safe_open

from portrayal.studio.jobs import Queue
from scripts.studio_browser import CHROMIUM, FLAGS, NO_BROWSER, Noted, Studio, serious

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of playwright's pipes when its driver ends
]
PATIENCE = 240_000
"""Milliseconds that a training may take on a busy machine; with two idle cores it takes a tenth of that."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def studio(root: Path) -> Iterator[Studio]:
    opened = Studio(root, Path(__file__).with_name("story.toml"))
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def noted(studio: Studio) -> Noted:
    return Noted(studio.address)


@pytest.fixture
def page(chromium: Any, studio: Studio, noted: Noted) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-US", accept_downloads=True)
    context.set_default_timeout(60_000)
    opened = context.new_page()
    noted.listen(opened)
    opened.goto(studio.address)
    yield opened
    context.close()


def test_from_dropped_photos_to_an_exported_lora(
    page: Any, studio: Studio, noted: Noted, photos: Path, tmp_path: Path, root: Path
) -> None:
    start_project(page, "Ann")
    assert serious(page) == []
    hand_in(page, [*sorted(photos.iterdir())[:4], Path(__file__)])
    assert "test_story.py" in page.locator("#refused").inner_text()
    leave_one_out_and_crop_another(page)
    agree(page)
    page.reload()
    page.get_by_text("3 photos will be used").wait_for()
    assert serious(page) == []

    page.get_by_role("link", name="Next: Plan").click()
    choose_quick(page)
    change_a_setting(page)
    assert serious(page) == []
    page.get_by_role("button", name="Start training").click()

    page.locator("#lane-lora-2 .chip.busy").wait_for(timeout=PATIENCE)
    assert serious(page) == []
    noted.check()
    survive_reload_and_a_killed_server(page, studio, noted)
    page.get_by_role("link", name="Next: Compare").wait_for(timeout=PATIENCE)
    assert page.locator("#lane-lora-2 .strip img").count() >= 2  # the same sample, at step after step
    assert page.locator("#lane-lora-4 svg.spark").count() == 1
    assert serious(page) == []

    page.get_by_role("link", name="Next: Compare").click()
    compare_and_vote(page)
    assert serious(page) == []
    page.get_by_role("link", name="Next: Verdict").click()
    read_the_verdict(page, studio)
    assert serious(page) == []
    page.get_by_role("link", name="Paint with it").click()
    paint(page, sorted(photos.iterdir())[0])
    assert serious(page) == []
    page.get_by_role("link", name="Export").click()
    export(page, tmp_path)
    assert serious(page) == []
    noted.check()

    page.locator("a.brand").click()
    delete(page)
    assert not [path for path in root.rglob("*") if "Ann" in path.name]
    noted.check()


def start_project(page: Any, name: str) -> None:
    page.get_by_label("Whose portrait is it?").fill(name)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Photos", exact=True).wait_for()


def hand_in(page: Any, files: list[Path]) -> None:
    page.locator("#drop input").set_input_files(files)
    page.locator(".photo").nth(len(files) - 2).wait_for()
    page.locator(".photo .chip").first.wait_for(timeout=PATIENCE)


def leave_one_out_and_crop_another(page: Any) -> None:
    page.locator(".photo").nth(3).get_by_role("button", name="Leave out").click()
    page.locator(".photo.out").wait_for()
    before = page.locator(".photo img").first.get_attribute("style")
    page.locator(".photo").first.get_by_role("button", name="Crop").click()
    size = page.get_by_label("Size")
    size.focus()
    page.keyboard.press("Home")  # by the keyboard alone
    page.get_by_role("button", name="Use this square").click()
    page.wait_for_function(
        "before => document.querySelector('.photo img').getAttribute('style') !== before", arg=before
    )


def agree(page: Any) -> None:
    assert page.get_by_role("button", name="Next: Plan").is_disabled()
    page.get_by_label("In one word").fill("woman")
    page.get_by_label("The person in these photos agreed").check()
    page.get_by_role("link", name="Next: Plan").wait_for()


def choose_quick(page: Any) -> None:
    page.get_by_label("Quick").check()
    page.get_by_text("LoRA, rank 2, LoRA, rank 4").wait_for(timeout=PATIENCE)  # each once, no longer times three
    assert page.get_by_label("Pocket").is_checked()


def change_a_setting(page: Any) -> None:
    page.get_by_text("Every setting").click()
    page.locator("#section-training summary").click()
    field = page.get_by_label("max grad norm")
    field.fill("none")
    page.get_by_role("button", name="Keep these settings").click()
    page.get_by_role("alert").get_by_text("training.max_grad_norm").wait_for()
    assert field.input_value() == "none"  # what was typed is still there
    field.fill("0.9")
    page.get_by_role("button", name="Keep these settings").click()
    page.get_by_text("1 changed").wait_for()


def survive_reload_and_a_killed_server(page: Any, studio: Studio, noted: Noted) -> None:
    page.reload()
    page.locator("#lane-lora-2").wait_for()
    page.get_by_role("button", name="Pause").wait_for()
    studio.kill()
    page.locator(".lost").wait_for()
    working = [job for job in Queue(studio.root).jobs() if job.state == "running"]
    assert len(working) == 1
    studio.start()
    page.locator(".lost").wait_for(state="hidden")
    page.locator("#lane-lora-2").wait_for()
    assert all("ERR_CONNECTION" in error or "ERR_EMPTY" in error or "ERR_INCOMPLETE" in error for error in noted.errors)
    noted.errors.clear()


def compare_and_vote(page: Any) -> None:
    page.get_by_label("On the right").select_option("lora-4")
    page.locator("#slider[data-models='base-lora-4']").wait_for()
    page.get_by_label("Slide between").focus()
    page.keyboard.press("End")
    style = page.locator("#slider").get_attribute("style")
    assert "100%" in style
    assert page.locator("#grid .near").count() == 2  # of each LoRA; the base saw no photo
    assert "to" in page.locator("#scores tbody tr").first.inner_text()
    pair = page.locator(".pair").get_attribute("id")
    assert all("lora" not in one.get_attribute("src") for one in page.locator(".pair img").all())
    page.get_by_role("button", name="A is better").click()
    page.locator(f"#{pair}").wait_for(state="detached")
    page.get_by_text("without difference").wait_for()


def read_the_verdict(page: Any, studio: Studio) -> None:
    page.locator(".sentence").wait_for()
    assert len(page.locator(".sentence").inner_text()) > 20
    assert page.locator(".chart svg").count() == 1
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the report").click()
    assert "<html" in Path(waiting.value.path()).read_text(encoding="utf-8")


def paint(page: Any, picture: Path) -> None:
    page.get_by_text("Hold to a picture").click()
    page.locator("#control-drop input").set_input_files(picture)
    page.get_by_alt_text("What the model will see").wait_for(timeout=PATIENCE)  # before it is used
    page.get_by_role("button", name="street", exact=True).click()
    page.get_by_label("Pictures of each").fill("1")
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_role("button", name="Paint", exact=True).click()
    page.get_by_role("heading", name="Painted so far").wait_for(timeout=PATIENCE)
    page.locator("#gallery button").click()
    told = page.locator("dialog[open]").inner_text()
    assert "sks woman on the street" in told
    assert "canny 1" in told
    page.locator("dialog[open]").get_by_role("button", name="Use these settings").click()
    page.wait_for_function("document.querySelector('#prompt').value.includes('sks woman')")
    assert page.get_by_label("Seed", exact=True).input_value() == "7"


def export(page: Any, folder: Path) -> None:
    page.get_by_role("heading", name="Export", exact=True).wait_for()
    page.get_by_role("button", name="Write the files").click()
    page.locator("#files a").first.wait_for(timeout=PATIENCE)
    with page.expect_download() as waiting:
        page.locator("#files a").first.click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    with safe_open(path, "pt") as written:
        assert all(key.startswith("lora_unet_") for key in written.keys())  # noqa: SIM118


def delete(page: Any) -> None:
    page.get_by_role("button", name="Delete Ann").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete").click()
    page.get_by_label("Whose portrait is it?").wait_for()


def test_a_killed_training_is_told_and_goes_on(
    page: Any, noted: Noted, ann: Any, queue: Queue, until: Callable[..., None], studio: Studio
) -> None:
    page.goto(f"{studio.address}?project=Ann&screen=plan")
    page.get_by_role("button", name="Start training").click()
    page.locator(".lane .chip.busy").first.wait_for(timeout=PATIENCE)
    trainer(ann.run_folder).send_signal(signal.SIGKILL)
    page.locator("#failure").wait_for()
    told = page.locator("#failure").inner_text()
    assert "What to do" in told
    assert "The last lines" in told
    assert serious(page) == []
    page.get_by_role("button", name="Try again").click()
    page.locator(".lane .chip.busy").first.wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").wait_for(timeout=PATIENCE)
    noted.check()


def test_every_screen_on_a_phone_in_russian_in_the_dark(
    chromium: Any, finished: Any, studio: Studio, noted: Noted
) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844}, locale="ru-RU", color_scheme="dark")
    page = context.new_page()
    noted.listen(page)
    page.goto(studio.address)
    page.get_by_role("heading", name="Ваши проекты").wait_for()
    assert serious(page) == []
    for name in ("Фотографии", "План", "Обучение", "Сравнение", "Вердикт", "Картинки", "Экспорт"):
        if "screen=" not in page.url:
            page.get_by_role("link", name="made").click()
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        assert page.evaluate("document.documentElement.lang") == "ru"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert serious(page) == []
    page.get_by_role("button", name="English").click()  # a person has the last word, and keeps it
    page.reload()
    page.get_by_role("heading", name="Export", exact=True).wait_for()
    noted.check()
    context.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few hundred megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("a small disk cannot be made here: mounting takes an administrator")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_training_goes_on_once_there_is_room(
    chromium: Any, small_disk: Path, photos: Path
) -> None:
    studio = Studio(small_disk / "studio", Path(__file__).with_name("story.toml"))
    studio.start()
    try:
        page = chromium.new_page(locale="en-US")
        page.set_default_timeout(PATIENCE)
        page.goto(studio.address)
        start_project(page, "Ann")
        hand_in(page, sorted(photos.iterdir())[:4])
        agree(page)
        page.get_by_role("link", name="Next: Plan").click()
        choose_quick(page)
        page.get_by_role("button", name="Start training").click()
        page.locator(".lane .chip.busy").first.wait_for()
        fill(small_disk / "filler")
        page.locator("#failure").wait_for()
        told = page.locator("#failure").inner_text()
        assert "space" in told
        assert serious(page) == []
        (small_disk / "filler").unlink()
        page.get_by_role("button", name="Try again").click()
        page.locator(".lane .chip.busy").first.wait_for()
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Go on").wait_for()
    finally:
        studio.stop()
        end_work(studio.root)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))


def end_work(root: Path) -> None:
    """End what works on a folder of projects."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(root) in part for part in process.info["cmdline"] or ()):
            process.kill()


def trainer(run: Path) -> psutil.Process:
    """The process that trains."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"--out={run}" in words:
            return process
    raise AssertionError("nobody trains")
