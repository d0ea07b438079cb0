"""Weights in blocks of few bits, as GGUF has them: kept so in memory, each layer widened while it runs.

The blocks are those of ggml-org/llama.cpp (gguf-py/gguf/quants.py); diffusers widens them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gguf
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor
from torch import nn

from pipelines.library.places import Place


def packed(raw: torch.Tensor, place: Place) -> torch.Tensor:
    """The bytes of a tensor as rows of blocks: [rows, bytes of a row]."""
    kind = gguf.GGMLQuantizationType[place.dtype]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    # Rows that are no whole blocks were made so to be packed at all: their shape is right only once they are widened.
    whole = place.shape[-1] % block == 0
    rows = raw.view(-1, place.shape[-1] // block * size if whole else size)
    return GGUFParameter(rows, quant_type=kind)  # pyright: ignore[reportCallIssue] - its __new__ has it


def has_shape(tensor: Any, shape: tuple[int, ...]) -> bool:
    """Whether the packed numbers are laid out as a weight of this shape."""
    return tuple(tensor.quant_shape) == tuple(shape)


def is_packed(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, GGUFParameter)


def widened(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return dequantize_gguf_tensor(tensor).reshape(shape).to(dtype)


def put(network: nn.Module, weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Gives the linear layers of the network, which is built empty, their packed weights; they compute in `dtype`."""
    for name, weight in weights.items():
        layer = name.removesuffix(".weight")
        owner, _, leaf = layer.rpartition(".")
        old: Any = network.get_submodule(layer)
        new = GGUFLinear(
            old.in_features, old.out_features, old.bias is not None, dtype, device=torch.device("meta")
        )
        new.bias = old.bias
        new.weight = weight
        network.get_submodule(owner)._modules[leaf] = new
