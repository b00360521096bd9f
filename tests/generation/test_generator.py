"""Painting: the seed decides, a file says what made it, and a control image is kept to."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from portrayal.config import ControlConfig, GenerationConfig
from portrayal.errors import OutOfMemoryError, WeightsError
from portrayal.evaluation.control import CONTROL_KINDS
from portrayal.evaluation.metrics import edge_f1
from portrayal.formats.png import DIGITAL_SOURCE_TYPE, parse_a1111, read_settings
from portrayal.generation.annotators import canny, fit
from portrayal.generation.generator import Control, Generator, Painted
from portrayal.generation.pictures import (
    PAINTING,
    Picture,
    UsedLora,
    Weights,
    fields_of,
    image_hash,
    load_pictures,
    paint_missing,
    picture_seed,
    with_settings,
)
from portrayal.models.base import SCHEDULERS
from portrayal.models.control import find_controlnet, load_controlnet

WOMAN = "a photo of a woman in the forest"
FAST = GenerationConfig(num_inference_steps=2, guidance_scale=5.0, batch_size=2)

CANNY = {"embedded": "controlnet_canny", "hub_id": "lllyasviel/control_v11p_sd15_canny"}


def ignore(done: int, total: int) -> None:
    """Progress nobody watches."""


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


@pytest.fixture(scope="module")
def two(pocket) -> list[Image.Image]:
    return list(Generator(pocket, FAST).paint([WOMAN, WOMAN], [1, 2]))


def test_pictures_have_the_base_s_size(two: list[Image.Image], pocket) -> None:
    assert [image.size for image in two] == [(pocket.resolution, pocket.resolution)] * 2


def test_the_same_seed_gives_the_same_picture_whatever_the_global_generator(pocket, two: list[Image.Image]) -> None:
    torch.manual_seed(77)
    state = torch.get_rng_state()
    again = list(Generator(pocket, FAST).paint([WOMAN, WOMAN], [1, 2]))
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(two, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_gives_another_picture(two: list[Image.Image]) -> None:
    assert np.abs(pixels(two[0]) - pixels(two[1])).mean() > 5


def test_a_batch_that_does_not_fit_is_painted_in_smaller_ones(
    pocket, two: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device whose memory holds two pictures, with guidance four rows, in the UNet at once."""
    forward, seen = type(pocket.unet).forward, list[int]()

    def limited(unet, sample, *arguments, **named):
        if len(sample) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        seen.append(len(sample))
        return forward(unet, sample, *arguments, **named)

    monkeypatch.setattr(type(pocket.unet), "forward", limited)
    limit, painter = 4, Generator(pocket, FAST.model_copy(update={"batch_size": 8}))
    many = list(painter.paint([WOMAN] * 5, [1, 2, 3, 4, 5]))
    assert len(many) == 5
    assert set(seen) == {4, 2}
    assert all(np.abs(pixels(one) - pixels(other)).mean() < 0.5 for one, other in zip(many, two, strict=False))
    limit = 1
    with pytest.raises(OutOfMemoryError, match="Not one picture"):
        next(painter.paint([WOMAN], [1]))


def test_a_picture_hardly_depends_on_its_batch(pocket, two: list[Image.Image]) -> None:
    alone = next(Generator(pocket, FAST).paint([WOMAN], [2]))
    other = list(Generator(pocket, FAST).paint(["a man in an office", WOMAN], [9, 2]))[1]
    for image in (alone, other):
        assert np.abs(pixels(image) - pixels(two[1])).max() <= 2


def test_progress_counts_pictures(pocket) -> None:
    done: list[int] = []
    list(Generator(pocket, FAST).paint([WOMAN] * 3, [1, 2, 3], done.append))
    assert done == [2, 3]


def test_a_smaller_resolution_is_painted(pocket) -> None:
    image = next(Generator(pocket, FAST, resolution=64).paint([WOMAN], [1]))
    assert image.size == (64, 64)


@pytest.mark.parametrize("where", ["prompt", "negative_prompt"])
def test_prompts_of_any_length_are_painted_to_their_last_word(pocket, where: str) -> None:
    def painted(last: str) -> Image.Image:
        long = ", ".join(["a photo of a woman in the kitchen"] * 12 + [last])
        settings = FAST if where == "prompt" else FAST.model_copy(update={"negative_prompt": long})
        return next(Generator(pocket, settings).paint([long if where == "prompt" else WOMAN], [1]))

    assert (pixels(painted("red")) != pixels(painted("blue"))).any()


def test_a_long_neighbour_changes_nothing(pocket) -> None:
    long = ", ".join(["a photo of a man in the office"] * 12)

    pictures = list(Generator(pocket, FAST).paint([WOMAN, long, WOMAN], [1, 2, 1]))

    alone = next(Generator(pocket, FAST).paint([WOMAN], [1]))
    assert (pixels(pictures[0]) == pixels(alone)).all()
    assert (pixels(pictures[2]) == pixels(alone)).all()


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_every_sampler_paints_the_same_picture_from_the_same_seed(pocket, sampler: str) -> None:
    settings = FAST.model_copy(update={"sampler": sampler, "num_inference_steps": 8})

    first, again = (next(Generator(pocket, settings).paint([WOMAN], [1])) for _ in range(2))

    assert (pixels(first) == pixels(again)).all()
    assert pixels(first).std() > 20  # a picture, not a grey field


def test_samplers_differ(pocket) -> None:
    found = {
        next(
            Generator(pocket, FAST.model_copy(update={"sampler": sampler, "num_inference_steps": 4})).paint(
                [WOMAN], [1]
            )
        ).tobytes()
        for sampler in SCHEDULERS
    }
    assert len(found) == len(SCHEDULERS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("euler a", "Euler a"),
        ("dpm++_2m_karras", "DPM++ 2M Karras"),
        ("Euler-Ancestral", "Euler a"),
        ("unipc", "UniPC"),
    ],
)
def test_samplers_go_by_their_common_names(written: str, meant: str) -> None:
    assert GenerationConfig(sampler=written).sampler == meant  # type: ignore[arg-type]


def test_pictures_need_not_be_square(pocket) -> None:
    settings = FAST.model_copy(update={"width": 96, "height": 160})

    assert next(Generator(pocket, settings).paint([WOMAN], [1])).size == (96, 160)


def test_a_second_pass_paints_over_a_larger_picture(pocket) -> None:
    settings = FAST.model_copy(update={"num_inference_steps": 8, "hires_scale": 1.5, "hires_strength": 0.3})

    large = next(Generator(pocket, settings).paint([WOMAN], [1]))

    small = next(Generator(pocket, settings.model_copy(update={"hires_scale": 1.0})).paint([WOMAN], [1]))
    assert large.size == (pocket.resolution * 1.5,) * 2
    near = np.abs(pixels(large.resize(small.size)).astype(float) - pixels(small)).mean()
    other = next(Generator(pocket, settings).paint([WOMAN], [2]))
    far = np.abs(pixels(other.resize(small.size)).astype(float) - pixels(small)).mean()
    assert near < 0.6 * far
    more = next(Generator(pocket, settings.model_copy(update={"hires_strength": 0.8})).paint([WOMAN], [1]))
    assert np.abs(pixels(more.resize(small.size)).astype(float) - pixels(small)).mean() > near


def test_several_controls_are_followed_within_their_range(pocket) -> None:
    controlnet = load_controlnet(find_controlnet("auto", pocket.source, **CANNY), pocket)
    image = Image.new("RGB", (pocket.resolution,) * 2)
    image.paste((255, 255, 255), (20, 20, 24, 100))
    one, half = Control(controlnet, image), Control(controlnet, image, end=0.5)

    def painted(*controls: Control) -> bytes:
        return next(Generator(pocket, FAST, controls).paint([WOMAN], [1])).tobytes()

    found = [painted(), painted(one), painted(half), painted(one, one), painted(one, half)]
    assert len(set(found)) == len(found)
    assert painted(one, replace(one, scale=0.0)) == painted(one)


def test_a_prompt_of_77_tokens_is_read_whole(pocket) -> None:
    assert pocket.encode_prompts([" ".join(["woman"] * 75)]).shape[1] == 77
    assert pocket.encode_prompts([""]).shape[1] == 77


def test_a_file_says_what_made_it(pocket, tmp_path: Path) -> None:
    settings = FAST.model_copy(update={"negative_prompt": "hat"})
    picture = Picture(tmp_path / "deep" / "0.png", WOMAN, 7)
    paint_missing(Generator(pocket, settings), [picture], Weights("lora-4"), ignore)
    own = read_settings(picture.path)
    assert own is not None
    made_with = {"prompt": WOMAN, "negative_prompt": "hat", "seed": 7, "model": "lora-4", "base": "pocket"}
    assert (made_with | {"generated": True}).items() <= own.items()
    with Image.open(picture.path) as image:
        text = image.text
    assert set(text) == {"parameters", "portrayal", "XML:com.adobe.xmp"}
    assert text["parameters"].startswith(f"{WOMAN}\nNegative prompt: hat\nSteps: 2, Sampler: DPM++ 2M")
    assert "Seed: 7" in text["parameters"]
    assert json.loads(text["portrayal"])["guidance_scale"] == 5.0
    assert DIGITAL_SOURCE_TYPE in text["XML:com.adobe.xmp"]


def test_only_missing_pictures_are_painted_and_they_are_the_same(pocket, tmp_path: Path) -> None:
    pictures = [Picture(tmp_path / f"{number}.png", WOMAN, picture_seed(0, "forest", number)) for number in range(3)]
    ticks: list[tuple[int, int]] = []
    paint_missing(Generator(pocket, FAST), pictures, Weights("base"), lambda done, total: ticks.append((done, total)))
    assert ticks == [(0, 3), (2, 3), (3, 3)]
    first = [picture.path.read_bytes() for picture in pictures]
    times = [picture.path.stat().st_mtime_ns for picture in pictures]
    pictures[1].path.unlink()
    ticks.clear()
    paint_missing(Generator(pocket, FAST), pictures, Weights("base"), lambda done, total: ticks.append((done, total)))
    assert ticks == [(1, 3), (3, 3)]
    assert [picture.path.read_bytes() for picture in pictures] == first
    untouched = [picture.path.stat().st_mtime_ns == time for picture, time in zip(pictures, times, strict=True)]
    assert untouched == [True, False, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]


def test_pictures_are_read_back(two: list[Image.Image], tmp_path: Path) -> None:
    two[0].save(tmp_path / "0.png")
    two[1].save(tmp_path / "1.png")
    found = load_pictures([tmp_path / "0.png", tmp_path / "1.png"])
    assert all((pixels(one) == pixels(other)).all() for one, other in zip(found, two, strict=True))


def test_a_control_image_is_kept_to(pocket) -> None:
    """Edges of a picture by the base, painted again at other seeds, with the ControlNet and without."""
    settings = GenerationConfig(num_inference_steps=8, guidance_scale=5.0, batch_size=4)
    reference = next(Generator(pocket, settings).paint(["a photo of a woman on the street"], [5]))
    edges = canny(reference)
    control = Control(load_controlnet(find_controlnet("auto", pocket.source, **CANNY), pocket), edges)

    def agreement(kept: Control | None) -> float:
        images = Generator(pocket, settings, () if kept is None else (kept,)).paint(["a photo of a woman"] * 2, [1, 2])
        wanted = np.asarray(edges.convert("L"))
        return float(np.mean([edge_f1(np.asarray(canny(image).convert("L")), wanted) for image in images]))

    assert agreement(control) > agreement(None) + 0.1


def test_an_unknown_controlnet_is_refused(pocket) -> None:
    with pytest.raises(WeightsError, match="no ControlNet 'cany'"):
        find_controlnet("cany", pocket.source, **CANNY)


def test_a_controlnet_of_another_base_is_refused(pocket, tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    small = {"block_out_channels": (32, 32), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    ControlNetModel(**small, cross_attention_dim=16, attention_head_dim=2).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="made for another base"):
        load_controlnet(find_controlnet(str(tmp_path), pocket.source, **CANNY), pocket)


def test_a_damaged_controlnet_is_said(pocket, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_controlnet(tmp_path, pocket)


def test_canny_draws_white_edges_on_black() -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (16, 16, 48, 48))
    edges = np.asarray(canny(image))
    assert set(np.unique(edges)) == {0, 255}
    assert edges[32, 10].tolist() == [0, 0, 0]
    assert edges[32, 14:19].max() == 255
    assert (np.asarray(canny(Image.new("RGB", (64, 64), "grey"))) == 0).all()


@pytest.mark.parametrize("size", [(300, 200), (100, 400), (64, 64)])
def test_a_square_is_cut_from_the_middle(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "blue")
    middle = (size[0] // 2, size[1] // 2)
    image.paste("red", (middle[0] - 8, middle[1] - 8, middle[0] + 8, middle[1] + 8))
    square = fit(image, (64, 64))
    assert square.size == (64, 64)
    red, _, blue = square.getpixel((32, 32))
    assert red > 200 > 50 > blue


# Wiring ----------------------------------------------------------------------------------------------------------


def test_pictures_painted_again_are_painted_in_the_same_company(pocket, tmp_path: Path) -> None:
    """Beside a prompt of another length too: batches are cut at the same places whatever is missing."""
    long = ", ".join(["a photo of a man in the office"] * 12)
    prompts = [long, WOMAN, WOMAN, WOMAN, WOMAN]
    pictures = [Picture(tmp_path / f"{number}.png", prompt, number) for number, prompt in enumerate(prompts)]
    settings = FAST.model_copy(update={"width": 32, "height": 32})
    sizes: list[int] = []
    hook = pocket.unet.register_forward_hook(lambda *told: sizes.append(len(told[2][0])))
    try:
        paint_missing(Generator(pocket, settings), pictures, Weights("base"), ignore)
        whole, before = list(sizes), pictures[3].path.read_bytes()
        pictures[3].path.unlink()
        sizes.clear()
        paint_missing(Generator(pocket, settings), pictures, Weights("base"), ignore)
    finally:
        hook.remove()
    assert whole == [2, 2, 2, 2, 4, 4, 2, 2]  # with guidance two rows a picture, two steps each
    assert sizes == [4, 4]
    assert pictures[3].path.read_bytes() == before


FULL = GenerationConfig(
    num_inference_steps=3,
    sampler="DPM++ 2M Karras",
    guidance_scale=4.5,
    negative_prompt="hat",
    width=32,
    height=48,
    hires_scale=1.5,
    hires_strength=0.7,
    lora_strength=0.9,
)
PAINTED_BY = Weights(
    "lora-4", "b" * 64, "", (UsedLora("lora-4", "c" * 64, 0.9, own=True), UsedLora("hat", "d" * 64, -0.5))
)


def test_other_tools_read_what_a_picture_was_made_with(pocket) -> None:
    """Every field of a picture that has them all, as AUTOMATIC1111 names it."""
    control = Control(None, Image.new("RGB", (8, 8)), 0.8, "openpose", 0.1, 0.6)
    painter, picture = Generator(pocket, FULL, (control,)), Picture(Path("0.png"), WOMAN, 7)

    with Image.open(BytesIO(with_settings(Image.new("RGB", (48, 72)), picture, painter, PAINTED_BY))) as image:
        prompt, negative, fields = parse_a1111(image.text["parameters"])  # type: ignore[attr-defined]

    assert (prompt, negative) == (f"{WOMAN} <lora:lora-4:0.9> <lora:hat:-0.5>", "hat")
    assert fields == {
        "Steps": "3",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "4.5",
        "Seed": "7",
        "Size": "32x48",
        "Model hash": "b" * 10,
        "Model": "pocket lora-4",
        "Denoising strength": "0.7",
        "Hires upscale": "1.5",
        "Lora hashes": f"lora-4: {'c' * 12}, hat: {'d' * 12}",
        "ControlNet 0": "Module: openpose, Weight: 0.8, Guidance Start: 0.1, Guidance End: 0.6",
        "Version": f"Portrayal {version('portrayal')}",
    }
    full = fields_of(picture, painter, Weights("unet", "b" * 64, "e" * 64))
    assert full["Model hash"] == "e" * 10
    assert "Lora hashes" not in full


def test_a_picture_tells_all_that_it_depends_on(pocket) -> None:
    """Every setting of painting is told, or says here why a picture does not depend on it."""
    elsewhere = {
        "scenes": "the prompt is told",
        "num_images_per_scene": "the seed is told",
        "batch_size": "changes nothing but the rounding",
    }
    assert {*PAINTING, "width", "height", *elsewhere} == set(GenerationConfig.model_fields)
    control = Control(None, Image.new("RGB", (8, 8), "white"), 0.8, "openpose", 0.1, 0.6)
    picture = Picture(Path("0.png"), WOMAN, 7)

    with Image.open(
        BytesIO(with_settings(Image.new("RGB", (48, 72)), picture, Generator(pocket, FULL, (control,)), PAINTED_BY))
    ) as image:
        own = json.loads(image.text["portrayal"])  # type: ignore[attr-defined]

    values = FULL.model_dump()
    assert {name: own[name] for name in (*PAINTING, "width", "height")} == {
        name: values[name] for name in (*PAINTING, "width", "height")
    }
    assert (own["prompt"], own["seed"], own["model"], own["base"]) == (WOMAN, 7, "lora-4", "pocket")
    assert (own["base_hash"], own["unet_hash"]) == ("b" * 64, "")
    assert own["loras"] == [
        {"name": "lora-4", "hash": "c" * 64, "strength": 0.9, "own": True},
        {"name": "hat", "hash": "d" * 64, "strength": -0.5, "own": False},
    ]
    (kept,) = own["controls"]
    assert {key: kept[key] for key in ("kind", "scale", "start", "end")} == {
        "kind": "openpose", "scale": 0.8, "start": 0.1, "end": 0.6
    }  # fmt: skip
    assert kept["image"] == image_hash(control.image) != image_hash(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize(("low", "high"), [(10, 40), (100, 200), (200, 255)])
def test_canny_s_thresholds_are_those_of_the_settings(low: int, high: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
    settings = ControlConfig(low_threshold=low, high_threshold=high)

    edges = CONTROL_KINDS["canny"].annotate(image, settings, None)  # type: ignore[arg-type]

    expected = cv2.Canny(np.asarray(image.convert("L")), low, high)
    assert (np.asarray(edges.convert("L")) == expected).all()
    agreement = CONTROL_KINDS["canny"].agreement([image], edges, settings, None)
    assert agreement is not None
    assert agreement.tolist() == [1]
    assert expected.any()


def test_pixels_are_rounded_to_the_nearest_of_256_levels() -> None:
    levels = torch.tensor([0.0, 100.4, 100.6, 254.7])
    (image,) = Painted((levels / 255).expand(1, 3, 1, 4)).fetch()
    assert np.asarray(image)[0, :, 0].tolist() == [0, 100, 101, 255]
