"""Make one SavedModel of several, or of one that labels images also mirrored, turned and scaled.

The new model gives the mean of all probabilities; `segment` uses it like any other model.

The models must have the same bands, dtype, value range, nodata fill and classes. The ensemble takes
the time of all models and views together. It has no scores until it is evaluated itself.

Examples:
  beamseg ensemble training/a/model training/b/model --output models/both
  beamseg ensemble training/a/model --flips --turns --output models/steady
  beamseg ensemble training/a/model --scales 0.75,1,1.25 --samples scenes/ --output models/scales
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.cli.parser import Parser, parse
from segmodel.errors import ConfigurationError

if TYPE_CHECKING:
    from segmodel.savedmodel.contract import Contract


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg ensemble", doc=__doc__)
    command.add_argument(
        "models", nargs="*", metavar="MODEL", help="SavedModel folder with a model contract"
    )
    command.add_argument("--output", metavar="DIR", help="folder for the new SavedModel")
    command.add_argument(
        "--name", help="name of the ensemble (default: from the names of the models)"
    )
    command.add_argument(
        "--flips",
        action="store_true",
        help="label images also mirrored left to right, top to bottom, and both; with --turns all "
        "eight symmetries of the square",
    )
    command.add_argument(
        "--turns", action="store_true", help="label images also turned by 90, 180 and 270 degrees"
    )
    command.add_argument(
        "--scales",
        default="1",
        metavar="LIST",
        help="factors of height and width in 0.25..4, such as 0.75,1,1.25 (default 1); each needs "
        "windows on multiples of the model's stride times the denominator of the factor",
    )
    command.add_argument(
        "--samples",
        action="append",
        default=[],
        metavar="PATTERN",
        help="images to measure the halo on: a folder or a quoted glob; repeatable. Without this "
        "option, the halo is computed from the halos of the models",
    )
    command.add_argument(
        "--trust_model", action="store_true", help="load models whose operations touch files"
    )
    return command


def run(arguments: Sequence[str]) -> int:
    """Make the ensemble; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    if not parsed.models:
        raise ConfigurationError("name a model: see beamseg ensemble --help")
    if not parsed.output:
        raise ConfigurationError("--output is missing: see beamseg ensemble --help")

    from pathlib import Path

    output = Path(parsed.output).resolve()
    for model in parsed.models:
        if output == Path(model).resolve():
            raise ConfigurationError(f"--output is one of the models, {model}: name another folder")

    from segmodel.savedmodel.views import Views, parse_scales

    views = Views(parsed.flips, parsed.turns, parse_scales(parsed.scales))

    from pipelines.rasters.samples import read_samples
    from segmodel.devices.startup import import_quietly

    with import_quietly():
        from segmodel.savedmodel.ensemble import export_ensemble, load_ensemble

    ensemble = load_ensemble(parsed.models, views, parsed.name, parsed.trust_model)
    samples = read_samples(parsed.samples, ensemble.contract)
    contract = export_ensemble(ensemble, parsed.output, samples)
    print(f"{contract.architecture}: stride {contract.stride}, {_halo(contract)}")
    print(f"model in {parsed.output}: see beamseg inspect")
    return 0


def _halo(contract: "Contract") -> str:
    halo = contract.halo
    if halo.equal_labels is None:
        return f"halo {halo.pixels} px by those of the models"
    return f"halo {halo.pixels} px, measured: {100 * halo.equal_labels:.2f} % of labels as untiled"
