"""From options to a pack that is ready to start: checks, `run.json`, plan."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import segmodel
from pipelines.datasets.inputs import PackInputs, find_pack_inputs
from pipelines.datasets.options import ENCODINGS, PackOptions
from pipelines.datasets.splits import Split, assign_splits
from pipelines.datasets.work import (
    BYTES_PER_PIXEL,
    PackWork,
    items_of,
    metadata_directory,
    shard_path,
    split_name,
)
from pipelines.formats.images import stated_size
from pipelines.formats.work import ReadOptions
from pipelines.inputs.gone import (
    STOP,
    EarlierPlan,
    check_gone,
    files_of,
    find_gone,
    some_of,
)
from pipelines.run import plan
from pipelines.run.directory import MARK, METADATA_DIR, PACK, SEALED, check_unchanged, holds_any
from pipelines.run.plan import Prepared, WorkUnit
from pipelines.storage import filesystem, locations
from pipelines.storage.digests import digest
from segmodel.errors import ConfigurationError
from segmodel.images.limits import MAX_PIXELS
from segmodel.labels.classes import format_color
from segmodel.labels.masks import MaskReader
from segmodel.training.configuration_file import load_mask_config

RESULT = "pack.json"
MIB = 2**20
# Resident memory of a process that has imported Beam 2.77 and all formats, on x86-64 Linux, with
# room for the lines of a plan and the buffers of a writer.
RUNTIME_BYTES = 256 * MIB
# Of the rest, for images that are being decoded; what is left is for files that were read.
DECODING_SHARE = 0.75
# Images whose headers are read to guess the pixels of all.
SAMPLE = 64


@dataclass(frozen=True)
class ResolvedPack:
    """A pack that can be carried out; nothing is written yet.

    Args:
        options: What the user asked for.
        inputs: Images and masks.
        splits: Where each image goes.
        masks: How masks are read, or None without masks.
        shape: What shapes shards beside the files, as in `run.json`.
        is_sealed: Whether the pack began with seals in its commit records.
    """

    options: PackOptions
    inputs: PackInputs
    splits: list[Split]
    masks: MaskReader | None
    shape: dict[str, Any]
    is_sealed: bool

    @property
    def units(self) -> Iterator[WorkUnit]:
        """One unit for each shard, split by split; an empty shard is written too."""
        items = {item.name: item for item in self.inputs.items}
        for split in self.splits:
            for number, names in enumerate(split.shards):
                chosen = [items[name] for name in names]
                files = [file for item in chosen for file in (item.image, item.mask) if file]
                name = f"{split.name}-{number:05d}-of-{len(split.shards):05d}"
                yield WorkUnit(name, self.options.container, tuple(files))

    @property
    def work(self) -> PackWork:
        """Work that all shards share."""
        usable_bytes = self.options.memory - RUNTIME_BYTES
        decoding_bytes = int(usable_bytes * DECODING_SHARE)
        return PackWork(
            output=self.options.output,
            options=digest(self.shape),
            masks=self.masks,
            max_pixels=self.shape["max_pixels"],
            encoded_bytes=usable_bytes - decoding_bytes,
            decoding_bytes=decoding_bytes,
            is_sealed=self.is_sealed,
        )


def check_pack(options: PackOptions) -> ResolvedPack:
    """Check everything that can be checked before anything is written.

    Returns:
        The pack, which continues the one that the output folder holds, if any.

    Raises:
        ConfigurationError: If options, files or the output folder do not allow the pack.
    """
    options = replace(options, output=locations.checked(options.output))
    earlier = _earlier(options.output, options.overwrite)
    if options.overwrite:
        earlier = None
    masks = read_masks(options.classes, options.mask_encoding)
    max_pixels = _max_pixels(options, (earlier or {}).get("shape", {}).get("max_pixels"))
    shape = _shape_of(options, masks, max_pixels)
    if earlier is not None:
        check_unchanged(earlier, shape, options.output, "shape")
    inputs = find_pack_inputs(options.images, options.masks, options.output, options.exclude)
    splits = assign_splits(
        (item.name for item in inputs.items),
        options.shares,
        options.group_by,
        options.images_per_shard,
        (earlier or {}).get("shards"),
    )
    for split in splits:
        if not any(split.shards):
            groups = sum(entry.groups for entry in splits)
            raise ConfigurationError(
                f"--split: {split.name} gets none of the {groups} groups, which are assigned by "
                f"hash: give it a larger share, or group images into smaller groups"
            )
    filesystem.refuse_links(options.output, (METADATA_DIR, *(split.name for split in splits)))
    is_sealed = earlier is None or SEALED in earlier
    resolved = ResolvedPack(options, inputs, splits, masks, shape, is_sealed)
    if earlier is not None and options.gone == STOP:
        _check_earlier_plan(resolved)
    return resolved


def _check_earlier_plan(resolved: ResolvedPack) -> None:
    """Refuse to continue where images or masks of finished shards are not found any more."""
    work, output = resolved.work, resolved.options.output
    if next(work.log.names(), None) is None:
        return
    earlier = EarlierPlan(work.run.plan)
    planned = partial(earlier.units, WorkUnit)
    gone = find_gone(lambda: files_of(planned()), files_of(resolved.units))
    remedy = "to remove them from their shards, give --gone prune"
    check_gone(some_of(gone), output, "--images", remedy)
    earlier.check_known(work.log, lambda: resolved.units, "to repeat them, give --gone prune")


def prepare_pack(resolved: ResolvedPack) -> Prepared[PackWork]:
    """Write `run.json` and the plan, and make what earlier attempts left agree with it."""
    options, work = resolved.options, resolved.work
    run = work.run
    if options.overwrite and run.earlier(overwrite=True) is not None:
        clear_pack(options.output)
    filesystem.remove(f"{options.output}/{RESULT}")
    run.begin()
    document = {
        "shape": resolved.shape,
        "shards": {split.name: len(split.shards) for split in resolved.splits},
        "groups": {split.name: split.groups for split in resolved.splits},
        "versions": {"beamseg": segmodel.__version__},
        **({SEALED: True} if resolved.is_sealed else {}),
    }
    run.write_run(MARK | {"format": PACK} | document)
    parts = plan.write_plan(resolved.units, run.plan, run.scratch, is_sealed=resolved.is_sealed)
    # A shard whose images have changed is there until the new one takes its place.
    planned = {shard_path(unit) for unit in resolved.units}
    found = plan.read_units(run.plan, WorkUnit)
    work.log.reconcile(found, options.retry_failures, planned)
    units = sum(len(split.shards) for split in resolved.splits)
    return Prepared(work, tuple(parts), units, _estimate_pixels(work))


def read_masks(classes: str | None, mask_encoding: str | None) -> MaskReader | None:
    """How masks are read.

    Args:
        classes: Value of `--classes`, or None without masks.
        mask_encoding: Value of `--mask_encoding`, or None for what the file says.

    Raises:
        ConfigurationError: If the file is malformed, or a value would stand for two classes.
    """
    if classes is None:
        return None
    config = load_mask_config(classes)
    encoding = mask_encoding or config.mask_encoding or ENCODINGS[0]
    if encoding not in ENCODINGS:
        raise ConfigurationError(
            f"{classes}: data.mask_encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}"
        )
    try:
        return MaskReader.of(config.classes, encoding, config.ignore_colors, config.ignore_ids)
    except ConfigurationError as error:
        raise ConfigurationError(f"{classes}: {error}") from None


def _shape_of(options: PackOptions, masks: MaskReader | None, max_pixels: int) -> dict[str, Any]:
    """What shapes shards, beside the files; frozen when a pack is begun."""
    shape: dict[str, Any] = {
        "format": options.container,
        "split": ",".join(f"{name}={share}" for name, share in options.shares),
        "group_by": options.group_by,
        "images_per_shard": options.images_per_shard,
        "max_pixels": max_pixels,
        "mask_encoding": None,
    }
    if masks is not None:
        classes = masks.mapping.classes.classes
        shape |= {
            "mask_encoding": masks.encoding,
            "ignore_colors": list(masks.mapping.ignore_colors),
            "ignore_ids": list(masks.mapping.ignore_ids),
            "classes": [
                {"id": c.id, "name": c.name, "color": format_color(c.color)} for c in classes
            ],
        }
    return shape


def clear_pack(output: str) -> None:
    """Remove what a pack wrote, `run.json` last, so that it stays a pack until all is gone."""
    run = metadata_directory(output)
    filesystem.remove(f"{output}/{RESULT}")
    folders = set()
    for unit in plan.read_units(run.plan, WorkUnit, plan.pass_over):
        filesystem.remove_below_root(output, shard_path(unit))
        folders.add(split_name(unit))
    for folder in folders if not locations.is_remote(output) else ():
        # What others have put there stays.
        with contextlib.suppress(OSError):
            os.rmdir(f"{output}/{folder}")
    run.clear()


def _earlier(output: str, overwrite: bool) -> dict[str, Any] | None:
    """The `run.json` of the pack in a folder, or None where nothing is."""
    if not locations.is_remote(output) and os.path.isfile(output):
        raise ConfigurationError(f"--output {output} is a file: name a folder")
    earlier = metadata_directory(output).earlier(overwrite)
    if earlier is None and holds_any(output, METADATA_DIR):
        raise ConfigurationError(
            f"--output {output} holds files but no {METADATA_DIR} of a pack: name an empty folder"
        )
    return earlier


def _max_pixels(options: PackOptions, frozen: int | None) -> int:
    """The limit as asked for, as the pack was begun with, or what memory allows."""
    room = (options.memory - RUNTIME_BYTES) * DECODING_SHARE
    affordable = int(room) // BYTES_PER_PIXEL
    asked = options.max_pixels or frozen
    least = asked or 1 << 20
    if affordable < least:
        needed = RUNTIME_BYTES + least * BYTES_PER_PIXEL / DECODING_SHARE
        raise ConfigurationError(
            f"--memory {options.memory // MIB}M is not enough for images of {least} pixels: "
            f"give {-(-needed // MIB):.0f}M, or lower --max_pixels"
        )
    return asked or min(MAX_PIXELS, affordable)


def _estimate_pixels(work: PackWork) -> int:
    """Pixels of the images of all shards that are not packed yet, by the headers of a sample."""
    units = plan.read_units(work.run.plan, WorkUnit)
    unfinished = [unit for unit in units if not work.log.is_done(unit)]
    items = [item for unit in unfinished for item in items_of(unit, work.masks is not None)]
    sample = items[:: -(-len(items) // SAMPLE) or 1]
    reading = ReadOptions(max_pixels=work.max_pixels)
    # An image that cannot be read is reported when it is packed.
    sizes = [size for item in sample if (size := stated_size(item.image, reading))]
    return len(items) * sum(height * width for height, width in sizes) // max(1, len(sizes))
