"""Hats, in head heights, drawn over the front hair."""

from collections.abc import Callable

from pretraining.world.face import Head
from pretraining.world.palette import Rgb, darker, lighter, mix
from pretraining.world.pen import Path, Pen, outline
from pretraining.world.people import Person
from pretraining.world.shots import Hat

_STRAW: Rgb = (232, 198, 128)


def draw_hat(pen: Pen, person: Person, head: Head, hat: Hat, colour: Rgb) -> None:
    """Draw a hat that covers the skull down to the forehead; straw is dyed, its ribbon and weave are not.

    The hair must have been drawn with ``covered=True``, or it shows above the hat.
    """
    half = head.half * 1.1 + 0.02 * person.hair_volume
    with pen.at(-head.shift * 0.3, 0.0):
        _DRAWN[hat](pen, half, head.turn, colour)


def _dome(half: float, foot: float, top: float) -> Path:
    """A crown between both temples at the y ``foot`` and the y ``top``."""
    return outline((-half, foot), (-half * 1.04, foot - 0.30, -half * 0.66, top, 0.0, top),
                   (half * 0.66, top, half * 1.04, foot - 0.30, half, foot),
                   (half * 0.5, foot - 0.045, 0.0, foot - 0.045), (-half * 0.5, foot - 0.045, -half, foot))  # fmt: skip


def _draw_cap(pen: Pen, half: float, turn: float, colour: Rgb) -> None:
    crown, foot = _dome(half, -0.20, -0.70), -0.21
    pen.fade(crown, (0.0, -0.7), (0.0, foot), lighter(colour, 0.08), darker(colour, 0.16))
    with pen.inside(crown):
        for side in (-1.0, 1.0):
            seam = outline((0.02 * side, -0.70), (half * 0.52 * side, -0.55, half * 0.48 * side, foot), closed=False)
            pen.stroke(seam, darker(colour, 0.5), 0.02, 0.5)
        pen.stroke(outline((-half * 0.6, -0.42), (-half * 0.5, -0.6, -half * 0.1, -0.63), closed=False),
                   lighter(colour, 0.6), 0.045, 0.4)  # fmt: skip
    pen.disc(0.0, -0.705, 0.045, darker(colour, 0.25))
    reach, lean = half * 0.98, 0.14 * turn
    peak = outline((-reach * 0.94, foot), (-reach * 0.5, -0.335, reach * 0.5, -0.335, reach * 0.94, foot),
                   (reach * 1.12 + lean, -0.10, reach * 0.6 + lean, -0.125, lean, -0.125),
                   (-reach * 0.6 + lean, -0.125, -reach * 1.12 + lean, -0.10, -reach * 0.94, foot))  # fmt: skip
    pen.fill(peak, darker(colour, 0.34))
    rim = outline((-reach * 0.9, foot), (-reach * 0.5, -0.325, reach * 0.5, -0.325, reach * 0.9, foot), closed=False)
    pen.stroke(rim, lighter(colour, 0.25), 0.02, 0.6)


def _draw_beanie(pen: Pen, half: float, turn: float, colour: Rgb) -> None:
    crown, wide = _dome(half, -0.24, -0.76), half * 1.06
    pen.disc(0.03 * turn, -0.80, 0.125, lighter(colour, 0.62))
    pen.disc(0.03 * turn + 0.03, -0.775, 0.085, lighter(colour, 0.4))
    pen.fade(crown, (0.0, -0.76), (0.0, -0.2), lighter(colour, 0.05), darker(colour, 0.18))
    cuff = outline((-wide, -0.34), (0.0, -0.44, wide, -0.34), (wide * 1.05, -0.25, wide, -0.16),
                   (0.0, -0.27, -wide, -0.16), (-wide * 1.05, -0.25, -wide, -0.34))  # fmt: skip
    pen.fill(cuff, mix(lighter(colour, 0.14), darker(colour, 0.1), 0.2))
    pen.stroke(cuff, darker(colour, 0.4), 0.018, 0.7)
    with pen.inside(cuff):
        for index in range(-4, 5):
            x = wide * index / 4.5
            pen.line([(x, -0.46), (x * 1.02, -0.14)], darker(colour, 0.45), 0.022, 0.6)


def _draw_straw(pen: Pen, half: float, turn: float, colour: Rgb) -> None:
    crown, lean, straw = _dome(half * 0.94, -0.26, -0.74), 0.05 * turn, mix(colour, _STRAW, 0.25)
    pen.fade(crown, (0.0, -0.74), (0.0, -0.26), lighter(straw, 0.16), darker(straw, 0.12))
    with pen.inside(crown):
        for x in (-0.6, -0.2, 0.2, 0.6):
            pen.line([(half * x * 0.6, -0.74), (half * x, -0.42)], _STRAW, 0.02, 0.5)
        pen.stroke(outline((-half, -0.52), (0.0, -0.57, half, -0.52), closed=False), _STRAW, 0.02, 0.5)
    wide = half * 2.0
    brim = outline((-wide + lean, -0.20), (-half * 1.1, -0.38, half * 1.1, -0.38, wide + lean, -0.20),
                   (half * 1.2, -0.08, half * 0.7, -0.175, lean, -0.175),
                   (-half * 0.7, -0.175, -half * 1.2, -0.08, -wide + lean, -0.20))  # fmt: skip
    pen.fade(brim, (0.0, -0.34), (0.0, -0.12), lighter(straw, 0.10), darker(straw, 0.22))
    band = outline((-half * 0.93, -0.295), (0.0, -0.375, half * 0.93, -0.295), closed=False)
    pen.stroke(band, _STRAW, 0.085)
    edge = outline((-wide * 0.97 + lean, -0.20), (-half * 1.2, -0.08, -half * 0.7, -0.18, lean, -0.18),
                   (half * 0.7, -0.18, half * 1.2, -0.08, wide * 0.97 + lean, -0.20), closed=False)  # fmt: skip
    pen.stroke(edge, _STRAW, 0.022, 0.8)


_DRAWN: dict[Hat, Callable[[Pen, float, float, Rgb], None]] = {
    "cap": _draw_cap,
    "beanie": _draw_beanie,
    "straw hat": _draw_straw,
}
