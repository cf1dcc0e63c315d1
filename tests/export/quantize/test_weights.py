"""Weights that are rounded for what a convolution computes, from what it reads on photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fastsam_deploy.export.quantize import moments as module
from fastsam_deploy.export.quantize.graph import Layer, layers_of
from fastsam_deploy.export.quantize.moments import moments_of
from fastsam_deploy.export.quantize.ranges import network_inputs, session_giving
from fastsam_deploy.export.quantize.weights import Moments, RoundedWeights, rounded_weights
from fastsam_deploy.runtime.spec import ModelSpec

MOST = 63


def correlated(random: np.random.Generator, count: int, size: int) -> NDArray[np.float32]:
    """(count, size) values of which each is like its neighbours, as in an image, and whose mean is not zero."""
    mixed = random.normal(size=(count, size)) @ (np.eye(size) + random.normal(size=(size, size)) / size**0.5)
    return (mixed + 2 * random.random(size)).astype(np.float32)


def moments_from(values: NDArray[np.float32]) -> Moments:
    return Moments(values.mean(0), np.cov(values.T, bias=True).astype(np.float32))


def nearest(weights: NDArray[np.float32], most: int = MOST) -> NDArray[np.float64]:
    """As weights are rounded without photographs."""
    steps = np.maximum(np.abs(weights).max(1, keepdims=True) / most, 1e-10)
    return np.asarray(np.rint(weights / steps) * steps, np.float64)


def values_of(rounded: RoundedWeights) -> NDArray[np.float64]:
    return np.asarray(rounded.whole.reshape(len(rounded.whole), -1) * rounded.steps[:, None].astype(np.float64))


def test_results_change_less_than_with_the_nearest_steps() -> None:
    random = np.random.default_rng(0)
    read, unseen = (correlated(np.random.default_rng(1), 6000, 200)[rows] for rows in (slice(3000), slice(3000, None)))
    weights = random.normal(size=(16, 200)).astype(np.float32)
    rounded = rounded_weights(weights.reshape(16, 50, 2, 2), moments_from(read), MOST)
    assert rounded.whole.shape == (16, 50, 2, 2) and np.abs(rounded.whole).max() == MOST
    error = unseen @ (values_of(rounded) - weights).T + rounded.shift
    assert np.abs(error.mean(0)).max() < 0.1 * error.std()  # the bias makes up for the mean
    plain = unseen @ (nearest(weights) - weights).T
    assert error.std() < 0.75 * plain.std()
    assert np.abs(error.mean(0)).mean() < 0.2 * np.abs(plain.mean(0)).mean()


def test_it_is_what_the_paper_computes_with_an_inverse() -> None:
    random = np.random.default_rng(2)
    moments = moments_from(correlated(random, 2000, 150))
    weights = random.normal(size=(8, 150))
    covariance = moments.covariance.astype(np.float64)
    covariance += 0.01 * np.diag(covariance).mean() * np.eye(150)
    order = np.argsort(-np.diag(moments.covariance), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(covariance[np.ix_(order, order)])).T
    rest, steps, whole = weights[:, order].copy(), np.abs(weights).max(1) / MOST, np.zeros((8, 150))
    for i in range(150):
        whole[:, i] = np.rint(rest[:, i] / steps).clip(-MOST, MOST)
        rest[:, i:] -= np.outer((rest[:, i] - whole[:, i] * steps) / factor[i, i], factor[i, i:])
    ours = rounded_weights(weights.astype(np.float32).reshape(8, 150, 1, 1), moments, MOST)
    assert (ours.whole.reshape(8, 150)[:, order] == whole).mean() > 0.99  # halves may fall on either side


@pytest.mark.parametrize("covariance", [np.zeros((6, 6)), np.eye(6), np.full((6, 6), 0.5)], ids=["0", "I", "equal"])
def test_what_never_varies_is_no_obstacle(covariance: NDArray[np.float64]) -> None:
    weights = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    weights[1] = 0
    moments = Moments(np.zeros(6, np.float32), covariance.astype(np.float32))
    rounded = rounded_weights(weights.reshape(4, 6, 1, 1), moments, MOST)
    assert not rounded.whole[1].any() and not rounded.shift.any() and (rounded.steps > 0).all()
    if covariance[0, 1] == 0:  # no error can be made up for
        np.testing.assert_allclose(values_of(rounded)[[0, 2, 3]], nearest(weights)[[0, 2, 3]], atol=1e-6)


def convolution(**attributes: object) -> tuple[onnx.ModelProto, Layer]:
    """A network of one convolution: 2 channels, 3 x 2 pixels → 6 channels."""
    inputs = 2 // int(attributes.get("group", 1))  # type: ignore[call-overload]
    weights = np.random.default_rng(4).normal(size=(6, inputs, 3, 2)).astype(np.float32)
    node = helper.make_node("Conv", ["images", "weight", "bias"], ["y"], "conv", **attributes)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, None, None]) for n, c in (("images", 2), ("y", 6))
    ]
    constants = [numpy_helper.from_array(weights, "weight"), numpy_helper.from_array(np.zeros(6, np.float32), "bias")]
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    return model, Layer("conv", "conv", "conv", "images", "y", ends_head=False, kept=False)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"pads": [1, 0, 2, 1]}, {"strides": [2, 3], "pads": [1, 1, 1, 1]}, {"auto_pad": "VALID", "strides": [1, 2]}],
    ids=str,
)
def test_moments_predict_mean_and_variance_of_what_onnx_runtime_computes(attributes: dict[str, object]) -> None:
    model, layer = convolution(**attributes)
    images = [np.random.default_rng(i).random((1, 2, 9, 14), np.float32) for i in range(3)]
    ((_, moments),) = moments_of(model, [layer], lambda: images, len(images))
    session, names = session_giving(model, ["y"])
    made = np.concatenate([session.run(names, {"images": blob})[0][0].reshape(6, -1) for blob in images], axis=1)
    weights = numpy_helper.to_array(model.graph.initializer[0]).reshape(6, -1).astype(np.float64)
    np.testing.assert_allclose(weights @ moments.mean, made.mean(1), atol=1e-4)
    np.testing.assert_allclose(np.diag(weights @ moments.covariance @ weights.T), made.var(1), rtol=1e-3)


@pytest.mark.parametrize("attributes", [{"group": 2}, {"dilations": [2, 1]}, {"auto_pad": "SAME_UPPER"}], ids=str)
def test_a_convolution_that_cannot_be_measured_is_left_out(attributes: dict[str, object]) -> None:
    model, layer = convolution(**attributes)
    assert list(moments_of(model, [layer], lambda: [np.zeros((1, 2, 9, 14), np.float32)], 1)) == []


def test_layers_that_read_the_same_share_its_moments(plain: onnx.ModelProto, coffee: Path) -> None:
    layers = [layer for layer in layers_of(plain) if layer.name in [f"model.22.cv{i}.0.0" for i in (2, 3, 4)]]
    measured = list(moments_of(plain, layers, lambda: network_inputs([coffee], ModelSpec(), 96), 1))
    assert [layer for layer, _ in measured] == layers
    assert len({id(moments) for _, moments in measured}) == 1


def test_covariances_that_do_not_fit_into_memory_together_are_measured_in_turn(
    plain: onnx.ModelProto, coffee: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [layer for layer in layers_of(plain) if layer.group in ("model.0", "model.1", "model.2")]
    runs = []

    def inputs() -> list[NDArray[np.float32]]:
        runs.append(1)
        return list(network_inputs([coffee], ModelSpec(), 96))

    together = dict(moments_of(plain, layers, inputs, 1))
    monkeypatch.setattr(module, "_TOGETHER", 1000)
    turns = dict(moments_of(plain, layers, inputs, 1))
    assert [*together] == [*turns] == layers and len(runs) == 1 + len(layers)
    for layer in layers:
        np.testing.assert_allclose(together[layer].mean, turns[layer].mean, rtol=1e-4, atol=1e-5)


def test_convolutions_of_the_demo_model_are_nearer_on_a_photograph_that_was_not_measured(
    plain: onnx.ModelProto, photos: Path
) -> None:
    paths = sorted(photos.glob("*.png"))
    layers = [layer for layer in layers_of(plain) if layer.group == "model.4"]
    weights = {node.name: node.input[1] for node in plain.graph.node if node.op_type == "Conv"}
    values = {tensor.name: tensor for tensor in plain.graph.initializer}
    seen = moments_of(plain, layers, lambda: network_inputs(paths[:-3], ModelSpec(), 192), len(paths) - 3)
    unseen = dict(moments_of(plain, layers, lambda: network_inputs(paths[-3:], ModelSpec(), 192), 3))
    for layer, moments in seen:
        exact = numpy_helper.to_array(values[weights[layer.node]])
        rounded, flat = rounded_weights(exact, moments, MOST), exact.reshape(len(exact), -1)
        ours, plainly = (
            np.einsum("oi,ij,oj->", error, unseen[layer].covariance, error)
            for error in (values_of(rounded) - flat, nearest(flat) - flat)
        )
        assert ours < plainly, layer.name
