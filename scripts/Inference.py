"""The command line of the original FastSAM (CASIA-IVA-Lab/FastSAM, `Inference.py`) with this runtime.

    python scripts/Inference.py --model_path FastSAM-s.pt --img_path dogs.jpg --box_prompt "[[570,200,230,400]]"

Flags, defaults and priority (box, text, point, everything) are those of the original, with these improvements:
- booleans are booleans: `--retina False` is false, `--withContours` alone is true;
- a box can be a flat list, `[570,200,230,400]`; of several boxes, each gets a mask, in their order;
- points without labels are foreground; a single `[0,0]` still means that there is no point;
- `--randomcolor` works; `--retina` changes nothing, as masks always have the resolution of the image;
- `--text_prompt` needs the folder of a CLIP model, made by `fastsam-export clip`: `--clip_path clip`;
- `.onnx` files are accepted too; a `.pt` is exported once (pip install 'fastsam-deploy[export]') to `NAME.onnx` beside
  it, and again after the checkpoint has changed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

try:
    from fastsam_deploy.runtime.batch.outputs import OutputFolder
    from fastsam_deploy.runtime.cli.process import run_command
    from fastsam_deploy.runtime.errors import MissingDependencyError, ModelError, PromptError
    from fastsam_deploy.runtime.pipeline import FastSAM
    from fastsam_deploy.runtime.prompts.boxes import Boxes
    from fastsam_deploy.runtime.prompts.points import Points
    from fastsam_deploy.runtime.prompts.text import Text
    from fastsam_deploy.runtime.render import draw_prompts, draw_segments, save_image
    from fastsam_deploy.runtime.segments import Prompt
    from fastsam_deploy.runtime.stages.image import load_image
except ModuleNotFoundError as missing:
    sys.exit(f"fastsam: {missing}; run this first, in the folder of the repository: pip install '.[cpu]'")

_SINGLE_COLOR = (30, 144, 255)
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def boolean(text: str) -> bool:
    """Read a boolean. With `type=bool`, as in the original, "False" would be true."""
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False") from None


def parser() -> argparse.ArgumentParser:
    """The flags and defaults of the original."""
    arguments = argparse.ArgumentParser(
        "Inference.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--model_path", type=Path, default=Path("./weights/FastSAM.pt"), help="checkpoint (.pt) or .onnx")
    add("--img_path", type=Path, default=Path("./images/dogs.jpg"), help="image file")
    add("--imgsz", type=int, help="longest side of the network's input; default: 1024, or the size of the .onnx file")
    add("--iou", type=float, default=0.9, help="of two boxes that overlap more than this, keep the better one")
    add("--conf", type=float, default=0.4, help="keep segments with a score above it")
    add("--output", type=Path, default=Path("./output/"), help="folder for the picture, named like the image")
    add("--text_prompt", help='for example "a dog"; needs --clip_path')
    add("--clip_path", type=Path, help="folder of a CLIP model, made by fastsam-export clip")
    add("--point_prompt", default="[[0,0]]", help='"[[x1,y1],[x2,y2]]"')
    add("--point_label", help='"[1,0]", 1 foreground, 0 background; default: all foreground')
    add("--box_prompt", default="[[0,0,0,0]]", help='"[[x,y,w,h],[x2,y2,w2,h2]]" or "[x,y,w,h]"')
    add("--device", default="cpu", help="cpu, cuda or cuda:N")
    flag = {"type": boolean, "nargs": "?", "const": True, "metavar": "True|False"}
    add("--randomcolor", default=True, help="a different colour for each mask, or the same for all", **flag)
    add("--retina", default=True, help="changes nothing: masks always have the resolution of the image", **flag)
    add("--withContours", default=False, help="draw the edges of the masks", **flag)
    add("--better_quality", default=False, help="close gaps and remove specks of the masks", **flag)
    return arguments


def chosen_prompt(args: argparse.Namespace) -> Prompt | None:
    """The boxes; without any, the text; without it, the points; None for everything.

    Raises:
        PromptError: the prompt cannot be read, or is a text without --clip_path.
    """
    boxes = _rows(args.box_prompt, "--box_prompt", "[[x,y,w,h]]", 4)
    if any(map(any, boxes)):
        return Boxes([(x, y, x + w, y + h) for x, y, w, h in boxes])
    if args.text_prompt:
        if args.clip_path is None:
            raise PromptError(
                f"--text_prompt {args.text_prompt!r:.60} without --clip_path; expected the folder of a CLIP model; "
                "make one with fastsam-export clip"
            )
        return Text(args.text_prompt)
    points = _rows(args.point_prompt, "--point_prompt", "[[x,y]]", 2)
    if any(map(any, points)):
        labels = None if args.point_label is None else _literal(args.point_label, "--point_label", "[1,0]")
        return Points(points, labels, clean=args.better_quality)
    return None


def onnx_from(model: Path) -> Path:
    """The ONNX file of a model: itself, or `NAME.onnx` beside a checkpoint, exported if it is missing or outdated.

    Raises:
        FastSamError: the export fails, its libraries are missing, or `NAME.onnx` is not from this project.
    """
    if model.suffix != ".pt":
        return model
    cached = model.with_suffix(".onnx")
    if cached.is_file():
        with FastSAM(cached) as network:
            source_sha256 = network.spec.checkpoint_sha256
        if source_sha256 is None:
            raise ModelError(
                f"{cached}: is beside {model.name}, but was not exported by this project and would be replaced; "
                "give it as --model_path, or move it away"
            )
        if model.is_file() and source_sha256 == hashlib.sha256(model.read_bytes()).hexdigest():
            return cached
    try:
        from fastsam_deploy.export.to_onnx import export_onnx
    except ImportError as error:
        raise MissingDependencyError(
            f"{model}: a checkpoint has to be exported to ONNX first ({error}); "
            "run: pip install 'fastsam-deploy[export]', or give an .onnx file"
        ) from error
    print(f"exporting {model} to {cached}, once", file=sys.stderr)
    export_onnx(model, cached)
    return cached


def opened(args: argparse.Namespace, settings: dict[str, Any]) -> FastSAM:
    """Open the model of the command line."""
    return FastSAM(onnx_from(args.model_path), args.device, **settings)


def run(args: argparse.Namespace, open_model: Callable[[argparse.Namespace, dict[str, Any]], FastSAM] = opened) -> None:
    """Segment an image and write its overlay to the output folder."""
    prompt = chosen_prompt(args)
    image = load_image(args.img_path)
    if not args.retina:
        print("--retina False: masks have the resolution of the image anyway, at no cost", file=sys.stderr)
    clip = args.clip_path if isinstance(prompt, Text) else None  # opening a CLIP takes long
    with open_model(args, {"conf": args.conf, "iou": args.iou, "imgsz": args.imgsz, "clip": clip}) as model:
        segments = model.segment(image, prompt)
    if args.better_quality:
        segments = replace(segments, masks=segments.masks.cleaned())
    color = None if args.randomcolor else _SINGLE_COLOR
    picture = draw_prompts(draw_segments(image, segments, contours=args.withContours, colors=color), prompt)
    suffix = args.img_path.suffix if args.img_path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") else ".png"
    path = OutputFolder(args.output, [args.img_path]).file(Path(args.img_path.stem), suffix)
    save_image(path, picture)
    print(f"{args.img_path}: {len(segments)} masks, {sum(segments.timing_ms.values()):.0f} ms; see {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit code 0, or 2 with one line on standard error."""
    return run_command("fastsam", lambda: run(parser().parse_args(argv)))


def _rows(text: str, option: str, example: str, width: int) -> list[list[float]]:
    """Read rows of `width` numbers. A single row may be a flat list."""
    values = _literal(text, option, example)
    rows = [values] if values and not isinstance(values[0], (list, tuple)) else list(values)
    fits = all(isinstance(row, (list, tuple)) and len(row) == width for row in rows)
    if not fits or not all(type(value) in (int, float) for row in rows for value in row):
        raise PromptError(f'{option}: {text!r:.80} is not {width} numbers for each; expected "{example}"')
    return [list(row) for row in rows]


def _literal(text: str, option: str, example: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise PromptError(f'{option}: {text!r:.80} cannot be read; expected "{example}" in quotes') from error
    if not isinstance(value, (list, tuple)):
        raise PromptError(f'{option}: {text!r:.80} is not a list; expected "{example}"')
    return value


if __name__ == "__main__":
    sys.exit(main())
