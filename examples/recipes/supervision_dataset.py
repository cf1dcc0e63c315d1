"""A data set of supervision from a folder of images, through a COCO file; needs the extra [supervision].

    python examples/recipes/supervision_dataset.py photos --output coco.json

From there on, supervision splits, merges, filters and draws it. Masks are run-length encoded: supervision's own
`as_coco` makes polygons, and refuses some masks with holes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import supervision

from fastsam_deploy import FastSAM


def dataset(model: FastSAM, paths: list[Path], coco: Path) -> supervision.DetectionDataset:
    """Segment images of one folder, write a COCO file, and read it as a data set.

    Args:
        model: open.
        paths: of the images.
        coco: file to write.
    """
    images, annotations = [], []
    for number, (path, item) in enumerate(zip(paths, model.segment_stream(paths), strict=True)):
        segments = item.result()
        height, width = segments.image_hw
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        annotations += segments.to_coco(image_id=number, first_id=len(annotations) + 1)
    categories = [{"id": number, "name": name} for number, name in enumerate(model.spec.class_names, 1)]
    document = {"images": images, "categories": categories, "annotations": annotations}
    coco.write_text(json.dumps(document), encoding="utf-8")
    return supervision.DetectionDataset.from_coco(str(paths[0].parent), str(coco), force_masks=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make a data set of a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--output", type=Path, default=Path("coco.json"))
    given = parser.parse_args()
    paths = sorted(path for path in given.folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    with FastSAM(given.model) as model:
        made = dataset(model, paths, given.output)
    train, test = made.split(split_ratio=0.8, random_state=0)
    print(f"{len(made)} images ({len(train)} for training, {len(test)} for testing) → {given.output}")


if __name__ == "__main__":
    main()
