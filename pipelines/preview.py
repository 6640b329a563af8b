"""What a run would do, as text: no model is loaded and nothing is written."""

from collections.abc import Iterator

from pipelines import plan, storage
from pipelines.formats.interface import Work
from pipelines.inputs import Inputs, estimate, find_inputs, units_of
from pipelines.launch import model_memory_bytes, resolve_layout
from pipelines.options import SegmentOptions
from pipelines.run_directory import RunDirectory
from segmodel.contract import Contract
from segmodel.model_folder import read_contract
from segmodel.windows import Layout

MIB = 2**20
# Resident memory of a process that has imported Beam 2.77 and TensorFlow 2.21 and loaded a model of
# 0.7 million weights, on x86-64 Linux.
RUNTIME_BYTES = 765 * MIB
# Full windows that are open, read or waiting at most, beside the one the model has.
WINDOWS_HELD = 6


def preview(options: SegmentOptions) -> Iterator[str]:
    """Lines about what a run would do; writes nothing and loads no model.

    Raises:
        ConfigurationError: As `pipelines.launch.prepare`.
        ContractError: As `pipelines.launch.prepare`.
    """
    contract = read_contract(storage.check_local(options.model))
    layout = resolve_layout(options, contract)
    inputs = find_inputs(options, contract)
    guess = estimate(inputs, layout)
    about = "" if guess.exact else "about "
    size = sum(file.size for file in inputs.every)
    kept = layout.window_px**2
    yield f"model     {contract.name}: {contract.architecture}, {len(contract.classes.ids)} classes"
    for entry, files in inputs.files:
        if files:
            yield f"input     {len(files)} files of format {entry.name}"
    if inputs.left_aside:
        yield f"input     {len(inputs.left_aside)} files of other kinds are left aside"
    yield f"units     {_count_units(inputs, contract, layout)}"
    yield f"images    {about}{guess.images:,}"
    yield f"pixels    {about}{guess.pixels:,}"
    yield (
        f"windows   {about}{guess.windows:,}, cores of {layout.window_px} px with a halo of "
        f"{layout.reach_px} px: up to {layout.read_px**2 / kept:.2f} computed per pixel kept"
    )
    yield f"bytes     {size:,} to read"
    model = model_memory_bytes(layout, contract)
    windows = WINDOWS_HELD * layout.batch * layout.read_px**2 * contract.fill.nbytes
    measured = "measured" if contract.bytes_per_pixel else "assumed"
    yield (
        f"memory    about {(RUNTIME_BYTES + model + windows) / MIB:,.0f} MiB a worker: "
        f"{RUNTIME_BYTES / MIB:,.0f} for Beam and TensorFlow, {model / MIB:,.0f} for the model "
        f"({measured}), {windows / MIB:,.0f} for windows"
    )


def _count_units(inputs: Inputs, contract: Contract, layout: Layout) -> int:
    groups = plan.image_groups(inputs.grouped_files)
    run = RunDirectory("")
    work = Work(run, "", "", contract, layout, "", False, None, groups, False, ())
    return sum(1 for unit in units_of(inputs, work) if not unit.blocks)
