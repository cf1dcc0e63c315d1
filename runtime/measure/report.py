"""Report of a fidelity run: a table, JSON, and pictures of the worst images."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .. import __version__
from ..batch.outputs import OutputFolder
from ..render import save_image
from ..stages.image import load_image
from ..system.atomic import write_atomically
from .fidelity import IOUS, Fidelity, ImageFidelity
from .findings import failures
from .gate import Contender, FidelityLimits, Result
from .pictures import draw_comparison

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Report:
    """Everything about one run.

    Attributes:
        reference: what the candidates were compared with.
        results: one for each candidate.
        paths: the images.
        settings: settings that all models share, such as thresholds; plain JSON values.
        limits: those that the candidates had to meet.

    Example:
        >>> report = Report(reference, measure(reference, [candidate], paths), paths, {}, limits)  # doctest: +SKIP
        >>> report.write(Path("fidelity"))  # doctest: +SKIP
    """

    reference: Contender
    results: Sequence[Result]
    paths: Sequence[Path]
    settings: Mapping[str, Any]
    limits: FidelityLimits

    @property
    def passed(self) -> bool:
        """Whether every candidate met every limit."""
        return all(result.passed for result in self.results)

    def failures(self) -> list[str]:
        """A line for each limit that was not met."""
        return [f"{r.candidate.name}: {failure}" for r in self.results for failure in failures(r.findings)]

    def to_json(self, pictures: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Plain JSON values; NaN and infinity become null.

        Args:
            pictures: name of a candidate → paths of the pictures of its worst images.
        """
        pictures = pictures or {}
        report = {
            "passed": self.passed,
            "environment": environment(),
            "settings": dict(self.settings),
            "limits": asdict(self.limits),
            "images": [str(path) for path in self.paths],
            "reference": _contender(self.reference),
            "candidates": [self._candidate(result, pictures.get(result.candidate.name, ())) for result in self.results],
        }
        plain: dict[str, Any] = _without_nan(report)
        return plain

    def _candidate(self, result: Result, pictures: Sequence[str]) -> dict[str, Any]:
        names = [*pictures, *[None] * (len(result.worst) - len(pictures))]
        return {
            **_contender(result.candidate),
            "passed": result.passed,
            "checks": [finding.to_json() for finding in result.findings],
            "notes": list(result.notes),
            "fidelity": figures(result.fidelity),
            "images": [
                {"path": str(path), **_image_figures(image)}
                for path, image in zip(self.paths, result.fidelity.images, strict=True)
            ],
            "worst": [
                {"path": str(sample.path), "quality": sample.compared.quality, "picture": name}
                for sample, name in zip(result.worst, names, strict=True)
            ],
        }

    def rows(self) -> list[tuple[str, list[str]]]:
        """Rows of the table: the quantity, and a text for each candidate."""
        measured = [result.fidelity for result in self.results]
        table = [
            ("runs on", [_runs_on(result.candidate) for result in self.results]),
            ("detections / reference", [f"{f.candidate_count} / {f.reference_count}" for f in measured]),
            ("matched", [str(f.matched_count) for f in measured]),
        ]
        for iou in IOUS:
            shares = [f"{_number(f.recall(iou))} / {_number(f.precision(iou))}" for f in measured]
            table.append((f"recall / precision, {iou:g}", shares))
        pairs = {
            "mask IoU, mean / least": ("mean_iou", "min_iou"),
            "boundary F, mean / least": ("mean_boundary_f", "min_boundary_f"),
            "box px off, mean / most": ("mean_box_px", "max_box_px"),
            "score off, mean / most": ("mean_score", "max_score"),
            "top score missed / extra": ("max_missed_score", "max_extra_score"),
        }
        for quantity, (first, second) in pairs.items():
            values = [f"{_number(getattr(f, first))} / {_number(getattr(f, second))}" for f in measured]
            table.append((quantity, values))
        table.append(("panoptic quality", [_number(f.quality) for f in measured]))
        table.append(("gate", [_verdict(result) for result in self.results]))
        return table

    def markdown(self, pictures: Mapping[str, Sequence[str]] | None = None) -> str:
        """The report as Markdown: the table, the limits that were not met, the notes, and the worst images."""
        names = [_cell(result.candidate.name) for result in self.results]
        lines = [
            f"# Fidelity: {'passed' if self.passed else 'FAILED'}",
            "",
            f"{_images(self.paths)}; the reference is `{self.reference.source}`, {_runs_on(self.reference)}.",
            "",
            f"| | {' | '.join(names)} |",
            f"|---|{'---|' * len(names)}",
            *(f"| {quantity} | {' | '.join(map(_cell, values))} |" for quantity, values in self.rows()),
            "",
        ]
        lines += [f"- limit not met — {line}" for line in self.failures()]
        lines += [f"- note — {result.candidate.name}: {note}" for result in self.results for note in result.notes]
        for result in self.results:
            shown = (pictures or {}).get(result.candidate.name, ())
            if shown:
                lines += ["", f"## Worst images of {result.candidate.name}"]
            for sample, picture in zip(result.worst, shown, strict=bool(shown)):
                lines += ["", f"`{sample.path}`, quality {sample.compared.quality:.4f}", "", f"![]({picture})"]
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items() if value is not None)
        tools = ", ".join(f"{name} {value}" for name, value in environment().items())
        return "\n".join([*lines, "", f"{settings}. {tools}."]) + "\n"

    def table(self) -> Table:
        """The table for a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"Fidelity to {self.reference.name}, {_images(self.paths)}", title_justify="left")
        table.add_column("")
        for result in self.results:
            table.add_column(Text(result.candidate.name), justify="right")
        for quantity, values in self.rows():
            styles = ["" if quantity != "gate" else "green" if r.passed else "bold red" for r in self.results]
            table.add_row(quantity, *(Text(value, style) for value, style in zip(values, styles, strict=True)))
        return table

    def write(self, folder: Path) -> None:
        """Write report.json, report.md and worst/NAME/000.png … to a folder, each file whole or not at all.

        Raises:
            FastSamError: a file cannot be written, or an image would be overwritten.
        """
        output = OutputFolder(folder, self.paths)
        pictures = {result.candidate.name: self._draw(result, output) for result in self.results}
        written = json.dumps(self.to_json(pictures), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(output.file(Path("report"), ".json"), written.encode())
        write_atomically(output.file(Path("report"), ".md"), self.markdown(pictures).encode())

    def _draw(self, result: Result, output: OutputFolder) -> list[str]:
        """Draw the worst images; the paths of the pictures, relative to the folder."""
        name = Path("worst") / folder_name(result.candidate.name)
        if not result.worst and not (output.folder / name).exists():
            return []
        paths = output.numbered(name, "", len(result.worst))
        for path, sample in zip(paths, result.worst, strict=True):
            answers = (sample.reference, sample.candidate, sample.compared)
            names = (self.reference.name, result.candidate.name)
            save_image(path, draw_comparison(load_image(sample.path), *answers, names))
        return [path.relative_to(output.folder).as_posix() for path in paths]


def figures(measured: Fidelity) -> dict[str, Any]:
    """All figures of a fidelity measurement, as plain values.

    Example:
        >>> figures(Fidelity(()))["recall"]
        {'0.5': 1.0, '0.75': 1.0, '0.9': 1.0}
    """
    return {
        "reference": measured.reference_count,
        "candidate": measured.candidate_count,
        "matched": measured.matched_count,
        "recall": {str(iou): measured.recall(iou) for iou in IOUS},
        "precision": {str(iou): measured.precision(iou) for iou in IOUS},
        "mask_iou": {"mean": measured.mean_iou, "least": measured.min_iou},
        "boundary_f": {"mean": measured.mean_boundary_f, "least": measured.min_boundary_f},
        "box_px": {"mean": measured.mean_box_px, "most": measured.max_box_px},
        "score": {"mean": measured.mean_score, "most": measured.max_score},
        "highest_score": {"missed": measured.max_missed_score, "extra": measured.max_extra_score},
        "quality": measured.quality,
    }


def environment() -> dict[str, str]:
    """Date, versions and machine. Versions of engines are in the descriptions of the contenders.

    Example:
        >>> environment()["numpy"] == np.__version__
        True
    """
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "fastsam-deploy": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def folder_name(name: str) -> str:
    """Turn the name of a candidate into the name of a folder.

    Example:
        >>> folder_name("model.onnx@engine=openvino")
        'model.onnx_engine_openvino'
    """
    return re.sub(r"[^\w.+-]+", "_", name).strip(".") or "_"


def _image_figures(image: ImageFidelity) -> dict[str, Any]:
    return {key: value for key, value in figures(Fidelity((image,))).items() if key not in ("recall", "precision")}


def _contender(contender: Contender) -> dict[str, Any]:
    return {"name": contender.name, "source": contender.source, "model": dict(contender.description)}


def _runs_on(contender: Contender) -> str:
    values = (contender.description.get(key) for key in ("engine", "precision", "device"))
    return ", ".join(str(value) for value in values if value)


def _verdict(result: Result) -> str:
    failed = len(failures(result.findings))
    if not result.findings:
        return "no limits"
    return f"{failed} of {len(result.findings)} limits not met" if failed else "passed"


def _images(paths: Sequence[Path]) -> str:
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'}"


def _number(value: float) -> str:
    """Four decimals, or six for a value that would otherwise look like 1."""
    if math.isnan(value):
        return "–"
    text = f"{value:.4f}"
    return f"{value:.6f}" if text == "1.0000" and value != 1 else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
