"""Words beside a vocabulary: found where they stand alone, the rest as the tokenizer has it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.runtime.text.words import WithWords


class Letters:
    """A tokenizer of letters: each is a token of its own."""

    model_max_length = 77

    def __call__(self, text: str, **options: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[ord(letter) for letter in text if letter != " "])


def ids(text: str) -> str:
    """The text as its tokens, those of words as digits."""
    tokenizer = WithWords(Letters(), {"<ink>": (1,), "wool": (2, 3), "wool 2": (4,)})
    return "".join(chr(token) if token > 9 else str(token) for token in tokenizer(text).input_ids)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", ""),
        ("a red ball", "aredball"),
        ("<ink>", "1"),
        ("a <ink> ball", "a1ball"),
        ("in WOOL, Wool", "in23,23"),
        ("woolly and steelwool", "woollyandsteelwool"),
        ("wool 2 and wool 3", "4and233"),
        ("embedding:wool ball", "23ball"),
        ("(wool)", "(23)"),
    ],
)
def test_a_word_counts_where_it_stands_alone(text, tokens):
    assert ids(text) == tokens


def test_words_that_no_text_uses_are_named_and_the_rest_is_the_tokenizers():
    tokenizer = WithWords(Letters(), {"ink": (1,), "Wool": (2,), "flat": (3,)})
    assert tokenizer.unused("in INK", "no embedding:flat") == ("wool",)
    assert tokenizer.model_max_length == 77
