"""Token counts: the same as transformers counts, without torch."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

import pytest

from pipelines.library.folders import demo_root
from pipelines.library.tokens import TokenCount, count_tokens
from pipelines.spec.errors import ModelError
from pipelines.spec.record import ModelRecord

TEXTS = [
    "",
    "a red circle",
    "A RED  circle, on blue!",
    "don't 12 猫 😀",
    "<|endoftext|>",
    "word " * 200,
    "\ud800 \0",
]


def record(path: Path) -> ModelRecord:
    return ModelRecord(id="m", path=str(path), title="m")


def old_tokenizer(folder: Path) -> Path:
    """A CLIP tokenizer as SD 1.5 has it: every byte, and one merge."""
    marks = [c for c in string.printable if c not in string.whitespace]
    vocabulary = {text: i for i, text in enumerate([*marks, *(f"{c}</w>" for c in marks), "ca", "cat</w>"])}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 77}')
    return folder.parent


def test_vocab_and_merges_are_enough(tmp_path):
    model = record(old_tokenizer(tmp_path / "tokenizer"))
    assert count_tokens(model, "cat CAT dog") == TokenCount(used=5, limit=75)
    assert count_tokens(model, "") == TokenCount(used=0, limit=75)
    assert count_tokens(model, "cat " * 100).used == 100
    assert count_tokens(model, "<|endoftext|>").used == 1


def test_a_changed_tokenizer_is_read_again(tmp_path):
    folder = tmp_path / "tokenizer"
    model = record(old_tokenizer(folder))
    assert count_tokens(model, "cat").used == 1
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert count_tokens(model, "cat").used == 3


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_demo_model_counts_its_own_words(text):
    count = count_tokens(record(demo_root() / "sd"), text)
    assert count.limit == 75
    assert (count.used == 0) == (not text)
    assert count.used >= 200 or len(text) < 500


def test_what_cannot_be_read_is_a_message(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        count_tokens(record(tmp_path), "a")
    folder = old_tokenizer(tmp_path / "m" / "tokenizer") / "tokenizer"
    shutil.copy(folder / "vocab.json", folder / "tokenizer.json")
    with pytest.raises(ModelError, match="damaged"):
        count_tokens(record(folder.parent), "a")
