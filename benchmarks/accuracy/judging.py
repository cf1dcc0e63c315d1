"""How long judging edge maps takes, from the command to the figures, with every processor.

    python -m benchmarks.accuracy.judging --truth BSDS500/data/groundTruth/val --maps edges --images 200

Takes the maps over and over, under other names, until there are enough. Judging does not depend on where a map came
from. Writes results/judging.json with the load of the machine before and after.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.accuracy.run import evaluate_edges
from fastsam_deploy.runtime.system.atomic import write_atomically

from ..photographs import RESULTS, as_json
from ..suite.machine import environment


def repeated(maps: Path, truths: Path, count: int, folder: Path) -> None:
    """Link `count` maps and their truths into `folder`/maps and `folder`/truths, each as often as needed."""
    files = sorted(maps.glob("*.png"))
    for name in ("maps", "truths"):
        (folder / name).mkdir()
    for number in range(count):
        file = files[number % len(files)]
        (folder / "maps" / f"{number:04d}.png").symlink_to(file.resolve())
        (folder / "truths" / f"{number:04d}.mat").symlink_to((truths / f"{file.stem}.mat").resolve())


def timed(folder: Path, thresholds: int) -> dict[str, Any]:
    """Judge what `repeated` has laid out; seconds of the clock and of processors, and the machine's load."""
    load, start = os.getloadavg()[0], time.perf_counter()
    result = evaluate_edges(folder / "truths", folder / "maps", folder / "out", count=thresholds)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "images": result.images,
        "thresholds": thresholds,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True, help="folder of .mat files")
    parser.add_argument("--maps", type=Path, required=True, help="folder of edge maps (.png) with the same names")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--thresholds", type=int, default=99)
    parser.add_argument("--output", type=Path, default=RESULTS / "judging.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        repeated(arguments.maps, arguments.truth, arguments.images, Path(place))
        row = timed(Path(place), arguments.thresholds)
    print(row, flush=True)
    write_atomically(arguments.output, as_json({"environment": environment([1], quick=True), "row": row}))


if __name__ == "__main__":
    main()
