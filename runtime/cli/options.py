"""Arguments, options and groups of options (see `groups`) of the command `fastsam`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engines.registry import overview
from .choices import DatasetFormat, PictureType, PointsMode
from .prompts import check_clip, parse_prompt

if TYPE_CHECKING:
    from ..opening import ModelSettings
    from ..segments import Prompt


def option(text: str, *names: str, panel: str | None = None, **settings: Any) -> Any:
    """An option of a command.

    Args:
        text: its help.
        names: such as "--output", "-o"; by default derived from the name of the parameter.
        panel: section of the help that lists it.
        settings: further arguments of `typer.Option`.

    Example:
        >>> ConfOption = Annotated[float, option("Keep segments with a score above it.", panel="Network")]
    """
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


_prompt, reading_option, network_option, result_option, _picture = (
    partial(option, panel=name) for name in ("Prompts", "Images", "Network", "Results", "Pictures")
)

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE|FOLDER|GLOB…",
        help="Image files; folders (the images directly in them, or --recursive); patterns in quotes; "
        "- for standard input.",
        show_default=False,
    ),
]
RecursiveOption = Annotated[bool, reading_option("Folders include their sub-folders.", "--recursive", "-r")]
ModelOption = Annotated[
    str | None,
    option(
        "ONNX file, TensorRT plan, FastSAM-s or FastSAM-x (see fastsam download), or a model on a Triton server: "
        "grpc://HOST:8001/fastsam; or on a fastsam serve: http+fastsam://HOST:8080. Default: the included demo model.",
        "--model",
        "-m",
    ),
]
ModelFileOption = Annotated[Path | None, option("ONNX file. Default: the included demo model.", "--model", "-m")]
JsonLinesOption = Annotated[
    str | None,
    result_option(
        "Write one line of JSON for each image as soon as it is done; - is standard output. Messages go to standard "
        "error.",
        "--json",
        metavar="FILE|-",
    ),
]
ContoursOption = Annotated[bool, _picture("Outline the segments.", "--contours/--no-contours")]


@dataclass(frozen=True)
class PromptOptions:
    """What to look for; by default everything.

    Example:
        >>> PromptOptions(points=["520,360", "620,300"]).parsed(model=None).xy.tolist()
        [[520.0, 360.0], [620.0, 300.0]]
    """

    points: Annotated[
        list[str] | None,
        _prompt(
            'A point in pixels of the image: 520,360. May be repeated; or all as JSON: "[[520,360],[620,300]]".',
            metavar="X,Y|JSON",
        ),
    ] = None
    labels: Annotated[
        list[str] | None,
        _prompt(
            "One label for each point, 1 = foreground, 0 = background: 1,0. Default: all foreground.",
            metavar="1,0|JSON",
        ),
    ] = None
    points_mode: Annotated[
        PointsMode,
        _prompt(
            "merge: one object from all points; each: one object for each foreground point; "
            "all: every segment with a foreground point and no background point in it."
        ),
    ] = PointsMode.merge
    boxes: Annotated[
        list[str] | None,
        _prompt(
            'A box as left, top, right, bottom: 570,200,800,600. May be repeated; or JSON: "[[570,200,800,600]]". One '
            "segment for each.",
            metavar="X,Y,X,Y|JSON",
        ),
    ] = None
    text: Annotated[
        list[str] | None,
        _prompt(
            'What to look for: "a yellow dog". One segment for each --text; needs --clip.', "--text", metavar="TEXT"
        ),
    ] = None
    json_prompts: Annotated[
        list[str] | None,
        _prompt(
            'Any prompt as JSON: \'{"points": [[520, 360]], "mode": "each"}\'. May be repeated; prompts of the '
            "options above come first.",
            "--prompt",
            metavar="JSON",
        ),
    ] = None
    clip: Annotated[
        Path | None,
        network_option("CLIP model for --text, made by: fastsam-export clip.", "--clip", metavar="FOLDER"),
    ] = None

    def parsed(self, model: str | None, *, images_may_ask: bool = False) -> Prompt | list[Prompt] | None:
        """The prompt for a model; None for everything.

        Args:
            model: path or address.
            images_may_ask: a CLIP model may be given without a text, for images with texts of their own.

        Raises:
            PromptError: see `parse_prompt` and `check_clip`.
        """
        from ..prompts.base import looks_at_image

        prompt = parse_prompt(
            self.points, self.labels, self.points_mode.value, self.boxes, self.text, self.json_prompts
        )
        check_clip(prompt, None if images_may_ask and not looks_at_image(prompt) else self.clip, model)
        return prompt


@dataclass(frozen=True)
class NetworkOptions:
    """How to open a model, and which detections to keep. The names are those of `FastSAM`.

    Example:
        >>> NetworkOptions(conf=0.2).settings().thresholds.conf
        0.2
    """

    conf: Annotated[float, network_option("Keep segments with a score above it.")] = 0.4
    iou: Annotated[float, network_option("Of two boxes that overlap more than this, keep the better one.")] = 0.9
    max_det: Annotated[int, network_option("Keep at most this many segments, best first.")] = 300
    imgsz: Annotated[
        int | None,
        network_option("Longest side of the network's input, a multiple of 32. Default: that of the model."),
    ] = None
    device: Annotated[str, network_option("cpu, cuda or cuda:N; never replaced by another.")] = "cpu"
    threads: Annotated[int | None, network_option("CPU threads. Default: all that this process may use.")] = None
    engine: Annotated[
        str | None,
        network_option(f"Engine that opens the file: {overview()}. Default: the first that is installed."),
    ] = None
    precision: Annotated[
        str | None,
        network_option(
            "fp32, bf16, mixed (bf16 and fp32) or tf32; an engine that cannot compute in it raises an error. "
            "Default: the engine's."
        ),
    ] = None
    hint: Annotated[str | None, network_option("latency, or throughput: OpenVINO runs several images at once.")] = None
    cache: Annotated[
        bool, network_option("Keep the prepared network beside the model, to open it faster next time.", "--cache")
    ] = False
    search: Annotated[
        str | None,
        network_option(
            "heuristic, or exhaustive: ONNX Runtime tries all algorithms of cuDNN for each new input shape."
        ),
    ] = None

    try_first: Annotated[
        bool,
        network_option(
            "Open the model in a process with limits of time and memory first: for files of strangers.", "--try-first"
        ),
    ] = False

    def settings(self, *, rect: bool | None = None) -> ModelSettings:
        """The settings of a model.

        Raises:
            DeviceError, ParameterError: a value is out of range.
        """
        from ..opening import ModelSettings

        return ModelSettings.from_keywords(**vars(self), rect=rect)


@dataclass(frozen=True)
class ResultOptions:
    """What to write for each image.

    Example:
        >>> ResultOptions().folder, ResultOptions(json_target="-").folder
        (PosixPath('output'), None)
    """

    output: Annotated[
        Path | None,
        result_option(
            "Folder for pictures and label files. Default: ./output; none with --json alone.",
            "--output",
            "-o",
            metavar="FOLDER",
        ),
    ] = None
    json_target: JsonLinesOption = None
    save: Annotated[
        list[str] | None,
        _picture(
            "Pictures to write, with commas between them. overlay: NAME.overlay.jpg; masks: NAME.masks/000.png …, "
            "white inside, black outside; cutouts: NAME.cutouts/000.png …, transparent outside; crops: "
            "NAME.crops/000.jpg …, rectangles. Default: overlay; none with --format, or with --json alone.",
            metavar="KINDS",
        ),
    ] = None
    picture_type: Annotated[
        PictureType, _picture("Type of overlays and crops: jpg, png or webp.", "--picture-type", metavar="TYPE")
    ] = PictureType.jpg
    dataset: Annotated[
        DatasetFormat | None,
        result_option(
            "Label files for other programs. json, npz, labelme, labelmap (16 bits, numbers in the order of scores): "
            "one for each image; coco: annotations.json; csv: segments.csv; yolo: images, labels and data.yaml for "
            "ultralytics.",
            "--format",
            metavar="FORMAT",
        ),
    ] = None
    polygons: Annotated[
        bool, result_option("With --format coco: polygons instead of run-length encoding.", "--polygons")
    ] = False
    copy_images: Annotated[
        bool, result_option("With --format yolo: copies of the images instead of links to them.", "--copy-images")
    ] = False
    masks: Annotated[bool, _picture("The same as to add masks to --save.", "--masks")] = False
    cutouts: Annotated[bool, _picture("The same as to add cutouts to --save.", "--cutouts")] = False
    contours: ContoursOption = True
    resume: Annotated[
        bool,
        result_option(
            "Continue an earlier run with the same settings: skip the images that are done, try again those that "
            "failed.",
            "--resume",
        ),
    ] = False

    @property
    def pictures(self) -> tuple[str, ...]:
        """Kinds of pictures, as they were asked for.

        Example:
            >>> ResultOptions(save=["masks,crops"]).pictures, ResultOptions(masks=True).pictures
            (('masks', 'crops'), ('overlay', 'masks'))
        """
        added = [name for name, wanted in (("masks", self.masks), ("cutouts", self.cutouts)) if wanted]
        if self.save is not None:
            return (*(kind.strip() for text in self.save for kind in text.split(",")), *added)
        json_alone = self.json_target is not None and self.output is None and not added
        return (*(() if json_alone or self.dataset is not None else ("overlay",)), *added)

    @property
    def folder(self) -> Path | None:
        """Folder for files; None if none are wanted."""
        if self.output is None and (self.pictures or self.dataset is not None):
            return Path("output")
        return self.output
