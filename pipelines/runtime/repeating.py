"""The same picture to the bit from the same request, as far as torch has it: its switches, set while a job draws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cudnn


def prepare(wanted: bool) -> None:
    """Before the device is first used: cuBLAS reads once how its workspaces are divided.

    (https://docs.nvidia.com/cuda/cublas/#results-reproducibility)
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def repeating(wanted: bool) -> Iterator[None]:
    """With `wanted`, every operation that has a way to give the same bits each time takes it.

    One that has none warns in the log, as a picture that differs in its last bits is better than none.
    """
    if not wanted:
        yield
        return
    algorithms = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic  # a module that is a class, whose switches are properties
    filled, chosen, tries = memory.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # nothing here reads what it has not written
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        memory.fill_uninitialized_memory = filled
        cudnn.deterministic, cudnn.benchmark = chosen, tries
