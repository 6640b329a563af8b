"""From options to layers that are ready to be made: checks, and the plans of all stages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines.layers.end import MadeLayer, layer_part, part_path
from pipelines.layers.kinds import LAYER_KINDS
from pipelines.layers.maps import LabelMaps
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import (
    Layer,
    Stage,
    StageWork,
    clear_stage,
    has_failures,
    prepare_stage,
    shape_digest,
)
from pipelines.results.verify import open_run
from pipelines.run.directory import LAYERS, LAYERS_DIR, METADATA_DIR, RunDirectory
from pipelines.run.plan import Prepared
from pipelines.scenes.finished import complete_summary
from pipelines.storage import filesystem
from segmodel.errors import ConfigurationError


@dataclass(frozen=True)
class PlannedLayer:
    """A layer that was asked for.

    Args:
        layer: Its kind.
        stages: Its stages.
        works: Work of the units of each stage.
    """

    layer: Layer
    stages: tuple[Stage, ...]
    works: tuple[StageWork, ...]

    @property
    def by_scene(self) -> dict[str, str]:
        """Shapes of the stages that write a file for each scene, by their names."""
        pairs = zip(self.stages, self.works, strict=True)
        return {work.name: work.shapes[work.name] for stage, work in pairs if stage.is_by_scene}


@dataclass(frozen=True)
class ResolvedLayers:
    """Layers that can be made; nothing is written yet.

    Args:
        maps: Label maps of the run.
        folder: Folder of all layers of the run.
        planned: The layers that were asked for.
    """

    maps: LabelMaps
    folder: RunDirectory
    planned: tuple[PlannedLayer, ...]


@dataclass(frozen=True)
class PreparedLayers:
    """Layers whose plans are written.

    Args:
        stages: All stages in their order, and those with their units.
        made: The layers, for the end.
    """

    stages: tuple[tuple[Stage, Prepared[StageWork]], ...]
    made: tuple[MadeLayer, ...]


def check_layers(
    root: str, options: LayersOptions, kinds: Sequence[Layer] = LAYER_KINDS
) -> ResolvedLayers:
    """Check everything that can be checked before anything is written.

    Args:
        root: Run directory of the finished run.
        options: What the user asked for.
        kinds: Kinds of layers.

    Raises:
        ConfigurationError: If options or run do not allow it.
    """
    asked = [(kind, found) for kind in kinds if (found := kind.settings(options)) is not None]
    if not asked:
        names = ", ".join(f"--{kind.name}" for kind in kinds)
        raise ConfigurationError(f"name the layers to make: {names}")
    labelled = open_run(root)
    complete_summary(labelled)
    maps = LabelMaps(labelled)
    if not len(maps):
        raise ConfigurationError(
            f"{labelled.run.root} has no label map of a scene, which layers are made of: name a "
            f"run over rasters that `beamseg segment` reads as scenes"
        )
    folder = RunDirectory(labelled.run.path(LAYERS_DIR), LAYERS)
    planned: list[PlannedLayer] = []
    for kind, settings in asked:
        stages = tuple(kind.stages(settings, maps))
        others = _by_scene(kind.others, planned, folder, maps.digest)
        own = {stage.name: shape_digest(stage, labelled, others) for stage in stages}
        works = tuple(
            StageWork(folder.root, name, labelled, settings, maps.digest, others | own)
            for name in own
        )
        planned.append(PlannedLayer(kind, stages, works))
    filesystem.refuse_links(labelled.run.root, _folders(planned))
    return ResolvedLayers(maps, folder, tuple(planned))


def _by_scene(
    kinds: Sequence[Layer], planned: Sequence[PlannedLayer], folder: RunDirectory, map_digest: str
) -> dict[str, str]:
    """Shapes of the stages of layers that write, or have written, a file for each scene."""
    asked = {layer.layer.name: layer.by_scene for layer in planned}
    found: dict[str, str] = {}
    for kind in kinds:
        if kind.name in asked:
            found |= asked[kind.name]
        elif (part := layer_part(folder, kind.name)) is not None and part.map == map_digest:
            found |= part.by_scene
    return found


def _folders(planned: Sequence[PlannedLayer]) -> Iterator[str]:
    """Folders that layers keep their records in, below the run directory."""
    yield LAYERS_DIR
    yield f"{LAYERS_DIR}/tmp"
    yield f"{LAYERS_DIR}/{METADATA_DIR}"
    for layer in planned:
        for stage in layer.stages:
            path = PurePosixPath(LAYERS_DIR, METADATA_DIR, stage.name)
            yield from map(str, (path.parent, path))
            yield from (f"{path}/{name}" for name in ("plan", "commits", "failures", "tmp"))


def prepare_layers(resolved: ResolvedLayers) -> PreparedLayers:
    """Write the plans of all stages, and make what earlier attempts left agree with them."""
    for name in ("_SUCCESS", "summary.json", "failures.csv"):
        resolved.folder.remove(name)
    stages, made = [], []
    for layer in resolved.planned:
        resolved.folder.remove(part_path(layer.layer.name))
        failed = [has_failures(work) for work in layer.works]
        for place, work in enumerate(layer.works):
            if any(failed[:place]):
                clear_stage(work)
        for stage, work in zip(layer.stages, layer.works, strict=True):
            stages.append((stage, prepare_stage(stage, work)))
        made.append(MadeLayer(layer.layer.name, layer.layer.finish, layer.works, layer.by_scene))
    return PreparedLayers(tuple(stages), tuple(made))
