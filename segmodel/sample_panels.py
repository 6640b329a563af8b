"""Panels of a few validation images at every validation."""

from __future__ import annotations

import numpy as np

from segmodel.evaluation import LabelledBlock
from segmodel.panels import Look, centres, draw_errors, picture_of, shrinking

MOST = 3


class SamplePanels:
    """Panels of the first images of a validation; `keep` is for `evaluate`.

    Args:
        look: Bands, classes and values of the model.
    """

    def __init__(self, look: Look) -> None:
        self.look = look
        self.pictures: dict[str, np.ndarray] = {}

    def keep(self, block: LabelledBlock) -> None:
        """Draw the image of a block, if it is one of the first and the block is all of it."""
        pair, window = block.pair, block.window
        whole = (window.height, window.width) == (pair.height, pair.width)
        if block.number >= MOST or not whole:
            return
        factor, classes = shrinking(pair.height, pair.width), self.look.classes
        ids = np.array([*classes.ids, classes.nodata], classes.label_dtype)
        seen = np.ix_(
            centres(0, pair.height, pair.height, factor), centres(0, pair.width, pair.width, factor)
        )
        # The last id is that of nodata, which is where -1 points.
        panel = draw_errors(
            picture_of(pair, self.look),
            ids[block.truth[seen]],
            block.labels[seen],
            classes,
            pair.name,
        )
        self.pictures[pair.name] = np.asarray(panel)
