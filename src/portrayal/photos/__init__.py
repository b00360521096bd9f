"""From phone photos to upright square pictures with captions and a held-out split."""

from portrayal.photos.prepare import Prepared, PreparedPhoto, prepare_photos
from portrayal.photos.read import Finding, RawPhoto, read_photo
from portrayal.photos.settings import PrepareSettings
from portrayal.photos.sources import find_photos

__all__ = [
    "Finding",
    "PrepareSettings",
    "Prepared",
    "PreparedPhoto",
    "RawPhoto",
    "find_photos",
    "prepare_photos",
    "read_photo",
]
