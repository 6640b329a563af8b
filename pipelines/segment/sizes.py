"""Sizes of windows and images, from options, contract and memory."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipelines.formats.work import ReadOptions
from pipelines.geodesy.polygons import Polygons
from pipelines.scenes.blocks import WIDE_BLOCK_PIXELS
from pipelines.segment.options import SegmentOptions
from pipelines.storage.ranges import RANGES_BYTES
from segmodel.engine.engine import MemoryLimits
from segmodel.errors import ConfigurationError
from segmodel.images.limits import MAX_PIXELS
from segmodel.images.stored import MAX_DECODING_BYTES_PER_PIXEL
from segmodel.rasters.opening import CACHE_BYTES
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.memory import call_bytes_per_pixel
from segmodel.tiling.borders import MAX_UNEQUAL
from segmodel.tiling.windows import Batch, Layout

MIB = 2**20
# Resident memory of a process that has imported Beam 2.77 and TensorFlow 2.21 and loaded a model of
# 0.7 million weights, on x86-64 Linux.
RUNTIME_BYTES = 800 * MIB
# What prediction may take of the rest when --window is left to us.
MODEL_SHARE = 0.6
MIN_WINDOW_PX, DEFAULT_WINDOW_PX, MAX_WINDOW_PX = 256, 2048, 4096
WINDOW_STEP_PX = 32
# What halos may cost where memory allows it: computed pixels per pixel kept.
COMPUTED_PER_KEPT = 1.08
# Calls of the model whose windows are read or wait for others, and whose maps are not finished.
CALLS_HELD = 6
# Below it, photographs would be refused.
MIN_PIXELS = 1 << 20


@dataclass(frozen=True)
class Memory:
    """Memory that a worker takes, in bytes.

    Args:
        model: Memory of the prediction of one batch.
        windows: Memory of windows that wait, and of the maps that they belong to.
        images: Memory that is left for encoded images before and after the model.
        scenes: Memory of what is kept of a scene, and of the maps of a block; a worker never
            holds scenes and images at the same time.
    """

    model: int
    windows: int
    images: int
    scenes: int

    @property
    def needed(self) -> int:
        """Memory without encoded images and scenes."""
        return RUNTIME_BYTES + self.model + self.windows


@dataclass(frozen=True)
class Sizes:
    """Sizes as resolved.

    Args:
        layout: Sizes of windows.
        reading: How images are read, with the maximum of their pixels.
        memory: Memory that a worker takes with these sizes.
        limits: Limits of the engine.
    """

    layout: Layout
    reading: ReadOptions
    memory: Memory
    limits: MemoryLimits

    def check_scenes(self, memory: int) -> None:
        """Refuse scenes for which `--memory` does not suffice.

        Raises:
            ConfigurationError: Names what suffices.
        """
        needed = self.memory.needed + self.memory.scenes
        if needed > memory:
            raise ConfigurationError(
                f"--memory {memory / MIB:.0f}M is not enough for scenes in windows of "
                f"{self.layout.read_px} pixels: give {-(-needed // MIB)}M, or lower --window"
            )

    def with_aoi(self, aoi: Polygons | None) -> "Sizes":
        """These sizes with the digest of an area of interest, if there is one."""
        return self if aoi is None else replace(self, reading=replace(self.reading, aoi=aoi.digest))


def resolve_sizes(
    options: SegmentOptions, contract: Contract, frozen: Mapping[str, Any] | None = None
) -> Sizes:
    """Sizes as asked for, as a run was begun with, or else as large as memory allows.

    Args:
        options: What the user asked for.
        contract: Contract of the model.
        frozen: Entry `labels` of `run.json`, if the run was begun with the same model; or None.

    Returns:
        Sizes in pixels, and the memory in bytes that they take.

    Raises:
        ConfigurationError: If the sizes cannot be carried out, or take more than `--memory`.
    """
    layout = _layout(options, contract, frozen or {})
    memory = _memory(layout, options, contract)
    ahead, finishing = image_bytes_per_pixel(options, contract)
    affordable = memory.images // (ahead + finishing)
    asked = options.max_pixels or (frozen or {}).get("max_pixels")
    least = asked or MIN_PIXELS
    if affordable < least:
        needed = memory.needed + least * (ahead + finishing)
        of_scenes = memory.needed + memory.scenes
        for_scenes = f" ({-(-of_scenes // MIB)}M for scenes)" if of_scenes > needed else ""
        raise ConfigurationError(
            f"--memory {options.memory / MIB:.0f}M is not enough for windows of "
            f"{layout.read_px} pixels and images of {least} pixels: give "
            f"{-(-needed // MIB)}M{for_scenes}, or lower --window, --halo, --batch or --max_pixels"
        )
    reading = ReadOptions(
        image_field=options.image_field,
        name_field=options.name_field,
        max_pixels=asked or min(MAX_PIXELS, affordable),
        resize=options.resize,
        bands=options.bands,
        resample_to=options.resample_to,
        crs=options.crs,
    )
    limits = MemoryLimits(affordable * ahead, affordable * finishing)
    return Sizes(layout, reading, memory, limits)


def _map_bytes(options: SegmentOptions, contract: Contract) -> int:
    """Bytes of a pixel of all maps."""
    of_classes = len(contract.classes.ids) if options.probabilities else 0
    return contract.classes.label_dtype.itemsize + (4 if options.confidence else 0) + of_classes


def image_bytes_per_pixel(options: SegmentOptions, contract: Contract) -> tuple[int, int]:
    """Bytes that one pixel of an encoded image takes before the model, and after it."""
    of_map = _map_bytes(options, contract)
    return MAX_DECODING_BYTES_PER_PIXEL + of_map, 2 * of_map


def _layout(options: SegmentOptions, contract: Contract, frozen: Mapping[str, Any]) -> Layout:
    halo = frozen.get("halo_px") if options.halo is None else options.halo
    # Runs of earlier releases have None.
    batch = frozen.get("batch", 1) if options.batch is None else options.batch
    if options.window not in (None, frozen.get("window_px")):
        layout = contract.layout(options.window, halo, batch)
        if layout.window_px != options.window:
            raise ConfigurationError(
                f"--window {options.window}: the model's window is fixed at "
                f"{contract.fixed_window} pixels, of which {layout.window_px} are kept: leave "
                f"--window out"
            )
        return layout
    if "window_px" in frozen:
        layout = contract.layout(frozen["window_px"], halo, batch)
        return replace(layout, rectangular=frozen.get("rectangular", False))
    pixels = options.max_pixels or frozen.get("max_pixels") or MIN_PIXELS
    images = pixels * sum(image_bytes_per_pixel(options, contract))
    largest = partial(_largest, options, contract, batch, images)
    curve = contract.halo.curve
    if curve is None or halo is not None:
        return largest(halo)

    def beyond(layout: Layout) -> float:
        side = layout.window_px
        return max(MAX_UNEQUAL, curve.unequal_share(layout.aligned_halo_px, side, side))

    # The first that is enough computes least; where none is, the one that comes nearest.
    return min(map(largest, curve.halos_px), key=beyond)


def _largest(
    options: SegmentOptions, contract: Contract, batch: Batch, images: int, halo: int | None
) -> Layout:
    """The largest windows with a halo that leave so many bytes to images, or else the least."""
    affordable = MODEL_SHARE * (options.memory - RUNTIME_BYTES)
    # Some pixels more or less are not worth windows that no tile of a file lines up with.
    step = -(-WINDOW_STEP_PX // contract.stride) * contract.stride
    reach = contract.layout(step, halo, batch).aligned_halo_px
    # Beyond it, a larger window spares little.
    wanted = max(DEFAULT_WINDOW_PX, math.ceil(2 * reach / (math.sqrt(COMPUTED_PER_KEPT) - 1)))
    most = -(-min(wanted, MAX_WINDOW_PX) // step) * step
    least = min(max(MIN_WINDOW_PX // step, 1) * step, most)
    for core in range(most, least - 1, -step):
        layout = replace(contract.layout(core, halo, batch), rectangular=not contract.fixed_window)
        spare = _memory(layout, options, contract).images
        if model_bytes(layout, contract, options) <= affordable and spare >= images:
            break
    return layout


def model_bytes(layout: Layout, contract: Contract, options: SegmentOptions) -> int:
    """Bytes that prediction of one batch takes on a CPU, by the contract's measurement."""
    soft = options.soft_areas, options.probabilities
    return layout.max_batch_pixels_on_cpu * call_bytes_per_pixel(contract, *soft)


def _memory(layout: Layout, options: SegmentOptions, contract: Contract) -> Memory:
    of_map, has_soft = _map_bytes(options, contract), options.soft_areas or options.probabilities
    # Weights, and either zones or how many pixels each labels.
    of_window = contract.fill.nbytes + of_map + (8 if has_soft else 0)
    windows = CALLS_HELD * layout.max_batch_pixels * of_window
    model = model_bytes(layout, contract, options)
    if options.resize is not None:
        # The scaled image, its map, and one more of either on the way.
        height, width = options.resize
        windows += 2 * height * width * (contract.fill.nbytes + of_map)
    images = max(0, options.memory - RUNTIME_BYTES - model - windows)
    scenes = CACHE_BYTES + RANGES_BYTES + 2 * WIDE_BLOCK_PIXELS * of_map
    return Memory(model, windows, images, scenes)
