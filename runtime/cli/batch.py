"""`fastsam batch`: a million images, restartable; `status` and `export` of what it has written."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import ParameterError
from .batch_cluster import ClusterOptions, with_address
from .groups import with_groups
from .image_options import ReadingOptions, TileOptions
from .options import ModelOption, NetworkOptions, PromptOptions, network_option, option

if TYPE_CHECKING:
    from ..batch.parts.execution.interface import Executor
    from ..batch.parts.planning import Cut

_run_option = partial(option, panel="Run")


class BatchGroup(TyperGroup):
    """The commands of `fastsam batch`, of which `run` need not be named.

    Example:
        >>> typer.Typer(name="batch", cls=BatchGroup)  # doctest: +SKIP
    """

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        """See `click.Command.parse_args`."""
        if arguments and arguments[0] not in (*self.commands, "--help", "-h"):
            arguments = ["run", *arguments]
        return super().parse_args(context, with_address(arguments))


batch = typer.Typer(
    name="batch",
    cls=BatchGroup,
    help="Segment a million images into Parquet parts; restartable. fastsam batch SOURCE --output DIR",
    no_args_is_help=True,
    add_completion=False,
)

OutputArgument = Annotated[str, typer.Argument(metavar="DIR|URL", help="What fastsam batch wrote to.")]


class ExportFormat(str, Enum):
    """The names in `batch.parts.export.KINDS`.

    Example:
        >>> ExportFormat("coco").value
        'coco'
    """

    coco = "coco"
    yolo = "yolo"
    csv = "csv"


@dataclass(frozen=True)
class RunOptions:
    """How images are cut into chunks, and who works on them.

    Example:
        >>> RunOptions(workers=2).cut(2).workers
        2
    """

    workers: Annotated[
        int | None,
        _run_option("Processes, each with a model. Default: one for each processor, or 1 on a GPU.", "--workers"),
    ] = None
    chunk: Annotated[
        int | None,
        _run_option("Images of a part, and what a kill can cost a worker. Default: 256, or fewer for few images."),
    ] = None
    image_timeout: Annotated[
        float, _run_option("Seconds for one image; one that takes longer becomes a dead letter.", "--image-timeout")
    ] = 300.0
    retry_failed: Annotated[
        bool, _run_option("Do the parts with failed images again, as after a repair.", "--retry-failed")
    ] = False

    def cut(self, workers: int) -> Cut:
        """How a listing is cut. Raises ParameterError if a number is out of range."""
        from ..batch.parts.planning import Cut

        if not 0 < self.image_timeout < float("inf"):
            raise ParameterError(f"--image-timeout is {self.image_timeout}, expected seconds, above 0")
        return Cut(self.chunk, workers)

    def executor(self, threads: int | None, device: str) -> Executor:
        """What runs the chunks. Raises ParameterError if a number is out of range."""
        from ..batch.parts.execution.local import LocalExecutor, shares_of_cpus

        return LocalExecutor(*shares_of_cpus(self.workers, threads, device))


@batch.command("run")
@with_groups
def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder (with its sub-folders), a pattern in quotes, a table (.csv, .parquet: path, and optionally "
            "id and prompts), tar shards (train-{000..127}.tar), or a URL of one of them.",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        str, option("Folder or URL of the parts. The same command goes on where it was stopped.", "--output", "-o")
    ],
    model: ModelOption = None,
    prompts: PromptOptions,
    network: NetworkOptions,
    threads: Annotated[
        int | None, network_option("CPU threads of each worker. Default: the processors, shared out.")
    ] = None,
    tiling: TileOptions,
    reading: ReadingOptions,
    running: RunOptions,
    cluster: ClusterOptions,
) -> None:
    """Segment all images of a source into Parquet parts. The same command goes on where an earlier one was stopped.

    An image that cannot be segmented has an error in its row, and is a dead letter in failed/; it does not stop the
    others. Ctrl-C finishes the parts that are under way; a second one ends at once, and loses these.

    Example: fastsam batch photos --output out
    """
    from ..batch.console import open_console
    from ..batch.parts.job import Job
    from .batch_run import run_job

    prompt = prompts.parsed(model, images_may_ask=True)
    job = Job(
        output,
        model,
        network.settings(),
        None if prompts.clip is None else str(prompts.clip),
        _prompts_json(prompt),
        reading.selection(),
        reading.isolate,
        tiling.parsed(),
        running.image_timeout,
    )
    with ExitStack() as stack:
        remote = cluster.executor(running.workers, threads, network.device)
        executor = stack.enter_context(closing(remote or running.executor(threads, network.device)))
        run_job(job, source, executor, running.cut(executor.workers), open_console(stderr=True), running.retry_failed)


def _prompts_json(prompt: Any) -> str | None:
    from ..documents import dump
    from ..prompts.base import listed
    from ..prompts.kinds import is_registered

    prompts = [item.to_json() for item in listed(prompt) if is_registered(item)]
    return dump(prompts) if prompts else None


@batch.command()
def status(
    output: OutputArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show how far a run has come: done, failed, rate, time left, size. Also while it runs.

    Example: fastsam batch status out
    """
    from ..batch.console import printable
    from ..batch.parts.status import status_of

    current = status_of(output)
    typer.echo(json.dumps(current.to_json()) if as_json else "\n".join(map(printable, str(current).splitlines())))


@batch.command()
def export(
    output: OutputArgument,
    folder: Annotated[Path, option("Folder of the data set.", "--output", "-o", metavar="FOLDER")],
    dataset: Annotated[
        ExportFormat,
        option("coco: annotations.json; yolo: images, labels and data.yaml; csv: segments.csv.", "--format"),
    ] = ExportFormat.coco,
    polygons: Annotated[
        bool, option("With --format coco: polygons instead of run-length encoding.", "--polygons")
    ] = False,
    copy_images: Annotated[
        bool, option("With --format yolo: copies of the images instead of links to them.", "--copy-images")
    ] = False,
) -> None:
    """Make a data set of all images that are done.

    Example: fastsam batch export out --format coco --output dataset
    """
    from ..batch.console import open_console, say
    from ..batch.datasets import DatasetOptions
    from ..batch.parts.export import export_dataset

    files = export_dataset(output, dataset.value, folder, DatasetOptions(polygons, copy_images))
    say(open_console(stderr=True), f"fastsam: → {', '.join(map(str, files))}")
