"""Encoded images: image files, and shards of TFRecord, tar and Parquet."""

from pipelines.formats.parquet import ParquetFiles
from pipelines.formats.shards import Shards
from pipelines.formats.tar import Tars
from pipelines.formats.tfrecord import TFRecords

SHARDS: tuple[Shards, ...] = (TFRecords(), Tars(), ParquetFiles())
