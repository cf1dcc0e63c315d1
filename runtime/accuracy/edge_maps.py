"""Edge maps of a folder of images, written as 16-bit PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from ..connection import is_address
from ..engines import open_engine
from ..errors import ParameterError
from ..opening import ModelSettings
from ..settings import Thresholds
from ..spec import imgsz_for
from ..stages.image import load_images
from ..stages.letterbox import fit_model, letterbox
from ..system.atomic import write_atomically
from .edges import edge_map
from .journal import Journal, digest
from .run import Progress, plain

PAPER = Thresholds(conf=0.1, iou=0.9, max_det=1000)
"""Which masks take part. The paper does not say; on BSDS500's validation images this did best for the demo model."""


def write_edge_maps(
    model: str | Path,
    images: Sequence[Path],
    folder: Path,
    settings: ModelSettings,
    *,
    limits: Thresholds = PAPER,
    progress: Progress = plain,
) -> None:
    """Write the edge map of each image as NAME.png. An interrupted run goes on, from `maps.jsonl` beside them.

    Args:
        model: path of an `.onnx` file. A server and a plan keep the probabilities of masks to themselves.
        images: files; their names without the endings are different. One that has changed is done again.
        folder: made if it is missing.
        settings: of the model.
        limits: which masks take part.
        progress: see `Progress`.

    Raises:
        ParameterError: the model is an address, or the folder has maps of another model or of other settings.
        FastSamError: the model cannot be opened, or an image cannot be read.

    Example:
        >>> write_edge_maps("model.onnx", paths, Path("edges"), ModelSettings())  # doctest: +SKIP
    """
    if is_address(str(model)):
        raise ParameterError(
            f"{model}: a server sends masks, not their probabilities, which edges are made of; expected an .onnx file"
        )
    made_by = {"model": digest(Path(model)), "settings": settings.to_json(), "thresholds": asdict(limits)}
    with Journal(folder / "maps.jsonl", made_by) as journal, closing(open_engine(model, settings.engine)) as engine:
        names = {image: f"{image.stem} {digest(image)}" for image in images}
        todo = [image for image in images if not _is_done(names[image], folder / f"{image.stem}.png", journal)]
        side = imgsz_for(engine.spec, settings.imgsz)
        for image in progress(todo, len(todo)):
            ((pixels, _),) = load_images([image], "RGB")
            place = fit_model((pixels.shape[0], pixels.shape[1]), engine.spec, side, settings.rect is not False)
            outputs = engine.run(letterbox(pixels, place)[None])
            edges = edge_map(outputs["detections"][0], outputs["prototypes"][0], place, engine.spec, limits)
            _, png = cv2.imencode(".png", np.rint(edges * 65535).astype(np.uint16))
            write_atomically(folder / f"{image.stem}.png", png.tobytes())
            journal.add(names[image], {})


def _is_done(name: str, edge_map_file: Path, journal: Journal) -> bool:
    return name in journal.done and edge_map_file.exists()
