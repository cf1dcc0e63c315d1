"""What can be checked of a file where there is nothing to compare it with: it opens, says what it should, and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.engines.interface import Engine
from ...runtime.errors import FastSamError
from ...runtime.settings import Thresholds
from ...runtime.spec import PROTOTYPE_STRIDE, ModelSpec
from ...runtime.stages.decode import decode
from ..errors import ExportError
from .inputs import Batch, batches_for
from .network import Proof, differences
from .outputs import Array, malformed, raw_spec, run_to_raw

_SHOWN = Thresholds(0.25, 0.9, 100)


@dataclass(frozen=True, eq=False)
class FileReference:
    """An FP32 file as the network that another file is compared with.

    Attributes:
        path: of the file.
        engine: in which it is open.

    Example:
        >>> reference = FileReference(path, open_engine(path))  # doctest: +SKIP
    """

    path: Path
    engine: Engine

    def run(self, images: Array) -> tuple[Array, Array]:
        """Detections and prototypes, see `Checkpoint.run`."""
        outputs = run_to_raw(self.engine, images)
        return np.asarray(outputs["detections"], np.float32), np.asarray(outputs["prototypes"], np.float32)


def run_alone(
    path: Path,
    spec: ModelSpec,
    photographs: Sequence[NDArray[np.uint8]],
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Run a file on photographs, without anything to compare it with.

    Args:
        path: a file of the layout "raw" or "distributions".
        spec: what its metadata must say.
        photographs: RGB uint8 (h, w, 3), at least one.
        step: called with a description of each step.

    Returns:
        A proof without findings.

    Raises:
        ExportError: it does not open, says something else of itself, or gives outputs of wrong shapes or that are not
            finite.

    Example:
        >>> run_alone(Path("fastsam-s.onnx"), spec, load_photographs()).findings  # doctest: +SKIP
        ()
    """
    batches, count = batches_for(spec, photographs), 0
    try:
        with closing(open_engine(path)) as engine:
            faults = differences(spec, engine.spec)
            for i, batch in enumerate(batches if not faults else ()):
                step(f"running, input {i + 1} of {len(batches)}")
                outputs = run_to_raw(engine, batch.images)
                faults += _faults(outputs["detections"], outputs["prototypes"], batch, spec)
                if not faults:
                    count += sum(len(decode(image, raw_spec(spec), _SHOWN).scores) for image in outputs["detections"])
    except FastSamError as error:
        faults = [f"the runtime cannot open or run it: {error}"]
    if faults:
        raise ExportError(f"the file does not run as it should: {'; '.join(faults)}. Nothing was written; report it")
    return Proof(path, spec, (), tuple(batch.images.shape for batch in batches), count, count)


def _faults(
    detections: NDArray[np.generic], prototypes: NDArray[np.generic], batch: Batch, spec: ModelSpec
) -> list[str]:
    """What is wrong with the outputs for one input, in words."""
    count, _, height, width = batch.images.shape
    anchors = detections.shape[-1]
    expected = {
        "detections": (detections, (count, 4 + spec.class_count + spec.mask_dim, anchors)),
        "prototypes": (prototypes, (count, spec.mask_dim, height // PROTOTYPE_STRIDE, width // PROTOTYPE_STRIDE)),
    }
    problems = {name: malformed(tensor, np.zeros(shape, np.float32)) for name, (tensor, shape) in expected.items()}
    return [f"{name} at input {batch.images.shape}: {problem}" for name, problem in problems.items() if problem]
