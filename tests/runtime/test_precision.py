"""Weights that lie in half precision and compute in float32: the same picture, half the memory."""

import pytest
import torch
from PIL import Image
from torch import nn

from pipelines.runtime import device as devices
from pipelines.runtime.precision import Precision, settle
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.record import ModelRecord
from tests.runtime.conftest import job_of, run

CPU = torch.device("cpu")
GB = 10**9


def model_of(size, dtype):
    return ModelRecord(id="x", path="/x", title="x", size_bytes=size, dtype=dtype)


def resolved(wanted, record, free=100 * GB):
    return devices.precision(CPU, wanted, record, "float16", free)


@pytest.fixture
def slow_halves(monkeypatch):
    """A processor without 16-bit arithmetic, as most are."""
    monkeypatch.setattr(devices, "computes_in", lambda _device, dtype: dtype is torch.float32)


def test_a_precision_the_processor_has_no_arithmetic_for_is_one_of_storage(slow_halves):
    assert resolved("bfloat16", model_of(GB, "float32")) == Precision(torch.float32, torch.bfloat16)
    assert resolved("float32", model_of(GB, "bfloat16")) == Precision(torch.float32, torch.float32)


@pytest.mark.parametrize(
    ("size", "dtype", "storage"),
    [
        (7 * GB, "float16", torch.float16),  # 14 GB in float32, more than three quarters of the 16
        (7 * GB, "bfloat16", torch.bfloat16),
        (2 * GB, "float16", torch.float32),
        (14 * GB, "float32", torch.float32),
    ],
)
def test_a_model_too_large_in_float32_stays_as_its_file_is(size, dtype, storage):
    assert resolved("auto", model_of(size, dtype), 16 * GB) == Precision(torch.float32, storage)


def test_what_a_model_takes_itself_does_not_change_its_precision(engine, tiny_model, monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda _: 10**6)
    first = engine.compute.load(job_of(tiny_model), by_id("sd1"))
    monkeypatch.setattr(devices, "free_bytes", lambda _: 10)
    assert engine.compute.load(job_of(tiny_model), by_id("sd1")).keys == first.keys


def picture(engine, job):
    (path,) = (event.path for event in run(engine, job) if isinstance(event, ImageSaved))
    return Image.open(path).tobytes()


def test_the_picture_is_that_of_float32_bit_for_bit(engine, tiny_model, slow_halves, monkeypatch):
    """The file is float16, and to widen a number loses nothing."""
    wide = picture(engine, job_of(tiny_model))
    monkeypatch.setattr(engine.compute._loader, "_dtype", "float16")
    assert picture(engine, job_of(tiny_model)) == wide
    parts = engine.compute.load(job_of(tiny_model), by_id("sd1"))
    assert (
        parts.unet.conv_in.weight.dtype
        is parts.text_encoder.get_submodule(PROJECTION).weight.dtype
        is torch.float16
    )
    assert parts.unet.dtype is parts.vae.dtype is torch.float32


PROJECTION = "encoder.layers.0.mlp.fc1"


def test_a_layer_that_fails_is_left_as_it_was():
    layer = nn.Linear(2, 2).half()
    settle(layer, Precision(torch.float32, torch.float16))
    with pytest.raises(RuntimeError):
        layer(torch.ones(1, 3))
    assert layer.weight.dtype is torch.float16
    assert layer(torch.ones(1, 2)).dtype is torch.float32


def test_norms_and_embeddings_are_widened_for_good():
    network = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(4, 4)).half()
    settle(network, Precision(torch.float32, torch.float16))
    assert [part.weight.dtype for part in network] == [torch.float32, torch.float32, torch.float16]
    assert network(torch.tensor([1])).dtype is torch.float32
