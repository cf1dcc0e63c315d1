"""The methods of `Segments` that hand segments to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Columns, coco, json, labelmap, labelme, write, yolo
from . import supervision, tables

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections


class Conversions:
    """Files, and values of other libraries. All coordinates are pixels of the image; no method changes the segments.

    Boxes are those of the detections, x1, y1, x2, y2, with the edges of pixels as coordinates. Polygons of COCO have
    such coordinates too; those of YOLO and labelme run through the centres of the outermost pixels, because their
    readers fill a polygon together with its outline.

    Example:
        >>> from fastsam_deploy.runtime import Segments
        >>> isinstance(Segments.empty((4, 5)), Conversions)
        True
    """

    def to_coco(
        self: Columns,
        image_id: int | str = 0,
        first_id: int = 1,
        *,
        boxes: str = "detections",
        polygons: bool = False,
        tolerance_px: float = 0.0,
    ) -> list[dict[str, Any]]:
        """COCO annotations. `save(path, format="coco")` writes a whole COCO file, with boxes of detections and RLE.

        Args:
            image_id: ID of the image in the COCO file.
            first_id: ID of the first annotation; the others follow.
            boxes: `bbox` is "detections", the network's box, whose edges near the border of the image lie on it; or
                "masks", the extent of the mask, as in COCO's own annotations.
            polygons: write polygons instead of RLE; holes are joined to the outline by seams.
            tolerance_px: simplifies polygons, see `Masks.polygons`.

        Raises:
            ParameterError: a setting is not as described.

        Example:
            >>> segments.to_coco(image_id=7, boxes="masks", polygons=True)  # doctest: +SKIP
        """
        return coco.annotations_of(self, image_id, first_id, boxes=boxes, polygons=polygons, tolerance_px=tolerance_px)

    def to_json(self: Columns) -> dict[str, Any]:
        """All values as plain JSON, masks as COCO RLE; `from_json` reads it back.

        Example:
            >>> from fastsam_deploy.runtime import Segments
            >>> Segments.empty((480, 640)).to_json()
            {'image': {'height': 480, 'width': 640}, 'class_names': ['object'], 'segments': []}
        """
        return json.document(self)

    def to_yolo(self: Columns, *, tolerance_px: float = 0.0) -> list[str]:
        """The lines of a YOLO label file: for each segment its class number and a polygon, in [0, 1].

        A mask without pixels has no line. Holes and parts are joined to one polygon, see `formats.yolo`.

        Args:
            tolerance_px: leave out corners that lie at most this far from the simplified outline; 0: keep all.

        Raises:
            ParameterError: the tolerance is negative.

        Example:
            >>> Path("labels/coffee.txt").write_text("\\n".join(segments.to_yolo()))  # doctest: +SKIP
        """
        return yolo.lines(self, tolerance_px=tolerance_px)

    def to_labelme(
        self: Columns, image_path: str | Path = "", *, shapes: str = "polygons", tolerance_px: float = 0.0
    ) -> dict[str, Any]:
        """The content of a labelme file as plain JSON values.

        Args:
            image_path: path of the image, relative to the folder of the labelme file.
            shapes: "polygons", which can be corrected by hand; or "masks", exact bitmaps.
            tolerance_px: for polygons, as in `to_yolo`.

        Raises:
            ParameterError: `shapes` is neither, or the tolerance is negative.

        Example:
            >>> segments.save("coffee.json", format="labelme", image_path="coffee.jpg")  # doctest: +SKIP
        """
        return labelme.document(
            self, Path(image_path).as_posix() if image_path else "", shapes=shapes, tolerance_px=tolerance_px
        )

    def to_label_map(self: Columns) -> NDArray[np.uint16]:
        """(h, w) uint16: at each pixel the number of its segment, 0 for none.

        1 is the segment with the highest score, 2 the next one. Where segments overlap, the smallest is seen.

        Raises:
            ParameterError: there are more than 65535 segments.

        Example:
            >>> from fastsam_deploy.runtime import Segments
            >>> Segments.empty((1, 3)).to_label_map()
            array([[0, 0, 0]], dtype=uint16)
        """
        return labelmap.label_map(self)

    def to_dataframe(self: Columns) -> DataFrame:
        """A pandas DataFrame with a row for each segment: the columns of a CSV file, see `formats.csv`.

        Raises:
            MissingDependencyError: pandas is not installed.

        Example:
            >>> segments.to_dataframe().sort_values("area").head()  # doctest: +SKIP
        """
        return tables.to_dataframe(self)

    def to_supervision(self: Columns, *, compact: bool = False) -> Detections:
        """A `supervision.Detections`; `data` has `class_name`, `prompt`, `fit` and `probability`.

        Args:
            compact: masks as supervision's `CompactMask` instead of an (n, h, w) array, for large images.

        Raises:
            MissingDependencyError: supervision is not installed, or too old for compact masks.

        Example:
            >>> supervision.MaskAnnotator().annotate(image, segments.to_supervision())  # doctest: +SKIP
        """
        return supervision.to_supervision(self, compact=compact)

    def save(self: Columns, path: str | Path, format: str | None = None, **options: Any) -> None:  # noqa: A002 - Pillow's name for it
        """Write a file, whole or not at all.

        Args:
            path: the suffix says the format: `.json` (masks as COCO RLE), `.npz` (arrays, and masks as bits), `.csv`
                (no masks), `.txt` (YOLO) or `.png` (label map). `load` reads `.json` and `.npz`.
            format: name of another format with that suffix: "coco" or "labelme".
            options: of the format: `tolerance_px` of YOLO; `image_path`, `shapes`, `tolerance_px` of labelme;
                `file_name`, `boxes`, `polygons`, `tolerance_px` of COCO.

        Raises:
            FastSamError: the suffix or format is unknown, or the file cannot be written.
            ParameterError: the format has no such option.

        Example:
            >>> segments.save("coffee.npz")  # doctest: +SKIP
            >>> segments.save("coffee.json", format="coco", polygons=True)  # doctest: +SKIP
        """
        write(Path(path), self, format, **options)
