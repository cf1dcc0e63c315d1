"""Is the compiled code in an installed wheel, and does it give NumPy's masks? `cibuildwheel` runs this on each wheel.

python scripts/dev/check_wheel.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Segment a photograph with both."""
    from fastsam_deploy.runtime import FastSAM
    from fastsam_deploy.runtime.native.library import VARIABLE, library

    compiled = library()
    if compiled is None:
        sys.exit("the wheel holds no compiled code: the compiler failed; build it with pip wheel -v to see why")
    photograph = Path(__file__).resolve().parents[2] / "examples/images/coffee.jpg"
    with FastSAM() as model:
        segments = model.segment(photograph)
        os.environ[VARIABLE] = "0"
        twin = model.segment(photograph)
    differing = int((segments.masks.dense() != twin.masks.dense()).sum()) if len(segments) == len(twin) else "all"
    print(f"{len(segments)} masks, compiled code ({compiled.level_name}) and NumPy: {differing} pixels differ")
    if differing not in {0, 1}:  # one may be a rounding at the threshold
        sys.exit("the masks of the compiled code are not those of NumPy")


if __name__ == "__main__":
    main()
