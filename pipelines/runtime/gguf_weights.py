"""Weights in blocks of few bits, as GGUF has them: kept so in memory, each layer widened while it runs.

The blocks are those of ggml-org/llama.cpp (gguf-py/gguf/quants.py), and NF4 (nf4.py), which behaves as they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gguf
import torch
from diffusers.quantizers.gguf.utils import GGUFParameter
from torch import nn

from pipelines.library.places import Place
from pipelines.runtime.nf4 import NF4Parameter
from pipelines.runtime.packed_layers import KINDS, packed_layer, unpacked
from pipelines.runtime.quantise import quantised
from pipelines.spec.weights import bits_of, is_packable, weights_of


def packed(raw: torch.Tensor, place: Place) -> torch.Tensor:
    """The bytes of a tensor as rows of blocks: [rows, bytes of a row]."""
    kind = gguf.GGMLQuantizationType[place.dtype]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    # Rows that are no whole blocks were made so to be packed at all: their shape is right only once they are widened.
    whole = place.shape[-1] % block == 0
    rows = raw.view(-1, place.shape[-1] // block * size if whole else size)
    return _parameter(rows.view(torch.int8), kind)


def _parameter(rows: torch.Tensor, kind: gguf.GGMLQuantizationType) -> torch.Tensor:
    return GGUFParameter(rows, quant_type=kind)  # pyright: ignore[reportCallIssue] - its __new__ has it


def fits(tensor: Any, shape: tuple[int, ...]) -> bool:
    """Whether the packed numbers are as many as a weight of this shape has."""
    return torch.Size(tensor.quant_shape).numel() == torch.Size(shape).numel()


def is_packed(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, GGUFParameter)


def widened(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return unpacked(tensor, dtype).reshape(shape)


def narrowed(
    tensors: Iterable[tuple[str, torch.Tensor]], network: nn.Module, weights: str
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor as it is loaded, packed as `GenerationRequest.weights` says where it is one of those that are."""
    row = weights_of(weights)
    for name, tensor in tensors:
        layer = _layer(network, name)
        if row is None or layer is None or not is_packable(name, tuple(layer.weight.shape), row):
            yield name, tensor
        elif bits_of(_kind(tensor)) > row.bits:
            wide = unpacked(tensor, torch.float32) if is_packed(tensor) else tensor.float()
            yield name, _narrow(wide, row.kind)
        else:
            yield name, tensor


def _kind(tensor: Any) -> str:
    return tensor.quant_type.name if is_packed(tensor) else str(tensor.dtype).removeprefix("torch.")


def _narrow(wide: torch.Tensor, kind: str) -> torch.Tensor:
    small = quantised(wide, kind)
    if small.dtype.is_floating_point:
        return small
    return NF4Parameter(small) if kind == "NF4" else _parameter(small, gguf.GGMLQuantizationType[kind])


def _layer(network: nn.Module, name: str) -> Any:
    """The layer whose weight this is, where it can compute from packed ones; else None."""
    owner, _, leaf = name.rpartition(".")
    if leaf != "weight":
        return None
    try:
        module = network.get_submodule(owner)
    except AttributeError:
        return None
    return module if isinstance(module, KINDS) else None


def settled(
    network: nn.Module, state: dict[str, torch.Tensor], weights: str, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Gives the layers of the network, which is built empty, their packed weights, and answers all others.

    They compute in `dtype`, which packed weights of what is no such layer are widened to.
    """
    left, own = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    fp8 = weights == "fp8"
    for name, tensor in state.items():
        layer = _layer(network, name)
        if is_packed(tensor):
            if layer is not None and fits(tensor, layer.weight.shape):
                own[name] = tensor
            else:
                left[name] = widened(tensor, _shape(network, name, tensor), dtype)
        elif fp8 and layer is not None and tensor.dtype is torch.float8_e4m3fn:
            own[name] = tensor
        else:
            left[name] = tensor
    put(network, own, dtype)
    return left


def _shape(network: nn.Module, name: str, tensor: Any) -> tuple[int, ...]:
    owner, _, leaf = name.rpartition(".")
    try:
        return tuple(getattr(network.get_submodule(owner), leaf).shape)
    except AttributeError:
        return tuple(tensor.quant_shape)


def put(network: nn.Module, weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Gives layers of the network their packed weights; they compute in `dtype`."""
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        owner, _, leaf = layer.rpartition(".")
        network.get_submodule(owner)._modules[leaf] = packed_layer(
            network.get_submodule(layer), weight, dtype
        )


def pack_layers(network: nn.Module, weights: str, dtype: torch.dtype) -> None:
    """A network that is loaded already: layer by layer, the whole weight of each gone before the next."""
    for name in [name for name, _ in network.named_parameters()]:
        layer = _layer(network, name)
        if layer is None or is_packed(layer.weight):
            continue
        whole = layer.weight.data
        ((_, small),) = narrowed([(name, whole)], network, weights)
        if small is not whole:
            put(network, {name: small}, dtype)
