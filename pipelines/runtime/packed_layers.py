"""Linear layers and convolutions whose weights lie in few bits and are widened for as long as the layer runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor
from torch import nn
from torch.nn import functional

from pipelines.runtime import nf4
from pipelines.runtime.low_rank import Pair, change

KINDS = (nn.Linear, nn.Conv2d)


class _Packed(nn.Module):
    """`weight` are bytes: int8, which is the one type that T5 does not narrow its numbers to.

    `shape` is that of the whole weight, `compute` in what it is widened to, `fp8` what the bytes are where they are no
    blocks. `low_rank` is what LoRAs change of it, each time that it is widened. `pairs` is NF4's table in
    `compute`: a buffer, so that it lies where the weight does and no layer waits for a copy of it.
    """

    compute: torch.dtype
    shape: tuple[int, ...] = ()
    fp8: torch.dtype | None = None
    low_rank: Pair | None = None
    pairs: torch.Tensor | None

    def wide(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weight as it computes, and the bias."""
        weight: Any = self.weight
        bias: Any = self.bias
        if self.fp8:
            flat = weight.view(self.fp8).to(self.compute)
        else:
            flat = unpacked(weight, self.compute, self.pairs)
        plain = flat.view(self.shape)
        if self.low_rank is not None:
            change(plain, self.low_rank)
        return plain, None if bias is None else bias.to(self.compute)


class PackedLinear(_Packed, nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return functional.linear(input.to(self.compute), *self.wide())


class PackedConv2d(_Packed, nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(input.to(self.compute), *self.wide())


def packed_layer(old: Any, weight: torch.Tensor, compute: torch.dtype) -> nn.Module:
    """The twin of a layer, with the same bias and all else but its weight."""
    kind = PackedLinear if isinstance(old, nn.Linear) else PackedConv2d
    new: Any = kind.__new__(kind)
    new.__dict__.update(old.__dict__)
    new._parameters = {"weight": None, "bias": old.bias}
    new._buffers, new._non_persistent_buffers_set = {}, set()
    new.register_buffer("pairs", _pairs(weight, compute), persistent=False)
    new.shape, new.compute = tuple(old.weight.shape), compute
    if weight.dtype.is_floating_point:
        new.fp8, weight = weight.dtype, nn.Parameter(weight.view(torch.int8), requires_grad=False)
    new.weight = weight
    return new


def _pairs(weight: torch.Tensor, compute: torch.dtype) -> torch.Tensor | None:
    return nf4.pairs_table(compute).to(weight.device) if isinstance(weight, nf4.NF4Parameter) else None


def unpacked(weight: Any, compute: torch.dtype, pairs: torch.Tensor | None = None) -> torch.Tensor:
    """Of a GGUFParameter; flat. `pairs` as in `nf4.wide`."""
    if weight.quant_type is nf4.Kind.NF4:
        return nf4.wide(weight.as_tensor(), compute, pairs)
    widen = _OWN.get(weight.quant_type.name)
    if widen is None:
        return dequantize_gguf_tensor(weight).flatten().to(compute)
    return widen(weight.as_tensor(), compute)


def _q8_0(raw: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    blocks = raw.reshape(-1, 34).view(torch.int8)
    return blocks[:, 2:].to(compute).mul_(_number(blocks, 0, compute)).flatten()


def _q4_1(raw: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    blocks = raw.reshape(-1, 20).view(torch.uint8)
    pairs = blocks[:, 4:]
    wide = torch.empty(len(blocks), 32, dtype=compute, device=blocks.device)
    wide[:, :16] = pairs & 15
    wide[:, 16:] = pairs >> 4
    return wide.mul_(_number(blocks, 0, compute)).add_(_number(blocks, 2, compute)).flatten()


def _number(blocks: torch.Tensor, at: int, compute: torch.dtype) -> torch.Tensor:
    """The half precision number of each block that begins at this byte: [blocks, 1]."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).to(compute)


_OWN: dict[str, Callable[[torch.Tensor, torch.dtype], torch.Tensor]] = {"Q8_0": _q8_0, "Q4_1": _q4_1}
