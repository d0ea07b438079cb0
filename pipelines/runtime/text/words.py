"""A tokenizer that knows words of its own beside its vocabulary, which stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tokens:
    input_ids: list[int]


class WithWords:
    """`words` become these ids wherever they stand alone in a text, in any case, also as `embedding:word`.

    The rest of the text goes through the `tokenizer`, which splits at words as well, so that its ids are the same.
    """

    def __init__(self, tokenizer: Any, words: Mapping[str, Sequence[int]]) -> None:
        self._tokenizer = tokenizer
        self._words = {word.lower(): ids for word, ids in words.items()}
        longest_first = sorted(self._words, key=len, reverse=True)
        either = "|".join(re.escape(word) for word in longest_first)
        self._found = re.compile(rf"(?<!\w)(?:embedding:)?({either})(?!\w)", re.IGNORECASE)

    def __call__(self, text: str, **options: Any) -> Tokens:
        ids: list[int] = []
        # Every second piece is a word.
        for number, piece in enumerate(self._found.split(text)):
            if number % 2:
                ids += self._words[piece.lower()]
            elif piece.strip():
                ids += self._tokenizer(piece, **options).input_ids
        return Tokens(ids)

    def unused(self, *texts: str) -> tuple[str, ...]:
        """The words that are in none of these texts."""
        there = {word.lower() for text in texts for word in self._found.findall(text)}
        return tuple(word for word in self._words if word not in there)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
