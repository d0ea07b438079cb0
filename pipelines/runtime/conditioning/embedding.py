"""Textual inversion: words with vectors of their own, learned from a few pictures.

Gal et al. 2022, "An Image is Worth One Word". Neither the tokenizer nor the table of vectors is changed: others stand
before them while the job lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipelines.runtime.conditioning import tensors
from pipelines.runtime.conditioning.base import Work
from pipelines.runtime.loader import Model
from pipelines.runtime.text.words import WithWords
from pipelines.spec.errors import ModelError
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest


def wanted(request: GenerationRequest) -> bool:
    return bool(request.embeddings)


@contextmanager
def applied(work: Work, model: Model) -> Iterator[Model]:
    """The model with the words of its embeddings. Raises ModelError for one that its text encoder cannot take."""
    encoder = model.text_encoder
    table = encoder.get_input_embeddings()
    records = [work.job.parts[given.model] for given in work.job.request.embeddings]
    vectors = [_vectors(record, work, table.embedding_dim) for record in records]
    tokenizer = WithWords(model.tokenizer, _numbered(records, vectors, table.num_embeddings))
    reading = tuple((tensors.key_of(record, work), record.trigger_words) for record in records)
    encoder.set_input_embeddings(Extended(table, torch.cat(vectors).to(table.weight)))
    try:
        yield replace(
            model,
            parts=model.parts.replaced("tokenizer", tokenizer),
            reading=(*model.reading, *reading),
            notes=(*model.notes, *_unused(tokenizer, work.job.request)),
        )
    finally:
        encoder.set_input_embeddings(table)


class Extended(torch.nn.Module):
    """Looks up ids of the table in it, and the ones behind its end in `more` [count, width]."""

    def __init__(self, table: torch.nn.Embedding, more: torch.Tensor) -> None:
        super().__init__()
        self.table, self.more = table, more

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[..., width] for ids [...]."""
        last = self.table.num_embeddings - 1
        known = self.table(ids.clamp(max=last))
        learned = self.more[(ids - last - 1).clamp(min=0)]
        return torch.where((ids > last).unsqueeze(-1), learned, known)


def _vectors(record: ModelRecord, work: Work, width: int) -> torch.Tensor:
    """[count, width] of the file."""
    found: torch.Tensor = tensors.kept(record, work, lambda: _read(record, work))
    if found.shape[1] != width:
        text = f"The embedding '{record.title}' is {found.shape[1]} wide, and {work.job.model.title} reads {width}"
        raise ModelError(f"{text}: {record.path}", "It was made for another model; remove it.")
    return found


def _read(record: ModelRecord, work: Work) -> torch.Tensor:
    content = tensors.read(Path(record.path), work.job)
    (found,) = content.tensors.values()  # the library lists no other ones
    return found.reshape(-1, found.shape[-1]).to(work.device, work.dtype)


def _numbered(records: list[ModelRecord], vectors: list[torch.Tensor], first: int) -> dict[str, range]:
    """The ids of each word, counted from `first` on."""
    words: dict[str, range] = {}
    for record, found in zip(records, vectors, strict=True):
        words[record.trigger_words[0]] = range(first, first + len(found))
        first += len(found)
    return words


def _unused(tokenizer: WithWords, request: GenerationRequest) -> Iterator[str]:
    texts: list[Any] = [request.prompt.text, request.prompt.negative]
    for word in tokenizer.unused(*texts):
        yield f"The word '{word}' of an embedding is not in the prompt, so it changes nothing."
