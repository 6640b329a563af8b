"""The model contract: what a SavedModel says about itself in `assets.extra/segmodel.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from segmodel.devices.compute import BFLOAT16
from segmodel.errors import ContractError, FailureCode
from segmodel.labels.classes import ClassTable, LabelClass, format_color, parse_color
from segmodel.rasters.sample_types import conversion_remedy, is_convertible
from segmodel.tiling.borders import BorderCurve
from segmodel.tiling.windows import Batch, Layout

FORMAT_VERSION = 1
# Sides of samples: several strides, unless those are long.
SAMPLE_STRIDES, MIN_SAMPLE_PX, MAX_SAMPLE_PX = 8, 64, 1024
# Side of the squares of one colour in samples, so that a network sees edges and areas.
SQUARE_PX = 16
DTYPES = ("uint8", "uint16", "int16", "float32")
# Fields that a contract may lack, and whose names in JSON are their own.
_OPTIONAL = ("fixed_window", "bytes_per_pixel", "calibration", "training_data", "metrics")
# Least share of labels that must be as by float32 where a compute type is offered.
MIN_EQUAL_LABELS = 0.99

# What helps where pixels of a scene have another size than those of the model.
RESAMPLE = "resample it with --resample_to (or gdalwarp -tr WIDTH HEIGHT -r average -dstalpha)"


@dataclass(frozen=True)
class MeasuredHalo:
    """The least halo at which tiled labels were measured to equal untiled ones.

    Args:
        pixels: Halo in pixels.
        window_px: Longest side, in pixels, of the cores that it was measured with.
        equal_labels: Share of labels that were equal in [0, 1], or None if it was not measured.
        curve: Shares of unequal labels by distance to the border of a window, from which the halo
            follows for cores of other sides; None if there is none, as in older contracts.
    """

    pixels: int
    window_px: int
    equal_labels: float | None
    curve: BorderCurve | None = None

    def __post_init__(self) -> None:
        curve = self.curve
        if curve is None:
            return
        if curve.step_px < 1 or not curve.unequal_labels:
            raise ContractError(
                f"halo.curve: needs a step of at least 1 and a share for each, got {curve}"
            )
        if not all(0 <= share <= 1 for share in curve.unequal_labels):
            raise ContractError(f"halo.curve: shares must be in [0, 1]: {curve.unequal_labels}")

    def px_for(self, side_px: int) -> int:
        """Halo in pixels for square cores of a side in pixels."""
        found = self.curve.least_halo_px(side_px) if self.curve else None
        return self.pixels if found is None else found

    def to_json(self) -> dict[str, Any]:
        """The entry of the contract; without a curve, as in those of models that have none."""
        fields = asdict(self)
        return fields if self.curve else {k: v for k, v in fields.items() if k != "curve"}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> MeasuredHalo:
        """The halo in an entry of a contract."""
        curve = entry.get("curve")
        if curve is not None:
            _require(Mapping, "an object", {"halo.curve": curve})
            _require(int, "a whole number", {"halo.curve.step_px": curve["step_px"]})
            shares = dict(enumerate(curve["unequal_labels"]))
            named = {f"halo.curve.unequal_labels[{n}]": share for n, share in shares.items()}
            _require((int, float), "a number", named)
            curve = BorderCurve(curve["step_px"], tuple(shares.values()))
        return cls(entry["pixels"], entry["window_px"], entry["equal_labels"], curve)


@dataclass(frozen=True)
class MeasuredSizes:
    """Labels of one place in windows of several sizes, compared.

    Args:
        sizes_px: Sides of the windows in pixels.
        equal_labels: Least share of labels that were equal, in [0, 1].
        stated_stride: Stride of the network as its maker stated it; the contract's own is greater
            if labels depend on the size of the window at this one.
        stated_equal_labels: The same share with the stride as stated.
    """

    sizes_px: tuple[int, ...]
    equal_labels: float
    stated_stride: int
    stated_equal_labels: float


@dataclass(frozen=True)
class Calibration:
    """How well confidence says what share of pixels is right, on data that were held out.

    Args:
        temperature: Divisor of the logits before the softmax.
        error_before: Expected calibration error with temperature 1, in [0, 1].
        error_after: Expected calibration error with this temperature, in [0, 1].
        pixels: Number of pixels that the temperature was fitted on.

    Raises:
        ContractError: If the temperature is not positive.

    Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (2017).
    """

    temperature: float
    error_before: float
    error_after: float
    pixels: int

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ContractError(f"calibration: temperature must be positive: {self.temperature}")


@dataclass(frozen=True)
class MeasuredCompute:
    """Labels by a compute type, compared with those by float32 on the same images.

    Args:
        compute: The compute type.
        pixels: Number of pixels that were compared.
        equal_labels: Share of labels that were equal, in [0, 1].
        class_changes: How much larger the area of each class is, as a share of that by float32, by
            name; None for classes that float32 found nowhere.
    """

    compute: str
    pixels: int
    equal_labels: float
    class_changes: Mapping[str, float | None]

    def __post_init__(self) -> None:
        if not 0 <= self.equal_labels <= 1:
            raise ContractError(
                f"computing: equal_labels must be in [0, 1], got {self.equal_labels}"
            )

    @property
    def largest_change(self) -> tuple[str, float] | None:
        """The class whose area changes most, with its change; None where there is none."""
        known = [(name, value) for name, value in self.class_changes.items() if value is not None]
        return max(known, key=lambda entry: abs(entry[1]), default=None)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> MeasuredCompute:
        """What an entry of a contract says."""
        found = cls(**entry)
        _require(str, "a text", {"computing.compute": found.compute})
        _require(int, "a whole number", {"computing.pixels": found.pixels})
        _require(Mapping, "an object", {"computing.class_changes": found.class_changes})
        known = {name: share for name, share in found.class_changes.items() if share is not None}
        _require((int, float), "a number", {**known, "computing.equal_labels": found.equal_labels})
        return found


@dataclass(frozen=True)
class Contract:
    """What a SavedModel takes, returns and is.

    Args:
        name: Name of the model.
        architecture: Architecture, such as `fcn-8s mobilenet_v2`.
        bands: Names of the input bands, in order.
        dtype: Sample type of the input, one of `DTYPES`.
        value_range: Least and greatest raw value that the model was made for; `segment` counts
            pixels with others.
        nodata_fill: Raw value of each band that stands for nodata and pads to the stride, the
            same in training.
        classes: Classes in the order of the score channels.
        stride: Stride of the network; the graph pads height and width to multiples of it.
        receptive_field: Side in pixels of the square an output pixel can see, or None if unknown.
        halo: Recommended halo.
        fixed_window: Side of the only window the model accepts, for networks with global
            context, or None.
        gsd_range_m: Least and greatest ground sample distance in metres, of both sides of a pixel,
            or None for any.
        bytes_per_pixel: Memory that prediction takes, measured on a CPU, or None.
        parameters: Number of weights, or None.
        calibration: How confidence was calibrated, or None.
        training_data: Description of the data that the model was trained on.
        metrics: Scores on data that it was not trained on.
        versions: Versions of the packages that made it.
        sizes: How labels in windows of several sizes compare, or None if that was not measured.
        computing: How labels by compute types compare with those by float32, as far as the machine
            that exported the model has them.

    Raises:
        ContractError: If a field is not possible; names the field.
    """

    name: str
    architecture: str
    bands: tuple[str, ...]
    dtype: str
    value_range: tuple[float, float]
    nodata_fill: tuple[float, ...]
    classes: ClassTable
    stride: int
    receptive_field: int | None
    halo: MeasuredHalo
    fixed_window: int | None = None
    gsd_range_m: tuple[float, float] | None = None
    bytes_per_pixel: int | None = None
    parameters: int | None = None
    calibration: Calibration | None = None
    training_data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: MeasuredSizes | None = None
    computing: tuple[MeasuredCompute, ...] = ()

    def __post_init__(self) -> None:
        if not self.bands:
            raise ContractError("bands: at least one is needed")
        if self.dtype not in DTYPES:
            raise ContractError(f"dtype: must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if len(self.nodata_fill) != len(self.bands):
            raise ContractError(
                f"nodata_fill: needs one value for each of {len(self.bands)} bands, "
                f"got {len(self.nodata_fill)}"
            )
        if not np.all(np.isfinite(self.nodata_fill)):
            raise ContractError("nodata_fill: must be finite, NaN spreads through convolutions")
        kind = np.dtype(self.dtype)
        limits = np.iinfo(kind) if np.issubdtype(kind, np.integer) else np.finfo(kind)
        low, high = float(limits.min), float(limits.max)
        if not all(low <= value <= high for value in self.nodata_fill):
            raise ContractError(f"nodata_fill: must be in {low:g}..{high:g}, as {self.dtype} is")
        if not self.value_range[0] < self.value_range[1]:
            raise ContractError(f"value_range: must be two rising numbers, got {self.value_range}")
        if self.gsd_range_m is not None and not 0 < self.gsd_range_m[0] <= self.gsd_range_m[1]:
            raise ContractError(f"gsd_range_m: must be two rising numbers, got {self.gsd_range_m}")
        if self.halo.pixels < 0:
            raise ContractError(f"halo: must be at least 0, got {self.halo.pixels}")
        if self.fixed_window is not None and self.fixed_window < self.stride + 2 * self.halo.pixels:
            raise ContractError(
                f"fixed_window: {self.fixed_window} leaves no core with a halo of "
                f"{self.halo.pixels} and a stride of {self.stride}"
            )
        if self.stride < 1:
            raise ContractError(f"stride: must be at least 1, got {self.stride}")

    @property
    def fill(self) -> np.ndarray:
        """`(bands,)` of the input dtype: raw values of a pixel without valid input."""
        values = np.asarray(self.nodata_fill)
        exact = np.issubdtype(np.dtype(self.dtype), np.integer)
        return (np.rint(values) if exact else values).astype(self.dtype)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The value range, or None if no sample of the dtype can be outside it."""
        kind, (low, high) = np.dtype(self.dtype), self.value_range
        if np.issubdtype(kind, np.integer):
            whole = np.iinfo(kind)
            return None if low <= whole.min and whole.max <= high else (low, high)
        return None if (low, high) == (-math.inf, math.inf) else (low, high)

    def check_input(self, bands: int, dtype: str, what: str) -> None:
        """Refuse an input that the model was not made for.

        Args:
            bands: Number of bands of the input.
            dtype: Sample type of the input; that of the model, or one that can be converted to it
                without another meaning (see `is_convertible`).
            what: Name of the input for the error.

        Raises:
            ContractError: Names the field, both values and the remedy.
        """
        if bands != len(self.bands):
            raise ContractError(
                f"bands: the model takes {len(self.bands)} ({', '.join(self.bands)}), the input "
                f"has {bands}; give it a model made for {bands} or an input with those bands",
                code=FailureCode.WRONG_BANDS,
                name=what,
            )
        if not is_convertible(dtype, self.dtype, self.value_range):
            remedy = conversion_remedy(dtype, self.dtype, self.value_range)
            raise ContractError(
                f"dtype: the model takes {self.dtype}, the input is {dtype}; {remedy}",
                code=FailureCode.WRONG_DTYPE,
                name=what,
            )

    def check_gsd(self, across_m: float, down_m: float, what: str, remedy: str = RESAMPLE) -> None:
        """Refuse pixels of which a side is outside the range the model was made for.

        Args:
            across_m: Width of a pixel of the input on the ground in metres.
            down_m: Height of a pixel in metres.
            what: Name of the input or the option for the error.
            remedy: What helps, for the error.

        Raises:
            ContractError: Names the field, the range, both sides and the remedy.
        """
        if self.gsd_range_m is None:
            return
        low, high = self.gsd_range_m
        if not all(low <= side <= high for side in (across_m, down_m)):
            sides = " x ".join(_beside(side, low, high) for side in (across_m, down_m))
            raise ContractError(
                f"gsd_range_m: the model was made for {low:g} to {high:g} m a pixel, the input has "
                f"{sides} m (width x height); {remedy}, or use another model",
                code=FailureCode.WRONG_GSD,
                name=what,
            )

    @property
    def sample_side_px(self) -> int:
        """Side in pixels of a small picture that the model takes."""
        few = min(max(SAMPLE_STRIDES * self.stride, MIN_SAMPLE_PX), MAX_SAMPLE_PX)
        return self.fixed_window or max(self.stride, few // self.stride * self.stride)

    def sample(self, side_px: int | None = None) -> np.ndarray:
        """A made-up picture, the same at each call: squares of any colour.

        Args:
            side_px: Its side in pixels; None for `sample_side_px`.

        Returns:
            `(side, side, bands)` raw values of the contract's dtype.
        """
        side, bands = side_px or self.sample_side_px, len(self.bands)
        count = -(-side // SQUARE_PX)
        colours = np.random.default_rng(0).uniform(*self.value_range, (count, count, bands))
        squares = colours.astype(self.dtype).repeat(SQUARE_PX, 0).repeat(SQUARE_PX, 1)
        return squares[:side, :side]

    def check_compute(self, compute: str) -> None:
        """Refuse a compute type by which too many labels are others than by float32.

        TF32 passes unmeasured: TensorFlow uses it on GPUs by itself, and models are made without.

        Args:
            compute: Compute type that was asked for.

        Raises:
            ContractError: If it was measured below `MIN_EQUAL_LABELS`, or bfloat16 was not.
        """
        found = next((entry for entry in self.computing if entry.compute == compute), None)
        if found is None and compute == BFLOAT16:
            raise ContractError(
                "--compute bfloat16: nobody has measured what it changes in labels of this model: "
                "export or wrap it again, with sample images, on a CPU with avx512_bf16 or "
                "amx_bf16, or leave --compute out"
            )
        if found is not None and found.equal_labels < MIN_EQUAL_LABELS:
            raise ContractError(
                f"--compute {compute}: at least {100 * MIN_EQUAL_LABELS:g} % of labels must be as "
                f"by float32, and of this model {100 * found.equal_labels:.2f} % are: leave "
                f"--compute out"
            )

    def layout(self, window: int, halo: int | None = None, batch: Batch = 1) -> Layout:
        """Sizes of windows and batches for this model.

        Args:
            window: Longest side of a core in pixels; not used for a model of fixed window.
            halo: Halo in pixels; None for the recommended one of this window.
            batch: Windows in a batch, as in `Layout`.

        Raises:
            ConfigurationError: If the sizes do not fit together.
        """
        halo_px = self.halo.px_for(window) if halo is None else halo
        if self.fixed_window is not None:
            window = (self.fixed_window - 2 * halo_px) // self.stride * self.stride
        return Layout(window, halo_px, self.stride, batch, self.fixed_window)

    def to_json(self) -> dict[str, Any]:
        """The document in `segmodel.json`; names follow the STAC MLM extension."""
        fields = asdict(self)
        classes = [
            {"value": c.id, "name": c.name, "color_hint": format_color(c.color)[1:]}
            for c in self.classes.classes
        ]
        shape = {"shape": [-1, -1, -1, len(self.bands)], "data_type": self.dtype}
        result = {"shape": [-1, -1, -1], "dim_order": ["batch", "height", "width"]}
        return {
            "format_version": FORMAT_VERSION,
            "mlm:name": self.name,
            "mlm:architecture": self.architecture,
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": "TensorFlow",
            "mlm:total_parameters": self.parameters,
            "mlm:input": [
                {
                    "name": "images",
                    "bands": list(self.bands),
                    "input": shape | {"dim_order": ["batch", "height", "width", "bands"]},
                    "value_range": list(self.value_range),
                    "nodata_fill": list(self.nodata_fill),
                }
            ],
            "mlm:output": [
                {
                    "name": "labels",
                    "tasks": ["semantic-segmentation"],
                    "result": result | {"data_type": self.classes.label_dtype.name},
                    "classification:classes": classes,
                }
            ],
            "gsd_range_m": list(self.gsd_range_m) if self.gsd_range_m else None,
            **{name: fields[name] for name in ("stride", "receptive_field")},
            "halo": self.halo.to_json(),
            **{name: fields[name] for name in _OPTIONAL},
            # Not in contracts of models that were not measured, so that their digests hold.
            **({"sizes": fields["sizes"]} if self.sizes else {}),
            **({"computing": list(fields["computing"])} if self.computing else {}),
            "package_versions": fields["versions"],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Contract:
        """The contract in a parsed `segmodel.json`.

        Args:
            document: JSON object.

        Raises:
            ContractError: If a field is missing or wrong, or the format is of another version.
        """
        if not isinstance(document, Mapping):
            raise ContractError("the contract must hold an object")
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise ContractError(
                f"format_version: this beamseg reads {FORMAT_VERSION}, the model has {version!r}; "
                f"export the model again or install the beamseg that made it"
            )
        try:
            found = _fields(document)
            _check_types(found)
            return cls(**found)
        except KeyError as error:
            raise ContractError(f"{error.args[0]}: missing in the contract") from None
        except ContractError:
            raise
        except (TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
            raise ContractError(
                f"the contract is malformed ({error}): export the model again"
            ) from error


def _beside(side_m: float, low: float, high: float) -> str:
    """A side of a pixel, in as few digits as say whether it is within a range; at least four."""
    is_within = low <= side_m <= high
    texts = (f"{side_m:.{digits}g}" for digits in range(4, 18))
    return next(text for text in texts if (low <= float(text) <= high) == is_within)


def _check_types(found: Mapping[str, Any]) -> None:
    """Refuse values of other types than those that are declared, as JSON may hold any.

    Args:
        found: Arguments of `Contract`.

    Raises:
        ContractError: Names the field.
    """
    halo, metrics = found["halo"], found.get("metrics", {})
    tables = {name: found[name] for name in ("training_data", "versions") if name in found}
    _require(Mapping, "an object", tables | {"metrics": metrics})
    _require(Mapping, "an object", {"metrics.iou": metrics.get("iou", {})})
    bands = {f"bands[{number}]": band for number, band in enumerate(found["bands"])}
    texts = {name: found[name] for name in ("name", "architecture", "dtype")}
    _require(str, "a text", texts | bands)
    optional = ("receptive_field", "fixed_window", "bytes_per_pixel", "parameters")
    whole = {name: value for name in optional if (value := found.get(name)) is not None}
    whole |= {"stride": found["stride"], "halo": halo.pixels, "halo.window_px": halo.window_px}
    _require(int, "a whole number", whole)
    numbers = {
        f"{name}[{number}]": value
        for name in ("value_range", "nodata_fill", "gsd_range_m")
        for number, value in enumerate(found[name] or ())
    }
    numbers |= {"halo.equal_labels": halo.equal_labels, **metrics.get("iou", {})}
    numbers |= {name: metrics.get(name) for name in ("mean_iou", "pixel_accuracy")}
    _require((int, float), "a number", {k: v for k, v in numbers.items() if v is not None})


def _require(kind: Any, what: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ContractError(f"{name}: must be {what}, got {value!r}")


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Contract` from its JSON form."""
    source, target = document["mlm:input"][0], document["mlm:output"][0]
    if not isinstance(source["bands"], list):
        raise ContractError(f"bands: must be a list of names, got {source['bands']!r}")
    gsd, halo = document.get("gsd_range_m"), document["halo"]
    _require(Mapping, "an object", {"halo": halo})
    calibration, sizes = document.get("calibration"), document.get("sizes")
    low, high = source["value_range"]
    return {
        "name": document["mlm:name"],
        "architecture": document["mlm:architecture"],
        "bands": tuple(source["bands"]),
        "dtype": source["input"]["data_type"],
        "value_range": (low, high),
        "nodata_fill": tuple(source["nodata_fill"]),
        "classes": ClassTable(
            tuple(
                LabelClass(c["value"], c["name"], parse_color(c["color_hint"]))
                for c in target["classification:classes"]
            )
        ),
        "stride": document["stride"],
        "receptive_field": document.get("receptive_field"),
        "halo": MeasuredHalo.from_json(halo),
        "gsd_range_m": (gsd[0], gsd[1]) if gsd else None,
        "parameters": document.get("mlm:total_parameters"),
        "versions": document.get("package_versions", {}),
        **{name: document[name] for name in _OPTIONAL if name in document},
        "calibration": Calibration(**calibration) if calibration else None,
        "sizes": MeasuredSizes(**sizes | {"sizes_px": tuple(sizes["sizes_px"])}) if sizes else None,
        "computing": tuple(map(MeasuredCompute.from_json, document.get("computing", ()))),
    }
