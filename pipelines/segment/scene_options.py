"""Options of `segment` and `plan` that are about scenes."""

import argparse

from segmodel.errors import ConfigurationError

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
