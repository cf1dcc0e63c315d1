"""`fastsam video`: every frame of a video. Heavy libraries are imported by the command."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from .options import (
    BoxesOption,
    CacheOption,
    ClipOption,
    ConfOption,
    ContoursOption,
    DeviceOption,
    EngineOption,
    HintOption,
    ImgszOption,
    IouOption,
    JsonOption,
    LabelsOption,
    MaxDetOption,
    ModelOption,
    PointsMode,
    PointsModeOption,
    PointsOption,
    PrecisionOption,
    PromptOption,
    TextOption,
    ThreadsOption,
)
from .settings import json_file, model_files, network_settings, open_model, parse_prompt

VideoArgument = Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.", show_default=False)]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Video with overlays, .mp4, .mov or .avi. Default: NAME.overlay.mp4 here; with --json alone, none.",
        show_default=False,
    ),
]


def video(
    path: VideoArgument,
    model: ModelOption = None,
    points: PointsOption = None,
    labels: LabelsOption = None,
    points_mode: PointsModeOption = PointsMode.merge,
    boxes: BoxesOption = None,
    text: TextOption = None,
    json_prompts: PromptOption = None,
    clip: ClipOption = None,
    conf: ConfOption = 0.4,
    iou: IouOption = 0.9,
    max_det: MaxDetOption = 300,
    imgsz: ImgszOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    cache: CacheOption = False,
    output: OutputOption = None,
    json_target: JsonOption = None,
    contours: ContoursOption = True,
) -> None:
    """Segment every frame of a video: a video with overlays, and one line of JSON for each frame.

    Frames are read and drawn while the network works on others. They are independent: nothing is tracked.
    """
    from rich.console import Console

    from ..batch.console import say, with_progress
    from ..batch.outputs import JsonLines
    from ..batch.video import VideoWriter, segment_video
    from ..sources.video import Video
    from ..system.identity import check_outputs

    prompt = parse_prompt(points, labels, points_mode.value, boxes, text, json_prompts)
    if output is None and json_target is None:
        output = Path(f"{path.stem}.overlay.mp4")
    network = network_settings(
        prompt, model=model, device=device, conf=conf, iou=iou, max_det=max_det, imgsz=imgsz, clip=clip,
        threads=threads, engine=engine, precision=precision, hint=hint, cache=cache,
    )  # fmt: skip
    check_outputs([path, *model_files(model, clip)], {"--output": output, "--json": json_file(json_target)})
    console = Console(stderr=True)
    start, frames, segments = perf_counter(), 0, 0
    with ExitStack() as stack:
        source = stack.enter_context(Video(path))
        fastsam = stack.enter_context(open_model(network))
        lines = stack.enter_context(JsonLines(json_target)) if json_target is not None else None
        writer = stack.enter_context(VideoWriter(output, source.info)) if output is not None else None
        done = segment_video(fastsam, source, path, prompt, writer, lines, contours=contours)
        for count in with_progress(done, console, total=source.info.frames):
            frames, segments = frames + 1, segments + count
    seconds = perf_counter() - start
    where = f" → {output}" if output is not None else ""
    say(console, f"{path}: {frames} frames, {segments} segments, {frames / seconds:.1f} frames/s{where}")
