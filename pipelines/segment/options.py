"""Options of `segment` and `plan`: one list, for our own parser and for Beam's."""

import argparse
import re
from dataclasses import dataclass

from pipelines.cli.parser import each_value
from pipelines.cli.values import DEFAULT_MEMORY_BYTES, FailureBudget, parse_size
from segmodel.errors import ConfigurationError

# A square of 8,192.
MAX_RESIZED_PIXELS = 1 << 26


@dataclass(frozen=True)
class SegmentOptions:
    """What the user asked for; see the help texts below for the fields."""

    inputs: tuple[str, ...]
    model: str
    output: str
    window: int | None = None
    halo: int | None = None
    batch: int | str | None = None
    memory: int = DEFAULT_MEMORY_BYTES
    accelerator: str | None = None
    max_pixels: int | None = None
    resize: tuple[int, int] | None = None
    image_field: str | None = None
    name_field: str | None = None
    bands: tuple[str, ...] | None = None
    resample_to: float | None = None
    aoi: str | None = None
    zones: str | None = None
    zone_field: str | None = None
    overlap: str | None = None
    check_seams: bool = False
    confidence: bool = False
    pixel_size: float | None = None
    max_failures: FailureBudget = FailureBudget(0, None)
    retry_failures: bool = False
    overwrite: bool = False
    limit: int | None = None
    trust_model: bool = False


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of `segment`, spelled as Beam spells its own.

    Nothing is marked as required here, as Beam parses every options class in every pipeline;
    `segment_options` checks.
    """
    parser.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="images, shards or scenes: a file, a folder or a glob (** for any depth); repeatable, "
        "and several in one value as a JSON list",
    )
    parser.add_argument("--model", metavar="DIR", help="SavedModel folder with a model contract")
    parser.add_argument("--output", metavar="RUN", help="run directory; the same one resumes")
    _add_sizes(parser)
    _add_reading(parser)
    add_scene_arguments(parser)
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="also write the probability of each label, as 8-bit images in which 1.0 is 255",
    )
    parser.add_argument(
        "--pixel_size",
        type=float,
        metavar="M",
        help="side of a pixel on the ground, in metres, for images without coordinates",
    )
    _add_policy(parser)
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N images, for a quick look"
    )
    parser.add_argument(
        "--trust_model", action="store_true", help="load a model whose operations touch files"
    )


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window", type=int, metavar="PX", help="side of a window's core (default: by memory)"
    )
    parser.add_argument(
        "--halo", type=int, metavar="PX", help="context around a core (default: by the contract)"
    )
    parser.add_argument(
        "--batch",
        type=batch_size,
        metavar="N",
        help="windows in every call of the model (default: 1, or more where they are small); auto, "
        "for GPUs: as many as have 4 megapixels, or what device memory holds",
    )
    parser.add_argument(
        "--memory",
        default="4G",
        metavar="SIZE",
        help="memory that one worker process may take, such as 2500M (default: 4G)",
    )
    parser.add_argument(
        "--accelerator",
        metavar="TEXT",
        help="for the workers that run the model, where the runner starts machines; in words of "
        "the runner, such as 'type:nvidia-l4;count:1;install-nvidia-driver' for Dataflow",
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max_pixels",
        type=int,
        metavar="N",
        help="encoded images with more pixels are refused as decompression bombs "
        "(default: 178956970, or what --memory allows)",
    )
    parser.add_argument(
        "--resize",
        metavar="PX",
        help="scale encoded images for the model, and labels back: one number, or WIDTHxHEIGHT",
    )
    parser.add_argument(
        "--image_field",
        metavar="NAME",
        help="feature (TFRecord), column (Parquet) or extension (tar) that holds the image, in all "
        "shards of the run",
    )
    parser.add_argument(
        "--name_field",
        metavar="NAME",
        help="feature (TFRecord) or column (Parquet) that holds the name of the image",
    )


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max_failures",
        default="0",
        metavar="N",
        help="images that may fail: a number, a share such as 0.01, or 1%% (default: 0)",
    )
    parser.add_argument(
        "--retry_failures",
        action="store_true",
        help="do units again in which an image failed before",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what an earlier run left in RUN"
    )


def segment_options(parsed: argparse.Namespace) -> SegmentOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is missing or not possible; names it.
    """
    _check_values(parsed)
    try:
        budget = FailureBudget.parse(str(parsed.max_failures))
    except (ValueError, ZeroDivisionError):
        raise ConfigurationError(
            "--max_failures must be a whole number, a share such as 0.01 or a percentage such as "
            f"1%, got {parsed.max_failures!r}"
        ) from None
    return SegmentOptions(
        inputs=each_value("--input", parsed.input),
        model=parsed.model,
        output=parsed.output,
        window=parsed.window,
        halo=parsed.halo,
        batch=parsed.batch,
        memory=parse_size(parsed.memory),
        accelerator=parsed.accelerator,
        max_pixels=parsed.max_pixels,
        resize=None if parsed.resize is None else parse_resize(parsed.resize),
        image_field=parsed.image_field,
        name_field=parsed.name_field,
        bands=None if parsed.bands is None else parse_bands(parsed.bands),
        resample_to=parsed.resample_to,
        aoi=parsed.aoi,
        zones=parsed.zones,
        zone_field=parsed.zone_field,
        overlap=parsed.overlap,
        check_seams=parsed.check_seams,
        confidence=parsed.confidence,
        pixel_size=parsed.pixel_size,
        max_failures=budget,
        retry_failures=parsed.retry_failures,
        overwrite=parsed.overwrite,
        limit=parsed.limit,
        trust_model=parsed.trust_model,
    )


def _check_values(parsed: argparse.Namespace) -> None:
    for name, example in (
        ("input", "--input 'photos/*.jpg'"),
        ("model", "--model models/earth"),
        ("output", "--output run"),
    ):
        if not getattr(parsed, name):
            raise ConfigurationError(f"--{name} is missing, for example {example}")
    if parsed.zone_field is not None and parsed.zones is None:
        raise ConfigurationError("--zone_field names a field of --zones: give both")
    for name in ("window", "batch", "limit", "pixel_size", "max_pixels", "resample_to"):
        value = getattr(parsed, name)
        if value not in (None, "auto") and not 0 < value < float("inf"):
            raise ConfigurationError(f"--{name} must be greater than 0, got {value}")
    if parsed.halo is not None and parsed.halo < 0:
        raise ConfigurationError(f"--halo must be at least 0, got {parsed.halo}")


def batch_size(text: str) -> int | str:
    """A number of windows, or `auto`."""
    return text if text == "auto" else int(text)


def parse_resize(text: str) -> tuple[int, int]:
    """Height and width of a text such as `512` or `768x512`, which is width x height.

    Raises:
        ConfigurationError: If it is no size.

    >>> parse_resize("512"), parse_resize("768x512")
    ((512, 512), (512, 768))
    """
    found = re.fullmatch(r"(\d+)(?:[xX](\d+))?", str(text).strip())
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < width * height <= MAX_RESIZED_PIXELS:
        raise ConfigurationError(
            f"--resize must be one number such as 512, or WIDTHxHEIGHT such as 768x512, of at most "
            f"{MAX_RESIZED_PIXELS} pixels, got {text!r}"
        )
    return height, width


OVERLAP_RULES = ("first", "newest")


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options that are about scenes."""
    parser.add_argument(
        "--bands",
        metavar="LIST",
        help="bands of scenes in the order of the model: numbers from 1, or names, such as 4,3,2 "
        "(default: by the names in the contract, or all in order)",
    )
    parser.add_argument(
        "--resample_to",
        type=float,
        metavar="M",
        help="ground sample distance at which the model sees scenes; labels are on their own grid",
    )
    parser.add_argument(
        "--aoi",
        metavar="FILE",
        help="polygons of a vector file; what lies outside is nodata and is not read",
    )
    parser.add_argument(
        "--zones",
        metavar="FILE",
        help="polygons of a vector file; zones.csv then has pixels and areas by zone and class",
    )
    parser.add_argument(
        "--zone_field", metavar="NAME", help="field with the names of zones (default: name)"
    )
    parser.add_argument(
        "--overlap",
        choices=OVERLAP_RULES,
        help="count ground that several scenes show once: in the first of them in order of --input "
        "and names, or in the newest",
    )
    parser.add_argument(
        "--check_seams",
        action="store_true",
        help="label what lies near borders of windows twice, and say how much differs",
    )


def parse_bands(text: str) -> tuple[str, ...]:
    """Numbers or names of bands in a text such as `4,3,2`.

    Raises:
        ConfigurationError: If one is empty or named twice.

    >>> parse_bands("nir, red")
    ('nir', 'red')
    """
    bands = tuple(name.strip() for name in text.split(","))
    if not all(bands) or len(set(bands)) < len(bands):
        raise ConfigurationError(
            f"--bands must be different numbers or names with commas between them, such as 4,3,2, "
            f"got {text!r}"
        )
    return bands
