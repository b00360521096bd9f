"""PNG files that say how they were made, and that they were made by a model.

Three text chunks: `parameters`, in the form of AUTOMATIC1111's web UI that most tools read; `portrayal`, our own JSON;
and an XMP packet with IPTC's machine-readable mark of generated pictures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from portrayal.errors import UsageError
from portrayal.limits import bounded_json

SOFTWARE = "Portrayal"
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmp:CreatorTool="{SOFTWARE}"
    Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPE}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""

NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\w[\w \-/]+")
_FIELD = re.compile(rf'\s*({_KEY.pattern}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def png_bytes(image: Image.Image, settings: Mapping[str, object], *, parameters: str) -> bytes:
    """Encode a generated picture with its settings.

    Args:
        image: The picture; its own metadata is left behind.
        settings: What it was made with, as plain JSON values; :func:`read_settings` gives it back.
        parameters: The same for other tools, from :func:`a1111_parameters`.

    Raises:
        TypeError: If a setting has no JSON form.
        ValueError: If a setting is not finite.
    """
    text = PngInfo()
    text.add_text("parameters", parameters)
    own = {"software": SOFTWARE, **settings, "generated": True}
    text.add_text("portrayal", json.dumps(own, allow_nan=False))
    text.add_itxt("XML:com.adobe.xmp", XMP)
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    content = BytesIO()
    clean.save(content, "PNG", pnginfo=text)
    return content.getvalue()


def read_settings(path: Path) -> dict[str, Any] | None:
    """Read the settings a picture was made with, or nothing if it is no PNG of ours.

    Raises:
        UsageError: If the file is missing or cannot be opened.
    """
    try:
        with Image.open(path) as image:
            text = image.text.get("portrayal") if isinstance(image, PngImageFile) else None
        settings = bounded_json(text) if text is not None else None
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be opened: {error.strerror or error}.", "Check the file's name.") from error
    return settings if isinstance(settings, dict) else None


def a1111_parameters(prompt: str, negative_prompt: str, fields: Mapping[str, object]) -> str:
    """Write settings as AUTOMATIC1111 does: prompt, negative prompt, then `Steps: 25, Sampler: DDIM, …`.

    Args:
        prompt: White space becomes single spaces, as it does in the tokenizer.
        negative_prompt: The same; an empty one has no line.
        fields: Steps, Sampler, CFG scale, Seed, Size, Model hash and so on, in order. Those that are `None` are left
            out; values that would confuse a reader are quoted as JSON.

    Raises:
        ValueError: If a field's name cannot be read back.
    """
    negative = " ".join(negative_prompt.split())
    written = [f"{_checked_key(key)}: {_quoted(str(value))}" for key, value in fields.items() if value is not None]
    lines = [" ".join(prompt.split())]
    if negative:
        lines.append(f"{NEGATIVE} {negative}")
    if written:
        lines.append(", ".join(written))
    return "\n".join(lines)


def parse_a1111(text: str) -> tuple[str, str, dict[str, str]]:
    """Read what :func:`a1111_parameters`, or AUTOMATIC1111 itself, wrote: prompt, negative prompt, fields.

    The first line is always the prompt's. The last is the fields' if all of it reads as `name: value, …`.
    """
    first, *lines = text.split("\n")
    fields: dict[str, str] = {}
    if lines and not lines[-1].startswith(NEGATIVE):
        matches = list(_FIELD.finditer(lines[-1]))
        if matches and "".join(match.group() for match in matches) == lines[-1]:
            fields = {match[1]: _unquoted(match[2]) for match in matches}
            lines.pop()
    start = next((index for index, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(NEGATIVE).strip()
    return "\n".join([first, *lines[:start]]).strip(), negative, fields


def _checked_key(key: str) -> str:
    if not _KEY.fullmatch(key) or key == NEGATIVE[:-1]:
        raise ValueError(f"{key!r} cannot name a field: use two or more letters, digits, spaces, hyphens or slashes")
    return key


def _quoted(value: str) -> str:
    plain = value and value == value.strip() and value.isprintable() and not set(value) & set(',:"')
    return value if plain else json.dumps(value, ensure_ascii=False)


def _unquoted(value: str) -> str:
    if not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(bounded_json(value))
    except ValueError:
        return value
