"""Inputs that atheris (libFuzzer) finds by the lines of our code that they reach. It has no build for Windows.

    python -m tests.hostile.guided BOUNDARY --cases 100000 --seed 7

An input that fails is put into the corpus, and ends the run.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Run until the cases are done, or one fails. atheris ends the process."""
    arguments = argparse.ArgumentParser(prog="python -m tests.hostile.guided", description=__doc__)
    arguments.add_argument("boundary")
    arguments.add_argument("--cases", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    import atheris

    with atheris.instrument_imports(include=["fastsam_deploy"]):
        from tests.hostile.boundaries import BOUNDARIES
        from tests.hostile.child import fault_of
        from tests.hostile.jobs import keep

    boundary = BOUNDARIES[given.boundary]

    def read(content: bytes) -> None:
        fault, _ = fault_of(boundary, content)
        if fault is not None:
            print(f"FAILED: {fault} → {keep(boundary.name, content)}", flush=True)
            raise RuntimeError(fault)

    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(boundary.seeds):
            Path(folder, str(number)).write_bytes(content)
        limits = [f"-runs={given.cases}", f"-seed={given.seed}", f"-timeout={int(boundary.seconds) * 4}"]
        with contextlib.suppress(SystemExit):
            limits += ["-rss_limit_mb=4000", "-max_len=20000", f"-artifact_prefix={folder}/"]
            atheris.Setup([sys.argv[0], *limits, folder], read)
            atheris.Fuzz()


if __name__ == "__main__":
    main()
