"""Print what a SavedModel says about itself: input, classes, window and halo, scores, versions.

Examples:
  beamseg inspect models/land
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipelines.cli.parser import Parser, parse

if TYPE_CHECKING:
    from segmodel.savedmodel.contract import Contract


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg inspect", doc=__doc__)
    command.add_argument("model", metavar="MODEL", help="SavedModel folder with a model contract")
    return command


def run(arguments: Sequence[str]) -> int:
    """Print the contract; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    from pipelines.storage.copies import open_model

    model = open_model(parsed.model)
    print(*describe(model.contract, model.fingerprint), sep="\n")
    return 0


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
    halo = contract.halo
    seen = "unknown" if contract.receptive_field is None else f"{contract.receptive_field} px"
    text = f"stride {contract.stride}, receptive field {seen}, halo {halo.pixels} px"
    if halo.equal_labels is not None:
        share = f"{100 * halo.equal_labels:.2f} % of labels as untiled"
        text += f" ({share}, cores of {halo.window_px} px)"
    if contract.fixed_window is not None:
        text += f", window fixed at {contract.fixed_window} px"
    return text
