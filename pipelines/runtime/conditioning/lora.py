"""LoRAs: low-rank changes of the denoiser and of the text encoders.

Here files become layers that fit the model, and nothing is changed: `Adapters` does that, once somebody is to compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from pipelines.runtime.components import PartKey
from pipelines.runtime.conditioning import tensors
from pipelines.runtime.conditioning.base import Work
from pipelines.runtime.conditioning.lora_file import A, B, layers_of
from pipelines.runtime.loader import Model
from pipelines.runtime.low_rank import Adapter, Pair, Use
from pipelines.spec.errors import ModelError
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, LoraInput

Shapes = Mapping[str, tuple[int, ...]]  # of the weights of layers, by their names


class Layers(dict[str, tensors.Tensors]):
    """Of one file, by the part of the pipeline; two tensors a layer. `fits` remembers which fit a part of a model."""

    def __init__(self, layers: Mapping[str, tensors.Tensors]) -> None:
        super().__init__(layers)
        self.fits: dict[tuple[str, PartKey], Mapping[str, Pair]] = {}
        self.identity = object()

    @property
    def count(self) -> int:
        return sum(len(each) for each in self.values()) // 2


def wanted(request: GenerationRequest) -> bool:
    """A weight of 0 is no LoRA, bit for bit."""
    return any(lora.weight for lora in request.loras)


@contextmanager
def applied(work: Work, model: Model) -> Iterator[Model]:
    """The model with what its LoRAs make of it. Raises ModelError for one that fits nowhere, Cancelled between them."""
    uses: dict[str, list[Use]] = {}
    reading, notes = list[object](), list[str]()
    for lora in work.job.request.loras:
        if not lora.weight:
            continue
        record = work.job.parts[lora.model]
        layers = tensors.kept(record, work, lambda record=record: _read(record, work, model))
        fitting = {part: _fitting(layers, part, work, model) for part in _hosts(work, model)}
        notes += _told(record, layers.count, sum(map(len, fitting.values())), work)
        for part, pairs in fitting.items():
            if pairs:
                uses.setdefault(part, []).append(Use(layers.identity, lora.weight, pairs))
        if any(pairs for part, pairs in fitting.items() if part != work.family.denoiser):
            reading.append(_reading(record, work, lora))
    adapters = {part: Adapter(tuple(own)) for part, own in uses.items()}
    yield replace(model, adapters=adapters, reading=(*model.reading, *reading), notes=(*model.notes, *notes))


def _reading(record: ModelRecord, work: Work, lora: LoraInput) -> tuple[object, ...]:
    """A prompt is read otherwise with this LoRA at this weight."""
    return tensors.key_of(record, work), lora.weight


def _hosts(work: Work, model: Model) -> list[str]:
    return [name for name in model.parts if name == work.family.denoiser or name.startswith("text_encoder")]


def _read(record: ModelRecord, work: Work, model: Model) -> Layers:
    content = tensors.read(Path(record.path), work.job)
    config = _network(work.family.denoiser, work, model).config
    found = layers_of(content, work.family, config, record.title)
    return Layers(
        {
            part: {name: tensor.to(work.device, work.dtype) for name, tensor in own.items()}
            for part, own in found.items()
        }
    )


def _network(part: str, work: Work, model: Model) -> Any:
    """One whose layers have the names and shapes of the part's; where that is not there yet, without its weights."""
    if model.keys[part] in work.store:
        return model.parts[part]
    sketch = model.plans[part].sketch
    assert sketch is not None, f"{part} is no network"
    return sketch().module


def _fitting(layers: Layers, part: str, work: Work, model: Model) -> Mapping[str, Pair]:
    """Those that have a module of their name and their size in the part."""
    key = (part, model.keys[part])
    if key not in layers.fits:
        found = layers.get(part, {})
        layers.fits[key] = _pairs(found, _shapes(_network(part, work, model))) if found else {}
    return layers.fits[key]


_known: WeakKeyDictionary[nn.Module, Shapes] = WeakKeyDictionary()  # they never change, and are thousands


def _shapes(network: nn.Module) -> Shapes:
    """Of packed weights, those of the whole ones."""
    if network in _known:
        return _known[network]
    found: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            found[name] = (module.out_features, module.in_features)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            found[name] = (module.out_channels, module.in_channels, *module.kernel_size)
    _known[network] = found
    return found


def _pairs(found: tensors.Tensors, shapes: Shapes) -> Mapping[str, Pair]:
    pairs: dict[str, Pair] = {}
    for key, down in found.items():
        name = key.removesuffix(A)
        up = found.get(f"{name}{B}")
        if not key.endswith(A) or up is None:
            continue
        # CLIPTextModel has lost its inner `text_model` in transformers 5; files go on naming it.
        real = name if name in shapes else name.removeprefix("text_model.")
        if real in shapes and _fits(shapes[real], down.shape, up.shape):
            pairs[real] = Pair(*(half if half.ndim == 2 else half.flatten(1) for half in (up, down)))
    return pairs


def _fits(shape: tuple[int, ...], down: tuple[int, ...], up: tuple[int, ...]) -> bool:
    """`down` [rank, in, kernel] and `up` [out, rank, 1, 1] for a weight [out, in, kernel]; linear ones have none."""
    rank, *rest = down
    return tuple(rest) == shape[1:] and up == (shape[0], rank, *(1 for _ in shape[2:]))


def _told(record: ModelRecord, there: int, put: int, work: Work) -> list[str]:
    """Silence about layers that found no place would be a wrong picture."""
    if not put:
        text = f"No part of the LoRA '{record.title}' fits the model '{work.job.model.title}': {record.path}"
        raise ModelError(text, "It was made for another model; remove it from the request.")
    if put == there:
        return []
    return [f"{there - put} of {there} layers of the LoRA '{record.title}' have no place in this model."]
