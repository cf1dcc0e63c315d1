"""The stages on device memory: each function puts the kernels of one stage into a stream and is named like its twin.

Launches depend on `Shapes` alone, never on what lies in memory: they can be captured in a graph and replayed for other
images. The `.cu` files say what the arguments point to.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..masks.bits import WORD_BITS
from ..stages import assemble as assemble_twin
from ..stages import decode as decode_twin
from ..stages import letterbox as letterbox_twin
from .loading import Kernels
from .shapes import MAX_STRIDES, Buffers, Shapes

BLOCK, TILE_WORDS, OVERLAP_BLOCK = 256, 128, 128
"""Threads of a block, as in layout.cuh."""

_CHECK_VALUES = 16 * BLOCK
"""Prototypes that a block looks at, about."""


def letterbox(kernels: Kernels, shapes: Shapes, buffers: Buffers, blob: int, stream: Any) -> None:
    """Images → network input. `blob` is (batch, 3, H, W) in device memory. Twin: `letterbox.letterbox`.

    Example:
        >>> letterbox(kernels, shapes, buffers, blob, stream)  # doctest: +SKIP
    """
    height, width = shapes.input_hw
    kernels.launch(
        _typed("letterbox", shapes.half_input),
        (_blocks(width, 32), _blocks(height, 8), shapes.batch),
        (32, 8),
        (*_pointers(buffers.upload, buffers.places, blob), *_ints(height, width), letterbox_twin.border_value()),
        stream,
    )


def join_rows(
    kernels: Kernels, shapes: Shapes, outputs: tuple[int, int, int, int], half: bool, joined: int, stream: Any
) -> None:
    """The outputs of the layout "split" → rows of the layout "nms". Twin: `_rows` in engines/segmentation.py.

    Args:
        outputs: addresses of boxes, scores, classes (int32) and coefficients, see `spec.SPLIT_OUTPUTS`.
        half: all but the classes are float16; else float32.
        joined: (batch, rows, 6 + mask_dim) float32, is written.

    Example:
        >>> join_rows(kernels, shapes, (boxes, scores, classes, coefficients), False, joined, stream)  # doctest: +SKIP
    """
    rows = shapes.batch * shapes.rows
    args = (*_pointers(*outputs, joined), *_ints(rows, shapes.mask_dim))
    kernels.launch(_typed("join_rows", half), (_blocks(rows * shapes.columns, BLOCK),), (BLOCK,), args, stream)


def decode(kernels: Kernels, shapes: Shapes, buffers: Buffers, output: int, stream: Any) -> None:
    """Detections output → detections of each image, crops included. Twins: `decode.decode`, `Letterbox.boxes_to_image`.

    Args:
        output: the network's detections, (batch, rows, columns) in device memory; in the layout "split" what
            `join_rows` wrote.

    Example:
        >>> decode(kernels, shapes, buffers, output, stream)  # doctest: +SKIP
    """
    raw = not shapes.suppressed
    reset = (*_pointers(buffers.summaries), *_ints(shapes.batch))
    kernels.launch("reset_summaries", (_blocks(shapes.batch, BLOCK),), (BLOCK,), reset, stream)
    (_suppressed if raw else _accepted)(kernels, shapes, buffers, output, stream)
    strides = (1, shapes.columns) if raw else (shapes.columns, 1)  # of an anchor, and of one of its values
    first_value = (shapes.box_values + shapes.class_count) * shapes.columns if raw else 6
    kernels.launch(
        _typed("gather", shapes.half_detections),
        (_blocks(shapes.max_det * shapes.mask_dim, BLOCK), shapes.batch),
        (BLOCK,),
        (
            *_pointers(
                output, buffers.kept, buffers.places, buffers.summaries, buffers.coefficients, buffers.detections
            ),
            np.int64(shapes.rows * shapes.columns),
            *_ints(first_value, *strides, shapes.mask_dim, shapes.max_det),
        ),
        stream,
    )


def _suppressed(kernels: Kernels, shapes: Shapes, buffers: Buffers, output: int, stream: Any) -> None:
    """The layouts "raw" and "distributions": candidates, sorted, suppressed."""
    grid = (_blocks(shapes.columns, BLOCK), shapes.batch)
    sizes = _ints(shapes.columns, shapes.class_count, shapes.rows, shapes.bins)
    candidates = _pointers(output, buffers.places, buffers.summaries, buffers.keys)
    kernels.launch(_typed("candidates", shapes.half_detections), grid, (BLOCK,), (*candidates, *sizes), stream)
    ranked = _pointers(output, buffers.keys, buffers.summaries, buffers.sorted)
    capacity = _ints(shapes.candidate_capacity)
    strides = _ints(*shapes.strides, *[0] * (MAX_STRIDES - len(shapes.strides)))
    placed = (*ranked, *sizes, *_ints(*shapes.input_hw), *strides, *capacity)
    kernels.launch(_typed("rank_candidates", shapes.half_detections), grid, (BLOCK,), placed, stream)
    kept = _pointers(buffers.sorted, buffers.places, buffers.summaries, buffers.kept)
    args = (*kept, *capacity, *_ints(shapes.max_det), decode_twin.CLASS_OFFSET_PX)
    kernels.launch("suppress", (shapes.batch,), (BLOCK,), args, stream)


def _accepted(kernels: Kernels, shapes: Shapes, buffers: Buffers, output: int, stream: Any) -> None:
    """The layout "nms": the network has suppressed."""
    pointers = _pointers(output, buffers.places, buffers.summaries, buffers.kept)
    args = (*pointers, *_ints(shapes.rows, shapes.columns, shapes.max_det))
    kernels.launch(_typed("accept", shapes.half_detections), (shapes.batch,), (BLOCK,), args, stream)


def assemble(kernels: Kernels, shapes: Shapes, buffers: Buffers, prototypes: int, stream: Any) -> None:
    """Detections and prototypes → masks on their crops. Twin: `assemble.assemble`.

    A mask that would end past `word_capacity` is not written and has the area 0. Where `total_words` is above it, give
    buffers with more words and call this again.

    Args:
        prototypes: (batch, mask_dim, H / 4, W / 4) in device memory.

    Example:
        >>> assemble(kernels, shapes, buffers, prototypes, stream)  # doctest: +SKIP
    """
    height, width = shapes.prototypes_hw
    values, rows = shapes.mask_dim * height * width, shapes.batch * shapes.max_det
    laid_out = _pointers(buffers.detections, buffers.summaries, buffers.total_words, buffers.tile_ends)
    kernels.launch("layout_masks", (1,), (BLOCK,), (*laid_out, *_ints(shapes.batch, shapes.max_det)), stream)
    kernels.launch(
        _typed("check_prototypes", shapes.half_prototypes),
        (min(_blocks(values, _CHECK_VALUES), kernels.blocks), shapes.batch),
        (BLOCK,),
        (*_pointers(prototypes, buffers.places, buffers.summaries), np.int64(values)),
        stream,
    )
    sources = (buffers.upload, buffers.places, buffers.detections, buffers.coefficients, prototypes, buffers.tile_ends)
    kernels.launch(
        _typed("masks", shapes.half_prototypes),
        (kernels.blocks,),
        (TILE_WORDS,),
        (
            *_pointers(*sources, buffers.words),
            np.int64(buffers.word_capacity),
            *_ints(rows, shapes.max_det, shapes.mask_dim, height, width),
            assemble_twin.MASK_THRESHOLD,
        ),
        stream,
    )


def contain(
    kernels: Kernels, detections: int, words: int, points: int, held: int, rows: int, count: int, stream: Any
) -> None:
    """Which masks hold which points. Twin: `Masks.contain`.

    Args:
        detections: (rows,) DETECTION_DTYPE, one image's part of the answer.
        words: the answer's.
        points: (count, 2) int32, x and y in pixels of the image, inside it.
        held: (rows, count) uint8, becomes 1 or 0.

    Example:
        >>> contain(kernels, detections, words, points, held, rows=300, count=2, stream=stream)  # doctest: +SKIP
    """
    if rows and count:
        args = (*_pointers(detections, words, points, held), *_ints(rows, count))
        kernels.launch("contain", (_blocks(rows * count, BLOCK),), (BLOCK,), args, stream)


def box_overlap(
    kernels: Kernels, detections: int, words: int, boxes: int, pixels: int, rows: int, count: int, stream: Any
) -> None:
    """Pixels of each mask inside each box. Twin: `Masks.box_overlap`.

    Args:
        detections, words: as for `contain`.
        boxes: (count, 4) int32, left, top, right, bottom in pixels of the image, inside it; the last two exclusive.
        pixels: (rows, count) int32, is written.

    Example:
        >>> box_overlap(kernels, detections, words, boxes, pixels, rows=300, count=2, stream=stream)  # doctest: +SKIP
    """
    if rows and count:
        args = (*_pointers(detections, words, boxes, pixels), *_ints(rows, count))
        kernels.launch("box_overlap", (min(rows * count, kernels.blocks),), (OVERLAP_BLOCK,), args, stream)


def join_masks(
    kernels: Kernels,
    detections: int,
    words: int,
    chosen: int,
    joined: int,
    area: int,
    count: int,
    crop_xywh: tuple[int, int, int, int],
    stream: Any,
) -> None:
    """Several masks as one. Twin: `Masks.union`.

    Args:
        detections, words: as for `contain`.
        chosen: (count,) int32, rows of detections.
        joined: (height, words of a row) uint32, is written.
        area: int32, pixels are added to it.
        crop_xywh: a part of the image that holds all chosen masks, pixels.

    Example:
        >>> join_masks(kernels, *place, chosen, joined, area, 2, (0, 0, 640, 480), stream)  # doctest: +SKIP
    """
    args = (*_pointers(detections, words, chosen, joined, area), *_ints(count, *crop_xywh))
    kernels.launch("join_masks", (_word_blocks(crop_xywh[2:]),), (BLOCK,), args, stream)


def morph(
    kernels: Kernels,
    source: int,
    target: int,
    area: int,
    size_wh: tuple[int, int],
    around: tuple[int, int],
    grows: bool,
    stream: Any,
) -> None:
    """Grow or shrink a mask by a square. Twins: `cv2.dilate` and `cv2.erode`.

    Args:
        source, target: (height, words of a row) uint32; the target is written.
        area: int32, pixels of the target are added to it.
        around: pixels of the square before and after the pixel that it is around, along both axes.

    Example:
        >>> morph(kernels, joined, grown, area, (640, 480), (1, 1), True, stream)  # doctest: +SKIP
    """
    args = (*_pointers(source, target, area), *_ints(*size_wh, *around, int(grows)))
    kernels.launch("morph", (_word_blocks(size_wh),), (BLOCK,), args, stream)


def _word_blocks(size_wh: tuple[int, ...]) -> int:
    width, height = size_wh
    return _blocks(_blocks(width, WORD_BITS) * height, BLOCK)


def _typed(kernel: str, half: bool) -> str:
    return f"{kernel}_f16" if half else f"{kernel}_f32"


def _blocks(elements: int, each: int) -> int:
    return -(-elements // each)


def _pointers(*addresses: int) -> tuple[np.uintp, ...]:
    return tuple(np.uintp(address) for address in addresses)


def _ints(*values: int) -> tuple[np.int32, ...]:
    return tuple(np.int32(value) for value in values)
