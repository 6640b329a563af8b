"""Room on disks: what a run will take, before anything is written."""

from dataclasses import dataclass

from pipelines.formats.interface import Estimate
from pipelines.formats.work import PlanContext
from pipelines.run.plan import SCENE
from pipelines.segment.inputs import Inputs
from pipelines.segment.options import SegmentOptions
from pipelines.segment.sizes import MIB
from pipelines.storage import locations
from segmodel.devices.disks import free_bytes_of, temporary_folder
from segmodel.errors import DiskError

# Bytes of maps per pixel, with overviews. The model of the demo makes maps of 0.01 to 0.05 and of
# 0.11 to 0.23; those of noise are larger.
LABEL_BYTES, CONFIDENCE_BYTES = 0.05, 0.2
# Of a run however small: the preview, tables, `run.json`.
RUN_BYTES = 1 << 20
# What no map is smaller than: DEFLATE writes a byte for 1032 that are alike.
MIN_BYTES = 1 / 1032
# A map takes whole blocks of the disk, and its rows in a table; a unit has a line in the plan, a
# table and a commit record. With soft areas it has another table, and sums in its record.
MAP_OVERHEAD_BYTES, UNIT_OVERHEAD_BYTES = 4 << 10, 16 << 10
SOFT_OVERHEAD_BYTES = 16 << 10
MIN_RECORD_BYTES = 400


@dataclass(frozen=True)
class Room:
    """Bytes that a run takes on disk.

    Args:
        outputs: Bytes of outputs, estimated.
        scratch: Bytes of temporary files and blocks at the same time, estimated; those of outputs
            that wait for their upload, if the run directory is in a store.
        least: Bytes that outputs take at the least.
    """

    outputs: int
    scratch: int
    least: int

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        context: PlanContext,
        whole: Estimate,
        units: int,
        options: SegmentOptions,
    ) -> "Room":
        """The room for all units of a run.

        Args:
            inputs: Input files by format.
            context: What inputs are planned by.
            whole: How much work all inputs are.
            units: Number of work units.
            options: What the user asked for.
        """
        confidence, classes = options.confidence, len(context.contract.classes.ids)
        every = classes * options.probabilities
        scenes = inputs.of_format(SCENE)
        placed = _of_scenes(inputs, context)
        width = context.contract.classes.label_dtype.itemsize
        per_pixel = LABEL_BYTES * width + CONFIDENCE_BYTES * (confidence + every)
        maps = whole.images * (1 + confidence + every) + len(scenes)
        outputs = whole.pixels * per_pixel
        # Blocks stay until all are done, and then one scene after another is put together.
        largest = whole.pixels / max(1, units)
        blocks = placed.pixels if units > len(scenes) else 0
        one = placed.pixels / max(1, len(scenes))
        scratch = (1.25 * blocks + max(largest, 2 * one)) * per_pixel
        of_unit = UNIT_OVERHEAD_BYTES + SOFT_OVERHEAD_BYTES * options.soft_areas
        overhead = maps * MAP_OVERHEAD_BYTES + units * of_unit
        least = whole.pixels * MIN_BYTES + units * MIN_RECORD_BYTES
        return cls(
            round(outputs + overhead + RUN_BYTES),
            round(scratch),
            round(least if whole.exact else 0),
        )

    def share(self, left: float) -> "Room":
        """The room for a share of all units."""
        return Room(*(round(left * size) for size in (self.outputs, self.scratch, self.least)))

    def line(self, root: str) -> str:
        """What is needed, where, and what is left there; `root` is the run directory."""
        if locations.is_remote(root):
            folder = temporary_folder()
            return (
                f"about {_mib(self.outputs)} for outputs in {root}, and {_mib(self.scratch)} for "
                f"temporary files in {folder}, where {_mib(free_bytes_of(folder))} are left"
            )
        return (
            f"about {_mib(self.outputs)} for outputs and {_mib(self.scratch)} for temporary files "
            f"in {root}, where {_mib(free_bytes_of(root))} are left"
        )

    def check(self, root: str) -> bool:
        """Whether what is left seems to be enough; `root` is the run directory.

        Raises:
            DiskError: If what is left is certainly not enough.
        """
        if locations.is_remote(root):
            return free_bytes_of(temporary_folder()) >= self.scratch
        free = free_bytes_of(root)
        if free < self.least:
            raise DiskError(
                f"the run takes {_mib(self.least)} at the least and about {_mib(self.outputs)}, "
                f"and {_mib(free)} are left: make room there, then run the same command again",
                name=root,
            )
        return free >= self.outputs + self.scratch


def _of_scenes(inputs: Inputs, context: PlanContext) -> Estimate:
    for entry, files in inputs.files:
        if entry.name == SCENE and files:
            return entry.estimate(files, context)
    return Estimate(0, 0, 0, 0, True)


def _mib(size: int) -> str:
    """Bytes in MiB, with a digit where there are few.

    >>> _mib(5 << 20), _mib(300 << 10), _mib(2000 << 20)
    ('5.0 MiB', '0.3 MiB', '2,000 MiB')
    """
    value = size / MIB
    return f"{value:,.1f} MiB" if value < 100 else f"{value:,.0f} MiB"
