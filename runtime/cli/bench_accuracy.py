"""`fastsam bench edges|proposals|instances`: the tables of the paper. Heavy libraries are imported by the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import MissingDependencyError, ParameterError, pip_install
from .groups import with_groups
from .options import NetworkOptions, option

if TYPE_CHECKING:
    from ..accuracy.coco_data import CocoData, CocoImage
    from ..accuracy.proposals import ProposalScores
    from ..accuracy.run import EdgeResult
    from ..segments import Segments
    from ..settings import Thresholds

Table = tuple[str, list[str], Mapping[str, Mapping[str, float]]]
"""Title, columns, and the rows by their names."""

_SIZES = ("all", "small", "medium", "large")

_data = partial(option, panel="Data set")
_result = partial(option, panel="Results")

ModelOption = Annotated[
    str | None, option("Model file, or address of a server. Default: the demo model.", "--model", "-m", metavar="MODEL")
]
AnnotationsOption = Annotated[Path, _data("Annotations in the format of COCO or LVIS.", "--annotations", "-a")]
ImagesOption = Annotated[Path, _data("Folder of the images.", "--images", "-i")]
LimitOption = Annotated[int | None, _data("Only the first images, by id.", min=1)]
OutputOption = Annotated[
    Path,
    _result(
        "Folder for the results: a table (.md), figures (.json), and what an interrupted run goes on from.",
        "--output",
        "-o",
    ),
]
NameOption = Annotated[str, _result("Name of the model in the table.")]


@with_groups
def edges(
    *,
    truth: Annotated[Path, _data("Folder of BSDS500's .mat files, such as groundTruth/test.")],
    images: Annotated[
        Path | None, _data("Folder of the images, to make edge maps with --model.", "--images", "-i")
    ] = None,
    predictions: Annotated[
        Path | None,
        _data(
            "Judge these instead of a model: a folder of edge maps (.png, .npy, .mat), segmentations or ultrametric "
            "contour maps (.mat with segs or ucm2)."
        ),
    ] = None,
    model: ModelOption = None,
    network: NetworkOptions,
    thresholds: Annotated[int, _data("Number of thresholds of an edge map.", min=1, max=999)] = 99,
    workers: Annotated[
        int | None, _data("Processes that judge images. Default: one for each processor.", min=1)
    ] = None,
    name: NameOption = "this model",
    output: OutputOption,
) -> None:
    """Edges on BSDS500: ODS, OIS, AP and R50, as the original benchmark computes them.

    Example: fastsam bench edges --truth groundTruth/test --images images/test -m FastSAM-x.onnx -o edges
    """
    from ..accuracy.bsds import image_files
    from ..accuracy.edge_maps import write_edge_maps
    from ..accuracy.run import evaluate_edges
    from ..weights.demo import demo_model_path

    _check_libraries()
    _check_thresholds(network)
    if (images is None) == (predictions is None):
        raise ParameterError("expected either --images, for a model, or --predictions; give one of them")
    if images is not None:
        predictions = output / "edges"
        files = image_files(truth, images)
        write_edge_maps(
            model or demo_model_path(), files, predictions, network.settings(), progress=_progress("edge maps")
        )
    assert predictions is not None
    result = evaluate_edges(
        truth, predictions, output, count=thresholds, workers=workers, progress=_progress("judging")
    )
    _write(output, "edges", {"model": name, **result.to_json()}, _edge_tables(result, name))


@with_groups
def proposals(
    *,
    annotations: AnnotationsOption,
    images: ImagesOption,
    model: ModelOption = None,
    network: NetworkOptions,
    limit: LimitOption = None,
    name: NameOption = "this model",
    output: OutputOption,
) -> None:
    """Object proposals on COCO or LVIS: average recall of boxes and masks, whatever their class.

    Up to 1000 proposals of any score, as in the paper: conf 0.001, iou 0.9, max_det 1000.

    Example: fastsam bench proposals -a lvis_v1_val.json -i coco -m FastSAM-x.onnx -o lvis
    """
    from ..accuracy.coco_data import read_coco
    from ..accuracy.journal import digest
    from ..accuracy.proposals import PAPER, proposals_of, score_proposals

    _check_thresholds(network)
    data, made_of = read_coco(annotations, images, limit), {"annotations": digest(annotations)}
    kept = _measured(
        "proposals", data, model, network, output, PAPER, lambda _, segments: proposals_of(segments), made_of
    )
    scores = {kind: score_proposals(data, kept, kind) for kind in ("bbox", "segm")}
    document = {
        "model": name,
        "images": len(data.images),
        "thresholds": asdict(PAPER),
        "boxes": scores["bbox"].to_json(),
        "masks": scores["segm"].to_json(),
    }
    _write(output, "proposals", document, _proposal_tables(scores, name))


@with_groups
def instances(
    *,
    annotations: AnnotationsOption,
    images: ImagesOption,
    boxes: Annotated[
        Path | None, _data("Boxes of a detector in COCO's results format: AP of the masks that they select.")
    ] = None,
    model: ModelOption = None,
    network: NetworkOptions,
    limit: LimitOption = None,
    name: NameOption = "this model",
    output: OutputOption,
) -> None:
    """Objects of COCO from prompts: mean IoU from their own boxes and from one click, and AP from a detector's boxes.

    Example: fastsam bench instances -a instances_val2017.json -i val2017 --boxes vitdet.json -m FastSAM-x.onnx -o coco
    """
    from ..accuracy import paper
    from ..accuracy.coco_data import read_coco
    from ..accuracy.instances import PAPER, average_precision, iou_from_prompts, masks_for, mean_iou, read_boxes
    from ..accuracy.journal import digest

    _check_thresholds(network)
    data = read_coco(annotations, images, limit)
    given = None if boxes is None else read_boxes(boxes, data)

    def measure(image: CocoImage, segments: Segments) -> dict[str, Any]:
        return {
            "objects": iou_from_prompts(segments, data.objects_of(image), image),
            "results": [] if given is None else masks_for(segments, given[image.id]),
        }

    made_of = {"annotations": digest(annotations), "boxes": None if boxes is None else digest(boxes)}
    kept = _measured("instances", data, model, network, output, PAPER, measure, made_of)
    iou = mean_iou([row for result in kept.values() for row in result["objects"]])
    document: dict[str, Any] = {
        "model": name, "images": len(data.images), "thresholds": asdict(PAPER), "mean_iou": iou,
    }  # fmt: skip
    tables: list[Table] = [
        ("Mean IoU", [*_SIZES], {f"{name}, box of the object": iou["box"], f"{name}, one click": iou["click"]})
    ]
    if boxes is not None:
        ap = average_precision(data, {image: result["results"] for image, result in kept.items()})
        document["average_precision"] = ap
        tables.append(("AP from given boxes (paper: COCO val2017, ViTDet-H)", [*ap], {name: ap, **paper.INSTANCES}))
    _write(output, "instances", document, tables)


def _edge_tables(result: EdgeResult, name: str) -> list[Table]:
    from ..accuracy import paper

    rows = {
        "ODS": result.boundaries.ods, "OIS": result.boundaries.ois,
        "AP": result.boundaries.ap, "R50": result.boundaries.r50,
    }  # fmt: skip
    tables: list[Table] = [("BSDS500, boundaries", [*rows], {name: rows, **paper.EDGES})]
    if result.regions is not None:
        regions = {
            "covering ODS": result.regions.covering_ods, "covering OIS": result.regions.covering_ois,
            "covering best": result.regions.covering_best,
            "PRI ODS": result.regions.rand_ods, "PRI OIS": result.regions.rand_ois,
            "VI ODS": result.regions.information_ods, "VI OIS": result.regions.information_ois,
        }  # fmt: skip
        tables.append(("BSDS500, regions", [*regions], {name: regions}))
    return tables


def _proposal_tables(scores: Mapping[str, ProposalScores], name: str) -> list[Table]:
    from ..accuracy import paper

    tables: list[Table] = []
    for kind, title in (("bbox", "boxes"), ("segm", "masks")):
        figures = scores[kind].to_json()
        counts = {**figures["all"], "AUC": figures["AUC"]}
        by_size = {size: figures[size]["AR@1000"] for size in _SIZES}
        coco_rows = paper.COCO_BOXES if kind == "bbox" else {}
        lvis_rows = paper.LVIS_BOXES if kind == "bbox" else paper.LVIS_MASKS
        tables.append((f"Recall of {title} (paper: COCO val2017)", [*counts], {name: counts, **coco_rows}))
        tables.append((f"AR@1000 of {title} (paper: LVIS v1 val)", [*by_size], {name: by_size, **lvis_rows}))
    return tables


def _measured(
    kind: str, data: CocoData, model: str | None, network: NetworkOptions, output: Path, limits: Thresholds,
    measure: Callable[[CocoImage, Segments], Mapping[str, Any]], made_of: Mapping[str, Any],
) -> dict[int, Mapping[str, Any]]:  # fmt: skip
    from ..accuracy.journal import Journal, digest
    from ..accuracy.run import for_each_image
    from ..batch.records import describe_model
    from ..opening import open_model
    from ..weights.demo import demo_model_path

    source = str(model or demo_model_path())
    with open_model(source, network.settings()) as opened:
        settings = {
            "kind": kind,
            "model": describe_model(opened),
            "model_file": digest(Path(source)) if Path(source).is_file() else None,
            "network": network.settings().to_json(),
            "thresholds": asdict(limits),
            **made_of,
        }
        with Journal(output / f"{kind}.jsonl", settings) as journal:
            return for_each_image(opened, data, limits, journal, measure, _progress("images"))


def _check_thresholds(network: NetworkOptions) -> None:
    """Refuse thresholds: those of the paper are used, and the options would have no effect."""
    for name, usual in (
        ("conf", NetworkOptions.conf),
        ("iou", NetworkOptions.iou),
        ("max_det", NetworkOptions.max_det),
    ):
        if getattr(network, name) != usual:
            raise ParameterError(
                f"--{name.replace('_', '-')} {getattr(network, name)}: this measurement has thresholds of its own, see "
                "docs/accuracy.md; leave it out"
            )


def _progress(label: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    from ..batch.console import open_console, with_progress

    console = open_console(stderr=True)
    return lambda items, count: with_progress(items, console, label=label, total=count)


def _write(
    output: Path,
    name: str,
    document: Mapping[str, Any],
    tables: list[Table],
) -> None:
    from ..accuracy.tables import markdown
    from ..batch.console import open_console, say
    from ..documents import dump
    from ..system.atomic import write_atomically

    text = "\n".join(markdown(*table) for table in tables)
    write_atomically(output / f"{name}.json", (dump(document, indent=1) + "\n").encode())
    write_atomically(output / f"{name}.md", text.encode())
    console = open_console()
    for line in text.splitlines():
        say(console, line)
    say(open_console(stderr=True), f"written: {output / name}.json, .md")


def _check_libraries() -> None:
    """Raise MissingDependencyError before anything is measured."""
    for name in ("scipy", "skimage"):
        if find_spec(name) is None:
            raise MissingDependencyError(f"fastsam bench edges: no module {name}; run: {pip_install('accuracy')}")
