"""A shot: everything about a picture that is not the person."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from pretraining.world.palette import CLOTHES_COLOURS, Rgb, jitter
from pretraining.world.people import Gender

Expression: TypeAlias = Literal["neutral", "smiling", "laughing", "surprised", "sad", "angry"]
Clothes: TypeAlias = Literal["t-shirt", "shirt", "hoodie", "sweater", "jacket", "coat", "dress"]
Bottoms: TypeAlias = Literal["trousers", "shorts", "skirt"]
Pattern: TypeAlias = Literal["plain", "striped", "dotted", "checked"]
Light: TypeAlias = Literal["neutral", "warm", "cool", "dim"]
Framing: TypeAlias = Literal["head", "half", "whole"]
Pose: TypeAlias = Literal["standing", "arms raised", "waving", "hands on hips", "kicking", "sitting", "walking"]
Held: TypeAlias = Literal["cup", "book", "phone", "flowers", "balloon", "umbrella"]
Hat: TypeAlias = Literal["cap", "beanie", "straw hat"]

SCENES: tuple[str, ...] = (
    "street", "football", "kitchen", "office", "forest", "beach", "snow", "library", "park", "bedroom",
    "cafe", "gym", "classroom", "concert", "museum", "supermarket", "desert", "harbour",
)  # fmt: skip

FRAMINGS: tuple[Framing, ...] = ("head", "half", "whole")
POSES: tuple[Pose, ...] = ("standing", "arms raised", "waving", "hands on hips", "kicking", "sitting", "walking")
POSES_IN: dict[Framing, tuple[Pose, ...]] = {"head": POSES[:1], "half": POSES[:4], "whole": POSES}
"""The poses that each framing shows; in the head framing the arms hang, unseen."""
HELD: tuple[Held, ...] = ("cup", "book", "phone", "flowers", "balloon", "umbrella")
HATS: tuple[Hat, ...] = ("cap", "beanie", "straw hat")
PATTERNS: tuple[Pattern, ...] = ("plain", "striped", "dotted", "checked")
FREE_HANDED: tuple[Pose, ...] = ("standing", "waving", "sitting", "walking")
"""The poses that leave a hand free to hold something."""

SOLE = 3.5
"""Where a standing figure's soles are below the centre of its head, in head heights."""
SEATED = 0.6
"""By how much sitting lowers the body, in head heights."""

_LIGHTS: dict[Light, tuple[float, float, float]] = {
    "neutral": (1.0, 1.0, 1.0),
    "warm": (1.04, 1.0, 0.92),
    "cool": (0.96, 0.99, 1.04),
    "dim": (0.88, 0.85, 0.87),
}
_FRAMING_SHARES = (0.34, 0.36, 0.30)
_HEADS: dict[Framing, tuple[float, float]] = {"head": (0.45, 0.60), "half": (0.26, 0.36), "whole": (0.19, 0.235)}
_BOTTOMS_COLOURS: tuple[Rgb, ...] = (
    (58, 76, 122), (88, 118, 168), (52, 52, 60), (112, 114, 124), (196, 174, 136), (112, 76, 54), (84, 98, 66),
    (150, 58, 66), (232, 228, 220), (44, 92, 104),
)  # fmt: skip
_SHOES_COLOURS: tuple[Rgb, ...] = (
    (44, 42, 48), (240, 238, 234), (120, 74, 46), (196, 54, 54), (48, 84, 168), (236, 190, 66), (52, 140, 104),
)  # fmt: skip
_T = TypeVar("_T")


@dataclass(frozen=True)
class Shot:
    """Where, how near, in what pose, clothes, light and mood. Lengths are in units of the picture's short side."""

    scene: str
    """One of ``SCENES``."""
    scene_seed: int
    """Seeds the scene's objects and colours."""
    head_height: float
    """Crown to chin: [0.45, 0.6] in the head framing, [0.26, 0.36] in half, [0.19, 0.235] in whole."""
    x: float
    """Centre of the head, from the left."""
    y: float
    """Centre of the head, from the top."""
    tilt: float
    """Degrees clockwise, about [-10, 10]."""
    turn: float
    """How far the head turns, -1 left to 1 right."""
    expression: Expression
    clothes: Clothes
    clothes_name: str
    """A key of ``CLOTHES_COLOURS``."""
    clothes_colour: Rgb
    accent: Rgb
    """Second colour: pattern, strings, the shirt under a jacket."""
    light: Light
    gain: tuple[float, float, float]
    """Factor on each channel, about [0.75, 1.1]."""
    light_side: float
    """Where the light comes from: -1 left to 1 right."""
    framing: Framing = "head"
    """Head and shoulders, down to the thighs, or down to the ground."""
    pose: Pose = "standing"
    """One of ``POSES_IN[framing]``."""
    pose_seed: int = 0
    """Varies the angles of the joints; its lowest bit picks the acting side."""
    pattern: Pattern = "plain"
    """On the upper garment, in the accent colour."""
    held: Held | None = None
    """In the hand of the side that does not act; poses outside ``FREE_HANDED`` hold nothing."""
    hat: Hat | None = None
    hat_name: str = "red"
    """A key of ``CLOTHES_COLOURS``."""
    hat_colour: Rgb = CLOTHES_COLOURS["red"]
    bottoms: Bottoms = "trousers"
    """Seen below coats and upper garments, never below a dress."""
    bottoms_colour: Rgb = (58, 76, 122)
    shoes_colour: Rgb = (44, 42, 48)

    @property
    def side(self) -> float:
        """The side of the picture on which the arm waves, the leg kicks, the walk or the knees go: -1 left, 1 right."""
        return 1.0 if self.pose_seed % 2 else -1.0


def sample_shot(
    rng: np.random.Generator,
    *,
    scene: str | None = None,
    framing: Framing | None = None,
    pose: Pose | None = None,
    gender: Gender | None = None,
) -> Shot:
    """Draw one shot.

    Args:
        rng: Source of randomness.
        scene: One of ``SCENES``; ``None`` picks one.
        framing: One of ``FRAMINGS``; ``None`` picks one that can show the pose.
        pose: One of ``POSES``; ``None`` picks one that the framing shows.
        gender: Only a woman's shot may have a dress or a skirt.

    Returns:
        A shot in which the whole face is inside the picture, and in the whole framing the whole figure.

    Raises:
        ValueError: If the scene, framing or pose is unknown, or the framing does not show the pose.
    """
    if scene is not None and scene not in SCENES:
        raise ValueError(f"unknown scene {scene!r}; choose one of {', '.join(SCENES)}")
    if framing is not None and framing not in FRAMINGS:
        raise ValueError(f"unknown framing {framing!r}; choose one of {', '.join(FRAMINGS)}")
    if pose is not None and pose not in (POSES if framing is None else POSES_IN[framing]):
        raise ValueError(f"no pose {pose!r} in framing {framing or 'any'}; choose one of {', '.join(POSES)}")
    drawn_scene = _pick(rng, SCENES) if scene is None else scene
    drawn_framing = _pick_framing(rng, pose) if framing is None else framing
    drawn_pose = _pick_pose(rng, drawn_framing) if pose is None else pose
    name = _pick(rng, tuple(CLOTHES_COLOURS))
    hat_name = _pick(rng, tuple(CLOTHES_COLOURS))
    light: Light = _pick(rng, ("neutral", "neutral", "warm", "cool", "dim"))
    woman = gender == "woman"
    colour = jitter(rng, CLOTHES_COLOURS[name], 9)
    clothes = _pick_clothes(rng, woman)
    shot = Shot(
        scene=drawn_scene,
        scene_seed=int(rng.integers(2**31)),
        head_height=0.5,
        x=0.5,
        y=0.5,
        tilt=float(np.clip(rng.normal(0, 4), -10, 10)),
        turn=float(rng.uniform(-1, 1)),
        expression=_pick_expression(rng),
        clothes=clothes,
        clothes_name=name,
        clothes_colour=colour,
        accent=_accent(rng, name),
        light=light,
        gain=(1.0, 1.0, 1.0),
        light_side=float(rng.uniform(-1, 1)),
        framing=drawn_framing,
        pose=drawn_pose,
        pose_seed=int(rng.integers(2**31)),
        pattern="plain" if rng.random() < 0.52 else _pick(rng, PATTERNS[1:]),
        held=_pick_held(rng, drawn_framing, drawn_pose),
        hat=_pick(rng, HATS) if rng.random() < 0.17 else None,
        hat_name=hat_name,
        hat_colour=jitter(rng, CLOTHES_COLOURS[hat_name], 9),
        bottoms=_pick_bottoms(rng, woman),
        bottoms_colour=_apart(rng, _BOTTOMS_COLOURS, colour),
        shoes_colour=jitter(rng, _pick(rng, _SHOES_COLOURS), 8),
    )
    red, green, blue = (float(v) for v in np.asarray(_LIGHTS[light]) * rng.uniform(0.95, 1.04))
    return _placed(rng, replace(shot, gain=(red, green, blue)))


def _placed(rng: np.random.Generator, shot: Shot) -> Shot:
    """Choose how large the figure is and where it stands, so that what the framing shows is in the picture."""
    least, most = _HEADS[shot.framing]
    if shot.framing == "half":
        most = {"waving": 0.33, "arms raised": 0.34}.get(shot.pose, most) - (0.04 if shot.held else 0.0)
    elif shot.held == "umbrella":
        most = 0.205
    head = float(rng.uniform(least, most))
    if shot.framing == "head":
        room = 0.5 - 0.42 * head
        x = 0.5 + float(rng.uniform(-0.55, 0.55)) * room
        low = (0.78 if shot.hat else 0.68) * head + 0.02
        y = float(rng.uniform(low, max(low + 0.02 * head + 0.02, 0.52)))
    elif shot.framing == "half":
        above = 1.2 if shot.held == "umbrella" else 0.76 if shot.hat else 0.66
        x = _half_x(rng, shot, head)
        y = max(1.0 - float(rng.uniform(1.95, 2.4)) * head, above * head + 0.01)
    else:
        x, y = _whole_place(rng, shot, head)
    return replace(shot, head_height=head, x=x, y=y)


def _half_x(rng: np.random.Generator, shot: Shot, head: float) -> float:
    """The centre of the head when the elbows, hands and what they hold are seen."""
    if shot.pose == "waving":
        return 0.5 - shot.side * float(rng.uniform(-0.01, 0.05)) * (not shot.held)
    if shot.held:
        return 0.5 + shot.side * float(rng.uniform(0.02, 0.12))
    room = min(max(0.47 - 1.25 * head, 0.0), 0.12) if shot.pose != "standing" else 0.11
    return 0.5 + float(rng.uniform(-1, 1)) * room


def _whole_place(rng: np.random.Generator, shot: Shot, head: float) -> tuple[float, float]:
    """The centre of the head when the feet are near the picture's lower edge."""
    sole = SOLE - (SEATED if shot.pose == "sitting" else 0.0)
    low = 0.02 + (1.15 if shot.held == "umbrella" else 0.74) * head
    y = min(max(float(rng.uniform(0.90, 0.965)) - sole * head, low), 0.985 - sole * head)
    x = 0.5 + float(rng.uniform(-0.13, 0.13))
    if shot.pose == "kicking":
        x = 0.5 - shot.side * float(rng.uniform(0.05, 0.12))
    elif shot.pose == "sitting":
        x = 0.5 - shot.side * float(rng.uniform(-0.06, 0.14))
    return x, y


def _pick(rng: np.random.Generator, choices: tuple[_T, ...]) -> _T:
    return choices[rng.integers(len(choices))]


def _pick_framing(rng: np.random.Generator, pose: Pose | None) -> Framing:
    """A framing by its share, among those that show the pose."""
    shares = np.asarray([
        share * (pose is None or pose in POSES_IN[framing])
        for framing, share in zip(FRAMINGS, _FRAMING_SHARES, strict=True)
    ])  # fmt: skip
    return FRAMINGS[rng.choice(len(FRAMINGS), p=shares / shares.sum())]


def _pick_pose(rng: np.random.Generator, framing: Framing) -> Pose:
    poses = POSES_IN[framing]
    return "standing" if framing == "half" and rng.random() < 0.1 else _pick(rng, poses)


def _pick_clothes(rng: np.random.Generator, woman: bool) -> Clothes:
    kinds: tuple[Clothes, ...] = ("t-shirt", "shirt", "hoodie", "sweater", "jacket", "coat")
    return "dress" if woman and rng.random() < 0.24 else _pick(rng, kinds)


def _pick_bottoms(rng: np.random.Generator, woman: bool) -> Bottoms:
    kinds: tuple[Bottoms, ...] = ("trousers", "shorts", "skirt") if woman else ("trousers", "trousers", "shorts")
    return _pick(rng, kinds)


def _pick_held(rng: np.random.Generator, framing: Framing, pose: Pose) -> Held | None:
    if framing == "head" or pose not in FREE_HANDED or rng.random() > 0.42:
        return None
    return _pick(rng, HELD)


def _pick_expression(rng: np.random.Generator) -> Expression:
    moods: tuple[Expression, ...] = (
        "neutral",
        "neutral",
        "smiling",
        "smiling",
        "laughing",
        "surprised",
        "sad",
        "angry",
    )
    return _pick(rng, moods)


def _accent(rng: np.random.Generator, name: str) -> Rgb:
    """White on most colours, any other colour now and then, never the garment's own."""
    others = tuple(colour for other, colour in CLOTHES_COLOURS.items() if other != name)
    plain = name not in ("white", "yellow") and rng.random() < 0.6
    drawn = _pick(rng, others)
    return jitter(rng, CLOTHES_COLOURS["white"] if plain else drawn, 6)


def _apart(rng: np.random.Generator, choices: tuple[Rgb, ...], colour: Rgb) -> Rgb:
    """A choice that differs clearly from the colour."""
    far = tuple(c for c in choices if sum(abs(a - b) for a, b in zip(c, colour, strict=True)) > 110)
    return jitter(rng, _pick(rng, far), 6)
