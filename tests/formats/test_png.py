import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from portrayal.errors import UsageError
from portrayal.formats.png import DIGITAL_SOURCE_TYPE, a1111_parameters, parse_a1111, png_bytes, read_settings

FIELDS = {"Steps": 25, "Sampler": "DDIM", "CFG scale": 7.5, "Seed": 42, "Size": "512x512", "Model": "lora-64"}


def text_of(content: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return dict(image.text)


def test_a_picture_says_how_it_was_made_and_that_it_was_generated(tmp_path: Path) -> None:
    path = tmp_path / "42.png"
    made_with = {"prompt": "sks woman auf Größe ♥", "seed": 42, "guidance_scale": 7.5}
    path.write_bytes(png_bytes(Image.new("RGB", (8, 8), "red"), made_with, parameters="sks ♥\nSteps: 25"))

    assert read_settings(path) == {**made_with, "generated": True, "software": "Portrayal"}
    assert text_of(path.read_bytes())["parameters"] == "sks ♥\nSteps: 25"
    with Image.open(path) as image:
        assert image.getpixel((4, 4)) == (255, 0, 0)


def test_the_xmp_packet_carries_iptcs_mark() -> None:
    content = png_bytes(Image.new("RGB", (8, 8)), {}, parameters="")
    packet = text_of(content)["XML:com.adobe.xmp"]

    description = ElementTree.fromstring(packet.strip().lstrip("\ufeff"))[0][0]

    mark = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert description.attrib[mark] == DIGITAL_SOURCE_TYPE
    assert b"iTXtXML:com.adobe.xmp\0\0\0" in content  # not compressed, as XMP demands


def test_nothing_of_the_given_pictures_metadata_and_no_false_claim_gets_in(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    image.info.update(exif=b"Exif\0\0secret", icc_profile=b"secret", comment="secret", xmp=b"secret")

    content = png_bytes(image, {"generated": False}, parameters="")

    assert b"secret" not in content
    assert json.loads(text_of(content)["portrayal"])["generated"] is True


def test_settings_that_are_no_json_are_refused() -> None:
    with pytest.raises(TypeError):
        png_bytes(Image.new("RGB", (8, 8)), {"path": Path("/home/me")}, parameters="")
    with pytest.raises(ValueError, match="JSON"):
        png_bytes(Image.new("RGB", (8, 8)), {"scale": float("nan")}, parameters="")


def test_other_peoples_files_have_no_settings(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    (tmp_path / "text.png").write_text("no picture")
    for name, written in (("broken", "{"), ("list", "[1]")):
        info = PngInfo()
        info.add_text("portrayal", written)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png", pnginfo=info)

    assert [read_settings(path) for path in sorted(tmp_path.iterdir())] == [None] * 5
    with pytest.raises(UsageError, match="cannot be opened"):
        read_settings(tmp_path / "missing.png")


def test_parameters_read_as_automatic1111_writes_them() -> None:
    fields = {**FIELDS, "Lora hashes": "lora-64: 1a2b", "ControlNet 0": "Module: canny, Weight: 0.8", "Clip skip": None}

    assert a1111_parameters("sks woman,\n  smiling", "blurry", fields) == (
        "sks woman, smiling\n"
        "Negative prompt: blurry\n"
        "Steps: 25, Sampler: DDIM, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: lora-64, "
        'Lora hashes: "lora-64: 1a2b", ControlNet 0: "Module: canny, Weight: 0.8"'
    )


def test_automatic1111s_own_many_lines_are_read() -> None:
    text = (
        'a woman,\nat sea\nNegative prompt: blurry,\nlow quality\nSteps: 20, Sampler: DPM++ 2M, Size: 8x8, TI: "a: b"'
    )

    assert parse_a1111(text) == (
        "a woman,\nat sea",
        "blurry,\nlow quality",
        {"Steps": "20", "Sampler": "DPM++ 2M", "Size": "8x8", "TI": "a: b"},
    )
    assert parse_a1111("a woman\nNegative prompt: a: b, c") == ("a woman", "a: b, c", {})
    assert parse_a1111("Steps: 3") == ("Steps: 3", "", {})
    assert parse_a1111('a woman\nOdd: "\\x"') == ("a woman", "", {"Odd": '"\\x"'})


KEYS = st.from_regex(r"\w[\w \-/]+", fullmatch=True).filter(lambda key: key != "Negative prompt")


@settings(deadline=None)
@given(st.text(), st.text(), st.dictionaries(KEYS, st.text() | st.integers() | st.floats(allow_nan=False)))
def test_any_parameters_come_back(prompt: str, negative_prompt: str, fields: dict[str, object]) -> None:
    text = a1111_parameters(prompt, negative_prompt, fields)

    read_prompt, read_negative, read_fields = parse_a1111(text)

    assert read_prompt == " ".join(prompt.split())
    assert read_negative == " ".join(negative_prompt.split())
    assert read_fields == {key: str(value) for key, value in fields.items()}


@settings(deadline=None)
@given(st.dictionaries(KEYS, st.text(), min_size=3))
def test_fields_get_through_automatic1111s_own_pattern(fields: dict[str, str]) -> None:
    pattern = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')

    found = pattern.findall(a1111_parameters("", "", fields).split("\n")[-1])

    read = {key: json.loads(value) if value[:1] == value[-1:] == '"' else value for key, value in found}
    assert read == fields


@pytest.mark.parametrize("key", ["", "a", "a:b", "a,b", "-ab", "Negative prompt", "a\nb"])
def test_a_field_name_that_cannot_be_read_back_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="cannot name a field"):
        a1111_parameters("", "", {key: 1})
