"""A contact sheet: every photo with what is cut out of it, and what was found in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from portrayal.photos.advice import PhotoAdvice

TILE, WORDS, GAP, MARGIN = 220, 74, 14, 24
COLUMNS: Final = 6
COLOURS: Final = {"keep": "#2e9e5b", "fix": "#d98a00", "drop": "#d13c3c"}
PAPER, INK, FAINT = "#ffffff", "#1d1f22", "#6b7076"
Crop = tuple[float, float, float, float]


def contact_sheet(photos: Sequence[tuple[Image.Image, Crop, PhotoAdvice]]) -> Image.Image:
    """Draw the sheet.

    Args:
        photos: A copy of each photo; left, top, width and height of what is trained on, in that copy; the advice.
    """
    columns = max(1, min(COLUMNS, len(photos)))
    rows = max(1, math.ceil(len(photos) / columns))
    width = 2 * MARGIN + columns * TILE + (columns - 1) * GAP
    height = 2 * MARGIN + rows * (TILE + WORDS) + (rows - 1) * GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    for number, (view, crop, advice) in enumerate(photos):
        place = (
            MARGIN + number % columns * (TILE + GAP),
            MARGIN + number // columns * (TILE + WORDS + GAP),
        )
        _tile(sheet, place, view, crop, advice)
    return sheet


def _tile(sheet: Image.Image, place: tuple[int, int], view: Image.Image, crop: Crop, advice: PhotoAdvice) -> None:
    draw, colour = ImageDraw.Draw(sheet), COLOURS[advice.verdict]
    scale = TILE / max(view.size)
    size = (max(1, round(view.width * scale)), max(1, round(view.height * scale)))
    left, top = place[0] + (TILE - size[0]) // 2, place[1] + (TILE - size[1]) // 2
    draw.rectangle((*place, place[0] + TILE - 1, place[1] + TILE - 1), fill="#f1f2f3")
    sheet.paste(_shaded(view.resize(size, Image.Resampling.LANCZOS), [value * scale for value in crop]), (left, top))
    draw.rectangle((*place, place[0] + TILE - 1, place[1] + TILE - 1), outline=colour, width=4)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    base = place[1] + TILE + 6
    draw.text((place[0], base), advice.verdict, fill=colour, font=bold)
    room = TILE - draw.textlength(advice.verdict + "  ", font=bold)
    draw.text((place[0] + TILE - room, base + 1), _shortened(draw, advice.file, plain, room), fill=FAINT, font=plain)
    said = "; ".join(finding.message.split(";")[0] for finding in advice.findings)
    for line, words in enumerate(textwrap.wrap(said, 34)[:3]):
        draw.text((place[0], base + 19 + 15 * line), words, fill=INK, font=plain)


def _shaded(view: Image.Image, crop: Sequence[float]) -> Image.Image:
    """The photo, pale outside of what is trained on."""
    left, top, width, height = (round(value) for value in crop)
    pale = Image.blend(view, Image.new("RGB", view.size, PAPER), 0.6)
    box = (left, top, min(view.width, left + width), min(view.height, top + height))
    pale.paste(view.crop(box), box[:2])
    return pale


def _shortened(
    draw: ImageDraw.ImageDraw, words: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, room: float
) -> str:
    """The words, or as much of their end as fits."""
    if draw.textlength(words, font=font) <= room:
        return words
    while words and draw.textlength("…" + words, font=font) > room:
        words = words[1:]
    return "…" + words
