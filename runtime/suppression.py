"""The thresholds of a graph that suppresses overlapping detections itself."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ParameterError
from .settings import Thresholds


@dataclass(frozen=True, slots=True)
class Suppression(Thresholds):
    """The thresholds of a graph that contains NMS. Detections that the graph drops cannot be recovered.

    Example:
        >>> Suppression(conf=0.4, iou=0.8, max_det=50).max_det
        50
    """

    def nearest(self, thresholds: Thresholds) -> Thresholds:
        """The thresholds nearest to `thresholds` that the graph can serve.

        Example:
            >>> Suppression(0.4, 0.8, 50).nearest(Thresholds(0.25, 0.9, 100))
            Thresholds(conf=0.4, iou=0.8, max_det=50)
        """
        return Thresholds(max(thresholds.conf, self.conf), self.iou, min(thresholds.max_det, self.max_det))

    def check(self, thresholds: Thresholds) -> None:
        """Refuse thresholds for which the graph drops too much.

        Raises:
            ParameterError: names the threshold and the graph's value.

        Example:
            >>> Suppression(0.4, 0.8, 50).check(Thresholds(conf=0.5, iou=0.8, max_det=20))
        """
        conf, iou, max_det = thresholds.conf, thresholds.iou, thresholds.max_det
        if conf < self.conf:
            raise ParameterError(
                f"conf is {conf}, the model suppresses in its graph and keeps scores above {self.conf} only; "
                f"use {self.conf} or more, or export it again with --conf {conf}"
            )
        if iou != self.iou:
            raise ParameterError(
                f"iou is {iou}, the model suppresses in its graph with {self.iou} and no other; "
                f"pass iou={self.iou}, or export it again with --iou {iou}"
            )
        if max_det > self.max_det:
            raise ParameterError(
                f"max_det is {max_det}, the model gives at most {self.max_det}; "
                f"use {self.max_det} or fewer, or export it again with --max-det {int(max_det)}"
            )
