"""CLIP models by name, from the hub or from local files, through the loaders of open_clip and transformers.

- `ViT-B-32/openai`: architecture and tag of open_clip;
- `ViT-B-32/openai=weights.safetensors`: the same from a file; `ARCH=weights` where all tags have the same settings;
- `hf:openai/clip-vit-base-patch32`: a CLIPModel or SiglipModel of transformers;
- a folder that either library saved: with config.json (transformers) or open_clip_config.json.
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
    """Load a CLIP model.

    Args:
        name: in one of the forms listed at the top of this module.

    Raises:
        ExportError: there is no such model or file, the hub cannot be reached, or the model cannot be exported.

    Example:
        >>> source = load_clip("ViT-B-32/openai")  # doctest: +SKIP
        >>> source.library, source.image.size  # doctest: +SKIP
        ('open_clip', (224, 224))
    """
    folder = Path(name)
    if folder.is_dir():
        if (folder / "open_clip_config.json").is_file():
            return _from_open_clip_folder(folder)
        if (folder / "config.json").is_file():
            return _from_transformers(str(folder), folder.resolve().name, hub=False)
        raise ExportError(
            f"{folder}: holds neither open_clip_config.json nor config.json; expected a model folder that "
            "open_clip or transformers saved"
        )
    if name.startswith("hf:"):
        return _from_transformers(name[3:], name[3:], hub=True)
    kind, is_file, weights = name.partition("=")
    return _from_open_clip(kind, Path(weights) if is_file else None)


def _from_open_clip(kind: str, weights: Path | None) -> ClipSource:
    """Load ARCH/TAG, or ARCH where all tags of the architecture have the same settings."""
    import open_clip

    architecture, _, tag = kind.partition("/")
    settings = _settings(architecture, tag, needs_tag=weights is None)
    if weights is not None and not weights.is_file():
        raise ExportError(f"{weights}: no such file; expected weights of {kind} (.safetensors, or .pt)")
    if weights is None:
        what, instead = kind, f"its weights from a file: {kind}=weights.safetensors"
    else:
        what, instead = str(weights), f"weights of {kind} saved by open_clip, .safetensors or .pt"
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
    """Activation and image settings of a tag; without a tag, those that all tags of the architecture share.

    A file of weights contains neither, and one architecture has been trained with different settings.
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
    known_settings = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    differing = [key for key in kinds if len({repr(settings.get(key)) for settings in known_settings}) > 1]
    if differing:
        raise ExportError(
            f"{architecture}: its tags differ in {', '.join(differing)}, which a file of weights does not contain; "
            f"give the tag: {architecture}/TAG=weights, TAG one of {', '.join(tags)}"
        )
    shared = known_settings[0] if known_settings else {}
    return {key: shared[key] for key in kinds if shared.get(key) is not None}


def _from_open_clip_folder(folder: Path) -> ClipSource:
    import open_clip

    place = f"local-dir:{folder}"
    instead = "a folder with open_clip_config.json, open_clip_model.safetensors and any tokenizer files"
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
    """Turn the errors of the libraries into an ExportError, and hide their warnings, which repeat the errors.

    Args:
        what: what is loaded, for the message.
        instead: what to give if it cannot be loaded, for the message.
        hub: files may be downloaded if the hub can be reached; otherwise only local files are used.
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
        reason = re.split(r"\. |\.$", " ".join(str(error).split()))[0][:240]  # the rest is advice for other programs
        where = " and the hub cannot be reached" if hub and not reached else ""
        raise ExportError(f"{what}: cannot be loaded{where} ({reason}); give {instead}") from error
    finally:
        logging.disable(logging.NOTSET)
        constants.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    """Can the hub be reached? One short request: the libraries would try for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # noqa: BLE001 - whichever HTTP library it is built on
        return False
    return True
