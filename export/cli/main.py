"""`fastsam-export`: exports FastSAM checkpoints and compares the files with them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ...runtime.batch.console import open_console, say
from ...runtime.cli.groups import with_groups
from ...runtime.cli.messages import VersionOption, add_message_options
from ...runtime.cli.process import CommandGroup, run_command
from ...runtime.errors import ParameterError
from ..errors import missing_library
from .engine import engine
from .options import ImgszOption, PhotographsOption, SuppressionOptions
from .quantize import quantize
from .tables import findings_table

if TYPE_CHECKING:
    from ..clip.to_clip import ClipProof
    from ..proof.network import Proof

app = typer.Typer(
    name="fastsam-export",
    cls=CommandGroup,
    help="Export FastSAM checkpoints. A file is written only if it gives the same results as its source.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(engine)


@app.callback()
def _commands(
    version: VersionOption = False,
) -> None:
    """Export FastSAM checkpoints. A file is written only if it gives the same results as its source."""


@app.command()
@with_groups
def onnx(
    checkpoint: Annotated[str, typer.Argument(help="A .pt file, or FastSAM-s.pt / FastSAM-x.pt to download.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: name of the checkpoint + .onnx.")
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(
            help="Side of the input in pixels, or H,W; of a dynamic file the default. Default: the size that the "
            "network was trained at, or 1024 if the checkpoint does not say it."
        ),
    ] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic/--fixed", help="Any batch and size, or a single one.")] = True,
    batch: Annotated[int, typer.Option(help="Batch size of a fixed file.")] = 1,
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = 18,
    half: Annotated[bool, typer.Option("--half", help="FP16 arithmetic; input and outputs stay in FP32.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="FP16 storage without loss; FP32 arithmetic.")] = False,
    simplify: Annotated[bool, typer.Option(help="Fold the graph with onnxslim.")] = True,
    exporter: Annotated[str, typer.Option(help="dynamo or torchscript.")] = "dynamo",
    images: PhotographsOption = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Unpickle without restriction; the checkpoint can run code.")
    ] = False,
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Build the graph without PyTorch: YOLOv8 networks, such as those of FastSAM."),
    ] = False,
    undecoded: Annotated[
        bool,
        typer.Option(
            "--undecoded",
            help="Boxes are decoded by the runtime, for the candidates alone: faster, but only fastsam-deploy can read "
            "the file. Needs --direct.",
        ),
    ] = False,
    suppression: SuppressionOptions,
) -> None:
    """Checkpoint to ONNX, compared with the checkpoint on photographs.

    Example: fastsam-export onnx FastSAM-s.pt -o fastsam-s.onnx --imgsz 640
    """
    target = output or Path(Path(checkpoint).stem + ".onnx")
    chosen: dict[str, Any] = {"dynamic": dynamic, "batch": batch, "opset": opset, "half": half, "compact": compact}
    chosen |= {
        "images": images,
        "suppression": suppression.suppression(),
        "imgsz": None if imgsz is None else size_from_text(imgsz),
    }
    tracing: dict[str, Any] = {"simplify": simplify, "exporter": exporter, "trust": trust}
    if direct and (trust or exporter != "dynamo"):
        raise ParameterError("--direct runs nothing and traces nothing: leave --trust and --exporter out")
    if undecoded and not direct:
        raise ParameterError("--undecoded builds another head than the checkpoint's: add --direct")
    try:
        with open_console(stderr=True).status("starting") as status:
            if direct:
                from ..direct.to_onnx import export_direct

                proof = export_direct(checkpoint, target, step=status.update, decoded=not undecoded, **chosen)
            else:
                from ..to_onnx import export_onnx

                proof = export_onnx(checkpoint, target, step=status.update, **chosen, **tracing)
    except ModuleNotFoundError as error:
        other = "" if direct else ", or add --direct, which needs no PyTorch"
        raise missing_library(error, "direct" if direct else "export", otherwise=other) from error
    _report(proof, open_console())


@dataclass(frozen=True)
class LoadOptions:
    """How many requests the models of a repository handle at once. The names are those of `Serving`.

    Example:
        >>> LoadOptions(max_batch=4).max_batch
        4
    """

    max_batch: Annotated[int | None, typer.Option(help="Largest batch; default 8.")] = None
    instances: Annotated[int | None, typer.Option(help="Instances of the network; default 1.")] = None
    threads: Annotated[int | None, typer.Option(help="CPU threads of an instance; default: all.")] = None
    queue: Annotated[
        int | None, typer.Option(help="Number of requests that may wait for the network; default 128.")
    ] = None
    queue_ms: Annotated[int | None, typer.Option(help="How long a request may wait, milliseconds; default 10000.")] = (
        None
    )


@app.command()
@with_groups
def triton(
    model: Annotated[
        Path,
        typer.Argument(help="An .onnx file, a .plan or .rtx with its JSON beside it, or an .engine of ultralytics."),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the repository.")] = Path(
        "model_repository"
    ),
    device: Annotated[str | None, typer.Option(help="cpu or gpu; default: gpu for a plan, cpu for ONNX.")] = None,
    imgsz: ImgszOption = None,
    rect: Annotated[
        bool | None,
        typer.Option(
            "--rect/--square",
            help="The input is the smallest rectangle around an image (default on a CPU), or a square, so that images "
            "of all shapes can share a batch (default on a GPU).",
        ),
    ] = None,
    load: LoadOptions,
    clip: Annotated[Path | None, typer.Option(help="Folder made by fastsam-export clip; adds text prompts.")] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Use the server's response cache: further prompts on an image cost little.")
    ] = False,
    add_version: Annotated[
        bool,
        typer.Option(
            "--add-version",
            help="Add a version to an existing repository. In which order a running server loads it is printed then.",
        ),
    ] = False,
) -> None:
    """Model to a repository for Triton Inference Server.

    Example: fastsam-export triton fastsam-s.onnx -o model_repository
    """
    from ..triton.to_triton import build_repository

    given: dict[str, Any] = {name: value for name, value in vars(load).items() if value is not None}
    given |= {"device": device, "imgsz": imgsz, "rect": rect, "clip": clip, "add_version": add_version}
    repository = build_repository(model, output, cache=cache, **given)
    serving = repository.serving
    shape = "a rectangle around each image" if serving.rect else "one shape for all images"
    say(
        open_console(),
        f"{repository.path}: {', '.join(repository.models)}, version {repository.version}; "
        f"{serving.engine} on {serving.device}, imgsz {serving.imgsz}, {shape}, batches up to {serving.max_batch}",
    )
    if serving.engine == "tensorrt_rtx":
        say(
            open_console(),
            "Triton has no backend for TensorRT for RTX: fastsam_device runs the plan, without an ensemble",
        )
    if add_version:
        say(
            open_console(),
            f"a running server in explicit mode: load {', '.join(repository.load_order)}, one after the other, and "
            "stop where one is refused; a server that loads models at its start needs a restart",
        )


@app.command()
def clip(
    name: Annotated[
        str, typer.Argument(help="ARCH/TAG or ARCH/TAG=weights of open_clip, hf:ORG/NAME of transformers, or a folder.")
    ] = "ViT-B-32/openai",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; an earlier export in it is replaced.")] = Path(
        "clip"
    ),
    half: Annotated[bool, typer.Option("--half", help="FP16 arithmetic; inputs and outputs stay in FP32.")] = False,
    images: PhotographsOption = None,
) -> None:
    """CLIP model to two ONNX files and a tokenizer, compared with the model on photographs and texts.

    From files: ViT-B-32/openai=weights.safetensors, or a folder that open_clip or transformers saved.

    Example: fastsam-export clip ViT-B-32/openai -o clip
    """
    try:
        from ..clip.to_clip import export_clip

        with open_console(stderr=True).status("starting") as status:
            proof = export_clip(name, output, half=half, images=images, step=status.update)
    except ModuleNotFoundError as error:
        raise missing_library(error, "export", "clip-export") from error
    _report_clip(proof, open_console())


app.command()(quantize)


def size_from_text(text: str) -> int | tuple[int, int]:
    """Read a side, or two as (H, W), in pixels.

    Raises:
        ParameterError: the text is neither.

    Example:
        >>> size_from_text("1024"), size_from_text("768,1024")
        (1024, (768, 1024))
    """
    try:
        sides = [int(part) for part in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise ParameterError(
            f"imgsz is {text!r:.80}, expected one whole number, or two as H,W; for example 1024 or 768,1024"
        )
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _report(proof: Proof, console: Console) -> None:
    alone = proof.spec.tools.get("compared", "").startswith("not")
    if proof.findings:
        other = "FP32 file" if proof.spec.precision == "fp16" else "file without NMS"
        console.print(findings_table(f"compared with the {other if alone else 'checkpoint'}", proof.findings))
    spec = proof.spec
    size = "any" if spec.fixed_hw is None else "{} × {}".format(*spec.fixed_hw)
    detected = f"{proof.detections} detections by the checkpoint, {proof.detections_exported} by the file"
    if alone:
        detected = f"{proof.detections_exported} detections; {proof.spec.tools['compared']}"
    elif not proof.detections:
        detected = "the checkpoint detects nothing in these photographs: masks of its best anchors were compared"
    megabytes = proof.path.stat().st_size / 1e6
    say(
        console,
        f"{proof.path}: {spec.precision}, batch {spec.batch or 'any'}, size {size} (default {spec.imgsz}), "
        f"{megabytes:.1f} MB; {detected}",
    )


def _report_clip(proof: ClipProof, console: Console) -> None:
    console.print(findings_table("compared with the model", proof.findings))
    spec = proof.spec
    height, width = spec["image"]["size"]
    dense = "with" if spec["image"]["dense"] else "no"
    megabytes = sum(path.stat().st_size for path in proof.path.iterdir()) / 1e6
    say(
        console,
        f"{proof.path}: {spec['name']}, {spec['precision']}, images {height} × {width}, {dense} patch features, "
        f"{spec['text']['context_length']} tokens, {spec['embed_dim']} features, {megabytes:.1f} MB; "
        f"{proof.images} images and {proof.texts} texts compared",
    )


add_message_options(app)


def main() -> None:
    """Run the command: exit code 0, or 2 with one line on standard error for an expected error.

    Example:
        >>> sys.argv = ["fastsam-export", "onnx", "FastSAM-s.pt"]  # doctest: +SKIP
        >>> main()  # doctest: +SKIP
    """
    sys.exit(run_command("fastsam-export", app))


if __name__ == "__main__":
    main()
