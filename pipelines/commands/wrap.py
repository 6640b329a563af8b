"""Make a model of a SavedModel from elsewhere, as a TOML file describes it.

The file says how the network is called, how raw values are made what it expects, what it gives, its
classes, and how images may be cut for it. beamseg inspect prints signatures, inputs and outputs of
a SavedModel; docs/wrapping.md explains the keys of the file.

With --samples, the halo is measured, and whether labels depend on the size of the window. The new
model needs nothing of the old one; segment uses it like any other model.

Examples:
  beamseg inspect foreign
  beamseg wrap foreign --contract land.toml --output models/land --samples scenes/a.tif scenes/b.tif
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.cli.options import Option, add_options, parse_options, positive
from pipelines.cli.parser import Parser, parse
from pipelines.cli.values import MEASURE_SECONDS
from segmodel.errors import ConfigurationError


@dataclass(frozen=True)
class WrapOptions:
    """What the user asked for; each field is declared with its option."""

    contract: str = Option("FILE", example="contract.toml").field()
    """TOML file that describes the SavedModel"""
    output: str = Option("DIR", example="models/land").field()
    """folder for the new SavedModel"""
    samples: tuple[str, ...] = Option("FILE", takes_several=True).field()
    """images to measure halo and stride on: files, folders or quoted globs. Without this option,
    the halo is that of the file"""
    measure_seconds: float = Option(
        "SECONDS", type=float, parse=positive, default=MEASURE_SECONDS
    ).field()
    """time limit of each measurement"""
    trust_model: bool = Option().field()
    """load a SavedModel that may do more than compute, such as read files"""
    trust_inputs: bool = Option().field()
    """read what samples such as VRTs name, wherever it is"""


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg wrap", doc=__doc__)
    command.add_argument("model", nargs="?", metavar="SAVEDMODEL", help="folder of a SavedModel")
    add_options(command, WrapOptions)
    return command


def run(arguments: Sequence[str]) -> int:
    """Wrap the SavedModel; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)
    if not parsed.model:
        raise ConfigurationError("name a SavedModel before the options: see beamseg wrap --help")
    options = parse_options(WrapOptions, parsed)

    from pathlib import Path

    from pipelines.commands.inspect import describe_halo
    from pipelines.rasters.samples import read_samples
    from pipelines.storage.copies import local_folder
    from pipelines.storage.locations import check_local_output, checked
    from segmodel.devices.disks import room
    from segmodel.devices.startup import import_quietly

    check_local_output(options.output)
    if Path(options.output).resolve() == Path(parsed.model).resolve():
        raise ConfigurationError("--output is the SavedModel itself: name another folder")
    with import_quietly():
        from segmodel.savedmodel.export import check_replaceable
        from segmodel.savedmodel.folder import CONTRACT_FILE
        from segmodel.savedmodel.halo import Measuring
        from segmodel.savedmodel.wrap import Wrapping
        from segmodel.savedmodel.wrap_settings import load_wrap_config
        from segmodel.settings import naming_file

    config = load_wrap_config(options.contract)
    check_replaceable(Path(options.output))
    folder = local_folder(checked(parsed.model))
    if (Path(folder) / CONTRACT_FILE).is_file():
        raise ConfigurationError(
            f"{parsed.model} has a model contract already: segment takes it as it is, and "
            f"beamseg inspect prints it"
        )
    measuring = Measuring(options.measure_seconds, lambda line: print(line, flush=True))
    with naming_file(options.contract):
        wrapping = Wrapping(folder, config, options.trust_model)
    samples = read_samples(options.samples, wrapping.contract, options.trust_inputs)
    with room(options.output), naming_file(options.contract):
        contract = wrapping.export(options.output, samples, measuring)
    print(f"{contract.name}: stride {contract.stride}, {describe_halo(contract)}")
    print(f"model in {options.output}: see beamseg inspect")
    return 0
