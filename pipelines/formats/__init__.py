"""Formats of input: one file each, and one line each in the registry below."""

from pipelines.formats.images import ImageFiles
from pipelines.formats.parquet import ParquetFiles
from pipelines.formats.shards import Shards
from pipelines.formats.tar import Tars
from pipelines.formats.tfrecord import TFRecords
from pipelines.run.interface import Format
from pipelines.scenes.format import Scenes

# A file belongs to the first format that claims it.
SHARDS: tuple[Shards, ...] = (TFRecords(), Tars(), ParquetFiles())
