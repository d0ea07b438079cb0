"""The parts of a checkpoint in one file: its tensors under diffusers' names, still in the file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)

from pipelines.library.bfl_names import Way, depth, rows
from pipelines.library.clip_words import words_of
from pipelines.library.single_file import WORD_FILES, FileModel, PartFile
from pipelines.library.t5_names import t5_name
from pipelines.library.unet_names import control_name, hints_of
from pipelines.runtime.network import Sketch, as_named, empty
from pipelines.runtime.stored import Stored, stored
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import Spelling


@dataclass(frozen=True, slots=True)
class FileParts:
    """The parts of one model in its file, and in those of others that it borrows from."""

    model: FileModel
    family: Family

    def sketch(self, part: str) -> Sketch:
        """Of a part with weights. Raises ModelError for settings or names that are damaged."""
        file = self.model.parts[part]
        module = empty(self.family.file_parts[part].class_name, self.model.configs[part])
        return Sketch(module, NAMES[file.spelling](file, module), file.path)

    def settings(self, part: str) -> Any:
        """Of a part without weights: a tokenizer, or the config of the scheduler."""
        config = self.model.configs[part]
        if part == "scheduler":
            return config
        return _t5_words(config) if part in self.family.lent_words else _tokenizer(config)


def _tokenizer(config: Mapping[str, Any]) -> Any:
    words = words_of(config)
    return transformers.CLIPTokenizer(
        vocab=dict(words.vocabulary),
        merges=list(words.merges),  # type: ignore[arg-type] - pairs, as the class itself reads them from a folder
        pad_token=words.pad_token,
        model_max_length=words.model_max_length,
    )


def _t5_words(config: Mapping[str, Any]) -> Any:
    """Those of a folder, or of a file that `convert` wrote: by way of a folder, so that both are cut alike."""
    if "folder" in config:
        return transformers.T5Tokenizer.from_pretrained(config["folder"], local_files_only=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in WORD_FILES:
            Path(folder, name).write_text(str(config.get(name, "{}")), encoding="utf-8")
        return transformers.T5Tokenizer.from_pretrained(folder, local_files_only=True)


def _unet(file: PartFile, module: Any) -> dict[str, Stored]:
    return convert_ldm_unet_checkpoint(stored(file, "model.diffusion_model."), module.config)


def _vae(file: PartFile, module: Any) -> dict[str, Stored]:
    return convert_ldm_vae_checkpoint(stored(file), module.config)


def _clip(file: PartFile, module: Any) -> dict[str, Stored]:
    return as_named(stored(file), module)


def _open_clip(file: PartFile, module: Any) -> dict[str, Stored]:
    return as_named(
        convert_open_clip_checkpoint(module, stored(file, file.prefix), prefix=file.prefix), module
    )


def _t5(file: PartFile, module: Any) -> dict[str, Stored]:
    return as_named(stored(file), module)


def _t5_gguf(file: PartFile, module: Any) -> dict[str, Stored]:
    """The names of llama.cpp (gguf-py/gguf/tensor_mapping.py)."""
    return as_named({t5_name(name): found for name, found in stored(file).items()}, module)


def _flux(file: PartFile, module: Any) -> dict[str, Stored]:
    """Raises ModelError when a weight is missing."""
    found, names = stored(file), dict[str, Stored]()
    sizes = {name: tensor.shape[0] for name, tensor in module.state_dict().items()}
    for row in rows(*depth(file.names)):
        if row.diffusers[0] not in sizes or row.bfl not in found:
            continue
        whole, top = found[row.bfl], 0
        for name in row.diffusers:
            names[name] = _of_row(whole, row.way, top, sizes[name])
            top += sizes[name]
    return names


def _control(file: PartFile, module: Any) -> dict[str, Stored]:
    found, own = stored(file), module.state_dict()
    stride, hints = module.config.layers_per_block + 1, hints_of(own)
    theirs = {name: control_name(name, stride, hints) for name in own}
    return {name: found[other] for name, other in theirs.items() if other in found}


def _of_row(whole: Stored, way: Way, top: int, height: int) -> Stored:
    if way is Way.SAME:
        return whole
    if way is Way.JOINED:
        return whole[top : top + height]
    half = height // 2
    return whole.rolled(half)


NAMES: Mapping[Spelling, Callable[[PartFile, Any], dict[str, Stored]]] = {
    Spelling.LDM_UNET: _unet,
    Spelling.LDM_VAE: _vae,
    Spelling.CLIP: _clip,
    Spelling.OPEN_CLIP: _open_clip,
    Spelling.T5: _t5,
    Spelling.T5_GGUF: _t5_gguf,
    Spelling.FLUX: _flux,
    Spelling.LDM_CONTROL: _control,
    Spelling.DIFFUSERS: lambda file, module: as_named(stored(file), module),
}
