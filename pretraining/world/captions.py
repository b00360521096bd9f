"""English captions of a picture, in many wordings."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from pretraining.world.labels import hair_colour_shows, hair_style_shows, held
from pretraining.world.people import HairStyle, Person
from pretraining.world.shots import Clothes, Framing, Pose, Shot

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
    "cafe": ("in a cafe", "in the cafe", "at a cafe", "in a coffee shop"),
    "gym": ("in a gym", "in the gym", "at the gym", "training in a gym"),
    "classroom": ("in a classroom", "in the classroom", "in front of a blackboard", "at school"),
    "concert": ("at a concert", "on stage at a concert", "on a concert stage", "on stage"),
    "museum": ("in a museum", "in the museum", "at the museum", "in an art museum"),
    "supermarket": ("in a supermarket", "in the supermarket", "at the supermarket", "shopping in a supermarket"),
    "desert": ("in a desert", "in the desert", "in the sandy desert", "among the dunes of a desert"),
    "harbour": ("in a harbour", "in the harbour", "at the harbour", "by the boats in a harbour"),
}
"""What each scene is called."""

MOST_WORDS = 40

_Choice = TypeVar("_Choice")

_PLACES: dict[str, str] = {
    "football": "football field",
    "concert": "concert stage",
    "snow": "snowy mountains",
}
"""A scene's bare name where it differs from its key."""

_OPENINGS = (
    "a photo of {}", "a photo of {}", "a photo of {}", "a picture of {}", "photo of {}", "an image of {}", "{}",
)  # fmt: skip

_FRAMED: dict[Framing, tuple[str, ...]] = {
    "head": ("a close-up photo of {}", "a close-up of {}", "a close-up portrait of {}", "a head shot of {}",
             "a photo of the face of {}"),
    "half": ("a half-length portrait of {}", "a half-length photo of {}", "an upper body photo of {}",
             "a half body photo of {}", "a portrait of {}"),
    "whole": ("a full body photo of {}", "a full body picture of {}", "a full-length photo of {}",
              "a whole body photo of {}", "a full body shot of {}"),
}  # fmt: skip

_AGES: dict[str, tuple[str, ...]] = {
    "young": ("young",),
    "middle-aged": ("middle-aged",),
    "old": ("old", "old", "elderly"),
}

# the first wording of each style fits no other
_HAIR: dict[HairStyle, tuple[str, ...]] = {
    "short": ("short {} hair",),
    "long straight": ("long straight {} hair", "long {} hair", "straight long {} hair"),
    "long wavy": ("long wavy {} hair", "wavy {} hair"),
    "curly": ("curly {} hair", "{} curls"),
    "bun": ("{} hair in a bun", "a {} bun"),
    "ponytail": ("{} hair in a ponytail", "a {} ponytail"),
    "bob": ("a {} bob", "{} hair in a bob", "a {} bob haircut"),
    "bald": ("a bald head", "no hair"),
    "spiky": ("spiky {} hair",),
    "fringe": ("{} hair with a fringe", "a {} fringe"),
    "braids": ("{} braids", "{} hair in braids"),
    "mohawk": ("a {} mohawk", "{} hair in a mohawk"),
    "pigtails": ("{} pigtails", "{} hair in pigtails"),
}

_MOODS: dict[str, tuple[str, ...]] = {
    "neutral": ("looking calm", "with a calm face", "looking at the camera"),
    "smiling": ("smiling", "with a smile"),
    "laughing": ("laughing", "laughing out loud"),
    "surprised": ("looking surprised", "with a surprised face"),
    "sad": ("looking sad", "with a sad face"),
    "angry": ("looking angry", "with an angry face"),
}

_POSES: dict[Pose, tuple[str, ...]] = {
    "standing": ("standing", "standing still", "standing with arms down"),
    "arms raised": ("with arms raised", "with both arms raised", "arms raised", "raising both arms", "with {} arms up"),
    "waving": ("waving", "waving a hand", "waving hello", "waving at the camera"),
    "hands on hips": ("with hands on hips", "hands on hips", "with {} hands on the hips"),
    "kicking": ("kicking", "doing a kick", "kicking with one leg"),
    "sitting": ("sitting", "sitting down", "seated"),
    "walking": ("walking", "walking along", "taking a walk"),
}

_BEARDS = {"stubble": "stubble", "full": "a beard", "goatee": "a goatee", "moustache": "a moustache"}

_HELD = {
    "cup": "a cup",
    "book": "a book",
    "phone": "a phone",
    "flowers": "flowers",
    "balloon": "a balloon",
    "umbrella": "an umbrella",
}

_LONG: tuple[Clothes, ...] = ("dress", "coat")
"""Garments below which nothing else is named."""


def captions(person: Person, shot: Shot, rng: np.random.Generator, count: int) -> list[str]:
    """Describe one picture several times.

    Args:
        person: Who is in it.
        shot: Where and how.
        rng: Chooses what is said and in which words.
        count: How many captions.

    Returns:
        ``count`` captions in lower case, at most 40 words each, that say only what the picture shows; one in twelve
        says no more than what class of thing it is.
    """
    return [_Speaker(person, shot, rng).caption() for _ in range(count)]


def prompt_for(person: Person, shot: Shot, rng: np.random.Generator) -> str:
    """A caption that surely names what is judged, where the picture shows it.

    Named are gender, framing, scene, colour, pattern and kind of the clothes, colour and style of the hair, glasses
    or none, a hat, and the pose.
    """
    return _Speaker(person, shot, rng, sure=True).caption()


class _Speaker:
    """Says one caption; with ``sure``, leaves out nothing of what is judged."""

    def __init__(self, person: Person, shot: Shot, rng: np.random.Generator, sure: bool = False) -> None:
        self.person, self.shot, self.rng, self.sure = person, shot, rng, sure

    def caption(self) -> str:
        """A sentence, a list with commas, or only the class."""
        if not self.sure and self.rng.random() < 0.08:
            return f"a photo of a {self.noun()}"
        while True:
            text = self.listed() if self.happens(0.17) else self.sentence()
            if len(text.split()) <= MOST_WORDS:
                return text

    def sentence(self) -> str:
        """An opening and phrases in one of several orders."""
        subject = _with_article(" ".join([*self.age(), self.noun()]))
        phrases = [self.looks(), self.clothes(), self.holding(), self.mood()]
        place, pose = self.scene(), self.pose()
        if self.happens(0.5):
            phrases = [pose, place, *phrases] if self.happens(0.6) else [place, *phrases, pose]
        else:
            phrases = [*phrases[:2], pose, *phrases[2:], place] if self.happens(0.6) else [pose, *phrases, place]
        said = [phrase for phrase in phrases if phrase]
        return (", " if len(said) > 2 and self.happens(0.4) else " ").join([self.opening().format(subject), *said])

    def listed(self) -> str:
        """The way prompts are often typed: ``woman, kitchen, red shirt``."""
        subject = " ".join([*self.age(), self.noun()])
        framed = self.names(0.55)
        if framed:
            opening = self.choose(_FRAMED[self.shot.framing]).removeprefix("an ").removeprefix("a ")
            first = opening.format(_with_article(subject) if self.happens(0.7) else subject)
        else:
            first = self.choose((f"photo of a {self.noun()}", f"a photo of {_with_article(subject)}", subject, subject))
        rest = [*self.look_items(), *self.garments(), self.holding(), self.pose(), self.mood()]
        place = self.scene() if self.happens(0.4) else self.place()
        said = [part.removeprefix("an ").removeprefix("a ") for part in rest if part]
        said.insert(0 if self.happens(0.5) else len(said), place)
        return ", ".join([first, *(part for part in said if part)])

    def opening(self) -> str:
        """With the framing or without."""
        return self.choose(_FRAMED[self.shot.framing] if self.names(0.55) else _OPENINGS)

    def noun(self) -> str:
        """Woman or man, sometimes person."""
        return self.person.gender if self.names(0.84) else "person"

    def age(self) -> list[str]:
        """An adjective, or none."""
        return [self.choose(_AGES[self.person.age])] if self.happens(0.55) else []

    def looks(self) -> str:
        """Hair and face, as ``with ...``."""
        items = self.look_items()
        if items and items[-1] == "without glasses":
            rest = f"with {_joined(items[:-1])} and " if len(items) > 1 else ""
            return f"{rest}without glasses"
        return f"with {_joined(items)}" if items else ""

    def look_items(self) -> list[str]:
        """What hair and face show, the lack of glasses last."""
        person, items = self.person, []
        if self.names(0.62):
            items += self.hair()
        if person.glasses is not None and self.names(0.62):
            kind = person.glasses
            items.append(
                self.choose(("glasses", "glasses", f"{kind} glasses", f"{kind} {person.glasses_name} glasses"))
            )
        if person.beard is not None and self.happens(0.6):
            items.append(_BEARDS[person.beard])
        if person.freckles and self.happens(0.3):
            items.append("freckles")
        if person.earrings is not None and self.happens(0.25):
            items.append("earrings")
        if person.glasses is None and self.names(0.2):
            items.append("without glasses")
        return items

    def hair(self) -> list[str]:
        """As much of it as the picture tells."""
        if hair_style_shows(self.person, self.shot):
            wordings = _HAIR[self.person.hair_style]
            return [(wordings[0] if self.sure else self.choose(wordings)).format(self.person.hair_name)]
        return [f"{self.person.hair_name} hair"] if hair_colour_shows(self.person, self.shot) else []

    def clothes(self) -> str:
        """Garments, as ``wearing ...``."""
        items = self.garments()
        return f"{self.choose(('wearing', 'wearing', 'in'))} {_joined(items)}" if items else ""

    def garments(self) -> list[str]:
        """The upper garment, what is below it, the hat."""
        shot, items = self.shot, []
        if self.names(0.62):
            patterned = shot.pattern != "plain"
            pattern = [shot.pattern] if (self.names(0.9) if patterned else self.happens(0.08)) else []
            items.append(_with_article(" ".join([shot.clothes_name, *pattern, shot.clothes])))
        if shot.framing == "whole" and shot.clothes not in _LONG and self.happens(0.3):
            items.append("a skirt" if shot.bottoms == "skirt" else shot.bottoms)
        if shot.hat is not None and self.names(0.62):
            items.append(_with_article(f"{shot.hat_name} {shot.hat}"))
        return items

    def holding(self) -> str:
        """What is in the hand."""
        thing = held(self.shot)
        return f"holding {_HELD[thing]}" if thing is not None and self.happens(0.62) else ""

    def mood(self) -> str:
        """The expression."""
        return self.choose(_MOODS[self.shot.expression]) if self.happens(self._mood_share()) else ""

    def _mood_share(self) -> float:
        return 0.35 if self.shot.expression == "neutral" else 0.62

    def pose(self) -> str:
        """What the body does, where it is seen."""
        if self.shot.framing == "head" or not self.names(0.5 if self.shot.pose == "standing" else 0.65):
            return ""
        return self.choose(_POSES[self.shot.pose]).format("her" if self.person.gender == "woman" else "his")

    def scene(self) -> str:
        """Where it is; nobody seen in another pose is said to walk."""
        if not self.names(0.93):
            return ""
        walks = self.shot.framing == "head" or self.shot.pose == "walking"
        phrases = [text for text in SCENE_PHRASES[self.shot.scene] if walks or not text.startswith("walking")]
        phrase = self.choose(phrases)
        return phrase.replace("her", "his") if self.person.gender == "man" and phrase == "in her bedroom" else phrase

    def place(self) -> str:
        """The scene's bare name."""
        return _PLACES.get(self.shot.scene, self.shot.scene) if self.names(0.93) else ""

    def names(self, share: float) -> bool:
        """Whether to name something that is judged."""
        return self.happens(share) or self.sure

    def happens(self, share: float) -> bool:
        """True in a ``share`` of all cases."""
        return bool(self.rng.random() < share)

    def choose(self, options: Sequence[_Choice]) -> _Choice:
        """One of several wordings."""
        return options[int(self.rng.integers(len(options)))]


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _joined(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
