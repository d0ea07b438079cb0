"""`Mover`: a device's two queues, one that copies and one that computes, and the memory that weights take there."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import torch

log = logging.getLogger(__name__)


class Mover(Protocol):
    """As `Device` of turns.py has them, for tensors of bytes."""

    device: torch.device

    def host(self, size: int) -> torch.Tensor: ...

    def room(self, size: int) -> torch.Tensor:
        """So many bytes on the device. Raises what it raises when it is out of memory."""
        ...

    def copy(self, into: torch.Tensor, source: torch.Tensor, after: Any) -> Any: ...

    def wait(self, arrived: Any) -> None: ...

    def computed(self) -> Any: ...

    def settle(self) -> None:
        """What is computed from now on, and what is freed, comes after all copies."""
        ...


class InRam:
    """The processor as its own device: a copy is done when it is asked for."""

    device = torch.device("cpu")

    def host(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def room(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def copy(self, into: torch.Tensor, source: torch.Tensor, after: Any) -> Any:
        into.copy_(source)

    def wait(self, arrived: Any) -> None:
        pass

    def computed(self) -> Any:
        pass

    def settle(self) -> None:
        pass


class InTurn(InRam):
    """A device of its own without streams that we know to use (MPS, XPU): copies and compute take turns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def room(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self.device)


class Cuda:
    """Copies on a stream of their own; events order the two streams, and the host waits for neither."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies = torch.cuda.Stream(device)

    def host(self, size: int) -> torch.Tensor:
        """Pinned, unless the system refuses so much: then copies are slower, and right all the same."""
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            log.warning("%d bytes of RAM could not be pinned: %s", size, error)
            return torch.empty(size, dtype=torch.uint8)

    def room(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def copy(self, into: torch.Tensor, source: torch.Tensor, after: Any) -> Any:
        self._copies.wait_event(after)
        with torch.cuda.stream(self._copies):
            into.copy_(source, non_blocking=True)
        return self._copies.record_event()

    def wait(self, arrived: Any) -> None:
        torch.cuda.current_stream(self.device).wait_event(arrived)

    def computed(self) -> Any:
        return torch.cuda.current_stream(self.device).record_event()

    def settle(self) -> None:
        torch.cuda.current_stream(self.device).wait_stream(self._copies)


def mover(device: torch.device) -> Mover:
    if device.type == "cuda":
        return Cuda(device)
    return InRam() if device.type == "cpu" else InTurn(device)
