"""Weights of convolutions with the channels innermost, as tensor cores and oneDNN read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """A convolution answers in the layout of its weights, so that all between them is laid out like that too.

    Each stays in its own memory: whoever has put it there, such as a LoRA, finds it again and takes it away.
    """
    before: list[tuple[nn.Parameter, tuple[int, ...]]] = []
    try:
        for parameter in network.parameters():
            if parameter.ndim == 4 and not parameter.is_contiguous(memory_format=torch.channels_last):
                before.append((parameter, parameter.stride()))
                parameter.data = _laid(parameter.data, _strides(parameter))
        yield
    finally:
        for parameter, strides in before:
            parameter.data = _laid(parameter.data, strides)


def _strides(weight: torch.Tensor) -> tuple[int, ...]:
    return torch.empty_like(weight, device="meta", memory_format=torch.channels_last).stride()


def _laid(weight: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """The same numbers in the same memory, in another order."""
    copy = weight.clone()
    return weight.as_strided(weight.shape, strides).copy_(copy)
