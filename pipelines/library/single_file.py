"""A checkpoint in one file: which parts it holds, where their tensors lie, and with which settings they are built."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipelines.library.bfl_names import depth
from pipelines.library.header import AGAIN, Header, read_header
from pipelines.library.own_facts import read_json
from pipelines.library.places import Place, Source, table_of
from pipelines.spec.errors import BrokenModel, ModelError
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import LDM_UNET, FilePart, Spelling

# The settings of its parts, as JSON in the metadata of a file that `convert` wrote.
CONFIGS = "emulsion.configs"
SETTINGS = "settings"  # beside the parts: what model_index.json says
ZERO_SNR = (
    "ztsnr"  # a tensor that makers add where the last step of the training was noise alone (Lin et al. 2023)
)
WORD_FILES = ("tokenizer.json", "tokenizer_config.json")  # of T5, as text in the settings of its tokenizer
_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "configs"
# Of a full checkpoint; not of bundles that have the names of diffusers inside.
GGUF_NUMBERS = frozenset(
    (
        "F32",
        "F16",
        "BF16",
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "Q8_0",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "IQ4_NL",
        "IQ4_XS",
    )
)
_PACKED = re.compile(r"fp4|int[48]|svdquant")


WIDENED = (
    "Its packed numbers are widened to 16 bits or more when it is loaded: it takes more memory than its file."
)


@dataclass(frozen=True, slots=True)
class PartFile:
    """One part where it lies: `places` by the names in the file, all of which begin with `prefix`."""

    source: Source
    spelling: Spelling
    prefix: str
    places: Mapping[str, Place]

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def size_bytes(self) -> int:
        return sum(place.size_bytes for place in self.places.values())

    @property
    def names(self) -> dict[str, str]:
        """The names without what stands before them, and as they are in the file."""
        return {name.removeprefix(self.prefix): name for name in self.places}


@dataclass(frozen=True, slots=True)
class FileModel:
    """`parts` are those with weights, `configs` the settings of every part of the family."""

    path: Path
    parts: Mapping[str, PartFile]
    configs: Mapping[str, Mapping[str, Any]]


def widened(quantisation: str) -> bool:
    """Whether its numbers take more in memory than in the file: 16 bits or more."""
    return quantisation.endswith("_scaled")


def can_load(header: Header, quantisation: str) -> bool:
    """Whether the numbers are of a kind that is known here."""
    if header.container == "gguf":
        return {*header.dtypes.values()} <= GGUF_NUMBERS
    return not _PACKED.fullmatch(quantisation)


def lacking(header: Header, family: Family) -> list[str]:
    """The parts with weights that the file does not hold, by the family's names of them."""
    return [part for part, row in family.file_parts.items() if way(header.shapes, row) is None]


def read(path: Path, family: Family, borrowed: Mapping[str, str] = MappingProxyType({})) -> FileModel:
    """`borrowed` as in `ModelRecord`. Raises ModelError with the path for what is gone, damaged or incomplete."""
    header = read_header(path)
    parts = {}
    for part, row in family.file_parts.items():
        own = way(header.shapes, row)
        if own is None and part not in borrowed:
            text = f"The file does not hold a whole model of this family: {path}"
            raise ModelError(text, "Choose another model.")
        parts[part] = _part_file(path, row, *own) if own else _lent(Path(borrowed[part]), row)
    return FileModel(path, parts, _configs(header, family, parts, borrowed))


def way(names: Mapping[str, object], row: FilePart) -> tuple[Spelling, str] | None:
    """Whose names the part has in a file with these names, and what stands before them; None when it is not there."""
    if any(name.startswith(row.prefix) for name in names):
        return row.spelling, row.prefix
    if row.mark in names:
        return row.alone or row.spelling, ""
    return next(((spelling, "") for mark, spelling in row.also if mark in names), None)


def _lent(path: Path, row: FilePart) -> PartFile:
    own = way(read_header(path).shapes, row)
    if own is None:
        raise ModelError(f"This file no longer holds what was in it: {path}", "Scan the model folders again.")
    return _part_file(path, row, *own)


def _part_file(path: Path, row: FilePart, spelling: Spelling, prefix: str) -> PartFile:
    source, table = table_of(path)
    places = {name: place for name, place in table.items() if name.startswith(prefix)}
    return PartFile(source, spelling, prefix, places)


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


def latent_channels(header: Header, family: Family) -> int:
    """Of the VAE by the file's own settings, else of the published ones. Raises BrokenModel for damaged settings."""
    told = own_configs(header).get("vae", {}).get("latent_channels")
    return told if isinstance(told, int) else family.latent.channels


def _configs(
    header: Header, family: Family, parts: Mapping[str, PartFile], borrowed: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The file's own where it has any, else the published ones, with as many blocks as there are."""
    configs = own_configs(header)
    if not configs:
        configs = bundled(family)
        for part, file in parts.items():
            configs[part] |= _shown(file)
    configs |= {part: {"folder": path} for part, path in borrowed.items() if part not in family.file_parts}
    if missing := [part for part in family.required_parts if part not in configs]:
        raise BrokenModel(f"The settings in the file leave out: {', '.join(missing)}.", AGAIN)
    if ZERO_SNR in header.shapes:
        zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        configs["scheduler"] = configs["scheduler"] | zero
    return configs


def _shown(file: PartFile) -> dict[str, int]:
    """What the tensors say of the settings: models of one family have more blocks or fewer, and more input."""
    if file.spelling is Spelling.FLUX:
        double, single = depth(file.names)
        return {"num_layers": double, "num_single_layers": single}
    if file.spelling is Spelling.LDM_UNET and (first := file.names.get(LDM_UNET.mark)):
        return {"in_channels": file.places[first].shape[1]}
    return {}


def bundled(family: Family) -> dict[str, dict[str, Any]]:
    """The settings of the family's published models, by part."""
    return {
        part: read_json(_ASSETS / family.id / f"{part}.json")
        for part in family.required_parts
        if part not in family.lent_words
    }


def tokenizer_config(path: Path, part: str, family: Family, borrowed: Mapping[str, str]) -> Mapping[str, Any]:
    """Raises ModelError for a file that is gone or damaged."""
    return _configs(read_header(path), family, {}, borrowed).get(part, {})
