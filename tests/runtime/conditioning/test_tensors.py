"""The small files beside a model are read at once, and have the numbers that they have one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.runtime.conditioning import tensors
from pipelines.spec.errors import Cancelled
from pipelines.spec.job import Job
from tests.runtime.conftest import job_of

FILES = {
    "one kind": {"a": torch.randn(3, 5).half(), "b": torch.randn(7).half(), "c": torch.tensor(2.0).half()},
    "several": {
        "wide": torch.randn(2, 3),
        "small": torch.randn(5).bfloat16(),
        "odd": torch.arange(3, dtype=torch.uint8),
        "fp8": torch.randn(4, 4).to(torch.float8_e4m3fn),
    },
    "none": {},
}


@pytest.fixture(params=FILES)
def content(request) -> dict[str, torch.Tensor]:
    return FILES[request.param]


@pytest.fixture
def path(tmp_path, content) -> Path:
    save_file(content, tmp_path / "f.safetensors", metadata={"told": '{"by": "us"}'})
    return tmp_path / "f.safetensors"


@pytest.fixture
def job() -> Job:
    from pipelines.library.folders import demo_root

    return job_of(demo_root() / "sd")


@pytest.mark.parametrize("most", [tensors._AT_ONCE, 0])
def test_all_are_there_in_float32(path, content, job, monkeypatch, most):
    monkeypatch.setattr(tensors, "_AT_ONCE", most)
    found = tensors.read(path, job)
    assert found.tensors.keys() == content.keys()
    for name, tensor in content.items():
        assert found.tensors[name].dtype is torch.float32
        assert torch.equal(found.tensors[name], tensor.float())
    assert found.json("told") == {"by": "us"}


def test_a_cancel_is_seen(path, content, job):
    job.cancel()
    if content:
        with pytest.raises(Cancelled):
            tensors.read(path, job)
