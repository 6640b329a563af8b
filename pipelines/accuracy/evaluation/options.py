"""Options of `evaluate`."""

import argparse
from dataclasses import dataclass
from functools import partial

from pipelines.cli.options import Option, parse_options
from pipelines.cli.parser import each_value
from pipelines.cli.values import MAX_FAILURES, FailureBudget
from pipelines.datasets.options import ENCODINGS, parse_group_rule
from segmodel.errors import ConfigurationError

_MAX_BOUNDARY_PX = 512


def _parse_boundary(pixels: int) -> int:
    if not 1 <= pixels <= _MAX_BOUNDARY_PX:
        raise ValueError(f"must be in 1..{_MAX_BOUNDARY_PX}")
    return pixels


@dataclass(frozen=True)
class EvaluateOptions:
    """What the user asked for; each field is declared with its option."""

    reference: str = Option("PATTERN", example="masks/").field()
    """what is true: a folder or a pattern of masks or of shards with masks, which have the paths of
    the inputs; one raster with a place; or a file of polygons or points"""
    output: str = Option("DIR", example="scores").field()
    """folder of the results; give the same one again to continue an evaluation"""
    classes: str | None = Option("FILE", default_help="those of the model").field()
    """TOML file with [[classes]], and ignore_colors or ignore_ids in [data]: what values of masks
    mean; it may be the configuration of a training run; classes have the names of the model's"""
    mask_encoding: str | None = Option(
        "ENCODING", choices=ENCODINGS, default_help="as --classes says, or ids of any kind"
    ).field()
    """what masks hold: color (red, green, blue of a class), palette (indices of an indexed image
    are class ids) or id (grey levels are)"""
    class_field: str | None = Option(
        "NAME", default_help="name for polygons, class for points"
    ).field()
    """field of polygons or points with the name or the id of the class"""
    zones: str | None = Option("FILE").field()
    """polygons of a vector file; scores are then also given by zone"""
    zone_field: str | None = Option("NAME", default_help="name").field()
    """field with the names of zones"""
    group_by: str | None = Option("RULE", parse=parse_group_rule).field()
    r"""scores are also given by group: 'folder', or a regular expression with one group that finds
    a name in the path, such as 'tile_(\d+)'"""
    boundary_px: int | None = Option("PX", int, _parse_boundary).field()
    """also give boundary IoU, of pixels that are no further than this from a boundary"""
    model: str | None = Option("DIR").field()
    """label --input with this model first, or continue to, as segment does with RUN as --output"""
    inputs: tuple[str, ...] = Option(
        "PATTERN", parse=partial(each_value, "--input"), is_repeatable=True, name="input"
    ).field()
    """with --model: images, shards or scenes; repeatable"""
    confidence: bool = Option().field()
    """with --model: also write the probability of each label, which reliability needs"""
    max_failures: FailureBudget = MAX_FAILURES.field()
    retry_failures: bool = Option().field()
    """repeat work units in which an image failed before"""
    overwrite: bool = Option().field()
    """delete the earlier evaluation in DIR and begin anew"""


def evaluate_options(parsed: argparse.Namespace) -> EvaluateOptions:
    """Checked options.

    Raises:
        ConfigurationError: If one is missing or not possible; names it.
    """
    options = parse_options(EvaluateOptions, parsed)
    if options.zone_field is not None and options.zones is None:
        raise ConfigurationError("--zone_field names a field of --zones: give both")
    if bool(options.model) != bool(options.inputs):
        raise ConfigurationError("--model and --input go together: give both, or a finished RUN")
    if options.confidence and not options.model:
        raise ConfigurationError(
            "--confidence is for --model: a finished RUN has confidence, or has not"
        )
    return options
