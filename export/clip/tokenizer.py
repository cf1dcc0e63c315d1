"""Tokenizers of CLIP models as one `tokenizer.json`, which the runtime reads without open_clip or transformers.

The file gives the ids of a text with its start and end tokens. It neither pads nor truncates: `padded` does that here,
and the runtime in the same way.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from ..errors import ExportError

if TYPE_CHECKING:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

Tokens = NDArray[np.int64]

# CLIP's words: contractions, runs of letters, single digits, runs of anything else. Case is ignored.
_WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# Python lowercases a capital sigma at the end of a word to ς, while `Lowercase` treats every character alone. Accents
# and apostrophes between it and its neighbours are ignored (up to two before it, as a look-behind is bounded).
_CASED, _IGNORED = r"[\p{Ll}\p{Lu}\p{Lt}]", r"[\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:·]"
_FINAL_SIGMA = f"(?<={_CASED}|{_CASED}{_IGNORED}|{_CASED}{_IGNORED}{_IGNORED})Σ(?!{_IGNORED}*{_CASED})"


@dataclass(frozen=True)
class ClipTokenizer:
    """A tokenizer for the file, and that of the library to compare it with.

    Attributes:
        file: what is written; adds start and end tokens, does not pad or truncate.
        reference: texts → (n, context_length) int64, made, padded and truncated by the library.
        context_length: number of tokens that the model takes.
        pad_id: token that fills the rest of a row.
        start_id: token at the start of a text; None where the model has none (SigLIP).
        end_id: token at the end of a text, also of a truncated one.
        lowercase: case is ignored.

    Example:
        >>> tokenizer = load_clip("ViT-B-32/openai").tokenizer  # doctest: +SKIP
        >>> tokenizer.file.encode("a dog").ids  # doctest: +SKIP
        [49406, 320, 1929, 49407]
    """

    file: Tokenizer
    reference: Callable[[Sequence[str]], Tokens]
    context_length: int
    pad_id: int
    start_id: int | None
    end_id: int
    lowercase: bool


def padded(tokenizer: Tokenizer, texts: Sequence[str], context_length: int, pad_id: int, end_id: int) -> Tokens:
    """Tokenize texts, truncate those that are too long, and pad the others.

    Args:
        tokenizer: adds start and end tokens.
        texts: n texts.
        context_length: number of tokens in a row.
        pad_id: fills the rest of a row.
        end_id: last token of a truncated text.

    Returns:
        (n, context_length) int64.

    Example:
        >>> tokenizer = Tokenizer(BPE({"a": 1, "b": 2, "c": 3}, []))
        >>> padded(tokenizer, ["ab", "abcab"], 4, pad_id=0, end_id=9)
        array([[1, 2, 0, 0],
               [1, 2, 3, 9]])
    """
    rows = np.full((len(texts), context_length), pad_id, np.int64)
    for row, encoding in zip(rows, tokenizer.encode_batch(list(texts)), strict=True):
        ids = encoding.ids[:context_length]
        row[: len(ids)] = ids
        if len(encoding.ids) > context_length:
            row[-1] = end_id
    return rows


def from_simple_tokenizer(reference: SimpleTokenizer, context_length: int) -> ClipTokenizer:
    """Rebuild CLIP's byte-level BPE (49 408 tokens in all OpenAI and most open_clip models) for `tokenizers`.

    The reference cleans a text before it splits it into words. Reproduced: control characters are dropped, ligatures
    split, full-width forms and curly quotes made plain, NFC, lower case, white space of any kind. Not reproduced: the
    repair of text that was decoded with a wrong encoding ("cafÃ©"), terminal escapes, and HTML entities ("&amp;").

    Raises:
        ExportError: the reference cleans text in another way; no known CLIP model does.

    Example:
        >>> tokenizer = from_simple_tokenizer(open_clip.get_tokenizer("ViT-B-32"), 77)  # doctest: +SKIP
    """
    if reference.clean_fn("A") != "a" or reference.clean_fn("?") != "?":
        raise ExportError(
            "the model's tokenizer cleans text in another way than CLIP's (lower case, punctuation kept); "
            "it is not supported, use a model with CLIP's tokenizer"
        )
    start, end = reference.sot_token_id, reference.eot_token_id
    file = Tokenizer(BPE(vocab=reference.encoder, merges=list(reference.bpe_ranks), end_of_word_suffix="</w>"))
    file.normalizer = normalizers.Sequence(
        [*_repairs(), normalizers.Replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    )
    file.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = [reference.decoder[i] for i in reference.all_special_ids]
    # Matched after normalisation, so that their case is ignored too.
    file.add_special_tokens([AddedToken(word, normalized=True) for word in words])
    file.post_processor = processors.TemplateProcessing(
        single=f"{words[0]} $A {words[1]}", special_tokens=[(words[0], start), (words[1], end)]
    )
    return ClipTokenizer(
        file=file,
        reference=lambda texts: np.asarray(reference(list(texts), context_length), np.int64),
        context_length=context_length,
        pad_id=0,
        start_id=start,
        end_id=end,
        lowercase=True,
    )


def _repairs() -> list[normalizers.Normalizer]:
    """What ftfy does to single characters, from its tables, and NFC; characters with the same result share a step."""
    from ftfy import chardata, fixes

    windows = {code: fixes.fix_c1_controls(chr(code)) for code in range(0x80, 0xA0)}  # bytes of windows-1252
    answers: dict[str, str] = {}
    for code, answer in {**chardata.LIGATURES, **chardata.WIDTH_MAP, **windows}.items():
        answers[answer] = answers.get(answer, "") + chr(code)
    answers[""] = "".join(map(chr, chardata.CONTROL_CHARS))
    quotes = [(chardata.SINGLE_QUOTE_RE, "'"), (chardata.DOUBLE_QUOTE_RE, '"')]
    classes = [
        ("[" + "".join(f"\\x{{{ord(c):x}}}" for c in characters) + "]", answer)
        for answer, characters in answers.items()
    ]
    # Quotes last: a ligature may contain one.
    patterns = [*classes, *((quote.pattern, answer) for quote, answer in quotes)]
    return [*(normalizers.Replace(Regex(pattern), answer) for pattern, answer in patterns), normalizers.NFC()]


def from_open_clip_hf(reference: HFTokenizer, context_length: int) -> ClipTokenizer:
    """Rebuild the tokenizer of an open_clip model that uses one of transformers (SigLIP and others).

    Text is cleaned as in `from_simple_tokenizer`, then as the model does.

    Raises:
        ExportError: a tokenizer file cannot describe how it works.

    Example:
        >>> tokenizer = from_open_clip_hf(open_clip.get_tokenizer("ViT-B-16-SigLIP"), 64)  # doctest: +SKIP
    """
    clean = getattr(reference.clean_fn, "__name__", "")
    if reference.tokenizer_mode or reference.strip_sep_token or clean not in _CLEANING:
        raise ExportError(
            f"the model's tokenizer has mode {reference.tokenizer_mode or 'plain'!r} and cleaning {clean!r}, which a "
            "tokenizer file cannot describe; use another model"
        )
    inner = reference.tokenizer
    base = from_transformers(inner, context_length)
    before = [*_repairs(), *(make() for make in _CLEANING[clean])]
    normalizer = base.file.normalizer
    base.file.normalizer = normalizers.Sequence([*before, *([normalizer] if normalizer is not None else [])])
    return ClipTokenizer(
        file=base.file,
        reference=lambda texts: np.asarray(reference(list(texts), context_length), np.int64),
        context_length=context_length,
        pad_id=base.pad_id,
        start_id=base.start_id,
        end_id=base.end_id,
        lowercase=clean != "_clean_whitespace",
    )


# open_clip's names of its cleaning functions → what they do after ftfy's repairs.
_SPACES: tuple[Callable[[], Any], ...] = (lambda: normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip)
_CLEANING: dict[str, tuple[Callable[[], Any], ...]] = {
    "_clean_whitespace": _SPACES,
    "_clean_lower": (*_SPACES, normalizers.Lowercase),
    "_clean_canonicalize": (
        lambda: normalizers.Replace("_", " "),
        lambda: normalizers.Replace(Regex(f"[{''.join(f'{chr(92)}x{ord(c):02x}' for c in string.punctuation)}]"), ""),
        normalizers.Lowercase,
        *_SPACES,
    ),
}


def from_transformers(reference: Any, context_length: int) -> ClipTokenizer:
    """Take the fast tokenizer of a transformers model, without padding and truncation.

    Raises:
        ExportError: there is none, or it has no end token or no padding token.

    Example:
        >>> reference = transformers.AutoTokenizer.from_pretrained("openai/clip-vit-base-patch32")  # doctest: +SKIP
        >>> from_transformers(reference, 77).context_length  # doctest: +SKIP
        77
    """
    backend = getattr(reference, "backend_tokenizer", None)
    name = type(reference).__name__
    if not isinstance(backend, Tokenizer):
        raise ExportError(
            f"{name} is not backed by the library tokenizers; put a tokenizer.json into the model's folder (a 'fast' "
            "tokenizer, saved with save_pretrained), or use another model"
        )
    if reference.eos_token_id is None or reference.pad_token_id is None:
        raise ExportError(f"{name} has no end token or no padding token; save it with both")
    file = Tokenizer.from_str(backend.to_str())
    file.no_padding()
    file.no_truncation()
    probe = file.encode("A").ids
    start = reference.bos_token_id if probe and probe[0] == reference.bos_token_id else None

    def tokens(texts: Sequence[str]) -> Tokens:
        made = reference(
            list(texts), padding="max_length", truncation=True, max_length=context_length, return_tensors="np"
        )
        return np.asarray(made["input_ids"], np.int64)

    return ClipTokenizer(
        file=file,
        reference=tokens,
        context_length=context_length,
        pad_id=int(reference.pad_token_id),
        start_id=start,
        end_id=int(reference.eos_token_id),
        lowercase=probe == file.encode("a").ids,
    )
