"""The embedded base: a small real text-to-image model of a drawn world, in SD 1.5's classes and folder layout."""

from pathlib import Path

from portrayal.errors import WeightsError

WEIGHTS = Path(__file__).parent / "weights"
"""A diffusers folder (`vae`, `text_encoder`, `tokenizer`, `unet`, `scheduler`) with `controlnet_canny`,
`controlnet_openpose`, `clip`, `identity` and `pose` beside them; how it was made stands in its `README.md`."""


def embedded_folder(name: str) -> Path:
    """A folder among the weights.

    Raises:
        WeightsError: If this installation lacks it.
    """
    folder = WEIGHTS / name
    if not (folder / "config.json").is_file():
        raise WeightsError(f"The embedded {name} is missing from {WEIGHTS}.", "Install portrayal again.")
    return folder


CLOTHES = tuple(
    f"wearing {'an' if colour == 'orange' else 'a'} {colour} {kind}"
    for colour in ("red", "blue", "green", "yellow", "black", "white", "purple", "orange")
    for kind in ("t-shirt", "shirt", "hoodie", "sweater", "jacket", "coat", "dress")
)
"""What the people of the drawn world wear, in words `pocket` knows."""

FRAMINGS = ("close-up", "half body", "full body")
"""How much of a person a picture of the drawn world shows, in words `pocket` knows."""

PLACES = (
    "on the street", "on a football field", "in the kitchen", "in the office", "in the forest", "on the beach",
    "in the snow", "in the library", "in the park", "in the bedroom", "in the cafe", "in the gym", "in the classroom",
    "on a concert stage", "in the museum", "in the supermarket", "in the desert", "in the harbour",
)  # fmt: skip
"""Where the people of the drawn world are, in words `pocket` knows."""
