"""A model written anew with its weights in fewer bits: int8 and int4 as GGUF, fp8 and NF4 as safetensors.

The file holds all that its source does, so that the library draws with it as with any other. Its denoiser, and T5, are
packed by the rule of `spec/weights.py`; all else is copied. Other programs read the denoiser of such a file.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.library.files import write_whole, write_whole_by_name
from pipelines.library.header import read_header
from pipelines.library.version import program
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.record import Format, ModelRecord, State
from pipelines.spec.weights import Weights, bits_of
from pipelines.workshop import convert
from pipelines.workshop.quantize_gguf import write_gguf
from pipelines.workshop.quantize_safetensors import entries
from pipelines.workshop.quantize_sources import sources
from pipelines.workshop.safetensors_writer import Progress, write

MADE_FROM = "emulsion.quantised"  # JSON in the metadata: of what, and how


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
    tensors = sources(record, family)
    folder = record.format is Format.DIFFUSERS
    metadata = convert.metadata_of(record, Path(record.path), family) if folder else _facts(record)
    made = {"id": record.id, "title": record.title, "sha256": sha256, "weights": row.id, "program": program()}
    metadata |= {MADE_FROM: json.dumps(made), "modelspec.title": f"{record.title} ({row.id})"}
    if row.end == ".gguf":
        write_whole_by_name(out, lambda path: write_gguf(path, tensors, family, row, metadata, progress))
    else:
        packed = entries(tensors, family, row)
        write_whole(out, lambda file: write(file, packed, metadata, progress))


def refuse(record: ModelRecord, family: Family, row: Weights) -> None:
    """Raises ModelError for what cannot be read here, or would not become smaller."""
    if record.problem and record.state is not State.INCOMPLETE:  # that lacks parts which are other files
        raise ModelError(f"'{record.id}' cannot be used: {record.problem}")
    if not family.file_parts:
        raise ModelError(f"Models of {family.name} cannot be written as one file yet.")
    if bits_of(record.dtype) <= row.bits or record.dtype not in ("float32", "float16", "bfloat16"):
        text = f"'{record.id}' has its weights in {record.dtype} already."
        raise ModelError(text, "Take the model with 16 bits, from which fewer can be made.")
    if record.format is Format.DIFFUSERS:
        convert.refuse(record, family)


def _facts(record: ModelRecord) -> dict[str, str]:
    return {name: text for name, text in read_header(Path(record.path)).metadata.items() if text}
