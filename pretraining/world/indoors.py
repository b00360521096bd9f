"""Scenes between walls. Every function draws one scene over [-0.4, 1.4] in both directions."""

import numpy as np

from pretraining.world.palette import WHITE, Rgb, darker, jitter, lighter, mix
from pretraining.world.pen import Pen, box, outline, oval

LOW, HIGH = -0.4, 1.4
"""How far a scene reaches beyond the unit square."""


def _pick(rng: np.random.Generator, colours: tuple[Rgb, ...], spread: float = 8.0) -> Rgb:
    return jitter(rng, colours[rng.integers(len(colours))], spread)


def _window(pen: Pen, rng: np.random.Generator, left: float, top: float, wide: float, tall: float) -> None:
    """A window of two panes with hills outside."""
    sky = _pick(rng, ((150, 208, 244), (190, 216, 236), (250, 206, 160)))
    pen.rect(left - 0.025, top - 0.025, left + wide + 0.025, top + tall + 0.025, WHITE, 0.008)
    pane = box(left, top, left + wide, top + tall)
    pen.fade(pane, (0.0, top), (0.0, top + tall), sky, lighter(sky, 0.5))
    with pen.inside(pane):
        pen.fill(oval(left + wide * 0.25, top + tall * 1.1, wide * 0.55, tall * 0.42), jitter(rng, (128, 178, 124)))
        pen.fill(oval(left + wide * 0.9, top + tall * 1.15, wide * 0.5, tall * 0.4), jitter(rng, (96, 156, 112)))
    pen.rect(left + wide / 2 - 0.011, top, left + wide / 2 + 0.011, top + tall, WHITE)
    pen.rect(left - 0.05, top + tall + 0.015, left + wide + 0.05, top + tall + 0.045, (228, 222, 214))


def _plant(pen: Pen, x: float, ground: float, size: float, pot: Rgb, leaf: Rgb) -> None:
    for dx, dy in ((-0.55, -0.9), (0.55, -0.9), (-0.28, -1.3), (0.28, -1.3), (0.0, -1.5)):
        pen.fill(outline((x, ground - 0.4 * size),
                         (x + (dx - 0.25) * size, ground + (dy + 0.35) * size, x + dx * size, ground + dy * size),
                         (x + (dx + 0.3) * size, ground + (dy + 0.45) * size, x, ground - 0.4 * size)),
                         leaf)  # fmt: skip
    pen.polygon(
        [
            (x - 0.36 * size, ground - 0.5 * size),
            (x + 0.36 * size, ground - 0.5 * size),
            (x + 0.26 * size, ground),
            (x - 0.26 * size, ground),
        ],
        pot,
    )


def _picture(pen: Pen, rng: np.random.Generator, left: float, top: float, wide: float, tall: float) -> None:
    """A framed picture of a hill under the sun."""
    pen.rect(left, top, left + wide, top + tall, _pick(rng, ((92, 66, 50), (240, 236, 228), (52, 54, 62))), 0.006)
    inner = box(left + 0.022, top + 0.022, left + wide - 0.022, top + tall - 0.022)
    pen.fill(inner, _pick(rng, ((244, 224, 190), (196, 222, 230), (240, 200, 186))))
    with pen.inside(inner):
        pen.disc(left + wide * 0.68, top + tall * 0.38, wide * 0.13, (242, 166, 84))
        pen.fill(
            oval(left + wide * 0.35, top + tall * 1.05, wide * 0.55, tall * 0.45),
            _pick(rng, ((104, 152, 130), (92, 120, 166), (186, 110, 90))),
        )


def kitchen(pen: Pen, rng: np.random.Generator) -> None:
    """Cupboards above, tiles, a hob with a pot, a fridge at the side."""
    wall, unit = (
        _pick(rng, ((246, 236, 216), (226, 238, 232), (244, 226, 210))),
        _pick(rng, ((112, 158, 150), (214, 150, 92), (236, 232, 224), (120, 140, 172), (206, 120, 100))),
    )
    pen.rect(LOW, LOW, HIGH, HIGH, wall)
    _tiles(pen, darker(wall, 0.1))
    for index in range(7):
        left = LOW + 0.26 * index + 0.02
        pen.rect(left, LOW, left + 0.245, 0.20, unit)
        pen.rect(left + 0.03, -0.1, left + 0.215, 0.165, lighter(unit, 0.16), 0.01)
        pen.rect(left + 0.105, 0.125, left + 0.14, 0.145, darker(unit, 0.5), 0.006)
    pen.rect(LOW, 0.20, HIGH, 0.222, darker(unit, 0.3))
    pen.rect(LOW, 0.70, HIGH, 0.745, _pick(rng, ((92, 90, 96), (196, 160, 118), (226, 224, 220))))
    pen.rect(LOW, 0.745, HIGH, HIGH, unit)
    for index in range(6):
        left = LOW + 0.34 * index
        pen.rect(left + 0.02, 0.785, left + 0.32, 1.3, lighter(unit, 0.12), 0.012)
        pen.rect(left + 0.12, 0.81, left + 0.22, 0.83, darker(unit, 0.5), 0.01)
    _pot(pen, rng.uniform(0.05, 0.14), 0.70, _pick(rng, ((204, 62, 54), (52, 92, 150), (70, 74, 84), (226, 170, 60))))
    if rng.random() < 0.6:
        _fridge(
            pen,
            rng.uniform(0.80, 0.92),
            _pick(rng, ((238, 240, 242), (196, 206, 214), (226, 120, 108), (150, 206, 206))),
        )
    else:
        _hanging_pans(pen, rng, rng.uniform(0.74, 0.82))
        _plant(pen, rng.uniform(0.86, 0.96), 0.70, 0.11, (208, 112, 78), (96, 160, 90))


def _tiles(pen: Pen, grout: Rgb) -> None:
    for y in (0.32, 0.445, 0.57):
        pen.line([(LOW, y), (HIGH, y)], grout, 0.012)
    for index in range(14):
        x = LOW + 0.13 * index
        pen.line([(x, 0.2), (x, 0.70)], grout, 0.012)


def _pot(pen: Pen, x: float, base: float, colour: Rgb) -> None:
    """A steaming pot on a hob."""
    for dx in (-0.035, 0.045):
        steam = outline(
            (x + dx, base - 0.22),
            (x + dx + 0.04, base - 0.26, x + dx, base - 0.30),
            (x + dx - 0.04, base - 0.34, x + dx, base - 0.38),
            closed=False,
        )
        pen.stroke(steam, WHITE, 0.02, 0.8)
    pen.rect(x - 0.15, base - 0.018, x + 0.15, base, (52, 52, 58))
    pen.rect(x - 0.135, base - 0.125, x + 0.135, base - 0.098, darker(colour, 0.4), 0.01)
    pen.rect(x - 0.10, base - 0.15, x + 0.10, base - 0.018, colour, 0.018)
    pen.rect(x - 0.11, base - 0.165, x + 0.11, base - 0.14, lighter(colour, 0.25), 0.01)
    pen.disc(x, base - 0.175, 0.018, (52, 52, 58))


def _fridge(pen: Pen, left: float, colour: Rgb) -> None:
    pen.rect(left, 0.10, left + 0.42, HIGH, colour, 0.025)
    pen.rect(left, 0.40, left + 0.42, 0.415, darker(colour, 0.35))
    for top, foot in ((0.26, 0.37), (0.45, 0.62)):
        pen.rect(left + 0.035, top, left + 0.06, foot, darker(colour, 0.5), 0.01)


def _hanging_pans(pen: Pen, rng: np.random.Generator, left: float) -> None:
    pen.line([(left - 0.06, 0.26), (left + 0.30, 0.26)], (96, 92, 96), 0.018)
    for index in range(2):
        x, metal = left + 0.02 + 0.17 * index, _pick(rng, ((72, 74, 82), (190, 110, 66)))
        pen.line([(x, 0.26), (x, 0.36)], darker(metal, 0.3), 0.02)
        pen.disc(x, 0.42, 0.07, metal)
        pen.disc(x, 0.42, 0.047, lighter(metal, 0.2))


def office(pen: Pen, rng: np.random.Generator) -> None:
    """A desk with a monitor, a window, shelves of binders, a plant."""
    wall = _pick(rng, ((214, 220, 226), (226, 220, 208), (200, 214, 214), (206, 206, 224)))
    pen.rect(LOW, LOW, HIGH, HIGH, wall)
    _window(
        pen, rng, rng.uniform(0.04, 0.12), rng.uniform(0.07, 0.12), rng.uniform(0.28, 0.36), rng.uniform(0.30, 0.36)
    )
    if rng.random() < 0.6:
        _binders(pen, rng, rng.uniform(0.66, 0.72), rng.uniform(0.24, 0.32))
    else:
        _clock(pen, rng.uniform(0.74, 0.88), rng.uniform(0.14, 0.22))
    desk = _pick(rng, ((186, 134, 88), (148, 102, 70), (226, 216, 200)))
    _monitor(pen, rng, rng.uniform(0.74, 0.84), 0.735)
    _plant(
        pen,
        rng.uniform(0.06, 0.14),
        0.74,
        rng.uniform(0.10, 0.13),
        _pick(rng, ((236, 232, 226), (206, 106, 76))),
        jitter(rng, (82, 150, 96)),
    )
    pen.rect(LOW, 0.735, HIGH, 0.79, desk)
    pen.rect(LOW, 0.79, HIGH, HIGH, darker(desk, 0.34))
    for left in (-0.3, 0.0, 0.72, 1.05):
        pen.rect(left, 0.82, left + 0.28, 1.02, darker(desk, 0.22), 0.01)
        pen.rect(left + 0.10, 0.87, left + 0.18, 0.892, lighter(desk, 0.5), 0.008)
    pen.rect(0.22, 0.69, 0.27, 0.735, _pick(rng, ((206, 72, 66), (64, 110, 170), (240, 240, 236))), 0.008)


def _monitor(pen: Pen, rng: np.random.Generator, left: float, base: float) -> None:
    screen = _pick(rng, ((92, 156, 214), (72, 108, 160), (120, 190, 180)))
    pen.rect(left + 0.13, base - 0.10, left + 0.19, base, (72, 74, 82))
    pen.rect(left + 0.06, base - 0.022, left + 0.26, base, (72, 74, 82), 0.008)
    pen.rect(left - 0.02, base - 0.34, left + 0.34, base - 0.075, (44, 46, 54), 0.016)
    pen.rect(left + 0.005, base - 0.315, left + 0.315, base - 0.10, screen)
    for index in range(3):
        pen.rect(
            left + 0.03,
            base - 0.285 + 0.055 * index,
            left + 0.12 + 0.04 * index,
            base - 0.26 + 0.055 * index,
            WHITE,
            0.006,
            0.85,
        )


def _binders(pen: Pen, rng: np.random.Generator, left: float, base: float) -> None:
    x = left
    for _ in range(8):
        wide = rng.uniform(0.05, 0.065)
        colour = _pick(rng, ((206, 84, 74), (70, 116, 176), (232, 178, 78), (96, 154, 122), (84, 84, 96)))
        pen.rect(x, base - 0.16, x + wide - 0.006, base, colour)
        pen.rect(x + 0.013, base - 0.12, x + wide - 0.019, base - 0.075, WHITE)
        x += wide
    pen.rect(left - 0.04, base, x + 0.03, base + 0.028, (150, 108, 76))


def _clock(pen: Pen, x: float, y: float) -> None:
    pen.disc(x, y, 0.085, (58, 60, 68))
    pen.disc(x, y, 0.066, WHITE)
    pen.line([(x, y - 0.045), (x, y), (x + 0.035, y + 0.012)], (58, 60, 68), 0.016)


def library(pen: Pen, rng: np.random.Generator) -> None:
    """Shelves of coloured books from wall to wall, and a reading lamp."""
    wood = _pick(rng, ((124, 84, 58), (96, 66, 52), (164, 116, 76)))
    pen.rect(LOW, LOW, HIGH, HIGH, darker(wood, 0.45))
    step, start = rng.uniform(0.25, 0.29), LOW - rng.uniform(0.0, 0.12)
    covers = [
        _pick(
            rng,
            (
                (176, 70, 60),
                (64, 98, 136),
                (220, 176, 104),
                (84, 128, 100),
                (232, 218, 190),
                (120, 80, 110),
                (206, 122, 70),
            ),
            10,
        )
        for _ in range(7)
    ]
    for row in range(8):
        _books(pen, rng, start + step * row, step, covers)
        pen.rect(LOW, start + step * (row + 1) - 0.035, HIGH, start + step * (row + 1), wood)
    post = rng.uniform(0.0, 0.3)
    for index in range(4):
        pen.rect(LOW + post + 0.56 * index, LOW, LOW + post + 0.56 * index + 0.045, HIGH, lighter(wood, 0.08))
    pen.rect(LOW, 0.86, HIGH, 0.91, lighter(wood, 0.22))
    pen.rect(LOW, 0.91, HIGH, HIGH, darker(wood, 0.2))
    _reading_lamp(pen, rng.uniform(0.07, 0.15), 0.86, _pick(rng, ((40, 132, 92), (44, 92, 150), (200, 70, 60))))


def _books(pen: Pen, rng: np.random.Generator, top: float, step: float, covers: list[Rgb]) -> None:
    """One row of books; widths are 5 to 9 pixels at 128."""
    x = LOW
    while x < HIGH:
        wide, gap = rng.uniform(0.042, 0.07), rng.uniform(0.02, 0.085)
        colour = covers[rng.integers(len(covers))]
        pen.rect(x, top + gap, x + wide - 0.004, top + step, colour)
        pen.rect(x, top + gap + 0.035, x + wide - 0.004, top + gap + 0.06, lighter(colour, 0.4))
        x += wide


def _reading_lamp(pen: Pen, x: float, base: float, shade: Rgb) -> None:
    pen.glow(x, base - 0.17, 0.26, (255, 224, 140), 0.55)
    pen.rect(x - 0.013, base - 0.2, x + 0.013, base, (206, 164, 84))
    pen.rect(x - 0.07, base - 0.022, x + 0.07, base, (206, 164, 84), 0.01)
    pen.fill(
        outline(
            (x - 0.12, base - 0.17),
            (x - 0.11, base - 0.27, x, base - 0.27),
            (x + 0.11, base - 0.27, x + 0.12, base - 0.17),
        ),
        shade,
    )


def bedroom(pen: Pen, rng: np.random.Generator) -> None:
    """A bed with pillows, a lamp on a nightstand, a picture or a window."""
    wall = _pick(rng, ((206, 196, 222), (238, 212, 206), (196, 214, 224), (226, 224, 200)))
    pen.rect(LOW, LOW, HIGH, HIGH, wall)
    pen.rect(LOW, 0.80, HIGH, HIGH, jitter(rng, (190, 150, 116), 8))
    if rng.random() < 0.5:
        _window(pen, rng, rng.uniform(0.72, 0.78), 0.08, 0.34, 0.34)
        curtain = _pick(rng, ((222, 120, 116), (108, 140, 186), (240, 232, 216)))
        pen.fill(outline((0.60, 0.02), (0.74, 0.02), (0.73, 0.3, 0.66, 0.56), (0.58, 0.56)), curtain)
    else:
        _picture(pen, rng, rng.uniform(0.72, 0.80), rng.uniform(0.08, 0.14), 0.26, rng.uniform(0.2, 0.28))
    _picture(pen, rng, rng.uniform(0.03, 0.10), rng.uniform(0.05, 0.10), 0.2, 0.2)
    _bed(pen, rng)
    _night_lamp(pen, rng, rng.uniform(0.88, 0.97))


def _bed(pen: Pen, rng: np.random.Generator) -> None:
    frame = _pick(rng, ((150, 104, 74), (92, 98, 130), (226, 218, 206), (176, 120, 120)))
    blanket = _pick(rng, ((84, 120, 178), (206, 100, 96), (236, 186, 90), (104, 160, 140), (150, 110, 176)))
    pen.rect(-0.36, 0.42, 0.80, 0.9, frame, 0.06)
    pen.rect(-0.31, 0.47, 0.75, 0.9, lighter(frame, 0.18), 0.04)
    pen.rect(-0.36, 0.68, 0.80, HIGH, (246, 242, 236), 0.04)
    for left in (-0.26, 0.02, 0.42):
        pen.rect(left, 0.575, left + 0.27, 0.735, (250, 248, 244), 0.06)
        pen.rect(left + 0.02, 0.69, left + 0.25, 0.735, mix(WHITE, blanket, 0.22), 0.03)
    pen.rect(-0.40, 0.77, 0.83, HIGH, blanket, 0.03)
    pen.rect(-0.40, 0.77, 0.83, 0.835, lighter(blanket, 0.35), 0.03)


def _night_lamp(pen: Pen, rng: np.random.Generator, x: float) -> None:
    pen.rect(x - 0.12, 0.72, x + 0.20, 1.02, _pick(rng, ((136, 94, 68), (236, 230, 220))), 0.012)
    pen.disc(x + 0.02, 0.83, 0.02, (210, 170, 90))
    pen.glow(x, 0.52, 0.30, (255, 230, 160), 0.75)
    pen.fill(oval(x, 0.675, 0.055, 0.05), _pick(rng, ((84, 140, 150), (206, 110, 90), (230, 226, 220))))
    pen.polygon([(x - 0.06, 0.46), (x + 0.06, 0.46), (x + 0.105, 0.635), (x - 0.105, 0.635)], (255, 222, 150))
