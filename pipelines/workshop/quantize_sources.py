"""The tensors of a model that is to be written in fewer bits: what each is, and which are packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from pipelines.library.header import read_header
from pipelines.library.single_file import way
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import Spelling
from pipelines.spec.record import Format, ModelRecord
from pipelines.spec.weights import Weights, is_packable, is_packed_part
from pipelines.workshop import convert


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the model: `name` with its file's prefix, `bare` without; `dtype` as headers name it.

    `part` is empty for what is of none, and `spelling` says whose names it has.
    """

    name: str
    part: str
    bare: str
    spelling: Spelling | None
    dtype: str
    shape: tuple[int, ...]
    value: Callable[[], torch.Tensor]


def sources(record: ModelRecord, family: Family) -> list[Source]:
    """Of all that its file or its folder has. Raises ModelError for what is gone or damaged."""
    folder = record.format is Format.DIFFUSERS
    return [*(_of_folder(record, family) if folder else _of_file(record, family))]


def is_packed(source: Source, family: Family, row: Weights) -> bool:
    """In a file of this row."""
    if not (source.part and is_packed_part(family, source.part)):
        return False
    if not is_packable(source.bare, source.shape, row) or (row.matrices and len(source.shape) != 2):
        return False
    # Rows of FLUX's joined weights are cut apart when they are read: no block may reach over the end of one.
    return source.spelling is not Spelling.FLUX or source.shape[-1] % row.numbers == 0


def _of_folder(record: ModelRecord, family: Family) -> Iterator[Source]:
    for part, row in family.file_parts.items():
        for tensor in convert.tensors_of(Path(record.path) / part, row):
            bare = tensor.name.removeprefix(row.prefix)
            shape = tuple(tensor.like.shape)
            yield Source(tensor.name, part, bare, row.spelling, tensor.dtype, shape, tensor.value)


def _of_file(record: ModelRecord, family: Family) -> Iterator[Source]:
    path = Path(record.path)
    header = read_header(path)
    parts = {part: found for part, row in family.file_parts.items() if (found := way(header.shapes, row))}
    # The longest prefix first: a part that is alone has none, and all names begin so.
    owners = sorted(((prefix, part, spelling) for part, (spelling, prefix) in parts.items()), reverse=True)
    for name, shape in header.shapes.items():
        if name.endswith("position_ids") or name.startswith("model_ema."):
            continue
        owner = (each for each in owners if name.startswith(each[0]))
        prefix, part, spelling = next(owner, ("", "", None))
        bare, dtype = name.removeprefix(prefix), header.dtypes[name]
        yield Source(name, part, bare, spelling, dtype, shape, lambda name=name: _tensor(path, name))


def _tensor(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)
