"""Options of `segment` and `plan`."""

import argparse
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from pipelines.cli.options import Option, parse_options, positive
from pipelines.cli.parser import each_value
from pipelines.cli.values import MAX_FAILURES, MEMORY, FailureBudget, parse_share, parse_size
from segmodel.devices.compute import COMPUTE_TYPES, FLOAT32
from segmodel.errors import ConfigurationError

# A square of 8,192.
MAX_RESIZED_PIXELS = 1 << 26
OVERLAP_RULES = ("first", "newest")
GONE_RULES = ("stop", "keep", "prune")
# An address in an object store, in a Flex Template.
_ADDRESS = "[a-z0-9]+://.+"


def batch_size(text: str) -> int | str:
    """A number of windows, or `auto`.

    Raises:
        ArgumentTypeError: If it is neither.
    """
    if text != "auto" and not text.removeprefix("-").isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number of windows, or auto, got {text!r}")
    return text if text == "auto" else int(text)


def _parse_batch(batch: int | str) -> int | str:
    return batch if isinstance(batch, str) else int(positive(batch))


def _parse_halo(pixels: int) -> int:
    if pixels < 0:
        raise ValueError("must be at least 0")
    return pixels


def parse_resize(text: str) -> tuple[int, int]:
    """Height and width of a text such as `512` or `768x512`, which is width x height.

    Raises:
        ValueError: If it is no size.

    >>> parse_resize("512"), parse_resize("768x512")
    ((512, 512), (512, 768))
    """
    found = re.fullmatch(r"(\d+)(?:[xX](\d+))?", text.strip())
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < width * height <= MAX_RESIZED_PIXELS:
        raise ValueError(
            f"must be one number such as 512, or WIDTHxHEIGHT such as 768x512, of at most "
            f"{MAX_RESIZED_PIXELS} pixels"
        )
    return height, width


def parse_bands(text: str) -> tuple[str, ...]:
    """Numbers or names of bands in a text such as `4,3,2`.

    Raises:
        ValueError: If one is empty or named twice.

    >>> parse_bands("nir, red")
    ('nir', 'red')
    """
    bands = tuple(name.strip() for name in text.split(","))
    if not all(bands) or len(set(bands)) < len(bands):
        raise ValueError(
            "must be different numbers or names with commas between them, such as 4,3,2"
        )
    return bands


@dataclass(frozen=True)
class SegmentOptions:
    """What the user asked for; each field is declared with its option."""

    inputs: tuple[str, ...] = Option(
        "PATTERN",
        parse=partial(each_value, "--input"),
        example="'photos/*.jpg'",
        is_repeatable=True,
        pattern=rf"({_ADDRESS}|\s*\[.+\]\s*)",
        name="input",
    ).field()
    """images, shards or scenes: a file, a folder or a glob pattern (** for any depth); repeatable;
    one value may hold several as a JSON list"""
    model: str = Option(
        "DIR", example="models/earth", place="GCS_READ_FOLDER", pattern=_ADDRESS
    ).field()
    """SavedModel folder with a model contract"""
    output: str = Option("RUN", example="run", place="GCS_WRITE_FOLDER", pattern=_ADDRESS).field()
    """run directory; give the same one again to continue a run"""
    exclude: tuple[str, ...] = Option(
        "PATTERN", parse=partial(each_value, "--exclude"), is_repeatable=True
    ).field()
    """leave out what matches: a name of files or folders at any depth, such as '*.jpg', or a path
    below --input, such as '**/quicklook/*'; repeatable; one value may hold several as a JSON
    list"""
    window: int | None = Option("PX", int, positive, default_help="by memory").field()
    """side of a window's core, the part of a window whose labels are kept"""
    halo: int | None = Option(
        "PX", int, _parse_halo, default_help="by the contract", pattern="[0-9]+"
    ).field()
    """context around a core, which the model sees and whose labels are dropped"""
    batch: int | str | None = Option(
        "N",
        batch_size,
        _parse_batch,
        default_help="1",
        pattern="(auto|[1-9][0-9]*)",
    ).field()
    """windows in every call of the model; auto, for GPUs: as many as have 4 megapixels, or as many
    as device memory holds"""
    memory: int = MEMORY.field()
    accelerator: str | None = Option("TEXT", pattern="type:.+").field()
    """accelerator of the workers that run the model, where the runner starts machines; in the
    runner's notation, such as 'type:nvidia-l4;count:1;install-nvidia-driver' for Dataflow"""
    max_pixels: int | None = Option(
        "N", int, positive, default_help="178956970, or what --memory allows"
    ).field()
    """encoded images with more pixels are refused as decompression bombs"""
    resize: tuple[int, int] | None = Option(
        "PX", parse=parse_resize, pattern="[1-9][0-9]*([xX][1-9][0-9]*)?"
    ).field()
    """scale encoded images to this size for the model, and labels back: one number, or
    WIDTHxHEIGHT"""
    image_field: str | None = Option("NAME").field()
    """feature (TFRecord), column (Parquet) or extension (tar) that holds the image, in all shards
    of the run"""
    name_field: str | None = Option("NAME").field()
    """feature (TFRecord) or column (Parquet) that holds the name of the image"""
    stack: str | None = Option("PATTERN").field()
    """band files are one scene: a pattern such as '{scene}_SR_{band}.TIF', or a TOML file with one;
    other files of --input are left aside"""
    bands: tuple[str, ...] | None = Option(
        "LIST", parse=parse_bands, default_help="by the names in the contract, or all in order"
    ).field()
    """bands of scenes in the order of the model: numbers from 1, or names, such as 4,3,2"""
    resample_to: float | None = Option("M", float, positive).field()
    """ground sample distance at which the model sees scenes; label maps keep the grid of the
    scene"""
    crs: str | None = Option("CRS").field()
    """coordinate reference system, such as EPSG:25833, of scenes that have a transform and state
    none; label maps get it"""
    aoi: str | None = Option("FILE", place="GCS_READ_FILE", pattern=_ADDRESS).field()
    """area of interest, polygons of a vector file; pixels outside are not read, have no label, and
    have a line of their own in tables"""
    zones: str | None = Option("FILE", place="GCS_READ_FILE", pattern=_ADDRESS).field()
    """polygons of a vector file; zones.csv then has pixels and areas by zone and class"""
    zone_field: str | None = Option("NAME", default_help="name").field()
    """field with the names of zones"""
    overlap: str | None = Option("RULE", choices=OVERLAP_RULES).field()
    """count ground that several scenes show only once: in the first of them in order of --input
    and names (first), or in the newest (newest)"""
    check_seams: bool = Option().field()
    """label pixels near window borders twice, and report how many labels differ"""
    compute: str = Option("TYPE", default=FLOAT32, choices=COMPUTE_TYPES).field()
    """what the network computes in: float32; tf32, on GPUs; or bfloat16, on CPUs with avx512_bf16
    or amx_bf16; the last two change some labels"""
    confidence: bool = Option().field()
    """also write the probability of each label, as 8-bit images in which 1.0 is 255"""
    probabilities: bool = Option().field()
    """also write the probabilities of all classes, as 8-bit images in which 1.0 is 255: a band for
    each class of scenes, an image for each class of others"""
    soft_areas: bool = Option().field()
    """also sum the probabilities of all classes over pixels and ground, by label and class"""
    pixel_size: float | None = Option("M", float, positive).field()
    """side of a pixel on the ground, in metres, for images without coordinates"""
    copy_web: int | None = Option(
        "SIZE", parse=parse_size, pattern="[0-9]+([.][0-9]+)? ?[KMGTkmgt]?([Ii]?[Bb])?"
    ).field()
    """copy files of web servers, of up to this size, such as 500M, before they are read: image
    files, and scenes whose server gives no byte ranges; without it, they are refused"""
    max_failures: FailureBudget = MAX_FAILURES.field()
    max_out_of_range: Fraction = Option(
        "SHARE",
        parse=parse_share,
        default="25%",
        pattern="(0([.][0-9]+)?|1|100%|[0-9]{1,2}([.][0-9]+)?%)",
    ).field()
    """an image fails if more of its labelled pixels hold values outside the range of the model: a
    share such as 0.25, or 25%; its label map stays"""
    retry_failures: bool = Option().field()
    """repeat work units in which an image failed before"""
    gone: str = Option("RULE", default="stop", choices=GONE_RULES).field()
    """what becomes of a run whose inputs are not found any more, or are empty now: end before
    anything is changed (stop), keep their results and count them (keep), or remove their results
    (prune)"""
    overwrite: bool = Option().field()
    """delete the earlier run in RUN and begin anew"""
    limit: int | None = Option("N", int, positive).field()
    """only the first N images, for a quick look"""
    call_timeout: float | None = Option(
        "SECONDS", float, positive, default_help="none, as a call may take long on any machine"
    ).field()
    """give up a call of the model, or loading it, that takes longer; its work unit stays unfinished
    (exit status 4)"""
    trust_model: bool = Option().field()
    """load a model that may do more than compute, such as read files"""

    trust_inputs: bool = Option().field()
    """read what inputs such as VRTs name, wherever it is; without it, only what lies below the
    folders, and on the hosts, that --input names"""


def segment_options(parsed: argparse.Namespace) -> SegmentOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is missing or not possible; names it.
    """
    options = parse_options(SegmentOptions, parsed)
    if options.zone_field is not None and options.zones is None:
        raise ConfigurationError("--zone_field names a field of --zones: give both")
    return options
