"""Encoded images: image files, and shards of TFRecord, tar and Parquet."""

from pipelines.formats.parquet import ParquetFormat
from pipelines.formats.shards import ShardFormat
from pipelines.formats.tar import TarFormat
from pipelines.formats.tfrecord import TFRecordFormat

SHARDS: tuple[ShardFormat, ...] = (TFRecordFormat(), TarFormat(), ParquetFormat())
