"""Whether a model was made for a scene, and what to do if it was not."""

from pipelines.rasters.bands import SceneBands
from pipelines.rasters.header import Header
from pipelines.rasters.reader import ground_grid
from pipelines.run.interface import Reading
from pipelines.scenes.blocks import model_grid
from segmodel.errors import BeamsegError, ConfigurationError, GroundError
from segmodel.savedmodel.contract import Contract

_WARPS = {
    "gcps": "ground control points, which bend it in one of many ways: choose one with gdalwarp "
    "(for example gdalwarp -order 1, or -tps)",
    "rpcs": "rational polynomials, which need the height of the ground: orthorectify it with "
    "gdalwarp -rpc (-to RPC_DEM=dem.tif)",
}


def check_scene(header: Header, contract: Contract, reading: Reading, what: str) -> None:
    """Refuse a scene that the model was not made for.

    Args:
        header: Of the scene.
        contract: Of the model.
        reading: How scenes are read.
        what: Names the scene in errors.

    Raises:
        ContractError: If bands, dtype or ground sample distance do not fit.
        ConfigurationError: If it is not known where its pixels are.
        GroundError: If its pixels have no ground area.
    """
    SceneBands.of(header, contract, reading.bands, what)
    grid = header.grid
    if header.located_by is not None:
        raise ConfigurationError(f"{what} is located by {_WARPS[header.located_by]}")
    if grid.crs is not None and grid.transform.is_identity:
        raise ConfigurationError(
            f"{what} has a coordinate reference system but no transform: give it one with gdalwarp "
            f"(from ground control points) or gdal_translate -a_ullr"
        )
    if grid.crs is None:
        if reading.aoi is not None:
            raise ConfigurationError(
                f"{what} has no coordinate reference system, so that --aoi cannot be found in it: "
                f"assign one (for example gdal_translate -a_srs)"
            )
        model_grid(header, reading, what)
        return
    try:
        gsd_m = max(ground_grid(grid).pixel_size_m())
    except GroundError as error:
        raise GroundError(f"{what}: {error}") from error
    if reading.resample_to is None:
        contract.check_gsd(gsd_m, what)
    else:
        model_grid(header, reading, what)


def misfit(header: Header, contract: Contract, reading: Reading, what: str) -> BeamsegError | None:
    """Why the model was not made for a scene, or None if it was."""
    try:
        check_scene(header, contract, reading, what)
    except BeamsegError as error:
        return error
    return None
