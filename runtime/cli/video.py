"""`fastsam video`: every frame of a video. Heavy libraries are imported by the command."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from .config import with_config
from .groups import with_groups
from .image_options import TileOptions
from .options import ContoursOption, JsonLinesOption, ModelOption, NetworkOptions, PromptOptions, option, reading_option
from .results import json_file

VideoArgument = Annotated[
    str,
    typer.Argument(
        metavar="VIDEO|FOLDER|CAMERA|ADDRESS",
        help="A video file; a folder of images, each a frame; the number of a camera: 0; or an address: "
        "rtsp://HOST/PATH, http://HOST/clip.mp4.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    option(
        "Video with overlays, .mp4, .mov or .avi. Default: ./NAME.overlay.mp4; none with --json alone.",
        "--output",
        "-o",
    ),
]
IsolateOption = Annotated[
    bool,
    reading_option(
        "Read files in a process of its own, which may take 20 s for each frame and 2 GiB: for files of strangers.",
        "--isolate",
    ),
]
EveryOption = Annotated[int, option("Take each Nth frame.", "--every", metavar="N", panel="Frames", min=1)]
MostOption = Annotated[
    int | None, option("End after this many frames. Default: all.", "--frames", metavar="N", panel="Frames", min=1)
]
FpsOption = Annotated[
    float | None, option("Frames per second, for a folder of images. Default: 25.", "--fps", panel="Frames")
]

TrackOption = Annotated[
    bool,
    option(
        "Follow the objects: the same number and colour in every frame. Prompts are then for the first frame.",
        "--track",
        panel="Frames",
    ),
]


@with_config
@with_groups
def video(
    source: VideoArgument,
    *,
    model: ModelOption = None,
    prompts: PromptOptions,
    network: NetworkOptions,
    tiling: TileOptions,
    every: EveryOption = 1,
    most: MostOption = None,
    fps: FpsOption = None,
    track: TrackOption = False,
    output: OutputOption = None,
    json_target: JsonLinesOption = None,
    contours: ContoursOption = True,
    isolate: IsolateOption = False,
) -> None:
    """Segment every frame of a video, and write a video with overlays and one line of JSON for each frame.

    Frames are read and drawn while the network works on others. They are independent, unless --track is given.

    Cameras and streams are live: the newest frame is taken, and those that come meanwhile are dropped. A lost
    connection is tried again. Ctrl-C ends the run, and the video and the lines of JSON are then whole.

    Damaged frames of a file are left out and reported, and the exit code is then 2. The video with overlays has a
    constant rate: frames are repeated where the rate of the original varies.

    Lines of JSON are written as the frames are done, and stay if the command is interrupted. The video with overlays
    appears at the end.

    Example: fastsam video clip.mp4 --points "[[320,180]]" --output clip.overlay.mp4
    """
    from ..batch.console import open_console, say
    from ..opening import model_files, open_model
    from ..sources.opening import input_path, open_frames, stem_of
    from ..system.identity import check_outputs
    from .video_run import VideoRun

    path, name = input_path(source), stem_of(source)
    prompt, settings, tiles = prompts.parsed(model), network.settings(), tiling.parsed()
    if output is None and json_target is None:
        output = Path(f"{name}.overlay.mp4")
    inputs = [*model_files(model, prompts.clip), *([] if path is None else [path])]
    check_outputs(inputs, {"--output": output, "--json": json_file(json_target)})
    console = open_console(stderr=True)
    with ExitStack() as stack:
        frames = stack.enter_context(open_frames(source, fps=fps, isolate=isolate))
        fastsam = stack.enter_context(open_model(model, settings, clip=prompts.clip))
        run = VideoRun(frames, output, json_target, contours=contours, every=every, most=most, track=track, tiles=tiles)
        if frames.is_live:
            say(console, f"{frames.name}: live; Ctrl-C ends, and what is done is kept")
        elif path is None:
            say(console, f"{frames.name}: reading from the network")
        run.segment(fastsam, prompt, console)
    run.report(console)
