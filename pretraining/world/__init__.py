"""A drawn world: people that no one has met, in ten scenes, with captions."""

from pretraining.world.captions import SCENE_PHRASES, captions
from pretraining.world.draw import draw, draw_canvas
from pretraining.world.palette import CLOTHES_COLOURS, HAIR_COLOURS
from pretraining.world.people import HAIR_STYLES, Person, sample_person
from pretraining.world.shots import SCENES, Shot, sample_shot

__all__ = [
    "CLOTHES_COLOURS",
    "HAIR_COLOURS",
    "HAIR_STYLES",
    "SCENES",
    "SCENE_PHRASES",
    "Person",
    "Shot",
    "captions",
    "draw",
    "draw_canvas",
    "sample_person",
    "sample_shot",
]
