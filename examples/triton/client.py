"""Segments images on a Triton server over gRPC; prints the segments and writes the best one's mask as a PNG.

    pip install 'tritonclient[grpc]' numpy pillow pycocotools
    python client.py localhost:8001 photo.jpg --prompt '{"prompts": [{"points": [[285, 150]]}]}'
    python client.py localhost:8001 photos/*.jpg       # several are asked at the same time

MODEL=fastsam_device in the environment asks the other model.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from PIL import Image
from pycocotools import mask as coco

MODEL = os.environ.get("MODEL", "fastsam")
TIMEOUT_S = 120
# The server lets 128 requests wait and refuses more (UNAVAILABLE); far fewer keep it busy.
AT_ONCE = 16
ERRORS = (triton.InferenceServerException, OSError)


def inputs_of(path: Path, prompt: str) -> list[triton.InferInput]:
    """The file goes as it is, the server decodes it. One image and its prompt: shape (1, 1) each."""
    inputs = []
    for name, content in (("IMAGE", path.read_bytes()), ("PROMPT", prompt.encode())):
        tensor = triton.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[content]], np.object_))
        inputs.append(tensor)
    return inputs


def segment(url: str, path: Path, prompt: str) -> triton.InferResult:
    """One image."""
    with triton.InferenceServerClient(url) as client:
        return client.infer(MODEL, inputs_of(path, prompt), client_timeout=TIMEOUT_S)


async def segment_many(url: str, paths: list[Path], prompt: str) -> int:
    """Many images, a request each, AT_ONCE at the same time; one that fails leaves the others alone. The exit code."""
    free = asyncio.Semaphore(AT_ONCE)
    async with triton_aio.InferenceServerClient(url) as client:

        async def one(path: Path) -> int:
            async with free:
                try:
                    show(path, await client.infer(MODEL, inputs_of(path, prompt), client_timeout=TIMEOUT_S))
                except ERRORS as error:
                    return fail(path, error)
            return 0

        return max(await asyncio.gather(*map(one, paths)))


def show(path: Path, result: triton.InferResult) -> None:
    """Print the segments of a request's one image; write the mask of the highest score."""
    (count,), (height, width) = (result.as_numpy(name)[0].tolist() for name in ("COUNT", "IMAGE_SIZE"))
    boxes, scores, masks = (result.as_numpy(name)[0] for name in ("BOXES", "SCORES", "MASKS"))
    print(f"{path.name} {width}x{height}: {count} segments")
    for i, (score, box) in enumerate(zip(scores, boxes, strict=True)):
        print(f"{i:3}  {score:.3f}  " + " ".join(f"{side:7.1f}" for side in box))
    if count:
        best = int(scores.argmax())
        mask = coco.decode({"size": [height, width], "counts": masks[best]})  # (h, w) uint8, 0 and 1
        file = f"{path.stem}_mask.png"
        Image.fromarray(mask * 255).save(file)
        print(f"mask {best}: {np.count_nonzero(mask)} pixels, in {file}")


def fail(path: Path, error: Exception) -> int:
    print(f"client.py: {path}: {error}", file=sys.stderr)
    return 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="host:port of the server's gRPC")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--prompt", default="{}", help="JSON text")
    args = parser.parse_args()
    if len(args.images) > 1:
        return asyncio.run(segment_many(args.url, args.images, args.prompt))
    try:
        show(args.images[0], segment(args.url, args.images[0], args.prompt))
    except ERRORS as error:
        return fail(args.images[0], error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
