"""Errors that a user can cause. Each message says what is wrong, what was found, what was expected and what to do.

All of these are expected failures: a command prints the message in one line and exits with status 2.
Any other exception is a bug and keeps its traceback.
"""

ONE_OPENCV = "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"
"""Leaves one build of OpenCV, the one that needs no window system: both put their files into the same folder."""


def pip_install(*extras: str) -> str:
    """The command that installs optional features, for the end of a message.

    Example:
        >>> pip_install("cpu", "clip")
        "pip install 'fastsam-deploy[cpu,clip]' (in a checkout: pip install '.[cpu,clip]')"
    """
    names = ",".join(extras)
    return f"pip install 'fastsam-deploy[{names}]' (in a checkout: pip install '.[{names}]')"


def opencv_fault(error: ImportError) -> str | None:
    """What is wrong with OpenCV and what repairs it, in one line; None where the error is of another library.

    Example:
        >>> opencv_fault(ModuleNotFoundError("No module named 'cv2'", name="cv2"))
        "OpenCV is not installed; run: pip install 'fastsam-deploy[cpu]' (in a checkout: pip install '.[cpu]')"
        >>> opencv_fault(ImportError("libGL.so.1: cannot open shared object file", name="cv2"))
        'OpenCV does not load (libGL.so.1: cannot open shared object file); run: pip uninstall -y opencv-python \
opencv-python-headless && pip install opencv-python-headless'
    """
    if (error.name or "").partition(".")[0] != "cv2" and "libGL" not in str(error):
        return None
    if isinstance(error, ModuleNotFoundError):
        return f"OpenCV is not installed; run: {pip_install('cpu')}"
    return f"OpenCV does not load ({error}); run: {ONE_OPENCV}"


def one_onnx_runtime(extra: str) -> str:
    """The command that leaves one ONNX Runtime where both are installed, or the other one.

    `onnxruntime` and `onnxruntime-gpu` put their files into the same folder: to remove one of them breaks the other.

    Args:
        extra: "cpu" or "gpu".

    Example:
        >>> one_onnx_runtime("gpu").partition(" && ")[0]
        'pip uninstall -y onnxruntime onnxruntime-gpu'
    """
    return f"pip uninstall -y onnxruntime onnxruntime-gpu && {pip_install(extra)}"


_LONGEST_MESSAGE = 2000
"""Characters. A message quotes what was given, which may have megabytes."""


class FastSamError(Exception):
    """Base class of all errors that this project raises on purpose.

    A long message is cut in its middle, where it quotes.

    Example:
        >>> try:
        ...     raise PromptError("point 0 is at (9, 9), the image has x in [0, 8) and y in [0, 8)")
        ... except FastSamError as error:
        ...     print(error)
        point 0 is at (9, 9), the image has x in [0, 8) and y in [0, 8)
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*map(_shortened, arguments))


def _shortened(argument: object) -> object:
    if not isinstance(argument, str) or len(argument) <= _LONGEST_MESSAGE:
        return argument
    half = _LONGEST_MESSAGE // 2
    return f"{argument[:half]} … {argument[-half:]}"


class ParameterError(FastSamError, ValueError):
    """A setting is out of its range or does not fit the model.

    Example:
        >>> from fastsam_deploy.runtime import Thresholds
        >>> Thresholds(conf=2)
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ParameterError: conf is 2, expected 0 ≤ conf < 1
    """


class ImageError(FastSamError, ValueError):
    """The input is not an image that can be segmented.

    Example:
        >>> from fastsam_deploy.runtime import load_image
        >>> try:
        ...     load_image(b"text")
        ... except ImageError:
        ...     print("not an image")
        not an image
    """


class PromptError(FastSamError, ValueError):
    """A prompt is malformed or does not fit the image.

    Example:
        >>> from fastsam_deploy.runtime import Points
        >>> Points([[1, 2, 3]])
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.PromptError: points have shape (1, 3); expected [[x, y], …], at least one
    """


class ModelError(FastSamError):
    """A model file is missing, broken, or of an unknown kind.

    Example:
        >>> from fastsam_deploy.runtime import ModelSpec
        >>> ModelSpec(layout="rows")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ModelError: model spec: layout is 'rows', expected one of 'raw', \
'distributions', 'nms', 'split'; export the file again
    """


class DeviceError(FastSamError):
    """The requested device, provider or precision is not available.

    Example:
        >>> from fastsam_deploy.runtime import EngineSettings
        >>> EngineSettings(device="tpu")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.DeviceError: device is 'tpu', expected 'cpu', 'cuda' or 'cuda:N'
    """


class ServerError(FastSamError):
    """An inference server cannot be reached, is too busy, or failed.

    Example:
        >>> FastSAM("grpc://localhost:8001/fastsam")            # doctest: +SKIP
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ServerError: grpc://localhost:8001/fastsam: no answer …
    """


class MissingDependencyError(FastSamError, ImportError):
    """The library of an optional feature is not installed.

    Example:
        >>> FastSAM("FastSAM-s.onnx")                           # doctest: +SKIP
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.MissingDependencyError: … pip install 'fastsam-deploy[cpu]'
    """
