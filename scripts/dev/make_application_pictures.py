"""Draws the pictures of docs/applications.md: python -m scripts.dev.make_application_pictures"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fastsam_deploy.runtime import FastSAM

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/images"
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]


def main() -> None:
    """Write them."""
    import anomaly
    import buildings
    import salient_object

    from tests.examples.pictures import object_that_stands_out, part_with_defects, town

    with FastSAM() as model:
        part, thing, roofs = part_with_defects()[0], object_that_stands_out()[0], town()[0]
        drawn = FOLDER / "drawn.png"
        Image.fromarray(part).save(drawn)
        points, boxes = [[150, 120], [395, 110]], [[295, 255, 365, 325]]
        _write("anomaly", part, anomaly.inspect(model, drawn, points=points, boxes=boxes).defects.plot(boxes=True))
        Image.fromarray(thing).save(drawn)
        segments = salient_object.salient_object(model, drawn)
        mask = segments.masks.full(0)[..., None]
        _write("salient-object", thing, np.where(mask, thing, 255).astype(np.uint8))
        _write("buildings", roofs, buildings.buildings(model.segment(roofs)).plot(roofs))
        drawn.unlink()


def _write(name: str, before: np.ndarray, after: np.ndarray) -> None:
    pair = Image.fromarray(np.hstack([before, np.full((len(before), 12, 3), 255, np.uint8), after]))
    pair.thumbnail((1000, 1000))
    pair.save(FOLDER / f"{name}.jpg", quality=82)


if __name__ == "__main__":
    main()
