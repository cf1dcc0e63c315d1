"""What travels between a client and the Triton models `fastsam` and `fastsam_device`. Both ends import this.

Inputs, b images in a request:

| name   | dtype | shape        |                                                                            |
|--------|-------|--------------|----------------------------------------------------------------------------|
| IMAGE  | BYTES | (b, 1)       | an image file: JPEG, PNG, WebP, …; or instead                              |
| PIXELS | UINT8 | (b, h, w, 3) | RGB                                                                        |
| PROMPT | BYTES | (b, 1)       | optional: JSON text, what is asked of the image (`Question`)               |

`{"prompts": [{"points": [[320, 180]], "labels": [1], "mode": "each"}, {"boxes": [[10, 20, 110, 120]]}],
"conf": 0.4, "iou": 0.9, "max_det": 300, "masks": "rle"}` — every key may be left out; pixels of the image, xyxy.
Requests share a batch only with those that carry the same inputs: who sends PROMPT at times sends `{}` at others.

Outputs, n the largest count of segments among the b images; rows of an image past its count are zero:

| name       | dtype | shape     |                                                                             |
|------------|-------|-----------|-----------------------------------------------------------------------------|
| COUNT      | INT32 | (b, 1)    | segments of the image                                                       |
| IMAGE_SIZE | INT32 | (b, 2)    | h, w of the image, turned upright                                           |
| BOXES      | FP32  | (b, n, 4) | x1, y1, x2, y2                                                              |
| SCORES     | FP32  | (b, n)    |                                                                             |
| CLASSES    | INT32 | (b, n)    |                                                                             |
| AREAS      | INT32 | (b, n)    | pixels of the mask                                                          |
| PROMPTS    | INT32 | (b, n)    | number of the prompt that the segment answers, -1 where none was asked      |
| FITS       | FP32  | (b, n)    | how well it fits the prompt, -1 where none was asked (JSON has no NaN)      |
| PROBABI-   | FP32  | (b, n)    | what a text prompt makes of its fit, -1 where none was asked                |
| LITIES     |       |           |                                                                             |
| CROPS      | INT32 | (b, n, 4) | x, y, w, h of the mask's crop                                               |
| MASKS      | BYTES | (b, n)    | "rle": `counts` of COCO's compressed RLE, its size being IMAGE_SIZE;        |
|            |       |           | "bits": the crop's pixels row by row, 8 to a byte, highest bit first;       |
|            |       |           | "none": nothing                                                             |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FastSamError, ImageError, ModelError, ParameterError, PromptError, ServerError
from .masks_store import Masks
from .postprocess import Thresholds
from .prompts import Boxes, Everything, Points
from .segments import NO_PROMPT, Prompt, Segments
from .text import Text

IMAGE, PIXELS, PROMPT = "IMAGE", "PIXELS", "PROMPT"
MASK_FORMATS = ("rle", "bits", "none")
_DTYPES: dict[str, type[np.generic]] = {
    "BOXES": np.float32,
    "SCORES": np.float32,
    "CLASSES": np.int32,
    "AREAS": np.int32,
    "PROMPTS": np.int32,
    "FITS": np.float32,
    "PROBABILITIES": np.float32,
    "CROPS": np.int32,
}
_NO_FIT = -1.0
_TEXT_KEYS = ("mode", "background", "resize", "max_masks", "min_area_px", "duplicate_iou", "truncate")
OUTPUTS = ("COUNT", "IMAGE_SIZE", *_DTYPES, "MASKS")

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """What one image of a request may ask for.

    Attributes:
        image_bytes: size of an image file.
        pixels: width x height.
        prompts: points, boxes and texts together; 4096 are the grid of 64 x 64 of FastSAM's paper.
        groups: objects in the list of prompts, each with its points or boxes: every one searches all masks.
        segments: rows of the answer; asking for everything a hundred times is little to send and much to answer.
        max_det: segments that the network may find.
    """

    image_bytes: int = 64_000_000
    pixels: int = 50_000_000
    prompts: int = 4096
    groups: int = 256
    segments: int = 8192
    max_det: int = 1000

    def check_bytes(self, content: bytes) -> bytes:
        """The file itself, or an ImageError."""
        if len(content) > self.image_bytes:
            raise ImageError(
                f"the image file has {len(content):,} bytes, the server takes {self.image_bytes:,}; make it smaller"
            )
        return content

    def check_pixels(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """The (h, w, 3) uint8 array itself, or an ImageError."""
        height, width = pixels.shape[:2]
        if height * width > self.pixels:
            raise ImageError(f"{PIXELS} is {width}×{height}, the server takes {self.pixels:,} pixels; make it smaller")
        return pixels


@dataclass(frozen=True)
class Question:
    """What is asked of one image.

    Attributes:
        prompts: none for everything; several are answered one after the other and joined.
        thresholds: what counts as found.
        masks: one of MASK_FORMATS.
    """

    prompts: tuple[Prompt, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    masks: str = "rle"

    def to_json(self) -> str:
        """The text for PROMPT.

        Raises:
            PromptError: a prompt is of a kind that cannot be sent (see `can_be_sent`).
        """
        asked: dict[str, Any] = {**asdict(self.thresholds), "masks": self.masks}
        if self.prompts:
            asked["prompts"] = [_prompt_to_json(prompt) for prompt in self.prompts]
        return json.dumps(asked)

    @property
    def looks_at_the_image(self) -> bool:
        """Whether a prompt needs its pixels."""
        return any(isinstance(prompt, Text) for prompt in self.prompts)

    @classmethod
    def from_json(cls, text: bytes | str, limits: Limits) -> Question:
        """Read PROMPT.

        Raises:
            PromptError: it is no JSON, has an unknown key, a prompt that is not of its shape, or too many.
            ParameterError: a threshold is out of its range or beyond the limits.
        """
        try:
            asked = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PromptError(
                f"{PROMPT}: {text[:80]!r} is no JSON ({error}); expected an object such as {{}}"
            ) from error
        settings = _known(asked, ("prompts", "conf", "iou", "max_det", "masks"), PROMPT)
        prompts = settings.pop("prompts", [])
        masks = settings.pop("masks", "rle")
        if masks not in MASK_FORMATS:
            raise ParameterError(f"{PROMPT}: masks is {masks!r:.80}, expected one of {', '.join(MASK_FORMATS)}")
        for name, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ParameterError(f"{PROMPT}: {name} is {value!r:.80}, expected a number")
        if not isinstance(prompts, list):
            raise PromptError(f"{PROMPT}: prompts is {prompts!r:.80}, expected a list of objects")
        _limit(prompts, limits)
        thresholds = Thresholds(**{"max_det": min(Thresholds().max_det, limits.max_det), **settings})
        if thresholds.max_det > limits.max_det:
            raise ParameterError(f"max_det is {thresholds.max_det}, the server gives at most {limits.max_det}")
        return cls(tuple(_prompt_from_json(found) for found in prompts), thresholds, masks)

    def select_from(self, segments: Segments, limits: Limits) -> Segments:
        """The answer, from everything in the image.

        Raises:
            PromptError: a prompt does not fit the image, or the answer is longer than the limits.
        """
        answer = segments.select(self.prompts) if self.prompts else segments
        if len(answer) > limits.segments:
            raise PromptError(
                f"the answer has {len(answer)} segments, the server gives at most {limits.segments}; "
                "ask for less in one request"
            )
        return answer


def can_be_sent(prompt: Prompt) -> bool:
    """Whether a server understands it; others are answered by the client from everything."""
    return isinstance(prompt, (Everything, Points, Boxes, Text))


def _prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, Everything):
        return {"everything": True}
    if isinstance(prompt, Points):
        labels = prompt.labels.astype(int).tolist()
        return {"points": prompt.xy.tolist(), "labels": labels, "mode": prompt.mode, "clean": prompt.clean}
    if isinstance(prompt, Boxes):
        return {"boxes": prompt.xyxy.tolist()}
    if isinstance(prompt, Text):
        return {"text": list(prompt.texts), **{key: getattr(prompt, key) for key in _TEXT_KEYS}}
    raise PromptError(f"a prompt of type {type(prompt).__name__} cannot be sent; select from everything instead")


def _prompt_from_json(found: Any) -> Prompt:
    kinds = [kind for kind in ("points", "boxes", "text", "everything") if isinstance(found, dict) and kind in found]
    if len(kinds) != 1:
        raise PromptError(
            f'{PROMPT}: a prompt is {found!r:.80}; expected {{"points": [[x, y], …], "labels": [1, …]}}, '
            '{"boxes": [[x1, y1, x2, y2], …]}, {"text": ["a dog", …]} or {"everything": true}'
        )
    if kinds == ["points"]:
        asked = _known(found, ("points", "labels", "mode", "clean"), "points")
        if not isinstance(asked.get("clean", True), bool):
            raise PromptError(f"points: clean is {asked['clean']!r:.80}, expected true or false")
        return Points(asked.pop("points"), **asked)
    if kinds == ["boxes"]:
        return Boxes(_known(found, ("boxes",), "boxes")["boxes"])
    if kinds == ["text"]:
        return _text_from_json(_known(found, ("text", *_TEXT_KEYS), "text"))
    if _known(found, ("everything",), "everything")["everything"] is not True:
        raise PromptError(f"everything is {found['everything']!r:.80}, expected true; leave it out to ask for less")
    return Everything()


def _text_from_json(asked: dict[str, Any]) -> Text:
    texts = asked.pop("text")
    if not isinstance(texts, (str, list)) or not all(isinstance(text, str) for text in texts):
        raise PromptError(f'text is {texts!r:.80}, expected a text or a list of texts, such as ["a dog", "a cat"]')
    kinds: dict[str, Any] = {"max_masks": int, "min_area_px": int, "duplicate_iou": (int, float), "truncate": bool}
    for key, kind in kinds.items():
        value = asked.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
            raise ParameterError(
                f"text: {key} is {value!r:.80}, expected {'true or false' if kind is bool else 'a number'}"
            )
    return Text(texts, **{key: value for key, value in asked.items() if value is not None or key == "duplicate_iou"})


def _known(found: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """A copy of an object that has no other keys: a misspelt one would be ignored without a word."""
    if not isinstance(found, dict):
        raise PromptError(f"{where}: {found!r:.80} is no object; expected keys among {', '.join(keys)}")
    unknown = sorted(set(found) - set(keys))
    if unknown:
        raise PromptError(f"{where}: unknown key {unknown[0]!r:.80}; known are {', '.join(keys)}")
    return dict(found)


def _limit(prompts: list[Any], limits: Limits) -> None:
    """Count before anything is made of them."""
    if len(prompts) > limits.groups:
        raise PromptError(
            f"{len(prompts)} prompts for one image, the server takes {limits.groups}; put the points of one mode, "
            "and all boxes, into one prompt, or send several requests"
        )
    asked = 0
    for found in prompts:
        lists = [value for value in found.values() if isinstance(value, list)] if isinstance(found, dict) else []
        asked += max(map(len, lists), default=1)
    if asked > limits.prompts:
        raise PromptError(
            f"{asked} points, boxes and texts for one image, the server takes {limits.prompts}; send several requests"
        )


def error_text(error: FastSamError) -> str:
    """The message of an error, and its kind in front."""
    return f"{type(error).__name__}: {error}"


def error_from_text(text: str) -> FastSamError | None:
    """The error whose `error_text` is in a server's message; None where there is none."""
    found = re.search(rf"\b({'|'.join(_ERRORS)}): (.*)", text, re.DOTALL)
    return _ERRORS[found[1]](found[2]) if found else None


_ERRORS = {kind.__name__: kind for kind in (ImageError, ModelError, ParameterError, PromptError, ServerError)}


def answer_tensors(answers: Sequence[Segments], masks: Sequence[str]) -> Tensors:
    """The outputs for the images of one request.

    Args:
        masks: format for each answer, of MASK_FORMATS.
    """
    tensors: Tensors = {
        "COUNT": np.array([[len(answer)] for answer in answers], np.int32),
        "IMAGE_SIZE": np.array([answer.image_hw for answer in answers], np.int32),
    }
    columns = [_columns(answer, kind) for answer, kind in zip(answers, masks, strict=True)]
    most = max(map(len, answers))
    for name in (*_DTYPES, "MASKS"):
        first = columns[0][name]
        filling = b"" if name == "MASKS" else 0
        tensors[name] = np.full((len(answers), most, *first.shape[1:]), filling, first.dtype)
        for row, column in zip(tensors[name], columns, strict=True):
            row[: len(column[name])] = column[name]
    return tensors


def _columns(answer: Segments, masks: str) -> Tensors:
    sizes = np.array([crop.shape[::-1] for crop in answer.masks.crops], np.int32).reshape(-1, 2)
    found: Tensors = {
        "BOXES": answer.boxes_xyxy,
        "SCORES": answer.scores,
        "CLASSES": answer.classes,
        "AREAS": answer.areas,
        "PROMPTS": answer.prompts,
        "FITS": np.where(answer.prompts == NO_PROMPT, _NO_FIT, answer.fits),
        "PROBABILITIES": np.where(np.isnan(answer.probabilities), _NO_FIT, answer.probabilities),
        "CROPS": np.concatenate([answer.masks.corners_xy.astype(np.int32), sizes], 1),
    }
    texts = np.empty(len(answer), np.object_)
    if masks == "rle":
        texts[:] = [rle["counts"].encode("ascii") for rle in answer.masks.rle()]
    elif masks == "bits":
        texts[:] = [np.packbits(crop).tobytes() for crop in answer.masks.crops]
    else:
        texts[:] = b""
    return {**{name: found[name].astype(dtype) for name, dtype in _DTYPES.items()}, "MASKS": texts}


def answers_from_tensors(
    tensors: Mapping[str, NDArray[Any]], class_names: tuple[str, ...], timing_ms: Mapping[str, float] | None = None
) -> list[Segments]:
    """The answers of a server that was asked for masks as "bits".

    Args:
        timing_ms: becomes that of each answer.

    Raises:
        ModelError: an output is missing, or they do not fit one another.
    """
    missing = [name for name in OUTPUTS if name not in tensors]
    if missing:
        raise ModelError(f"the server's answer has no {missing[0]}; expected {', '.join(OUTPUTS)}; is it this model?")
    try:
        rows = [{name: tensors[name][i] for name in OUTPUTS} for i in range(len(tensors["COUNT"]))]
        return [_answer(row, class_names, timing_ms or {}) for row in rows]
    except (ValueError, IndexError, FastSamError) as error:
        raise ModelError(f"the server's answer does not fit together: {error}; is it of the same version?") from error


def _answer(row: Mapping[str, NDArray[Any]], class_names: tuple[str, ...], timing_ms: Mapping[str, float]) -> Segments:
    count = int(row["COUNT"][0])
    if not 0 <= count <= len(row["CROPS"]):
        raise ValueError(f"COUNT is {count}, there are {len(row['CROPS'])} rows")
    height, width = (int(side) for side in row["IMAGE_SIZE"])
    places = row["CROPS"][:count].astype(np.int64)
    crops = tuple(_bitmap(bits, int(w), int(h)) for bits, (_, _, w, h) in zip(row["MASKS"], places, strict=False))
    return Segments(
        row["BOXES"][:count].astype(np.float32),
        row["SCORES"][:count].astype(np.float32),
        row["CLASSES"][:count].astype(np.int64),
        Masks((height, width), crops, places[:, :2].copy()),
        row["PROMPTS"][:count].astype(np.int64),
        np.where(row["PROMPTS"] == NO_PROMPT, np.nan, row["FITS"])[:count].astype(np.float32),
        class_names,
        timing_ms,
        np.where(row["PROBABILITIES"] < 0, np.nan, row["PROBABILITIES"])[:count].astype(np.float32),
    )


def _bitmap(bits: bytes, width: int, height: int) -> NDArray[np.bool_]:
    if len(bits) != (width * height + 7) // 8:
        raise ValueError(f"{len(bits)} bytes for a crop of {width}×{height}")
    pixels = np.unpackbits(np.frombuffer(bits, np.uint8), count=width * height)
    return pixels.view(np.bool_).reshape(height, width)
