"""How many bytes the parts of a model take in memory, by the headers of its files: no tensor is read.

A number that is stored in 16 bits or more takes what the device computes with; one in 8 bits, or in packed blocks,
stays as it is, as the loader keeps it where memory is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipelines.library.contents import count
from pipelines.library.detect.lora import HALVES, is_of_text
from pipelines.library.header import read_header
from pipelines.library.places import Place
from pipelines.library.single_file import read
from pipelines.spec.blocks import grouped
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.record import Format, Kind, ModelRecord
from pipelines.spec.sizes import Network, Sizes
from pipelines.spec.weights import (
    NF4,
    Weights,
    bits_of,
    is_packable,
    is_packed_part,
    packed_bytes,
    weights_of,
)

_WIDE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NARROW = {
    "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1,
}  # fmt: skip


def sizes_of(
    records: Iterable[ModelRecord],
    added: Iterable[ModelRecord] = (),
    itemsize: int = 2,
    upcast: bool = False,
    weights: str = "",
) -> Sizes:
    """Of the models that draw a picture, one after the other, and of the LoRAs and ControlNets beside them.

    `itemsize` are the bytes of a number that the device computes with; `weights` as in `GenerationRequest`. `upcast`: a
    VAE decodes in twice as many bytes, beside those that it came in.
    Raises ModelError with the path for what is gone, damaged or incomplete.
    """
    records = [*records]
    encoders, denoisers, vae = list[Network](), list[Network](), 0
    packed = bool(weights) or any(bits_of(record.dtype) < 16 for record in records[:1])
    for record in records:
        family = by_id(record.family)
        for part, tensors in _parts(record, family, itemsize, weights):
            blocks, rest = grouped(tensors)
            network = Network(name=part, blocks=blocks, rest=rest, model=record.id)
            if part == family.denoiser:
                denoisers.append(network)
            elif part == "vae":
                vae = max(vae, network.size_bytes * (3 if upcast else 1))
            else:
                encoders.append(network)
    added = [*added]
    kept = sum(_file_bytes(record) for record in added if record.kind is not Kind.CONTROLNET)
    kept += _weighed(added, itemsize)
    nets = sum(_file_bytes(record) for record in added if record.kind is Kind.CONTROLNET)
    eyes = [
        _of_folder(Path(record.image_encoder), itemsize, None) for record in added if record.image_encoder
    ]
    text, other = (0, 0) if packed else _changed(added, itemsize)
    text = min(text, sum(network.size_bytes for network in encoders))
    return Sizes(
        encoders=tuple(encoders), denoisers=tuple(denoisers), vae=vae, added=kept + nets, kept=kept,
        seeing=max((sum(eye.values()) for eye in eyes), default=0),
        merged=text + min(other, sum(network.size_bytes for network in denoisers)), merged_text=text,
    )  # fmt: skip


def _parts(
    record: ModelRecord, family: Family, itemsize: int, weights: str
) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Each part with weights, with the bytes of its tensors by their names without the file's prefix."""
    if record.format is Format.SINGLE_FILE:
        for part, file in read(Path(record.path), family, dict(record.borrowed)).parts.items():
            row = weights_of(weights) if is_packed_part(family, part) else None
            yield (
                part,
                {
                    name: _in_memory(
                        name,
                        *_kept(place),
                        itemsize,
                        row,
                    )
                    for name, real in file.names.items()
                    for place in (file.places[real],)
                },
            )
        return
    for part in family.required_parts:
        if part in family.file_parts:
            row = weights_of(weights) if is_packed_part(family, part) else None
            yield part, _of_folder(Path(record.path) / part, itemsize, row)


def _kept(place: Place) -> tuple[str, tuple[int, ...], int]:
    """In which numbers it is kept, its shape and its bytes."""
    if place.stays_nf4:
        return place.dtype, place.shape, packed_bytes(NF4, place.shape)
    return "F16" if place.beside else place.dtype, place.shape, place.size_bytes


def _of_folder(folder: Path, itemsize: int, row: Weights | None) -> Mapping[str, int]:
    tensors = dict[str, int]()
    for path in weight_files(folder):
        header = read_header(path)
        for name, shape in header.shapes.items():
            kind = header.dtypes[name]
            whole = count(shape) * (_WIDE.get(kind) or _NARROW.get(kind, 1))
            tensors[name] = _in_memory(name, kind, shape, whole, itemsize, row)
    return tensors


def _in_memory(
    name: str, dtype: str, shape: tuple[int, ...], stored: int, itemsize: int, row: Weights | None
) -> int:
    if row and is_packable(name, shape, row) and bits_of(dtype) > row.bits:
        return packed_bytes(row, shape)
    return count(shape) * itemsize if dtype in _WIDE else stored


def weight_files(folder: Path) -> list[Path]:
    """One file, or the shards of one; a half precision variant only where the full one is not there.

    Raises ModelError where there is none.
    """
    found = sorted(path for path in folder.glob("*.safetensors") if path.is_file())  # a pipe would never end
    plain = [path for path in found if ".fp16." not in path.name and ".non_ema." not in path.name]
    if not found:
        raise ModelError(
            f"There is no .safetensors file: {folder}", "Pickle files (.bin, .ckpt) are never loaded."
        )
    return plain or found


def _changed(added: Iterable[ModelRecord], itemsize: int) -> tuple[int, int]:
    """Bytes of what LoRAs change of text encoders and of the rest; what several change by one name is counted once."""
    layers: dict[str, int] = {}
    for record in added:
        if record.kind is Kind.LORA:
            shapes = read_header(Path(record.path)).shapes
            for down, up in HALVES:
                for base in [name.removesuffix(down) for name in shapes if name.endswith(down)]:
                    if halves := shapes.get(f"{base}{up}"):
                        layers[base] = halves[0] * count(shapes[f"{base}{down}"][1:]) * itemsize
    text = sum(size for base, size in layers.items() if is_of_text(base))
    return text, sum(layers.values()) - text


def _weighed(added: Iterable[ModelRecord], itemsize: int) -> int:
    """Bytes of the halves of LoRAs that lie a second time, multiplied by their weight (`runtime/low_rank.py`)."""
    ends = tuple(down for down, _ in HALVES)
    files = [read_header(Path(record.path)) for record in added if record.kind is Kind.LORA]
    downs = [shape for file in files for name, shape in file.shapes.items() if name.endswith(ends)]
    return sum(map(count, downs)) * itemsize


def _file_bytes(record: ModelRecord) -> int:
    """Of all weights of a LoRA or a ControlNet as they are stored, which is nearly what they take."""
    path = Path(record.path)
    try:
        files = weight_files(path) if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise ModelError(f"This file cannot be read: {path}", "Was it moved or deleted?") from error
