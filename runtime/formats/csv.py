"""CSV: a table with a row for each segment, for spreadsheets and pandas. It has no masks.

Boxes are those of the detections, x1, y1, x2, y2 in pixels of the image; `area` is the number of pixels of the mask.
`prompt`, `fit` and `probability` are empty for segments that answer no prompt. `track_id` follows where segments were
tracked.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from . import NO_PROMPT, NO_TRACK, Columns, is_tracked

SUFFIX = ".csv"

NAMES = (
    *("segment", "class", "class_name", "score", "x1", "y1", "x2", "y2", "area"),
    *("prompt", "fit", "probability"),
)
"""Names of the columns, but for `TRACK`."""

TRACK = "track_id"


def names_for(columns: Columns) -> tuple[str, ...]:
    """The names of the columns of these segments.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> names_for(Segments.empty((4, 5))) == NAMES
        True
    """
    return (*NAMES, TRACK) if is_tracked(columns) else NAMES


def encode(columns: Columns) -> bytes:
    """A CSV file with a header, UTF-8, lines ended by CR and LF as in RFC 4180.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> encode(Segments.empty((4, 5)))
        b'segment,class,class_name,score,x1,y1,x2,y2,area,prompt,fit,probability\\r\\n'
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names_for(columns))
    writer.writeheader()
    writer.writerows(rows(columns))
    return stream.getvalue().encode()


def rows(columns: Columns) -> list[dict[str, Any]]:
    """The rows, with the keys of `names_for`; None for an empty cell.

    Example:
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense([[[0, 1, 1], [0, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> list(rows(segments)[0].values())
        [0, 0, 'object', 1.0, 1.0, 0.0, 3.0, 2.0, 3, None, None, None]
    """
    prompted = columns.prompts, columns.fits, columns.probabilities, columns.track_ids
    names = names_for(columns)
    boxes = columns.boxes_xyxy.astype(np.float64)
    values = zip(columns.classes.tolist(), columns.scores, boxes, columns.masks.areas, *prompted, strict=True)
    return [
        dict(
            zip(
                names,
                (
                    *(i, number, columns.class_names[number], round(float(score), 6)),
                    *(round(float(side), 3) for side in box),
                    *(int(area), None if prompt == NO_PROMPT else int(prompt)),
                    *(None if np.isnan(value) else round(float(value), 6) for value in (fit, probability)),
                    *([None if track == NO_TRACK else int(track)] if TRACK in names else []),
                ),
                strict=True,
            )
        )
        for i, (number, score, box, area, prompt, fit, probability, track) in enumerate(values)
    ]
