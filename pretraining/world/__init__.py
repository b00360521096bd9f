"""A drawn world: people that no one has met, in eighteen scenes and seven poses, with captions and labels."""

from pretraining.world.captions import SCENE_PHRASES, captions
from pretraining.world.draw import draw, draw_canvas, draw_group
from pretraining.world.labels import LABELS, labels
from pretraining.world.palette import CLOTHES_COLOURS, HAIR_COLOURS
from pretraining.world.people import HAIR_STYLES, Person, sample_person
from pretraining.world.pose import keypoints
from pretraining.world.shots import FRAMINGS, POSES, SCENES, Shot, sample_shot

__all__ = [
    "CLOTHES_COLOURS",
    "FRAMINGS",
    "HAIR_COLOURS",
    "HAIR_STYLES",
    "LABELS",
    "POSES",
    "SCENES",
    "SCENE_PHRASES",
    "Person",
    "Shot",
    "captions",
    "draw",
    "draw_canvas",
    "draw_group",
    "keypoints",
    "labels",
    "sample_person",
    "sample_shot",
]
