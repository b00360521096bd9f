"""How quick the studio is: from a cold start to the page, and from a click to the screen while a model is trained.

    python -m benchmarks.studio_speed [--starts 5] [--rounds 10] [--recipe FILE]

Starts the server again and again, each time as a new process, until its page answers and until Chromium shows the first
screen. Then a project with the example photos is trained on `pocket`, and meanwhile each screen of the project is gone
to by its link, in Chromium: the time is that from the click until the screen is in place. Needs Debian's chromium.
Where others keep the machine busy, `load_of_the_machine` says so, and the CPU's seconds of a start tell more than the
clock's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.record import print_table, save
from portrayal.studio.jobs import Queue
from portrayal.studio.projects import Projects
from portrayal.studio.uploads import accept_photos
from portrayal.studio.worker import ensure_worker
from scripts.studio_browser import CHROMIUM, FLAGS, NO_BROWSER, Studio

PHOTOS = sorted((Path(__file__).parents[1] / "examples" / "photos").glob("IMG_*.jpg"))
SCREENS = ("photos", "plan", "train", "compare", "verdict", "generate", "export")
CLICK = """screen => new Promise(done => {
  const began = performance.now();
  const seen = () => document.querySelector("#page-" + screen) && done(performance.now() - began);
  const all = {subtree: true, childList: true, attributes: true};
  new MutationObserver(seen).observe(document.querySelector(".studio"), all);
  document.querySelector(`.steps a[href*="screen=${screen}"]`).click();
})"""


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10, help="how often each screen is gone to during training")
    parser.add_argument("--recipe", default="pocket-demo", help="what the project is trained with")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit(NO_BROWSER)
    with tempfile.TemporaryDirectory() as temporary:
        studio = Studio(Path(temporary) / "studio", arguments.recipe)
        with pages() as opened:
            load = os.getloadavg()[0]
            starts = [start(studio, opened) for _ in range(arguments.starts)]
            clicks = during_training(studio, opened, arguments.rounds)
    took = [milliseconds for found in clicks.values() for milliseconds in found]
    answered, shown, spent = (statistics.median(values) for values in zip(*starts, strict=True))
    rows = [
        {"what": "cold start until the page answers", "median": answered, "unit": "s"},
        {"what": "cold start until the first screen", "median": shown, "unit": "s"},
        {"what": "the server's work in it, on the CPU", "median": spent, "unit": "s"},
        {"what": "click to screen during training", "median": statistics.median(took), "unit": "ms"},
        {"what": "click to screen, 95th of 100", "median": statistics.quantiles(took, n=20)[-1], "unit": "ms"},
    ]
    print_table(rows)
    figures = {
        "start_answer_seconds": [round(one, 2) for one, _, _ in starts],
        "start_screen_seconds": [round(two, 2) for _, two, _ in starts],
        "start_cpu_seconds": [round(cpu, 2) for _, _, cpu in starts],
        "load_of_the_machine": round(load, 1),
        "click_median_ms": round(statistics.median(took), 1),
        "click_p95_ms": round(statistics.quantiles(took, n=20)[-1], 1),
        "click_median_ms_by_screen": {name: round(statistics.median(found), 1) for name, found in clicks.items()},
        "clicks": len(took),
    }
    print(save("studio_speed", figures, vars(arguments)))


@contextmanager
def pages() -> Iterator[Any]:
    """A function that opens a page with nothing in its cache."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield lambda: browser.new_context().new_page()
        browser.close()


def start(studio: Studio, opened: Any) -> tuple[float, float, float]:
    """Seconds from starting the server until it answers, and until the first screen; the CPU's till it answers."""
    began = time.perf_counter()
    answered = studio.start()
    assert studio.process is not None
    spent = psutil.Process(studio.process.pid).cpu_times()
    page = opened()
    page.goto(studio.address)
    page.locator("h1").wait_for()
    shown = time.perf_counter() - began
    page.context.close()
    studio.stop()
    return answered, shown, spent.user + spent.system


def during_training(studio: Studio, opened: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each click on a screen's link, while the project is trained."""
    project = Projects(studio.root, str(studio.recipe)).create("Ann")
    accept_photos(project, [(path, path.name) for path in PHOTOS])
    project.choose(quality="quick", base="pocket", class_noun="woman", consent=True, settled=True)
    queue = Queue(studio.root, str(studio.recipe))
    job = queue.submit(project, "run")
    ensure_worker(studio.root, str(studio.recipe))
    studio.start()
    page = opened()
    page.goto(f"{studio.address}?project=Ann&screen=train")
    page.locator(".lane .chip.busy").first.wait_for(timeout=3600_000)
    page.wait_for_timeout(5000)
    found: dict[str, list[float]] = {screen: [] for screen in SCREENS}
    for _ in range(rounds):
        for screen in SCREENS:
            found[screen].append(page.evaluate(CLICK, screen))
            page.wait_for_timeout(300)
    if queue.job(job.id).state != "running":
        raise SystemExit("The training ended before it was measured; give a longer recipe.")
    queue.cancel(job.id)
    while not queue.job(job.id).ended:
        time.sleep(0.2)
    studio.stop()
    return found


if __name__ == "__main__":
    main()
