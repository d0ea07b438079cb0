"""Whether a diffusers folder is whole, and holds weights only: no pickle, no code of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.header import Header, read_header
from pipelines.spec.errors import ModelError
from pipelines.spec.families.base import Family

# Who may provide a part; any other name would be a Python module out of the folder.
LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion"})
# The file that says: this part is a tokenizer, a scheduler or the like and has no weights.
_WEIGHTLESS = frozenset({"tokenizer_config.json", "scheduler_config.json", "preprocessor_config.json"})
MAX_INDEX_BYTES = 20_000_000
_SHARD_INDEX = ".safetensors.index.json"
_AGAIN = "Download the whole folder again."
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Weights:
    """`dtype` of the biggest weight file, `size_bytes` of all of them."""

    dtype: str
    size_bytes: int


def check_folder(folder: Path, index: dict[str, Any], family: Family) -> Weights:
    """Raises ModelError with what is missing, incomplete or not to be trusted."""
    _refuse_code(index)
    _refuse_nameless(index, family)
    missing = [part for part in family.required_parts if not _is_there(folder / part)]
    if missing:
        raise ModelError(f"Parts are missing: {', '.join(missing)}.", _AGAIN)
    headers = [header for part in family.required_parts for header in _headers(folder / part)]
    if not headers:
        raise ModelError("The folder holds no weights.", _AGAIN)
    return _weights(headers)


def check_part(folder: Path) -> Weights:
    """Of one network by itself, such as a ControlNet. Raises ModelError as `check_folder` does."""
    headers = _headers(folder)
    if not headers:
        raise ModelError("The folder holds no weights.", _AGAIN)
    return _weights(headers)


def _weights(headers: list[Header]) -> Weights:
    biggest = max(headers, key=lambda header: header.size_bytes)
    return Weights(dtype=biggest.dtype, size_bytes=sum(header.size_bytes for header in headers))


def _refuse_code(index: dict[str, Any]) -> None:
    for name, value in index.items():
        if not isinstance(value, list):
            continue
        library = value[0] if value else None
        if library is not None and not (isinstance(library, str) and library in LIBRARIES):
            text = f"The part '{name[:60]}' needs code of its own ({str(library)[:60]}), which is never run."
            raise ModelError(text, "Use a version of the model without custom code.")


def _refuse_nameless(index: dict[str, Any], family: Family) -> None:
    """Each part of the family stands in the index as [library, class]; without a class nothing can be built."""
    for part in family.required_parts:
        match index.get(part):
            case [str(), str()]:
                continue
            case _:
                text = f"model_index.json does not say what the part '{part}' is."
                raise ModelError(text, _AGAIN)


def _is_there(part: Path) -> bool:
    return part.is_dir() and any(entry.is_file() for entry in part.iterdir())


def _headers(part: Path) -> list[Header]:
    """Of the safetensors files of one part; none for a tokenizer or a scheduler."""
    files = {entry.name for entry in part.iterdir() if entry.is_file()}
    if files & _WEIGHTLESS:
        return []
    wanted = {name for name in files if name.endswith(".safetensors")}
    wanted |= {shard for name in files if name.endswith(_SHARD_INDEX) for shard in _shards(part / name)}
    if missing := sorted((wanted | {"config.json"}) - files):
        raise ModelError(f"The part '{part.name}' is incomplete: {missing[0]} is missing.", _AGAIN)
    if not wanted:
        raise _no_weights(part, files)
    return [_header(part, part / name) for name in sorted(wanted)]


def _shards(index: Path) -> set[str]:
    """The files that a model in several pieces consists of."""
    try:
        with index.open("rb") as file:
            names = set(json.loads(file.read(MAX_INDEX_BYTES))["weight_map"].values())
        return {Path(name).name for name in names}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index.parent.name}/{index.name} is damaged.", _AGAIN) from error


def _no_weights(part: Path, files: set[str]) -> ModelError:
    pickles = sorted(name for name in files if name.lower().endswith(_PICKLES))
    if not pickles:
        return ModelError(f"The part '{part.name}' has no weights.", _AGAIN)
    text = f"The part '{part.name}' is a pickle ({pickles[0]}), which can run code; it is not opened."
    return ModelError(text, "Use a version of the model with .safetensors files.")


def _header(part: Path, file: Path) -> Header:
    try:
        return read_header(file)
    except ModelError as error:
        raise ModelError(f"{part.name}/{error.message}", error.hint) from error
