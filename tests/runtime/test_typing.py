"""A caller's program is checked with `mypy --strict` against the package as it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

CALLER = '''
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime import (
    Boxes, Connection, EngineSettings, Everything, FastSAM, FastSamError, ImageFile, Masks, Points, Segments, Text,
    Thresholds, Tiles, TRTFastSAM, load_image,
)
from fastsam_deploy.runtime.render import cutout, draw_prompts, draw_segments, save_image


class Largest:
    """A prompt of the caller's own."""

    prompt_count = 1

    def select_from(self, segments: Segments) -> Segments:
        return segments[int(segments.areas.argmax())].answering([0], [1.0])


def segment(path: Path, frame: NDArray[np.uint8]) -> None:
    image: NDArray[np.uint8] = load_image(path)
    with FastSAM(device="cpu", conf=0.3, threads=2) as model:
        everything: Segments = model.segment(path)
        cup: Segments = model.segment(image, Points([[320, 180]], labels=[1], mode="merge"))
        model.segment(frame, [Points([[1, 2]]), Boxes([[1, 2, 30, 40]]), Everything()], color="BGR")
        model.segment(path.read_bytes(), Largest(), thresholds=Thresholds(conf=0.5), keep_image=True)
        model.segment(ImageFile("a.tif", page=2), tiles=Tiles(1024, overlap=0.25))
        model.segment(Image.new("RGB", (30, 20)), tiles=1024)
        both: list[Segments] = model.segment_batch([path, image], thresholds=[Thresholds(), Thresholds(0.5)])
        for item in model.segment_stream([path, "b.jpg"], keep_images=True):
            if item.error is None and item.image is not None:
                draw_segments(item.image, item.result(), alpha=0.4, contours="only", color_by="prompt", labels=True)
        print(model.imgsz, model.device, model.spec.precision, len(both))
    rows: Segments = everything[everything.scores > 0.5]
    first: Segments = everything[0]
    number: int = len(first) + int(rows.areas.max())
    boxes: NDArray[np.float32] = rows.boxes_xyxy
    masks: Masks = everything.masks
    dense: NDArray[np.bool_] = masks.dense()
    corners = [part.outer.tolist() for parts in masks.polygons(1.0) for part in parts]
    picture: NDArray[np.uint8] = everything.on(image).plot(boxes=True, scores=True, color_by=np.arange(number))
    save_image("a.png", draw_prompts(picture, Points([[1, 2]])))
    save_image("b.png", cutout(image, everything, 0))
    everything.plot(Image.new("RGB", (3, 2)), colors=(255, 0, 0), contours=False)
    everything.show(image, labels=True)
    lines: list[str] = everything.to_yolo(tolerance_px=1.0)
    label_map: NDArray[np.uint16] = everything.to_label_map()
    everything.save("a.json", format="labelme", image_path="a.jpg")
    shapes = everything.to_labelme("a.jpg", shapes="masks")["shapes"]
    again: Segments = Segments.load("a.npz")
    again = Segments.from_json(everything.to_json())
    annotations = everything.to_coco(7, boxes="masks", polygons=True)[0]["bbox"]
    print(boxes, dense, corners, lines, label_map, shapes, again, annotations, cup.select(Text("a cup")))


def on_a_gpu() -> TRTFastSAM | None:
    try:
        model = TRTFastSAM("FastSAM-s.plan")
        model.warmup([(1, 1080, 1920)])
        return model.clone()
    except FastSamError as error:
        print(error)
        return None


def on_a_server() -> FastSAM:
    return FastSAM("grpc://host:8001/fastsam", connection=Connection())


print(EngineSettings(device="cpu"))
'''

WRONG = """
import numpy as np

from fastsam_deploy.runtime import FastSAM, Points, Segments, Tiles

model = FastSAM()
model.segment(3.5)  # [arg-type]
model.segment("a.jpg", "a cup", colour="BGR")  # [call-arg] [arg-type]
model.segment("a.jpg").plott()  # [attr-defined]
count: str = len(model.segment("a.jpg"))  # [assignment]
Tiles("large")  # [arg-type]
Segments.empty((4, 5)).plot(contours="all")  # [arg-type]
Segments.empty((4, 5)).scores = np.zeros(1)  # [misc] [assignment]
Points()  # [call-arg]
"""


def _mypy(folder: Path, name: str, program: str) -> list[str]:
    (folder / name).write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", folder / "cache", name],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(name)]


def test_a_program_that_uses_the_package_passes_and_its_mistakes_are_found(tmp_path: Path):
    pytest.importorskip("mypy", reason="needs the extra [dev]")
    assert _mypy(tmp_path, "caller.py", CALLER) == []
    said = _mypy(tmp_path, "wrong.py", WRONG)
    for number, line in enumerate(WRONG.splitlines(), 1):
        expected = set(re.findall(r"\[[a-z-]+\]", line.partition("  # ")[2]))
        of_line = {code for text in said if f":{number}: error" in text for code in re.findall(r"\[[a-z-]+\]$", text)}
        assert of_line == expected, (line, said)


def test_the_package_says_that_it_is_typed():
    for package in ("runtime", "export"):
        assert (files("fastsam_deploy") / package / "py.typed").is_file()
