"""Part "memory": what one image takes above the engine's own memory; a fresh process for every row."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..contenders import running
from ..records import Record, Settings, enlarged, megapixels, photograph_sizes, segmenters
from ..workers import Contender

MANY = {"conf": 0.01, "max_det": 300}
"""300 masks: the demo model then finds more than that in any photograph."""


def measure(settings: Settings) -> Record:
    """Rows: case {image, megapixels, masks wanted}, and instead of times "over_engine_mb", "peak_mb", "masks"."""
    record = Record()
    if not settings.quick:
        record.skip("ultralytics, 24 MP, 300 masks", "its masks, a byte for each pixel of the image, would take 7.2 GB")
    field = {one.name: one for one in record.available(segmenters(settings, max(settings.threads)).values())}
    (name, small), *_ = photograph_sizes(settings.photographs, [0.1]).items()
    with tempfile.TemporaryDirectory() as folder:
        for what, image, who, how in _cases(settings, field):
            path = Path(folder) / "image.npy"
            np.save(path, image)
            case = {"image": f"{name.split()[0]}{what}", "megapixels": megapixels(image), "wanted": how or "conf 0.4"}
            for contender in who:
                _measure(record, contender, case, small, path, how)
    return record


def _cases(
    settings: Settings, field: dict[str, Contender]
) -> list[tuple[str, np.ndarray, list[Contender], dict[str, Any]]]:
    """Name, image, who, and arguments of `segment`."""
    ours = [one for one in field.values() if one.ours]
    if settings.quick:
        return [("", image, ours, {}) for image in list(_photograph(settings, [0.2]).values())[:1]]
    plain = replace(
        field["ultralytics"], name="ultralytics_default", title="ultralytics, PyTorch, default", retina=False
    )
    small, middle, large = _photograph(settings, [0.65, 3.0, 24.0]).values()
    retina = field["ultralytics"]
    return [
        ("", small, [*ours, retina, plain], {}),
        ("", middle, [*ours, retina, plain], {}),
        ("", large, [*ours, retina, plain], {}),
        ("", large, ours, MANY),
        (", mosaic of 4×4", _mosaic(middle, 4, (large.shape[1], large.shape[0])), ours, MANY),
    ]


def _photograph(settings: Settings, sizes: list[float]) -> dict[str, np.ndarray]:
    return photograph_sizes(settings.photographs, sizes, names=1)


def _mosaic(image: np.ndarray, side: int, size_wh: tuple[int, int]) -> np.ndarray:
    """The image beside and below itself: as many small things as an image of that size has, and no large ones."""
    return enlarged(np.tile(image[::2, ::2], (side, side, 1)), size_wh)


def _measure(
    record: Record, contender: Contender, case: dict[str, Any], small: np.ndarray, path: Path, how: dict[str, Any]
) -> None:
    with running([contender]) as runners:
        found = runners[contender.name].ask("memory", small=small, image=str(path), **how)
    if not found.pop("peak_was_reset"):
        record.skip(f"memory of {contender.name}", "this system does not let a process forget its peak")
        return
    if how and found["masks"] != how["max_det"]:
        raise SystemExit(f"{case}: {contender.name} found {found['masks']} masks, expected {how['max_det']}")
    record.row(contender, case, [], **found)
