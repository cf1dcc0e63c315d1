"""The loss that the demo model is trained with."""

# ruff: noqa: TID251 - training and scoring need torch and ultralytics; the runtime imports neither
from __future__ import annotations

import torch
from ultralytics.nn.tasks import SegmentationModel
from ultralytics.utils.loss import v8SegmentationLoss

MASK_SAMPLES = 64
DOUBTFUL_WEIGHT = 0.15  # of what has no label in an image whose labels are not complete


class RegionLoss(v8SegmentationLoss):
    """ultralytics' segmentation loss with two changes.

    The mask term takes a random subset of the positives of each image: every object is assigned up to ten anchors,
    whose full-size masks cost a sixth of a CPU training step, and a sample has the same expected gradient. Positives
    weigh more in the class term: a model that segments everything is used at thresholds of 0.1 to 0.4, and synthetic
    training leaves it under-confident on photographs. Where an image's labels are not complete, what has none counts
    little as background.

    Attributes:
        complete: whether all regions of each image of the batch are labelled, float (B,) of 0 and 1.
    """

    def __init__(self, model: SegmentationModel, positive_weight: float) -> None:
        """Set the class term's weight of positive targets."""
        super().__init__(model)
        self.complete = torch.ones(1, device=self.device)
        self.positive_weight = torch.tensor(positive_weight, device=self.device)
        self.bce = self._class_terms

    def _class_terms(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross entropy of each anchor, float (B, anchors, classes)."""
        terms = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets, reduction="none", pos_weight=self.positive_weight
        )
        doubtful = (self.complete < 0.5)[:, None, None] & (targets == 0)
        return torch.where(doubtful, terms * DOUBTFUL_WEIGHT, terms)

    def calculate_segmentation_loss(self, fg_mask: torch.Tensor, *args: torch.Tensor) -> torch.Tensor:
        """Drop all but MASK_SAMPLES positives per image from `fg_mask` bool (B, anchors), then defer."""
        draw = torch.rand(fg_mask.shape, device=fg_mask.device).masked_fill(~fg_mask, -1)
        count = min(MASK_SAMPLES, fg_mask.shape[1])
        limit = draw.topk(count, dim=1).values[:, -1:]
        return super().calculate_segmentation_loss(fg_mask & (draw >= limit), *args)
