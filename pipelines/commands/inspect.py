"""Print what a SavedModel says about itself: input, classes, window and halo, scores, versions.

Of a SavedModel without a model contract, print the signatures that beamseg wrap can call.

With --speed, load the model and print how many megapixels a second it labels on this machine.

Examples:
  beamseg inspect models/land
  beamseg inspect models/land --speed --memory 8G
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cli.options import Option, add_options, parse_options
from pipelines.cli.parser import Parser, parse
from pipelines.cli.values import MEMORY
from segmodel.errors import ConfigurationError
from segmodel.escaping import on_one_line

if TYPE_CHECKING:
    from segmodel.savedmodel.contract import Contract, MeasuredCompute, MeasuredSizes

# Cores of which the halo is told beside that of the measurement, where it is another one.
LARGE_CORE_PX = 2048
# Windows whose speed is measured.
SPEED_SIDES_PX = (512, 1024, 1536, 2048)


@dataclass(frozen=True)
class InspectOptions:
    """What the user asked for; each field is declared with its option."""

    speed: bool = Option().field()
    """also measure how fast the model is on this machine, by the size of windows and the compute
    type; this takes seconds, and loads the model"""
    memory: int = MEMORY.field()
    trust_model: bool = Option().field()
    """with --speed, load a model that may do more than compute, such as read files"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg inspect", doc=__doc__)
    command.add_argument("model", metavar="MODEL", help="SavedModel folder")
    add_options(command, InspectOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the contract; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    options = parse_options(InspectOptions, parsed)
    from pipelines.storage.copies import open_model
    from segmodel.savedmodel.folder import is_without_contract

    model = open_model(parsed.model)
    if is_without_contract(model.folder):
        if options.speed:
            raise ConfigurationError(
                f"--speed: {parsed.model} has no model contract: make a model of it with beamseg "
                f"wrap"
            )
        lines = describe_foreign(model.folder, parsed.model)
        print(*map(on_one_line, lines), sep="\n")
        return 0
    sides_px = speed_sides(model.contract, options.memory) if options.speed else []
    print(*map(on_one_line, describe(model.contract, model.fingerprint)), sep="\n")
    for line in speed_table(model.folder, sides_px, options.trust_model) if sides_px else ():
        print(line, flush=True)
    return 0


def speed_sides(contract: "Contract", memory: int) -> list[int]:
    """Sides in pixels of the windows whose speed is measured.

    Args:
        contract: Contract of the model.
        memory: Memory of the process in bytes.

    Raises:
        ConfigurationError: If memory does not suffice for the least window.
    """
    from pipelines.segment.sizes import MIB, MODEL_SHARE, RUNTIME_BYTES
    from segmodel.savedmodel.memory import call_bytes_per_pixel

    known = SPEED_SIDES_PX if contract.fixed_window is None else (contract.fixed_window,)
    stride, pixel_bytes = contract.stride, call_bytes_per_pixel(contract, False, False)
    sides = sorted({-(-side // stride) * stride for side in known})
    needed = {side: RUNTIME_BYTES + int(side**2 * pixel_bytes / MODEL_SHARE) for side in sides}
    if (least := needed[sides[0]]) > memory:
        raise ConfigurationError(
            f"--memory {memory // MIB}M is not enough for windows of {sides[0]} pixels: give "
            f"{-(-least // MIB)}M"
        )
    return [side for side in sides if needed[side] <= memory]


def speed_table(folder: str, sides_px: Sequence[int], trust: bool) -> Iterator[str]:
    """Lines of text about how a model runs on this machine, and how fast, as it is measured.

    Args:
        folder: The SavedModel on this machine.
        sides_px: Sides of windows in pixels.
        trust: Whether to load a model that may do more than compute.
    """
    from segmodel.devices.startup import import_quietly, reuse_memory

    reuse_memory()
    with import_quietly():
        from segmodel.evaluation.speed import speeds
        from segmodel.savedmodel.predictor import Predictor

    model = Predictor.load(folder, trust)
    why = model.served("labels").why_loaded
    yield "weights are computed once" if why is None else f"the graph runs as loaded: {why}"
    for number, (side_px, rates) in enumerate(speeds(model, sides_px)):
        if not number:
            yield "megapixels a second on this machine, of windows with their halo"
            yield "  window px" + "".join(f"{compute:>10}" for compute in rates)
        yield f"  {side_px:>9}" + "".join(f"{rate:>10.2f}" for rate in rates.values())


def describe_foreign(folder: str, name: str) -> Iterator[str]:
    """Lines of text about a SavedModel without a contract, for people.

    Args:
        folder: The SavedModel on this machine.
        name: What the user called it.
    """
    from segmodel.devices.startup import import_quietly

    with import_quietly():
        from segmodel.savedmodel.signatures import describe_endpoints, endpoints, meta_graph

    yield f"{name} has no model contract: describe it in a TOML file for beamseg wrap"
    yield from describe_endpoints(endpoints(meta_graph(folder)))


def describe(contract: "Contract", model_fingerprint: str) -> Iterator[str]:
    """Lines of text about a contract, for people.

    Args:
        contract: Contract of the model.
        model_fingerprint: SHA-256 of the model's files, as hex digits.
    """
    from segmodel.labels.classes import format_color

    low, high = contract.value_range
    yield f"{contract.name}: {contract.architecture}"
    if contract.parameters:
        yield f"  weights        {contract.parameters:,}"
    yield f"  fingerprint    {model_fingerprint[:16]}"
    yield f"  input          {', '.join(contract.bands)}; {contract.dtype}, {low:g} to {high:g}"
    yield f"  nodata         filled with {', '.join(f'{v:g}' for v in contract.nodata_fill)}"
    size = contract.gsd_range_m
    yield f"  ground pixel   {'{:g} to {:g} m'.format(*size) if size else 'any size'}"
    yield f"  window         {_window(contract)}"
    if contract.sizes is not None:
        yield f"  sizes          {_sizes(contract, contract.sizes)}"
    for found in contract.computing:
        yield f"  {found.compute:<15}{_compared(found)}"
    if contract.bytes_per_pixel:
        yield f"  memory         {contract.bytes_per_pixel} bytes a pixel, measured on a CPU"
    yield f"  labels         {contract.classes.label_dtype}, nodata {contract.classes.nodata}"
    yield "classes"
    iou = contract.metrics.get("iou", {})
    for entry in contract.classes.classes:
        score = iou.get(entry.name)
        text = "" if score is None else f"  IoU {score:.3f}"
        yield f"  {entry.id:>5}  {format_color(entry.color)}  {entry.name:<20}{text}"
    scores = [
        f"{name.replace('_', ' ')} {contract.metrics[name]:.3f}"
        for name in ("mean_iou", "pixel_accuracy")
        if contract.metrics.get(name) is not None
    ]
    if scores:
        yield f"scores on validation data: {', '.join(scores)}"
    if about := contract.training_data.get("about"):
        yield f"trained on: {about}"
    if versions := ", ".join(f"{name} {number}" for name, number in contract.versions.items()):
        yield f"made with: {versions}"


def _window(contract: "Contract") -> str:
    seen = "unknown" if contract.receptive_field is None else f"{contract.receptive_field} px"
    text = f"stride {contract.stride}, receptive field {seen}, {describe_halo(contract)}"
    if contract.fixed_window is not None:
        text += f", window fixed at {contract.fixed_window} px"
    return text


def describe_halo(contract: "Contract") -> str:
    """The halo, and whether it was measured."""
    halo = contract.halo
    if halo.equal_labels is None:
        return f"halo {halo.pixels} px (stated, not measured)"
    share = f"{100 * halo.equal_labels:.2f} % of labels as untiled"
    text = f"halo {halo.pixels} px (measured: {share}, cores of {halo.window_px} px)"
    if (large := halo.px_for(LARGE_CORE_PX)) == halo.pixels:
        return text
    return f"{text}, {large} px for cores of {LARGE_CORE_PX} px"


def _compared(found: "MeasuredCompute") -> str:
    text = f"{100 * found.equal_labels:.2f} % of labels as by float32"
    if (largest := found.largest_change) is None:
        return text
    return f"{text}, areas of classes up to {100 * largest[1]:+.2f} % ({largest[0]})"


def _sizes(contract: "Contract", found: "MeasuredSizes") -> str:
    stated = f"{100 * found.stated_equal_labels:.2f} %"
    if contract.fixed_window is not None:
        return f"window fixed, as only {stated} of labels were alike in windows of several sizes"
    sides = ", ".join(map(str, found.sizes_px))
    text = f"{100 * found.equal_labels:.2f} % of labels alike in windows of {sides} px"
    if found.stated_stride == contract.stride:
        return text
    return f"{text}; {stated} at stride {found.stated_stride}, which was stated"
