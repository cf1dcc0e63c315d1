"""Runs `examples/quickstart.ipynb` and writes its outputs into it.

    python scripts/dev/make_notebook.py

Needs the extras [cpu,dev]. Edit the text and the code in the notebook itself, then run this. Pictures are stored as
JPEG files of at most 480 px, so that the notebook stays small; a cell has their alternative text as `alt` in its
metadata. `tests/scripts/test_make_notebook.py` runs the notebook in the same way, and compares the text of the outputs
with what is committed.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

from fastsam_deploy.runtime.system.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples/quickstart.ipynb"
SIDE_PX = 480
INLINE_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


def jpeg(png_base64: str) -> str:
    """A PNG file as a small JPEG file, both in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png_base64))).convert("RGB")
    picture.thumbnail((SIDE_PX, SIDE_PX))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return base64.b64encode(content.getvalue()).decode()


def shrink(data: dict[str, Any]) -> None:
    """Replace the pictures of one output by small ones; a picture that stands in the HTML is not kept twice."""
    png = data.pop("image/png", None)
    if "text/html" in data:
        data["text/html"] = INLINE_PNG.sub(
            lambda match: f"data:image/jpeg;base64,{jpeg(match[1])}", "".join(data["text/html"])
        )
    elif png is not None:
        data.pop("image/jpeg", None)
        data["image/jpeg"] = jpeg(png)


def describe(output: Any, text: str | None) -> None:
    """Give a picture the text for those who do not see it, which the cell has as `alt` in its metadata."""
    if text is not None and "image/jpeg" in output.get("data", {}):
        output.metadata["image/jpeg"] = {"alt": text}


def executed(source: Path, folder: Path) -> Any:
    """The notebook with the outputs of a run in a copy of what it reads.

    Args:
        source: a notebook file.
        folder: an empty folder, where the notebook runs and writes.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    for name in ("examples", "models"):
        shutil.copytree(ROOT / name, folder / name)
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder / "examples")}},
        record_timing=False,
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shrink(output.get("data", {}))
            describe(output, cell.metadata.get("alt"))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Run the command."""
    with tempfile.TemporaryDirectory() as folder:
        content = nbformat.writes(executed(NOTEBOOK, Path(folder))) + "\n"
    write_atomically(NOTEBOOK, content.encode())
    print(f"written: {NOTEBOOK}, {len(content) / 1024:.0f} KiB")


if __name__ == "__main__":
    sys.exit(main())
