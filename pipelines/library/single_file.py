"""A checkpoint in one file: which parts it holds, where their tensors lie, and with which settings they are built."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.header import AGAIN, Header, read_header
from pipelines.library.own_facts import read_json
from pipelines.spec.errors import BrokenModel, ModelError
from pipelines.spec.families.base import Family

# The settings of its parts, as JSON in the metadata of a file that `convert` wrote.
CONFIGS = "emulsion.configs"
SETTINGS = "settings"  # beside the parts: what model_index.json says
ZERO_SNR = (
    "ztsnr"  # a tensor that makers add where the last step of the training was noise alone (Lin et al. 2023)
)
_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "configs"
# Of a full checkpoint; not of bundles that have the names of diffusers inside.
_SCALED = re.compile(r".*(_scaled|nf4|fp4|int[48]|svdquant)$")


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor: `begin` counts bytes from the start of the file, `dtype` is the file's own word for it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FileModel:
    """`parts` have the tensors by their names in the file, `configs` the settings of every part of the family."""

    path: Path
    parts: Mapping[str, Mapping[str, Place]]
    configs: Mapping[str, Mapping[str, Any]]


def can_load(header: Header, family: Family, quantisation: str) -> bool:
    """Whether the file has every part that has weights, in the names and numbers that are known."""
    if not family.file_parts or header.container != "safetensors" or _SCALED.match(quantisation):
        return False
    return all(
        any(name.startswith(part.prefix) for name in header.shapes) for part in family.file_parts.values()
    )


def read(path: Path, family: Family) -> FileModel:
    """Raises ModelError with the path for what is gone, damaged or incomplete."""
    header = read_header(path)
    if not can_load(header, family, ""):
        raise ModelError(
            f"The file does not hold a whole model of this family: {path}", "Choose another model."
        )
    every = _places(path)
    parts = {
        part: {name: place for name, place in every.items() if name.startswith(row.prefix)}
        for part, row in family.file_parts.items()
    }
    return FileModel(path, parts, _configs(header, family))


def _places(path: Path) -> dict[str, Place]:
    """`read_header` has checked the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return {
        name: Place(
            entry["dtype"],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in entries.items()
    }


def own_configs(header: Header) -> dict[str, dict[str, Any]]:
    """Those that the file brings; none where it has none. Raises BrokenModel for damaged ones."""
    text = header.metadata.get(CONFIGS)
    if text is None:
        return {}
    try:
        configs = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenModel("The settings in the file are damaged.", AGAIN) from error
    if not isinstance(configs, dict) or not all(isinstance(each, dict) for each in configs.values()):
        raise BrokenModel("The settings in the file are damaged.", AGAIN)
    return configs


def _configs(header: Header, family: Family) -> dict[str, dict[str, Any]]:
    """The file's own where it has any, else the published ones."""
    configs = own_configs(header) or bundled(family)
    if missing := [part for part in family.required_parts if part not in configs]:
        raise BrokenModel(f"The settings in the file leave out: {', '.join(missing)}.", AGAIN)
    if ZERO_SNR in header.shapes:
        zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        configs["scheduler"] = configs["scheduler"] | zero
    return configs


def bundled(family: Family) -> dict[str, dict[str, Any]]:
    """The settings of the family's published models, by part."""
    return {part: read_json(_ASSETS / family.id / f"{part}.json") for part in family.required_parts}


def tokenizer_config(path: Path, part: str, family: Family) -> Mapping[str, Any]:
    """Raises ModelError for a file that is gone or damaged."""
    return _configs(read_header(path), family).get(part, {})
