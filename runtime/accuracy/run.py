"""The measurements from beginning to end: images through a model, results in a journal, tables at the end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError, ParameterError
from ..pipeline import FastSAM
from ..segments import Segments
from ..settings import Thresholds
from ..system.cpu import usable_cpus
from .boundaries import BoundaryCounts, BoundaryScores, count_edges, count_partitions, scores_of, thresholds
from .bsds import pair_files, read_ground_truth, read_prediction
from .coco_data import CocoData, CocoImage
from .journal import Journal, digest
from .regions import RegionScores, RegionSummary, compare_regions, summary_of

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Shows how far a loop is: takes the items and their number, gives the items."""


def plain(items: Iterable[Any], count: int) -> Iterable[Any]:
    """No progress is shown.

    Example:
        >>> list(plain("ab", 2))
        ['a', 'b']
    """
    return items


@dataclass(frozen=True)
class EdgeResult:
    """What the benchmark of BSDS500 says.

    Attributes:
        images: number of images.
        boundaries: precision and recall of the boundaries.
        regions: of the segmentations; None if the predictions are mere edge maps.

    Example:
        >>> evaluate_edges(Path("groundTruth/test"), Path("results"), Path("out")).boundaries.ods  # doctest: +SKIP
        0.72
    """

    images: int
    boundaries: BoundaryScores
    regions: RegionSummary | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "images": self.images,
            "boundaries": asdict(self.boundaries),
            "regions": asdict(self.regions) if self.regions else None,
        }


def evaluate_edges(
    truths: Path,
    predictions: Path,
    output: Path,
    *,
    count: int = 99,
    workers: int | None = None,
    progress: Progress = plain,
) -> EdgeResult:
    """Judge a folder of edge maps, segmentations or ultrametric contour maps, several images at once.

    Args:
        truths: folder of BSDS500's `.mat` files.
        predictions: folder of `.png`, `.npy` or `.mat` files with the same names.
        output: folder for `edges.jsonl`, from which an interrupted run goes on. An image whose files have changed is
            judged again.
        count: number of thresholds; segmentations are their own.
        workers: processes; None: one for each processor.
        progress: see `Progress`.

    Raises:
        ParameterError: files are missing or not readable, or predictions are of different kinds.

    Example:
        >>> evaluate_edges(Path("groundTruth/test"), Path("ucm2"), Path("out")).regions.covering_ods  # doctest: +SKIP
        0.59
    """
    pairs = pair_files(truths, predictions)
    names = {truth.stem: f"{truth.stem} {digest(truth, file)}" for truth, file in pairs}
    with Journal(output / "edges.jsonl", {"thresholds": count, "version": 1}) as journal:
        todo = [(truth, file) for truth, file in pairs if names[truth.stem] not in journal.done]
        with ProcessPoolExecutor(
            min(workers or usable_cpus(), max(len(todo), 1)), multiprocessing.get_context("spawn")
        ) as pool:
            futures = {pool.submit(judge_image, truth, file, count): truth.stem for truth, file in todo}
            try:
                for future in progress(as_completed(futures), len(todo)):
                    journal.add(names[futures[future]], future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return _edge_result([journal.done[names[truth.stem]] for truth, _ in pairs], count)


def judge_image(truth_file: Path, prediction_file: Path, count: int) -> dict[str, Any]:
    """Counts of one image, as plain values.

    Args:
        truth_file: `.mat` file of BSDS500.
        prediction_file: see `read_prediction`.
        count: number of thresholds.

    Example:
        >>> judge_image(Path("2018.mat"), Path("2018.png"), 99)["levels"]  # doctest: +SKIP
        99
    """
    truth, prediction = read_ground_truth(truth_file), read_prediction(prediction_file)
    at = thresholds(count)
    if prediction.edges is None:
        assert prediction.partitions is not None
        at = np.arange(1.0, len(prediction.partitions) + 1)
        counts = count_partitions(prediction.partitions, truth.boundaries)
    else:
        counts = count_edges(prediction.edges, truth.boundaries, at)
    partitions = prediction.partitions_at(at)
    regions = None if partitions is None else compare_regions(partitions, truth.partitions)
    return {
        "levels": len(at),
        "segmentations": prediction.edges is None,
        "boundaries": _as_lists(asdict(counts)),
        "regions": None if regions is None else _as_lists(asdict(regions)),
    }


def for_each_image(
    model: FastSAM,
    data: CocoData,
    limits: Thresholds,
    journal: Journal,
    measure: Callable[[CocoImage, Segments], Mapping[str, Any]],
    progress: Progress = plain,
) -> dict[int, Mapping[str, Any]]:
    """Segment the images of a data set that the journal does not have, and note what `measure` makes of each.

    Args:
        model: open.
        data: the data set.
        limits: thresholds of the model.
        journal: of this measurement.
        measure: image and its segments → plain JSON values.
        progress: see `Progress`.

    Returns:
        The results by the id of the image.

    Raises:
        ImageError: an image cannot be read, or has another size than the annotations say.

    Example:
        >>> for_each_image(model, data, PAPER, journal, lambda _, segments: proposals_of(segments))  # doctest: +SKIP
    """
    todo = [image for image in data.images if str(image.id) not in journal.done]
    stream = model.segment_stream((image.path for image in todo), thresholds=limits)
    for image, item in progress(zip(todo, stream, strict=True), len(todo)):
        segments = item.result()
        journal.add(str(image.id), measure(image, _checked(image, segments)))
    return {image.id: journal.done[str(image.id)] for image in data.images}


def _checked(image: CocoImage, segments: Segments) -> Segments:
    if segments.image_hw != image.image_hw:
        (h, w), (height, width) = segments.image_hw, image.image_hw
        raise ImageError(f"{image.path}: {w}×{h} pixels; the annotations expect {width}×{height}")
    return segments


def _edge_result(rows: Sequence[Mapping[str, Any]], count: int) -> EdgeResult:
    levels = {row["levels"] for row in rows}
    if len(levels) > 1 or len({row["regions"] is None for row in rows}) > 1:
        raise ParameterError(
            f"predictions with {', '.join(map(str, sorted(levels)))} levels, some with regions and some without; "
            "expected files of one kind"
        )
    at = np.arange(1.0, max(levels) + 1) if rows[0]["segmentations"] else thresholds(count)
    boundaries = scores_of([BoundaryCounts(**_as_arrays(row["boundaries"])) for row in rows], at)
    regions = None
    if rows[0]["regions"] is not None:
        regions = summary_of([RegionScores(**_as_arrays(row["regions"])) for row in rows], at)
    return EdgeResult(len(rows), boundaries, regions)


def _as_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _as_arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(value) if isinstance(value, list) else value for name, value in values.items()}
