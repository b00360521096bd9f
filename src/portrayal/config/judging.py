"""How models are judged: how often each is measured, by whom, and by how little two of them count as equal."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from portrayal.config.section import Section


class EvaluationConfig(Section):
    """How models are judged, all on the same random numbers."""

    num_timesteps: int = Field(20, ge=2, le=1000)
    """Strata of the timestep range; each held-out photo is read once or more in each."""

    num_noises: PositiveInt = 2
    """Noise draws in each stratum, in antithetic pairs."""

    identity: str = "auto"
    """Who tells the person from others in photographs: `auraface` or `sface` (faces), `dinov2` (the whole picture), or
    an ONNX file of an ArcFace-like recogniser, whose terms are yours to keep: many are for research only. `auto` takes
    the first that can be had, for people; for others `dinov2`. `pocket` has its own."""

    margin_heldout_loss: PositiveFloat = 0.001
    """Held-out losses closer than this fraction count as equal."""

    margin_identity: PositiveFloat = 0.02
    """Identity cosines closer than this count as equal."""

    margin_prompt: PositiveFloat = 0.005
    """Prompt cosines closer than this count as equal."""

    margin_drift: PositiveFloat = 0.05
    """Cosines of the class's pictures to the person closer than this count as equal."""

    margin_colour: PositiveFloat = 2.0
    """Lightness this near to the photos and the base's pictures, in L*, counts as right; an eye notices about 2."""
