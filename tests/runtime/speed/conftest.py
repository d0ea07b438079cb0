"""Blocks traced by Dynamo but made into no program: compiling one takes a minute here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipelines.runtime.speed import compiled, compiler


@pytest.fixture
def by_dynamo_alone(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiler, "why_not", lambda device: "")
    compiled._kinds.clear()
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    compiled._kinds.clear()
