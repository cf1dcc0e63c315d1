"""The tensors of the Triton models `fastsam` and `fastsam_device`: names, dtypes and shapes, stated once.

Clients, servers and the configurations that `fastsam-export triton` writes take them from here.

Inputs, b images in a request:

| name          | dtype | shape        |                                                                         |
|---------------|-------|--------------|-------------------------------------------------------------------------|
| IMAGE         | BYTES | (b, 1)       | an image file: JPEG, PNG, WebP, …; or instead                           |
| PIXELS        | UINT8 | (b, h, w, 3) | RGB                                                                     |
| PROMPT        | BYTES | (b, 1)       | optional: JSON text, what is asked of the image (`question.py`)         |

`{"prompts": [{"points": [[320, 180]], "labels": [1], "mode": "each"}, {"boxes": [[10, 20, 110, 120]]}],
"conf": 0.4, "iou": 0.9, "max_det": 300, "masks": "rle"}` — every key may be left out; pixels of the image, xyxy.
Requests share a batch only with those that carry the same inputs: who sends PROMPT at times sends `{}` at others.

Outputs, n the largest count of segments among the b images; rows of an image past its count are zero:

| name          | dtype | shape        |                                                                         |
|---------------|-------|--------------|-------------------------------------------------------------------------|
| COUNT         | INT32 | (b, 1)       | segments of the image                                                   |
| IMAGE_SIZE    | INT32 | (b, 2)       | h, w of the image, turned upright                                       |
| BOXES         | FP32  | (b, n, 4)    | x1, y1, x2, y2                                                          |
| SCORES        | FP32  | (b, n)       |                                                                         |
| CLASSES       | INT32 | (b, n)       |                                                                         |
| AREAS         | INT32 | (b, n)       | pixels of the mask                                                      |
| PROMPTS       | INT32 | (b, n)       | number of the prompt that the segment answers, -1 where none was asked  |
| FITS          | FP32  | (b, n)       | how well it fits the prompt, -1 where none was asked (JSON has no NaN)  |
| PROBABILITIES | FP32  | (b, n)       | what a text prompt makes of its fit, -1 where none was asked            |
| CROPS         | INT32 | (b, n, 4)    | x, y, w, h of the mask's crop                                           |
| MASKS         | BYTES | (b, n)       | "rle": `counts` of COCO's compressed RLE, its size being IMAGE_SIZE;    |
|               |       |              | "bits": the crop's pixels row by row, 8 to a byte, highest bit first;   |
|               |       |              | "none": nothing                                                         |
"""

from __future__ import annotations

from ..spec import TensorInfo

IMAGE, PIXELS, PROMPT = "IMAGE", "PIXELS", "PROMPT"
IMAGE_SIZE = "IMAGE_SIZE"

QUESTION = (
    TensorInfo(IMAGE, "bytes", (None, 1)),
    TensorInfo(PIXELS, "uint8", (None, None, None, 3)),
    TensorInfo(PROMPT, "bytes", (None, 1)),
)
"""Inputs, each of which may be left out; what varies is None, the batch first."""

ANSWER = (
    TensorInfo("COUNT", "int32", (None, 1)),
    TensorInfo(IMAGE_SIZE, "int32", (None, 2)),
    TensorInfo("BOXES", "float32", (None, None, 4)),
    TensorInfo("SCORES", "float32", (None, None)),
    TensorInfo("CLASSES", "int32", (None, None)),
    TensorInfo("AREAS", "int32", (None, None)),
    TensorInfo("PROMPTS", "int32", (None, None)),
    TensorInfo("FITS", "float32", (None, None)),
    TensorInfo("PROBABILITIES", "float32", (None, None)),
    TensorInfo("CROPS", "int32", (None, None, 4)),
    TensorInfo("MASKS", "bytes", (None, None)),
)
"""Outputs; where the second dimension varies, a tensor has a row for each segment."""
