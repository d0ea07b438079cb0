"""From a record to the parts of its pipeline: diffusers folders and single files, classes of our own table.

Nothing out of the folder is ever run: no pickle (.bin, .ckpt), no Python file, no class that the table does
not name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from pipelines.library.control_files import read_control
from pipelines.library.places import Place, Source, table_of
from pipelines.library.single_file import SETTINGS, read
from pipelines.library.weights import weight_files
from pipelines.runtime import device as devices
from pipelines.runtime.components import ComponentStore, PartKey, stamp_of
from pipelines.runtime.low_rank import Adapter
from pipelines.runtime.meter import Meter
from pipelines.runtime.network import CLASSES, Sketch, as_named, empty
from pipelines.runtime.part_plan import PartPlan
from pipelines.runtime.parts import Parts
from pipelines.runtime.precision import Precision
from pipelines.runtime.single_file import NAMES, FileParts
from pipelines.runtime.stored import stored_at
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family, Task
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import Format, ModelRecord


class Keys(Mapping[str, PartKey]):
    """Of the parts by name, as the store knows them now: a part may turn out to be another model's as well."""

    def __init__(self, store: ComponentStore, plans: Mapping[str, PartPlan]) -> None:
        self._store = store
        self._plans = plans

    def __getitem__(self, name: str) -> PartKey:
        return self._plans[name].known(self._store)

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)


@dataclass(frozen=True, slots=True)
class Model:
    """`parts` by their name in the folder ('unet', 'vae' ...); `keys` tell which files and precision.

    `record` is the id of the model, `dtype` what its networks compute with, `plans` how its parts are read.
    `settings` are those of `Family.settings`, with what the model's own index says of them. What a job adds to the
    model: `added` are parts of the pipeline for `task`, `call` arguments of its call, `always` those of every task's,
    `adapters` what LoRAs make of its networks, `reading` names all that makes it read a prompt otherwise, `notes` are
    sentences for the user.
    """

    parts: Parts
    keys: Mapping[str, PartKey]
    record: str
    dtype: torch.dtype
    plans: Mapping[str, PartPlan]
    settings: Mapping[str, bool] = field(default_factory=dict)
    task: Task = Task.TEXT
    added: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    reading: tuple[object, ...] = ()
    notes: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.parts[name]
        except KeyError:
            raise AttributeError(name) from None


class Loader:
    """`landed` is told of each network that was asked for and whether it lies in RAM, apart from the device."""

    def __init__(
        self,
        store: ComponentStore,
        device: torch.device,
        options: EngineOptions,
        landed: Callable[[torch.nn.Module], None] = lambda part: None,
    ) -> None:
        self._store = store
        self._device = device
        self._dtype = options.dtype
        self._landed = landed
        self.in_ram = False  # where parts land that are loaded from now on
        self.readers: torch.device | None = None  # that text encoders have for themselves, from now on
        self.beside = False  # whether the part that is loaded now, or failed to be, is one of theirs
        self._precisions: dict[tuple[str, str, int, str], Precision] = {}

    def load(self, job: Job, record: ModelRecord, family: Family, meter: Meter | None = None) -> Model:
        """The model of the record, its parts out of the store where they are still the same files.

        A part is read when it is first asked for, and `meter` hears of it. Raises ModelError with the path for what is
        gone, damaged or not supported, as that does; and it Cancelled between tensors.
        """
        of = _of_file if record.format is Format.SINGLE_FILE else _of_folder
        precision = replace(self.precision(record, family), weights=job.request.weights)
        found, told = of(Path(record.path), record, family, precision, self._device)
        of_refiner = record is getattr(job, "refiner", None) and record.path != job.model.path
        if self.readers is not None:
            own = replace(self.precision(record, family, self.readers), weights=job.request.weights)
            found = [_beside(plan, own.of_part(family, plan.part), self.readers) for plan in found]
        plans = {plan.part: _shareable(plan, family, of_refiner) for plan in found}
        hearing = meter or Meter(job)
        parts = Parts({name: partial(self._part, plan, hearing) for name, plan in plans.items()})
        settings = {name: bool(told.get(name, value)) for name, value in family.settings.items()}
        return Model(parts, Keys(self._store, plans), record.id, precision.compute, plans, settings)

    def expect(self, model: Model, names: Iterable[str], meter: Meter) -> None:
        """Tells the meter what these parts of the model will have to read."""
        for name in names:
            model.plans[name].expect(self._store, meter)

    @property
    def lands(self) -> torch.device:
        return torch.device("cpu") if self.in_ram else self._device

    def _part(self, plan: PartPlan, meter: Meter) -> Any:
        self.beside = plan.key.beside
        _, part = plan.load(self._store, meter, plan.device if plan.key.beside else self.lands)
        self.beside = False
        if self.in_ram and not plan.key.beside and isinstance(part, torch.nn.Module):
            self._landed(part)
        return part

    def precision(self, record: ModelRecord, family: Family, device: torch.device | None = None) -> Precision:
        """Once for a model: what it takes itself must not make it another one at the next job.

        On the device of the rest unless another is given.
        """
        device = device or self._device
        known = (self._dtype, record.path, record.size_bytes, str(device))
        if known not in self._precisions:
            free = devices.free_bytes(device)
            found = devices.precision(device, self._dtype, record, family.half, free)
            self._precisions[known] = found
        return self._precisions[known]


def _beside(plan: PartPlan, precision: Precision, device: torch.device) -> PartPlan:
    """On the device of the text encoders, if it is one."""
    if not plan.part.startswith("text_encoder"):
        return plan
    key = replace(plan.key, dtype=str(precision), device=str(device), beside=True)
    return replace(plan, key=key, precision=precision, device=device)


def _shareable(plan: PartPlan, family: Family, of_refiner: bool) -> PartPlan:
    """What a job adds to the text encoders of its model is not the refiner's, which has its own for that."""
    if plan.part in (family.denoiser, "scheduler"):
        return plan
    if of_refiner and plan.part.startswith("text_"):
        return replace(plan, key=replace(plan.key, apart=True))
    return replace(plan, shared=True)


Plans = tuple[list[PartPlan], Mapping[str, Any]]  # and the settings that the model tells of itself


def _of_folder(
    root: Path, _record: ModelRecord, family: Family, precision: Precision, device: torch.device
) -> Plans:
    if not root.is_dir():
        raise ModelError(f"The model folder is gone: {root}", "Was it moved, renamed or deleted?")
    index = _json(root / "model_index.json")
    classes = _class_names(index)
    return [
        _folder_part(
            root / name, name, _known_class(root, name, classes), precision.of_part(family, name), device
        )
        for name in family.required_parts
    ], index


def _folder_part(
    folder: Path, part: str, class_name: str, precision: Precision, device: torch.device
) -> PartPlan:
    key = PartKey(str(folder), stamp_of(folder), str(precision), str(device))
    if class_name in CLASSES:
        size = sum(path.stat().st_size for path in weight_files(folder))
        return PartPlan(
            key=key, part=part, place=folder, precision=precision, device=device, size_bytes=size,
            sketch=lambda: _folder_sketch(folder, class_name),
        )  # fmt: skip
    return PartPlan(
        key=key, part=part, place=folder, precision=precision, device=device,
        make=lambda: _LOADERS[class_name](folder), words=lambda: _words(class_name, folder),
    )  # fmt: skip


def _folder_sketch(folder: Path, class_name: str) -> Sketch:
    module = empty(class_name, _json(folder / "config.json"))
    places: dict[str, tuple[Place, Source]] = {}
    for path in weight_files(folder):
        source, table = table_of(path)
        places |= {name: (place, source) for name, place in table.items()}
    names = {name: stored_at(name, *at) for name, at in places.items()}
    return Sketch(module, as_named(names, module), folder)


def _words(class_name: str, folder: Path) -> str:
    """The digest of a tokenizer's files."""
    told = hashlib.sha256(class_name.encode())
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        told.update(f"{path.name} {path.stat().st_size} ".encode("utf-8", "surrogateescape"))
        told.update(path.read_bytes())
    return told.hexdigest()


def _of_file(
    path: Path, record: ModelRecord, family: Family, precision: Precision, device: torch.device
) -> Plans:
    if not path.is_file():
        raise ModelError(f"The model file is gone: {path}", "Was it moved, renamed or deleted?")
    files = FileParts(read(path, family, dict(record.borrowed)), family)
    plans = [
        _file_part(files, name, precision.of_part(family, name), device) for name in family.required_parts
    ]
    return plans, files.model.configs.get(SETTINGS, {})


def _file_part(files: FileParts, part: str, precision: Precision, device: torch.device) -> PartPlan:
    """Its key is that of a file of its own; a part that is lent to several models is one part."""
    config = files.model.configs[part]
    file = files.model.parts.get(part)
    path = Path(config.get("folder", files.model.path)) if file is None else file.path
    size = file.size_bytes if file else 0
    mtime_ns = file.source.mtime_ns if file else path.stat().st_mtime_ns
    key = PartKey(str(path / part), ((part, size, mtime_ns),), str(precision), str(device))
    if file is not None:
        return PartPlan(
            key=key, part=part, place=path, precision=precision, device=device, size_bytes=size,
            sketch=lambda: files.sketch(part),
        )  # fmt: skip
    return PartPlan(
        key=key, part=part, place=path, precision=precision, device=device,
        make=lambda: files.settings(part), words=lambda: _told(config),
    )  # fmt: skip


def _told(config: Mapping[str, Any]) -> str:
    """The digest of a tokenizer's settings, or of the folder that they name."""
    if "folder" in config:
        return _words("", Path(config["folder"]))
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def network_plan(folder: Path, dtype: torch.dtype, device: torch.device, family: str = "") -> PartPlan:
    """One network by itself, such as a ControlNet or an image encoder, of the class that its config.json names.

    A single file is a ControlNet for models of the `family`. Raises ModelError for what is gone or not supported.
    """
    if family and not folder.is_dir():
        return _control_plan(folder, by_id(family), dtype, device)
    if not folder.is_dir():
        raise ModelError(f"The model folder is gone: {folder}", "Was it moved, renamed or deleted?")
    config = _json(folder / "config.json")
    named = [config.get("_class_name"), *(config.get("architectures") or ())]  # by diffusers, by transformers
    class_name = _known_class(folder, "_", {"_": next((str(name) for name in named if name), "?")})
    precision = Precision(compute=dtype, storage=dtype)
    return _folder_part(folder, folder.name, class_name, precision, device)


def _control_plan(path: Path, family: Family, dtype: torch.dtype, device: torch.device) -> PartPlan:
    found = read_control(path, family)
    source = found.part.source
    stamp = ((path.name, source.size_bytes, source.mtime_ns),)

    def sketch() -> Sketch:
        module = empty(found.class_name, found.config)
        return Sketch(module, NAMES[found.part.spelling](found.part, module), path)

    return PartPlan(
        key=PartKey(str(path), stamp, str(dtype), str(device)), part=path.stem, place=path,
        precision=Precision(compute=dtype, storage=dtype), device=device, size_bytes=found.part.size_bytes,
        sketch=sketch,
    )  # fmt: skip


def _class_names(index: dict[str, Any]) -> dict[str, str]:
    """Part -> class name, as model_index.json tells it."""
    return {name: value[1] for name, value in index.items() if isinstance(value, list) and len(value) == 2}


def _known_class(root: Path, name: str, classes: Mapping[str, str]) -> str:
    class_name = classes.get(name)
    if name == "scheduler":  # only its config is used; the class comes from the sampler's row
        return "scheduler"
    if class_name is None:
        raise ModelError(f"The model has no part '{name}': {root}", "The model is incomplete.")
    if class_name not in CLASSES and class_name not in _LOADERS:
        raise ModelError(
            f"The part '{name}' is a '{class_name}', which is not supported: {root}", "Choose another model."
        )
    return class_name


def _tokenizer(folder: Path) -> Any:
    return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _t5_tokenizer(folder: Path) -> Any:
    # transformers 5 has one class for what older folders call T5TokenizerFast.
    return transformers.T5Tokenizer.from_pretrained(folder, local_files_only=True)


def _scheduler_config(folder: Path) -> dict[str, Any]:
    return _json(folder / "scheduler_config.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"This file of the model cannot be read: {path}", "Get the model again.") from error
    if not isinstance(data, dict):
        raise ModelError(f"This file of the model holds no settings: {path}", "Get the model again.")
    return data


_LOADERS: Mapping[str, Callable[[Path], Any]] = {
    "CLIPTokenizer": _tokenizer,
    "T5Tokenizer": _t5_tokenizer,
    "T5TokenizerFast": _t5_tokenizer,
    "scheduler": _scheduler_config,
}
