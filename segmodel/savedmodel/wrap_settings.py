"""The TOML file that describes a SavedModel of others: how it is called, and what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    StrictBool,
    StrictFloat,
    StrictInt,
    WithJsonSchema,
)

from segmodel.errors import ConfigurationError
from segmodel.labels.class_settings import class_table
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import DTYPES
from segmodel.savedmodel.preprocessing import parse_steps
from segmodel.settings import (
    Count,
    Integers,
    Numbers,
    OneOf,
    Whole,
    Words,
    parsed_toml,
    settings,
    table_of_settings,
)

INPUT_LAYOUTS = ("NHWC", "NCHW", "HWC", "CHW")
OUTPUT_LAYOUTS = (*INPUT_LAYOUTS, "NHW", "HW")
KINDS = ("logits", "probabilities", "labels")
# Windows are tried whole; more than this fits no memory.
MAX_WINDOW_PX, MAX_STRIDE_PX = 8192, 1024


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not all(names):
        raise ValueError(f"must be different names, got {list(names)}")
    return names


def _channels(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(numbers)) != len(numbers) or min(numbers, default=0) < 0:
        raise ValueError(f"must be different numbers from 0, got {list(numbers)}")
    return numbers


def _resolution(value: Any) -> Fraction:
    """The fraction in a number or a text such as `1/4`.

    >>> _resolution("1/4"), _resolution(0.25), _resolution(2)
    (Fraction(1, 4), Fraction(1, 4), Fraction(2, 1))
    """
    try:
        found = value if isinstance(value, Fraction) else Fraction(str(value))
        if found > 0 and 1 in (found.numerator, found.denominator):
            return found
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(
        f"must be 1, a fraction 1/n of whole n such as '1/4', or a whole number, got {value!r}"
    )


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if values and (len(values) != 2 or not 0 < values[0] <= values[1] < math.inf):
        raise ValueError(f"must be two rising positive numbers, got {list(values)}")
    return values


Steps = Annotated[
    InstanceOf[tuple],  # type: ignore[type-arg]
    BeforeValidator(parse_steps),
    WithJsonSchema({"type": "array", "items": {"type": "step"}}),
]
Resolution = Annotated[
    InstanceOf[Fraction], BeforeValidator(_resolution), WithJsonSchema({"type": "fraction"})
]


@settings("model")
class WrappedModel:
    """What the images are and what the model is called."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the model."""
    bands: Annotated[Words, AfterValidator(_different)]
    """Names of the bands of your images, in order."""
    dtype: Annotated[str, OneOf(DTYPES)]
    """Sample type of your images: `uint8`, `uint16`, `int16` or `float32`."""
    value_range: Numbers = ()
    """Least and greatest raw value; empty is 0 to 255, for uint8 only."""
    nodata_fill: Numbers = (0.0,)
    """Raw value that the network sees in place of nodata, and beyond the right and the lower edge
    of an image: one number, or one for each band."""
    gsd_range_m: Annotated[Numbers, AfterValidator(_rising)] = ()
    """Least and greatest ground sample distance in metres, of both sides of a pixel; `segment`
    refuses scenes outside; empty: none is refused. Pixels of 10 m in a map have 9.98 to 10.02 m on
    the ground, so leave room."""
    architecture: str = "unknown"
    """What kind of network it is, for people."""
    about: str = ""
    """Where it comes from and what it was trained on, for people."""

    def __post_init__(self) -> None:
        if not self.bands:
            raise ConfigurationError("model.bands must name at least one band")
        if not self.value_range and self.dtype != "uint8":
            raise ConfigurationError(
                f"model.value_range is missing: two numbers, the least and the greatest value of "
                f"{self.dtype} images that the network was trained on"
            )
        low, high = (*self.limits, math.nan, math.nan)[:2]
        if len(self.limits) != 2 or not -math.inf < low < high < math.inf:
            raise ConfigurationError(
                f"model.value_range must be two rising numbers, got {list(self.value_range)}"
            )
        if len(self.nodata_fill) not in (1, len(self.bands)):
            raise ConfigurationError(
                f"model.nodata_fill must be one number, or one for each of {len(self.bands)} "
                f"bands, got {len(self.nodata_fill)}"
            )

    @property
    def limits(self) -> tuple[float, ...]:
        """Least and greatest raw value."""
        return self.value_range or (0.0, 255.0)

    @property
    def fill(self) -> tuple[float, ...]:
        """Fill value of each band."""
        return tuple(np.broadcast_to(self.nodata_fill, len(self.bands)).tolist())


@settings("savedmodel")
class SavedModelCall:
    """What of the SavedModel is called."""

    signature: str = "serving_default"
    """Name of the signature, or of a function of the saved object such as `__call__`; a signature
    that is the only one is taken."""
    tags: Words = ()
    """Tags of the graph, of a SavedModel with several graphs; empty: the one with the tag
    `serve`."""
    constants: Mapping[str, StrictBool | StrictInt | StrictFloat] = Field(default_factory=dict)
    """Values of further inputs by name, such as `{ is_training = false, keep_prob = 1.0 }`."""
    batch: Count | None = None
    """Images in a call, where the network takes a fixed number that its signature does not
    state."""


@settings("input")
class WrappedInput:
    """How the network takes an image."""

    name: str = ""
    """Name of the input; empty: the only one."""
    layout: Annotated[str, OneOf(INPUT_LAYOUTS)] = "NHWC"
    """Order of the axes: `NHWC` (batch, height, width, channels), `NCHW`, or without a batch `HWC`
    or `CHW`."""
    bands: Annotated[Words, AfterValidator(_different)] = ()
    """Bands of `model.bands` in the order in which the network takes them; empty: all, in their
    order."""
    preprocessing: Steps = ()
    """What is done to raw values before the network sees them, in order: words `log` (natural),
    `log1p`, `log2`, `log10`, `exp`, `sqrt`, `square`, `sigmoid`, `tanh`, `round`, and tables of one
    key `scale` (multiply), `offset` (add), `mean` (subtract), `std` (divide), `power`, `clip`
    (least and greatest), each with one number for all bands or a list of one for each."""


@settings("output")
class WrappedOutput:
    """What the network gives."""

    name: str | StrictInt = ""
    """Name of the output, or its number from 0 in the order of names; empty: the only one."""
    layout: Annotated[str, OneOf(OUTPUT_LAYOUTS)] = "NHWC"
    """Order of the axes, as `input.layout`; `NHW` and `HW` are one value a pixel."""
    kind: Annotated[str, OneOf(KINDS)] = "logits"
    """`logits` (scores before softmax or sigmoid), `probabilities` (after it) or `labels` (class
    ids). One channel for two classes is the score of the second one."""
    channels: Annotated[Integers, AfterValidator(_channels)] = ()
    """Channels that are scores of the classes, from 0, in the order of the classes; empty: all."""
    resolution: Resolution = Fraction(1)
    """Pixels of the output for a pixel of the input, along a side: `1`, a fraction such as `"1/4"`,
    or a whole number; other resolutions than 1 are resized."""
    resize: Annotated[str, OneOf(("bilinear", "nearest"))] = "bilinear"
    """How scores are resized to the resolution of the input; labels always by `nearest`."""
    margin: Whole = 0
    """Pixels of the input at each side for which the output has none, as of a network without
    padding; so many pixels of fill are added around each window."""


@settings("window")
class WrappedWindow:
    """How an image may be cut for the network."""

    stride: Annotated[Count, Field(le=MAX_STRIDE_PX)] | None = None
    """Multiple of which sides and origins of windows must be; none: the least that is found by
    trial."""
    receptive_field: Count | None = None
    """Side in pixels of the square that one output pixel can see; none: unknown."""
    halo: Annotated[Whole, Field(le=MAX_WINDOW_PX // 2)] | None = None
    """Pixels of context around what a window labels, where it is not measured with `--samples`;
    none: half the receptive field, of a fixed window an eighth of its side."""
    size: Annotated[Count, Field(le=MAX_WINDOW_PX)] | None = None
    """Side of the only window that the network takes; none: that of its signature, or any size."""


@settings("")
class WrapConfig:
    """A whole description."""

    model: WrappedModel
    classes: Annotated[
        InstanceOf[ClassTable], BeforeValidator(class_table), WithJsonSchema({"type": "array"})
    ]
    savedmodel: SavedModelCall = Field(default_factory=SavedModelCall)
    input: WrappedInput = Field(default_factory=WrappedInput)
    output: WrappedOutput = Field(default_factory=WrappedOutput)
    window: WrappedWindow = Field(default_factory=WrappedWindow)

    def __post_init__(self) -> None:
        known = self.model.bands
        for band in self.input.bands:
            if band not in known:
                raise ConfigurationError(
                    f"input.bands must be of model.bands ({', '.join(known)}), got {band!r}"
                )
        stride, parts = self.window.stride, self.output.resolution.denominator
        if stride is not None and stride % parts:
            raise ConfigurationError(
                f"window.stride must be a multiple of {parts}, as output.resolution is "
                f"{self.output.resolution}, got {stride}"
            )

    @property
    def input_bands(self) -> tuple[str, ...]:
        """Bands in the order in which the network takes them."""
        return self.input.bands or self.model.bands


_TABLES = {name: kind for name, kind in get_type_hints(WrapConfig).items() if name != "classes"}


def load_wrap_config(path: str | Path) -> WrapConfig:
    """The description in a TOML file.

    Args:
        path: The file.

    Raises:
        ConfigurationError: If the file cannot be read, or a key or a value is wrong; the text
            names the file and the key.
    """
    with parsed_toml(path) as document:
        return WrapConfig(**({"model": {}, "classes": []} | document))


def wrap_settings_table() -> str:
    """All keys of a description as rows of a Markdown table."""
    return table_of_settings(_TABLES)
