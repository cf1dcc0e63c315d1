"""The CUDA provider of ONNX Runtime: its options, and the precision that it computes in."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from ...errors import DeviceError, ModelError
from ...network import TensorInfo
from ...settings import EngineSettings
from ...spec import METADATA_KEY
from ...system.cpu import adds_bytes_in_16_bits, name_and_flags
from ..telemetry import without_telemetry

with without_telemetry():
    import onnxruntime as ort

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def cuda_options(settings: EngineSettings, number: int, stream: int | None = None) -> dict[str, Any]:
    """Options of the provider.

    Left alone it computes FP32 networks in TF32, which has 10 bits of mantissa: scores differ by 0.003, and segments
    change places. It also tries every cuDNN algorithm for each new shape of the input, for seconds.

    Args:
        settings: precision and search.
        number: of the device.
        stream: handle of the stream to work on; None: one of the session's own.

    Example:
        >>> cuda_options(EngineSettings("cuda"), 0)
        {'device_id': 0, 'use_tf32': '0', 'cudnn_conv_algo_search': 'HEURISTIC'}
    """
    return {
        "device_id": number,
        "use_tf32": str(int(settings.precision == "tf32")),
        "cudnn_conv_algo_search": (settings.search or "heuristic").upper(),
        **({} if stream is None else {"user_compute_stream": str(stream)}),
    }


@functools.cache
def preload_cuda() -> str:
    """Load CUDA and cuDNN before the first session on a GPU: ONNX Runtime does not look into the packages of `[gpu]`.

    Returns:
        What could not be loaded, for the middle of a message; "" if nothing is wrong. It is kept for later calls.

    Example:
        >>> preload_cuda()  # doctest: +SKIP
        ' (Failed to load libcudart.so.13: cannot open shared object file)'
    """
    with redirect_stdout(io.StringIO()) as said:  # standard output may be for JSON
        getattr(ort, "preload_dlls", lambda: None)()  # ONNX Runtime has it from 1.21 on
    reason = " ".join(said.getvalue().split())
    return f" ({reason:.300})" if reason else ""


def checked_precision(
    settings: EngineSettings, metadata: Mapping[str, str], inputs: Sequence[TensorInfo], name: str
) -> str:
    """The precision that a network computes in: that of its file, or TF32 if asked for.

    Raises:
        DeviceError: the settings name another one.

    Example:
        >>> images = (TensorInfo("images", "float32", (1, 3, 640, 640)),)
        >>> checked_precision(EngineSettings("cuda", precision="tf32"), {}, images, "s.onnx")
        'tf32'
    """
    asked, held = settings.precision, _held(metadata, inputs)
    if asked == "tf32" and (settings.device == "cpu" or held != "fp32"):
        reason = "TF32 is a way to compute FP32 networks on GPUs from Ampere on"
        raise DeviceError(
            f"{name}: asked for precision 'tf32' on {settings.device!r}, the file is {held}; {reason}; "
            "pass device='cuda' and an FP32 file, or leave precision out"
        )
    if asked not in (None, "tf32", held):
        raise DeviceError(
            f"{name}: asked for precision {asked!r}, the file is {held} and ONNX Runtime computes in what it "
            f"holds; export a file in {asked}, or leave precision out"
        )
    return "tf32" if asked == "tf32" else held


def refuse_overflow(metadata: Mapping[str, str], name: str) -> None:
    """Refuse an INT8 file that this processor would compute wrongly: one for VNNI, where there is none.

    Raises:
        ModelError: it is one.

    Example:
        >>> refuse_overflow({}, "s.onnx")
    """
    try:
        for_vnni = str(json.loads(metadata[METADATA_KEY])["tools"]["int8"]).startswith("for vnni")
    except (KeyError, ValueError, TypeError):
        return
    processor, flags = name_and_flags()
    if for_vnni and adds_bytes_in_16_bits(flags):
        raise ModelError(
            f"{name}: an INT8 file with 8-bit weights, which overflow on a processor without VNNI ({processor}); "
            "expected 7-bit ones: fastsam-export quantize --target cpu"
        )


def _held(metadata: Mapping[str, str], inputs: Sequence[TensorInfo]) -> str:
    """What the file says of itself: ours in its spec, a foreign one in its input or in what ultralytics writes."""
    try:
        return str(json.loads(metadata[METADATA_KEY])["precision"])
    except (KeyError, ValueError, TypeError):
        arguments = metadata.get("args", "")
        half = any(word in arguments for word in ("'half': True", "'quantize': 16"))
        return "fp16" if half or any(tensor.dtype == "float16" for tensor in inputs) else "fp32"
