"""Draw a person in a shot, at any resolution."""

import numpy as np
import numpy.typing as npt

from pretraining.world.clothes import draw_body
from pretraining.world.face import draw_earrings, draw_ears, draw_face, measure
from pretraining.world.hair import draw_hair_behind, draw_hair_front, draw_hair_over_clothes
from pretraining.world.pen import Pen
from pretraining.world.people import Person
from pretraining.world.scenes import draw_scene
from pretraining.world.shots import Shot


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
        with pen.at(shot.x, shot.y, shot.head_height, shot.tilt):
            _draw_person(pen, person, shot)
    return _lit(pen.pixels(), shot.gain)


def _draw_person(pen: Pen, person: Person, shot: Shot) -> None:
    head = measure(person, shot.turn)
    draw_hair_behind(pen, person, head)
    draw_body(pen, person, head, shot)
    draw_hair_over_clothes(pen, person, head)
    draw_ears(pen, person, head)
    draw_face(pen, person, head, shot.expression, shot.light_side)
    draw_hair_front(pen, person, head)
    draw_earrings(pen, person, head)


def _lit(pixels: npt.NDArray[np.uint8], gain: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    """Multiply each channel by its gain."""
    scaled = pixels * np.asarray(gain, np.float32)
    return (np.minimum(scaled, 255) + 0.5).astype(np.uint8)
