import numpy as np
from PIL import Image
from skimage import data

from portrayal.photos.inspect import near_duplicates, perceptual_bits, pixel_hash

ASTRONAUT = Image.fromarray(data.astronaut())


def test_pixel_hash_sees_size_and_every_pixel() -> None:
    changed = ASTRONAUT.copy()
    changed.putpixel((0, 0), (1, 2, 3))

    assert pixel_hash(ASTRONAUT) == pixel_hash(ASTRONAUT.copy())
    assert pixel_hash(ASTRONAUT) != pixel_hash(changed)
    # Equal bytes of another shape: without the size in the hash these two would be one.
    assert pixel_hash(Image.new("RGB", (4, 2))) != pixel_hash(Image.new("RGB", (2, 4)))


def test_the_same_shot_is_near_and_another_is_not() -> None:
    again = ASTRONAUT.resize((300, 300)).crop((3, 3, 297, 297))
    bits = {
        "shot": perceptual_bits(ASTRONAUT),
        "again": perceptual_bits(again),
        "cat": perceptual_bits(Image.fromarray(data.chelsea())),
        "coffee": perceptual_bits(Image.fromarray(data.coffee())),
    }

    assert near_duplicates(bits) == {"again": "shot"}


def test_likeness_is_passed_on_in_whatever_order_it_is_found() -> None:
    def bits(ones: int) -> np.ndarray:
        return np.arange(256) < ones

    # a–b and b–c are 40 apart, a–c 80; b comes last and joins two groups.
    assert near_duplicates({"a": bits(0), "c": bits(80), "b": bits(40)}) == {"c": "a", "b": "a"}
    assert near_duplicates({"a": bits(0), "c": bits(80)}) == {}
    assert near_duplicates({}) == {}
