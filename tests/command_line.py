"""The command `fastsam` in the process of the tests."""

from __future__ import annotations

import sys

import pytest


def run_fastsam(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Call the entry point as a shell does. Its messages are in `capfd` or `capsys`.

    Returns:
        The exit code.
    """
    from fastsam_deploy.runtime.cli.main import main

    monkeypatch.setattr(sys, "argv", ["fastsam", *arguments])
    try:
        return main() or 0
    except SystemExit as exited:
        return exited.code if isinstance(exited.code, int) else int(exited.code is not None)
