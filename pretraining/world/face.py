"""A face, in head heights: the origin between crown and chin, x right, y down, chin near 0.5."""

from dataclasses import dataclass

from pretraining.world.palette import INK, WHITE, Rgb, darker, lighter, mix
from pretraining.world.pen import Path, Pen, Point, outline, oval, smooth, symmetric
from pretraining.world.people import Person
from pretraining.world.shots import Expression

EYE_Y = 0.04
SIDES = (-1.0, 1.0)
LIP_INK: Rgb = (112, 36, 44)
MOUTH_INK: Rgb = (94, 26, 36)
TONGUE: Rgb = (214, 92, 98)
_OPENINGS: dict[Expression, float] = {"surprised": 1.2, "laughing": 0.82, "sad": 0.85, "angry": 0.78}
"""How wide the eyes open, against calm."""
_LIFTS: dict[Expression, float] = {"surprised": 0.045, "laughing": 0.015, "sad": 0.01, "angry": -0.022}
"""How far the brows rise."""


@dataclass(frozen=True)
class Head:
    """The measures that face, hair and beard share."""

    half: float
    """Half the width of the face at the cheeks."""
    chin: float
    """The chin's y."""
    shift: float
    """How far the features move sideways when the head turns."""
    turn: float
    """-1 left to 1 right."""
    face: Path
    """The outline of the face, ears excluded."""

    def eye(self, person: Person, side: float) -> Point:
        """The centre of the eye on a side: the far one comes nearer to the nose when the head turns."""
        spread = 0.175 * person.eye_distance * (1 - 0.13 * self.turn * side)
        return side * spread + self.shift, EYE_Y

    @property
    def mouth(self) -> Point:
        """The centre of the mouth."""
        return self.shift * 1.1, EYE_Y + (self.chin - EYE_Y) * 0.625


def measure(person: Person, turn: float) -> Head:
    """Work out a head's measures from a person's traits."""
    half, chin = 0.375 * person.face_width, 0.04 + 0.46 * person.face_length
    jaw, tip = half * person.jaw, 0.10 + 0.07 * person.chin
    right = [
        (0.0, -0.5), (half * 0.55, -0.455), (half * 0.93, -0.25), (half * 1.0, 0.0), (half * 0.95, 0.16),
        (half * 0.45 + jaw * 0.5, chin * 0.62), (tip + jaw * 0.32, chin * 0.88), (tip * 0.8, chin * 0.985),
        (0.0, chin),
    ]  # fmt: skip
    return Head(half=half, chin=chin, shift=0.06 * turn, turn=turn, face=smooth(symmetric(right)))


def draw_ears(pen: Pen, person: Person, head: Head) -> None:
    """Ears, half hidden by the face; the one on the far side recedes."""
    shade = darker(person.skin, 0.16)
    for side in SIDES:
        x = side * head.half * (0.99 - 0.09 * max(0.0, head.turn * side)) - head.shift * 0.4
        pen.fill(oval(x, 0.075, 0.065 * person.ears, 0.10 * person.ears), person.skin)
        pen.fill(oval(x + side * 0.012, 0.075, 0.036 * person.ears, 0.06 * person.ears), shade)


def draw_earrings(pen: Pen, person: Person, head: Head) -> None:
    """Round studs below the ears."""
    if person.earrings is None:
        return
    for side in SIDES:
        x = side * head.half * 1.03 - head.shift * 0.4
        pen.disc(x, 0.075 + 0.135 * person.ears, 0.044, person.earrings)
        pen.disc(x - 0.012, 0.06 + 0.135 * person.ears, 0.016, WHITE, 0.7)


def draw_face(pen: Pen, person: Person, head: Head, expression: Expression, light_side: float) -> None:
    """Skin, then features from the cheeks to the glasses."""
    pen.fill(head.face, person.skin)
    with pen.inside(head.face):
        _shade(pen, person, head, light_side)
    _draw_nose(pen, person, head, light_side)
    _draw_marks(pen, person, head)
    if person.beard is not None:
        _draw_beard(pen, person, head)
    _draw_mouth(pen, person, head, expression)
    if person.age != "young":
        _draw_lines(pen, person, head)
    for side in SIDES:
        _draw_eye(pen, person, head, side, expression)
        _draw_brow(pen, person, head, side, expression)
    if person.scar:
        _draw_scar(pen, person, head, expression)
    if person.glasses is not None:
        _draw_glasses(pen, person, head)


def _shade(pen: Pen, person: Person, head: Head, light_side: float) -> None:
    """A soft-edged half shadow away from the light, and the colour of the cheeks."""
    away = -1.0 if light_side > 0 else 1.0
    edge = away * head.half * 0.66 + head.shift
    shadow = outline(
        (edge * 0.9, -0.6), (edge * 1.25, -0.1, edge * 0.95, 0.12), (edge * 0.8, 0.34, edge * 0.1, head.chin + 0.02),
        (away, head.chin + 0.1), (away, -0.6),
    )  # fmt: skip
    pen.fill(shadow, darker(person.skin, 0.5), 0.16)
    rosy = mix(person.skin, (226, 74, 76), 0.62)
    for side in SIDES:
        pen.glow(side * 0.225 + head.shift, 0.20, 0.135, rosy, person.blush)


def _draw_nose(pen: Pen, person: Person, head: Head, light_side: float) -> None:
    x, y = head.shift * 1.45, EYE_Y + 0.165 * person.nose_length
    wide, away = 0.058 * person.nose_width, -1.0 if light_side > 0 else 1.0
    shade = darker(person.skin, 0.34)
    bridge = outline(
        (head.shift + away * 0.03, EYE_Y - 0.05), (x + away * 0.02, EYE_Y + 0.06, x + away * wide * 1.05, y),
        (x, y + 0.03), (x + away * 0.005, EYE_Y + 0.06, head.shift + away * 0.03, EYE_Y - 0.05),
    )  # fmt: skip
    pen.fill(bridge, shade, 0.38)
    pen.disc(x - away * 0.012, y - 0.022, 0.026, lighter(person.skin, 0.55), 0.55)
    base = outline((x - wide, y - 0.004), (x - wide * 0.7, y + 0.026, x, y + 0.028),
                   (x + wide * 0.7, y + 0.026, x + wide, y - 0.004), closed=False)  # fmt: skip
    pen.stroke(base, darker(person.skin, 0.46), 0.024)


def _draw_marks(pen: Pen, person: Person, head: Head) -> None:
    """The birthmark, freckles over nose and cheeks, and the mole."""
    if person.birthmark is not None:
        _draw_birthmark(pen, person, head, person.birthmark)
    if person.freckles:
        spot = mix(person.skin, (150, 74, 36), 0.72)
        for x, y in ((0.13, 0.165), (0.19, 0.135), (0.25, 0.165), (0.17, 0.215), (0.235, 0.225), (0.075, 0.125)):
            for side in SIDES:
                pen.disc(side * x + head.shift, y + 0.012 * side * (x > 0.18), 0.0155, spot, person.freckles)
    if person.mole is not None:
        pen.disc(person.mole[0] + head.shift, person.mole[1], 0.022, mix(person.skin, (56, 30, 26), 0.85))


def _draw_birthmark(pen: Pen, person: Person, head: Head, place: Point) -> None:
    """A ragged patch: wine red on light skin, pale on dark skin."""
    light = sum(person.skin) > 400
    colour = mix(person.skin, (150, 36, 62), 0.62) if light else lighter(person.skin, 0.42)
    patch = [(-0.095, -0.015), (-0.055, -0.075), (0.02, -0.08), (0.055, -0.045), (0.095, -0.02), (0.08, 0.045),
             (0.02, 0.06), (-0.02, 0.09), (-0.07, 0.06)]  # fmt: skip
    with pen.inside(head.face), pen.at(place[0] + head.shift, place[1]):
        pen.fill(smooth(patch), colour, 0.9)


def _draw_lines(pen: Pen, person: Person, head: Head) -> None:
    """Lines of age: from the nose to the mouth and beside the eyes; in old age also on forehead and below the eyes."""
    old = person.age == "old"
    colour, alpha, wide = darker(person.skin, 0.52), 0.85 if old else 0.5, 0.024 if old else 0.02
    mouth_x, mouth_y = head.mouth
    for side in SIDES:
        fold = outline((mouth_x + side * 0.085, 0.215), (mouth_x + side * 0.175, 0.24, mouth_x + side * 0.185,
                       mouth_y + (0.03 if old else -0.01)), closed=False)  # fmt: skip
        pen.stroke(fold, colour, wide, alpha)
        x, y = head.eye(person, side)
        for rise, fall in ((0.0, -0.035), (0.025, 0.03))[: 2 if old else 1]:
            foot = (x + side * 0.185, y + rise + fall)
            pen.line([(x + side * 0.14, y + rise), foot], colour, wide, alpha)
        if old:
            bag = outline((x - 0.075, y + 0.085), (x, y + 0.135, x + 0.075, y + 0.085), closed=False)
            pen.stroke(bag, colour, 0.02, 0.6)
    for level, reach in ((-0.245, 0.14), (-0.30, 0.11))[: 2 if old else 0]:
        crease = outline((head.shift - reach, level), (head.shift, level - 0.022, head.shift + reach, level),
                         closed=False)  # fmt: skip
        pen.stroke(crease, colour, wide, 0.7)


def _draw_scar(pen: Pen, person: Person, head: Head, expression: Expression) -> None:
    """A pale line that parts one brow."""
    x, y = head.eye(person, person.scar)
    level = y - 0.155 - _LIFTS.get(expression, 0.0)
    scar = [(x + person.scar * 0.015, level - 0.10), (x + person.scar * 0.055, level + 0.075)]
    pen.line(scar, darker(person.skin, 0.3), 0.052)
    pen.line(scar, lighter(mix(person.skin, (240, 150, 150), 0.35), 0.3), 0.032)


def _draw_eye(pen: Pen, person: Person, head: Head, side: float, expression: Expression) -> None:
    x, y = head.eye(person, side)
    wide = 0.100 * person.eye_size * (1 - 0.08 * head.turn * side)
    tall = 0.077 * person.eye_size * _OPENINGS.get(expression, 1.0) * (0.9 if person.age == "old" else 1.0)
    iris = person.other_eye if side > 0 and person.other_eye is not None else person.eye_colour
    rise, below = 0.018 * person.eye_slant, 0.55 if expression in ("smiling", "laughing") else 0.85
    woman = person.gender == "woman"
    with pen.at(x, y, flip=side < 0):  # the outer corner is on the right
        upper = outline(
            (-wide, 0.012), (-wide * 0.6, -tall * 1.25, wide * 0.5, -tall * 1.35, wide, -rise), closed=False
        )
        lid = outline((-wide * 1.0, 0.0), (-wide * 0.7, -tall * 1.75, wide * 0.6, -tall * 1.85, wide * 1.16, -rise))
        white = outline((-wide, 0.012), (-wide * 0.6, -tall * 1.25, wide * 0.5, -tall * 1.35, wide, -rise),
                        (wide * 0.6, tall * 1.2 * below, -wide * 0.5, tall * 1.3 * below, -wide, 0.012))  # fmt: skip
        pen.fill(lid, darker(person.skin, 0.26), 0.75)
        pen.fill(white, WHITE)
    with pen.at(x, y, flip=side < 0), pen.inside(white):
        gaze = 0.012 * head.turn * side
        pen.disc(gaze, -0.010, tall * 0.93, darker(iris, 0.35))
        pen.disc(gaze, -0.008, tall * 0.76, iris)
        pen.disc(gaze, -0.010, tall * 0.42, (22, 16, 20))
    pen.disc(x + 0.018, y - 0.032, 0.0195 * person.eye_size, WHITE)
    with pen.at(x, y, flip=side < 0):
        pen.stroke(upper, darker(mix(person.hair_colour, INK, 0.7), 0.4), 0.042 if woman else 0.032)
        if woman:
            lash = outline(
                (wide * 0.8, -rise - tall * 0.35), (wide * 1.1, -rise - 0.01, wide * 1.28, -rise - 0.042), closed=False
            )
            pen.stroke(lash, INK, 0.027)


def _draw_brow(pen: Pen, person: Person, head: Head, side: float, expression: Expression) -> None:
    x, y = head.eye(person, side)
    thick = 0.034 * person.brow_thickness
    level = -0.138 - 0.02 * person.eye_size - _LIFTS.get(expression, 0.0)
    rise, arch = 0.026 * person.brow_slant, 0.028 + 0.045 * person.brow_arch
    inner = {"surprised": -0.022, "smiling": 0.004, "laughing": 0.0, "sad": -0.085, "angry": 0.062}.get(
        expression, 0.002
    )
    if expression in ("sad", "angry"):
        rise, arch = rise * 0.4 + (-0.045 if expression == "sad" else 0.03), arch * 0.3
        thick *= 1.15
    colour = mix(darker(person.hair_colour, 0.3), (70, 48, 40), 0.3)
    with pen.at(x, y + level, flip=side < 0):
        brow = outline(
            (-0.098, inner + thick * 0.5), (-0.10, inner - thick * 0.8, -0.085, inner - thick * 0.5),
            (0.02, -arch - thick * 0.6, 0.118, -rise + 0.012),
            (0.02, -arch + thick * 0.75, -0.098, inner + thick * 0.5),
        )  # fmt: skip
        pen.fill(brow, colour)
        pen.stroke(brow, colour, 0.012)


def _draw_mouth(pen: Pen, person: Person, head: Head, expression: Expression) -> None:
    x, y = head.mouth
    wide, full = 0.125 * person.mouth_width, 0.036 * person.lip_fullness
    if person.age == "old":
        full *= 0.6
    with pen.at(x, y):
        if expression == "laughing":
            _draw_laugh(pen, person, wide * 1.28, full)
        elif expression == "surprised":
            pen.fill(oval(0, 0.02, wide * 0.52 + full, 0.058 + full), person.lip_colour)
            pen.fill(oval(0, 0.02, wide * 0.52, 0.056), MOUTH_INK)
            pen.fill(oval(0, 0.052, wide * 0.36, 0.022), TONGUE)
        elif expression == "sad":
            _draw_frown(pen, person, wide, full)
        elif expression == "angry":
            _draw_snarl(pen, person, wide, full)
        else:
            _draw_lips(pen, person, wide * (1.18 if expression == "smiling" else 0.92), full, expression == "smiling")


def _draw_laugh(pen: Pen, person: Person, wide: float, full: float) -> None:
    """An open smile: lips around teeth above and tongue below."""

    def opening(grow: float) -> Path:
        return outline((-wide - grow, -0.03 - grow * 0.3),
                       (-wide * 0.4, 0.0 - grow * 1.6, wide * 0.4, 0.0 - grow * 1.6, wide + grow, -0.03 - grow * 0.3),
                       (wide * 0.7, 0.115 + grow * 1.5, -wide * 0.7, 0.115 + grow * 1.5, -wide - grow,
                        -0.03 - grow * 0.3))  # fmt: skip

    pen.fill(opening(full * 0.62), person.lip_colour)
    mouth = opening(0.0)
    pen.fill(mouth, MOUTH_INK)
    with pen.inside(mouth):
        pen.rect(-wide, -0.06, wide, 0.026, WHITE)
        pen.fill(oval(0, 0.086, wide * 0.5, 0.03), TONGUE)


def _draw_frown(pen: Pen, person: Person, wide: float, full: float) -> None:
    """Closed lips whose corners hang."""
    lips = outline((-wide, 0.06), (-wide * 0.5, -0.03 - full, wide * 0.5, -0.03 - full, wide, 0.06),
                   (wide * 0.5, 0.02 + full * 1.5, -wide * 0.5, 0.02 + full * 1.5, -wide, 0.06))  # fmt: skip
    pen.fill(lips, person.lip_colour)
    line = outline((-wide * 1.04, 0.066), (0, -0.052, wide * 1.04, 0.066), closed=False)
    pen.stroke(line, mix(person.lip_colour, LIP_INK, 0.8), 0.036)


def _draw_snarl(pen: Pen, person: Person, wide: float, full: float) -> None:
    """Bared, clenched teeth between lips whose corners hang."""
    mouth = outline((-wide, 0.075), (-wide * 0.8, -0.035, 0, -0.035), (wide * 0.8, -0.035, wide, 0.075),
                    (0, 0.045, -wide, 0.075))  # fmt: skip
    pen.stroke(mouth, person.lip_colour, 0.04 + full * 0.7)
    pen.fill(mouth, WHITE)
    pen.stroke(mouth, MOUTH_INK, 0.022)
    for x in (-0.4, 0.0, 0.4):
        pen.line([(wide * x, -0.02), (wide * x, 0.045)], MOUTH_INK, 0.012, 0.7)


def _draw_lips(pen: Pen, person: Person, wide: float, full: float, smile: bool) -> None:
    """Closed lips; ``smile`` lifts their corners."""
    lift = 0.038 if smile else 0.013
    sag = 0.03 if smile else 0.010
    lips = outline(
        (-wide, -lift), (-wide * 0.45, sag * 0.6 - full * 1.5, -wide * 0.12, -full * 1.0),
        (0, -full * 0.7, wide * 0.12, -full * 1.0), (wide * 0.45, sag * 0.6 - full * 1.5, wide, -lift),
        (wide * 0.55, sag * 2 + full * 1.9, -wide * 0.55, sag * 2 + full * 1.9, -wide, -lift),
    )  # fmt: skip
    pen.fill(lips, person.lip_colour)
    line = outline((-wide, -lift), (0, sag * 2 + 0.006, wide, -lift), closed=False)
    pen.stroke(line, mix(person.lip_colour, LIP_INK, 0.78), 0.034)


def _draw_beard(pen: Pen, person: Person, head: Head) -> None:
    """Hair on jaw, chin or lip; stubble is its thin shadow."""
    x, y = head.mouth
    half, chin, kind = head.half, head.chin, person.beard
    colour, alpha = darker(person.hair_colour, 0.12), 0.26 if kind == "stubble" else 1.0
    lip_top = y - 0.075
    if kind in ("full", "stubble"):
        low = chin + (0.06 if kind == "full" else 0.0)
        right = [(0.0, lip_top), (x * 0.3 + 0.10, lip_top + 0.012), (0.19, y - 0.01), (half * 0.80, 0.14),
                 (half * 0.99, -0.02),
                 (half * 1.02, 0.12), (half * (0.45 + 0.5 * person.jaw) + 0.035, chin * 0.66),
                 (0.14 + half * person.jaw * 0.3, low * 0.93), (0.0, low)]  # fmt: skip
        beard = smooth(symmetric(right))
        if kind == "full":
            pen.fill(beard, colour)
            pen.fill(
                smooth(symmetric([(0.0, low - 0.1), (0.14, low - 0.12), (0.10, low - 0.03), (0.0, low)])),
                darker(colour, 0.2),
                0.5,
            )
        else:
            with pen.inside(head.face):
                pen.fill(beard, colour, alpha)
        return
    moustache = outline((x - 0.15, y + 0.02), (x - 0.13, lip_top - 0.005, x, lip_top),
                        (x + 0.13, lip_top - 0.005, x + 0.15, y + 0.02),
                        (x + 0.10, y - 0.03, x, y - 0.026), (x - 0.10, y - 0.03, x - 0.15, y + 0.02))  # fmt: skip
    if kind == "goatee":
        goat = [
            (0.0, y + 0.045),
            (0.09, y + 0.06),
            (0.14, y + 0.0),
            (0.165, y + 0.05),
            (0.12, chin - 0.005),
            (0.0, chin + 0.055),
        ]
        with pen.at(x, 0.0):
            pen.fill(smooth(symmetric(goat)), colour)
    pen.fill(moustache, colour)
    pen.stroke(moustache, colour, 0.02)


def _draw_glasses(pen: Pen, person: Person, head: Head) -> None:
    colour, thick = person.glasses_colour, 0.064 if person.glasses == "thick" else 0.042
    rims = [head.eye(person, side) for side in SIDES]
    for side, (x, y) in zip(SIDES, rims, strict=True):
        wide = 0.143 * (1 - 0.06 * head.turn * side) * min(1.0, person.eye_distance + 0.04)
        rim = _rim(person, x, y + 0.012, wide)
        pen.fill(rim, (236, 246, 250), 0.16)
        pen.stroke(rim, colour, thick)
        hinge = x + side * wide
        pen.line([(hinge, y - 0.03), (side * head.half * 1.0 - head.shift * 0.4, y - 0.01)], colour, thick)
    gap = 0.138 * min(1.0, person.eye_distance + 0.04)
    bridge = outline(
        (rims[0][0] + gap, EYE_Y - 0.005),
        (head.shift * 1.2, EYE_Y - 0.05, rims[1][0] - gap, EYE_Y - 0.005),
        closed=False,
    )
    pen.stroke(bridge, colour, thick)


def _rim(person: Person, x: float, y: float, wide: float) -> Path:
    if person.glasses == "round":
        return oval(x, y, wide, 0.138)
    corner, tall = (0.03, 0.112) if person.glasses == "square" else (0.06, 0.118)
    right = [(x + wide - corner, y - tall), (x + wide, y - tall, x + wide, y - tall + corner)]
    return outline(
        (x - wide + corner, y - tall), right[0], right[1], (x + wide * 0.94, y + tall - corner),
        (x + wide * 0.94, y + tall, x + wide * 0.94 - corner, y + tall), (x - wide * 0.94 + corner, y + tall),
        (x - wide * 0.94, y + tall, x - wide * 0.94, y + tall - corner), (x - wide, y - tall + corner),
        (x - wide, y - tall, x - wide + corner, y - tall),
    )  # fmt: skip
