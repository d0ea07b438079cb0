"""A model written anew with its weights in fewer bits: int8 and int4 as GGUF, fp8 as safetensors.

The file holds all that its source does, so that the library draws with it as with any other. Its denoiser, and T5, are
packed by the rule of `spec/weights.py`; all else is copied. Other programs read the denoiser of such a GGUF: what does
not fit its blocks is reshaped, as city96/ComfyUI-GGUF (tools/convert.py) does it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open

from pipelines.library.contents import count
from pipelines.library.files import publish, remove, write_temporary
from pipelines.library.header import Header, read_header
from pipelines.library.version import program
from pipelines.runtime.quantise import quantised
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import Spelling
from pipelines.spec.record import Format, ModelRecord
from pipelines.spec.weights import BLOCK, Weights, bits_of, is_packable, is_packed_part, packed_bytes
from pipelines.workshop import convert
from pipelines.workshop.safetensors_writer import DTYPES, Entry, Progress, write

MADE_FROM = "emulsion.quantised"  # JSON in the metadata: of what, and how
_RESHAPED = "comfy.gguf.orig_shape."
_ROW = 256  # numbers of a row that is made to fit, where they come out even
_PLAIN = ("F32", "F16", "BF16")
_ARCHITECTURES = {"sd2": "sd1", "sdxl-refiner": "sdxl"}  # in ComfyUI-GGUF's words


@dataclass(frozen=True, slots=True)
class _Source:
    """A tensor of the model: `name` with its file's prefix, `part` where it is of one, `dtype` as headers name it."""

    name: str
    part: str
    bare: str
    dtype: str
    shape: tuple[int, ...]
    value: Callable[[], torch.Tensor]


def quantize(
    record: ModelRecord,
    row: Weights,
    out: Path,
    sha256: str = "",
    progress: Progress = lambda done, size: None,
) -> None:
    """Writes the model to `out`; `progress` hears the bytes done and to do, and what it raises ends the work.

    Raises ModelError for a model that cannot be packed, FileExistsError where `out` is there; then nothing is left.
    """
    family = by_id(record.family)
    refuse(record, family, row)
    folder = record.format is Format.DIFFUSERS
    sources = list(_of_folder(record, family) if folder else _of_file(record, family))
    metadata = convert.metadata_of(record, Path(record.path), family) if folder else _facts(record)
    made = {"id": record.id, "title": record.title, "sha256": sha256, "weights": row.id, "program": program()}
    metadata |= {MADE_FROM: json.dumps(made), "modelspec.title": f"{record.title} ({row.id})"}
    if row.id == "fp8":
        entries = [_entry(source, _is_packed(source, family), row) for source in sources]
        entries.sort(key=lambda each: (-each.nbytes // max(1, count(each.shape)), each.name))
        publish(write_temporary(out.parent, lambda file: write(file, entries, metadata, progress)), out)
        return
    temporary = out.parent / f".emulsion-{os.urandom(8).hex()}.tmp"
    try:
        _write_gguf(temporary, sources, family, row, metadata, progress)
        publish(temporary, out)
    finally:
        remove(temporary)


def refuse(record: ModelRecord, family: Family, row: Weights) -> None:
    """Raises ModelError for what cannot be read here, or would not become smaller."""
    if record.problem and record.needs == ():
        raise ModelError(f"'{record.id}' cannot be used: {record.problem}")
    if not family.file_parts:
        raise ModelError(f"Models of {family.name} cannot be written as one file yet.")
    if bits_of(record.dtype) <= row.bits or record.dtype not in ("float32", "float16", "bfloat16"):
        text = f"'{record.id}' has its weights in {record.dtype} already."
        raise ModelError(text, "Take the model with 16 bits, from which fewer can be made.")
    if record.format is Format.DIFFUSERS:
        convert.refuse(record, family)


def _of_folder(record: ModelRecord, family: Family) -> Iterator[_Source]:
    for part, row in family.file_parts.items():
        for tensor in convert.tensors_of(Path(record.path) / part, row):
            bare = tensor.name.removeprefix(row.prefix)
            yield _Source(tensor.name, part, bare, tensor.dtype, tuple(tensor.like.shape), tensor.value)


def _of_file(record: ModelRecord, family: Family) -> Iterator[_Source]:
    path = Path(record.path)
    header = read_header(path)
    for name, shape in header.shapes.items():
        if name.endswith("position_ids") or name.startswith("model_ema."):
            continue
        part, bare = _part_of(name, header, family)
        yield _Source(name, part, bare, header.dtypes[name], shape, lambda name=name: _tensor(path, name))


def _part_of(name: str, header: Header, family: Family) -> tuple[str, str]:
    for part, row in family.file_parts.items():
        if name.startswith(row.prefix):
            return part, name.removeprefix(row.prefix)
    alone = family.denoiser if family.file_parts[family.denoiser].mark in header.shapes else ""
    return alone, name


def _tensor(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def _facts(record: ModelRecord) -> dict[str, str]:
    return {name: text for name, text in read_header(Path(record.path)).metadata.items() if text}


def _is_packed(source: _Source, family: Family) -> bool:
    if not (source.part and is_packed_part(family, source.part) and is_packable(source.bare, source.shape)):
        return False
    # Rows of FLUX's joined weights are cut apart when they are read: no block may reach over the end of one.
    return family.file_parts[source.part].spelling is not Spelling.FLUX or source.shape[-1] % BLOCK == 0


def _entry(source: _Source, packs: bool, row: Weights) -> Entry:
    if not packs:
        nbytes = count(source.shape) * {word: kind.itemsize for kind, word in DTYPES.items()}[source.dtype]
        return Entry(source.name, source.dtype, source.shape, nbytes, source.value)
    value: Callable[[], torch.Tensor] = lambda: quantised(source.value().float(), row.kind)  # noqa: E731
    return Entry(source.name, row.kind, source.shape, packed_bytes(row, source.shape), value)


@dataclass(frozen=True, slots=True)
class _Row:
    """A tensor as the GGUF has it."""

    source: _Source
    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    nbytes: int
    packs: bool

    def bytes(self) -> np.ndarray:
        tensor = self.source.value()
        if self.packs:
            small = quantised(tensor, self.kind.name)
        elif self.kind.name == "F32":
            small = tensor.float()
        else:
            small = tensor
        return small.contiguous().reshape(-1).view(torch.uint8).numpy()


def _row(source: _Source, family: Family, row: Weights) -> _Row:
    if _is_packed(source, family):
        size, kind = count(source.shape), gguf.GGMLQuantizationType[row.kind]
        side = _ROW if size % _ROW == 0 else BLOCK
        shape = source.shape if source.shape[-1] % BLOCK == 0 else (size // side, side)
        return _Row(source, kind, shape, packed_bytes(row, source.shape), True)
    word = source.dtype if source.dtype in _PLAIN else "F32"
    kind = gguf.GGMLQuantizationType[word]
    return _Row(source, kind, source.shape, count(source.shape) * (4 if word == "F32" else 2), False)


def _write_gguf(
    path: Path,
    sources: Sequence[_Source],
    family: Family,
    row: Weights,
    metadata: Mapping[str, str],
    progress: Progress,
) -> None:
    rows = [_row(source, family, row) for source in sources]
    writer = gguf.GGUFWriter(path, _ARCHITECTURES.get(family.id, family.id.split("-")[0]))
    try:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for name, text in metadata.items():
            writer.add_string(name, text)
        for each in rows:
            writer.add_tensor_info(each.source.name, each.shape, np.dtype(np.float32), each.nbytes, each.kind)
            if each.shape != each.source.shape:
                writer.add_array(f"{_RESHAPED}{each.source.name}", list(each.source.shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, size = 0, sum(each.nbytes for each in rows)
        for each in rows:
            writer.write_tensor_data(each.bytes())
            done += each.nbytes
            progress(done, size)
    finally:
        writer.close()
