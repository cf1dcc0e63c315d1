"""Segments the two photographs of examples/images with everything, points and boxes; `demo.sh` calls this.

The network runs once for each photograph; points and boxes pick from what it found.
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
        "points": Points([[290, 75], [365, 280]], mode="each"),
        "boxes": Boxes([[325, 235, 410, 327], [195, 230, 255, 310]]),
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
    """Everything in the photograph, with the median time of several runs after one to warm up."""
    model.segment(path)
    runs = [model.segment(path) for _ in range(_RUNS)]
    return sorted(runs, key=lambda found: sum(found.timing_ms.values()))[_RUNS // 2]


def row(name: str, asked: str, found: Segments, timing_ms: dict[str, float]) -> str:
    """One line of the table; a stage that was not run has a dash."""
    times = "".join(f"{timing_ms[s]:>11.2f}" if s in timing_ms else f"{'–':>11}" for s in STAGES)
    return f"{name:<12}{asked:<12}{len(found):>8}{times}{sum(timing_ms.values()):>11.2f}"


def demonstrate(output: Path) -> list[Path]:
    """Print the table, write the overlays, return their paths."""
    written = []
    output.mkdir(parents=True, exist_ok=True)
    print("Milliseconds by stage; points and boxes ask the same network run again.\n")
    print(f"{'image':<12}{'prompt':<12}{'segments':>8}" + "".join(f"{s:>11}" for s in (*STAGES, "all")))
    with FastSAM() as model:
        for name, prompts in PROMPTS.items():
            everything = timed_segments(model, PHOTOGRAPHS / name)
            image = load_image(PHOTOGRAPHS / name)
            for asked, prompt in prompts.items():
                start = perf_counter()
                found = everything.select(prompt)
                timing = {"prompt": (perf_counter() - start) * 1000}
                if asked == "everything":
                    timing = {**everything.timing_ms, **timing}
                print(row(name, asked, found, timing))
                path = output / f"{Path(name).stem}-{asked}.jpg"
                save_image(path, draw_prompts(draw_segments(image, found), prompt))
                written.append(path)
    return written


def main() -> int:
    """0, or 2 with one line on standard error."""
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
