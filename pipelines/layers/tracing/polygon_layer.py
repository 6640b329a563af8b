"""The layer of polygons: its options, its stages, and what the summary says of it."""

from dataclasses import dataclass
from typing import Any

from pipelines.layers.maps import LabelMaps
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import Layer, Stage, StageWork
from pipelines.layers.tracing.file_stages import FEATURES, PolygonFiles
from pipelines.layers.tracing.stages import Tracing, class_totals
from pipelines.storage import filesystem
from segmodel.labels.qgis_styles import polygon_style

NAME = "polygons"


@dataclass(frozen=True)
class PolygonSettings:
    """What the options say of polygons.

    Args:
        kinds: Kinds of files.
        files: What files there are, and how their polygons are traced.
    """

    kinds: tuple[str, ...]
    files: PolygonFiles


def _settings(options: LayersOptions) -> PolygonSettings | None:
    if options.polygons is None:
        return None
    tracing = Tracing(NAME, options.max_vertices, minimum_area=options.minimum_area)
    return PolygonSettings(options.polygons, PolygonFiles(tracing, options.by_scene))


def _stages(settings: PolygonSettings, maps: LabelMaps) -> list[Stage]:
    """Blocks, scenes, and files of each kind."""
    tracing = settings.files.tracing.stages(maps)
    return [*tracing, *settings.files.stages(settings.kinds, maps)]


def _finish(work: StageWork) -> dict[str, Any]:
    """Write the style of QGIS beside each file of a reference system."""
    settings: PolygonSettings = work.settings
    paths: list[str] = []
    count = 0
    for kind in settings.kinds:
        for _, commit in work.stage(settings.files.stage_of(kind)).commits():
            if commit is not None and not commit.tally.failed_images:
                paths += [output.path for output in commit.outputs]
                count += int(commit.tally.sums[FEATURES][kind])
    scenes = work.stage(settings.files.tracing.scenes)
    about = {"polygons": count // len(settings.kinds), "classes": class_totals(scenes)}
    if settings.files.by_scene:
        return {"files": [f"{NAME}/"]} | about
    style = polygon_style(work.labelled.contract.classes)
    styles = sorted({f"{path.rpartition('.')[0]}.qml" for path in paths})
    for path in styles:
        filesystem.write_bytes(work.path(path), style, work.run.scratch)
    return {"files": [*paths, *styles]} | about


POLYGONS = Layer(NAME, _settings, _stages, _finish)
