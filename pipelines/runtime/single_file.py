"""The parts of a checkpoint in one file: its tensors under diffusers' names, read once, straight to their place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)

from pipelines.library.bfl_names import Way, depth, rows
from pipelines.library.clip_words import words_of
from pipelines.library.single_file import GGUF_NUMBERS, WORD_FILES, FileModel, PartFile, Place
from pipelines.runtime import attention, gguf_weights
from pipelines.runtime.components import PartKey
from pipelines.runtime.precision import Precision, settle
from pipelines.spec.errors import IncompleteModel, ModelError
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import Spelling
from pipelines.spec.job import Job
from pipelines.spec.weights import is_packed_part

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_CHUNK = 1 << 20  # bytes that are converted at once; more would leave the cache in between
_TEXT = "text_model."
# Of transformers' configs: which code computes, and in which precision, is not for a file to say.
_NOT_SETTINGS = ("_", "attn_implementation", "dtype", "torch_dtype", "auto_map", "experts_implementation")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that still lies in the file, and what is to be done with it once it is read.

    diffusers' converters take it for a tensor: they rename, cut and turn, and no weight is read before its turn.
    `like` has its shape, on the meta device.
    """

    name: str
    like: torch.Tensor
    then: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = ()

    @property
    def shape(self) -> torch.Size:
        return self.like.shape

    @property
    def ndim(self) -> int:
        return self.like.ndim

    @property
    def T(self) -> Stored:
        return self._after(lambda tensor: tensor.T)

    def __getitem__(self, index: Any) -> Stored:
        return self._after(lambda tensor: tensor[index])

    def rolled(self, rows: int) -> Stored:
        """The rows that stand first come last."""
        return self._after(lambda tensor: tensor.roll(-rows, 0))

    def clone(self) -> Stored:
        return self

    def detach(self) -> Stored:
        return self

    def contiguous(self) -> Stored:
        return self

    def _after(self, step: Callable[[torch.Tensor], torch.Tensor]) -> Stored:
        return Stored(self.name, step(self.like), (*self.then, step))


@dataclass(frozen=True, slots=True)
class FileLoad:
    """One model about to be loaded out of its file."""

    model: FileModel
    family: Family
    precision: Precision
    device: torch.device
    job: Job

    def key(self, part: str) -> PartKey:
        """Of the part as if it were a file of its own; one that is lent to several models is one part."""
        file = self.model.parts.get(part)
        path = Path(self.model.configs[part].get("folder", self.model.path)) if file is None else file.path
        size = sum(place.size_bytes for place in file.places.values()) if file else 0
        stamp = ((part, size, path.stat().st_mtime_ns),)
        return PartKey(str(path / part), stamp, str(self._precision(part)), str(self.device))

    def _precision(self, part: str) -> Precision:
        return self.precision if is_packed_part(self.family, part) else self.precision.whole()

    def part(self, part: str) -> Any:
        """Raises ModelError for what is damaged or incomplete, Cancelled between tensors."""
        config = self.model.configs[part]
        if part == "scheduler":
            return config
        if part not in self.family.file_parts:
            return _t5_words(config) if part in self.family.lent_words else _tokenizer(config)
        return self._network(part, self.family.file_parts[part].class_name, config)

    def _network(self, part: str, class_name: str, config: Mapping[str, Any]) -> torch.nn.Module:
        module = _empty(class_name, config)
        file = self.model.parts[part]
        names = _NAMES[file.spelling](file, module)
        wanted = module.state_dict().keys()
        precision = self._precision(part)
        tensors = self._tensors(file, {name: names[name] for name in names if name in wanted})
        state = dict(gguf_weights.narrowed(tensors, module, precision.weights))
        state = gguf_weights.settled(module, state, precision.weights, precision.compute)
        _tied(module).load_state_dict(state, strict=False, assign=True)
        if missing := [name for name, weight in _tied(module).state_dict().items() if weight.is_meta]:
            text = f"{len(missing)} weights of the part '{part}' are missing, such as '{missing[0]}'"
            raise ModelError(f"{text}: {file.path}", "Get the model again.")
        module = module.to(self.device).eval().requires_grad_(False)  # what is no weight is on the CPU still
        settle(module, self.precision)
        if part == self.family.denoiser:
            attention.settle(module)
        return module

    def _tensors(self, part: PartFile, names: Mapping[str, Stored]) -> Iterator[tuple[str, torch.Tensor]]:
        """In the order of the file, which a disk reads fastest. One from which several are cut is read once."""
        places = part.places
        cut = [places[stored.name].size_bytes for stored in names.values() if not self._is_direct(stored)]
        room = torch.empty(max((_CHUNK, *cut)), dtype=torch.uint8)
        inside, whole = "", room
        # Plain reads and no map: a file that shrinks must not take the process with it, and the pages of a map would
        # count as a second copy of the weights.
        with open(part.path, "rb", buffering=0) as file:
            for name, stored in sorted(names.items(), key=lambda item: places[item[1].name].begin):
                self.job.check()
                place = places[stored.name]
                if place.dtype in GGUF_NUMBERS - _DTYPES.keys():
                    whole = _read_bytes(file, place, torch.empty(place.size_bytes, dtype=torch.uint8))
                    tensor = gguf_weights.packed(whole, place)
                    for step in stored.then:
                        tensor = step(tensor).clone()
                    yield name, tensor.to(self.device)
                    continue
                dtype = self.precision.of(_dtype(place))
                if self._is_direct(stored):
                    yield name, _read_as(dtype, file, place, room)
                    continue
                if inside != stored.name:
                    inside, whole = stored.name, _read(file, place, room[: place.size_bytes])
                tensor = whole
                for step in stored.then:
                    tensor = step(tensor)
                yield name, tensor.to(self.device, dtype, copy=True, memory_format=torch.contiguous_format)

    def _is_direct(self, stored: Stored) -> bool:
        """Whether the numbers of the file are those of the weight, in their order and on this side."""
        return self.device.type == "cpu" and not stored.then


def _read_bytes(file: Any, place: Place, room: torch.Tensor) -> torch.Tensor:
    file.seek(place.begin)
    _fill(file, room)
    return room


def _read(file: Any, place: Place, room: torch.Tensor) -> torch.Tensor:
    """The tensor, in the bytes of `room`."""
    dtype = _dtype(place)
    return _read_bytes(file, place, room).view(dtype).view(place.shape)


def _read_as(dtype: torch.dtype, file: Any, place: Place, room: torch.Tensor) -> torch.Tensor:
    """The tensor in another precision, through as much of `room` as the processor's own memory holds."""
    own = _dtype(place)
    if own is dtype or not own.is_floating_point:
        return _read(file, place, torch.empty(place.size_bytes, dtype=torch.uint8))
    result = torch.empty(place.shape, dtype=dtype)
    flat, step = result.view(-1), _CHUNK // own.itemsize
    file.seek(place.begin)
    for begin in range(0, flat.numel(), step):
        part = flat[begin : begin + step]
        piece = room[: part.numel() * own.itemsize]
        _fill(file, piece)
        part.copy_(piece.view(own))
    return result


def _dtype(place: Place) -> torch.dtype:
    if place.dtype not in _DTYPES:
        raise ModelError(f"Numbers of the type '{place.dtype}' cannot be loaded.", "Choose another model.")
    return _DTYPES[place.dtype]


def _fill(file: Any, room: torch.Tensor) -> None:
    into = room.numpy().data
    while len(into):
        count = file.readinto(into)
        if not count:
            raise IncompleteModel("The file ended while it was read.", "Is something else writing it?")
        into = into[count:]


def _empty(class_name: str, config: Mapping[str, Any]) -> Any:
    """On the meta device: no weight is initialised."""
    with init_empty_weights(include_buffers=False):
        if hasattr(diffusers, class_name):
            return getattr(diffusers, class_name).from_config(dict(config))
        own = {name: value for name, value in config.items() if not name.startswith(_NOT_SETTINGS)}
        module = getattr(transformers, class_name)(_CONFIGS[class_name](**own))
    return _tied(module)


def _tied(module: Any) -> Any:
    """T5's encoder has its table of words a second time, under a name that files leave out."""
    if isinstance(module, transformers.T5EncoderModel):
        module.encoder.embed_tokens.weight = module.shared.weight
    return module


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


def _stored(file: PartFile, before: str = "") -> dict[str, Any]:
    """By the names without the file's prefix, with `before` in its place."""
    return {
        before + name: Stored(real, torch.empty(file.places[real].shape, device="meta"))
        for name, real in file.names.items()
    }


def _unet(file: PartFile, module: Any) -> dict[str, Stored]:
    return convert_ldm_unet_checkpoint(_stored(file, "model.diffusion_model."), module.config)


def _vae(file: PartFile, module: Any) -> dict[str, Stored]:
    return convert_ldm_vae_checkpoint(_stored(file), module.config)


def _clip(file: PartFile, module: Any) -> dict[str, Stored]:
    return _as_named(_stored(file), module)


def _open_clip(file: PartFile, module: Any) -> dict[str, Stored]:
    return _as_named(
        convert_open_clip_checkpoint(module, _stored(file, file.prefix), prefix=file.prefix), module
    )


def _t5(file: PartFile, _module: Any) -> dict[str, Stored]:
    return _stored(file)


def _flux(file: PartFile, module: Any) -> dict[str, Stored]:
    """Raises ModelError when a weight is missing."""
    found, names = _stored(file), {}
    sizes = {name: tensor.shape[0] for name, tensor in module.state_dict().items()}
    for row in rows(*depth(file.names)):
        if row.diffusers[0] not in sizes or row.bfl not in found:
            continue
        whole, top = found[row.bfl], 0
        for name in row.diffusers:
            names[name] = _of_row(whole, row.way, top, sizes[name])
            top += sizes[name]
    return names


def _of_row(whole: Stored, way: Way, top: int, height: int) -> Stored:
    if way is Way.SAME:
        return whole
    if way is Way.JOINED:
        return whole[top : top + height]
    half = height // 2
    return whole.rolled(half)


def _as_named(names: Mapping[str, Stored], module: Any) -> dict[str, Stored]:
    """transformers 5 has `text_model.` only in the class with a projection, NovelAI's files nowhere."""
    inner = _TEXT if hasattr(module, "text_model") else ""
    return {
        name if name.startswith("text_projection") else inner + name.removeprefix(_TEXT): stored
        for name, stored in names.items()
    }


_CONFIGS: Mapping[str, Any] = {
    "CLIPTextModel": transformers.CLIPTextConfig,
    "CLIPTextModelWithProjection": transformers.CLIPTextConfig,
    "T5EncoderModel": transformers.T5Config,
}
_NAMES: Mapping[Spelling, Callable[[PartFile, Any], dict[str, Stored]]] = {
    Spelling.LDM_UNET: _unet,
    Spelling.LDM_VAE: _vae,
    Spelling.CLIP: _clip,
    Spelling.OPEN_CLIP: _open_clip,
    Spelling.T5: _t5,
    Spelling.FLUX: _flux,
}
