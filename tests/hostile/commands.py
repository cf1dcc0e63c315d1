"""Every command that writes, small and quick; and the readers that say whether what it wrote is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/fastsam-demo.onnx"
PHOTOGRAPHS = ROOT / "examples/images"
FRAMES = 12


@dataclass(frozen=True)
class WritingCommand:
    """A command and what it leaves.

    Attributes:
        name: for messages.
        words: of the command line; it runs in a folder with what `prepare` made.
        check: raises an exception if a file in the folder, under the name of an output, is not whole. A file may be
            missing, or be that of an earlier run.
        complete: the outputs that a run which succeeds leaves.
        export: belongs to `fastsam-export`, and needs its extra.
        grows: outputs whose last line may be a part, after a kill.
        start: runs before the command, in its process.
    """

    name: str
    words: tuple[str, ...]
    check: Callable[[Path], None]
    complete: tuple[str, ...]
    export: bool = False
    grows: tuple[str, ...] = ()
    start: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run the command in this process, whose working folder is the one to write to. Returns the exit code."""
        self.start()
        sys.argv = ["fastsam-export" if self.export else "fastsam", *self.words]
        try:
            if self.export:
                from fastsam_deploy.export.cli.main import main as export_main

                export_main()
                return 0
            from fastsam_deploy.runtime.cli.main import main

            return main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def prepare(folder: Path) -> None:
    """The inputs of all commands."""
    import cv2

    for name in ("photos", "calibration"):
        (folder / name).mkdir(parents=True)
        for path in sorted(PHOTOGRAPHS.glob("*.jpg"))[:2]:
            cv2.imwrite(str(folder / name / path.name), cv2.resize(cv2.imread(str(path)), (240, 160)))
    shutil.copyfile(_clip_video(), folder / "clip.avi")
    (folder / "m.onnx").symlink_to(MODEL)
    (folder / "m.pt").symlink_to(MODEL.with_suffix(".pt"))


def _clip_video() -> Path:
    """A video of some frames, made once."""
    import tempfile

    import cv2

    path = Path(tempfile.gettempdir()) / f"fastsam-hostile-{FRAMES}-{os.getuid()}.avi"
    if not path.is_file():
        draft = path.with_suffix(".part.avi")
        image = cv2.resize(cv2.imread(str(PHOTOGRAPHS / "coffee.jpg")), (192, 128))
        writer = cv2.VideoWriter(str(draft), cv2.VideoWriter.fourcc(*"MJPG"), 10, (192, 128))
        for i in range(FRAMES):
            writer.write(np.roll(image, 8 * i, 1))
        writer.release()
        draft.replace(path)
    return path


def _pictures(folder: Path) -> None:
    from fastsam_deploy.runtime import load_image

    for path in folder.rglob("*"):
        if path.suffix in (".png", ".jpg") and not path.name.startswith("."):
            load_image(path)


def _lines(path: Path, most: int) -> None:
    """Lines of JSON; a part of one may stand at the end."""
    if path.is_file():
        *whole, _ = path.read_bytes().split(b"\n")
        assert len(whole) <= most
        for line in whole:
            assert isinstance(json.loads(line), dict)


def _video(path: Path) -> None:
    from fastsam_deploy.runtime.sources.video import Video

    if path.exists():
        with Video(path) as video:
            assert sum(1 for _ in video.frames()) == FRAMES
            assert not video.missing


def _onnx(path: Path) -> None:
    from fastsam_deploy.runtime import EngineSettings
    from fastsam_deploy.runtime.engines import open_engine

    if path.exists():
        with open_engine(path, EngineSettings(engine="onnxruntime", threads=1)) as engine:
            engine.run(np.zeros((1, 3, 64, 64), np.float32))


def _json(path: Path) -> None:
    if path.exists():
        assert json.loads(path.read_bytes())


def _report(folder: Path) -> None:
    _json(folder / "report.json")
    if (folder / "report.md").exists():
        assert (folder / "report.md").read_text().endswith("\n")
    _pictures(folder)


def _tuning(folder: Path) -> None:
    """What `engine="tuned"` reads is whole, and so are the figures, the table and the chart."""
    from fastsam_deploy.runtime.tuned import Tuned

    if (folder / "m.tuned.json").exists():
        assert Tuned.read(folder / "m.onnx").settings["engine"] == "onnxruntime"
    _json(folder / "tuning/tune.json")
    _pictures(folder / "tuning")
    if (folder / "tuning/tune.md").exists():
        assert (folder / "tuning/tune.md").read_text().endswith("```\n")


def _repository(folder: Path, versions: tuple[str, ...]) -> None:
    """Every model that has a configuration has all that it names."""
    if not folder.exists():
        return
    configured = {path.parent.name for path in folder.glob("*/config.pbtxt")}
    for name in configured:
        text = (folder / name / "config.pbtxt").read_text()
        assert text.rstrip().endswith(("}", "]", '"')), name
        numbers = {path.name for path in (folder / name).iterdir() if path.name.isdecimal()}
        assert numbers and numbers <= set(versions), (name, numbers)
        for number in numbers:
            _version(folder / name / number)
    if "fastsam" in configured:
        assert {"fastsam_preprocess", "fastsam_engine", "fastsam_postprocess"} <= configured


def _version(folder: Path) -> None:
    if (folder / "model.onnx").exists():
        assert (folder / "model.onnx").read_bytes() == MODEL.read_bytes()
    if folder.parent.name in ("fastsam_preprocess", "fastsam_postprocess", "fastsam_device"):
        source = ROOT / "triton_models" / folder.parent.name / "1/model.py"
        assert (folder / "model.py").read_bytes() == source.read_bytes()


def _clip(folder: Path) -> None:
    from fastsam_deploy.runtime.clip.spec import read_clip_spec

    if folder.exists():
        read_clip_spec(folder)
        for name, digest in json.loads((folder / "clip.json").read_text())["sha256"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def _plan(path: Path) -> None:
    """A plan never stands without the JSON that describes it, and never beside that of another one."""
    from fastsam_deploy.runtime.engines.tensorrt.plan_file import read_plan

    if path.exists():
        assert read_plan(path).record is not None


def _data_set(folder: Path) -> None:
    _pictures(folder)
    _json(folder / "annotations.json")
    for path in folder.rglob("*.txt"):
        assert all(len(line.split()) >= 7 for line in path.read_text().splitlines()), path
    if (folder / "segments.csv").exists():
        rows = (folder / "segments.csv").read_text().splitlines(keepends=True)
        assert all(row.endswith("\n") and row.count(",") >= rows[0].count(",") for row in rows)
    if (folder / "data.yaml").exists():
        assert (folder / "data.yaml").read_text().endswith("\n")


def _weights(folder: Path) -> None:
    if (folder / "FastSAM-s.pt").exists():
        assert (folder / "FastSAM-s.pt").read_bytes() == MODEL.with_suffix(".pt").read_bytes()
    _onnx(folder / "FastSAM-s.onnx")


def _release_of_the_demo_model() -> None:
    """A server in this process, with the demo checkpoint in place of the published weights."""
    from fastsam_deploy.runtime.weights import published
    from tests.web_server import release_on_this_machine

    content = MODEL.with_suffix(".pt").read_bytes()
    release = release_on_this_machine()
    served = release.__enter__()
    served.files["FastSAM-s.pt"] = content
    digest = hashlib.sha256(content).hexdigest()
    published.PUBLISHED["FastSAM-s"] = published.PublishedWeights("FastSAM-s", len(content), digest)
    published.RELEASE = served.url
    os.environ["no_proxy"] = "127.0.0.1"
    _KEPT.append(release)


def _stand_in_for_tensorrt() -> None:
    """TensorRT as the tests have it, for as long as the process lives."""
    import pytest

    from tests.emulator.tensorrt.fixtures import APIS, _world

    world = _world(max(name for name in APIS if name.startswith("1")), pytest.MonkeyPatch())
    next(world)
    _KEPT.append(world)


_KEPT: list[Any] = []

_SMALL = ("--imgsz", "64", "--threads", "1")

COMMANDS = {
    command.name: command
    for command in (
        WritingCommand(
            "segment",
            ("segment", "photos", "-o", "out", "--masks", "--cutouts", "--json", "out.jsonl", "--imgsz", "160"),
            lambda folder: (_pictures(folder / "out"), _lines(folder / "out.jsonl", 2))[0],
            ("out.jsonl", "out"),
            grows=("out.jsonl",),
        ),
        *(
            WritingCommand(
                f"segment --format {form}",
                ("segment", "photos", "-o", form, "--format", form, "--save", "overlay,crops", "--imgsz", "160"),
                lambda folder, form=form: _data_set(folder / form),  # type: ignore[misc]
                (f"{form}/{last}",),
            )
            for form, last in (("coco", "annotations.json"), ("yolo", "data.yaml"), ("csv", "segments.csv"))
        ),
        WritingCommand(
            "video",
            ("video", "clip.avi", "-o", "v.mp4", "--json", "v.jsonl", *_SMALL),
            lambda folder: (_video(folder / "v.mp4"), _lines(folder / "v.jsonl", FRAMES))[0],
            ("v.mp4", "v.jsonl"),
            grows=("v.jsonl",),
        ),
        WritingCommand(
            "bench speed",
            ("bench", "speed", "photos", "--json", "speed.json", "--runs", "1", "--warmup", "0", *_SMALL),
            lambda folder: _json(folder / "speed.json"),
            ("speed.json",),
        ),
        WritingCommand(
            "bench fidelity",
            ("bench", "fidelity", "a=m.onnx", "b=m.onnx", "-i", "photos", "-o", "report", "--json", "f.json", *_SMALL),
            lambda folder: (_report(folder / "report"), _json(folder / "f.json"))[0],
            ("report/report.json", "report/report.md", "f.json"),
        ),
        WritingCommand(
            "tune",
            (
                *("tune", "m.onnx", "--images", "photos", "--output", "tuning", "--imgsz", "64", "--min-mean-iou", "0"),
                *("--engine", "onnxruntime", "--no-int8", "--runs", "1"),
            ),
            lambda folder: (_report(folder / "tuning/fidelity"), _tuning(folder))[0],
            ("m.tuned.json", "tuning/tune.json", "tuning/tune.md"),
        ),
        WritingCommand(
            "download",
            ("download", "FastSAM-s", "--folder", "weights", "--imgsz", "64"),
            lambda folder: _weights(folder / "weights"),
            ("weights/FastSAM-s.pt", "weights/FastSAM-s.onnx"),
            start=_release_of_the_demo_model,
        ),
        WritingCommand(
            "triton",
            ("triton", "m.onnx", "-o", "repository"),
            lambda folder: _repository(folder / "repository", ("1",)),
            ("repository/fastsam/config.pbtxt",),
            export=True,
        ),
        WritingCommand(
            "triton --add-version",
            ("triton", "m.onnx", "-o", "versions", "--add-version"),
            lambda folder: _repository(folder / "versions", tuple(map(str, range(1, 10_000)))),
            ("versions/fastsam/config.pbtxt",),
            export=True,
        ),
        WritingCommand(
            "quantize",
            (
                *("quantize", "m.onnx", "--calibration", "calibration", "-o", "int8.onnx", "--imgsz", "64"),
                *("--images", "2", "--min-iou", "0", "--min-recall", "0", "--full", "--target", "cpu"),
            ),
            lambda folder: _onnx(folder / "int8.onnx"),
            ("int8.onnx",),
            export=True,
        ),
        WritingCommand(
            "onnx",
            (
                *("onnx", "m.pt", "-o", "made.onnx", "--imgsz", "64", "--images", "photos", "--no-simplify"),
                *("--exporter", "torchscript", "--opset", "17"),
            ),
            lambda folder: _onnx(folder / "made.onnx"),
            ("made.onnx",),
            export=True,
        ),
        WritingCommand(
            "onnx --direct",
            ("onnx", "m.pt", "-o", "made.onnx", "--imgsz", "64", "--direct"),
            lambda folder: _onnx(folder / "made.onnx"),
            ("made.onnx",),
            export=True,
        ),
        WritingCommand(
            "clip",
            ("clip", "small-clip", "-o", "clip", "--images", "photos"),
            lambda folder: _clip(folder / "clip"),
            ("clip/clip.json",),
            export=True,
        ),
        WritingCommand(
            "engine",
            ("engine", "m.onnx", "-o", "made.plan", "--shapes", ",".join(["1x96x128"] * 3), "--images", "photos"),
            lambda folder: _plan(folder / "made.plan"),
            ("made.plan", "made.json"),
            export=True,
            start=_stand_in_for_tensorrt,
        ),
    )
}


def prepare_for(command: WritingCommand, folder: Path) -> None:
    """What this command needs beside the inputs of all."""
    if command.name == "triton --add-version":
        from fastsam_deploy.export.triton.to_triton import build_repository

        build_repository(folder / "m.onnx", folder / "versions")
    if command.name == "clip":
        _save_small_clip(folder / "small-clip")


def _save_small_clip(folder: Path) -> None:
    """A small model with random weights, as open_clip saves it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    layers = {"layers": 2, "width": 64}
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "head_width": 32, **layers},
        "text_cfg": {"context_length": 20, "heads": 2, **layers},
    }
    torch.manual_seed(1)
    model = open_clip.CLIP(**config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(std=1.3 * weight[0].numel() ** -0.5)
        model.logit_scale.fill_(3.9)
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
