"""Segment many image files, and write pictures and JSON for each. A bad image does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError
from ..pipeline import FastSAM
from ..render import cutout, draw_prompts, draw_segments, mask_image, save_image
from ..segments import Prompt, Segments
from ..sources.paths import CUTOUTS, MASKS, STANDARD_INPUT
from ..stages.image import ImageFile
from ..stages.reading.decoded import Selection
from .console import say, with_progress
from .outputs import OVERLAY, JsonLines, OutputFolder, output_names

if TYPE_CHECKING:
    from rich.console import Console

_PROCESSORS = {"server": "server", "device": "GPU", "engine": "network"}
"""Stage that takes most of the time → what runs it."""


@dataclass(frozen=True)
class Pictures:
    """The pictures to write for each image.

    Attributes:
        output: the folder; None for no pictures at all.
        masks: also write a black and white PNG for each segment.
        cutouts: also write a transparent PNG for each segment.
        contours: outline the segments in the overlay.

    Example:
        >>> Pictures(output=None).contours
        True
    """

    output: OutputFolder | None
    masks: bool = False
    cutouts: bool = False
    contours: bool = True


def segment_files(
    model: FastSAM,
    paths: Sequence[Path],
    prompt: Prompt | Sequence[Prompt] | None,
    pictures: Pictures,
    json_lines: JsonLines | None,
    console: Console,
    selection: Selection = Selection(),  # noqa: B008 - a frozen value
) -> list[tuple[Path, FastSamError]]:
    """Segment each file, write its pictures and JSON, and print a line about it.

    Args:
        model: open.
        paths: image files; `STANDARD_INPUT` is standard input, whose results are called "stdin".
        prompt: for every image; None for everything.
        pictures: the pictures to write.
        json_lines: gets one item for each image that succeeds; None for no JSON.
        console: for messages. On a terminal it shows a progress bar after two seconds.
        selection: page, bands and range of values to read from each file.

    Returns:
        The files that failed, each with its error. All others are done.

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
        ...     failed = segment_files(model, [Path("photo.jpg")], None, Pictures(None), None, Console())
    """
    failed = []
    names = output_names([Path("stdin") if path == STANDARD_INPUT else path for path in paths])
    named = with_progress(list(zip(paths, names, strict=True)), console)
    sources = [_source(path, selection) for path in paths]
    stream = model.segment_stream(sources, prompt, keep_images=pictures.output is not None)
    for (path, name), item in zip(named, stream, strict=True):
        try:
            segments = item.result()
            written = _write_pictures(item.image, segments, prompt, name, pictures)
        except FastSamError as error:
            failed.append((path, error))
            if len(paths) > 1:  # the error of a single image becomes that of the command
                say(console, f"fastsam: {error}" if str(path) in str(error) else f"fastsam: {path}: {error}")
            continue
        if json_lines is not None:
            record = as_json(segments, path, model)
            record["image"].update(selection.to_json())
            json_lines.write(record)
        say(console, _line(path, segments, written))
    return failed


def _source(path: Path, selection: Selection) -> ImageFile:
    file = sys.stdin.buffer if path == STANDARD_INPUT else path
    return ImageFile(file, selection.page, selection.bands, selection.value_range)


def as_json(segments: Segments, path: Path, model: FastSAM) -> dict[str, Any]:
    """`Segments.to_json` with the path of the image, the model and its settings, and the time by stage (milliseconds).

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
        ...     as_json(model.segment("photo.jpg"), Path("photo.jpg"), model)["image"]["path"]
        'photo.jpg'
    """
    plain = segments.to_json()
    return {
        "image": {"path": str(path), **plain.pop("image")},
        "model": describe_model(model),
        "timing_ms": {stage: round(ms, 3) for stage, ms in segments.timing_ms.items()},
        **plain,
    }


def describe_model(model: FastSAM) -> dict[str, Any]:
    """The settings behind an answer: checkpoint, precision, engine, device, thresholds, and the CLIP if there is one.

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
        ...     describe_model(model)["engine"]
        'onnxruntime'
    """
    return {
        "checkpoint_sha256": model.spec.checkpoint_sha256,
        "precision": model.spec.precision,
        "device": model.device,
        **model.description,
        "imgsz": model.imgsz,
        **asdict(model.thresholds),
        **({} if model.clip is None else {"clip": model.clip.description}),
    }


def _write_pictures(
    image: NDArray[np.uint8] | None,
    segments: Segments,
    prompt: Prompt | Sequence[Prompt] | None,
    name: Path,
    pictures: Pictures,
) -> Path | None:
    """Path of the overlay; None if no pictures are wanted, which is when the stream keeps no images."""
    if pictures.output is None or image is None:
        return None
    overlay = pictures.output.file(name, OVERLAY)
    save_image(overlay, draw_prompts(draw_segments(image, segments, contours=pictures.contours), prompt))
    if pictures.masks:
        for i, path in enumerate(pictures.output.numbered(name, MASKS, len(segments))):
            save_image(path, mask_image(segments, i))
    if pictures.cutouts:
        for i, path in enumerate(pictures.output.numbered(name, CUTOUTS, len(segments))):
            save_image(path, cutout(image, segments, i))
    return overlay


def _line(path: Path, segments: Segments, written: Path | None) -> str:
    count = f"{len(segments)} segment{'' if len(segments) == 1 else 's'}"
    total = sum(segments.timing_ms.values())
    times = [(name, segments.timing_ms[stage]) for stage, name in _PROCESSORS.items() if stage in segments.timing_ms]
    part = f" ({times[0][0]} {times[0][1]:.0f} ms)" if times else ""
    return f"{path}: {count}, {total:.0f} ms{part}{f' → {written}' if written else ''}"
