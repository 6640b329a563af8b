"""What a format is: how its files become work units, and how one unit is read and written."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from PIL import Image

from pipelines.formats.work import PlanContext, ReadOptions, Work
from pipelines.rasters.header import Headers
from pipelines.run.areas import PixelAreas, Tally
from pipelines.run.commits import Output
from pipelines.run.failures import Failure
from pipelines.run.plan import InputFile, Unit, WorkUnit, unit_id
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.errors import BeamsegError
from segmodel.tiling.windows import Layout, Window, computed_pixels, cores

# Longer to shorter side of what is wide, or high and narrow.
LONG = 2
# Scale above which pixels of a thumbnail are squares.
SQUARES = 4


@dataclass(frozen=True)
class Ground:
    """Ground area of the pixels of one label map.

    Args:
        pixel_areas_m2: Areas of the pixels of some rows; see `areas.measure`.
        footprint_m2: Area of the same ground in m², computed from its outline.
    """

    pixel_areas_m2: PixelAreas
    footprint_m2: float


@dataclass(frozen=True)
class Estimate:
    """How much work some files are.

    Args:
        images: Number of images and scenes.
        pixels: Number of pixels of all images and scenes.
        windows: Number of windows that cover them.
        computed: Number of pixels that the model computes for them, with halos.
        exact: Whether headers of all files were read, not of a sample.
    """

    images: int
    pixels: int
    windows: int
    computed: int
    exact: bool

    @classmethod
    def of_sample(cls, sizes: Sequence[tuple[int, int]], images: int, layout: Layout) -> "Estimate":
        """The estimate for a number of images of which some heights and widths are known."""
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
    whole = Window(0, 0, height, width)
    return math.prod(map(len, cores(whole, whole, layout)))


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
        caption: Name of the image.
        image: `(height, width, 3)` uint8.
        labels: `(height, width)` class ids.
        valid: `(height, width)` bool, False for nodata of the image; None where all is valid.
    """

    caption: str
    image: np.ndarray
    labels: np.ndarray
    valid: np.ndarray | None = None

    def fitted(self, side: int) -> "Thumbnail":
        """The same, scaled to a longer side of `side` pixels.

        What is wide gets twice that, and what is high and narrow as many pixels as a square, and at
        most twice the side. Labels and masks take the nearest pixel, as they have no mean.
        """
        height, width = self.labels.shape
        scale = side / max(height, width)
        if width >= LONG * height:
            scale *= 2
        elif height >= LONG * width:
            scale = min(2 * scale, side / math.sqrt(height * width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
        if scale > SQUARES:
            how = Image.Resampling.NEAREST
        image = np.asarray(Image.fromarray(self.image).resize(size, how))
        rows = (np.arange(size[1]) + 0.5) * height // size[1]
        columns = (np.arange(size[0]) + 0.5) * width // size[0]
        nearest = np.ix_(rows.astype(int), columns.astype(int))
        valid = None if self.valid is None else self.valid[nearest]
        return Thumbnail(self.caption, image, self.labels[nearest], valid)


E = TypeVar("E")


class UnitTask(AbstractContextManager["UnitTask[E]"], ABC, Generic[E]):
    """One unit while it is done; `E` is a label map as the files of the format hold it.

    As a context it removes what was not finished. The defaults are those of encoded images: without
    a place on the ground, either whole or failed.

    Args:
        unit: Unit to label.
        work: What all units have in common.
    """

    def __init__(self, unit: WorkUnit, work: Work) -> None:
        self.unit, self.work = unit, work
        self.outputs: list[Output] = []

    def __exit__(self, *error: Any) -> bool | None:
        """Nothing is left to remove."""
        return None

    @abstractmethod
    def jobs(self) -> Iterator[Job | Failure]:
        """Images of the unit in order, and what could not even become one."""

    @abstractmethod
    def source(self, key: str) -> tuple[InputFile, str | None]:
        """File of a job, and name of the image within it if it is a shard."""

    @abstractmethod
    def discard(self, key: str) -> None:
        """Remove what an earlier version of an image that fails now has left."""

    def skip(self, key: str) -> None:
        """Keep nothing of a job that is read and not labelled."""

    @abstractmethod
    def checksum(self, file: InputFile) -> str | None:
        """CRC-32C of what the jobs have read of a file of the unit, as 8 hex digits.

        It follows from the content alone: neither from threads and batches nor from what was read
        twice. None where nothing could be read.
        """

    @abstractmethod
    def encode(self, labelled: Labelled) -> E:
        """The label map as its file holds it; runs in a thread."""

    @abstractmethod
    def write(self, key: str, encoded: E, tally: Tally) -> None:
        """Add an encoded label map, and what it was counted as; called in the order of the jobs."""

    def ground(self, labelled: Labelled) -> Ground | None:
        """Ground area of a label map, where it is known."""
        return square_ground(labelled.labels.size, self.work.pixel_size_m)

    def failed_tally(self) -> Tally | None:
        """Pixels and ground area of a failed image, without the image, where they are known."""
        return None

    def inside(self, labelled: Labelled) -> np.ndarray | None:
        """`(height, width)` bool, False outside the area of interest; None where there is none."""
        return None

    def lost(self, labelled: Labelled) -> list[tuple[Window, Failure]]:
        """What could not be read of a label map, in its rows and columns, and why."""
        return []

    def seams(self, engine: Engine) -> tuple[int, int] | None:
        """Pixels near borders of windows, and how many of them get another label by other windows.

        None if they are not compared.
        """
        return None

    def finish(self) -> list[Output]:
        """Give all files their final names; returns what was written."""
        return self.outputs


class Format(ABC):
    """A kind of input.

    Attributes:
        name: Name of the format in plans.
        examples: What its files look like, for messages.
        grouped: Whether files are assigned to units by a hash of their path.
        decodes: Whether images are decoded as a whole.
    """

    name: ClassVar[str]
    examples: ClassVar[str]
    grouped: ClassVar[bool] = False
    decodes: ClassVar[bool] = True

    @abstractmethod
    def claim(self, file: InputFile, headers: Headers) -> InputFile | None:
        """The file if it is of this format, else None.

        Its version changes with all that it is read from.
        """

    def check(self, files: Sequence[InputFile], context: PlanContext) -> None:  # noqa: B027
        """Refuse options that cannot be carried out with these files, before any work.

        Raises:
            ConfigurationError: If files and options do not go together.
            ContractError: If the model and options do not.
        """

    @abstractmethod
    def misfit(self, files: Sequence[InputFile], context: PlanContext) -> BeamsegError | None:
        """Why the model was made for none of these files; None if it was made for one.

        Where it was made for some of the inputs of a run, the others fail by themselves, each with
        its reason.
        """

    def count(self, file: InputFile, limit: int, reading: ReadOptions) -> int:
        """Number of images in a file, at most `limit`."""
        return 1

    @abstractmethod
    def estimate(self, files: Sequence[InputFile], context: PlanContext) -> Estimate:
        """Images, pixels and windows of some files, from headers or a sample of them."""

    def units(
        self, files: Sequence[InputFile], context: PlanContext, records: int | None
    ) -> Iterable[Unit]:
        """Work units of the files of this format; by default one for each file.

        Args:
            files: Files of this format.
            context: What files are cut into units by.
            records: Maximum number of images to read from a shard, or None for all.
        """
        for file in files:
            yield WorkUnit(unit_id(self.name, file), self.name, (file,), records=records)

    def trials(
        self, files: Sequence[InputFile], context: PlanContext, records: int | None
    ) -> Iterable[WorkUnit]:
        """Units whose images show, as they are read, whether a worker could label the files.

        Those of `units` by default; fewer pixels where these show it.
        """
        return (u for u in self.units(files, context, records) if isinstance(u, WorkUnit))

    @abstractmethod
    def outputs(self, unit: Unit, work: Work) -> Iterable[str]:
        """Paths within the run directory of all maps that a unit may write."""

    @abstractmethod
    def thumbnails(self, unit: Unit, work: Work, limit: int, side: int) -> Iterable[Thumbnail]:
        """A few labelled images of a finished unit, the same ones every time.

        Args:
            unit: Finished unit.
            work: What all units have in common.
            limit: Maximum number of images.
            side: Side of a thumbnail in pixels, as `Thumbnail.fitted` takes it.

        Raises:
            OSError: If a file is not there any more.
            InputError: If it cannot be decoded any more.
        """

    @abstractmethod
    def open(self, unit: WorkUnit, work: Work) -> UnitTask[Any]:
        """Begin a unit."""


def square_ground(pixels: int, pixel_size_m: float | None) -> Ground | None:
    """Ground area of pixels without coordinates, by the side of one that the user gave."""
    return None if pixel_size_m is None else Ground(pixel_size_m**2, pixel_size_m**2 * pixels)
