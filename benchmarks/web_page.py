"""How fast the web page is: the time on the server from a click to its answer, and how long the page takes to load.

    python -m benchmarks.web_page

Needs the extra [app], Chromium and playwright. The photograph is a shipped one, made larger; clicks are on a grid over
it. Writes results/web_page.json and .md.
"""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timezone
from importlib.metadata import version
from io import BytesIO
from time import perf_counter, process_time
from typing import Any

import numpy as np
from PIL import Image

from fastsam_deploy.runtime.app.application import Application
from fastsam_deploy.runtime.app.models import SizedModel
from fastsam_deploy.runtime.app.serve import served
from fastsam_deploy.runtime.opening import ModelSettings
from fastsam_deploy.runtime.stages.isolated import IsolatedLoader
from fastsam_deploy.runtime.system.cpu import usable_cpus

from .photographs import RESULTS, ROOT, processor, write_report
from .suite.machine import demo_model

PHOTO, SIZE_WH = ROOT / "examples/images/cat.jpg", (2000, 1500)
GRID_WH = 10, 7
LOADS = 9
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
ARGUMENTS += ["--no-first-run", "--disable-component-update", "--disable-sync"]


def main() -> None:
    """Measure and write."""
    with SizedModel(None, ModelSettings()) as model, IsolatedLoader() as loader:
        report = {
            "environment": environment(model),
            "clicks": clicks(Application(model, loader)),
            "page": loads(model),
        }
    write_report(RESULTS, "web_page", report, summary(report))


def environment(model: SizedModel) -> dict[str, Any]:
    """Machine and versions."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "processors": usable_cpus(),
        "load_average": round(os.getloadavg()[0], 1),
        "gradio": version("gradio"),
        "onnxruntime": version("onnxruntime"),
        "demo_model": demo_model(),
        "model": model.usual.description.get("file"),
        "imgsz": model.usual.imgsz,
        "image_wh": list(SIZE_WH),
    }


def clicks(application: Application) -> dict[str, Any]:
    """Time on the server for a click on each point of a grid, and for a second click beside the first."""
    content = BytesIO()
    Image.open(PHOTO).resize(SIZE_WH, Image.Resampling.BICUBIC).save(content, "JPEG", quality=92)
    list(application.open("user", PHOTO.name, content.getvalue()))
    image = application.sessions.of("user").image
    assert image is not None
    wall, cpu = [], []
    for x, y in grid():
        for point in ([x, y], [x + 20, y + 20]):
            start = process_time()
            view = application.act("user", {"point": point})
            if view.layer:  # something is there
                cpu.append((process_time() - start) * 1000)
                wall.append(view.answer_ms)
        application.act("user", {"clear": True})
    segments, network_ms = len(image.everything), round(image.network_ms, 1)
    return {"segments": segments, "network_ms": network_ms, "answer_ms": spread(wall), "answer_cpu_ms": spread(cpu)}


def grid() -> list[list[float]]:
    """x and y of the points, pixels of the image."""
    (width, height), (columns, rows) = SIZE_WH, GRID_WH
    return [[(i + 0.5) * width / columns, (j + 0.5) * height / rows] for j in range(rows) for i in range(columns)]


def loads(model: SizedModel) -> dict[str, Any]:
    """Time until the canvas can be used, in a browser that has never seen the page, and in one that has."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    first: list[float] = []
    again: list[float] = []
    with served(model) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, headless=True, args=ARGUMENTS)
        for _ in range(LOADS):
            context = browser.new_context()
            page = context.new_page()
            for times in (first, again):
                start = perf_counter()
                page.goto(url)
                page.wait_for_selector("#fastsam-canvas .welcome")
                times.append((perf_counter() - start) * 1000)
            context.close()
        chromium_version = browser.version
        browser.close()
    return {"chromium": chromium_version, "first_ms": spread(first), "again_ms": spread(again)}


def spread(values_ms: list[float]) -> dict[str, float]:
    """Count, and percentiles."""
    least, median, p90, most = np.percentile(values_ms, (0, 50, 90, 100)).round(1).tolist()
    return {"n": len(values_ms), "least": least, "median": median, "p90": p90, "most": most}


def summary(report: dict[str, Any]) -> str:
    """The figures of docs/app.md."""
    where, asked, page = report["environment"], report["clicks"], report["page"]
    width, height = where["image_wh"]
    rows = {
        "a click, on the server": asked["answer_ms"],
        "time of processors for it": asked["answer_cpu_ms"],
        "the page, in a browser that sees it for the first time": page["first_ms"],
        "the page, in a browser that has seen it": page["again_ms"],
    }
    lines = ["| | least | median | 90th percentile |", "|---|---|---|---|"]
    for name, times in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{times[key]:.0f} ms' for key in ('least', 'median', 'p90'))} |")
    counted = f"{asked['answer_ms']['n']} clicks on objects in a photograph of {width} × {height} pixels"
    machine = f"{where['cpu']}, {where['processors']} processors, busy with other work"
    lines += [
        "",
        f"{counted} with {asked['segments']} segments of the demo model,",
        f"from the action to the picture over the image; {page['first_ms']['n']} loads, until the page can be used.",
        f"{machine} (load average {where['load_average']:.0f}), so that the least is",
        f"closer to a machine at rest. Gradio {where['gradio']}, Chromium {page['chromium'].partition('.')[0]}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
