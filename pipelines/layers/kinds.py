"""All kinds of layers, in the order in which they are made."""

from pipelines.layers.generalized.generalization import MINIMUM_AREA
from pipelines.layers.stages import Layer
from pipelines.layers.tiles.mosaic import MOSAIC
from pipelines.layers.tracing.polygon_layer import POLYGONS

LAYER_KINDS: tuple[Layer, ...] = (MOSAIC, MINIMUM_AREA, POLYGONS)
