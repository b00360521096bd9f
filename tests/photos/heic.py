"""Write HEIC for tests: every block of the picture stored as it is (PCM), as H.265 allows, so no encoder is needed.

The permissive wheel (`pi-heif`) only reads, and encoders of H.265 are under the GPL. Sections are those of
ITU-T H.265 (08/2021); boxes are those of ISO/IEC 23008-12.
"""

from __future__ import annotations

import re
import struct

import numpy as np
from PIL import Image

BLOCK = 16
SMALLEST_RANGES = (
    *(240, 227, 216, 205, 195, 185, 175, 166, 158, 150, 142, 135, 128, 122, 116, 110, 104, 99, 94, 89, 85, 80),
    *(76, 72, 69, 65, 62, 59, 56, 53, 50, 48, 45, 43, 41, 39, 37, 35, 33, 31, 30, 28, 27, 25, 24, 23, 22, 21, 20),
    *(19, 18, 17, 16, 15, 14, 14, 13, 12, 12, 11, 11, 10, 9),
)
"""Range of the less probable symbol by state, table 9-52, last column: all that a lone bin after a reset meets."""


def heic(
    picture: Image.Image, *, turns: int = 0, mirror: int | None = None, exif: bytes = b"", profile: bytes = b""
) -> bytes:
    """A HEIC file of a picture in RGB.

    Args:
        picture: What is stored.
        turns: Quarter turns anticlockwise that a reader must make (`irot`).
        mirror: Axis that a reader must mirror at, after the turns (`imir`): 0 swaps top and bottom, 1 left and right.
        exif: A TIFF structure, as `Image.Exif.tobytes` gives behind its six bytes of header.
        profile: ICC profile.
    """
    parameters = [_video_parameters(), _sequence_parameters(picture.size), _picture_parameters()]
    slice_ = _nal(19, _slice(picture))
    payloads = [struct.pack(">I", len(slice_)) + slice_]
    if exif:
        payloads.append(struct.pack(">I", 0) + exif)
    properties = [
        (_hevc_configuration(parameters), True),
        (_box(b"ispe", struct.pack(">III", 0, *picture.size)), False),
        (_box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)), False),
    ]
    if profile:
        properties.append((_box(b"colr", b"prof" + profile), False))
    if turns:
        properties.append((_box(b"irot", bytes([turns])), True))
    if mirror is not None:
        properties.append((_box(b"imir", bytes([mirror])), True))
    start = _box(b"ftyp", b"heic" + struct.pack(">I", 0) + b"mif1heic")
    offset = len(start) + len(_meta(properties, [len(payload) for payload in payloads], 0)) + 8
    return start + _meta(properties, [len(payload) for payload in payloads], offset) + _box(b"mdat", b"".join(payloads))


class _Bits:
    """A string of bits, most significant first."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, value: int, width: int = 1) -> _Bits:
        self.text += f"{value:0{width}b}"
        return self

    def ue(self, *values: int) -> _Bits:
        """Exp-Golomb codes (9.2)."""
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def closed(self) -> bytes:
        """The bits, a one, and zeros up to the next byte (7.3.2.11)."""
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")


def _nal(kind: int, payload: bytes) -> bytes:
    """A unit with its header, and bytes that keep start codes out of it (7.3.1)."""
    return bytes([kind << 1, 1]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", payload)


def _profile(bits: _Bits) -> _Bits:
    """Main Still Picture, level 6.2 (7.3.3)."""
    return bits.u(3, 8).u(0x70000000, 32).u(0b1001, 4).u(0, 44).u(186, 8)


def _video_parameters() -> bytes:
    bits = _profile(_Bits().u(0, 4).u(3, 2).u(0, 6).u(0, 3).u(1).u(0xFFFF, 16))
    return _nal(32, bits.u(1).ue(0, 0, 0).u(0, 6).ue(0).u(0).u(0).closed())


def _sequence_parameters(size: tuple[int, int]) -> bytes:
    width, height = (-(-side // BLOCK) * BLOCK for side in size)
    bits = _profile(_Bits().u(0, 4).u(0, 3).u(1))
    bits.ue(0, 1, width, height).u(1).ue(0, (width - size[0]) // 2, 0, (height - size[1]) // 2)  # 4:2:0, and the window
    bits.ue(0, 0, 4).u(1).ue(0, 0, 0)
    bits.ue(1, 0, 0, 2, 0, 0)  # blocks of 16, transforms of 4 to 16
    bits.u(0).u(0).u(0)
    bits.u(1).u(7, 4).u(7, 4).ue(1, 0).u(1)  # PCM of 8 bits in blocks of 16, unfiltered
    return _nal(33, bits.ue(0).u(0, 5).closed())


def _picture_parameters() -> bytes:
    bits = _Bits().ue(0, 0).u(0, 7).ue(0, 0, 0).u(0, 3).ue(0, 0).u(0, 7)
    return _nal(34, bits.u(1).u(0).u(1).u(0).u(0).ue(0).u(0).u(0).closed())  # no deblocking


def _slice(picture: Image.Image) -> bytes:
    """Header and blocks of the only slice (7.3.6, 7.3.8.5)."""
    luma, *chroma = _planes(picture)
    across, down = luma.shape[1] // BLOCK, luma.shape[0] // BLOCK
    parts = [_Bits().u(1).u(0).ue(0, 2, 0).closed()]
    for block in range(across * down):
        row, column = divmod(block, across)
        parts.append(_before_block(block))
        for plane, side in ((luma, BLOCK), *((plane, BLOCK // 2) for plane in chroma)):
            parts.append(plane[row * side : (row + 1) * side, column * side : (column + 1) * side].tobytes())
    return b"".join([*parts, _flushed("", 508)])


def _planes(picture: Image.Image) -> list[np.ndarray]:
    """Y, and Cb and Cr at half the size, padded to whole blocks by repeating the last pixels."""
    pixels = np.asarray(picture.convert("YCbCr"))
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    halves = pixels.reshape(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, 2, 3).mean((1, 3)).round().astype(np.uint8)
    return [pixels[..., 0], halves[..., 1], halves[..., 2]]


def _before_block(number: int) -> bytes:
    """Arithmetic code of "the slice goes on; one whole block; its pixels follow" (9.3.4.3).

    The code begins anew behind every block's pixels. Only one symbol has a state, and it is always the more probable.
    """
    span = 510 if number == 0 else 508  # all but the first say that the slice does not end
    span -= SMALLEST_RANGES[min(number, len(SMALLEST_RANGES) - 1)]
    shifts = "" if span >= 256 else "0"
    return _flushed(shifts, (span << len(shifts)) - 2)


def _flushed(bits: str, low: int) -> bytes:
    """End the code with the symbol that terminates, at the bottom `low` of its range (9.3.4.3.5)."""
    bits += f"{low:010b}"
    bits = bits[1:-1] + "1"  # the first bit of a code is always zero and is not written; the last is a one
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _hevc_configuration(parameters: list[bytes]) -> bytes:
    head = struct.pack(">BBIHIBHBBBBHB", 1, 3, 0x70000000, 0x9000, 0, 186, 0xF000, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0x0F)
    arrays = [
        struct.pack(">BHH", 0x80 | (unit[0] >> 1), 1, len(unit)) + unit  # one unit of each kind
        for unit in parameters
    ]
    return _box(b"hvcC", head + bytes([len(arrays)]) + b"".join(arrays))


def _meta(properties: list[tuple[bytes, bool]], lengths: list[int], offset: int) -> bytes:
    """The box that says what lies where; item 1 is the picture, item 2 its EXIF."""
    kinds = [b"hvc1", b"Exif"][: len(lengths)]
    entries = b"".join(
        _box(b"infe", struct.pack(">IHH", 2 << 24, item, 0) + kind + b"\0") for item, kind in enumerate(kinds, start=1)
    )
    places = b""
    for item, length in enumerate(lengths, start=1):
        places += struct.pack(">HHHII", item, 0, 1, offset + sum(lengths[: item - 1]), length)
    uses = bytes(0x80 * essential | number for number, (_, essential) in enumerate(properties, start=1))
    boxes = [
        _box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"pict") + b"\0"),
        _box(b"pitm", struct.pack(">IH", 0, 1)),
        _box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(lengths)) + places),
        _box(b"iinf", struct.pack(">IH", 0, len(lengths)) + entries),
        _box(
            b"iprp",
            _box(b"ipco", b"".join(box for box, _ in properties))
            + _box(b"ipma", struct.pack(">IIHB", 0, 1, 1, len(uses)) + uses),
        ),
    ]
    if len(lengths) > 1:
        boxes.append(_box(b"iref", struct.pack(">I", 0) + _box(b"cdsc", struct.pack(">HHH", 2, 1, 1))))
    return _box(b"meta", struct.pack(">I", 0) + b"".join(boxes))
