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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cli.options import Option, add_options, parse_options, positive
from pipelines.cli.parser import Parser, parse
from pipelines.cli.values import MEASURE_SECONDS
from segmodel.errors import ConfigurationError

if TYPE_CHECKING:
    from segmodel.savedmodel.contract import Contract


@dataclass(frozen=True)
class EnsembleOptions:
    """What the user asked for; each field is declared with its option."""

    output: str | None = Option("DIR").field()
    """folder for the new SavedModel"""
    name: str | None = Option("NAME", default_help="from the names of the models").field()
    """name of the ensemble"""
    flips: bool = Option().field()
    """label images also mirrored left to right, top to bottom, and both; with --turns all eight
    symmetries of the square"""
    turns: bool = Option().field()
    """label images also turned by 90, 180 and 270 degrees"""
    scales: str = Option("LIST", default="1").field()
    """factors of height and width in 0.25..4, such as 0.75,1,1.25; each needs windows on multiples
    of the model's stride times the denominator of the factor"""
    samples: tuple[str, ...] = Option("PATTERN", takes_several=True).field()
    """images to measure the halo on: files, folders or quoted globs. Without this option, the halo
    is computed from the halos of the models"""
    measure_seconds: float = Option(
        "SECONDS", type=float, parse=positive, default=MEASURE_SECONDS
    ).field()
    """time limit of the measurement on samples"""
    trust_model: bool = Option().field()
    """load models that may do more than compute, such as read files"""
    trust_inputs: bool = Option().field()
    """read what samples such as VRTs name, wherever it is"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg ensemble", doc=__doc__)
    command.add_argument(
        "models", nargs="*", metavar="MODEL", help="SavedModel folder with a model contract"
    )
    add_options(command, EnsembleOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Make the ensemble; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    options = parse_options(EnsembleOptions, parsed)
    if not parsed.models:
        raise ConfigurationError("name a model: see beamseg ensemble --help")
    if not options.output:
        raise ConfigurationError("--output is missing: see beamseg ensemble --help")

    from pathlib import Path

    from pipelines.storage.locations import check_local_output

    output = Path(check_local_output(options.output)).resolve()
    for model in parsed.models:
        if output == Path(model).resolve():
            raise ConfigurationError(f"--output is one of the models, {model}: name another folder")

    from segmodel.savedmodel.views import Views, parse_scales

    views = Views(options.flips, options.turns, parse_scales(options.scales))

    from pipelines.rasters.samples import read_samples
    from segmodel.devices.disks import room
    from segmodel.devices.startup import import_quietly

    with import_quietly():
        from segmodel.savedmodel.ensemble import export_ensemble, load_ensemble
        from segmodel.savedmodel.halo import Measuring

    ensemble = load_ensemble(parsed.models, views, options.name, options.trust_model)
    samples = read_samples(options.samples, ensemble.contract, options.trust_inputs)
    measuring = Measuring(options.measure_seconds, lambda line: print(line, flush=True))
    with room(options.output):
        contract = export_ensemble(ensemble, options.output, samples, measuring=measuring)
    print(f"{contract.architecture}: stride {contract.stride}, {_halo(contract)}")
    print(f"model in {options.output}: see beamseg inspect")
    return 0


def _halo(contract: "Contract") -> str:
    halo = contract.halo
    if halo.equal_labels is None:
        return f"halo {halo.pixels} px by those of the models"
    return f"halo {halo.pixels} px, measured: {100 * halo.equal_labels:.2f} % of labels as untiled"
