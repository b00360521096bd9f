"""Blind votes: two pictures of one scene at one seed by two models, and nothing that tells which is whose.

`RUN/votes.json` keeps every vote and the tally. Pairs come in an order by chance that is a function of the run's seed,
models that were compared least often first.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from portrayal import Run, UsageError
from portrayal.studio.compare import cells_of
from portrayal.studio.files import locked, read_json, write_json
from portrayal.studio.projects import WORKSHOP, Project
from portrayal.studio.watch import run_of

Choice = Literal["a", "b", "equal"]
QUANTILE = 1.959963984540054
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True)
class Pair:
    """Two pictures to choose from. Whoever shows them must not show their paths, which name the models.

    Attributes:
        id: By which a vote is given; it tells nothing.
        scene: What both show.
        prompt: Its prompt.
        a: The picture on the left.
        b: The picture on the right.
        number: How many votes were given before.
        of: How many pairs there are.
    """

    id: str
    scene: str
    prompt: str
    a: Path
    b: Path
    number: int
    of: int


@dataclass(frozen=True)
class Tally:
    """What votes said of two models.

    Attributes:
        a: The first model.
        b: The second.
        wins: Votes for the first.
        losses: Votes for the second.
        ties: Votes for neither.
        share: Of the first in the votes that decided; nothing where none did.
        low: Lower end of its 95 % interval (Wilson 1927, doi:10.1080/01621459.1927.10502953).
        high: Upper end.
    """

    a: str
    b: str
    wins: int
    losses: int
    ties: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Secret:
    """A pair with what it hides: models and number of the picture, the left one first."""

    id: str
    scene: str
    seed: int
    left: str
    right: str


def next_pair(project: Project) -> Pair | None:
    """The next pair that was not voted on; nothing when all were, or nothing can be compared."""
    run = run_of(project)
    if run is None:
        return None
    secrets, votes = secrets_of(run), votes_of(run)
    open_ones = [one for one in secrets if one.id not in votes]
    if not open_ones:
        return None
    counted = {frozenset((one.left, one.right)): 0 for one in secrets}
    for one in secrets:
        counted[frozenset((one.left, one.right))] += one.id in votes
    chosen = min(open_ones, key=lambda one: (counted[frozenset((one.left, one.right))], one.id))
    paths = pictures(run, chosen)
    prompt = run.config.generation.scenes[chosen.scene].replace("{subject}", run.config.subject.subject)
    return Pair(chosen.id, chosen.scene, prompt, *paths, len(votes), len(secrets))


def pictures(run: Run, secret: Secret) -> tuple[Path, Path]:
    """The pictures of a pair, left and right."""
    left, right = (run.image_path(model, secret.scene, secret.seed) for model in (secret.left, secret.right))
    return left, right


def picture_of(project: Project, pair: str, side: Choice) -> Path:
    """A picture of a pair, for whoever shows it without its name.

    Raises:
        UsageError: If there is no such pair.
    """
    run, secret = secret_of(project, pair)
    left, right = pictures(run, secret)
    return left if side == "a" else right


def secret_of(project: Project, pair: str) -> tuple[Run, Secret]:
    """A pair by its id.

    Raises:
        UsageError: If there is none.
    """
    run = run_of(project)
    found = next((one for one in secrets_of(run) if one.id == pair), None) if run else None
    if run is None or found is None:
        raise UsageError("There is no such pair of pictures.", "Reload the page.")
    return run, found


def secrets_of(run: Run) -> list[Secret]:
    """Every pair of models in every cell that both have painted, in an order by chance."""
    cells, names = cells_of(run), ("base", *run.config.methods)
    pairs = []
    for scene, number in sorted({(scene, number) for scene, _, number in cells}):
        painted = [name for name in names if (scene, name, number) in cells]
        for first, second in combinations(painted, 2):
            drawn = hashlib.sha256(
                f"{run.config.seed}/{scene}/{number}/{first}/{second}/{salt(run)}".encode()
            ).hexdigest()
            left, right = (first, second) if int(drawn[-1], 16) % 2 else (second, first)
            pairs.append(Secret(drawn[:20], scene, number, left, right))
    return sorted(pairs, key=lambda one: one.id)


def salt(run: Run) -> str:
    """What no page shows, so that nobody can reckon whose a pair's pictures are."""
    return str(run.provenance.get("created", ""))


def vote(project: Project, pair: str, choice: Choice) -> tuple[str, str]:
    """Count a vote; the names of the left and the right model are the reward.

    Raises:
        UsageError: If there is no such pair, or the choice is none of `a`, `b` and `equal`.
        MachineError: If the disk is full.
    """
    if choice not in get_args(Choice):
        raise UsageError(f"A vote is a, b or equal, not {choice!r}.")
    run, secret = secret_of(project, pair)
    winner = {"a": secret.left, "b": secret.right}.get(choice)
    with locked(project.root / WORKSHOP):
        votes = votes_of(run)
        votes[pair] = asdict(secret) | {"winner": winner, "time": round(time.time(), 3)}
        counted = [asdict(one) for one in tallies(list(votes.values()), run)]
        write_json(run.folder / "votes.json", {"schema": 1, "votes": list(votes.values()), "tally": counted})
    return secret.left, secret.right


def votes_of(run: Run) -> dict[str, dict[str, Any]]:
    """The votes so far, by pair."""
    return {one["id"]: one for one in read_json(run.folder / "votes.json").get("votes", [])}


def tally(project: Project) -> list[Tally]:
    """What all votes said, for each two models that were voted on."""
    run = run_of(project)
    return [] if run is None else list(tallies(list(votes_of(run).values()), run))


def tallies(votes: Sequence[Mapping[str, Any]], run: Run) -> Iterator[Tally]:
    """The tally of each two models, in the study's order."""
    for a, b in combinations(("base", *run.config.methods), 2):
        mine = [one for one in votes if {one["left"], one["right"]} == {a, b}]
        wins, losses = (sum(one["winner"] == name for one in mine) for name in (a, b))
        if mine:
            yield Tally(a, b, wins, losses, len(mine) - wins - losses, *wilson(wins, wins + losses))


def wilson(wins: int, count: int) -> tuple[float | None, float | None, float | None]:
    """A share of so many, with Wilson's 95 % interval; nothing of none."""
    if count == 0:
        return None, None, None
    share, square = wins / count, QUANTILE**2 / count
    middle = (share + square / 2) / (1 + square)
    half = QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return share, max(0.0, middle - half), min(1.0, middle + half)
