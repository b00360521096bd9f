"""Pictures of the studio's screens for the docs: light and dark, wide and on a phone, of a project that is really made.

    python -m scripts.studio_pictures [--root FOLDER] [--out docs/images/studio]

Hands in the example photos, trains two LoRAs on `pocket` (about ten minutes on two idle cores), paints, votes, exports,
and takes every screen. With `--root` what is there already is not done again. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import tomli_w
from PIL import Image

from scripts.studio_browser import CHROMIUM, FLAGS, NO_BROWSER, Studio

TOP = Path(__file__).parents[1]
PHOTOS = sorted((TOP / "examples" / "photos").glob("IMG_*"))
SCREENS = ("photos", "plan", "train", "compare", "verdict", "generate", "export")
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
LOOKS = {
    f"{scheme}-{name}": (scheme, size)
    for scheme in ("light", "dark")
    for name, size in (("wide", WIDE), ("narrow", NARROW))
}
NAME, OTHER, HOUR = "Ann", "Mia", 3600_000
BEFORE = ("photos", "plan")  # screens of a project that was not started yet: the other one
PROMPTS = "a photo of {subject} at the beach\na photo of {subject} in the kitchen, smiling"


def main() -> None:
    """Make the project, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the project, kept")
    parser.add_argument("--out", type=Path, default=TOP / "docs" / "images" / "studio")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit(NO_BROWSER)
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.root or Path(temporary) / "studio").resolve()
        root.mkdir(parents=True, exist_ok=True)
        studio = Studio(root, recipe(root))
        studio.start()
        try:
            with pages(studio) as opened:
                begin_all(opened("light-wide"), studio)
                take(opened, studio, arguments.out, [("train", NAME)])
                finish(opened("light-wide"), studio)
                rest = [(screen, OTHER if screen in BEFORE else NAME) for screen in SCREENS if screen != "train"]
                take(opened, studio, arguments.out, [("projects", ""), *rest])
        finally:
            studio.stop()
    taken = list(arguments.out.glob("*.webp"))
    print(f"{len(taken)} pictures, {sum(path.stat().st_size for path in taken) / 2**20:.2f} MiB in {arguments.out}")


def recipe(root: Path) -> Path:
    """Settings of the demo, made smaller: two LoRAs, trained once and half as long."""
    values = tomllib.loads((TOP / "recipes" / "pocket-demo.toml").read_text(encoding="utf-8"))
    values["study"] = {"full_unet": False, "ranks": [8, 32], "folds": 1, "final": False, "readings": 6}
    values["method"]["lora"]["max_train_steps"] = 200
    values["generation"]["num_images_per_scene"] = 2
    values["control"] = {"enabled": False}
    path = root / ".pictures.toml"
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    return path


@contextmanager
def pages(studio: Studio) -> Iterator[Any]:
    """A function that opens a page with a look."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def opened(look: str) -> Any:
            scheme, size = LOOKS[look]
            context = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
            page = context.new_page()
            page.set_default_timeout(HOUR)
            page.goto(studio.address)
            page.locator("h1").wait_for()
            return page

        yield opened
        browser.close()


def begin_all(page: Any, studio: Studio) -> None:
    """Both projects, and the training of one until there is something to see in its lanes."""
    for name in (OTHER, NAME):
        if not (studio.root / name).is_dir():
            begin(page, studio, name)
    if not (studio.root / NAME / "run").is_dir():
        page.goto(f"{studio.address}?project={NAME}&screen=plan")
        page.locator("#outlook dl").wait_for()
        page.get_by_role("button", name="Start training").click()
    page.goto(f"{studio.address}?project={NAME}&screen=train")
    page.locator(".lane").last.locator(".strip img").nth(3).wait_for()


def finish(page: Any, studio: Studio) -> None:
    """The rest of the job, through the page, or what is left of it."""
    run = studio.root / NAME / "run"
    page.goto(f"{studio.address}?project={NAME}&screen=train")
    page.get_by_role("link", name="Next: Compare").wait_for()
    if not (run / "votes.json").is_file():
        page.get_by_role("link", name="Next: Compare").click()
        for choice in ("B is better", "No difference", "A is better"):
            pair = page.locator(".pair").get_attribute("id")
            page.get_by_role("button", name=choice).click()
            page.locator(f"#{pair}").wait_for(state="detached")
    if not (run / "pictures").is_dir():
        page.goto(f"{studio.address}?project={NAME}&screen=generate")
        page.get_by_label("What should it show?").fill(PROMPTS)
        page.get_by_role("button", name="Paint", exact=True).click()
        page.get_by_role("heading", name="Painted so far").wait_for()
        page.locator("#gallery-part .chip.busy").wait_for(state="detached")
    if not (run / "exports").is_dir():
        page.goto(f"{studio.address}?project={NAME}&screen=export")
        page.get_by_role("button", name="Write the files").click()
        page.locator("#files a").first.wait_for()


def begin(page: Any, studio: Studio, name: str) -> None:
    """A new project with the example photos."""
    page.goto(studio.address)
    page.get_by_role("textbox").fill(name)
    page.get_by_role("button", name="Start").click()
    page.locator("#drop input").set_input_files(PHOTOS)
    page.locator(".photo").first.wait_for()
    page.get_by_label("In one word").fill("woman")
    page.get_by_label("The person in these photos agreed").check()
    page.get_by_role("link", name="Next: Plan").wait_for()


def take(opened: Any, studio: Studio, out: Path, screens: list[tuple[str, str]]) -> None:
    """Take screens of projects in every look."""
    out.mkdir(parents=True, exist_ok=True)
    for look in LOOKS:
        page = opened(look)
        for screen, project in screens:
            place = f"?project={project}&screen={screen}" if project else ""
            page.goto(f"{studio.address}{place}")
            page.locator("h1").wait_for()
            settle(page)
            shot(page, out / f"{screen}-{look}.webp")
        page.context.close()


def settle(page: Any) -> None:
    """Wait for what is still being reckoned, and for the pictures."""
    page.wait_for_function("!document.querySelector('#outlook .busy, #page-photos .chip.busy')")
    there = "one => one.loading === 'lazy' || one.src.startsWith('data:') || (one.complete && one.naturalWidth)"
    page.wait_for_function(f"[...document.images].every({there})")
    time.sleep(0.5)


def shot(page: Any, path: Path) -> None:
    """One screen as a small file."""
    with Image.open(BytesIO(page.screenshot())) as image:
        image.convert("RGB").save(path, "WEBP", quality=76, method=6)


if __name__ == "__main__":
    main()
