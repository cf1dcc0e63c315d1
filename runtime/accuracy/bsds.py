"""Files of BSDS500: what annotators drew, and predictions in the three formats of the original benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError

_EDGE_NAMES = ("ucm", "edges", "E", "pb", "bdry")
"""Variables of a .mat file that may hold an edge map of the size of the image."""

_SUFFIXES = (".mat", ".png", ".npy", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What the annotators of one image drew.

    Attributes:
        boundaries: (h, w) bool of each annotator.
        partitions: (h, w) integer labels of each annotator.

    Example:
        >>> truth = read_ground_truth(Path("groundTruth/val/101085.mat"))  # doctest: +SKIP
        >>> len(truth.boundaries), truth.boundaries[0].shape  # doctest: +SKIP
        (5, (321, 481))
    """

    boundaries: tuple[NDArray[np.bool_], ...]
    partitions: tuple[NDArray[np.integer], ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says of one image: an edge map, segmentations, or both (an ultrametric contour map).

    Attributes:
        edges: (h, w) float64 in [0, 1]; None if the file holds segmentations.
        partitions: (h, w) labels, one for each "threshold"; None if they follow from `contours`, or there are none.
        contours: (2 h + 1, 2 w + 1) float64 ultrametric contour map; None for the other kinds.

    Example:
        >>> Prediction(edges=np.zeros((4, 6))).partitions_at(np.array([0.5])) is None
        True
    """

    edges: NDArray[np.float64] | None = None
    partitions: tuple[NDArray[np.integer], ...] | None = None
    contours: NDArray[np.float64] | None = None

    def partitions_at(self, thresholds: NDArray[np.float64]) -> Sequence[NDArray[np.integer]] | None:
        """Segmentations for the region benchmark; None for a mere edge map, which need not be closed.

        Args:
            thresholds: where a contour map is cut; segmentations are returned as they are.

        Returns:
            (h, w) labels for each threshold.
        """
        from scipy.ndimage import label

        if self.contours is None:
            return self.partitions
        return [label(self.contours <= level)[0][1::2, 1::2] for level in thresholds]


def read_ground_truth(path: Path) -> GroundTruth:
    """Read a `.mat` file of BSDS500 with the variable `groundTruth`.

    Raises:
        ParameterError: it is not such a file.

    Example:
        >>> read_ground_truth(Path("groundTruth/val/101085.mat")).partitions[0].max()  # doctest: +SKIP
        18
    """
    variables = _variables(path)
    try:
        cells = variables["groundTruth"].ravel()
        drawn = [cell[0, 0] for cell in cells]
        return GroundTruth(
            tuple(each["Boundaries"].astype(bool) for each in drawn),
            tuple(each["Segmentation"].astype(np.int64) for each in drawn),
        )
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ParameterError(
            f"{path}: holds {_names(variables)}; expected the variable groundTruth with cells of Boundaries and "
            "Segmentation, as in BSDS500"
        ) from error


def read_prediction(path: Path) -> Prediction:
    """Read a prediction: a gray image of any depth, `.npy`, or `.mat` with `ucm2`, `segs` or an edge map.

    Raises:
        ParameterError: the file holds none of these, or values outside [0, 1].

    Example:
        >>> read_prediction(Path("results/101085.png")).edges.shape  # doctest: +SKIP
        (321, 481)
    """
    if path.suffix == ".npy":
        return Prediction(edges=_checked(np.load(path, allow_pickle=False), path))
    if path.suffix != ".mat":
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 2 or pixels.dtype.kind != "u":
            raise ParameterError(f"{path}: not a gray image; expected one channel of 8 or 16 bits")
        return Prediction(edges=pixels / np.iinfo(pixels.dtype).max)
    variables = _variables(path)
    if "ucm2" in variables:
        contours = _checked(variables["ucm2"], path)
        if contours.shape[0] % 2 == 0 or contours.shape[1] % 2 == 0:
            raise ParameterError(f"{path}: ucm2 of {contours.shape}; expected (2 h + 1, 2 w + 1)")
        return Prediction(edges=contours[2::2, 2::2], contours=contours)
    if "segs" in variables:
        return Prediction(partitions=tuple(np.asarray(each, np.int64) for each in variables["segs"].ravel()))
    for name in _EDGE_NAMES:
        if name in variables:
            return Prediction(edges=_checked(variables[name], path))
    raise ParameterError(f"{path}: holds {_names(variables)}; expected ucm2, segs or one of {', '.join(_EDGE_NAMES)}")


def pair_files(truths: Path, predictions: Path) -> list[tuple[Path, Path]]:
    """Ground truth and prediction of each image, matched by the names of the files without their endings.

    Args:
        truths: folder of `.mat` files.
        predictions: folder with a file for each of them.

    Raises:
        ParameterError: a folder is missing or empty, or an image has no prediction, or more than one.

    Example:
        >>> pair_files(Path("groundTruth/val"), Path("results"))[0]  # doctest: +SKIP
        (PosixPath('groundTruth/val/101085.mat'), PosixPath('results/101085.png'))
    """
    names = sorted(truths.glob("*.mat"))
    if not names:
        raise ParameterError(f"{truths}: no .mat file in it; expected the folder groundTruth/val or groundTruth/test")
    pairs = []
    for truth in names:
        files = [file for suffix in _SUFFIXES if (file := predictions / f"{truth.stem}{suffix}").is_file()]
        if len(files) != 1:
            raise ParameterError(
                f"{predictions}: {', '.join(file.name for file in files) or 'nothing'} for {truth.name}; expected one "
                f"file named {truth.stem} with an ending of {', '.join(_SUFFIXES)}"
            )
        pairs.append((truth, files[0]))
    return pairs


def image_files(truths: Path, images: Path) -> list[Path]:
    """The image of each `.mat` file, by name.

    Raises:
        ParameterError: an image is missing.

    Example:
        >>> image_files(Path("groundTruth/val"), Path("images/val"))[0]  # doctest: +SKIP
        PosixPath('images/val/101085.jpg')
    """
    files = []
    for truth in sorted(truths.glob("*.mat")):
        candidates = [file for suffix in (".jpg", ".png") if (file := images / f"{truth.stem}{suffix}").is_file()]
        if not candidates:
            raise ParameterError(f"{images}: no image for {truth.name}; expected {truth.stem}.jpg")
        files.append(candidates[0])
    return files


def _variables(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return dict(loadmat(path))
    except FileNotFoundError as error:
        raise ParameterError(f"{path}: no such file") from error
    except Exception as error:  # SciPy raises what the bytes lead it to
        raise ParameterError(f"{path}: not a readable .mat file ({error}); expected version 5 of the format") from error


def _names(variables: dict[str, Any]) -> str:
    return ", ".join(name for name in variables if not name.startswith("__")) or "nothing"


def _checked(values: NDArray[Any], path: Path) -> NDArray[np.float64]:
    edges = np.asarray(values, np.float64)
    if edges.ndim != 2 or not np.isfinite(edges).all() or edges.min(initial=0) < 0 or edges.max(initial=0) > 1:
        raise ParameterError(f"{path}: {edges.shape} with values outside [0, 1]; expected (h, w) in [0, 1]")
    return edges
