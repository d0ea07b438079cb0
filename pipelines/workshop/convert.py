"""From a diffusers folder to a checkpoint in one file, in the names that other programs read; bit for bit the weights.

The file also brings what its names cannot say: the settings of its parts, and the words of its tokenizer where they are
not CLIP's own. They lie in the metadata, which other programs leave alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from pipelines.library.clip_words import words_of
from pipelines.library.control_files import PART
from pipelines.library.files import write_whole
from pipelines.library.header import read_header
from pipelines.library.models import INDEX
from pipelines.library.own_facts import read_json
from pipelines.library.side_facts import FACTS, FAMILY
from pipelines.library.single_file import CONFIGS, SETTINGS, WORD_FILES
from pipelines.library.weights import weight_files
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import FLUX_CONTROL, LDM_CONTROL, FilePart
from pipelines.spec.record import Format, Kind, ModelRecord
from pipelines.workshop.ldm_names import Renamed, renamed
from pipelines.workshop.safetensors_writer import Entry, Progress, write

# What says who wrote a config, and how to run it; nothing of the model itself.
_NOT_SETTINGS = ("_", "transformers_version", "architectures", "dtype", "torch_dtype", "model_type")
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}  # in modelspec's words


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of the file to be, out of `files` by the names of the folder; `dtype` in the file's own word."""

    name: str
    dtype: str
    like: torch.Tensor
    of: Renamed
    files: tuple[Path, ...]

    def value(self) -> torch.Tensor:
        loaded = []
        for name, path in zip(self.of.sources, self.files, strict=True):
            with safe_open(path, framework="pt") as file:
                loaded.append(file.get_tensor(name))
        return self.of.make(*loaded).contiguous()


def convert(record: ModelRecord, out: Path, progress: Progress = lambda done, size: None) -> None:
    """Writes the model of the folder to `out`; `progress` hears the bytes done and the bytes to do.

    Raises ModelError for a model that has no such file, FileExistsError where `out` is there; then nothing is left.
    """
    family = by_id(record.family)
    folder = Path(record.path)
    refuse(record, family)
    if record.kind is Kind.CONTROLNET:
        metadata = _told(record, folder) | {CONFIGS: _dumped({PART: _config(folder)})}
        tensors = list(tensors_of(folder, _control_row(family)))
    else:
        metadata = metadata_of(record, folder, family)
        tensors = [t for part, row in family.file_parts.items() for t in tensors_of(folder / part, row)]
    # As the library writes them: the widest numbers first, so that each begins at a multiple of its width.
    tensors.sort(key=lambda t: (-t.like.element_size(), t.name))
    entries = [Entry(t.name, t.dtype, tuple(t.like.shape), t.like.nbytes, t.value) for t in tensors]
    write_whole(out, lambda file: write(file, entries, metadata, progress))


def refuse(record: ModelRecord, family: Family) -> None:
    """Raises ModelError for what is no whole folder of a family whose single files other programs know."""
    if record.problem:
        raise ModelError(f"'{record.id}' cannot be used: {record.problem}")
    if record.kind is Kind.CONTROLNET and Path(record.path).is_dir():
        return
    if record.format is not Format.DIFFUSERS:
        raise ModelError(f"'{record.id}' is a single file already.", "Name a diffusers folder.")
    if not family.file_parts:
        raise ModelError(f"Models of {family.name} cannot be converted yet.")


def tensors_of(part: Path, row: FilePart) -> Iterator[_Tensor]:
    """Of one part of the folder, under the names of the file."""
    places, shapes, dtypes = {}, {}, {}
    for path in weight_files(part):
        header = read_header(path)
        places |= dict.fromkeys(header.shapes, path)
        shapes |= header.shapes
        dtypes |= header.dtypes
    names = [name for name in places if not name.endswith("position_ids")]  # 0 to 76, in old folders
    for each in renamed(row.spelling, names, read_json(part / "config.json")):
        dtype = dtypes[each.sources[0]]
        with safe_open(places[each.sources[0]], framework="pt") as file:
            kind = file.get_tensor(each.sources[0]).dtype
        like = each.make(*(torch.empty(shapes[name], dtype=kind, device="meta") for name in each.sources))
        yield _Tensor(row.prefix + each.name, dtype, like, each, tuple(places[name] for name in each.sources))


def metadata_of(record: ModelRecord, folder: Path, family: Family) -> dict[str, str]:
    """Of the file: the settings of all parts, and what the folder's own facts say."""
    configs = {
        part: _word_files(folder / part) if part in family.lent_words else _config(folder / part)
        for part in family.required_parts
    }
    index = read_json(folder / INDEX)
    told = {name: index[name] for name in family.settings if name in index}
    return _told(record, folder) | {CONFIGS: _dumped({**configs, SETTINGS: told})}


def _told(record: ModelRecord, folder: Path) -> dict[str, str]:
    """What the folder says of itself."""
    metadata = {"format": "pt", "modelspec.title": record.title, FAMILY: record.family}
    if prediction := _PREDICTIONS.get(record.prediction):
        metadata["modelspec.prediction_type"] = prediction
    if (own := folder / "emulsion.json").is_file():
        facts = {name: value for name, value in read_json(own).items() if name != "id"}
        metadata[FACTS] = _dumped(facts)
    return metadata


def _dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _control_row(family: Family) -> FilePart:
    """FLUX's have no other names than those of diffusers."""
    return FLUX_CONTROL if family.denoiser == "transformer" else LDM_CONTROL


def _config(part: Path) -> dict[str, Any]:
    if (part / "tokenizer_config.json").is_file():
        return _tokenizer_config(part)
    path = part / "scheduler_config.json"
    config = read_json(path if path.is_file() else part / "config.json")
    return {name: value for name, value in config.items() if not name.startswith(_NOT_SETTINGS)}


def _word_files(part: Path) -> dict[str, Any]:
    """T5's words as they are: files of weights never bring them, and the program has none of its own."""
    try:
        return {name: (part / name).read_text("utf-8") for name in WORD_FILES}
    except (OSError, ValueError) as error:
        text = f"The tokenizer {part} cannot be read; it takes {' and '.join(WORD_FILES)}."
        raise ModelError(text, "Get the model again.") from error


def _tokenizer_config(part: Path) -> dict[str, Any]:
    told = read_json(part / "tokenizer_config.json")
    config = {"model_max_length": told.get("model_max_length", 77)}
    pad = told.get("pad_token")
    config["pad_token"] = pad["content"] if isinstance(pad, dict) else pad or "<|endoftext|>"
    vocabulary, merges = _words(part)
    own = words_of({})
    if (vocabulary, merges) == (own.vocabulary, [list(pair) for pair in own.merges]):
        return config
    return config | {"vocabulary": vocabulary, "merges": merges}


def _words(part: Path) -> tuple[dict[str, int], list[list[str]]]:
    try:
        if (fast := part / "tokenizer.json").is_file():
            model = json.loads(fast.read_text("utf-8"))["model"]
            vocabulary, merges = model["vocab"], model["merges"]
        else:
            vocabulary = json.loads((part / "vocab.json").read_text("utf-8"))
            lines = (part / "merges.txt").read_text("utf-8").split("\n")
            merges = [line for line in lines if line.strip() and not line.startswith("#version")]
        return vocabulary, [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in merges]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"The tokenizer {part} cannot be read.", "Get the model again.") from error
