"""Read a `.pt` file without letting it run code.

A `.pt` is a pickle, and a pickle is a program: it names importable objects ("globals") and calls them.
`torch.load(weights_only=True)` runs only those that are allowed. Allowing ultralytics' classes as they are would
reopen the door: the pickle could *call* them, and `SegmentationModel({"activation": "…"})` evaluates that text.
So the pickle is given

- for each network layer a subclass whose constructor refuses to run: an object can be made and filled with
  its saved attributes, which is all that an honest checkpoint does, and nothing else;
- for what the trainer leaves beside the network (losses, paths, NumPy scalars) an empty `Discarded`, and for
  settings one that keeps the size of the images;
- for `getattr` a function that serves the one call that old checkpoints make (`Detect.forward`), and no other.

A file that names anything else is refused, and the error lists what it names.
"""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from ..errors import ExportError

_LAYER_MODULES = re.compile(r"torch\.nn\.modules\.\w+|ultralytics\.nn\.modules(\.\w+)?")
"""Where layers live. Checkpoints older than ultralytics 8.0.105 name `ultralytics.nn.modules.Conv`."""

_NETWORK = "ultralytics.nn.tasks.SegmentationModel"

_OTHER_NETWORK = re.compile(r"ultralytics\.nn\.tasks\.\w+Model")

_DISCARDED = re.compile(
    r"ultralytics\.(yolo\.)?utils\.(\w+\.)*\w+"  # settings, losses, assigners
    r"|ultralytics\.yolo\.(v8|data|engine)\.(\w+\.)*\w+"
    r"|pathlib\.(_local\.)?(Posix|Windows|PurePosix|PureWindows)?Path"
    r"|datetime\.\w+"
    r"|numpy\.(_core|core)\.multiarray\.(scalar|_reconstruct)|numpy\.(dtype|ndarray)|numpy\.dtypes\.\w+"
    r"|torch\.optim\.(\w+\.)*\w+"
)
"""Never called: each is replaced by an empty object, or by `Settings`."""

_LOCK = threading.Lock()

_BROKEN = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError,
    KeyError, IndexError, AttributeError, AssertionError, OverflowError, UnicodeDecodeError,
)  # fmt: skip
"""What torch's restricted loader raises on bytes that are not what it expects."""


class _Call(Exception):  # noqa: N818
    """The pickle calls what it may only restore. Not an UnpicklingError, whose text torch buries in advice."""


class Discarded:
    """Replaces an object that an export does not need: it takes any arguments, keeps nothing and does nothing.

    Example:
        >>> vars(Discarded("settings", epochs=100))
        {}
    """

    def __new__(cls, *_: object, **__: object) -> Discarded:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class Settings(Discarded):
    """Replaces the settings of a training in old checkpoints: it keeps the size of the images alone.

    Example:
        >>> settings = Settings()
        >>> settings.__setstate__({"imgsz": 1024, "epochs": 100})
        >>> vars(settings)
        {'imgsz': 1024}
    """

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.imgsz = state.get("imgsz")


def load_restricted(path: Path) -> Any:
    """Load what `torch.save` wrote, tensors on the CPU, without running code that the file brings.

    Raises:
        ExportError: the file is damaged, not written by torch.save, or names globals that are not allowed.

    Example:
        >>> sorted(load_restricted(Path("FastSAM-s.pt")))[:2]  # doctest: +SKIP
        ['date', 'ema']
    """
    names = globals_in(path)
    _check_kind(path, names)
    allowed = {name: stand_in for name in sorted(names) if (stand_in := _stand_in(name)) is not None}
    with _only_allowed(allowed):
        refused = _refused(path, names, allowed)
        if refused:
            raise ExportError(
                f"{path.name}: holds {_listed(refused)}, which no YOLO segmentation checkpoint needs; loading it could "
                "run code of its author's choosing. If you trust where the file comes from, load it with --trust"
            )
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            _restore_classes(content)
        except _Call as call:
            raise ExportError(
                f"{path.name}: {call}, which no checkpoint needs and which could run code of its author's choosing. "
                "If you trust where the file comes from, load it with --trust"
            ) from call
        except Exception as error:  # a damaged pickle may ask for anything, and so raise anything
            raise broken(path, error) from error
    return content


def globals_in(path: Path) -> set[str]:
    """List the importable objects that the pickles of a `.pt` file name, as dotted names; nothing is run.

    Raises:
        ExportError: the file is empty, truncated, or holds no pickle.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.pt"
        ...     torch.save({"bias": torch.zeros(3)}, path)
        ...     sorted(globals_in(path))
        ['collections.OrderedDict', 'torch.FloatStorage', 'torch._utils._rebuild_tensor_v2']
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_sizes(path, archive)
                members = [name for name in archive.namelist() if name.endswith(".pkl")]
                if not members:
                    raise broken(path, "a zip archive without a data.pkl")
                return {dotted for name in members for dotted in _names(archive.read(name))}
        return set(_names(path.read_bytes()))
    except ExportError:
        raise
    except Exception as error:  # pickletools and zipfile raise what the bytes lead them to
        raise broken(path, error) from error


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that unpacks to far more than it is: torch.save compresses nothing, TorchScript a little."""
    size, unpacked = path.stat().st_size, sum(member.file_size for member in archive.infolist())
    if unpacked > 4 * size + 1_000_000:
        raise broken(path, f"{size} bytes that unpack to {unpacked}")


def broken(path: Path, error: object) -> ExportError:
    """Make the error for a file that is not a readable checkpoint, whatever made reading it fail.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        ...     "not a readable checkpoint (0 bytes: no data)" in str(broken(Path(file.name), "no data"))
        True
    """
    reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
    return ExportError(
        f"{path.name}: not a readable checkpoint ({path.stat().st_size} bytes: {reason}); expected a .pt file that "
        "ultralytics wrote; download or copy it again"
    )


def _names(data: bytes) -> Iterator[str]:
    """Every global of a pickle of any protocol, Python 2 names translated as the unpickler does."""
    strings: list[str] = []
    memo: dict[Any, str] = {}
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        kind = opcode.name.removeprefix("LONG_").removeprefix("BIN")
        if kind in ("GLOBAL", "INST"):
            yield _python3_name(*str(argument).split(" ", 1))
        elif kind == "STACK_GLOBAL":  # the two strings pushed last, directly or from the memo
            yield _python3_name(*(["?", "?", *strings][-2:]))
        elif kind in ("PUT", "MEMOIZE") and strings:
            memo[len(memo) if argument is None else argument] = strings[-1]
        elif kind == "GET" and argument in memo:
            strings.append(memo[argument])
        elif isinstance(argument, str):
            strings.append(argument)


def _python3_name(module: str, name: str) -> str:
    from torch._utils import IMPORT_MAPPING, NAME_MAPPING

    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _check_kind(path: Path, names: set[str]) -> None:
    """Refuse a file whose kind is known and cannot be exported, and name the kind."""
    if any(name.startswith("__torch__.") for name in names):
        raise broken(path, "a TorchScript archive, which holds a traced program")
    others = sorted(name for name in names if _OTHER_NETWORK.fullmatch(name) and name != _NETWORK)
    if others:
        raise ExportError(
            f"{path.name}: holds a {others[0].rpartition('.')[2]}, expected a SegmentationModel; "
            "only segmentation networks (FastSAM, YOLOv8-seg, YOLO11-seg, YOLO26-seg) have masks"
        )


@contextmanager
def _only_allowed(allowed: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Allow these globals and no others; torch's list is one for the whole process and is restored afterwards."""
    with _LOCK:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([(stand_in, name) for name, stand_in in allowed.items()])
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def _refused(path: Path, names: set[str], allowed: dict[str, Any]) -> list[str]:
    """The names that neither torch nor `allowed` permits, sorted."""
    try:
        not_in_torch = set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except _BROKEN:  # not the zip format of torch.save: torch's list does not apply
        not_in_torch = names
    return sorted(not_in_torch - set(allowed))


def _stand_in(name: str) -> Callable[..., Any] | None:
    """What the pickle is given for `name`, None if it is refused."""
    if name == "builtins.getattr":
        return _getattr_of_old_heads
    if _DISCARDED.fullmatch(name):
        return Settings if name.endswith(".IterableSimpleNamespace") else Discarded
    module, _, attribute = name.rpartition(".")
    if name != _NETWORK and not _LAYER_MODULES.fullmatch(module):
        return None
    try:
        layer = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
    # Only classes defined in those modules: `torch.nn.modules.module.torch` would be the whole library.
    return _without_constructor(layer) if isinstance(layer, type) and issubclass(layer, nn.Module) else None


def _without_constructor(layer: type[nn.Module]) -> type[nn.Module]:
    def refuse(self: nn.Module, *_: object, **__: object) -> NoReturn:
        raise _Call(f"calls {layer.__name__}(…) instead of restoring one")

    return type(layer.__name__, (layer,), {"__init__": refuse, "__module__": __name__, "restores": layer})


def _getattr_of_old_heads(owner: object, name: object) -> Discarded:
    """Serve heads of ultralytics before 8.1, which saved `Detect.forward` as an attribute that is no longer read."""
    if isinstance(owner, type) and issubclass(owner, nn.Module) and name == "forward":
        return Discarded()
    raise _Call(f"asks for getattr({getattr(owner, '__name__', owner)!s:.40}, {name!s:.40})")


def _restore_classes(content: object) -> None:
    """Give every layer its real class again; the layers were made without their constructors."""
    for value in content.values() if isinstance(content, dict) else [content]:
        if isinstance(value, nn.Module):
            for layer in value.modules():
                object.__setattr__(layer, "__class__", getattr(type(layer), "restores", type(layer)))


def _listed(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
