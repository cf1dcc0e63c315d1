"""Buildings of an aerial image as GeoJSON, in the coordinates of the image's map.

    python examples/buildings.py city.tif --tiles 512 --output buildings.geojson

Large images are cut into tiles. A building is a segment of a plausible size and shape: compact, and bounded by straight
lines. The coordinates of a GeoTIFF are those of its reference system, which the file names; areas are then in square
metres if its unit is the metre. Without rasterio (the extra [geo]), or for an image without a place, they are pixels.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fastsam_deploy import FastSAM, Segments, Tiles, load_image


@dataclass(frozen=True)
class Place:
    """Where an image lies on the map.

    Attributes:
        matrix: a, b, c, d, e, f: x = a * column + b * row + c, y = d * column + e * row + f.
        crs: name of the coordinate reference system, "urn:ogc:def:crs:EPSG::32633"; None: pixels.
    """

    matrix: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    crs: str | None = None

    @classmethod
    def of(cls, path: Path) -> Place:
        """The place that a GeoTIFF says; pixels for any other image."""
        try:
            import rasterio
        except ImportError:
            return cls()
        if path.suffix.lower() not in (".tif", ".tiff"):
            return cls()
        with rasterio.open(path) as dataset:
            if dataset.crs is None:
                return cls()
            code = dataset.crs.to_epsg()
            name = f"urn:ogc:def:crs:EPSG::{code}" if code else dataset.crs.to_wkt()
            return cls(tuple(dataset.transform)[:6], name)

    def on_map(self, corners_xy: Any) -> list[list[float]]:
        """(k, 2) pixels → a closed ring on the map."""
        a, b, c, d, e, f = self.matrix
        x, y = np.asarray(corners_xy, float).T
        ring = np.stack([a * x + b * y + c, d * x + e * y + f], 1).tolist()
        return [*ring, ring[0]]

    @property
    def pixel_area(self) -> float:
        """Area of a pixel, in squares of the map's unit."""
        a, b, _, d, e, _ = self.matrix
        return abs(a * e - b * d)


def buildings(
    segments: Segments,
    *,
    least_px: int = 60,
    largest_share: float = 0.05,
    least_fill: float = 0.82,
    tile_px: int | None = None,
) -> Segments:
    """Those segments that look like roofs from above.

    Args:
        segments: everything.
        least_px: smaller ones are cars and trees.
        largest_share: of the image, or of a tile; larger ones are fields, blocks and streets.
        least_fill: of the smallest turned rectangle around the segment, so much is roof.
        tile_px: side of the tiles that the image was cut into.
    """
    height, width = segments.image_hw
    most = largest_share * min(height * width, (tile_px or max(height, width)) ** 2)
    kept = []
    for i, parts in enumerate(segments.masks.polygons(tolerance_px=1.0)):
        area = int(segments.areas[i])
        if not parts or not least_px <= area <= most:
            continue
        corners = np.concatenate([part.outer for part in parts]).astype(np.float32)
        (_, (long, short), _) = cv2.minAreaRect(corners)
        if area >= least_fill * long * short and min(long, short) >= 0.35 * max(long, short):
            kept.append(i)
    roofs, built = [], np.zeros((height, width), bool)
    for i in sorted(kept, key=lambda row: -segments.scores[row]):
        mask = segments.masks.full(i)
        if (mask & built).sum() < 0.5 * segments.areas[i]:  # else it is a second mask of the same roof
            roofs.append(i)
            built |= mask
    return segments[roofs]


def geojson(segments: Segments, place: Place, tolerance_px: float = 1.0) -> dict[str, Any]:
    """A FeatureCollection with a polygon for each part of each segment.

    Its `crs` member is that of GeoJSON 2008, which GDAL and QGIS read; RFC 7946 knows longitude and latitude only.
    """
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [[place.on_map(part.outer), *map(place.on_map, part.holes)] for part in parts],
            },
            "properties": {
                "score": round(float(segments.scores[i]), 3),
                "area": round(int(segments.areas[i]) * place.pixel_area, 3),
            },
        }
        for i, parts in enumerate(segments.masks.polygons(tolerance_px))
    ]
    named = {} if place.crs is None else {"crs": {"type": "name", "properties": {"name": place.crs}}}
    return {"type": "FeatureCollection", **named, "features": features}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Outline the buildings of an aerial image.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--tiles", type=int, help="side of a tile, pixels; default: the whole image at once")
    parser.add_argument("--output", type=Path, default=Path("buildings.geojson"))
    parser.add_argument("--picture", type=Path, help="the buildings over the image")
    given = parser.parse_args()
    with FastSAM(given.model) as model:
        # Roofs are smaller than a quarter of a tile. More overlap would find more of what is no roof: whole blocks.
        tiles = None if given.tiles is None else Tiles(given.tiles, overlap=0.25)
        found = buildings(model.segment(given.image, tiles=tiles), tile_px=given.tiles)
    place = Place.of(given.image)
    given.output.write_text(json.dumps(geojson(found, place)), encoding="utf-8")
    if given.picture is not None:
        Image.fromarray(found.plot(load_image(given.image))).save(given.picture)
    print(f"{given.image}: {len(found)} buildings in {place.crs or 'pixels'} → {given.output}")


if __name__ == "__main__":
    main()
