"""The embedded base: a small real text-to-image model of a drawn world, in SD 1.5's classes and folder layout."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""A diffusers folder (`vae`, `text_encoder`, `tokenizer`, `unet`, `scheduler`) with `controlnet_canny`, `clip` and
`identity` beside them; how it was made stands in its `README.md`."""
