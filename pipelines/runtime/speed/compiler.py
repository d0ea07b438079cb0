"""Whether blocks can be compiled here: a tiny function is, once, because only that tells."""

from __future__ import annotations

import logging
from functools import cache

import torch

log = logging.getLogger(__name__)


@cache
def why_not(device: str) -> str:
    """Why nothing can be compiled for this kind of device ('cpu', 'cuda' ...), in half a sentence; empty when it can.

    Takes seconds the first time.
    """
    given = torch.linspace(-1, 1, 64, device=device)
    try:
        answer = torch.compile(_sample, fullgraph=True)(given)
    except Exception as error:  # of the compiler, of Triton, of the system's loader: anything
        log.info("nothing can be compiled for %s", device, exc_info=error)
        return reason(error)
    right = torch.allclose(answer, _sample(given), atol=1e-5)
    return "" if right else "what the compiler makes answers wrongly"


def _sample(given: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(given * 2 + 1).softmax(0)


def reason(error: BaseException) -> str:
    """The compiler that is missing, where it is that; else what the error itself says first."""
    told = str(error)
    if "Cannot find a working triton" in told or "TritonMissing" in type(error).__name__:
        return "Triton is not installed"
    if "InvalidCxxCompiler" in told or "No working C++ compiler" in told:
        return "there is no C++ compiler"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    first = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return (first or type(error).__name__)[:200].rstrip(".")
