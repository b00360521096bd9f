"""English captions of a picture, in many wordings."""

from collections.abc import Sequence

import numpy as np

from pretraining.world.people import HairStyle, Person
from pretraining.world.shots import Shot

SCENE_PHRASES: dict[str, tuple[str, ...]] = {
    "street": ("on the street", "on a street", "in the street", "on a city street"),
    "football": ("playing football", "on a football field", "on a football pitch", "at a football match"),
    "kitchen": ("in a kitchen", "in the kitchen", "cooking in the kitchen"),
    "office": ("in an office", "in the office", "at the office", "working in an office"),
    "forest": ("in a forest", "in the forest", "in the woods", "walking in the forest"),
    "beach": ("on a beach", "on the beach", "at the beach", "by the sea"),
    "snow": ("in the snow", "in the snowy mountains", "on a snowy mountain", "in winter snow"),
    "library": ("in a library", "in the library", "at the library", "reading in a library"),
    "park": ("in a park", "in the park", "at the park", "walking in a park"),
    "bedroom": ("in a bedroom", "in the bedroom", "in her bedroom", "in a cozy bedroom"),
}
"""What each scene is called."""

_OPENINGS = ("a photo of a {}", "a photo of a {}", "a photo of a {}", "a portrait of a {}", "a picture of a {}",
             "photo of a {}",
             "a close photo of a {}", "a {}")  # fmt: skip

_HAIR: dict[HairStyle, tuple[str, ...]] = {
    "short": ("short {} hair",),
    "long straight": ("long straight {} hair", "long {} hair"),
    "long wavy": ("long wavy {} hair", "wavy {} hair"),
    "curly": ("curly {} hair",),
    "bun": ("{} hair in a bun", "a {} bun"),
    "ponytail": ("{} hair in a ponytail", "a {} ponytail"),
    "bob": ("a {} bob", "{} hair in a bob"),
    "bald": ("a bald head", "no hair"),
    "spiky": ("spiky {} hair",),
    "fringe": ("{} hair with a fringe", "a {} fringe"),
    "braids": ("{} braids", "{} hair in braids"),
}

_MOODS: dict[str, tuple[str, ...]] = {
    "neutral": ("looking calm", "looking at the camera"),
    "smiling": ("smiling", "with a smile"),
    "laughing": ("laughing", "smiling widely"),
    "surprised": ("looking surprised", "with a surprised face"),
}

_BEARDS = {"stubble": "stubble", "full": "a beard", "goatee": "a goatee", "moustache": "a moustache"}

MOST_WORDS = 25


def captions(person: Person, shot: Shot, rng: np.random.Generator, count: int) -> list[str]:
    """Describe one picture several times.

    Args:
        person: Who is in it.
        shot: Where and how.
        rng: Chooses what is said and in which words.
        count: How many captions.

    Returns:
        ``count`` captions in lower case, 4 to 25 words each; a tenth of them say only what class of thing it is.
    """
    return [_caption(person, shot, rng) for _ in range(count)]


def _caption(person: Person, shot: Shot, rng: np.random.Generator) -> str:
    noun = person.gender if rng.random() < 0.8 else "person"
    if rng.random() < 0.1:
        return f"a photo of a {noun}"
    while True:
        parts = [_choose(rng, _OPENINGS).format(noun), *_said(person, shot, rng)]
        words = " ".join(parts).split()
        if 4 <= len(words) <= MOST_WORDS:
            return " ".join(words)


def _said(person: Person, shot: Shot, rng: np.random.Generator) -> list[str]:
    """Looks, clothes, mood and scene, each present with some probability."""
    parts = []
    looks = _looks(person, rng)
    if looks:
        parts.append("with " + _joined(looks))
    if rng.random() < 0.5:
        parts.append(_clothes(shot, rng))
    if rng.random() < (0.25 if shot.expression == "neutral" else 0.5):
        parts.append(_choose(rng, _MOODS[shot.expression]))
    if rng.random() < 0.945:  # 85 % of all captions, with the tenth that are very short
        phrase = _choose(rng, SCENE_PHRASES[shot.scene])
        scene = phrase.replace("her", "his") if person.gender == "man" and phrase == "in her bedroom" else phrase
        parts.insert(0 if rng.random() < 0.2 else len(parts), scene)
    return parts


def _looks(person: Person, rng: np.random.Generator) -> list[str]:
    looks = []
    if rng.random() < 0.5:
        looks.append(_choose(rng, _HAIR[person.hair_style]).format(person.hair_name))
    if person.glasses is not None and rng.random() < 0.6:
        looks.append(
            _choose(rng, ("glasses", f"{person.glasses} glasses", f"{person.glasses} {person.glasses_name} glasses"))
        )
    if person.beard is not None and rng.random() < 0.6:
        looks.append(_BEARDS[person.beard])
    if person.freckles and rng.random() < 0.3:
        looks.append("freckles")
    if person.earrings is not None and rng.random() < 0.3:
        looks.append("earrings")
    return looks


def _clothes(shot: Shot, rng: np.random.Generator) -> str:
    article = "an" if shot.clothes_name == "orange" else "a"
    pattern = "striped " if shot.clothes == "sweater" and rng.random() < 0.4 else ""
    return f"{_choose(rng, ('wearing', 'in'))} {article} {shot.clothes_name} {pattern}{shot.clothes}"


def _joined(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
