"""LoRAs: low-rank changes of the denoiser and of the text encoders, beside the weights and not in them.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". peft puts the layers in; taking them out again
is putting the untouched layers back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer

from pipelines.runtime.conditioning import tensors
from pipelines.runtime.conditioning.base import Work
from pipelines.runtime.conditioning.lora_file import A, B, layers_of
from pipelines.runtime.loader import Model
from pipelines.spec.errors import ModelError
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, LoraInput

Layers = Mapping[str, tensors.Tensors]  # by the part of the pipeline; two tensors a layer


def wanted(request: GenerationRequest) -> bool:
    """A weight of 0 is no LoRA, bit for bit."""
    return any(lora.weight for lora in request.loras)


@contextmanager
def applied(work: Work, model: Model) -> Iterator[Model]:
    """The model with its LoRAs in it. Raises ModelError for one that fits nowhere, Cancelled between them."""
    hosts = {name: model.parts[name] for name in _host_names(work, model)}
    used = [lora for lora in work.job.request.loras if lora.weight]
    notes: list[str] = []
    try:
        weights, text = [], []
        for number, lora in enumerate(used):
            record = work.job.parts[lora.model]
            layers = tensors.kept(record, work, lambda record=record: _read(record, work, model))
            put = _inject(f"lora{number}", layers, hosts, work)
            notes += _told(record, sum(len(each) for each in layers.values()) // 2, sum(put.values()), work)
            weights.append((f"lora{number}", lora.weight))
            if any(put[name] for name in hosts if name != work.family.denoiser):
                text.append(_reading(record, work, lora))
        for host in hosts.values():
            _weigh(host, weights)
        yield replace(model, reading=(*model.reading, *text), notes=(*model.notes, *notes))
    finally:
        for host in hosts.values():
            _restore(host)


def _reading(record: ModelRecord, work: Work, lora: LoraInput) -> tuple[object, ...]:
    """A prompt is read otherwise with this LoRA at this weight."""
    return tensors.key_of(record, work), lora.weight


def _host_names(work: Work, model: Model) -> list[str]:
    return [name for name in model.parts if name == work.family.denoiser or name.startswith("text_encoder")]


@dataclass(frozen=True, slots=True)
class _Pair:
    """One layer: `up @ down` is added to the weight of the module `name`."""

    name: str
    down: torch.Tensor
    up: torch.Tensor


def _read(record: ModelRecord, work: Work, model: Model) -> Layers:
    content = tensors.read(Path(record.path), work.job)
    denoiser = getattr(model, work.family.denoiser)
    layers = layers_of(content, work.family, denoiser.config, record.title)
    return {
        part: {name: tensor.to(work.device, work.dtype) for name, tensor in found.items()}
        for part, found in layers.items()
    }


def _inject(name: str, layers: Layers, hosts: Mapping[str, Any], work: Work) -> dict[str, int]:
    """Puts the layers that fit into the parts; answers how many went into each."""
    put = dict.fromkeys(hosts, 0)
    for part, host in hosts.items():
        pairs = _fitting(layers.get(part, {}), host)
        put[part] = len(pairs)
        if pairs:
            work.job.check()
            _put(name, pairs, host)
    return put


def _fitting(found: Mapping[str, torch.Tensor], host: torch.nn.Module) -> list[_Pair]:
    """Those that have a module of their name and their size in `host`."""
    modules = {_inside(name): module for name, module in host.named_modules()}
    pairs = []
    for key, down in found.items():
        name = key.removesuffix(A)
        up = found.get(f"{name}{B}")
        if not key.endswith(A) or up is None:
            continue
        # CLIPTextModel has lost its inner `text_model` in transformers 5; files go on naming it.
        real = next((n for n in (name, name.removeprefix("text_model.")) if n in modules), "")
        if real and _fits(modules[real], down, up):
            pairs.append(_Pair(real, down, up))
    return pairs


def _inside(name: str) -> str:
    """The name of a module as if no earlier LoRA wrapped it."""
    return name.removesuffix(".base_layer")


def _fits(module: torch.nn.Module, down: torch.Tensor, up: torch.Tensor) -> bool:
    if isinstance(module, torch.nn.Linear):  # its weight may be packed, and have another shape
        return (up.shape, down.shape) == (
            (module.out_features, down.shape[0]),
            (up.shape[1], module.in_features),
        )
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return False
    shape = getattr(module, "shape", ()) or weight.shape
    if down.ndim != len(shape) or up.ndim != len(shape):
        return False
    return (shape[0], shape[1], down.shape[0]) == (up.shape[0], down.shape[1], up.shape[1])


def _put(adapter: str, pairs: list[_Pair], host: Any) -> None:
    ranks = {f"^{pair.name}": pair.down.shape[0] for pair in pairs}
    state = {f"{pair.name}{end}": t for pair in pairs for end, t in ((A, pair.down), (B, pair.up))}
    first = pairs[0].down.shape[0]
    config = LoraConfig(
        r=first, lora_alpha=first, rank_pattern=ranks, alpha_pattern=dict(ranks),
        target_modules=[pair.name for pair in pairs],
    )  # fmt: skip
    # Built without numbers, so that no random ones are drawn for what is overwritten at once.
    inject_adapter_in_model(config, host, adapter, low_cpu_mem_usage=True, state_dict=state)
    set_peft_model_state_dict(host, state, adapter, low_cpu_mem_usage=True)
    for pair in pairs:
        # peft 0.21 narrows them to the precision in which the weights beside them lie, which need not compute in it.
        layer = host.get_submodule(pair.name)
        layer.lora_A[adapter].weight.data = pair.down
        layer.lora_B[adapter].weight.data = pair.up
    del host.peft_config  # the layers know themselves; peft warns of a second LoRA where it finds a first


def _weigh(host: torch.nn.Module, weights: list[tuple[str, float]]) -> None:
    """Every layer uses the LoRAs that it has, each at its weight."""
    for module in host.modules():
        if isinstance(module, BaseTunerLayer):
            module.set_adapter([name for name, _ in weights])
            for name, weight in weights:
                module.set_scale(name, weight)  # pyright: ignore[reportCallIssue] - LoRA's layers have it
    host.eval().requires_grad_(False)


def _restore(host: Any) -> None:
    """Puts the untouched layers back. diffusers' own way builds new ones and fills them with random numbers."""
    for module in list(host.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(module, name, child.get_base_layer())
    if hasattr(host, "peft_config"):
        del host.peft_config


def _told(record: ModelRecord, there: int, put: int, work: Work) -> list[str]:
    """Silence about layers that found no place would be a wrong picture."""
    if not put:
        text = f"No part of the LoRA '{record.title}' fits the model '{work.job.model.title}': {record.path}"
        raise ModelError(text, "It was made for another model; remove it from the request.")
    if put == there:
        return []
    return [f"{there - put} of {there} layers of the LoRA '{record.title}' have no place in this model."]
