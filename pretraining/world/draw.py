"""Draw a person in a shot, at any resolution."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pretraining.world.body import SIDES, draw_ball, draw_hand, draw_seat
from pretraining.world.clothes import draw_arm, draw_body, in_front
from pretraining.world.face import draw_earrings, draw_ears, draw_face, measure
from pretraining.world.hair import draw_hair_behind, draw_hair_front, draw_hair_over_clothes
from pretraining.world.hats import draw_hat
from pretraining.world.pen import Pen, oval
from pretraining.world.people import Person
from pretraining.world.pose import Figure, figure
from pretraining.world.scenes import draw_scene
from pretraining.world.shots import Shot
from pretraining.world.things import draw_canopy, draw_held


def draw(person: Person, shot: Shot, size: int) -> npt.NDArray[np.uint8]:
    """Draw a square picture; the same arguments give the same pixels.

    Args:
        person: Who.
        shot: Where and how.
        size: Side in pixels.

    Returns:
        RGB, shape ``(size, size, 3)``.
    """
    return draw_canvas(person, shot, size, size)


def draw_canvas(person: Person, shot: Shot, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Draw a picture of any shape, whose central square is what :func:`draw` gives.

    The scene goes on beyond that square by up to 0.4 of its side in each direction.

    Returns:
        RGB, shape ``(height, width, 3)``.
    """
    side = min(width, height)
    pen = Pen(width, height)
    with pen.at((width - side) / 2, (height - side) / 2, side):
        draw_scene(pen, shot.scene, shot.scene_seed)
        _draw_person(pen, person, shot)
    return _lit(pen.pixels(), shot.gain)


def draw_group(members: Sequence[tuple[Person, Shot]], place: Shot, size: int) -> npt.NDArray[np.uint8]:
    """Draw several people, or none, in the scene and light of one shot; later ones stand before earlier ones.

    Returns:
        RGB, shape ``(size, size, 3)``.
    """
    pen = Pen(size, size)
    with pen.at(0, 0, size):
        draw_scene(pen, place.scene, place.scene_seed)
        for person, shot in members:
            _draw_person(pen, person, shot)
    return _lit(pen.pixels(), place.gain)


def _draw_person(pen: Pen, person: Person, shot: Shot) -> None:
    head = measure(person, shot.turn)
    body = figure(person, shot, head)
    (hx, hy, tilt), (bx, by, lean), scale = body.head_at, body.body_at, shot.head_height
    held = shot.held if body.held is not None else None
    with pen.at(bx, by, scale, lean):
        _draw_below(pen, shot, body)
        if held == "umbrella" and body.held is not None:
            draw_canopy(pen, shot, body.arms[body.held][2], SIDES[body.held])
    with pen.at(hx, hy, scale, tilt):
        draw_hair_behind(pen, person, head, covered=shot.hat is not None)
    with pen.at(bx, by, scale, lean):
        draw_body(pen, person, head, shot, body)
    with pen.at(hx, hy, scale, tilt):
        draw_hair_over_clothes(pen, person, head)
        draw_ears(pen, person, head)
        draw_face(pen, person, head, shot.expression, shot.light_side)
        draw_hair_front(pen, person, head, covered=shot.hat is not None)
        draw_earrings(pen, person, head)
        if shot.hat is not None:
            draw_hat(pen, person, head, shot.hat, shot.hat_colour)
    with pen.at(bx, by, scale, lean):
        for index in (0, 1):
            if in_front(shot, body, index):
                draw_arm(pen, person, shot, body, index)
        if held is not None and body.held is not None:
            arm, side = body.arms[body.held], SIDES[body.held]
            draw_held(pen, shot, held, arm[2], side)
            draw_hand(pen, person, arm, side, "fist")


def _draw_below(pen: Pen, shot: Shot, body: Figure) -> None:
    """Shadow on the ground, bench and ball, in the whole framing."""
    if shot.framing != "whole":
        return
    ground = body.ground - 0.03
    feet = [leg[2][0] for leg in body.legs if leg[2][1] > body.ground - 0.7]
    if shot.pose == "sitting":
        feet.append(-shot.side * 0.8)
    middle, half = (min(feet) + max(feet)) / 2, (max(feet) - min(feet)) / 2
    pen.fill(oval(middle, ground, half + 0.55, 0.13), (24, 22, 34), 0.16)
    pen.fill(oval(middle, ground, half + 0.38, 0.085), (24, 22, 34), 0.2)
    if shot.pose == "sitting":
        draw_seat(pen, shot, body)
    elif shot.pose == "kicking":
        draw_ball(pen, shot, body)


def _lit(pixels: npt.NDArray[np.uint8], gain: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    """Multiply each channel by its gain."""
    scaled = pixels * np.asarray(gain, np.float32)
    return (np.minimum(scaled, 255) + 0.5).astype(np.uint8)
