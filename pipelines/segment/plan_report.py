"""What a run would do, as text: no model is loaded and nothing is written."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pipelines.inputs.gone import KEEP, PRUNE, STOP
from pipelines.inputs.numbered import warning_of
from pipelines.run import progress
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import SCENE, WorkUnit
from pipelines.scenes.overlaps import Overlaps
from pipelines.scenes.results import area_text
from pipelines.segment.inputs import Inputs, estimate, units_of
from pipelines.segment.launch import resolve_run
from pipelines.segment.options import SegmentOptions
from pipelines.segment.room import Room
from pipelines.segment.sizes import MIB, RUNTIME_BYTES
from pipelines.storage import locations
from segmodel.errors import ConfigurationError, counted
from segmodel.tiling.borders import BorderCurve
from segmodel.tiling.windows import Layout


def report(options: SegmentOptions) -> Iterator[str]:
    """Lines about what a run would do; writes nothing and loads no model.

    Raises:
        ConfigurationError: If options or inputs do not allow the run.
        ContractError: If the model was not made for an input.
    """
    run = RunDirectory(locations.checked(options.output))
    resolved = resolve_run(options, run, _earlier(options, run))
    contract, inputs, sizes = resolved.model.contract, resolved.inputs, resolved.sizes
    layout, memory = sizes.layout, sizes.memory
    guess = estimate(inputs, resolved.context)
    about = "" if guess.exact else "about "
    size = sum(file.size for file in inputs.every)
    yield f"model     {contract.name}: {contract.architecture}, {len(contract.classes.ids)} classes"
    yield from _input_lines(inputs)
    if resolved.gone:
        yield f"gone      {resolved.gone_text} of {options.output}: {_GONE[options.gone]}"
    planned = progress.with_progress(
        units_of(inputs, resolved.context, resolved.kept), "planned {:,} units"
    )
    units = sum(isinstance(unit, WorkUnit) for unit in planned)
    yield f"units     {units}"
    yield f"images    {about}{guess.images:,}"
    yield f"pixels    {about}{guess.pixels:,}"
    yield (
        f"windows   {about}{guess.windows:,}, cores of up to {layout.window_px} px with a halo of "
        f"{layout.aligned_halo_px} px: {guess.computed / max(1, guess.pixels):.3f} pixels "
        f"computed per pixel kept{_equal_labels(layout, contract.halo.curve)}"
    )
    yield f"bytes     {size:,} to read"
    room = Room.of(inputs, resolved.context, guess, units, options)
    yield f"room      {room.line(run.root)}"
    if resolved.overlaps is not None:
        whole = " of whole scenes" if options.aoi is not None else ""
        yield _overlap_line(resolved.overlaps, options.overlap, whole)
    measured = "measured" if contract.bytes_per_pixel else "assumed"
    images = ""
    if any(entry.decodes for entry, files in inputs.files if files):
        images = (
            f", and up to {memory.images / MIB:,.0f} MiB for images of up to "
            f"{sizes.reading.max_pixels:,} pixels"
        )
    if inputs.of_format(SCENE):
        images += f", and up to {memory.scenes / MIB:,.0f} MiB for what is kept of a scene"
    yield (
        f"memory    about {memory.needed / MIB:,.0f} MiB a worker: {RUNTIME_BYTES / MIB:,.0f} for "
        f"Beam and TensorFlow, {memory.model / MIB:,.0f} for the model ({measured}), "
        f"{memory.windows / MIB:,.0f} for windows{images}"
    )


def _equal_labels(layout: Layout, curve: BorderCurve | None) -> str:
    """What the measurement of the model says of windows of a size; empty where there is none."""
    if curve is None:
        return ""
    side = layout.window_px
    equal = 1 - curve.unequal_share(layout.aligned_halo_px, side, side)
    return f", {100 * equal:.2f} % of labels as untiled by the samples of the model"


def _input_lines(inputs: Inputs) -> Iterator[str]:
    """What is read, what is left aside, copied, and missing."""
    for entry, files in inputs.files:
        if files:
            yield f"input     {counted(len(files), 'file')} of format {entry.name}"
    if inputs.left_aside:
        yield f"input     {inputs.left_aside.line()}"
    copied = [file.size for file in inputs.every if locations.is_copied(file.uri)]
    if copied:
        yield (
            f"copies    {counted(len(copied), 'file')} of web servers, {sum(copied):,} bytes, "
            f"copied before reading"
        )
    if inputs.missing:
        yield warning_of(inputs.missing.to_json()).replace("missing: ", "missing   ", 1)


_GONE = {
    STOP: "segment stops before anything is changed (--gone)",
    KEEP: "their results stay",
    PRUNE: "their results are removed",
}


def _earlier(options: SegmentOptions, run: RunDirectory) -> dict[str, Any] | None:
    """The `run.json` of the run that would be continued; None where there is none to continue."""
    if options.overwrite:
        return None
    with suppress(ConfigurationError):
        return run.earlier()
    return None


def _overlap_line(overlaps: Overlaps, rule: str | None, whole: str) -> str:
    """How much ground scenes show more than once, and what becomes of it."""
    if not overlaps.repeated_m2:
        return f"overlap   none of {counted(overlaps.scenes, 'scene')}"
    share = overlaps.repeated_m2 / overlaps.footprint_m2
    times = f"counted once, in the {rule} scene" if rule else "counted more than once (--overlap)"
    return (
        f"overlap   {overlaps.overlapping} of {counted(overlaps.scenes, 'scene')}: "
        f"{area_text(overlaps.repeated_m2)}, {share:.2%} of the ground{whole}, is {times}"
    )
