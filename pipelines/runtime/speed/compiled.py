"""The repeated blocks of a denoiser, compiled: one program for each kind of block, not one for each block.

diffusers' `compile_repeated_blocks` compiles a block with all its hooks, and neither a copy to the device nor a step
cache nor a cancel can be in there. Here only its `forward` is: what listens to the block stands outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from pipelines.runtime.speed.compiler import reason

log = logging.getLogger(__name__)

# Programs of one kind of block: a U-Net has its widths, each for one size and for all others, with a LoRA and without.
_PROGRAMS = 128
BACKEND = "inductor"
Tell = Callable[[str], None]


class _Kind:
    """A class of blocks. What was compiled for one is kept for all, also of other models and for later jobs."""

    def __init__(self, of: type[nn.Module], backend: str) -> None:
        self.plain = of.forward
        self.compiled = torch.compile(of.forward, fullgraph=True, backend=backend)
        self.failed = ""

    def __call__(self, tell: Tell, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """A program is compiled before it runs, so that one that cannot be has computed nothing yet."""
        if not self.failed:
            try:
                return self.compiled(block, *args, **kwargs)
            except TorchDynamoException as error:
                log.warning("%s cannot be compiled", type(block).__name__, exc_info=error)
                self.failed = reason(error)
                self.say(tell)
        return self.plain(block, *args, **kwargs)

    def say(self, tell: Tell) -> None:
        """Of each picture anew, as it took its time."""
        if self.failed:
            tell(f"The blocks were drawn without being compiled: {self.failed}.")


_kinds: dict[tuple[type[nn.Module], str], _Kind] = {}


def _kind(of: type[nn.Module], backend: str) -> _Kind:
    key = (of, backend)
    if key not in _kinds:
        _kinds[key] = _Kind(of, backend)
    return _kinds[key]


def try_again() -> None:
    """A new engine may have what the one before lacked: room on the disk, or another kernel of attention."""
    for kind in _kinds.values():
        kind.failed = ""


@contextmanager
def compiled(denoiser: Any, tell: Tell) -> Iterator[None]:
    """Each block as its kind's program, and as it was after. `tell` hears why one could not be compiled.

    To be entered before what replaces a block's `forward` itself, such as a step cache.
    """
    names = set(denoiser._repeated_blocks)
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    before = [(block, block.__dict__.get("forward")) for block in blocks]
    for kind in dict.fromkeys(_kind(type(block), BACKEND) for block in blocks):
        kind.say(tell)
    with torch._dynamo.config.patch(recompile_limit=_PROGRAMS, accumulated_recompile_limit=8 * _PROGRAMS):
        try:
            for block in blocks:
                block.forward = partial(_kind(type(block), BACKEND), tell, block)
            yield
        finally:
            for block, own in before:
                del block.forward
                if own is not None:
                    block.forward = own
