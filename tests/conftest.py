"""The ground all tests stand on: offscreen, offline, in a home of their own. Set before anything is imported."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="emulsion-tests-"))
os.environ |= {
    "QT_QPA_PLATFORM": "offscreen",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "EMULSION_HOME": str(_HOME),
    # What torch takes its number of threads from; beside other processes of tests there is one core for each.
    "OMP_NUM_THREADS": "1" if "PYTEST_XDIST_WORKER" in os.environ else str(min(2, os.cpu_count() or 1)),
}

_MARKERS = ("local_server: talks to a server of its own on 127.0.0.1, which other tests may not",)
# torch 2.10 and diffusers 0.42 with numpy 2.4, and diffusers' ControlNet for FLUX: theirs, and harmless.
_FOREIGN_WARNINGS = (
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:`FluxPosEmbed` is deprecated:FutureWarning",
    "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    for warning in _FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def qtbot(qapp: Any, request: pytest.FixtureRequest) -> Any:
    from tests.patience import PatientBot  # with Qt, which most tests do without

    return PatientBot(request)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Refuses every way out of this computer; a call fails its test even when the code under test swallows it."""
    local = request.node.get_closest_marker("local_server") is not None
    calls: list[str] = []

    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any) -> Any:
            address = args[-1]
            if not _stays_here(self.family, address, local):
                calls.append(f"{name} {address}")
                raise OSError(f"the tests are offline: {name} {address}")
            return original(self, *args)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    yield calls
    assert not calls, f"the network was called: {calls}"


def _stays_here(family: int, address: Any, local: bool) -> bool:
    if family == getattr(socket, "AF_UNIX", None):
        return True
    return local and isinstance(address, tuple) and address[0] in ("127.0.0.1", "localhost")
