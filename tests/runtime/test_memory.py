"""Memory: flat over many runs, and far from n x h x w."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime.cuda.tables import Tables
from fastsam_deploy.runtime.stages.assemble import assemble
from fastsam_deploy.runtime.stages.letterbox import fit

RUNS = """
import gc, sys
from fastsam_deploy.runtime import Boxes, FastSAM, Points, load_image

def resident_mb():
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4096 / 1e6

image = load_image(sys.argv[1])
with FastSAM(imgsz=320, conf=0.1) as model:
    def run(times):
        for i in range(times):
            found = model.segment(image[: 300 + i % 7, : 400 + i % 5])
            found.select([Points([[50, 50]], mode="all"), Boxes([0, 0, 200, 200])]).masks.rle()
    run(30)
    before = resident_mb()
    run(150)
    print(resident_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use from Linux's /proc")
def test_many_runs_do_not_grow(coffee):
    """Memory that grows: CASIA#178, #182."""
    done = subprocess.run([sys.executable, "-c", RUNS, str(coffee)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 15, "MB more after 150 more runs"


def test_300_masks_of_24_megapixels_stay_small():
    """16 GB spikes, out of memory with retina masks: ul#17668, ul#14241. Dense they are 7.2 GB."""
    image_hw = (4000, 6000)
    place = fit(image_hw, (1024, 1024))
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (5600, 3600), (300, 2))
    boxes = np.concatenate([corners, corners + 400], 1).astype(np.float32)
    prototypes = rng.standard_normal((32, 256, 256)).astype(np.float32)
    coefficients = rng.standard_normal((300, 32)).astype(np.float32)
    tracemalloc.start()
    try:
        masks = assemble(coefficients, prototypes, boxes, place)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(masks) == 300 and masks.areas.all()
    assert peak < 100e6, "48 MB are the bitmaps"


@pytest.mark.parametrize("image_hw", [(1_000_000, 1), (1, 1_000_000)], ids=["tall", "wide"])
def test_a_strip_of_a_million_pixels_takes_no_more_than_a_photograph(image_hw: tuple[int, int]):
    """A PNG of 1 KB made 671 MB: a row of all prototypes for each pixel of the side."""
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((32, 256, 256)).astype(np.float32)
    coefficients = rng.standard_normal((3, 32)).astype(np.float32)
    boxes = np.array([[0, 0, *image_hw[::-1]]] * 3, np.float32)
    place = fit(image_hw, (1024, 1024))
    tracemalloc.start()
    try:
        masks = assemble(coefficients, prototypes, boxes, place)
        tables = Tables.of(place, (256, 256))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert masks.areas.all() and len(tables.part("mask_rows")) == image_hw[0]
    assert peak < 150e6, "a photograph of 3 megapixels takes 40 MB"


def test_an_answer_does_not_keep_all_masks_in_memory():
    place = fit((1000, 1000), (256, 256))
    boxes = np.array([[0, 0, 1000, 1000]] * 9 + [[0, 0, 10, 10]], np.float32)
    masks = assemble(np.ones((10, 1), np.float32), np.ones((1, 64, 64), np.float32), boxes, place)
    one = masks[[9]]
    assert sum(crop.nbytes if crop.base is None else crop.base.nbytes for crop in one.crops) <= 100
