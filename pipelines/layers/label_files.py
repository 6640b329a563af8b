"""Label maps that layers write: as those of the run, with palette, names, nodata and overviews."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.layers.stages import StageWork
from pipelines.rasters.cog import Blocks, raster_tags, write_label_cog
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from segmodel.rasters.grid import Grid


def provenance_of(uri: str) -> dict[str, str]:
    """What a label map of the run says of its making, as tags.

    Raises:
        InputError: If it cannot be opened.
    """
    return {key: tag for key, tag in raster_tags(uri).items() if key.startswith("BEAMSEG_")}


def write_label_layer(
    work: StageWork,
    path: str,
    grid: Grid,
    blocks: Blocks,
    tags: Mapping[str, str],
    tally: Callable[[], Tally],
) -> list[Output]:
    """Write a label map as a Cloud Optimized GeoTIFF, with its auxiliary file beside it.

    Args:
        work: Work of the stage.
        path: Path in `layers/`.
        grid: Size and place.
        blocks: Labels by window, which together cover it.
        tags: What it says of its making.
        tally: Gives the ground area of the classes, once all blocks are written.

    Returns:
        What was written, for the commit record.
    """
    beside = f"{path}.aux.xml"
    with work.written(path) as draft:
        write_label_cog(draft.path, grid, blocks, work.labelled.contract.classes, tags, tally)
        sidecar = Path(f"{draft.path}.aux.xml")
        names = work.write(beside, sidecar.read_bytes())
        sidecar.unlink()
    return [Output.of(path, draft.written), names]
