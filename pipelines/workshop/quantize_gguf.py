"""A model in GGUF's blocks. What does not fit them is reshaped, as city96/ComfyUI-GGUF (tools/convert.py) does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch

from pipelines.library.contents import count
from pipelines.runtime.quantise import quantised
from pipelines.spec.families.base import Family
from pipelines.spec.weights import BLOCK, Weights, packed_bytes
from pipelines.workshop.quantize_sources import Source, is_packed
from pipelines.workshop.safetensors_writer import Progress

_RESHAPED = "comfy.gguf.orig_shape."
_ROW = 256  # numbers of a row that is made to fit, where they come out even
_PLAIN = ("F32", "F16", "BF16")
_ARCHITECTURES = {"sd2": "sd1", "sdxl-refiner": "sdxl"}  # in ComfyUI-GGUF's words


@dataclass(frozen=True, slots=True)
class _Row:
    """A tensor as the GGUF has it."""

    source: Source
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


def write_gguf(
    path: Path,
    sources: Sequence[Source],
    family: Family,
    row: Weights,
    metadata: Mapping[str, str],
    progress: Progress,
) -> None:
    """Makes the file; what `progress` raises leaves a part of it."""
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


def _row(source: Source, family: Family, row: Weights) -> _Row:
    if is_packed(source, family, row):
        size, kind = count(source.shape), gguf.GGMLQuantizationType[row.kind]
        side = _ROW if size % _ROW == 0 else BLOCK
        shape = source.shape if source.shape[-1] % BLOCK == 0 else (size // side, side)
        return _Row(source, kind, shape, packed_bytes(row, source.shape), True)
    word = source.dtype if source.dtype in _PLAIN else "F32"
    kind = gguf.GGMLQuantizationType[word]
    return _Row(source, kind, source.shape, count(source.shape) * (4 if word == "F32" else 2), False)
