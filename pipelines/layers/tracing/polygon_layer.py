"""The layer of polygons: its options, its stages, and what the summary says of it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pipelines.layers.maps import LabelMaps
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import Layer, LayerEnd, Stage, StageWork
from pipelines.layers.tracing.drift import drift_of
from pipelines.layers.tracing.file_stages import (
    FEATURES,
    PolygonFiles,
    first_of_systems,
    scene_files,
)
from pipelines.layers.tracing.simplify_stages import Simplifying
from pipelines.layers.tracing.stages import Tracing, class_totals
from pipelines.run.commits import Output
from pipelines.storage import filesystem
from segmodel.labels.qgis_styles import polygon_style

NAME, SIMPLIFIED_NAME = "polygons", "polygons_simplified"


@dataclass(frozen=True)
class PolygonSettings:
    """What the options say of polygons.

    Args:
        kinds: Kinds of files.
        by_scene: Whether each scene has files of its own.
        tracing: How label maps are traced.
        simplifying: How polygons are simplified; None where that is not asked for.
    """

    kinds: tuple[str, ...]
    by_scene: bool
    tracing: Tracing
    simplifying: Simplifying | None

    @property
    def files(self) -> tuple[PolygonFiles, ...]:
        """Files of exact polygons and, if they are asked for, of simplified ones."""
        exact = PolygonFiles(NAME, self.tracing, self.by_scene)
        if self.simplifying is None:
            return (exact,)
        return exact, PolygonFiles(SIMPLIFIED_NAME, self.simplifying, self.by_scene)


def _settings(options: LayersOptions) -> PolygonSettings | None:
    if options.polygons is None:
        return None
    tracing = Tracing(NAME, options.max_vertices, minimum_area=options.minimum_area)
    simplifying = None if options.simplify is None else Simplifying(tracing, options.simplify)
    return PolygonSettings(options.polygons, options.by_scene, tracing, simplifying)


def _stages(settings: PolygonSettings, maps: LabelMaps) -> list[Stage]:
    """Blocks, scenes, and files of each kind; simplified ones go where none are asked for."""
    stages = settings.tracing.stages(maps)
    if settings.simplifying is not None:
        stages += settings.simplifying.stages(maps)
    systems = first_of_systems(maps)
    for files in settings.files:
        stages += files.stages(settings.kinds, maps, systems)
    if settings.simplifying is None:
        gone = PolygonFiles(SIMPLIFIED_NAME, Simplifying(settings.tracing, 0), settings.by_scene)
        stages += gone.stages((), maps, systems)
    return stages


def _finish(work: StageWork) -> LayerEnd:
    """Write the style of QGIS beside each file of a reference system, and the table of drift."""
    settings: PolygonSettings = work.settings
    scenes = work.stage(settings.tracing.scenes)
    outputs: list[Output] = []
    about: dict[str, Any] = {
        "minimum_area_m2": settings.tracing.minimum_area,
        "classes": class_totals(scenes),
    }
    for files in settings.files:
        written, about[files.name] = _written(files, settings.kinds, work)
        outputs += [] if settings.by_scene else written
    style = polygon_style(work.labelled.contract.classes)
    styles = sorted({f"{output.path.rpartition('.')[0]}.qml" for output in outputs})
    outputs += [work.write(path, style) for path in styles]
    if settings.simplifying is not None:
        drift = drift_of(settings.simplifying, work)
        outputs.append(work.write(f"{SIMPLIFIED_NAME}.csv", drift.to_csv()))
        about |= {"drift": drift.to_json(), "notes": drift.notes()}
    _remove_others(work, [output.path for output in outputs])
    folders = [f"{files.name}/" for files in settings.files] if settings.by_scene else []
    return LayerEnd(outputs, about, folders)


def _remove_others(work: StageWork, written: Collection[str]) -> None:
    """Remove styles and tables that earlier commands wrote beside files that are gone now."""
    for begin in (f"{name}{mark}" for name in (NAME, SIMPLIFIED_NAME) for mark in ".-"):
        for path in filesystem.names_below(work.root, begin):
            if path.endswith((".qml", ".csv")) and path not in written:
                filesystem.remove_below_root(work.root, path)


def _written(
    files: PolygonFiles, kinds: tuple[str, ...], work: StageWork
) -> tuple[list[Output], int]:
    """Files, and how many polygons those of one kind have."""
    outputs: list[Output] = []
    count = 0
    for kind in kinds:
        for _, commit in work.stage(files.stage_of(kind)).commits():
            if commit is not None and not commit.tally.failed_images:
                outputs += commit.outputs
                count += int(commit.tally.sums[FEATURES][kind])
    return outputs, count // len(kinds)


POLYGONS = Layer(NAME, _settings, _stages, _finish, scene_files((NAME, SIMPLIFIED_NAME)))
