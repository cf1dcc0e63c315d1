"""`fastsam-export` as a process of its own: the runtime does not import it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from ..errors import FastSamError

_PROGRAM = """
from runpy import run_module
from fastsam_deploy.runtime.system.signals import end_with_parent
end_with_parent()
run_module("fastsam_deploy.export.cli", run_name="__main__", alter_sys=True)
"""
"""Were this process killed, an exporter that goes on would write beside the one of the next call."""


def run_exporter(arguments: Sequence[str]) -> int:
    """Run `fastsam-export` with arguments; it prints to this terminal, and ends with this process.

    Returns:
        Its exit code.

    Raises:
        FastSamError: Python cannot be started.

    Example:
        >>> run_exporter(["onnx", "FastSAM-s.pt", "--direct"])  # doctest: +SKIP
        0
    """
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            try:
                return process.wait()
            except BaseException:
                process.terminate()  # not killed: it removes what it has begun to write
                raise
    except OSError as error:
        raise FastSamError(
            f"{sys.executable} cannot be started ({error}); run: fastsam-export {arguments[0]}"
        ) from error
