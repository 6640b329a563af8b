"""What a run would do, as text: no model is loaded and nothing is written."""

from collections.abc import Iterator
from dataclasses import replace

from pipelines.formats.work import PlanContext
from pipelines.run import plan, progress
from pipelines.run.plan import WorkUnit
from pipelines.scenes.overlaps import Overlaps, overlaps_of
from pipelines.segment.inputs import Inputs, check_scene_options, estimate, find_inputs, units_of
from pipelines.segment.options import SegmentOptions
from pipelines.segment.polygons import read_aoi, read_zones
from pipelines.segment.sizes import MIB, resolve_sizes
from pipelines.storage.copies import contract_of


def report(options: SegmentOptions) -> Iterator[str]:
    """Lines about what a run would do; writes nothing and loads no model.

    Raises:
        ConfigurationError: As `pipelines.launch.check`.
        ContractError: As `pipelines.launch.check`.
    """
    contract = contract_of(options.model)
    sizes = resolve_sizes(options, contract).of_area(read_aoi(options))
    layout, memory = sizes.layout, sizes.memory
    context = PlanContext(contract=contract, layout=layout, reading=sizes.reading)
    inputs = find_inputs(options, context)
    check_scene_options(options, context, inputs)
    if inputs.of_format("scene"):
        sizes.check_scenes(options.memory)
    read_zones(options)
    guess = estimate(inputs, context)
    about = "" if guess.exact else "about "
    size = sum(file.size for file in inputs.every)
    yield f"model     {contract.name}: {contract.architecture}, {len(contract.classes.ids)} classes"
    for entry, files in inputs.files:
        if files:
            yield f"input     {len(files)} files of format {entry.name}"
    if inputs.left_aside:
        yield f"input     {inputs.left_aside} files of other kinds are left aside"
    yield f"units     {_count_units(inputs, context)}"
    yield f"images    {about}{guess.images:,}"
    yield f"pixels    {about}{guess.pixels:,}"
    yield (
        f"windows   {about}{guess.windows:,}, cores of up to {layout.window_px} px with a halo of "
        f"{layout.aligned_halo_px} px: {guess.computed / max(1, guess.pixels):.3f} pixels "
        f"computed per pixel kept"
    )
    yield f"bytes     {size:,} to read"
    scenes = inputs.of_format("scene")
    overlaps = overlaps_of(scenes, context.headers) if scenes else None
    if overlaps is not None:
        yield _overlap_line(overlaps, options.overlap)
    measured = "measured" if contract.bytes_per_pixel else "assumed"
    images = ""
    if any(entry.decodes for entry, files in inputs.files if files):
        images = (
            f", and up to {memory.images / MIB:,.0f} MiB for images of up to "
            f"{sizes.reading.max_pixels:,} pixels"
        )
    if scenes:
        images += f", and up to {memory.scenes / MIB:,.0f} MiB for what is kept of a scene"
    yield (
        f"memory    about {memory.needed / MIB:,.0f} MiB a worker: {memory.runtime / MIB:,.0f} for "
        f"Beam and TensorFlow, {memory.model / MIB:,.0f} for the model ({measured}), "
        f"{memory.windows / MIB:,.0f} for windows{images}"
    )


def _count_units(inputs: Inputs, context: PlanContext) -> int:
    """Number of units with work."""
    context = replace(context, groups=plan.image_groups(inputs.grouped_files))
    planned = progress.with_progress(units_of(inputs, context), "planned {:,} units")
    return sum(1 for unit in planned if isinstance(unit, WorkUnit))


def _overlap_line(overlaps: Overlaps, rule: str | None) -> str:
    """How much ground scenes show more than once, and what becomes of it."""
    if not overlaps.repeated_m2:
        return f"overlap   none of {overlaps.scenes} scenes"
    share = overlaps.repeated_m2 / overlaps.footprint_m2
    counted = f"counted once, in the {rule} scene" if rule else "counted more than once (--overlap)"
    return (
        f"overlap   {overlaps.overlapping} of {overlaps.scenes} scenes: "
        f"{overlaps.repeated_m2 / 1e6:,.3f} km2, {share:.2%} of the ground, is {counted}"
    )
