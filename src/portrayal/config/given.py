"""What a run is given: who is in the photos, the base, and how photos become training pictures."""

from __future__ import annotations

from typing import Literal

from PIL import ImageColor
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from portrayal.config.section import Section

PEOPLE = frozenset(
    {"person", "human", "adult", "woman", "man", "girl", "boy", "lady", "gentleman", "guy", "child", "kid", "baby"}
    | {"toddler", "teenager", "mother", "father", "sister", "brother", "daughter", "son", "wife", "husband", "bride"}
    | {"groom", "grandmother", "grandfather", "actor", "actress", "singer", "dancer", "model", "athlete", "player"}
    | {"doctor", "nurse", "soldier", "king", "queen", "prince", "princess"}
)
"""Nouns of people, whose faces tell them apart."""


class SubjectConfig(Section):
    """Who is in the photos, and the words that call them up."""

    instance_token: str = Field("sks", min_length=1)
    """A rare word that comes to mean the subject."""

    class_noun: str = Field("person", min_length=1)
    """What the subject is: `woman`, `man`, `person`, `dog`. The class is what prior preservation protects."""

    instance_prompt: str = "a photo of {token} {noun}"
    """Caption of a photo that has no `.txt` beside it; `{token}` and `{noun}` are filled in."""

    class_prompt: str = "a photo of a {noun}"
    """Prompt of the class images for prior preservation; `{noun}` is filled in."""

    @property
    def person(self) -> bool:
        """Whether the noun is a person's."""
        return bool(set(self.class_noun.lower().split()) & PEOPLE)

    @property
    def subject(self) -> str:
        """The words that name the subject in a prompt, such as `sks woman`."""
        return f"{self.instance_token} {self.class_noun}"

    @property
    def filled_instance_prompt(self) -> str:
        """The instance prompt with its placeholders filled in."""
        return self.instance_prompt.replace("{token}", self.instance_token).replace("{noun}", self.class_noun)

    @property
    def filled_class_prompt(self) -> str:
        """The class prompt with its placeholder filled in."""
        return self.class_prompt.replace("{noun}", self.class_noun)


class BaseConfig(Section):
    """The text-to-image model that is tuned."""

    name: str = "auto"
    """`pocket` (embedded), `sd15`, a hub id, a diffusers folder or a `.safetensors` file. `auto` chooses."""

    revision: str | None = None
    """Commit, branch or tag of a hub id; nothing means its default branch."""

    config: str | None = None
    """Diffusers folder or hub id whose configs and tokenizer a `.safetensors` file is read with (SD 1.5's)."""

    vae: str | None = None
    """Hub id, diffusers folder or `.safetensors` file of an autoencoder to use instead of the base's own."""

    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the base predicts, where its files do not tell; nothing believes them."""

    resolution: PositiveInt | None = None
    """Side of the training pictures in pixels, a multiple of 8; nothing means the base's own."""

    @field_validator("resolution")
    @classmethod
    def _multiple_of_eight(cls, value: int | None) -> int | None:
        if value is not None and value % 8:
            raise ValueError(f"must be a multiple of 8, such as {max(8, value // 8 * 8)}")
        return value


class PrepareConfig(Section):
    """How photos become training pictures."""

    num_heldout: PositiveInt | None = None
    """Photos kept out of a training to judge it by. Nothing deals all photos over the study's folds; where it has one
    fold, it means a fifth, four at most."""

    min_photos: int = Field(3, ge=3)
    """Fewer usable photos than this stop the run."""

    drop: tuple[str, ...] = ()
    """Names of photos to leave out, as `portrayal prepare --check` advises."""

    keep: tuple[str, ...] = ()
    """Names of photos to train on whatever the check says of them."""

    strict: bool = False
    """Stop before training when the advice is to drop a photo that `keep` does not name."""

    background: str = "white"
    """Colour under what is transparent in a photo: a name or `#rrggbb`."""

    crops: Literal["one", "several"] = "one"
    """Squares of each photo: `one` is the largest; `several` adds, where a face is found and nothing need be enlarged,
    head and shoulders, and down to the waist. Photos to judge by have the largest alone."""

    shape: Literal["square", "bucket"] = "square"
    """What photos to train on become: squares, or the shape nearest to their own of those with the square's area, sides
    in eighths of the resolution. Photos to judge by are squares."""

    crop: dict[str, tuple[NonNegativeInt, NonNegativeInt, PositiveInt]] = {}  # noqa: RUF012 - each config gets a copy
    """Squares chosen by hand, by the photo's name: left, top and side in pixels of the upright photo."""

    captions: Literal["template", "captioner"] = "template"
    """Captions of photos that bring none: `template` is the instance prompt for all; `captioner` adds what each photo
    shows besides the subject (clothes, place, framing), so that the instance token stands for the subject alone."""

    masks: Literal["given", "model"] = "given"
    """Masks for `training.background_loss_weight`: `given` are those beside the photos; `model` has CLIPSeg (fetched)
    find the class noun in photos that have none."""

    @field_validator("background")
    @classmethod
    def _known_colour(cls, value: str) -> str:
        ImageColor.getrgb(value)
        return value
