"""The rows of the FastSAM paper (arXiv 2306.12156) and its README, to stand beside what is measured.

Their settings: FastSAM-x, input 1024, one RTX 3090.
"""

from __future__ import annotations

EDGES: dict[str, dict[str, float]] = {
    "FastSAM (paper)": {"ODS": 0.750, "OIS": 0.790, "AP": 0.793, "R50": 0.903},
    "SAM (paper)": {"ODS": 0.768, "OIS": 0.786, "AP": 0.794, "R50": 0.928},
}
"""BSDS500 test, 200 images."""

COCO_BOXES: dict[str, dict[str, float]] = {
    "FastSAM (paper)": {"AR@10": 0.157, "AR@100": 0.473, "AR@1000": 0.637, "AUC": 0.322},
    "SAM-H E32 (paper)": {"AR@10": 0.185, "AR@100": 0.495, "AR@1000": 0.625, "AUC": 0.337},
}
"""COCO val2017, boxes."""

LVIS_BOXES: dict[str, dict[str, float]] = {
    "FastSAM (paper)": {"all": 0.571, "small": 0.443, "medium": 0.771, "large": 0.853},
    "SAM-H E32 (paper)": {"all": 0.503, "small": 0.331, "medium": 0.762, "large": 0.898},
}
"""LVIS v1 val, boxes, AR@1000."""

LVIS_MASKS: dict[str, dict[str, float]] = {
    "FastSAM (paper)": {"all": 0.497, "small": 0.356, "medium": 0.727, "large": 0.776},
    "SAM-H E32 (paper)": {"all": 0.518, "small": 0.352, "medium": 0.787, "large": 0.852},
}
"""LVIS v1 val, masks, AR@1000."""

INSTANCES: dict[str, dict[str, float]] = {
    "FastSAM (paper)": {"AP": 0.379, "APS": 0.239, "APM": 0.434, "APL": 0.500},
    "SAM (paper)": {"AP": 0.465, "APS": 0.308, "APM": 0.510, "APL": 0.617},
}
"""COCO val2017, masks from the boxes of ViTDet-H."""
