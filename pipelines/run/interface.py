"""What a format is: how its files become work units, and how one unit is read and written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from pipelines.run.commits import CommitLog, Output
from pipelines.run.directory import RunDirectory
from pipelines.run.failures import Failure
from pipelines.run.plan import InputFile, Unit, WorkUnit
from pipelines.storage.digests import digest
from segmodel.engine.engine import Engine, Job, Labelled, MemoryLimits
from segmodel.images.encoded import MAX_PIXELS
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Layout, Window, computed_pixels


@dataclass(frozen=True)
class Reading:
    """How images are found and decoded, and how scenes are read; shapes labels.

    Args:
        image_field: Feature, column or file extension that holds the image; None for the format's
            own rule.
        name_field: Feature or column that holds the name; None for the format's own rule.
        max_pixels: Greatest number of pixels of an image that is decoded.
        resize: Height and width to which images are scaled before the model sees them, or None.
        bands: Numbers or names of the bands of scenes in the order of the model, or None.
        resample_to: Ground sample distance in metres to which scenes are resampled before the model
            sees them, or None.
        aoi: Digest of the area of interest, or None.
    """

    image_field: str | None = None
    name_field: str | None = None
    max_pixels: int = MAX_PIXELS
    resize: tuple[int, int] | None = None
    bands: tuple[str, ...] | None = None
    resample_to: float | None = None
    aoi: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As in `run.json`.

        >>> Reading(resize=(512, 768)).to_json()["resize"]
        [512, 768]
        """
        lists = {"resize": self.resize, "bands": self.bands}
        return asdict(self) | {
            name: list(found) if found else None for name, found in lists.items()
        }

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
        """Of both."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Work:
    """What every unit of a run has in common; travels to the workers.

    Args:
        run: The run directory.
        model: Local folder of the SavedModel.
        fingerprint: Of the SavedModel.
        contract: Of the model.
        layout: Sizes of windows, as resolved when the run was created.
        options: Digest of what shapes labels and statistics.
        confidence: Whether confidence is written.
        pixel_size_m: Side of a pixel of images without coordinates, or None.
        reading: How encoded images are found and decoded.
        limits: Of the memory of images in one process.
        groups: Number of groups that files of grouped formats are dealt to.
        trust_model: Whether operations that touch files are allowed.
        check_seams: Whether what lies near borders of windows is labelled twice and compared.
        counting: How finished scenes are counted again, or None.
        provenance: What label files say of their making.
    """

    run: RunDirectory
    model: str
    fingerprint: str
    contract: Contract
    layout: Layout
    options: str
    confidence: bool
    pixel_size_m: float | None
    reading: Reading
    limits: MemoryLimits
    groups: int
    trust_model: bool
    provenance: tuple[tuple[str, str], ...]
    check_seams: bool = False
    counting: Counting | None = None

    @property
    def log(self) -> CommitLog:
        """The commit records of the run."""
        counting = "" if self.counting is None else self.counting.digest
        return CommitLog(self.run.root, self.options, counting=counting)


@dataclass(frozen=True)
class Ground:
    """Ground area of the pixels of one label map.

    Args:
        pixel_areas_m2: Of some rows, given the first and their number: `(rows, 1)` or
            `(rows, width)`; or one number for all pixels.
        footprint_m2: The same ground from its outline.
    """

    pixel_areas_m2: Callable[[int, int], np.ndarray] | float
    footprint_m2: float


@dataclass(frozen=True)
class Estimate:
    """How much work some files are.

    Args:
        images: Images and scenes.
        pixels: Of all of them.
        windows: Windows that cover them.
        computed: Pixels that the model computes for them, with halos.
        exact: Whether headers of all files were read, not of a sample.
    """

    images: int
    pixels: int
    windows: int
    computed: int
    exact: bool

    @classmethod
    def of_sample(cls, sizes: Sequence[tuple[int, int]], images: int, layout: Layout) -> "Estimate":
        """For so many images like those of the given heights and widths."""
        if not sizes:
            return cls(images, 0, images, 0, False)
        per_image = images / len(sizes)
        return cls(
            images=images,
            pixels=round(per_image * sum(height * width for height, width in sizes)),
            windows=round(per_image * sum(windows_of(*size, layout) for size in sizes)),
            computed=round(per_image * sum(computed_for(*size, layout) for size in sizes)),
            exact=len(sizes) == images,
        )


def windows_of(height: int, width: int, layout: Layout) -> int:
    """Number of windows that cover a raster.

    >>> windows_of(100, 600, Layout(window_px=512, halo_px=0, stride_px=32))
    2
    """
    return -(-height // layout.window_px) * -(-width // layout.window_px)


def computed_for(height: int, width: int, layout: Layout) -> int:
    """Pixels that the model computes to label a raster.

    >>> computed_for(64, 128, Layout(window_px=64, halo_px=32, stride_px=32))
    12288
    """
    whole = Window(0, 0, height, width)
    return computed_pixels(whole, whole, layout)


@dataclass(frozen=True)
class Thumbnail:
    """A small image and its label map.

    Args:
        caption: Names it.
        image: `(height, width, 3)` uint8.
        labels: `(height, width)` class ids.
    """

    caption: str
    image: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, caption: str, image: np.ndarray, labels: np.ndarray, side: int) -> "Thumbnail":
        """One whose longer side has `side` pixels; of labels the nearest, as they have no mean."""
        height, width = labels.shape
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        sampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
        small = np.asarray(Image.fromarray(image).resize(size, sampling))
        ids = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
        return cls(caption, small, np.asarray(ids))


E = TypeVar("E")


class UnitTask(Protocol[E]):
    """One unit while it is done; `E` is a label map as the format's files hold it."""

    def jobs(self) -> Iterator[Job | Failure]:
        """Images of the unit in order, and what could not even become one."""

    def source(self, key: str) -> tuple[InputFile, str | None]:
        """File of a job, and name of the image within it if it is a shard."""

    def discard(self, key: str) -> None:
        """Remove what an earlier version of an image that fails now has left."""

    def ground(self, labelled: Labelled) -> Ground | None:
        """Ground area of a label map, where it is known."""

    def failed_pixels(self) -> tuple[int, float | None] | None:
        """Pixels and ground area in m² that a failure costs, where they are known."""

    def lost(self, labelled: Labelled) -> list[tuple[Window, Failure]]:
        """What could not be read of a label map, in its rows and columns, and why."""

    def encode(self, labelled: Labelled) -> E:
        """The label map as its file holds it; runs in a thread."""

    def write(self, key: str, encoded: E) -> None:
        """Add an encoded label map; called in the order of the jobs."""

    def seams(self, engine: Engine) -> tuple[int, int] | None:
        """Pixels near borders of windows, and how many get another label by other windows."""

    def finish(self) -> list[Output]:
        """Give all files their final names; returns what was written."""


class Format(Protocol):
    """A kind of input.

    `name` stands in the plan, `examples` says what files look like, `grouped` is whether files are
    dealt to units by a hash of their path, and `decodes` whether images are decoded as a whole.
    """

    name: str
    examples: str
    grouped: bool
    decodes: bool

    def claims(self, file: InputFile) -> bool:
        """Whether a file is of this format."""

    def identify(self, file: InputFile) -> InputFile:
        """The file with a version that changes with all that it is read from."""

    def check(self, files: Sequence[InputFile], contract: Contract, reading: Reading) -> None:
        """Refuse what cannot be read or the model was not made for, before any work."""

    def count(self, file: InputFile, most: int, reading: Reading) -> int:
        """Number of images in a file, at most `most`."""

    def estimate(self, files: Sequence[InputFile], layout: Layout, reading: Reading) -> Estimate:
        """Images, pixels and windows of some files, from headers or a sample of them."""

    def units(self, files: Sequence[InputFile], work: Work, records: int | None) -> Iterable[Unit]:
        """Work units of the files of this format."""

    def outputs(self, unit: Unit) -> Iterable[str]:
        """Paths within the run directory of all label files that a unit may write."""

    def thumbnails(self, unit: Unit, work: Work, most: int, side: int) -> Iterable[Thumbnail]:
        """A few labelled images of a finished unit, the same ones every time.

        Raises:
            OSError: If a file is not there any more.
            InputError: If it cannot be decoded any more.
        """

    def open(self, unit: WorkUnit, work: Work) -> AbstractContextManager[UnitTask[Any]]:
        """Begin a unit; leaving the context removes what was not finished."""


def square_ground(pixels: int, pixel_size_m: float | None) -> Ground | None:
    """Ground area of pixels without coordinates, by the side of one that the user gave."""
    if pixel_size_m is None:
        return None
    return Ground(pixel_size_m**2, pixel_size_m**2 * pixels)
