"""Weights rounded one after the other, each error made up for by those that are still to come (GPTQ).

Rounding every weight to the nearest level makes the least error of the weights, not of what the convolution computes:
neighbouring values of an image are alike, so errors of their weights can cancel. Frantar et al., "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers", 2022. The mean of the error that is left goes into
the bias, as in Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_DAMPING = 0.01
"""Of the mean variance, added to each: directions that no photograph has shown are not relied on."""

_BLOCK = 128
"""Columns that take the errors of all columns before the block at once: the same sums, faster."""

_LEAST_STEP = 1e-10


@dataclass(frozen=True, eq=False)
class Moments:
    """What a convolution reads at a place of its output: d = channels x height x width of the kernel values.

    Attributes:
        mean: (d,) float32.
        covariance: (d, d) float32.

    Example:
        >>> Moments(np.zeros(2, np.float32), np.diag(np.float32([1, 4]))).order.tolist()
        [1, 0]
    """

    mean: NDArray[np.float32]
    covariance: NDArray[np.float32]

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """(d,) the order in which weights are rounded: those of values that vary most come first."""
        return np.argsort(-np.diag(self.covariance), kind="stable")

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """(d, d), in `order`: row i, column j > i: how much of an error of weight i weight j has to add.

        With the covariance as R R', R upper triangular, these are the columns of R, each over its last value. It is
        what the inverse of the covariance gives in the paper, without an inverse.
        """
        damped = self.covariance[np.ix_(self.order, self.order)].astype(np.float64)
        damped[np.diag_indices_from(damped)] += _DAMPING * float(np.mean(np.diag(damped))) + _LEAST_STEP
        upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
        shares: NDArray[np.float64] = upper / np.diag(upper)
        return shares


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """Weights of a convolution in whole steps.

    Attributes:
        whole: (outputs, inputs, height, width) int8.
        steps: (outputs,) float32, the size of a step in each output channel.
        shift: (outputs,) float64, to be added to the bias: what rounding takes from the mean of each channel.

    Example:
        >>> RoundedWeights(np.ones((1, 1, 1, 1), np.int8), np.float32([0.5]), np.zeros(1)).whole.shape
        (1, 1, 1, 1)
    """

    whole: NDArray[np.int8]
    steps: NDArray[np.float32]
    shift: NDArray[np.float64]


def rounded_weights(values: NDArray[np.float32], moments: Moments, most: int) -> RoundedWeights:
    """Round weights so that the results of the convolution change least on what it has read.

    Args:
        values: (outputs, inputs, height, width).
        moments: of what the convolution reads.
        most: the largest number of steps, 63 or 127.

    Example:
        >>> values = np.float32([0.4, 0.4, 1.0]).reshape(1, 3, 1, 1)
        >>> alike = Moments(np.zeros(3, np.float32), np.float32([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
        >>> rounded_weights(values, alike, 1).whole.ravel().tolist()  # the nearest ones are 0, 0, 1
        [0, 1, 1]
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    steps = np.maximum(np.abs(flat).max(1) / most, _LEAST_STEP).astype(np.float32)
    whole = np.empty_like(flat)
    whole[:, moments.order] = _rounded(flat[:, moments.order] / steps[:, None], moments.shares, most)
    shift = (flat - whole * steps[:, None]) @ moments.mean.astype(np.float64)
    return RoundedWeights(whole.reshape(values.shape).astype(np.int8), steps, shift)


def _rounded(values: NDArray[np.float64], shares: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Values in steps, (outputs, d), to whole ones."""
    whole, errors = np.empty_like(values), np.zeros_like(values)
    for start in range(0, values.shape[1], _BLOCK):
        end = min(start + _BLOCK, values.shape[1])
        wanted = values[:, start:end] + errors[:, :start] @ shares[:start, start:end]
        for i in range(start, end):
            made_up = errors[:, start:i] @ shares[start:i, i]
            whole[:, i] = np.rint(wanted[:, i - start] + made_up).clip(-most, most)
            errors[:, i] = values[:, i] - whole[:, i]
    return whole
