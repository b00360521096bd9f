"""The joints of a figure by forward kinematics: the drawing and the keypoints share them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pretraining.world.face import EYE_Y, Head, measure
from pretraining.world.pen import Point
from pretraining.world.people import Person
from pretraining.world.shots import FREE_HANDED, Shot

UPPER_ARM, FOREARM, THIGH, SHANK, FOOT = 0.56, 0.53, 0.70, 0.66, 0.17
_NECK = 0.6
"""The point below the head's centre around which head and body turn against each other."""
_LEANS = {"head": 0.75, "half": 0.35, "whole": 0.0}
"""How much of the head's tilt the body shares."""


@dataclass(frozen=True)
class Figure:
    """Joints in head heights, y down, before tilt; pairs are (left, right) in the picture, not the subject's own."""

    arms: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    """Shoulder, elbow and wrist of each arm."""
    legs: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    """Hip, knee and ankle of each leg."""
    toes: tuple[float, float]
    """Where each foot points: -1 left to 1 right."""
    top: float
    """The y of the neck's foot."""
    shoulder: float
    """Half the distance between the shoulders."""
    hip: float
    """Half the width of the body at the hips."""
    held: int | None
    """The arm that holds something, 0 or 1."""
    head_at: tuple[float, float, float]
    """The head's place in the picture and its tilt in degrees."""
    body_at: tuple[float, float, float]
    """The body's place in the picture, where the head's centre would be without tilt, and its lean in degrees."""

    @property
    def ground(self) -> float:
        """The y of the lowest sole."""
        return max(leg[2][1] for leg in self.legs) + FOOT


def figure(person: Person, shot: Shot, head: Head) -> Figure:
    """Place the joints of a person in a shot."""
    woman = person.gender == "woman"
    top, shoulder, hip = head.chin + 0.13, 0.56 if woman else 0.66, 0.47 if woman else 0.44
    rng = np.random.default_rng(shot.pose_seed)
    held = (0 if shot.side > 0 else 1) if shot.held is not None and shot.pose in FREE_HANDED else None
    arms = [_arm(rng, shot, side, shoulder, top, index == held) for index, side in enumerate((-1.0, 1.0))]
    legs, toes = _legs(rng, shot, 0.25 if woman else 0.24, top + 1.3)
    lean = shot.tilt * _LEANS[shot.framing]
    if shot.pose == "kicking":
        lean -= shot.side * 5.0
    elif shot.pose == "walking":
        lean += shot.side * 3.0
    neck = _turned((0.0, _NECK), shot.tilt)
    back = _turned((0.0, _NECK), lean)
    place = (shot.x + shot.head_height * (neck[0] - back[0]), shot.y + shot.head_height * (neck[1] - back[1]), lean)
    return Figure(
        (arms[0], arms[1]), legs, toes, top, shoulder, hip, held, (shot.x, shot.y, shot.tilt), place,
    )  # fmt: skip


def keypoints(person: Person, shot: Shot) -> npt.NDArray[np.float32]:
    """Give the 17 keypoints of COCO.

    Order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; of each pair first the subject's left,
    which is on the picture's right.

    Returns:
        Shape ``(17, 3)``: x and y in units of the picture's short side, then 1.0 inside the square picture, else 0.0.
    """
    head = measure(person, shot.turn)
    body = figure(person, shot, head)
    face = [(head.shift * 1.45, EYE_Y + 0.165 * person.nose_length)]
    face += [head.eye(person, side) for side in (1.0, -1.0)]
    face += [
        (side * head.half * (0.99 - 0.09 * max(0.0, head.turn * side)) - head.shift * 0.4, 0.075)
        for side in (1.0, -1.0)
    ]
    limbs = [limb[joint] for pair in (body.arms, body.legs) for joint in range(3) for limb in reversed(pair)]
    points = [_placed(point, body.head_at, shot.head_height) for point in face]
    points += [_placed(point, body.body_at, shot.head_height) for point in limbs]
    return np.asarray([(x, y, float(0.0 <= x < 1.0 and 0.0 <= y < 1.0)) for x, y in points], np.float32)


def ahead(start: Point, length: float, angle: float, side: float = 1.0) -> Point:
    """The end of a bone at ``angle`` degrees from straight down towards ``side``."""
    turn = math.radians(angle)
    return start[0] + side * length * math.sin(turn), start[1] + length * math.cos(turn)


def _turned(point: Point, degrees: float) -> Point:
    """Turn a point clockwise around the origin, y down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return point[0] * cos - point[1] * sin, point[0] * sin + point[1] * cos


def _placed(point: Point, at: tuple[float, float, float], scale: float) -> Point:
    x, y = _turned(point, at[2])
    return at[0] + scale * x, at[1] + scale * y


def _reach(start: Point, goal: Point, upper: float, lower: float, side: float) -> tuple[Point, Point]:
    """Elbow and wrist of an arm that reaches for the goal, the elbow bent towards ``side``."""
    dx, dy = goal[0] - start[0], goal[1] - start[1]
    apart = math.hypot(dx, dy)
    if apart > 0.98 * (upper + lower):
        shrink = 0.98 * (upper + lower) / apart
        dx, dy, apart = dx * shrink, dy * shrink, apart * shrink
    along = (apart**2 + upper**2 - lower**2) / (2 * apart)
    out = math.sqrt(max(upper**2 - along**2, 0.0))
    normal = (dy / apart, -dx / apart) if dy * side > 0 else (-dy / apart, dx / apart)
    elbow = (start[0] + dx * along / apart + normal[0] * out, start[1] + dy * along / apart + normal[1] * out)
    return elbow, (start[0] + dx, start[1] + dy)


def _arm(
    rng: np.random.Generator, shot: Shot, side: float, shoulder: float, top: float, holds: bool
) -> tuple[Point, Point, Point]:
    """Shoulder, elbow and wrist of the arm on a side of the picture."""
    start = (side * shoulder, top + 0.23)
    wobble, sway = (float(value) for value in rng.uniform(-1, 1, 2))
    acting = side == shot.side
    if shot.pose == "hands on hips":
        goal = (side * (0.43 + 0.02 * wobble), top + 1.0 + 0.05 * sway)
        return (start, *_reach(start, goal, UPPER_ARM, FOREARM, side))
    if shot.pose == "sitting" and acting:
        goal = (side * (0.56 + 0.04 * wobble), top + 1.18)
        return (start, *_reach(start, goal, UPPER_ARM, FOREARM, side))
    if holds:
        first, second = _holding(shot.held, wobble, sway)
    elif shot.pose == "arms raised":
        start = (side * shoulder * 0.97, top + 0.17)
        first, second = 140 + 14 * wobble, 166 + 10 * sway
    elif shot.pose == "waving" and acting:
        start = (side * shoulder * 0.97, top + 0.2)
        first, second = 112 + 12 * wobble, 172 + 14 * sway
    elif shot.pose == "kicking":
        first, second = (58 + 10 * wobble, 72 + 12 * sway) if not acting else (38 + 8 * wobble, 62 + 12 * sway)
    elif shot.pose == "walking":
        first, second = (32 + 6 * wobble, 82 + 14 * sway) if acting else (40 + 7 * wobble, 22 + 10 * sway)
    elif shot.pose == "sitting":
        first, second = 17 + 4 * wobble, 4 + 5 * sway
    else:
        first, second = 11 + 4 * wobble, 5 + 6 * sway
    elbow = ahead(start, UPPER_ARM, first, side)
    return start, elbow, ahead(elbow, FOREARM, second, side)


def _holding(thing: str | None, wobble: float, sway: float) -> tuple[float, float]:
    """The angles of an arm that shows a thing beside the body."""
    if thing == "balloon":
        return 26 + 5 * wobble, 96 + 8 * sway
    if thing == "umbrella":
        return 22 + 4 * wobble, 146 + 5 * sway
    return 20 + 5 * wobble, 122 + 9 * sway


def _legs(
    rng: np.random.Generator, shot: Shot, hip: float, level: float
) -> tuple[tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]], tuple[float, float]]:
    """Both legs and where their feet point."""
    wobble, sway = (float(value) for value in rng.uniform(-1, 1, 2))
    s = shot.side
    if shot.pose == "kicking":
        kick = _leg((s * hip, level), 62 + 9 * wobble, 68 + 9 * sway, s)
        stand = _leg((-s * hip, level), 4.0, 0.0, s)
        return ((stand, kick) if s > 0 else (kick, stand)), (s, s)
    if shot.pose == "walking":
        front = _leg((-s * 0.11, level), 30 + 4 * wobble, 15 + 4 * sway, s)
        behind = _leg((s * 0.11, level), -22 - 4 * wobble, -46 - 6 * sway, s)
        return ((front, behind) if s > 0 else (behind, front)), (s, s)
    if shot.pose == "sitting":
        far = _leg((s * 0.16, level), 90.0, 6 + 5 * wobble, s)
        near = _leg((-s * 0.16, level), 74.0, -6 + 5 * sway, s)
        return ((near, far) if s > 0 else (far, near)), (s, s)
    spread = 4 + 3 * wobble
    left, right = (_leg((side * hip, level), spread, spread * 0.6, side) for side in (-1.0, 1.0))
    return (left, right), (-0.35, 0.35)


def _leg(start: Point, first: float, second: float, side: float) -> tuple[Point, Point, Point]:
    knee = ahead(start, THIGH, first, side)
    return start, knee, ahead(knee, SHANK, second, side)
