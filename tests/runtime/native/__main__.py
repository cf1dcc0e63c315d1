"""Random inputs for a build of the compiled code: `python -m tests.runtime.native LIBRARY --cases 1000 --seed 1`.

With a library that was built with AddressSanitizer this runs under `LD_PRELOAD=libasan.so`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fastsam_deploy.runtime.native.library import LEVELS, Library, _loaded

from .cases import (
    check_boxes,
    check_decoded,
    check_overlaps,
    check_planes,
    check_resized,
    check_runs,
    masks_equal,
    random_masks,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.native", description=__doc__)
    parser.add_argument("library", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    functions = _loaded(given.library)
    levels = [level for level in range(len(LEVELS)) if functions.fastsam_has_level(level)]
    differing = pixels = 0
    for number in range(given.cases):
        for level in levels:
            library, rng = Library(functions, level), np.random.default_rng((given.seed, number))
            try:
                few, many = masks_equal(library, *random_masks(rng))
                for check in (check_boxes, check_decoded, check_planes, check_resized, check_runs, check_overlaps):
                    check(library, rng)
            except AssertionError:
                print(f"case {number} of seed {given.seed}, {library.level_name}")
                raise
            differing, pixels = differing + few, pixels + many
    names = ", ".join(LEVELS[level] for level in levels)
    print(f"{given.cases} cases on {names}: {differing} of {pixels} pixels differ, by rounding")


main()
