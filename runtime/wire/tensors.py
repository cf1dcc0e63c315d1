"""The tensors of the Triton models `fastsam` and `fastsam_device`: names, dtypes and shapes, stated once.

Clients, servers and the configurations that `fastsam-export triton` writes all use these definitions.

Inputs, for b images in a request:

| name          | dtype | shape        |                                                                         |
|---------------|-------|--------------|-------------------------------------------------------------------------|
| IMAGE         | BYTES | (b, 1)       | an image file: JPEG, PNG, WebP, …; also as base64 or a data: URL        |
| PIXELS        | UINT8 | (b, h, w, 3) | instead of IMAGE: RGB                                                   |
| PROMPT        | BYTES | (b, 1)       | optional: prompts and settings as JSON text (`question.py`)             |

`{"prompts": [{"points": [[320, 180]], "labels": [1], "mode": "each"}, {"boxes": [[10, 20, 110, 120]]}],
"conf": 0.4, "iou": 0.9, "max_det": 300, "masks": "rle"}` is an example of PROMPT. Each key is optional. Coordinates are
pixels of the image, boxes are xyxy. The server batches only requests that have the same inputs: a client that sends
PROMPT in some requests should send `{}` in the others.

Outputs, where n is the largest number of segments of any of the b images; the rows after an image's COUNT are zero:

| name          | dtype | shape        |                                                                         |
|---------------|-------|--------------|-------------------------------------------------------------------------|
| COUNT         | INT32 | (b, 1)       | number of segments of the image                                         |
| IMAGE_SIZE    | INT32 | (b, 2)       | h, w of the image after its EXIF orientation is applied                 |
| BOXES         | FP32  | (b, n, 4)    | x1, y1, x2, y2                                                          |
| SCORES        | FP32  | (b, n)       |                                                                         |
| CLASSES       | INT32 | (b, n)       |                                                                         |
| AREAS         | INT32 | (b, n)       | number of pixels of the mask                                            |
| PROMPTS       | INT32 | (b, n)       | number of the prompt that the segment answers, -1 without a prompt      |
| FITS          | FP32  | (b, n)       | how well it fits the prompt, -1 without a prompt (JSON has no NaN)      |
| PROBABILITIES | FP32  | (b, n)       | probability that a text prompt derives from the fit, -1 without one     |
| CROPS         | INT32 | (b, n, 4)    | x, y, w, h of the mask's crop                                           |
| MASKS         | BYTES | (b, n)       | "rle": `counts` of COCO's compressed RLE, whose size is IMAGE_SIZE;     |
|               |       |              | "bits": the crop's pixels row by row, 8 to a byte, highest bit first;   |
|               |       |              | "none": empty                                                           |
"""

from __future__ import annotations

from ..network import TensorInfo

IMAGE, PIXELS, PROMPT = "IMAGE", "PIXELS", "PROMPT"
IMAGE_SIZE = "IMAGE_SIZE"

QUESTION = (
    TensorInfo(IMAGE, "bytes", (None, 1)),
    TensorInfo(PIXELS, "uint8", (None, None, None, 3)),
    TensorInfo(PROMPT, "bytes", (None, 1)),
)
"""Inputs, each optional. A dimension that varies is None; the first is the batch."""

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
"""Outputs. A tensor whose second dimension varies has a row for each segment."""
