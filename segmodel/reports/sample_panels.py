"""Panels of a few validation images at every validation."""

from __future__ import annotations

import numpy as np

from segmodel.evaluation.evaluate import LabelledBlock
from segmodel.reports.kept_images import Shrinker
from segmodel.reports.panels import Look, draw_errors, picture_of

MOST = 3


class SamplePanels:
    """Panels of the first images of a validation; `keep` is for `evaluate`.

    Args:
        look: Bands, classes and values of the model.
    """

    def __init__(self, look: Look) -> None:
        self.look = look
        self.pictures: dict[str, np.ndarray] = {}
        self._shrinker = Shrinker(look.classes)

    def keep(self, block: LabelledBlock) -> None:
        """Take a block, and draw its image if it is one of the first and this is all of it."""
        if block.number >= MOST:
            return
        done = self._shrinker.receive(block)
        if done is None:
            return
        name, image = done.pair.name, picture_of(done.pair, self.look)
        panel = draw_errors(image, done.truth, done.labels, self.look.classes, name)
        self.pictures[name] = np.asarray(panel)
