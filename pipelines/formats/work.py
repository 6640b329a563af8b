"""What all units of a run have in common: how inputs are read, planned, labelled and counted."""

from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from pipelines.rasters.header import Headers
from pipelines.rasters.reach import Reach
from pipelines.run.commits import CommitLog
from pipelines.run.directory import SEALED, RunDirectory
from pipelines.storage.digests import digest
from segmodel.engine.engine import MemoryLimits
from segmodel.images.limits import MAX_PIXELS
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Layout

# Clouds exceed the range of reflectances too.
MAX_OUT_OF_RANGE = Fraction(1, 4)


@dataclass(frozen=True)
class ReadOptions:
    """How images are found and decoded, and how scenes are read; shapes labels.

    Args:
        image_field: Feature, column or file extension that holds the image; None for the format's
            own rule.
        name_field: Feature or column that holds the name; None for the format's own rule.
        max_pixels: Maximum number of pixels of an image that is decoded.
        resize: Height and width to which images are scaled before the model sees them, or None.
        bands: Numbers or names of the bands of scenes in the order of the model, or None.
        resample_to: Ground sample distance in metres to which scenes are resampled before the model
            sees them, or None.
        aoi: Digest of the area of interest, or None.
        crs: Coordinate reference system of scenes that have a transform and state none, or None.
    """

    image_field: str | None = None
    name_field: str | None = None
    max_pixels: int = MAX_PIXELS
    resize: tuple[int, int] | None = None
    bands: tuple[str, ...] | None = None
    resample_to: float | None = None
    aoi: str | None = None
    crs: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As in `run.json`.

        >>> ReadOptions(resize=(512, 768)).to_json()["resize"]
        [512, 768]
        """
        lists = {"resize": self.resize, "bands": self.bands}
        found = asdict(self) | {key: list(value) if value else None for key, value in lists.items()}
        if self.crs is None:
            # Runs that were begun before there was this option go on.
            del found["crs"]
        return found

    @classmethod
    def from_json(cls, labels: dict[str, Any]) -> "ReadOptions":
        """From entry `labels` of `run.json`.

        >>> ReadOptions.from_json({"resize": [512, 768], "window_px": 512}).resize
        (512, 768)
        """
        known = {entry.name: labels[entry.name] for entry in fields(cls) if entry.name in labels}
        lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
        return cls(**known | lists)

    @property
    def max_encoded_bytes(self) -> int:
        """What no encoded image exceeds: 16 bits in four bands, and room for its header."""
        return 8 * self.max_pixels + (1 << 20)


@dataclass(frozen=True)
class Counting:
    """What finished scenes are counted for, beside the table of each.

    Args:
        zones: Digest of the zones, or None.
        overlap: Which of the scenes that show the same ground counts it, or None for all.
    """

    zones: str | None
    overlap: str | None

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of both."""
        return digest(asdict(self))


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """What input files are checked, estimated and cut into units by.

    Args:
        contract: Contract of the model.
        layout: Sizes of windows, as resolved when the run was created.
        reading: How images and scenes are read.
        groups: Number of groups to which image files are assigned by a hash of their path.
        counting: How finished scenes are counted again, or None.
        headers: Headers of scenes that have been read.
    """

    contract: Contract
    layout: Layout
    reading: ReadOptions
    groups: int = 1
    counting: Counting | None = None
    headers: Headers = field(default_factory=Headers, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Work(PlanContext):
    """What every unit of a run has in common; travels to the workers.

    Args:
        run: Run directory.
        model: Folder of the SavedModel, on this machine or in a store.
        fingerprint: Digest of the SavedModel.
        options: Digest of what shapes labels and statistics.
        confidence: Whether confidence is written.
        pixel_size_m: Side of a pixel of images without coordinates in metres, or None.
        limits: Limits of the memory of images in one process.
        trust_model: Whether to load a model that could do more than compute.
        check_seams: Whether what lies near borders of windows is labelled twice and compared.
        provenance: What label files say of their making.
        call_timeout: Seconds after which a call of the model is given up, or None.
        max_out_of_range: Share of the labelled pixels of an image that may hold values outside the
            range of the model; judged at the end of the run.
        is_sealed: Whether the run began with seals in its commit records.
        soft_areas: Whether probabilities are summed by label and class.
        soft_zones: Digest of the zones by which they are summed, too, or None.
        probabilities: Whether the probabilities of all classes are written.
        compute: Compute type of the network; None for what TensorFlow does by itself, as in runs
            that were begun before there was this option.
    """

    run: RunDirectory
    model: str
    fingerprint: str
    options: str
    confidence: bool
    pixel_size_m: float | None
    limits: MemoryLimits
    trust_model: bool
    provenance: tuple[tuple[str, str], ...]
    check_seams: bool = False
    call_timeout: float | None = None
    max_out_of_range: Fraction = MAX_OUT_OF_RANGE
    is_sealed: bool = True
    soft_areas: bool = False
    soft_zones: str | None = None
    probabilities: bool = False
    compute: str | None = None

    @classmethod
    def of_run(cls, run: RunDirectory, document: dict[str, Any]) -> "Work":
        """What units of a run have in common that is there; it has no model, and labels nothing.

        Args:
            run: Run directory.
            document: Its `run.json`.

        Raises:
            ContractError: If the model contract in `run.json` is malformed.
        """
        shaping = {name: document.get(name) or {} for name in ("labels", "statistics")}
        labels, asked = shaping["labels"], document.get("options", {})
        contract = Contract.from_json(document.get("model", {}))
        layout = contract.layout(labels["window_px"], labels["halo_px"], labels["batch"])
        counting = document.get("counting")
        policy = document.get("policy", {})
        reach = None if asked.get("trust_inputs") else Reach.of(asked.get("input", ()))
        return cls(
            contract=contract,
            layout=replace(layout, rectangular=labels.get("rectangular", False)),
            reading=ReadOptions.from_json(labels),
            counting=None if counting is None else Counting(**counting),
            headers=Headers(labels.get("crs"), reach=reach),
            run=run,
            model="",
            fingerprint=labels.get("model_fingerprint", ""),
            options=digest(shaping),
            confidence=labels.get("confidence", False),
            pixel_size_m=shaping["statistics"].get("pixel_size_m"),
            limits=MemoryLimits(),
            trust_model=False,
            provenance=(),
            max_out_of_range=Fraction(policy.get("max_out_of_range", MAX_OUT_OF_RANGE)),
            is_sealed=SEALED in document,
            soft_areas=labels.get("soft_areas", False),
            soft_zones=shaping["statistics"].get("soft_zones"),
            probabilities=labels.get("probabilities", False),
        )

    @property
    def map_folders(self) -> tuple[str, ...]:
        """Folders of the maps that the run writes."""
        return (
            "labels",
            *["confidence"] * self.confidence,
            *["probabilities"] * self.probabilities,
        )

    @property
    def counts_once(self) -> bool:
        """Whether ground that several scenes show counts in one of them only."""
        return self.counting is not None and self.counting.overlap is not None

    @property
    def log(self) -> CommitLog:
        """The commit records of the run."""
        return CommitLog(
            self.run.root,
            self.options,
            counting="" if self.counting is None else self.counting.digest,
            is_sealed=self.is_sealed,
            nodata=self.contract.classes.nodata,
        )
