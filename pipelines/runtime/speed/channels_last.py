"""Weights of convolutions with the channels innermost, as tensor cores and oneDNN read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """A convolution answers in the layout of its weights, so that all between them is laid out like that too."""
    before: list[tuple[nn.Parameter, tuple[int, ...]]] = []
    try:
        for parameter in network.parameters():
            if parameter.ndim == 4 and not parameter.is_contiguous(memory_format=torch.channels_last):
                before.append((parameter, parameter.stride()))
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for parameter, strides in before:
            data = parameter.data
            parameter.data = data.new_empty_strided(data.shape, strides).copy_(data)
