"""`beamseg ensemble`: one SavedModel out of several, or out of several views of one."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from pipelines.cli.parser import Parser, parse
from segmodel.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    import numpy as np

    from segmodel.savedmodel.contract import Contract
    from segmodel.tiling.pixels import Pixels
    from segmodel.tiling.windows import Window

HELP = """\
Make one SavedModel that gives the mean of the probabilities of several SavedModels, or of one that
sees each image mirrored, turned and scaled. `segment` needs no option for it.

The models must have the same bands, dtype, value range, nodata fill and classes. Time and scores
are not those of the models: as many times as there are models and views, and no scores at all until
the ensemble itself is evaluated.
"""

EXAMPLES = """\
examples:
  beamseg ensemble training/a/model training/b/model --output models/both
  beamseg ensemble training/a/model --flips --turns --output models/steady
  beamseg ensemble training/a/model --scales 0.75,1,1.25 --samples scenes/ --output models/scales
"""

MOST_SAMPLES = 4
# Three cores of the halo's measurement side by side.
SAMPLE_PX = 1536


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg ensemble", description=HELP, epilog=EXAMPLES)
    command.add_argument(
        "models", nargs="*", metavar="MODEL", help="SavedModel folder with a model contract"
    )
    command.add_argument("--output", metavar="DIR", help="folder for the new SavedModel")
    command.add_argument("--name", help="of the ensemble; made of those of the models by default")
    command.add_argument(
        "--flips",
        action="store_true",
        help="also mirrored left to right, top to bottom, and both; with --turns all eight "
        "symmetries of the square",
    )
    command.add_argument("--turns", action="store_true", help="also by quarters of a turn")
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
        help="images to measure the halo on: a folder or a quoted glob; repeatable. Without any, "
        "the halo follows from those of the models",
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

    from segmodel.devices.startup import quiet_start

    with quiet_start():
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


def read_samples(patterns: Sequence[str], contract: "Contract") -> list["np.ndarray"]:
    """Up to 4 images, of each at most 1536 x 1536 pixels from its middle.

    Args:
        patterns: Files, folders or globs.
        contract: What the images must fit.

    Raises:
        ConfigurationError: If a pattern matches no image.
        ContractError: If bands or dtype of an image do not fit; names the file.
        InputError: If an image cannot be read; names the file.
    """
    samples: list[np.ndarray] = []
    for pattern in patterns:
        found = list(islice(_images(pattern), MOST_SAMPLES))
        if not found:
            raise ConfigurationError(f"--samples: no image matches {pattern}")
        samples += [_read_sample(uri, contract) for uri in found[: MOST_SAMPLES - len(samples)]]
    return samples


def _images(pattern: str) -> Iterator[str]:
    from pipelines.inputs.listing import find_files
    from pipelines.storage.locations import checked
    from segmodel.images.encoded import IMAGE_SUFFIXES

    for file in find_files(checked(pattern)):
        if file.uri.lower().endswith(tuple(IMAGE_SUFFIXES)):
            yield file.uri


def _read_sample(uri: str, contract: "Contract") -> "np.ndarray":
    """The middle of an image, with the model's fill where it is nodata."""
    import numpy as np

    is_raster = uri.lower().endswith((".tif", ".tiff"))
    try:
        pixels = _raster_pixels(uri) if is_raster else _encoded_pixels(uri, len(contract.bands))
    except InputError as error:
        raise InputError(f"{uri}: {error}") from error
    contract.check_input(pixels.values.shape[2], pixels.values.dtype.name, uri)
    if pixels.valid is None:
        return pixels.values
    return np.where(pixels.valid[..., None], pixels.values, contract.fill)


def _encoded_pixels(uri: str, bands: int) -> "Pixels":
    from pipelines.storage.filesystem import read_bytes
    from segmodel.images.encoded import decode_pixels
    from segmodel.tiling.pixels import Pixels

    whole = decode_pixels(read_bytes(uri), bands)
    part = _middle(*whole.values.shape[:2]).slices
    return Pixels(whole.values[part].copy(), None if whole.valid is None else whole.valid[part])


def _raster_pixels(uri: str) -> "Pixels":
    import numpy as np

    from pipelines.rasters.gdal import GDAL_ERRORS, environment, open_scene
    from segmodel.tiling.pixels import Pixels

    with environment(uri), open_scene(uri) as source:
        part = _middle(source.height, source.width)
        rows, columns = part.slices
        window = (rows.start, rows.stop), (columns.start, columns.stop)
        try:
            values = np.moveaxis(source.read(window=window), 0, -1)
            return Pixels(values, source.dataset_mask(window=window) > 0)
        except GDAL_ERRORS as error:
            raise InputError(f"cannot be read: {error}") from error


def _middle(height: int, width: int) -> "Window":
    """What is read of an image.

    >>> _middle(2000, 100)
    Window(row=232, column=0, height=1536, width=100)
    """
    from segmodel.tiling.windows import Window

    rows, columns = min(height, SAMPLE_PX), min(width, SAMPLE_PX)
    return Window((height - rows) // 2, (width - columns) // 2, rows, columns)
