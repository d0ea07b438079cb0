"""How much of a prompt the model reads: tokens counted by its own tokenizer, without torch."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.spec import families
from pipelines.spec.errors import ModelError
from pipelines.spec.record import ModelRecord

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_DEFAULT_LENGTH = 77
_MARKS = 2  # the start and the end of CLIP's text take a place each; older folders do not say so


@dataclass(frozen=True, slots=True)
class TokenCount:
    """`used` tokens of the text, `limit` the most that one reading of the model takes."""

    used: int
    limit: int


def count_tokens(record: ModelRecord, text: str) -> TokenCount:
    """Raises ModelError when the model has no tokenizer that can be read. Reads files: for the I/O lane."""
    part, most = _counted(record)
    folder = Path(record.path) / part
    tokenizer, length = _loaded(folder, _stamp(folder), most)
    clean = text.encode("utf-8", "replace").decode()
    used = len(tokenizer.encode(clean, add_special_tokens=False).ids)
    marks = tokenizer.num_special_tokens_to_add(False) or _MARKS
    return TokenCount(used=used, limit=length - marks)


def _counted(record: ModelRecord) -> tuple[str, int]:
    """The tokenizer whose length limits the prompt, and the most it takes where the model does not say."""
    try:
        family = families.by_id(record.family)
    except ModelError:
        return "tokenizer", _DEFAULT_LENGTH
    return family.counted, family.max_sequence_length


def _stamp(folder: Path) -> tuple[int, ...]:
    """Changes when the tokenizer's files do."""
    try:
        return tuple(sorted(file.stat().st_mtime_ns for file in folder.iterdir()))
    except OSError as error:
        raise ModelError(f"The tokenizer {folder} cannot be read: {error.strerror}.") from error


@functools.lru_cache(maxsize=4)
def _loaded(folder: Path, _stamp: tuple[int, ...], most: int) -> tuple[Tokenizer, int]:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        length = config.get("model_max_length")
        tokenizer = _fast(folder) if (folder / "tokenizer.json").is_file() else _clip(folder)
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise ModelError(f"The tokenizer {folder} is damaged.", "Download the model again.") from error
    known = isinstance(length, int) and _MARKS < length <= 4096
    return tokenizer, min(length, most) if known else most


def _fast(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The file may cut or fill every text to the model's length, and the count would always be that.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _clip(folder: Path) -> Tokenizer:
    """From vocab.json and merges.txt, as in older folders; the recipe is transformers' CLIPTokenizer."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary: dict[str, Any] = json.loads((folder / "vocab.json").read_text("utf-8"))
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    merges = [
        (a, b) for a, _, b in (line.partition(" ") for line in lines if not line.startswith("#version")) if b
    ]
    bpe = models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = Tokenizer(bpe)
    tokenizer.add_special_tokens(
        [mark for mark in ("<|startoftext|>", "<|endoftext|>") if mark in vocabulary]
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
