"""tokenizer.json gives the tokens of open_clip's own tokenizer: any character, any text that is not broken."""

from __future__ import annotations

import html
import unicodedata
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("open_clip", reason="needs the extra [clip-export]: open_clip is not installed")

import ftfy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer, basic_clean
from tokenizers import Tokenizer

from fastsam_deploy.export.clip.tokenizer import ClipTokenizer, from_simple_tokenizer, padded
from fastsam_deploy.export.errors import ExportError

pytestmark = pytest.mark.export

REFERENCE = SimpleTokenizer()

TEXTS = [
    "",
    " ",
    "a photo of a dog",
    "A Photo Of A DOG",
    "two   spaces\tand\n\nlines\r\nhere\u00a0there\u2028end",
    "the dog's ball; they've said it isn't, I'm, you'd, we'll, they're",
    "THE DOG'S BALL ISN'T",
    "hello!!! ... (yes?) [no] {x} #1 @2 $3 50% a&b a_b a-b a/b <tag> \\ ^ ~ `",
    "12345 6.7 1,000,000 3D 2nd",
    "‘single’ “double” ‚low‛ „low‟ don’t ʼn",
    "café Zürich smørrebrød ÀÉÎÕÜ ñ ç ß ẞ İstanbul ıI",
    "cafe\u0301 nai\u0308ve",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ. Σ σ ς",
    "собака НА ТРАВЕ",
    "猫と犬、「日本」。 一只在桌子上的猫，和一只狗！ 고양이",
    "ｆｕｌｌ　ｗｉｄｔｈ　１２３！ ｶﾀｶﾅ",
    "ﬁne ﬂow oﬀice Ǆ ĳ ŉ",
    "dog 🐕 family 👩‍👩‍👧 flag 🇩🇪 thumb 👍🏽 heart ❤️",
    "x² ½ ٣ Ⅷ ① ™ © € ∑ ≤",
    "\ufeffbom \u200bzero\u200dwidth \u00adsoft",
    "<start_of_text> a <end_of_text> <START_OF_TEXT>",
    "word " * 100,
    "a" * 300,
]


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    made = from_simple_tokenizer(REFERENCE, 77)
    # As the runtime has it: written and read again.
    return ClipTokenizer(**{**vars(made), "file": Tokenizer.from_str(made.file.to_str())})


def differ(tokenizer: ClipTokenizer, texts: list[str]) -> list[str]:
    """Those of the texts that have other tokens than the reference's."""
    found = padded(tokenizer.file, texts, tokenizer.context_length, tokenizer.pad_id, tokenizer.end_id)
    same = (found == tokenizer.reference(texts)).all(1)
    return [text for text, equal in zip(texts, same, strict=True) if not equal]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:24]))
def test_texts_of_many_kinds(tokenizer: ClipTokenizer, text: str) -> None:
    assert not differ(tokenizer, [text])


@pytest.mark.slow
def test_every_character_that_python_knows(tokenizer: ClipTokenizer) -> None:
    """144 730 with Python 3.11. Between letters: so that one that is dropped, split or spaced shows."""
    known = [chr(code) for code in range(0x20, 0x110000) if unicodedata.category(chr(code)) not in {"Cn", "Co", "Cs"}]
    # The reference's contraction pattern ignores case, and for it this one is a lower-case ι and joins the letters.
    known.remove("\u0345")
    texts = [" ".join(f"a{character}b" for character in known[i : i + 8]) for i in range(0, len(known), 8)]
    # Neighbours may look like a wrong encoding, which ftfy repairs and a tokenizer file cannot.
    again = [word for text in differ(tokenizer, texts) for word in text.split(" ")]
    assert len(again) < 800
    assert differ(tokenizer, again) == []


def broken(text: str) -> bool:
    """What `from_simple_tokenizer` says is not reproduced."""
    mojibake = ftfy.fix_encoding(text) != text
    return mojibake or (html.unescape(basic_clean(text)) != text.strip() and "&" in text) or "\x1b" in text


# Assigned in Unicode 3.2 and not changed since: libraries differ in how new their tables are.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn", "Co", "Cc"]).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c) and c not in "\u0345Σ"
)


@settings(max_examples=300, deadline=None)
@given(st.text(CHARACTERS, max_size=40))
def test_random_text(tokenizer: ClipTokenizer, text: str) -> None:
    assume(not broken(text))
    assert not differ(tokenizer, [text])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["dog", "DOG", "'s", "'LL", " ", "  ", "7", "42", "!", "-", "é", "’", "Σ", "中", "🐕"]),
        max_size=30,
    )
)
def test_random_arrangements_of_what_prompts_are_made_of(tokenizer: ClipTokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    assume(not broken(text))
    assert not differ(tokenizer, [text])


@pytest.mark.parametrize("text", ["cafÃ©", "salt &amp; pepper", "\x1b[36mblue\x1b[0m"])
def test_what_is_not_reproduced_is_what_the_documentation_names(tokenizer: ClipTokenizer, text: str) -> None:
    """If one of these becomes equal, the docstring of `from_simple_tokenizer` promises too little."""
    assert broken(text)
    assert differ(tokenizer, [text]) == [text]


def test_a_text_that_is_too_long_still_ends(tokenizer: ClipTokenizer) -> None:
    row = padded(tokenizer.file, ["word " * 100], 77, 0, 49407)[0]
    assert (row[0], row[-1]) == (49406, 49407)
    assert len(tokenizer.file.encode("word " * 100).ids) == 102  # nothing is cut in the file


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
def test_another_cleaning_is_refused(clean: str) -> None:
    other: Any = SimpleTokenizer(clean=clean)
    with pytest.raises(ExportError, match="cleans text in another way"):
        from_simple_tokenizer(other, 77)
