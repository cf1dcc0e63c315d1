"""Does NMS in the graph keep the detections that NMS outside of it keeps?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.engines.interface import Engine
from ...runtime.measure.findings import Finding
from ...runtime.stages.decode import Detections, decode
from ...runtime.suppression import Suppression
from ...runtime.system.scratch import scratch_folder
from ..errors import ExportError
from ..graph.suppression import spec_with_suppression, with_suppression
from .inputs import Batch, batches_for
from .network import Proof
from .outputs import RowTolerance, check_counts, count_alike

SAME_SHARE = 0.995
"""Of the detections: two boxes may overlap by exactly `iou`, and then the last bit of a division decides."""

_SAME = RowTolerance(1e-3, 1e-3, 1e-3)


def compare_suppression(raw: Path, suppressed: Path, suppression: Suppression, batches: Sequence[Batch]) -> Finding:
    """Compare the detections of a file with NMS in its graph with those of the file that it was made from.

    Args:
        raw, suppressed: the two files.
        suppression: the thresholds that the graph should have.
        batches: inputs to run both on.

    Returns:
        The share of the raw file's detections that the other file gives too, at least 0.995.

    Raises:
        ExportError: it gives fewer of them, others beside them, or another count than it has rows; its metadata has
            other thresholds; or the raw file detects nothing, so that there is nothing to compare.

    Example:
        >>> compare_suppression(Path("raw.onnx"), Path("nms.onnx"), suppression, batches).worst  # doctest: +SKIP
        1.0
    """
    same = total = extra = 0
    with closing(open_engine(raw)) as reference, closing(open_engine(suppressed)) as engine:
        if engine.spec.suppression != suppression:
            raise ExportError(
                f"the metadata of the file says that its graph suppresses with {engine.spec.suppression}, expected "
                f"{suppression}. "
                "Nothing was written; export without --nms, and report it"
            )
        for batch in batches:
            expected, detections = (_detections(each, batch, suppression) for each in (reference, engine))
            for true, image in zip(expected, detections, strict=True):
                both = count_alike(true, image, _SAME)
                same, total = same + both, total + len(true.scores)
                extra += len(image.scores) - both
    if not total:
        raise ExportError(
            f"nothing is detected with a score above {suppression.conf:g} in {len(batches)} inputs, expected at least "
            "one to compare NMS on. Nothing was written; give other photographs with --images, or lower --conf"
        )
    if not (same >= total * SAME_SHARE and extra <= total * (1 - SAME_SHARE)):
        raise ExportError(
            f"NMS in the graph keeps {same} of {total} detections and {extra} others, expected {SAME_SHARE:.1%} of "
            "them and no others. Nothing was written; export without --nms, and report it"
        )
    at = f"all {len(batches)} inputs"
    return Finding("detections as by NMS outside (share)", same / total, SAME_SHARE, at, more_is_better=True)


def suppress(draft: Path, proof: Proof, suppression: Suppression, photographs: Sequence[NDArray[np.uint8]]) -> Proof:
    """Put NMS into the file at `draft`, and compare its detections with those of NMS outside of the graph.

    Args:
        draft: a file of the layout "raw"; it is replaced.
        proof: of that file.
        suppression: the thresholds.
        photographs: RGB uint8 (h, w, 3), at least one.

    Returns:
        The proof with one more finding.

    Raises:
        ExportError: see `compare_suppression`.

    Example:
        >>> proof = suppress(draft, proof, Suppression(0.001, 0.9, 300), photographs)  # doctest: +SKIP
    """
    with scratch_folder() as folder:
        raw = folder / "raw.onnx"
        raw.write_bytes(draft.read_bytes())
        graph = with_suppression(onnx.load(raw), proof.spec, suppression)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, draft)
        finding = compare_suppression(raw, draft, suppression, batches_for(proof.spec, photographs))
    spec = spec_with_suppression(proof.spec, suppression)
    return replace(proof, spec=spec, findings=(*proof.findings, finding))


def _detections(engine: Engine, batch: Batch, suppression: Suppression) -> list[Detections]:
    outputs = engine.run(batch.images)
    if problem := check_counts(outputs):
        raise ExportError(f"the file {problem}. Nothing was written; export without --nms, and report it")
    return [decode(image, engine.spec, suppression) for image in outputs["detections"]]
