"""Training data by a configuration: pairs in folders, and shards as `beamseg pack` writes them."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import zip_longest

from pipelines.formats import SHARDS
from pipelines.formats.shards import ShardFormat, ShardSample, UnreadableSample, printable_name
from pipelines.formats.work import ReadOptions
from pipelines.inputs.listing import find_files
from pipelines.inputs.numbered import missing_shards, warning_of
from pipelines.rasters.reach import Reach
from pipelines.run.plan import InputFile
from pipelines.storage import locations
from segmodel.devices.disks import Spool, free_bytes_of, temporary_folder
from segmodel.errors import ConfigurationError, DiskError, InputError, is_transient
from segmodel.labels.masks import MaskReader
from segmodel.pairs.paired_files import match_group, pair_files, unique_names
from segmodel.pairs.pairs import (
    CACHE_BYTES,
    EncodedFile,
    EncodedPair,
    Pair,
    PairCache,
    PairSource,
    TrainingData,
)
from segmodel.rasters.opening import Opener
from segmodel.training.configuration import Configuration

_log = logging.getLogger("beamseg")

_MIB = 1 << 20
_MAX_FAULTS = 10
# What readers of shards advise names an option that training does not have.
_OTHER_ADVICE = re.compile(r": [^:]*--image_field.*$")

# Pairs for training, and for validation.
Sides = tuple[list[Pair], list[Pair]]


@dataclass(frozen=True)
class _Shard:
    """A shard of pairs.

    Args:
        file: File of the shard.
        format: Format of the shard.
        side: 0 for training, 1 for validation.
    """

    file: InputFile
    format: ShardFormat
    side: int


def _check_room(shards: Sequence[_Shard]) -> None:
    """Refuse shards whose copy cannot fit; a compressed one takes its own size at the least.

    Raises:
        DiskError: If there is not as much room.
    """
    folder, needed = temporary_folder(), sum(shard.file.size for shard in shards)
    free = free_bytes_of(folder)
    if needed > free:
        raise DiskError(
            f"the copy of the shards needs {needed / _MIB:,.0f} MiB, and {free / _MIB:,.0f} MiB "
            f"are left: make room there, or set TMPDIR to a folder on another disk",
            name=folder,
        )


@contextmanager
def read_data(
    config: Configuration, without_validation: bool = False, is_trusted: bool = False
) -> Iterator[TrainingData]:
    """Open the pairs for training and for validation, of folders and of shards, for a block.

    Folders are only listed. Encoded images and label maps of shards are copied to a temporary file
    in the folder that `TMPDIR` names, which is gone after the block: what is compressed can only be
    read from front to back, and so samples of all containers are read alike, in any order.

    Args:
        config: Settings of the run.
        without_validation: Whether there may be nothing to validate on.
        is_trusted: Whether images and masks may name other files, wherever those are.

    Yields:
        The pairs, which are read and decoded when they are asked for.

    Raises:
        ConfigurationError: If there is nothing to train on or to validate on, files cannot be told
            apart, or a file is for training and validation.
        DiskError: If there is no room for the copy.
        InputError: If an image has no mask, a shard is broken, or a sample cannot be read; names
            the file and the sample.
    """
    data = config.data
    if not data.has_training:
        raise ConfigurationError("data.images or data.shards must name something to train on")
    if not data.has_validation and not without_validation:
        raise ConfigurationError(
            "data.validation_images or data.validation_shards must name something to validate on"
        )
    cache = PairCache(data.cache_mb * _MIB)
    found = _folder_pairs(config, cache, is_trusted)
    with closing(Spool()) as copy:
        packed = _shard_pairs(config, cache, copy)
        yield TrainingData((*found[0], *packed[0]), (*found[1], *packed[1]))


def _folder_pairs(config: Configuration, cache: PairCache, is_trusted: bool) -> Sides:
    data = config.data
    masks = MaskReader.of(config.classes, data.mask_encoding, data.ignore_colors, data.ignore_ids)
    images = (*data.images, *data.validation_images)
    masks_of = (*data.masks, *data.validation_masks)
    guard = None if is_trusted else Reach.of((*images, *masks_of), "folder of [data]").guard
    source = _source(config, masks, Opener(CACHE_BYTES, guard))
    for pattern in (*images, *masks_of):
        locations.check_local(pattern, "training on folders: pack them into shards, or")
    sides: Sides = ([], [])
    places: dict[str, int] = {}
    for found in pair_files(images, masks_of, data.group):
        side = int(found.folder >= len(data.images))
        _check_once(found.image, side, places)
        sides[side].append(source.open_pair(found, cache))
    return sides


def _shard_pairs(config: Configuration, cache: PairCache, copy: Spool) -> Sides:
    data = config.data
    masks = MaskReader.of_label_maps(config.classes, data.ignore_ids)
    source = _source(config, masks, Opener(CACHE_BYTES))
    shards = [*_find_shards(data.shards, 0), *_find_shards(data.validation_shards, 1)]
    if missing := missing_shards(shard.file.uri for shard in shards):
        _log.warning("%s", warning_of(missing.to_json()))
    places: dict[str, int] = {}
    for shard in shards:
        _check_once(shard.file.uri, shard.side, places)
    _check_room(shards)
    names = unique_names([(os.path.dirname(s.file.uri), s.file.uri) for s in shards])
    sides: Sides = ([], [])
    faults: list[str] = []
    named = zip(shards, names, strict=True)
    entries = ((shard, name, entry) for shard, name in named for entry in _samples(shard))
    for shard, name, entry in entries:
        if isinstance(entry, str):
            faults.append(f"{shard.file.uri}: {entry}")
            if len(faults) == _MAX_FAULTS:
                break
            continue
        image, label_map = entry
        full = f"{name}{image.key}"
        where = f"{shard.file.uri}/{printable_name(image.name)}"
        group = match_group(where, data.group) if data.group else name
        image_file = EncodedFile(full, copy.add(image.encoded))
        mask_file = EncodedFile(f"label map of {full}", copy.add(label_map.encoded))
        sides[shard.side].append(EncodedPair(full, group, image_file, mask_file, source, cache))
    if faults:
        raise InputError(f"shards that cannot be used: {'; '.join(faults)}")
    return sides


def _source(config: Configuration, masks: MaskReader, opener: Opener) -> PairSource:
    model = config.model
    return PairSource(model.bands, model.dtype, masks, model.limits, opener=opener)


def _find_shards(patterns: Sequence[str], side: int) -> Iterator[_Shard]:
    """Shards of files, folders or patterns.

    Raises:
        ConfigurationError: If one of them matches no shard.
    """
    for pattern in patterns:
        shards = [
            _Shard(InputFile(found.uri, "", found.name, found.size, found.version), form, side)
            for found in find_files(locations.checked(pattern))
            for form in SHARDS
            if form.matches(found.name)
        ]
        yield from shards
        if not shards:
            known = ", ".join(entry.examples for entry in SHARDS)
            raise ConfigurationError(
                f"data.{'validation_' if side else ''}shards: {pattern} matches no shard: {known}"
            )


def _samples(shard: _Shard) -> Iterator[tuple[ShardSample, ShardSample] | str]:
    """Images with their label maps; in place of an unreadable sample, what is wrong with it."""
    images = shard.format.samples(shard.file, ReadOptions())
    field = shard.format.label_field
    label_maps = shard.format.samples(shard.file, ReadOptions(image_field=field))
    count = 0
    try:
        for image, label_map in zip_longest(images, label_maps):
            count += 1
            if isinstance(image, UnreadableSample):
                yield _fault(image, "image")
            elif isinstance(label_map, UnreadableSample):
                yield _fault(label_map, f"label map ({field})")
            elif image is None or label_map is None or image.number != label_map.number:
                yield f"{(image or label_map).key}: images and label maps do not go together"
                return
            else:
                yield image, label_map
    except OSError as error:
        if is_transient(error):
            raise
        yield f"cannot be read: {error.strerror or error}"
        return
    if not count:
        yield "the shard holds no sample"


def _fault(entry: UnreadableSample, what: str) -> str:
    reason = _OTHER_ADVICE.sub("", entry.reason)
    return f"{entry.key} has no {what} that can be read: {reason}"


def _check_once(path: str, side: int, places: dict[str, int]) -> None:
    """Refuse a file that is found twice, above all one for both training and validation.

    Raises:
        ConfigurationError: Names the file.
    """
    place = locations.canonical(path)
    if places.get(place) == side:
        raise ConfigurationError(f"{path} is found twice: name its folder or shard once")
    if place in places:
        raise ConfigurationError(
            f"{path} is for training and for validation: scores would be of what was learned"
        )
    places[place] = side
