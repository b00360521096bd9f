"""Places to go out to: cafe, gym, classroom, concert, museum, supermarket, desert, harbour."""

import numpy as np

from pretraining.world.openair import HIGH, LOW, clouds, pick, sky
from pretraining.world.palette import WHITE, Rgb, darker, jitter, lighter, mix
from pretraining.world.pen import Pen, box, outline, oval, smooth

_GOODS: tuple[Rgb, ...] = ((214, 66, 60), (244, 190, 60), (70, 150, 92), (66, 112, 196), (236, 132, 60), (150, 90, 170))


def cafe(pen: Pen, rng: np.random.Generator) -> None:
    """Hanging lamps before a brick wall, a menu board, a counter with a coffee machine and cakes."""
    brick = pick(rng, ((168, 92, 70), (140, 82, 66), (186, 120, 92)))
    pen.rect(LOW, LOW, HIGH, HIGH, brick)
    for row in range(16):
        y = LOW + 0.075 * row
        pen.line([(LOW, y), (HIGH, y)], lighter(brick, 0.22), 0.008)
        for column in range(12):
            x = LOW + 0.16 * column + (0.08 if row % 2 else 0.0)
            pen.line([(x, y), (x, y + 0.075)], lighter(brick, 0.22), 0.008)
    board = rng.uniform(0.0, 0.08)
    pen.rect(board - 0.02, 0.13, board + 0.28, 0.46, (92, 62, 44), 0.01)
    pen.rect(board, 0.15, board + 0.26, 0.44, (46, 54, 52))
    for index in range(4):
        y = 0.21 + 0.06 * index
        pen.line([(board + 0.04, y), (board + rng.uniform(0.13, 0.22), y)], (232, 228, 214), 0.016)
    lamp = pick(rng, ((242, 196, 92), (60, 66, 72), (196, 84, 66), (84, 146, 132)))
    for x in (0.18, 0.5, 0.82):
        hang = rng.uniform(0.02, 0.09)
        pen.line([(x, LOW), (x, hang)], (46, 40, 40), 0.01)
        pen.glow(x, hang + 0.06, 0.19, (255, 226, 150), 0.55)
        pen.polygon([(x - 0.03, hang), (x + 0.03, hang), (x + 0.085, hang + 0.075), (x - 0.085, hang + 0.075)], lamp)
        pen.fill(oval(x, hang + 0.078, 0.07, 0.018), (255, 240, 190))
    pen.rect(LOW, 0.78, HIGH, HIGH, pick(rng, ((116, 80, 58), (150, 108, 76), (92, 72, 66))))
    _coffee_machine(pen, rng, rng.uniform(0.78, 0.86))
    counter = pick(rng, ((86, 60, 46), (62, 92, 88), (226, 206, 178)))
    pen.rect(0.62, 0.60, HIGH, 0.645, lighter(counter, 0.3))
    pen.rect(0.64, 0.645, HIGH, 0.88, counter)
    for index in range(5):
        pen.line([(0.70 + 0.14 * index, 0.66), (0.70 + 0.14 * index, 0.87)], darker(counter, 0.3), 0.01)
    _round_table(pen, rng, rng.uniform(0.08, 0.16))


def _coffee_machine(pen: Pen, rng: np.random.Generator, x: float) -> None:
    body = pick(rng, ((196, 200, 206), (196, 66, 60), (64, 70, 80)))
    pen.rect(x - 0.10, 0.42, x + 0.13, 0.60, body, 0.02)
    pen.rect(x - 0.07, 0.48, x + 0.10, 0.60, (44, 42, 46))
    pen.rect(x - 0.12, 0.40, x + 0.15, 0.44, lighter(body, 0.3), 0.01)
    for dx in (-0.03, 0.06):
        pen.rect(x + dx - 0.02, 0.56, x + dx + 0.02, 0.60, WHITE, 0.006)


def _round_table(pen: Pen, rng: np.random.Generator, x: float) -> None:
    pen.line([(x, 0.72), (x, 0.93)], (54, 46, 46), 0.022)
    pen.fill(oval(x, 0.72, 0.17, 0.035), (226, 196, 156))
    pen.rect(x - 0.03, 0.66, x + 0.04, 0.715, WHITE, 0.012)
    pen.fill(oval(x + 0.005, 0.662, 0.034, 0.009), (104, 66, 46))
    pen.disc(x - 0.09, 0.70, 0.03, pick(rng, ((232, 150, 170), (246, 214, 130), (150, 100, 70))))


def gym(pen: Pen, rng: np.random.Generator) -> None:
    """A mirror wall with a bright stripe, a rack of dumbbells, a barbell, a punching bag, rubber floor."""
    wall, accent = (
        pick(rng, ((74, 80, 92), (58, 64, 70), (96, 92, 104))),
        pick(rng, ((246, 206, 60), (236, 92, 60), (92, 206, 130), (80, 190, 226))),
    )
    pen.rect(LOW, LOW, HIGH, HIGH, wall)
    for index in range(3):
        left = -0.32 + 0.6 * index + rng.uniform(-0.04, 0.04)
        pen.fade(box(left, 0.10, left + 0.5, 0.62), (left, 0.1), (left + 0.5, 0.62), (190, 208, 220), (140, 164, 182))
        pen.polygon(
            [(left + 0.1, 0.10), (left + 0.2, 0.10), (left + 0.06, 0.62), (left, 0.62), (left, 0.5)], WHITE, 0.25
        )
    pen.rect(LOW, 0.02, HIGH, 0.07, accent)
    for index in range(4):
        x = -0.2 + 0.45 * index
        pen.rect(x, LOW, x + 0.22, -0.03 + 0.02, (236, 240, 244))
    floor = pick(rng, ((52, 54, 60), (70, 64, 64), (58, 70, 84)))
    pen.rect(LOW, 0.74, HIGH, HIGH, floor)
    pen.rect(LOW, 0.74, HIGH, 0.755, darker(accent, 0.2))
    for index in range(14):
        pen.disc(LOW + 0.13 * index, 0.80 + 0.13 * (index % 3), 0.010, lighter(floor, 0.3))
    _dumbbells(pen, rng, rng.uniform(0.72, 0.80))
    if rng.random() < 0.6:
        x = rng.uniform(0.06, 0.14)
        pen.line([(x, LOW), (x, 0.18)], (34, 34, 38), 0.014)
        pen.rect(x - 0.075, 0.18, x + 0.075, 0.62, pick(rng, ((186, 52, 50), (44, 46, 54), (60, 92, 168))), 0.05)
        pen.rect(x - 0.075, 0.26, x + 0.075, 0.29, WHITE)
    else:
        _barbell(pen, rng, 0.10)


def _dumbbells(pen: Pen, rng: np.random.Generator, left: float) -> None:
    for shelf in (0.44, 0.58, 0.72):
        pen.rect(left, shelf, HIGH, shelf + 0.022, (170, 174, 182))
        for index in range(6):
            x = left + 0.03 + 0.11 * index
            size = rng.uniform(0.032, 0.046)
            pen.line([(x, shelf - size), (x + 0.06, shelf - size)], (200, 204, 210), 0.014)
            for dx in (0.0, 0.06):
                pen.rect(x + dx - 0.014, shelf - 2 * size, x + dx + 0.014, shelf, (34, 34, 40), 0.008)
    pen.line([(left + 0.01, 0.40), (left + 0.01, 0.86)], (120, 124, 132), 0.024)


def _barbell(pen: Pen, rng: np.random.Generator, x: float) -> None:
    pen.line([(x - 0.02, 0.36), (x - 0.02, 0.90)], (44, 44, 50), 0.03)
    pen.line([(LOW, 0.46), (x + 0.13, 0.46)], (206, 210, 216), 0.018)
    plate = pick(rng, ((200, 56, 52), (60, 100, 190), (240, 196, 60)))
    pen.rect(x + 0.05, 0.36, x + 0.085, 0.56, plate, 0.012)
    pen.rect(x + 0.09, 0.39, x + 0.115, 0.53, (40, 40, 46), 0.01)


def classroom(pen: Pen, rng: np.random.Generator) -> None:
    """A green chalkboard with sums, a row of paper flags, a globe, desks."""
    wall = pick(rng, ((246, 232, 196), (222, 236, 220), (236, 222, 232), (216, 228, 242)))
    pen.rect(LOW, LOW, HIGH, HIGH, wall)
    flags = int(rng.integers(len(_GOODS)))
    for index in range(13):
        x = LOW + 0.14 * index
        pen.polygon([(x, -0.02), (x + 0.11, -0.02), (x + 0.055, 0.075)], _GOODS[(index + flags) % len(_GOODS)])
    pen.line([(LOW, -0.02), (HIGH, -0.02)], (110, 90, 80), 0.008)
    board = pick(rng, ((44, 104, 84), (40, 88, 76), (52, 112, 78)), 5)
    pen.rect(-0.12, 0.10, 1.12, 0.56, (176, 122, 72), 0.012)
    pen.rect(-0.09, 0.13, 1.09, 0.53, board)
    _chalk(pen, rng, board)
    pen.rect(-0.12, 0.56, 1.12, 0.585, (146, 98, 58))
    pen.rect(LOW, 0.76, HIGH, HIGH, pick(rng, ((214, 176, 128), (190, 196, 188), (200, 160, 120))))
    desk = pick(rng, ((236, 188, 112), (206, 150, 96), (240, 214, 160)))
    x = rng.uniform(0.80, 0.92)
    pen.rect(x - 0.16, 0.70, HIGH, 0.735, desk)
    pen.rect(x - 0.13, 0.735, x - 0.10, 0.96, (120, 124, 132))
    pen.line([(x, 0.70), (x, 0.66)], (112, 82, 60), 0.02)
    pen.disc(x, 0.58, 0.085, (82, 150, 206))
    pen.fill(smooth([(x - 0.05, 0.55), (x + 0.01, 0.52), (x + 0.04, 0.57), (x, 0.62), (x - 0.04, 0.6)]), (116, 176, 96))
    x = rng.uniform(-0.02, 0.06)
    pen.rect(LOW, 0.74, x + 0.15, 0.775, desk)
    pen.rect(x + 0.09, 0.775, x + 0.12, 0.98, (120, 124, 132))
    for index in range(3):
        y = 0.735 - 0.03 * index
        pen.rect(x - 0.02, y - 0.025, x + 0.12, y + 0.003, _GOODS[(flags + 2 * index) % len(_GOODS)], 0.006)


def _chalk(pen: Pen, rng: np.random.Generator, board: Rgb) -> None:
    """Lines of writing left and right, and a triangle or a circle."""
    white = mix(WHITE, board, 0.15)
    for left in (-0.04, 0.74):
        for index in range(4):
            y = 0.19 + 0.075 * index
            x = left
            while x < left + rng.uniform(0.18, 0.28):
                wide = rng.uniform(0.02, 0.06)
                pen.line([(x, y), (x + wide, y + rng.uniform(-0.012, 0.012))], white, 0.014)
                x += wide + 0.025
    x = rng.uniform(0.35, 0.6)
    if rng.random() < 0.5:
        pen.stroke(outline((x, 0.2), (x + 0.12, 0.42), (x - 0.1, 0.42)), white, 0.012)
    else:
        pen.stroke(oval(x, 0.3, 0.1, 0.1), white, 0.012)


def concert(pen: Pen, rng: np.random.Generator) -> None:
    """A dark stage under coloured beams, loudspeakers at the sides, drums or keys behind."""
    dark = pick(rng, ((34, 22, 54), (20, 26, 56), (48, 18, 44)), 5)
    pen.rect(LOW, LOW, HIGH, HIGH, dark)
    lights = (
        pick(rng, ((236, 70, 170), (80, 160, 255), (255, 176, 60), (120, 240, 160)), 6),
        pick(rng, ((160, 90, 255), (255, 90, 90), (70, 220, 230)), 6),
    )
    for index in range(6):
        x = -0.1 + 0.24 * index
        end = x + rng.uniform(-0.45, 0.45)
        colour = lights[index % 2]
        pen.polygon([(x - 0.012, 0.0), (x + 0.012, 0.0), (end + 0.12, 0.86), (end - 0.12, 0.86)], colour, 0.34)
    pen.rect(LOW, -0.06, HIGH, 0.015, (60, 60, 72))
    for index in range(12):
        x = LOW + 0.15 * index
        pen.line([(x, -0.055), (x + 0.075, 0.01), (x + 0.15, -0.055)], (110, 110, 124), 0.012)
    for index in range(6):
        x = -0.1 + 0.24 * index
        pen.rect(x - 0.035, 0.0, x + 0.035, 0.05, (24, 24, 30), 0.01)
        pen.disc(x, 0.055, 0.026, lighter(lights[index % 2], 0.6))
    pen.rect(LOW, 0.80, HIGH, HIGH, darker(lights[0], 0.72))
    pen.rect(LOW, 0.80, HIGH, 0.825, lights[1])
    for x in (rng.uniform(-0.04, 0.04), rng.uniform(0.80, 0.88)):
        pen.rect(x, 0.38, x + 0.18, 0.84, (22, 22, 28), 0.012)
        for y, radius in ((0.47, 0.045), (0.60, 0.068), (0.75, 0.068)):
            pen.disc(x + 0.09, y, radius, (92, 92, 104))
            pen.disc(x + 0.09, y, radius * 0.62, (40, 40, 48))
    if rng.random() < 0.6:
        pen.disc(0.5, 0.70, 0.13, lighter(lights[0], 0.2))
        pen.disc(0.5, 0.70, 0.105, (236, 232, 226))
        for x in (0.3, 0.7):
            pen.fill(oval(x, 0.55, 0.09, 0.018), (240, 200, 90))
            pen.line([(x, 0.55), (x, 0.82)], (150, 150, 160), 0.012)
    for index in range(9):
        x = LOW + 0.21 * index + rng.uniform(-0.03, 0.03)
        pen.disc(x, 1.03, 0.06, darker(dark, 0.5))


def museum(pen: Pen, rng: np.random.Generator) -> None:
    """A gallery with large framed paintings under spotlights, a column, a vase on a plinth, a rope."""
    wall = pick(rng, ((132, 40, 48), (40, 84, 84), (58, 66, 104), (226, 220, 208)))
    pen.rect(LOW, LOW, HIGH, HIGH, wall)
    pen.rect(LOW, LOW, HIGH, -0.04, lighter(wall, 0.6))
    pen.rect(LOW, -0.04, HIGH, -0.015, (226, 190, 110))
    for left, wide in ((-0.36, 0.28), (0.02, 0.32), (0.62, 0.34), (1.06, 0.26)):
        x, tall = left + rng.uniform(-0.02, 0.02), rng.uniform(0.26, 0.36)
        pen.glow(x + wide / 2, 0.06, 0.28, (255, 240, 200), 0.4)
        _painting(pen, rng, x, 0.08, wide, tall)
    pen.rect(LOW, 0.70, HIGH, 0.76, lighter(wall, 0.35))
    floor = pick(rng, ((190, 142, 92), (214, 206, 196), (150, 104, 70)))
    pen.rect(LOW, 0.76, HIGH, HIGH, floor)
    for index in range(-5, 8):
        pen.line([(0.5 + index * 0.14, 0.76), (0.5 + index * 0.34, HIGH)], darker(floor, 0.18), 0.008)
    x = rng.uniform(0.86, 0.96)
    pen.rect(x - 0.085, 0.62, x + 0.085, 0.90, (240, 236, 228))
    pen.rect(x - 0.10, 0.60, x + 0.10, 0.63, WHITE)
    vase = pick(rng, ((70, 110, 180), (206, 120, 70), (96, 160, 140), (60, 60, 70)))
    pen.fill(smooth([(x - 0.03, 0.40), (x + 0.03, 0.40), (x + 0.03, 0.45), (x + 0.075, 0.52), (x + 0.035, 0.60),
                     (x - 0.035, 0.60), (x - 0.075, 0.52), (x - 0.03, 0.45)]), vase)  # fmt: skip
    pen.rect(x - 0.06, 0.51, x + 0.06, 0.53, lighter(vase, 0.5))
    rope = pick(rng, ((196, 44, 56), (50, 70, 140), (120, 40, 110)))
    for x in (-0.18, 0.1, 0.38):
        pen.stroke(outline((x, 0.70), (x + 0.14, 0.80, x + 0.28, 0.70), closed=False), rope, 0.022)
    for x in (-0.18, 0.1, 0.38, 0.66):
        pen.line([(x, 0.69), (x, 0.88)], (226, 184, 90), 0.02)
        pen.disc(x, 0.685, 0.022, (240, 206, 120))


def _painting(pen: Pen, rng: np.random.Generator, left: float, top: float, wide: float, tall: float) -> None:
    pen.rect(left, top, left + wide, top + tall, pick(rng, ((222, 178, 84), (196, 150, 66), (60, 44, 36)), 6), 0.01)
    inner = box(left + 0.03, top + 0.03, left + wide - 0.03, top + tall - 0.03)
    ground = pick(rng, ((236, 220, 180), (120, 166, 206), (236, 176, 130), (66, 76, 110), (222, 226, 220)))
    pen.fill(inner, ground)
    with pen.inside(inner):
        kind = rng.random()
        if kind < 0.35:  # abstract
            for _ in range(3):
                x, y = left + rng.uniform(0.0, wide), top + rng.uniform(0.0, tall)
                pen.disc(x, y, rng.uniform(0.04, 0.09), _GOODS[rng.integers(len(_GOODS))])
        elif kind < 0.7:  # hills
            colour = pick(rng, ((86, 140, 96), (146, 110, 80), (84, 110, 150)))
            pen.fill(oval(left + wide * 0.25, top + tall, wide * 0.5, tall * 0.45), colour)
            pen.fill(oval(left + wide * 0.85, top + tall * 1.05, wide * 0.5, tall * 0.4), darker(colour, 0.3))
            pen.disc(left + wide * 0.7, top + tall * 0.32, 0.03, (250, 216, 120))
        else:  # stripes
            for index in range(4):
                x = left + wide * (0.1 + 0.23 * index)
                pen.rect(x, top, x + wide * 0.12, top + tall, _GOODS[rng.integers(len(_GOODS))])


def supermarket(pen: Pen, rng: np.random.Generator) -> None:
    """Shelves full of goods left and right, a hanging sign, cold white light, a tiled floor, a trolley."""
    pen.rect(LOW, LOW, HIGH, HIGH, jitter(rng, (236, 240, 242), 4))
    for index in range(3):
        x = -0.05 + 0.42 * index
        pen.polygon([(x, -0.02), (x + 0.22, -0.02), (x + 0.17, 0.02), (x + 0.05, 0.02)], WHITE)
        pen.rect(x, -0.04, x + 0.22, -0.02, (200, 206, 212))
    floor = jitter(rng, (220, 222, 220), 5)
    pen.rect(LOW, 0.82, HIGH, HIGH, floor)
    for index in range(-5, 8):
        pen.line([(0.5 + index * 0.16, 0.82), (0.5 + index * 0.36, HIGH)], darker(floor, 0.14), 0.008)
    pen.line([(LOW, 0.93), (HIGH, 0.93)], darker(floor, 0.14), 0.008)
    frame = pick(rng, ((88, 116, 150), (206, 70, 62), (80, 140, 100), (120, 120, 130)))
    gap = rng.uniform(0.34, 0.42)
    for left, right in ((LOW, gap), (1 - gap + 0.06, HIGH)):
        pen.rect(left, 0.10, right, 0.84, darker(frame, 0.35))
        for shelf in range(4):
            _shelf(pen, rng, left, right, 0.26 + 0.18 * shelf, frame)
    sign = pick(rng, ((214, 60, 56), (60, 140, 80), (60, 100, 180), (240, 180, 50)))
    pen.line([(0.5, LOW), (0.5, 0.06)], (120, 124, 130), 0.01)
    pen.rect(0.34, 0.05, 0.66, 0.16, sign, 0.02)
    pen.line([(0.40, 0.105), (0.60, 0.105)], WHITE, 0.03)
    if rng.random() < 0.6:
        _trolley(pen, 0.12)


def _shelf(pen: Pen, rng: np.random.Generator, left: float, right: float, y: float, frame: Rgb) -> None:
    """One board with boxes, bottles and tins side by side."""
    x = left + 0.01
    while x < right - 0.03:
        wide, tall = rng.uniform(0.035, 0.075), rng.uniform(0.08, 0.135)
        colour = _GOODS[rng.integers(len(_GOODS))]
        pen.rect(x, y - tall, x + wide, y, colour, 0.012 if rng.random() < 0.5 else 0.0)
        pen.rect(x, y - tall * 0.6, x + wide, y - tall * 0.35, lighter(colour, 0.6))
        x += wide + 0.008
    pen.rect(left, y, right, y + 0.025, frame)
    for x in np.arange(left + 0.05, right - 0.04, 0.12):
        pen.rect(float(x), y + 0.003, float(x) + 0.045, y + 0.021, (250, 236, 130))


def _trolley(pen: Pen, x: float) -> None:
    steel = (150, 156, 166)
    pen.polygon([(x - 0.13, 0.62), (x + 0.12, 0.64), (x + 0.09, 0.80), (x - 0.09, 0.80)], (212, 218, 224), 0.85)
    for index in range(5):
        t = index / 4
        pen.line([(x - 0.13 + 0.25 * t, 0.62 + 0.02 * t), (x - 0.09 + 0.18 * t, 0.80)], steel, 0.01)
    pen.line([(x - 0.17, 0.58), (x - 0.13, 0.62), (x - 0.07, 0.90), (x + 0.10, 0.90)], steel, 0.016)
    pen.line([(x - 0.2, 0.58), (x - 0.15, 0.58)], (214, 60, 56), 0.026)
    for dx in (-0.06, 0.09):
        pen.disc(x + dx, 0.92, 0.024, (50, 50, 56))


def desert(pen: Pen, rng: np.random.Generator) -> None:
    """Dunes under a hot sky, mesas, cacti, a skull of a rock, perhaps a pyramid."""
    sky(pen, rng, 0.62, ((250, 178, 96), (126, 190, 230), (246, 140, 110), (120, 90, 160)))
    pen.disc(rng.uniform(0.06, 0.94), rng.uniform(0.08, 0.2), rng.uniform(0.06, 0.09), (255, 240, 190))
    sand = pick(rng, ((236, 186, 112), (226, 158, 96), (240, 206, 150)))
    pen.rect(LOW, 0.61, HIGH, HIGH, sand)
    rock = pick(rng, ((186, 96, 66), (166, 88, 80), (200, 130, 90)))
    if rng.random() < 0.35:
        x = rng.uniform(0.0, 0.25) if rng.random() < 0.5 else rng.uniform(0.75, 1.0)
        pen.polygon([(x, 0.26), (x + 0.3, 0.62), (x - 0.3, 0.62)], mix(sand, rock, 0.3))
        pen.polygon([(x, 0.26), (x + 0.3, 0.62), (x + 0.06, 0.62)], mix(sand, rock, 0.65))
    else:
        for x in (rng.uniform(-0.3, 0.1), rng.uniform(0.7, 1.0)):
            top, wide = rng.uniform(0.32, 0.44), rng.uniform(0.12, 0.2)
            pen.polygon([(x - wide, top), (x + wide, top), (x + wide * 1.35, 0.64), (x - wide * 1.35, 0.64)], rock)
            pen.polygon([(x + wide * 0.4, top), (x + wide, top), (x + wide * 1.35, 0.64), (x + wide * 0.5, 0.64)],
                        darker(rock, 0.25))  # fmt: skip
            pen.rect(x - wide * 1.1, top + 0.07, x + wide * 1.12, top + 0.09, lighter(rock, 0.25))
    for y, shade, phase in ((0.60, 0.0, 0.0), (0.72, 0.14, 1.1), (0.86, 0.05, 2.3)):
        phase += rng.uniform(-0.5, 0.5)
        points = [(LOW + 0.225 * i, y + 0.045 * float(np.sin(1.5 * i + phase))) for i in range(9)]
        pen.fill(smooth([(LOW - 0.2, HIGH + 0.2), *points, (HIGH + 0.2, HIGH + 0.2)]), darker(sand, shade))
    for x in (rng.uniform(0.02, 0.12), rng.uniform(0.86, 0.98)):
        if rng.random() < 0.8:
            _cactus(pen, x, rng.uniform(0.74, 0.88), rng.uniform(0.28, 0.42), jitter(rng, (72, 136, 84)))


def _cactus(pen: Pen, x: float, ground: float, tall: float, colour: Rgb) -> None:
    wide = 0.055
    pen.line([(x, ground), (x, ground - tall)], colour, wide)
    for side, low, high in ((-1, 0.45, 0.75), (1, 0.32, 0.66)):
        pen.line([(x, ground - tall * low), (x + side * 0.075, ground - tall * low),
                  (x + side * 0.075, ground - tall * high)], colour, wide * 0.7)  # fmt: skip
    pen.line([(x - 0.01, ground), (x - 0.01, ground - tall)], lighter(colour, 0.3), 0.01)


def harbour(pen: Pen, rng: np.random.Generator) -> None:
    """Masts and a ship's hull on still water, a lighthouse, a wooden pier, gulls."""
    sky(pen, rng, 0.5, ((150, 190, 214), (236, 186, 150), (110, 150, 196), (190, 170, 200)))
    if rng.random() < 0.5:
        clouds(pen, rng, 0.02, 0.2)
    water = pick(rng, ((66, 112, 140), (50, 96, 120), (86, 130, 150)))
    pen.rect(LOW, 0.50, HIGH, HIGH, water)
    for _ in range(9):
        x, y = rng.uniform(LOW, HIGH), rng.uniform(0.54, 0.74)
        pen.line([(x, y), (x + rng.uniform(0.08, 0.2), y)], lighter(water, 0.35), 0.010)
    x = rng.uniform(0.02, 0.12)
    pen.fill(oval(x, 0.52, 0.2, 0.05), (110, 104, 100))
    red = pick(rng, ((206, 60, 56), (60, 90, 150), (40, 44, 52)))
    for index in range(5):
        y, half = 0.48 - 0.075 * index, 0.062 - 0.006 * index
        pen.polygon([(x - half, y), (x + half, y), (x + half - 0.006, y - 0.075), (x - half + 0.006, y - 0.075)],
                    WHITE if index % 2 else red)  # fmt: skip
    pen.rect(x - 0.03, 0.045, x + 0.03, 0.105, (255, 236, 150))
    pen.polygon([(x - 0.045, 0.05), (x + 0.045, 0.05), (x, 0.0)], darker(red, 0.2))
    hull = pick(rng, ((44, 62, 96), (176, 52, 50), (52, 100, 90), (240, 236, 226)))
    _ship(pen, rng, rng.uniform(0.78, 0.92), hull)
    wood = pick(rng, ((150, 110, 78), (126, 100, 84), (176, 138, 98)))
    pen.rect(LOW, 0.80, HIGH, HIGH, wood)
    for index in range(5):
        pen.line([(LOW, 0.84 + 0.05 * index), (HIGH, 0.84 + 0.05 * index)], darker(wood, 0.32), 0.008)
    for x in (-0.22, 0.05, 0.95, 1.22):
        pen.rect(x - 0.03, 0.68, x + 0.03, 0.86, darker(wood, 0.25), 0.01)
        pen.rect(x - 0.034, 0.73, x + 0.034, 0.75, (226, 216, 196))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.2, 0.8), rng.uniform(0.03, 0.2)
        pen.stroke(
            outline((x - 0.05, y - 0.015), (x - 0.02, y - 0.035, x, y), (x + 0.02, y - 0.035, x + 0.05, y - 0.015),
                    closed=False), WHITE, 0.014)  # fmt: skip


def _ship(pen: Pen, rng: np.random.Generator, x: float, hull: Rgb) -> None:
    for dx, top in ((-0.1, 0.06), (0.06, 0.0), (0.22, 0.1)):
        pen.line([(x + dx, 0.48), (x + dx, top)], (96, 72, 56), 0.016)
        pen.line([(x + dx - 0.07, top + 0.1), (x + dx + 0.07, top + 0.1)], (96, 72, 56), 0.012)
        pen.line([(x + dx, top), (x - 0.26, 0.46)], (70, 60, 56), 0.005)
    pen.rect(x - 0.02, 0.38, x + 0.16, 0.47, WHITE, 0.01)
    for index in range(3):
        pen.disc(x + 0.02 + 0.05 * index, 0.42, 0.014, (70, 110, 150))
    pen.polygon([(x - 0.28, 0.45), (x + 0.5, 0.45), (x + 0.46, 0.60), (x - 0.18, 0.60)], hull)
    pen.polygon([(x - 0.28, 0.45), (x + 0.5, 0.45), (x + 0.49, 0.475), (x - 0.26, 0.475)], lighter(hull, 0.5))
    if rng.random() < 0.6:
        pen.line([(x - 0.15, 0.45), (x + 0.18, 0.2)], (226, 190, 120), 0.008)
