"""A model in fp8 or NF4 as safetensors: what each of its tensors becomes there.

NF4 is spelled as bitsandbytes does (functional.py, QuantState.as_dict): beside the bytes of a weight lie the largest
numbers of its blocks, the table and, as the bytes of a JSON, its shape. Its readers know linear layers alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import torch

from pipelines.library.contents import count
from pipelines.library.places import NF4_STATE
from pipelines.runtime import nf4
from pipelines.runtime.quantise import quantised
from pipelines.spec.families.base import Family
from pipelines.spec.weights import NF4, Weights, packed_bytes
from pipelines.workshop.quantize_sources import Source, is_packed
from pipelines.workshop.safetensors_writer import DTYPES, Entry

_WIDTHS = {word: kind.itemsize for kind, word in DTYPES.items()}
_WORDS = {word: str(kind).removeprefix("torch.") for kind, word in DTYPES.items()}


def entries(sources: Sequence[Source], family: Family, row: Weights) -> list[Entry]:
    """The widest numbers first, so that each begins at a multiple of its width."""
    made = [entry for source in sources for entry in _entries(source, is_packed(source, family, row), row)]
    return sorted(made, key=lambda each: (-_WIDTHS[each.dtype], each.name.endswith(NF4_STATE), each.name))


def _entries(source: Source, packs: bool, row: Weights) -> Iterator[Entry]:
    if not packs:
        nbytes = count(source.shape) * _WIDTHS[source.dtype]
        yield Entry(source.name, source.dtype, source.shape, nbytes, source.value)
    elif row is NF4:
        yield from _nf4(source)
    else:
        size = packed_bytes(row, source.shape)
        yield Entry(source.name, row.kind, source.shape, size, lambda: quantised(source.value(), row.kind))


def _nf4(source: Source) -> Iterator[Entry]:
    """The weight is read twice, once for the largest numbers: kept, those of all would fill the memory."""
    numbers = count(source.shape)
    blocks, codes = numbers // nf4.BLOCK, numbers // 2
    facts = {
        "quant_type": "nf4", "blocksize": nf4.BLOCK, "dtype": _WORDS[source.dtype], "shape": [*source.shape],
    }  # fmt: skip
    state = torch.tensor([*json.dumps(facts).encode()], dtype=torch.uint8)
    yield Entry(
        source.name, "U8", (codes, 1), codes, lambda: nf4.parts_of(quantised(source.value(), "NF4"))[1]
    )
    yield Entry(f"{source.name}.absmax", "F32", (blocks,), 4 * blocks, lambda: _largest(source))
    yield Entry(f"{source.name}.quant_map", "F32", (16,), 64, lambda: torch.tensor(nf4.TABLE))
    yield Entry(f"{source.name}{NF4_STATE}", "U8", (len(state),), len(state), lambda: state)


def _largest(source: Source) -> torch.Tensor:
    return nf4.largest(source.value().reshape(-1, nf4.BLOCK)).float()
