"""Pre-annotations for Label Studio: a JSON file of tasks, to import into a project and to correct there.

    python examples/recipes/label_studio.py photos --prefix "/data/local-files/?d=photos/" --output tasks.json

The labelling interface of the project:

    <View>
      <Image name="image" value="$image"/>
      <BrushLabels name="tag" toName="image"><Label value="object"/></BrushLabels>
    </View>
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy import FastSAM, Segments


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """A mask as the bytes of Label Studio's brush: RGBA of each pixel, run-length encoded as in the package rle-pack.

    Bits, highest first: 32 for the number of values, 5 for the bits of a value - 1, four times 4 for the bits of the
    four kinds of lengths - 1; then, for each run, 1 for a run or 0 for single values, 2 for the kind of length, the
    length - 1, and the value.
    """
    flat = np.repeat(mask.ravel(), 4)
    changes = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], changes])
    lengths = np.diff(np.concatenate([starts, [len(flat)]]))
    sizes = (4, 8, 12, 16)
    bits = [f"{len(flat):032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in sizes)]
    longest = 1 << sizes[-1]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if flat[start] else "00000000"
        for part in [longest] * (length // longest) + [length % longest] * (length % longest > 0):
            kind = next(k for k, size in enumerate(sizes) if part <= 1 << size)
            bits.append(f"1{kind:02b}{part - 1:0{sizes[kind]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def task(image: str, segments: Segments, model_version: str = "fastsam") -> dict[str, Any]:
    """A task with a prediction.

    Args:
        image: address or path, as Label Studio is to load it.
        segments: of the image.
        model_version: shown beside the prediction.
    """
    height, width = segments.image_hw
    results = [
        {
            "id": f"s{i}",
            "type": "brushlabels",
            "from_name": "tag",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": round(float(segments.scores[i]), 4),
            "value": {
                "format": "rle",
                "rle": brush_rle(mask),
                "brushlabels": [segments.class_names[int(segments.classes[i])]],
            },
        }
        for i, mask in enumerate(segments.masks)
    ]
    score = float(segments.scores.mean()) if len(segments) else 0.0
    prediction = {"model_version": model_version, "score": round(score, 4), "result": results}
    return {"data": {"image": image}, "predictions": [prediction]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write pre-annotations for Label Studio.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="/data/local-files/?d=", help="before the name of an image")
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--output", type=Path, default=Path("tasks.json"))
    given = parser.parse_args()
    paths = sorted(path for path in given.folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    with FastSAM(given.model) as model:
        stream = zip(paths, model.segment_stream(paths), strict=True)
        tasks = [task(given.prefix + path.name, item.result()) for path, item in stream]
    given.output.write_text(json.dumps(tasks), encoding="utf-8")
    print(f"{len(tasks)} tasks → {given.output}")


if __name__ == "__main__":
    main()
