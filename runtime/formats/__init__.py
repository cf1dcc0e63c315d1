"""Files of segments. Every module in this folder is a format of the module's name; nothing else lists them.

A module has

- `SUFFIX`, the suffix of its files. If several formats share one, the format named like the suffix is the usual one;
- `encode(columns: Columns) -> bytes`, the content of a file; what else can be chosen are keywords with defaults;
- `decode(content: bytes) -> Columns`, unless the format is only written. It raises FastSamError for any other content.

A module sees segments as columns only, and imports an optional library in the function that needs it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..documents import is_text, quoted
from ..errors import FastSamError, ParameterError
from ..spec import MAX_CLASSES, SCORE_ROUNDING
from ..system.atomic import write_atomically
from ..system.inputs import read_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..masks.store import Masks

NO_PROMPT = -1
"""Number in `prompts` of a row that answers no prompt."""

NO_TRACK = -1
"""Number in `track_ids` of a row that was not tracked."""

MAX_FILE_BYTES = 1 << 30
"""Of a file of segments that is read."""


class Columns(Protocol):
    """Segments of one image as parallel columns; `Segments` has them and describes them.

    Example:
        >>> def encode(columns: Columns) -> bytes:
        ...     return f"{len(columns.scores)} segments".encode()
    """

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]: ...
    @property
    def scores(self) -> NDArray[np.float32]: ...
    @property
    def classes(self) -> NDArray[np.int64]: ...
    @property
    def masks(self) -> Masks: ...
    @property
    def prompts(self) -> NDArray[np.int64]: ...
    @property
    def fits(self) -> NDArray[np.float32]: ...
    @property
    def probabilities(self) -> NDArray[np.float32]: ...
    @property
    def track_ids(self) -> NDArray[np.int64]: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...


def _no_numbers() -> NDArray[np.int64]:
    import numpy as np

    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class LoadedColumns:
    """Columns that come from outside: a file, a server, another library. `Segments` checks that they fit one another.

    Raises:
        FastSamError: a column holds another type, a number that is not finite, or one outside of its range. NaN stands
            for no fit and no probability.

    Example:
        >>> columns = format_of(Path("x.json")).decode(content)  # doctest: +SKIP
        >>> columns.scores  # doctest: +SKIP
        array([0.9], dtype=float32)
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Masks
    prompts: NDArray[np.int64]
    fits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]
    track_ids: NDArray[np.int64] = field(default_factory=_no_numbers)

    def __post_init__(self) -> None:
        for name, (kinds, dtype, (least, most), may_be_nan) in _COLUMNS.items():
            array = getattr(self, name)
            if array.dtype.kind not in kinds:
                raise FastSamError(f"{name} are {array.dtype}, expected numbers as {dtype}")
            outside = _outside(array, least, most, may_be_nan)
            if len(outside):
                raise FastSamError(f"{name} hold {outside[0]}, expected numbers from {least:g} to {most:g}")
            object.__setattr__(self, name, array.astype(dtype, copy=False))
        if len(self.class_names) > MAX_CLASSES or not all(map(is_text, self.class_names)):
            raise FastSamError(f"class_names are {quoted(self.class_names)}, expected at most {MAX_CLASSES} texts")


_FLOATS, _INTEGERS = ("f", "float32"), ("iu", "int64")
_FINITE = -3.0e38, 3.0e38
_COLUMNS = {
    "boxes_xyxy": (*_FLOATS, _FINITE, False),
    "scores": (*_FLOATS, (-SCORE_ROUNDING, 1 + SCORE_ROUNDING), False),
    "classes": (*_INTEGERS, (-(2**63), 2**63 - 1), False),  # `Segments` checks them
    "prompts": (*_INTEGERS, (NO_PROMPT, 2**31 - 1), False),
    "fits": (*_FLOATS, _FINITE, True),
    "probabilities": (*_FLOATS, _FINITE, True),
    "track_ids": (*_INTEGERS, (NO_TRACK, 2**63 - 1), False),
}
"""Column → kinds of dtype that are taken, dtype that it becomes, range, and whether NaN is a value."""


def is_tracked(columns: Columns) -> bool:
    """Whether any of the segments has a track.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> is_tracked(Segments.empty((4, 5)))
        False
    """
    return bool((columns.track_ids > NO_TRACK).any())


def _outside(array: NDArray[Any], least: float, most: float, may_be_nan: bool) -> NDArray[Any]:
    import numpy as np  # not for the help of the commands, which names formats

    within = (array >= least) & (array <= most)
    if may_be_nan:
        within |= np.isnan(array)
    outside: NDArray[Any] = array[~within]
    return outside


@dataclass(frozen=True)
class Format:
    """One module of this folder.

    Attributes:
        name: of the module.
        suffix: of the files, ".json".
        encode: columns, and options by name → content of a file.
        decode: content of a file → columns; None for a format that is only written.

    Example:
        >>> format_of(Path("x.json"), "coco").decode is None
        True
    """

    name: str
    suffix: str
    encode: Callable[..., bytes]
    decode: Callable[[bytes], Columns] | None


def available() -> tuple[Format, ...]:
    """All formats, by name.

    Example:
        >>> [(form.name, form.suffix) for form in available() if form.decode is not None]
        [('json', '.json'), ('npz', '.npz')]
        >>> [form.name for form in available() if form.decode is None]
        ['coco', 'csv', 'labelmap', 'labelme', 'yolo']
    """
    modules = {info.name: import_module(f".{info.name}", __name__) for info in pkgutil.iter_modules(__path__)}
    return tuple(
        Format(name, module.SUFFIX, module.encode, getattr(module, "decode", None))
        for name, module in sorted(modules.items())
    )


def format_of(path: Path, name: str | None = None) -> Format:
    """The format of a file.

    Args:
        name: of the format; None: the suffix says it.

    Raises:
        FastSamError: there is no such format, or the suffix is not that of its files.

    Example:
        >>> format_of(Path("coffee.npz")).name
        'npz'
    """
    forms = available()
    if name is not None:
        named = [form for form in forms if form.name == name]
        if not named:
            raise FastSamError(f"{path}: format {name!r}, expected one of {', '.join(form.name for form in forms)}")
        forms = tuple(named)
    fitting = [form for form in forms if form.suffix == path.suffix]
    if not fitting:
        suffixes = sorted({form.suffix for form in forms})
        raise FastSamError(f"{path}: suffix {path.suffix!r}, expected {' or '.join(suffixes)}")
    return next((form for form in fitting if form.name == path.suffix[1:]), fitting[0])


def write(path: Path, columns: Columns, name: str | None = None, /, **options: Any) -> None:
    """Write a file, whole or not at all.

    Args:
        path: of the file.
        columns: the segments of one image.
        name: of the format; None: the suffix says it.
        options: of the format, see `encode` in its module.

    Raises:
        FastSamError: the suffix or the format is unknown, or the file cannot be written.
        ParameterError: the format has no such option, or not with this value.

    Example:
        >>> write(Path("coffee.json"), segments, "labelme", image_path="coffee.jpg")  # doctest: +SKIP
    """
    form = format_of(path, name)
    known = [
        parameter
        for parameter in signature(form.encode).parameters.values()
        if parameter.kind is Parameter.KEYWORD_ONLY
    ]
    unknown = [option for option in options if option not in [parameter.name for parameter in known]]
    if unknown:
        names = ", ".join(parameter.name for parameter in known) or "none"
        raise ParameterError(f"{path}: option {unknown[0]!r}; options of {form.name}: {names}")
    write_atomically(path, form.encode(columns, **options))


def read(path: Path, name: str | None = None) -> Columns:
    """Read a file.

    Args:
        name: of the format; None: the suffix says it.

    Raises:
        FastSamError: the suffix or the format is unknown or only written, or the file is missing or damaged.

    Example:
        >>> read(Path("coffee.npz")).scores  # doctest: +SKIP
    """
    form = format_of(path, name)
    if form.decode is None:
        readable = sorted({other.suffix for other in available() if other.decode is not None})
        raise FastSamError(f"{path}: {form.name} files are only written; expected a file {' or '.join(readable)}")
    try:
        return form.decode(read_file(path, MAX_FILE_BYTES))
    except OSError as error:
        raise FastSamError(f"{path}: {error.strerror or error}; expected a file that Segments.save wrote") from error
    except FastSamError as error:
        raise FastSamError(f"{path}: {error}") from error
    except MemoryError as error:
        raise FastSamError(
            f"{path}: there is not enough memory to read it; free some, or get the file again"
        ) from error
