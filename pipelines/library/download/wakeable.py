"""Connections that `Control.stop` wakes while they wait for the first word of a host.

urllib3 lets another thread shut an answer that has begun, but not one that is still to come.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipelines.library.download.control import Control

_now = threading.local()  # whose request this thread makes: urllib3 hands nothing of ours down


@contextlib.contextmanager
def wakeable(control: Control) -> Iterator[None]:
    """Requests of this thread raise Cancelled, or lose their connection, as soon as `control` is stopped."""
    _now.control = control
    try:
        yield
    finally:
        _now.control = None


def with_wakeable_pools(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


class _Wakeable:
    sock: Any

    def getresponse(self) -> Any:
        control: Control | None = getattr(_now, "control", None)
        wait = super().getresponse  # pyright: ignore[reportAttributeAccessIssue]
        if control is None:
            return wait()
        with control.closing(self._shut):
            return wait()

    def _shut(self) -> None:
        if self.sock is not None:
            self.sock.shutdown(socket.SHUT_RDWR)


class _Connection(_Wakeable, HTTPConnection):
    pass


class _SecureConnection(_Wakeable, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection  # pyright: ignore[reportAssignmentType]


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection  # pyright: ignore[reportAssignmentType]
