"""All kinds of layers, in the order in which they are made."""

from pipelines.layers.catalogue.stac import stac_layer
from pipelines.layers.generalized.generalization import MINIMUM_AREA
from pipelines.layers.stages import Layer
from pipelines.layers.tiles.mosaic import MOSAIC
from pipelines.layers.tiles.tile_stages import TILES
from pipelines.layers.tracing.polygon_layer import POLYGONS

_OF_LABEL_MAPS: tuple[Layer, ...] = (MOSAIC, MINIMUM_AREA, POLYGONS, TILES)
# The catalogue names the files of all others.
STAC = stac_layer(_OF_LABEL_MAPS)
LAYER_KINDS: tuple[Layer, ...] = (*_OF_LABEL_MAPS, STAC)
