"""BF16 in OpenVINO, but the layers in FP32 that lose most by it: the first ones, and those that detections come from.

OpenVINO's CPU plugin keeps a node in FP32 if it has the attribute "precise", which only the format of its own files can
hold. So the network is written in that format, with the attribute, and read again.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..system.scratch import scratch_folder
from .telemetry import without_telemetry

with without_telemetry():
    import openvino as ov

_CONVOLUTION = "Convolution"
_STEM_HALVINGS = 2
"""Convolutions at up to a quarter of the input's size, as in INT8 files: see docs/adr/0011."""


def with_fp32_layers(core: ov.Core, model: ov.Model) -> ov.Model:
    """Mark the layers of a network that stay in FP32 where the others compute in BF16.

    Args:
        core: reads the marked network.
        model: as read from an ONNX file.

    Raises:
        OSError: there is no room for temporary files.

    Example:
        >>> core = ov.Core()
        >>> with_fp32_layers(core, core.read_model("fastsam.onnx"))  # doctest: +SKIP
    """
    names = kept_in_fp32(model)
    with scratch_folder() as folder:
        file = folder / "network.xml"
        ov.serialize(model, file, file.with_suffix(".bin"))
        _mark(file, names)
        weights = np.fromfile(file.with_suffix(".bin"), np.uint8)
        return core.read_model(file.read_bytes(), ov.Tensor(weights))


def kept_in_fp32(model: ov.Model) -> frozenset[str]:
    """Names of the nodes that stay in FP32: the stem, and all from the ends of the head on.

    Example:
        >>> len(kept_in_fp32(ov.Core().read_model("fastsam.onnx")))  # doctest: +SKIP
        112
    """
    return frozenset(_stem(model) | _from_the_ends(model))


def _stem(model: ov.Model) -> set[str]:
    halvings = {node.get_friendly_name(): 0 for node in model.get_parameters()}
    for node in model.get_ordered_ops():
        before = [halvings[name] for name in _sources(node) if name in halvings]
        if before:
            strides = node.get_attributes()["strides"] if node.get_type_name() == _CONVOLUTION else [1]
            halvings[node.get_friendly_name()] = max(before) + (max(strides) > 1)
    return {name for name, count in halvings.items() if count <= _STEM_HALVINGS}


def _from_the_ends(model: ov.Model) -> set[str]:
    """The last convolutions before the detections, and all that follows; not those before the prototypes."""
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    waiting = [name for result in model.get_results() if _rank(result) == 3 for name in _sources(result)]
    names: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in names and nodes[name].get_type_name() != "ShapeOf":
            names.add(name)
            if nodes[name].get_type_name() != _CONVOLUTION or _is_expectation(nodes[name]):
                waiting.extend(_sources(nodes[name]))
    return names


def _sources(node: ov.Node) -> list[str]:
    return [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()]


def _rank(result: ov.Node) -> int:
    return len(result.get_output_partial_shape(0))


def _is_expectation(node: ov.Node) -> bool:
    """Is this the fixed "convolution" 0, 1, 2 … that turns a box distribution into its mean?"""
    weights = node.input(1).get_source_output().get_node()
    if weights.get_type_name() != "Constant":
        return False
    values = np.asarray(weights.data)
    return len(values) == 1 and np.array_equal(values.ravel(), np.arange(values.size))


def _mark(file: Path, names: Collection[str]) -> None:
    tree = ET.parse(file)
    for layer in tree.getroot().iterfind("layers/layer"):
        if layer.get("name") in names and layer.get("type") not in ("Const", "Parameter", "Result"):
            info = layer.find("rt_info")
            if info is None:
                info = ET.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ET.SubElement(info, "attribute", {"name": "precise", "version": "0"})
    tree.write(file)
