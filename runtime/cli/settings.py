"""What the commands make of their options: a prompt, and an open model. Heavy libraries are imported when called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..connection import is_address
from ..errors import ParameterError, PromptError

if TYPE_CHECKING:
    from ..pipeline import FastSAM
    from ..segments import Prompt


def network_settings(prompt: Prompt | list[Prompt] | None, **given: Any) -> dict[str, Any]:
    """Arguments of FastSAM: those of the options that were given.

    Raises:
        PromptError: texts without a CLIP, or a CLIP without texts.
    """
    from ..prompts.base import looks_at_image

    # A server may have a CLIP of its own, and says it where it has none.
    if (given["clip"] is None) == looks_at_image(prompt) and not (given["clip"] is None and is_address(given["model"])):
        raise PromptError(
            "--clip without --text; expected both or none; add what to look for: --text 'a dog'"
            if given["clip"]
            else "--text without --clip; expected the folder of a CLIP model; make one with fastsam-export clip"
        )
    own = ("threads", "engine", "precision", "hint", "cache")
    return {
        name: value for name, value in given.items() if name not in own or (value is not None and value is not False)
    }


def open_model(settings: dict[str, Any]) -> FastSAM:
    """The model of the command line: a plan with every stage on its GPU, anything else as `FastSAM` opens it.

    Args:
        settings: from `network_settings`.

    Raises:
        FastSamError: it cannot be opened, or a setting is one that a plan does not have.
    """
    from ..pipeline import FastSAM

    if Path(settings["model"] or "").suffix not in (".plan", ".engine"):
        return FastSAM(**settings)
    for name in ("threads", "engine", "precision", "hint", "cache"):
        if name in settings:
            raise ParameterError(f"--{name}: a plan is made for one GPU and one precision already: leave it out")
    from ..trt import TRTFastSAM

    return TRTFastSAM(**settings)


def model_files(model: str | Path | None, clip: Path | None = None) -> list[Path]:
    """The files that opening a model reads, which no output may replace: itself, what belongs to it, and the CLIP's.

    Args:
        model: as `--model`; a model on a server has no files.
    """
    from ..pipeline import demo_model_path

    files = [] if clip is None or not clip.is_dir() else sorted(clip.iterdir())
    if is_address(model):
        return files
    path = demo_model_path() if model is None else Path(model)
    beside = [path.with_suffix(".json")] if path.suffix in (".plan", ".engine") else [Path(f"{path}.data")]
    return [path, *beside, *files]


def json_file(target: str | None) -> Path | None:
    """The file of `--json`; None where there is none, or "-" for standard output."""
    return None if target in (None, "-") else Path(target)


def parse_prompt(
    points: str | None,
    labels: str | None,
    points_mode: str,
    boxes: str | None,
    texts: list[str] | None = None,
    json_prompts: list[str] | None = None,
) -> Prompt | list[Prompt] | None:
    """The prompt of the command line; None for everything.

    Args:
        points, labels, boxes: JSON text, None where not given.
        points_mode: one of `prompts.POINT_MODES`.
        texts: as they are.
        json_prompts: JSON text of one prompt each, of any kind.

    Raises:
        PromptError: not JSON, not of the shape of a prompt, or a text without a word.
        ParameterError: a setting in the JSON of a prompt is out of its range.
    """
    from ..prompts.boxes import Boxes
    from ..prompts.points import Points

    if labels is not None and points is None:
        raise PromptError(f"--labels {labels} without --points; expected one label for each point; add --points")
    prompts: list[Prompt] = []
    if points is not None:
        given = _json_option("--points", points, "[[x, y], …]")
        flags = _json_option("--labels", labels, "[1, 0, …]") if labels is not None else None
        prompts.append(Points(given, flags, mode=points_mode))
    if boxes is not None:
        prompts.append(Boxes(_json_option("--boxes", boxes, "[[x1, y1, x2, y2], …]")))
    if texts:
        from ..prompts.text import Text

        prompts.append(Text(texts))
    if json_prompts:
        from ..prompts.kinds import prompt_from_json

        example = '{"boxes": [[x1, y1, x2, y2], …]}'
        prompts += (prompt_from_json(_json_option("--prompt", text, example), "--prompt") for text in json_prompts)
    if not prompts:
        return None
    return prompts[0] if len(prompts) == 1 else prompts


def _json_option(option: str, text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        quote = "'" if '"' in expected else '"'
        raise PromptError(
            f"{option}: {text!r:.80} is no JSON ({error}); expected {quote}{expected}{quote} in quotes"
        ) from error
