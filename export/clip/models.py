"""CLIP models by name, from the hub or from local files, through the libraries' own loaders.

- `ViT-B-32/openai`: architecture and tag of open_clip;
- `ViT-B-32/openai=weights.safetensors`: the same from a file; `ARCH=weights` where the tags leave no choice;
- `hf:openai/clip-vit-base-patch32`: a CLIPModel or SiglipModel of transformers;
- a folder that either saved: with config.json (transformers) or open_clip_config.json.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...runtime.errors import FastSamError
from ..errors import ExportError
from .source import ClipSource, source_from_open_clip, source_from_transformers

DEFAULT = "ViT-B-32/openai"


def load_clip(name: str) -> ClipSource:
    """Load the model `name` (forms: see the module).

    Raises:
        ExportError: no such model or file, the hub cannot be reached, or it is not of a kind that can be exported.
    """
    folder = Path(name)
    if folder.is_dir():
        if (folder / "open_clip_config.json").is_file():
            return _from_open_clip_folder(folder)
        if (folder / "config.json").is_file():
            return _from_transformers(str(folder), folder.resolve().name, hub=False)
        raise ExportError(
            f"{folder}: holds neither open_clip_config.json nor config.json; expected a model folder as open_clip or "
            "transformers saves it"
        )
    if name.startswith("hf:"):
        return _from_transformers(name[3:], name[3:], hub=True)
    kind, is_file, weights = name.partition("=")
    return _from_open_clip(kind, Path(weights) if is_file else None)


def _from_open_clip(kind: str, weights: Path | None) -> ClipSource:
    """`kind` is ARCH/TAG or, where the tags of an architecture leave no choice, ARCH."""
    import open_clip

    architecture, _, tag = kind.partition("/")
    settings = _settings(architecture, tag, needs_tag=weights is None)
    if weights is not None and not weights.is_file():
        raise ExportError(f"{weights}: no such file; expected weights of {kind} (.safetensors, or .pt)")
    if weights is None:
        what, instead = kind, f"its weights from a file: {kind}=weights.safetensors"
    else:
        what, instead = str(weights), f"weights of {kind} as open_clip saves them, .safetensors or .pt"
    preparation = {key: settings[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in settings}
    with _loading(what, instead, hub=weights is None):
        model = open_clip.create_model(
            architecture,
            pretrained=str(weights or tag),
            require_pretrained=True,
            # open_clip only warns when weights were trained with QuickGELU and the architecture has GELU.
            force_quick_gelu=bool(settings.get("quick_gelu")),
            force_preprocess_cfg=preparation,
        )
    instead = "a folder with open_clip_config.json, open_clip_model.safetensors and tokenizer files"
    with _loading(f"the tokenizer of {architecture}", instead, hub=True):
        tokenizer = open_clip.get_tokenizer(architecture)
    return source_from_open_clip(model, tokenizer, kind if weights is None else f"{kind}={weights.name}")


def _settings(architecture: str, tag: str, *, needs_tag: bool) -> dict[str, Any]:
    """What a tag says of its activation and its images. Without a tag: what all tags of the architecture say.

    A file of weights tells neither, and the same architecture was trained with different ones.
    """
    import open_clip

    known = open_clip.list_models()
    if architecture not in known:
        raise ExportError(
            f"{architecture!r}: neither a folder nor an architecture of open_clip; expected ARCH/TAG, "
            f"ARCH/TAG=weights, hf:ORG/NAME or a folder; architectures are {', '.join(known[:8])} … "
            "(open_clip.list_models())"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag or needs_tag:
        if tag not in tags:
            raise ExportError(
                f"{architecture}/{tag}: expected a tag of {architecture}: {', '.join(tags) or 'it has none'}"
            )
        return dict(open_clip.get_pretrained_cfg(architecture, tag))
    kinds = ("quick_gelu", "mean", "std", "interpolation", "resize_mode")
    found = [{key: open_clip.get_pretrained_cfg(architecture, tag).get(key) for key in kinds} for tag in tags]
    differing = [key for key in kinds if any(one[key] != found[0][key] for one in found)]
    if differing:
        raise ExportError(
            f"{architecture}: its weights differ in {', '.join(differing)}, which a file does not tell; say which they "
            f"are: {architecture}/TAG=weights, TAG one of {', '.join(tags)}"
        )
    return {key: value for key, value in found[0].items() if value is not None} if found else {}


def _from_open_clip_folder(folder: Path) -> ClipSource:
    import open_clip

    place = f"local-dir:{folder}"
    instead = "a folder with open_clip_config.json, open_clip_model.safetensors and, if it has its own, tokenizer files"
    with _loading(str(folder), instead):
        model = open_clip.create_model(place, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(place)
    return source_from_open_clip(model, tokenizer, folder.resolve().name)


def _from_transformers(place: str, name: str, *, hub: bool) -> ClipSource:
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel, SiglipModel

    kinds: dict[str, Any] = {"clip": CLIPModel, "siglip": SiglipModel}
    instead = "a folder with config.json, model.safetensors, preprocessor_config.json and tokenizer.json"
    with _loading(place, instead, hub=hub):
        kind = AutoConfig.from_pretrained(place).model_type
        if kind not in kinds:
            raise ExportError(f"{place}: is a model of type {kind!r}, expected clip or siglip")
        model = kinds[kind].from_pretrained(place, weights_only=True)
        processor = AutoImageProcessor.from_pretrained(place)
        tokenizer = AutoTokenizer.from_pretrained(place)
    return source_from_transformers(model, tokenizer, processor, name)


@contextmanager
def _loading(what: str, instead: str, *, hub: bool = False) -> Iterator[None]:
    """Errors of the libraries become one of ours, and their warnings, which say the same again, are not shown.

    Args:
        what: is loaded, instead: what to give if it cannot be; both for the message.
        hub: files may come from the hub if it answers; else only what lies here is looked at.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    reached = hub and not before and _hub_answers()
    constants.HF_HUB_OFFLINE = not reached
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (FastSamError, ModuleNotFoundError):
        raise
    except Exception as error:  # whatever three libraries raise on files that are missing, damaged or of another model
        said = re.split(r"\. |\.$", " ".join(str(error).split()))[0][:240]  # what follows is advice for other programs
        where = " and the hub cannot be reached" if hub and not reached else ""
        raise ExportError(f"{what}: cannot be loaded{where} ({said}); give {instead}") from error
    finally:
        logging.disable(logging.NOTSET)
        constants.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    """One short question: the libraries would try for half a minute before they give up."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # noqa: BLE001 - whichever HTTP library it is built on
        return False
    return True
