"""How much of a prompt the model reads: tokens counted by its own tokenizer, without torch."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.clip_words import ClipWords, counter, words_of
from pipelines.library.single_file import WORD_FILES, tokenizer_config
from pipelines.spec import families
from pipelines.spec.errors import ModelError
from pipelines.spec.record import Format, ModelRecord

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
    tokenizer, length = _found(record, part, most)
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


def _found(record: ModelRecord, part: str, most: int) -> tuple[Tokenizer, int]:
    path = Path(record.path)
    if record.format is Format.SINGLE_FILE:
        try:
            lent = dict(record.borrowed)
            if part in lent:
                return _loaded(Path(lent[part]), _stamp(Path(lent[part])), most)
            return _in_file(path, path.stat().st_mtime_ns, part, record.family, most)
        except OSError as error:
            raise ModelError(f"The model file {path} cannot be read: {error.strerror}.") from error
    return _loaded(path / part, _stamp(path / part), most)


@functools.lru_cache(maxsize=4)
def _in_file(path: Path, _stamp: int, part: str, family: str, most: int) -> tuple[Tokenizer, int]:
    config = tokenizer_config(path, part, families.by_id(family), {})
    if (text := config.get(WORD_FILES[0])) is not None:
        return _of_text(str(text)), most
    words = words_of(config)
    return counter(words), min(words.model_max_length, most)


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

    return _whole(Tokenizer.from_file(str(folder / "tokenizer.json")))


def _of_text(text: str) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return _whole(Tokenizer.from_str(text))
    except Exception as error:  # tokenizers raises bare Exception for damage
        raise ModelError("The model's own list of words is damaged.", "Get the model again.") from error


def _whole(tokenizer: Tokenizer) -> Tokenizer:
    # The file may cut or fill every text to the model's length, and the count would always be that.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _clip(folder: Path) -> Tokenizer:
    """From vocab.json and merges.txt, as in older folders."""
    vocabulary: dict[str, Any] = json.loads((folder / "vocab.json").read_text("utf-8"))
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if not line.startswith("#version"))
    return counter(ClipWords(vocabulary, tuple((a, b) for a, _, b in pairs if b)))
