"""From a record to the parts of its pipeline: diffusers folders and single files, classes of our own table.

Nothing out of the folder is ever run: no pickle (.bin, .ckpt), no Python file, no class that the table does
not name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from safetensors import safe_open

from pipelines.library.single_file import SETTINGS, read
from pipelines.library.weights import weight_files
from pipelines.runtime import attention, gguf_weights
from pipelines.runtime import device as devices
from pipelines.runtime.components import ComponentStore, PartKey, stamp_of
from pipelines.runtime.precision import Precision, settle
from pipelines.runtime.single_file import FileLoad
from pipelines.spec.errors import Cancelled, EngineError, ModelError
from pipelines.spec.families.base import Family, Task
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import Format, ModelRecord
from pipelines.spec.weights import is_packed_part


@dataclass(frozen=True, slots=True)
class Model:
    """`parts` by their name in the folder ('unet', 'vae' ...); `keys` tell which files and precision.

    `settings` are those of `Family.settings`, with what the model's own index says of them. What a job adds to the
    model: `added` are parts of the pipeline for `task`, `call` arguments of its call, `always` those of every task's,
    `reading` names all that makes it read a prompt otherwise, `notes` are sentences for the user.
    """

    parts: Mapping[str, Any]
    keys: Mapping[str, PartKey]
    settings: Mapping[str, bool] = field(default_factory=dict)
    task: Task = Task.TEXT
    added: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    reading: tuple[object, ...] = ()
    notes: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.parts[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One part about to be loaded."""

    folder: Path
    class_name: str
    precision: Precision
    device: torch.device
    job: Job


class Loader:
    def __init__(self, store: ComponentStore, device: torch.device, options: EngineOptions) -> None:
        self._store = store
        self._device = device
        self._dtype = options.dtype
        self._precisions: dict[tuple[str, str, int], Precision] = {}

    def load(self, job: Job, record: ModelRecord, family: Family) -> Model:
        """The model of the record, its parts out of the store where they are still the same files.

        Raises ModelError with the path for what is gone, damaged or not supported; Cancelled between tensors.
        """
        root = Path(record.path)
        precision = replace(self._precision(record, family), weights=job.request.weights)
        if record.format is Format.SINGLE_FILE:
            return self._of_file(job, record, family, precision)
        if not root.is_dir():
            raise ModelError(f"The model folder is gone: {root}", "Was it moved, renamed or deleted?")
        index = _json(root / "model_index.json")
        classes = _class_names(index)
        wanted = {
            name: _Wanted(
                root / name,
                _known_class(root, name, classes),
                precision if is_packed_part(family, name) else precision.whole(),
                self._device,
                job,
            )
            for name in family.required_parts
        }
        keys = {
            name: PartKey(str(w.folder), stamp_of(w.folder), str(w.precision), str(self._device))
            for name, w in wanted.items()
        }
        settings = {**family.settings, **{n: v for n, v in index.items() if n in family.settings}}
        parts = {name: self._part(keys[name], w) for name, w in wanted.items()}
        return Model(parts, keys, {name: bool(value) for name, value in settings.items()})

    def _precision(self, record: ModelRecord, family: Family) -> Precision:
        """Once for a model: what it takes itself must not make it another one at the next job."""
        known = (self._dtype, record.path, record.size_bytes)
        if known not in self._precisions:
            free = devices.free_bytes(self._device)
            found = devices.precision(self._device, self._dtype, record, family.half, free)
            self._precisions[known] = found
        return self._precisions[known]

    def _part(self, key: PartKey, wanted: _Wanted) -> Any:
        wanted.job.check()
        return self._store.get(key, lambda: _loaded(wanted))

    def _of_file(self, job: Job, record: ModelRecord, family: Family, precision: Precision) -> Model:
        path = Path(record.path)
        if not path.is_file():
            raise ModelError(f"The model file is gone: {path}", "Was it moved, renamed or deleted?")
        load = FileLoad(read(path, family, dict(record.borrowed)), family, precision, self._device, job)
        keys, parts = {name: load.key(name) for name in family.required_parts}, {}
        for name, key in keys.items():
            job.check()
            parts[name] = self._store.get(key, lambda name=name: _guarded(path, lambda: load.part(name)))
        told = load.model.configs.get(SETTINGS, {})
        settings = {name: bool(told.get(name, value)) for name, value in family.settings.items()}
        return Model(parts, keys, settings)


def load_network(
    store: ComponentStore, folder: Path, dtype: torch.dtype, device: torch.device, job: Job
) -> Any:
    """One network by itself, such as a ControlNet or an image encoder, of the class that its config.json names.

    Raises ModelError for what is gone, damaged or not supported; Cancelled between tensors.
    """
    job.check()
    if not folder.is_dir():
        raise ModelError(f"The model folder is gone: {folder}", "Was it moved, renamed or deleted?")
    config = _json(folder / "config.json")
    named = [config.get("_class_name"), *(config.get("architectures") or ())]  # by diffusers, by transformers
    class_name = _known_class(folder, "_", {"_": next((str(name) for name in named if name), "?")})
    key = PartKey(str(folder), stamp_of(folder), str(dtype), str(device))
    precision = Precision(compute=dtype, storage=dtype)
    return store.get(key, lambda: _loaded(_Wanted(folder, class_name, precision, device, job)))


def _class_names(index: dict[str, Any]) -> dict[str, str]:
    """Part -> class name, as model_index.json tells it."""
    return {name: value[1] for name, value in index.items() if isinstance(value, list) and len(value) == 2}


def _known_class(root: Path, name: str, classes: Mapping[str, str]) -> str:
    class_name = classes.get(name)
    if name == "scheduler":  # only its config is used; the class comes from the sampler's row
        return "scheduler"
    if class_name is None:
        raise ModelError(f"The model has no part '{name}': {root}", "The model is incomplete.")
    if class_name not in _LOADERS:
        raise ModelError(
            f"The part '{name}' is a '{class_name}', which is not supported: {root}", "Choose another model."
        )
    return class_name


def _loaded(wanted: _Wanted) -> Any:
    part = _guarded(wanted.folder, lambda: _LOADERS[wanted.class_name](wanted))
    if isinstance(part, torch.nn.Module):
        settle(part, wanted.precision)
    return part


def _guarded(place: Path, load: Callable[[], Any]) -> Any:
    """Libraries answer bad files with any kind of error; all but the device's own are the file's fault."""
    try:
        return load()
    except (Cancelled, EngineError):
        raise
    except Exception as error:
        if devices.is_out_of_memory(error) or devices.is_lost(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"A part of the model cannot be read: {place} ({reason})",
            "It may be damaged or incomplete; get the model again.",
        ) from error


def _diffusers_module(wanted: _Wanted) -> torch.nn.Module:
    """Built empty and given the file's tensors: no weight is initialised or converted twice."""
    build = getattr(diffusers, wanted.class_name)
    with init_empty_weights(include_buffers=False):
        module = build.from_config(_json(wanted.folder / "config.json"))
    weights = wanted.precision.weights
    state = dict(gguf_weights.narrowed(_tensors(wanted), module, weights))
    module._fix_state_dict_keys_on_load(state)  # attention of VAEs before diffusers 0.15 has other names
    whole = gguf_weights.settled(module, state, weights, wanted.precision.compute)
    left_out, _unexpected = module.load_state_dict(whole, strict=False, assign=True)
    if missing := [name for name in left_out if name not in state]:
        raise ModelError(
            f"{len(missing)} weights are missing, such as '{missing[0]}': {wanted.folder}",
            "Get the model again.",
        )
    return module.eval().requires_grad_(False)


def _denoiser(wanted: _Wanted) -> torch.nn.Module:
    module = _diffusers_module(wanted)
    attention.settle(module)
    return module


def _tensors(wanted: _Wanted) -> Iterator[tuple[str, torch.Tensor]]:
    """Copied, never mapped: a file that shrinks later must not take the process with it."""
    for path in weight_files(wanted.folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                wanted.job.check()
                tensor = file.get_tensor(name)
                dtype = wanted.precision.storage if tensor.is_floating_point() else tensor.dtype
                yield name, tensor.to(wanted.device, dtype, copy=True)


def _text_encoder(wanted: _Wanted) -> torch.nn.Module:
    weights = weight_files(wanted.folder)
    variant = "fp16" if all(".fp16." in path.name for path in weights) else None
    build = getattr(transformers, wanted.class_name)
    module = build.from_pretrained(
        wanted.folder,
        dtype=wanted.precision.storage,
        variant=variant,
        use_safetensors=True,
        local_files_only=True,
    )
    wanted.job.check()
    gguf_weights.pack_layers(module, wanted.precision.weights, wanted.precision.compute)
    return module.to(wanted.device).eval().requires_grad_(False)


def _image_encoder(wanted: _Wanted) -> torch.nn.Module:
    """transformers draws random numbers for weights that are missing: here they are an error."""
    build: Any = transformers.CLIPVisionModelWithProjection
    module, found = build.from_pretrained(
        wanted.folder,
        dtype=wanted.precision.storage,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        text = f"{len(missing)} weights are missing, such as '{missing[0]}': {wanted.folder}"
        raise ModelError(text, "Get the image encoder again.")
    wanted.job.check()
    return module.to(wanted.device).eval().requires_grad_(False)


def _tokenizer(wanted: _Wanted) -> Any:
    return transformers.CLIPTokenizer.from_pretrained(wanted.folder, local_files_only=True)


def _t5_tokenizer(wanted: _Wanted) -> Any:
    # transformers 5 has one class for what older folders call T5TokenizerFast.
    return transformers.T5Tokenizer.from_pretrained(wanted.folder, local_files_only=True)


def _scheduler_config(wanted: _Wanted) -> dict[str, Any]:
    return _json(wanted.folder / "scheduler_config.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"This file of the model cannot be read: {path}", "Get the model again.") from error
    if not isinstance(data, dict):
        raise ModelError(f"This file of the model holds no settings: {path}", "Get the model again.")
    return data


_LOADERS: Mapping[str, Callable[[_Wanted], Any]] = {
    "UNet2DConditionModel": _denoiser,
    "FluxTransformer2DModel": _diffusers_module,
    "ControlNetModel": _denoiser,
    "FluxControlNetModel": _diffusers_module,
    "AutoencoderKL": _diffusers_module,
    "CLIPTextModel": _text_encoder,
    "CLIPTextModelWithProjection": _text_encoder,
    "T5EncoderModel": _text_encoder,
    "CLIPVisionModelWithProjection": _image_encoder,
    "CLIPTokenizer": _tokenizer,
    "T5Tokenizer": _t5_tokenizer,
    "T5TokenizerFast": _t5_tokenizer,
    "scheduler": _scheduler_config,
}
