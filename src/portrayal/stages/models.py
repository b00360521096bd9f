"""The models of others: which there are, which are here, and getting them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from portrayal.errors import UsageError, WeightsError, known, nearest
from portrayal.run import Event, Progress
from portrayal.stages.shared import silent


def list_models() -> list[dict[str, Any]]:
    """The known models: name, hub id, job, licence, megabytes, and whether each is on this machine."""
    from portrayal.models.catalog import CATALOG
    from portrayal.models.store import look_for

    return [look_for(model).as_json() for model in CATALOG]


def fetch_models(names: Sequence[str], *, progress: Progress = silent) -> list[dict[str, Any]]:
    """Fetch known models from the hub, so that runs need no network.

    Args:
        names: Names or hub ids.
        progress: Called with every event; notes tell sizes and licences before anything is fetched.

    Returns:
        What is now here of each, as of :func:`list_models`.

    Raises:
        UsageError: If a name is unknown.
        WeightsError: If the hub cannot be reached.
    """
    chosen = [chosen_model(name) for name in names]
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"  # read when the hub's library is imported
    from portrayal.models.catalog import file_size
    from portrayal.models.store import fetch_anew, look_for

    for model in chosen:
        told = f"{model.name}: {model.hub_id}, {file_size(model.megabytes)}, licence {model.licence}"
        progress(Event("models", "note", message=told))
    found = []
    for model in chosen:
        title = f"fetch.{model.name}"
        progress(Event(title, "started"))
        fetch_anew(model.hub_id, model.revision, model.files)
        progress(Event(title, "finished"))
        found.append(look_for(model).as_json())
    return found


def verify_models(names: Sequence[str] = (), *, progress: Progress = silent) -> list[dict[str, Any]]:
    """Check that the files of known models are whole.

    Args:
        names: Names or hub ids; nothing means those that are here.
        progress: Called with every event.

    Returns:
        What was found of each, as of :func:`list_models`; `problems` say what is wrong.

    Raises:
        UsageError: If a name is unknown.
        WeightsError: If one is damaged, or is named and not here.
    """
    from portrayal.models.catalog import CATALOG
    from portrayal.models.store import look_for, verify

    chosen = [chosen_model(name) for name in names] or [one for one in CATALOG if look_for(one).state == "here"]
    found = []
    for model in chosen:
        title = f"verify.{model.name}"
        progress(Event(title, "started"))
        found.append(verify(model))
        progress(Event(title, "finished"))
    wrong = [one for one in found if one.state != "here"]
    if wrong:
        faults = "; ".join(
            f"{one.model.name} is {one.state}" + (f" ({one.problems[0]})" if one.problems else "") for one in wrong
        )
        raise WeightsError(
            f"{faults}.", f"Get them: portrayal models fetch {' '.join(one.model.name for one in wrong)}"
        )
    return [one.as_json() for one in found]


def chosen_model(name: str) -> Any:
    """The known model of a name."""
    from portrayal.models.catalog import CATALOG, known_model

    model = known_model(name)
    if model is None:
        names = [one.name for one in CATALOG]
        raise UsageError(f"There is no known model {name!r}; {nearest(name, names) or known(names)}")
    return model


def models_needed(config: Any) -> list[dict[str, Any]]:
    """The known models that a run with these settings would fetch, with hub id, job, megabytes and licence.

    Args:
        config: A config; `auto` as its base means one that is here.
    """
    from portrayal.models.catalog import CATALOG
    from portrayal.models.store import look_for

    names = needed_names(config)
    missing = [model for model in CATALOG if {model.name, model.hub_id} & names and look_for(model).state != "here"]
    return [
        {key: getattr(model, key) for key in ("name", "hub_id", "job", "megabytes", "licence")} for model in missing
    ]


def needed_names(config: Any) -> set[str]:
    """Names and hub ids of the models of others that settings ask for; `pocket` brings its own."""
    base, kinds = config.base.name, config.control.kinds if config.control.enabled else ()
    controlnets = {kind: config.control.controlnet_of(kind) for kind in kinds}
    named = {name for name in controlnets.values() if name != "auto"}
    named |= {config.base.vae} if config.base.vae else set()
    named |= {"clipseg"} if config.prepare.masks == "model" else set()
    if base in ("auto", "pocket"):
        return named
    named |= {base, "clip", "dinov2", "yunet", *(kind for kind, name in controlnets.items() if name == "auto")}
    named |= {"vitpose", "rtdetr"} if "openpose" in kinds else set()
    named |= {"depth-anything"} if "depth" in kinds else set()
    identity = config.evaluation.identity
    named |= {"auraface" if config.subject.person else "dinov2"} if identity == "auto" else {identity}
    return named | ({"blip"} if config.prepare.captions == "captioner" else set())
