"""The registry of formats: one line each."""

from pipelines.formats import SHARDS
from pipelines.formats.images import ImageFormat
from pipelines.formats.interface import Format
from pipelines.scenes.format import SceneFormat

# A file belongs to the first format that claims it.
FORMATS: tuple[Format, ...] = (*SHARDS, SceneFormat(), ImageFormat())


def find_format(name: str) -> Format:
    """The format of this name."""
    return next(entry for entry in FORMATS if entry.name == name)
