"""`fastsam video`: every frame of a video. Heavy libraries are imported by the command."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from .groups import with_groups
from .options import ContoursOption, JsonLinesOption, ModelOption, NetworkOptions, PromptOptions, option
from .results import json_file

VideoArgument = Annotated[str, typer.Argument(metavar="VIDEO", help="A video file.", show_default=False)]
OutputOption = Annotated[
    Path | None,
    option(
        "Video with overlays, .mp4, .mov or .avi. Default: ./NAME.overlay.mp4; none with --json alone.",
        "--output",
        "-o",
    ),
]


@with_groups
def video(
    source: VideoArgument,
    *,
    model: ModelOption = None,
    prompts: PromptOptions,
    network: NetworkOptions,
    output: OutputOption = None,
    json_target: JsonLinesOption = None,
    contours: ContoursOption = True,
) -> None:
    """Segment every frame of a video, and write a video with overlays and one line of JSON for each frame.

    Frames are read and drawn while the network works on others. They are independent: nothing is tracked.

    Damaged frames are left out and reported, and the exit code is then 2. The video with overlays has a constant rate:
    frames are repeated where the rate of the original varies.

    Lines of JSON are written as the frames are done, and stay if the command is interrupted. The video with overlays
    appears at the end.

    Example: fastsam video clip.mp4 --points "[[320,180]]" --output clip.overlay.mp4
    """
    from dataclasses import replace

    from ..batch.console import open_console, say, with_progress
    from ..batch.frame_rate import constant_rate
    from ..batch.json_lines import JsonLines
    from ..batch.video import VideoWriter, segment_video
    from ..errors import ImageError
    from ..opening import model_files, open_model
    from ..sources.paths import check_no_address
    from ..sources.video import Video
    from ..system.identity import check_outputs

    check_no_address(source)
    path = Path(source)
    prompt, settings = prompts.parsed(model), network.settings()
    if output is None and json_target is None:
        output = Path(f"{path.stem}.overlay.mp4")
    check_outputs([path, *model_files(model, prompts.clip)], {"--output": output, "--json": json_file(json_target)})
    console = open_console(stderr=True)
    start, frames, segments = perf_counter(), 0, 0
    with ExitStack() as stack:
        clip = stack.enter_context(Video(path))
        fastsam = stack.enter_context(open_model(model, settings, clip=prompts.clip))
        lines = stack.enter_context(JsonLines(json_target)) if json_target is not None else None
        writer = None
        if output is not None:
            rate = constant_rate(clip.timestamps.times_s, clip.info.fps)
            writer = stack.enter_context(VideoWriter(output, replace(clip.info, fps=rate)))
        done = segment_video(fastsam, clip, path, prompt, writer, lines, contours=contours)
        for count in with_progress(done, console, total=clip.info.frames):
            frames, segments = frames + 1, segments + count
    seconds = perf_counter() - start
    written = [str(file) for file in (output, json_file(json_target)) if file is not None]
    where = f" → {', '.join(written)}" if written else ""
    say(console, f"{path}: {frames} frames, {segments} segments, {frames / seconds:.1f} frames/s{where}")
    if clip.missing:
        raise ImageError(
            f"{path}: {clip.missing}; the others are done. The file is damaged: copy it again from where it came"
        )
