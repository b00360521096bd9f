"""The page as Gradio shows it: one component of HTML, two functions that the browser calls, style and script.

The server sends whole screens as HTML, made by templates; the script puts in place what changed. Which project and
which screen is in the address, so that a page that is reloaded, or opened a second time, shows the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request as HttpRequest

from portrayal import PortrayalError
from portrayal.studio.jobs import Queue
from portrayal.studio.page import compare, export, frame, generate, photos, plan, projects, train, verdict
from portrayal.studio.page.asked import NOTHING, STEPS, Asked, Outcome, Wrong, listed
from portrayal.studio.projects import Projects
from portrayal.studio.texts import Texts, choose_language

FOLDER = Path(__file__).parent
FRAME: ModuleType = frame
SCREENS: dict[str, ModuleType] = {
    "projects": projects,
    "photos": photos,
    "plan": plan,
    "train": train,
    "compare": compare,
    "verdict": verdict,
    "generate": generate,
    "export": export,
}
"""The modules of the screens: each has its `view`, and its `ACTIONS`."""

SHELL = """<div class="shell"><div class="lost" role="status" hidden></div>
<div class="studio"><p class="opening">…</p></div><div class="said" role="status"></div></div>"""

log = logging.getLogger("portrayal.studio")


def make_page(root: Path, recipe: str | None = None) -> Any:
    """The page of a studio, as Gradio's `Blocks`.

    Args:
        root: Folder of all projects.
        recipe: What settings of projects start from; nothing chooses by base and machine.
    """
    everything = Projects(root, recipe)

    def show(data: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        told = data if isinstance(data, dict) else {}
        return answer(everything, {key: told.get(key) for key in ("place", "languages", "chosen", "kept")}, request)

    def act(data: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        return answer(everything, data if isinstance(data, dict) else {}, request)

    with gr.Blocks(title="Portrayal", analytics_enabled=False) as blocks:
        gr.HTML(
            html_template=SHELL,
            js_on_load=(FOLDER / "studio.js").read_text(encoding="utf-8"),
            server_functions=[show, act],
            apply_default_css=False,
        )
    return blocks


def look() -> dict[str, Any]:
    """How Gradio is to show the page: arguments of `gr.mount_gradio_app`.

    The style goes into the head, for what is given as `css` gets a prefix that media queries do not survive.
    """
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return {
        "theme": gr.themes.Base(font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace"]),
        "head": f'<meta name="color-scheme" content="light dark"><style>{style}</style>',
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
    }


def answer(everything: Projects, data: Mapping[str, Any], request: HttpRequest | gr.Request) -> dict[str, Any]:
    """A screen, after what was asked for has been done.

    Args:
        everything: All projects.
        data: `place` (what the address says), `languages` (of the browser), `chosen` (by a person) and `kept` (of the
            last deed on this screen); and of a deed `act` (`SCREEN.NAME`) and `values`.
        request: The request, for the languages it names where the browser's script did not.

    Returns:
        `html`, `place`, `title`, `language`, `words` (texts of the script), `poll` (milliseconds after which to ask
        again; 0 never), `said`, `wrong` (whether the deed was refused), `kept` (to be sent along when it
        looks again) and `refill` (whether what is typed gives way to what the screen says).
    """
    languages = [*listed(data.get("languages"))[:10], *request.headers.get("accept-language", "").split(",")]
    chosen = data.get("chosen")
    t = Texts(choose_language(languages, chosen if isinstance(chosen, str) else None))
    asked, outcome = place_of(everything, t, data.get("place"))
    if outcome.wrong is None and "act" not in data:
        outcome = Outcome.from_json(data.get("kept"))
    if isinstance(data.get("act"), str) and outcome.wrong is None:
        outcome = done(asked, data["act"], data.get("values"))
        if outcome.go is not None:
            name = outcome.project or (asked.project.name if asked.project else "")
            asked, _ = place_of(everything, t, {"project": name, "screen": outcome.go})
        elif outcome.values.get("place"):
            asked, _ = place_of(everything, t, {**asked.place, **outcome.values["place"]})
        else:  # what was read before the deed is out of date
            asked, _ = place_of(everything, t, asked.place)
    return shown(asked, outcome)


def place_of(everything: Projects, t: Texts, place: object) -> tuple[Asked, Outcome]:
    """What an address asks for; the list of projects where it leads nowhere."""
    said = {str(key): str(value) for key, value in place.items()} if isinstance(place, Mapping) else {}
    queue, project, outcome = Queue(everything.root, everything.recipe), None, NOTHING
    if said.get("project"):
        try:
            project = everything.open(said["project"])
        except PortrayalError as error:
            outcome = Outcome(wrong=Wrong(error.cause, error.remedy))
    if project is None:
        return Asked(everything, queue, t, "projects", None, {}), outcome
    screen = said.get("screen", "")
    kept = {key: value for key, value in said.items() if key not in ("project", "screen")}
    if screen not in STEPS:
        screen = {"new": "photos", "photos": "photos", "planned": "plan", "done": "verdict"}.get(project.state, "train")
        kept = {}
    place_ = {"project": project.name, "screen": screen, **kept}
    return Asked(everything, queue, t, screen, project, place_), outcome


def done(asked: Asked, name: str, values: object) -> Outcome:
    """Do what was asked for, or say why not."""
    screen, _, action = name.partition(".")
    module = FRAME if screen == "frame" else SCREENS.get(screen)
    actions = module.ACTIONS if module else {}
    try:
        if action not in actions or (asked.project is None and screen not in ("projects", "frame")):
            return Outcome(wrong=Wrong(asked.t("common.unexpected", what=name), asked.t("common.unexpected_fix")))
        outcome: Outcome = actions[action](asked, values if isinstance(values, dict) else {})
        return outcome
    except PortrayalError as error:
        return Outcome(wrong=Wrong(error.cause, error.remedy), values=values if isinstance(values, dict) else {})
    except OSError as error:
        return Outcome(wrong=Wrong(str(error.strerror or error), asked.t("common.unexpected_fix")))
    except Exception as error:  # a fault of ours: the page stays, and the server's log has the details
        log.exception("%s failed", name)
        what = f"{type(error).__name__}: {error}"
        return Outcome(wrong=Wrong(asked.t("common.unexpected", what=what), asked.t("common.unexpected_fix")))


def shown(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """The screen as the script expects it."""
    t = asked.t
    try:
        view: dict[str, Any] = SCREENS[asked.screen].view(asked, outcome)
        html = rendered(f"{asked.screen}.html.j2", asked, outcome, view)
    except PortrayalError as error:
        view = {"broken": Wrong(error.cause, error.remedy)}
        html = rendered("broken.html.j2", asked, outcome, view)
    except Exception as error:  # a fault of ours: said on the screen, and looked for again in a while
        log.exception("%s cannot be shown", asked.screen)
        what = t("common.unexpected", what=f"{type(error).__name__}: {error}")
        view = {"broken": Wrong(what, t("common.unexpected_fix")), "poll": 5000}
        html = rendered("broken.html.j2", asked, outcome, view)
    screen = t(f"screen.{asked.screen}")
    title = t("common.title", what=f"{asked.project.name}, {screen}" if asked.project else screen)
    words = {key: t(f"common.{key}") for key in ("found", "lost", "copied", "too_large")}
    return {
        "html": html,
        "place": dict(asked.place),
        "title": title,
        "language": t.language,
        "words": words,
        "poll": view.get("poll", 0),
        "said": outcome.said,
        "kept": outcome.as_json(),
        "refill": outcome.refill,
        "wrong": outcome.wrong is not None,
    }


def rendered(template: str, asked: Asked, outcome: Outcome, view: Mapping[str, Any]) -> str:
    """A screen as HTML."""
    around = frame.view(asked)
    return templates().get_template(template).render(asked=asked, t=asked.t, outcome=outcome, frame=around, **view)


@lru_cache
def templates() -> Environment:
    """The templates; everything that is put into them is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,  # names, prompts and messages come from people
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["marked"] = marked
    return environment


def marked(text: str) -> Markup:
    """A docstring as HTML: what stands in backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
