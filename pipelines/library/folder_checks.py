"""Whether a diffusers folder is whole, and holds weights only: no pickle, no code of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.detect.numbers import dtype, parameters, quantisation
from pipelines.library.header import PICKLES, Header, read_header
from pipelines.spec.errors import IncompleteModel, ModelError, UnsafeModel
from pipelines.spec.families.base import Family

# Who may provide a part; any other name would be a Python module out of the folder.
LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion"})
# The file that says: this part is a tokenizer, a scheduler or the like and has no weights.
_WEIGHTLESS = frozenset({"tokenizer_config.json", "scheduler_config.json", "preprocessor_config.json"})
MAX_INDEX_BYTES = 20_000_000
_SHARD_INDEX = ".safetensors.index.json"
_NO_CODE = "Use a version of the model without custom code."
_AGAIN = "Download the whole folder again."


@dataclass(frozen=True, slots=True)
class Weights:
    """`dtype` and `quantisation` of the biggest weight file, the rest of all; `sharded`: a part is in several files."""

    dtype: str
    size_bytes: int
    quantisation: str = ""
    parameters: int = 0
    sharded: bool = False


def check_folder(folder: Path, index: dict[str, Any], family: Family) -> Weights:
    """Raises ModelError with what is missing, incomplete or not to be trusted."""
    _refuse_nameless(index, family)
    missing = [part for part in family.required_parts if not _is_there(folder / part)]
    if missing:
        raise IncompleteModel(f"Parts are missing: {', '.join(missing)}.", _AGAIN)
    return _weights([folder / part for part in family.required_parts])


def check_part(folder: Path) -> Weights:
    """Of one network by itself, such as a ControlNet. Raises ModelError as `check_folder` does."""
    return _weights([folder])


def _weights(parts: list[Path]) -> Weights:
    headers = [header for part in parts for header in _headers(part)]
    if not headers:
        raise IncompleteModel("The folder holds no weights.", _AGAIN)
    biggest = max(headers, key=lambda header: header.size_bytes)
    quantised = quantisation(biggest)
    return Weights(
        dtype=dtype(biggest, quantised),
        size_bytes=sum(header.size_bytes for header in headers),
        quantisation=quantised,
        parameters=sum(parameters(header, quantisation(header)) for header in headers),
        sharded=any(next(part.glob(f"*{_SHARD_INDEX}"), None) for part in parts),
    )


def refuse_code(index: dict[str, Any]) -> None:
    """Raises UnsafeModel when a part of the folder would run code of its own."""
    for name, value in index.items():
        if not isinstance(value, list):
            continue
        library = value[0] if value else None
        if library is not None and not (isinstance(library, str) and library in LIBRARIES):
            if name == "_class_name":
                kind = f"Models with a pipeline of their own ({str(library)[:60]}) are not supported"
                raise UnsafeModel(f"{kind}: their code is never run.", _NO_CODE)
            text = f"The part '{name[:60]}' needs code of its own ({str(library)[:60]}), which is never run."
            raise UnsafeModel(text, _NO_CODE)


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
        raise IncompleteModel(f"The part '{part.name}' is incomplete: {_listed(missing)} missing.", _AGAIN)
    if not wanted:
        raise _no_weights(part, files)
    return [_header(part, part / name) for name in sorted(wanted)]


def _listed(names: list[str]) -> str:
    """Enough of them to know what to look for."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more} {'is' if len(names) == 1 else 'are'}"


def _shards(index: Path) -> set[str]:
    """The files that a model in several pieces consists of."""
    try:
        with index.open("rb") as file:
            names = set(json.loads(file.read(MAX_INDEX_BYTES))["weight_map"].values())
        return {Path(name).name for name in names}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index.parent.name}/{index.name} is damaged.", _AGAIN) from error


def _no_weights(part: Path, files: set[str]) -> ModelError:
    pickles = sorted(name for name in files if name.lower().endswith(PICKLES))
    if not pickles:
        return IncompleteModel(f"The part '{part.name}' has no weights.", _AGAIN)
    text = f"The part '{part.name}' is a pickle ({pickles[0]}), which can run code; it is not opened."
    return UnsafeModel(text, "Use a version of the model with .safetensors files.")


def _header(part: Path, file: Path) -> Header:
    try:
        return read_header(file)
    except ModelError as error:
        raise type(error)(f"{part.name}/{error.message}", error.hint) from error
