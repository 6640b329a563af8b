"""Stages of layers: steps with units, commit records and files of their own.

Other options change the shape of some stages only, so that nothing else is computed again. All that
a stage keeps lies in `layers/.beamseg/<stage>/` of the run; what it writes for people lies in
`layers/`. Paths of outputs are relative to `layers/`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError
from shapely.errors import ShapelyError

import segmodel
from pipelines.formats.work import Work
from pipelines.layers.maps import LabelMap, LabelMaps
from pipelines.layers.options import LayersOptions
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.attempts import UnitReport, report_of
from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.directory import (
    LAYERS,
    LAYERS_DIR,
    MARK,
    METADATA_DIR,
    SEALED,
    RunDirectory,
)
from pipelines.run.failures import Failure, reraise_transient, write_unit_failures
from pipelines.run.plan import InputFile, Prepared, WorkUnit
from pipelines.scenes.finished import named_label_map
from pipelines.storage import filesystem
from pipelines.storage.digests import digest
from pipelines.storage.filesystem import Draft
from segmodel.devices.startup import reuse_memory
from segmodel.errors import ConfigurationError, FailureCode, GroundError, InputError
from segmodel.tiling.windows import Window


class StageResult(NamedTuple):
    """What a unit of a stage did.

    Attributes:
        outputs: Files that it wrote, by their path in `layers/`.
        tally: What it found; sums that are exact go to `Tally.sums`.
        pixels: Pixels that it did, for the progress of the command; those of the window of the
            unit, if it has one.
        failures: Label maps among several that cannot be used, where the unit is done without them;
            see `layer_failure`. The next command does it again.
    """

    outputs: Sequence[Output]
    tally: Tally
    pixels: int
    failures: Sequence[Failure] = ()


@dataclass(frozen=True)
class StageWork:
    """What all units of a stage have in common; travels to the workers.

    Args:
        root: Folder of all layers of the run.
        name: Name of the stage.
        labelled: Work of the run.
        settings: What the options of the layer say, a frozen dataclass.
        map_digest: SHA-256 over what makes the map.
        shapes: Digest of the shape of each stage of the layer by name, and of those stages of
            `Layer.others` that write a file for each scene.
    """

    root: str
    name: str
    labelled: Work
    settings: Any
    map_digest: str
    shapes: Mapping[str, str]

    @property
    def run(self) -> RunDirectory:
        """Plan, records and failures of the stage, and files that are not for people."""
        return RunDirectory(f"{self.root}/{METADATA_DIR}/{self.name}", LAYERS)

    @property
    def log(self) -> CommitLog:
        """The commit records."""
        return stage_log(self.root, self.name, self.shapes[self.name])

    def stage(self, name: str) -> "StageWork":
        """The same of an earlier stage of the layer, to read what it found and wrote."""
        return replace(self, name=name)

    def commits(self) -> Iterator[tuple[WorkUnit, Commit | None]]:
        """Units of the stage in order of its plan, each with its record or None; streamed."""
        for unit, commit in self.log.read_all(plan.read_units(self.run.plan, WorkUnit)):
            assert isinstance(unit, WorkUnit)
            yield unit, commit

    def own_path(self, name: str) -> str:
        """The path in `layers/` of a file that is read by later stages only."""
        return f"{METADATA_DIR}/{self.name}/{name}"

    def own_output(self, output: Output) -> Output:
        """An output by its path in the folder of the stage, as one by its path in `layers/`."""
        return replace(output, path=self.own_path(output.path))

    def path(self, path: str) -> str:
        """Where a file is, by its path in `layers/`."""
        return f"{self.root}/{path}"

    def write(self, path: str, content: bytes) -> Output:
        """Write a file by its path in `layers/`; it appears whole or not at all."""
        written = filesystem.write_bytes(self.path(path), content, self.run.scratch)
        return Output.of(path, written)

    @contextmanager
    def written(self, path: str) -> Iterator[Draft]:
        """A draft of this machine to write to, which gets its name when the block ends well.

        `Output.of(path, draft.written)` is what a commit record says of it then.

        Args:
            path: Path in `layers/`; the file is replaced if it is there.
        """
        with filesystem.write_atomic(self.path(path), self.run.scratch) as draft:
            yield draft


def stage_log(root: str, name: str, shape: str) -> CommitLog:
    """The commit records of a stage.

    Args:
        root: Folder of all layers of the run.
        name: Name of the stage.
        shape: Digest of its shape.
    """
    folder = f"{METADATA_DIR}/{name}"
    return CommitLog(root, shape, f"{folder}/commits", may_write=partial(_is_of_stage, folder))


def _is_of_stage(folder: str, unit_id: str, path: str) -> bool:
    """Whether a unit of a stage may write a file: in the folder of the stage, or for people."""
    return path.startswith(f"{folder}/") or not path.startswith(f"{METADATA_DIR}/")


Action = Callable[[WorkUnit, StageWork], StageResult]


@dataclass(frozen=True)
class Stage:
    """A step of a layer.

    Args:
        name: Name of the layer and of the stage, such as `polygons/trace`: the folder that it keeps
            its files in.
        shape: What its outputs follow from, beside the files of its units and the options of the
            run: options that shape them, and `shape` of the stages that it reads. A stage whose
            units read more label maps than they name has the digest of the map in it.
        units: Gives the units, one by one; called when the layers are begun.
        action: Does a unit; a function of a module, or a frozen dataclass with `__call__`. The same
            unit gives the same bytes. It raises InputError where a label map cannot be used, and
            TransientError where another attempt may help.
        is_by_scene: Whether it writes a file for each scene, as `Layer.scene_files` says.
    """

    name: str
    shape: Mapping[str, Any]
    units: Callable[[], Iterable[WorkUnit]]
    action: Action
    is_by_scene: bool = False


class SceneFiles(NamedTuple):
    """Files of people, of which a stage writes one for each scene.

    Attributes:
        name: What they are called together.
        unit: The unit that writes the file of a label map; it is the first output of its record.
    """

    name: str
    unit: Callable[[LabelMap], WorkUnit]


class LayerEnd(NamedTuple):
    """What the end of a layer says of it.

    Attributes:
        files: Files of all scenes together that people open.
        about: Entries of `layers/summary.json`; `notes` are lines for a screen.
        folders: Folders of files that people open, each with a slash at its end.
        parts: Files that those are made of, in their order.
    """

    files: Sequence[Output]
    about: Mapping[str, Any]
    folders: Sequence[str] = ()
    parts: Sequence[Output] = ()


@dataclass(frozen=True)
class Layer:
    """A kind of layer that the command makes where its options ask for it.

    Args:
        name: Its name in `layers/summary.json`, with which the names of its stages begin.
        settings: What the options of the command say of it, a frozen dataclass; None where they do
            not ask for it.
        stages: Its stages in their order, given the settings and the label maps; it refuses, by
            ConfigurationError, what no layer can be made of. The first stage has a unit at least.
        finish: Writes what follows from all units, given the work of the last stage.
        scene_files: Files of stages that may write one for each scene, by the name of the stage.
        others: Layers that are made before it, of whose `scene_files` its stages tell; where these
            are others, its stages are done again.
    """

    name: str
    settings: Callable[[LayersOptions], Any]
    stages: Callable[[Any, LabelMaps], Sequence[Stage]]
    finish: Callable[[StageWork], LayerEnd]
    scene_files: Mapping[str, SceneFiles] = field(default_factory=dict)
    others: tuple["Layer", ...] = ()


def clear_stage(work: StageWork) -> None:
    """Remove all that a stage keeps, and what it wrote for people."""
    work.log.reconcile((), retry_failures=True)
    filesystem.remove_below(work.run.root)


def prepare_stage(stage: Stage, work: StageWork) -> Prepared[StageWork]:
    """Write `run.json` and the plan of a stage; records that do not belong to it are removed.

    Args:
        stage: The stage.
        work: Work that its units share.

    Returns:
        The stage with its units, and the pixels of those to be done.
    """
    run, log, shape = work.run, work.log, work.shapes[stage.name]
    try:
        is_same = (run.read_run() or {}).get("shape") == shape
    except ConfigurationError:
        is_same = False
    if not is_same:
        clear_stage(work)
    run.make()
    versions = {"beamseg": segmodel.__version__}
    document = {"shape": shape, "stage": dict(stage.shape), "versions": versions, SEALED: True}
    run.write_run(MARK | {"format": LAYERS} | document)
    parts = plan.write_plan(stage.units(), run.plan, run.scratch)
    log.reconcile(plan.read_units(run.plan, WorkUnit), retry_failures=True)
    filesystem.remove_below(run.path("failures"))
    done = set(log.names())
    units = plan.read_units(run.plan, WorkUnit)
    pixels = sum(_pixels_of(unit) for unit in units if log.name(unit) not in done)
    return Prepared(work, tuple(parts), plan.count_units(run.plan, parts), pixels)


def has_failures(work: StageWork) -> bool:
    """Whether a unit of a stage has failed: it is done again, and what reads it too."""
    return next(filesystem.names_below(work.run.path("failures")), None) is not None


def shape_digest(
    stage: Stage, labelled: Work, others: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Digest of all that shapes a stage, beside the files of its units.

    Args:
        stage: The stage.
        labelled: Work of the run.
        others: Shapes of the stages of other layers that it reads, by their names.
    """
    shape = {"run": labelled.options, "stage": stage.name, "shape": dict(stage.shape)}
    return digest(shape | ({"others": dict(others)} if others else {}))


def is_outdated(stage: Stage, labelled: Work) -> bool:
    """Whether an earlier command has made a stage otherwise than it would be made now."""
    folder = f"{labelled.run.path(LAYERS_DIR)}/{METADATA_DIR}/{stage.name}"
    try:
        earlier = RunDirectory(folder, LAYERS).read_run()
    except ConfigurationError:
        return True
    return earlier is not None and earlier.get("shape") != shape_digest(stage, labelled)


def _pixels_of(unit: WorkUnit) -> int:
    return 0 if unit.window is None else unit.window.pixels


@dataclass(frozen=True)
class DoStageUnit:
    """Does one unit of a stage, unless it is done.

    A label map that cannot be used costs its own units: they are committed as failed, and done
    again by the next command.

    Args:
        action: What the stage does with a unit.
    """

    action: Action

    def __call__(
        self,
        unit: WorkUnit,
        work: StageWork,
        on_pixels: Callable[[int], None] = lambda pixels: None,
    ) -> UnitReport:
        """Do the unit.

        Args:
            unit: The unit.
            work: Work that all units of the stage share.
            on_pixels: Called with the number of pixels that are done.

        Returns:
            Counts of what was done.
        """
        log = work.log
        if log.is_done(unit):
            return UnitReport(done=1, skipped=1)
        reuse_memory()

        def attempt() -> UnitReport:
            try:
                with _refusals_told(), named_label_map(unit.files[0]):
                    result = self.action(unit, work)
            except (InputError, GroundError, OSError) as error:
                failure = layer_failure(unit.files[0], error, unit.window)
                result = StageResult((), Tally(), _pixels_of(unit), [failure])
            rows = write_unit_failures(work.run, unit.id, result.failures)
            outputs = [*result.outputs, *(work.own_output(output) for output in rows)]
            failed = len(result.failures)
            log.write(unit, outputs, replace(result.tally, failed_images=failed))
            on_pixels(result.pixels)
            return UnitReport(done=1, computed_pixels=result.pixels)

        return report_of(unit, log, attempt)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Have what a library of geometry, places or rasters refuses be an error of the label map."""
    try:
        yield
    except (ShapelyError, ProjError, RasterioError) as error:
        if isinstance(error, OSError):
            raise
        library = type(error).__module__.partition(".")[0]
        raise InputError(
            f"{library} refuses what is made of it ({type(error).__name__}: {error}): make the "
            f"layer without it by --max_failures, or by other options",
            code=FailureCode.OTHER,
        ) from error


def layer_failure(file: InputFile, error: Exception, window: Window | None = None) -> Failure:
    """The failure of a label map that cannot be used.

    Args:
        file: The label map.
        error: What it met.
        window: Part of it, or None for all.

    Raises:
        Exception: The error, if another attempt may help.
    """
    reraise_transient(error)
    return Failure.of(file.key, None if window is None else str(window), "layer", error)
