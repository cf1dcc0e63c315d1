"""Segments the two photographs in examples/images with three prompts: everything, points, boxes. Run by `demo.sh`.

The network runs once for each photograph; points and boxes select from its segments.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

from fastsam_deploy.runtime import Boxes, Everything, FastSAM, FastSamError, Points, Segments, load_image
from fastsam_deploy.runtime.render import draw_prompts, draw_segments, save_image
from fastsam_deploy.runtime.segments import Prompt

PHOTOGRAPHS = Path(__file__).parents[1] / "examples" / "images"
PROMPTS: dict[str, dict[str, Prompt]] = {
    "coffee.jpg": {
        "everything": Everything(),
        "points": Points([[290, 75], [550, 100]], mode="each"),
        "boxes": Boxes([[325, 235, 410, 327], [68, 10, 482, 395]]),
    },
    "cat.jpg": {
        "everything": Everything(),
        "points": Points([[160, 122], [325, 142]], mode="each"),
        "boxes": Boxes([[136, 84, 208, 148], [294, 110, 346, 164]]),
    },
}
STAGES = ("load", "letterbox", "engine", "decode", "masks", "prompt")
_RUNS = 3


def timed_segments(model: FastSAM, path: Path) -> Segments:
    """Segments of everything in the photograph; after one warm-up run, those of the run with the median time."""
    model.segment(path)
    runs = [model.segment(path) for _ in range(_RUNS)]
    return sorted(runs, key=lambda segments: sum(segments.timing_ms.values()))[_RUNS // 2]


def row(name: str, kind: str, segments: Segments, timing_ms: dict[str, float]) -> str:
    """One line of the table. A stage that did not run has a dash."""
    times = "".join(f"{timing_ms[s]:>11.2f}" if s in timing_ms else f"{'–':>11}" for s in STAGES)
    return f"{name:<12}{kind:<12}{len(segments):>8}{times}{sum(timing_ms.values()):>11.2f}"


def demonstrate(output: Path) -> list[Path]:
    """Print the table and write the overlays; returns their paths."""
    written = []
    output.mkdir(parents=True, exist_ok=True)
    print("Milliseconds by stage; points and boxes use the same run of the network.\n")
    print(f"{'image':<12}{'prompt':<12}{'segments':>8}" + "".join(f"{s:>11}" for s in (*STAGES, "all")))
    with FastSAM() as model:
        for name, prompts in PROMPTS.items():
            everything = timed_segments(model, PHOTOGRAPHS / name)
            image = load_image(PHOTOGRAPHS / name)
            for kind, prompt in prompts.items():
                start = perf_counter()
                segments = everything.select(prompt)
                timing = {"prompt": (perf_counter() - start) * 1000}
                if kind == "everything":
                    timing = {**everything.timing_ms, **timing}
                print(row(name, kind, segments, timing))
                path = output / f"{Path(name).stem}-{kind}.jpg"
                save_image(path, draw_prompts(draw_segments(image, segments), prompt))
                written.append(path)
    return written


def main() -> int:
    """Run the command: exit code 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the overlays")
    try:
        written = demonstrate(parser.parse_args().output)
    except FastSamError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"\nThe overlays are in {written[0].parent.resolve()}:")
    print("\n".join(f"  {path.name}" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
