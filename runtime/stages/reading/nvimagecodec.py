"""JPEG files decoded by NVIDIA's nvImageCodec, on a GPU where there is one: an option, as its pixels may differ."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError, MissingDependencyError, pip_install
from ...limits import MAX_PIXELS, MAX_SIDE
from ...system.fork import ForkLock

_BEGIN, _END = b"\xff\xd8\xff", b"\xff\xd9"


class JpegDecoder:
    """Decodes whole JPEG files of three channels. Safe to use from many threads, which wait for each other.

    Its pixels are not promised to be those of `load_image`, whose decoder is another. On the CPU they were the same on
    photographs; `python -m benchmarks.gpu_pipeline` compares the masks on a GPU.

    Example:
        >>> decoder = JpegDecoder(device=0)  # doctest: +SKIP
        >>> decoder.decoded(Path("photo.jpg").read_bytes()).shape  # doctest: +SKIP
        (1080, 1920, 3)
    """

    def __init__(self, device: int | None) -> None:
        """
        Args:
            device: number of the GPU; None: the CPU.

        Raises:
            MissingDependencyError: nvImageCodec is not installed. DeviceError: it does not start on the device.
        """
        try:
            self._library: Any = import_module("nvidia.nvimgcodec")
        except ImportError as error:
            raise MissingDependencyError(
                f"decoder 'nvimagecodec': {error}; run: {pip_install('nvimagecodec')}, or leave decoder out"
            ) from error
        library = self._library
        kinds = library.BackendKind
        used = [kinds.CPU_ONLY] if device is None else [kinds.HW_GPU_ONLY, kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU]
        number = library.NVIMGCODEC_DEVICE_CPU_ONLY if device is None else device
        try:
            self._decoder: Any = library.Decoder(device_id=number, backends=[library.Backend(kind) for kind in used])
        except Exception as error:  # its exceptions have no base of their own
            raise DeviceError(
                f"decoder 'nvimagecodec': {' '.join(str(error).split())[:300]}; check nvidia-smi, or leave decoder out"
            ) from error
        self._settings = library.DecodeParams(color_spec=library.ColorSpec.SRGB, apply_exif_orientation=True)
        self._lock = ForkLock()

    def decoded(self, content: bytes) -> NDArray[np.uint8] | None:
        """(h, w, 3) uint8 RGB of a JPEG file, upright; None for whatever `load_image` has to read.

        That is any other format, gray or CMYK, a file that is cut off, one above the limits, and one that nvImageCodec
        does not decode.
        """
        if not content.startswith(_BEGIN) or not content.endswith(_END):
            return None
        with self._lock:
            try:
                stream = self._library.CodeStream(content)
                width, height, channels = stream.width, stream.height, stream.num_channels
                if channels != 3 or width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    return None
                image = self._decoder.decode(stream, params=self._settings)
            except Exception:  # noqa: BLE001 - see __init__; `load_image` says what is wrong with the file
                return None
            if image is None:
                return None
            pixels = np.ascontiguousarray(np.asarray(image.cpu()))
        return pixels if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 else None
