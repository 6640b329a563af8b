"""What a format is: how its files become work units, and how one unit is read and written."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from pipelines.failures import Failure
from pipelines.plan import InputFile, Unit
from pipelines.run_directory import RunDirectory
from segmodel.contract import Contract
from segmodel.engine import Job, Labelled
from segmodel.windows import Layout


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
        groups: Number of groups that files of grouped formats are dealt to.
        trust_model: Whether operations that touch files are allowed.
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
    groups: int
    trust_model: bool
    provenance: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ground:
    """Ground area of the pixels of one label map.

    Args:
        pixel_areas_m2: `(height, 1)`, `(height, width)` or one number.
        footprint_m2: The same ground from its outline.
    """

    pixel_areas_m2: np.ndarray | float
    footprint_m2: float


@dataclass(frozen=True)
class Estimate:
    """How much work some files are.

    Args:
        images: Images and scenes.
        pixels: Of all of them.
        windows: Windows that cover them.
        exact: Whether headers of all files were read, not of a sample.
    """

    images: int
    pixels: int
    windows: int
    exact: bool

    @classmethod
    def of_sample(cls, sizes: Sequence[tuple[int, int]], images: int, layout: Layout) -> "Estimate":
        """For so many images like those of the given heights and widths."""
        if not sizes:
            return cls(images, 0, images, False)
        per_image = images / len(sizes)
        return cls(
            images=images,
            pixels=round(per_image * sum(height * width for height, width in sizes)),
            windows=round(per_image * sum(windows_of(*size, layout) for size in sizes)),
            exact=len(sizes) == images,
        )


def windows_of(height: int, width: int, layout: Layout) -> int:
    """Number of windows that cover a raster.

    >>> windows_of(100, 600, Layout(window_px=512, halo_px=0, stride_px=32))
    2
    """
    return -(-height // layout.window_px) * -(-width // layout.window_px)


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

    def encode(self, labelled: Labelled) -> E:
        """The label map as its file holds it; runs in a thread."""

    def write(self, key: str, encoded: E) -> None:
        """Add an encoded label map; called in the order of the jobs."""

    def finish(self) -> list[str]:
        """Give all files their final names; returns their paths within the run directory."""


class Format(Protocol):
    """A kind of input.

    `name` stands in the plan, `examples` says what files look like, and `grouped` is whether files
    are dealt to units by a hash of their path.
    """

    name: str
    examples: str
    grouped: bool

    def claims(self, file: InputFile) -> bool:
        """Whether a file is of this format."""

    def check(self, files: Sequence[InputFile], contract: Contract) -> None:
        """Refuse what the model was not made for, before any work; raises ContractError."""

    def count(self, file: InputFile, most: int) -> int:
        """Number of images in a file, at most `most`."""

    def estimate(self, files: Sequence[InputFile], layout: Layout) -> Estimate:
        """Images, pixels and windows of some files, from headers or a sample of them."""

    def units(self, files: Sequence[InputFile], work: Work, records: int | None) -> Iterable[Unit]:
        """Work units of the files of this format."""

    def open(self, unit: Unit, work: Work) -> AbstractContextManager[UnitTask[Any]]:
        """Begin a unit; leaving the context removes what was not finished."""
