"""The words that a CLIP text encoder knows: those that ship with the program, or a model's own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.spec.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
_SUFFIX = "</w>"  # of what ends a word
_MERGES = Path(__file__).resolve().parents[2] / "assets" / "tokenizers" / "clip" / "merges.txt"


@dataclass(frozen=True, slots=True)
class ClipWords:
    """`vocabulary` gives the number of a token, `merges` which pairs become one, the first first."""

    vocabulary: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    pad_token: str = END
    model_max_length: int = MAX_LENGTH


def words_of(config: Mapping[str, Any]) -> ClipWords:
    """Of the settings of a tokenizer; without words of its own it has CLIP's. Raises ModelError for a damaged one."""
    pad, length = config.get("pad_token", END), config.get("model_max_length", MAX_LENGTH)
    if "vocabulary" not in config:
        vocabulary, merges = _clips_own()
    else:
        vocabulary = config["vocabulary"]
        merges = tuple(tuple(pair) for pair in config.get("merges", ()))
    if not _is_sound(vocabulary, merges, pad, length):
        raise ModelError("The model's own list of words is damaged.", "Get the model again.")
    return ClipWords(vocabulary, merges, pad, length)


def _is_sound(vocabulary: Any, merges: tuple[tuple[Any, ...], ...], pad: Any, length: Any) -> bool:
    """Whether the tokenizers library takes them; what it does with others is to panic."""
    return (
        isinstance(vocabulary, dict)
        and {BEGIN, END, pad} <= vocabulary.keys()
        and all(type(number) is int and 0 <= number < 2**31 for number in vocabulary.values())
        and all(len(pair) == 2 and f"{pair[0]}{pair[1]}" in vocabulary for pair in merges)
        and all({*pair} <= vocabulary.keys() for pair in merges)
        and type(length) is int
        and 2 < length <= 4096
    )


@functools.cache
def _clips_own() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """The words follow from the merges (Radford et al. 2021, CLIP: clip/simple_tokenizer.py)."""
    try:
        lines = _MERGES.read_text("utf-8").split("\n")  # some of the characters would end a line elsewhere
    except OSError as error:
        text = f"The list of CLIP's words is gone: {_MERGES}"
        raise ModelError(
            text, "Install the program again; or use the diffusers folder of the model."
        ) from error
    merges = tuple((a, b) for a, _, b in (line.partition(" ") for line in lines) if b)
    letters = _letters()
    words = [*letters, *(letter + _SUFFIX for letter in letters), *(a + b for a, b in merges), BEGIN, END]
    return {word: number for number, word in enumerate(words)}, merges


def _letters() -> list[str]:
    """A printable character for each byte: itself where it is one, else the next from 256 on; those come last."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    return [chr(byte) for byte in plain] + [chr(256 + n) for n in range(256 - len(plain))]


def counter(words: ClipWords) -> Tokenizer:
    """Cuts a text as transformers' CLIPTokenizer does, whose recipe this is, but adds no marks."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    bpe = models.BPE(
        vocab=dict(words.vocabulary), merges=list(words.merges), end_of_word_suffix=_SUFFIX, unk_token=END
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.add_special_tokens([mark for mark in (BEGIN, END) if mark in words.vocabulary])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = Regex(
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
