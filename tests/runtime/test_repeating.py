"""The switches for pictures that repeat to the bit: on inside, and as they were afterwards."""

import os
from typing import Any

import pytest
import torch
from torch.backends import cudnn

from pipelines.runtime.repeating import prepare, repeating


def state():
    memory: Any = torch.utils.deterministic
    return (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark,
    )  # fmt: skip


def test_all_is_set_inside_and_as_before_afterwards_also_after_an_error(monkeypatch):
    monkeypatch.setattr(cudnn, "benchmark", True)
    before = state()
    seen = []

    def failing():
        seen.append(state())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), repeating(True):
        failing()
    assert seen == [(True, True, False, True, False)]
    assert state() == before


def test_nothing_is_set_where_nobody_asks():
    before = state()
    with repeating(False):
        assert state() == before


def test_cublas_is_told_once_and_a_setting_of_the_user_stays(monkeypatch):
    name = "CUBLAS_WORKSPACE_CONFIG"
    monkeypatch.setenv(name, ":16:8")
    prepare(True)
    assert os.environ[name] == ":16:8"
    monkeypatch.delenv(name)
    prepare(False)
    assert name not in os.environ
    prepare(True)
    assert os.environ[name] == ":4096:8"
    monkeypatch.delenv(name)
