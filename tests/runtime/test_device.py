"""Devices of each kind behind one interface: which is chosen, what memory it tells of, what its errors mean.

Neither a card of Intel nor one of Apple nor DirectML has ever run these lines: what torch and torch_directml would
answer is put in their place, as their documents have it.
"""

import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from pipelines.runtime import device as devices
from pipelines.runtime.card import card
from pipelines.runtime.movers import InTurn
from pipelines.spec.devices import is_device
from pipelines.spec.errors import EngineError
from pipelines.spec.memory import Room

GB = 2**30
XPU, MPS = torch.device("xpu:0"), torch.device("mps")


class Stats:
    """As torch.cuda and torch.xpu count memory: 8 GB with 5 free, 2 of ours of which 0.5 is in use."""

    emptied = marked = 0
    taken = GB // 2

    def is_available(self):
        return True

    def device_count(self):
        return 2

    def get_device_name(self, device):
        return "Intel Arc B580"

    def mem_get_info(self, device):
        return 5 * GB, 8 * GB

    def memory_reserved(self, device):
        return 2 * GB

    def memory_allocated(self, device):
        return GB // 2

    def max_memory_allocated(self, device):
        return self.taken

    def reset_peak_memory_stats(self, device):
        self.marked += 1

    def empty_cache(self):
        self.emptied += 1


@pytest.fixture
def xpu(monkeypatch) -> Stats:
    stats = Stats()
    monkeypatch.setattr(devices, "_WITH_MEMORY", {"cuda": torch.cuda, "xpu": stats})
    return stats


@pytest.fixture
def answers(monkeypatch):
    """Only devices of these kinds work."""

    def set_to(*kinds):
        monkeypatch.setattr(devices, "_works", lambda device: device.type in (*kinds, "cpu"))

    return set_to


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [(("cuda", "xpu", "mps"), "cuda"), (("xpu", "mps"), "xpu"), (("mps",), "mps"), ((), "cpu")],
)
def test_auto_takes_the_first_that_answers(answers, kinds, chosen):
    answers(*kinds)
    assert devices.choose("auto") == torch.device(chosen)


def test_a_device_by_its_name(answers):
    answers("xpu", "mps")
    assert devices.choose("xpu:1") == torch.device("xpu:1")
    assert devices.choose("mps") == MPS
    with pytest.raises(EngineError) as caught:
        devices.choose("cuda")
    assert "'cuda' does not answer" in caught.value.message


@pytest.mark.parametrize("name", ["auto", "cpu", "mps", "cuda", "cuda:1", "xpu", "xpu:0", "directml:12"])
def test_names_that_settings_and_the_command_line_take(name):
    assert is_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cpu:1", "mps:0", "cuda:", "cuda:x", "xpu:1234", "CUDA"])
def test_names_that_they_do_not_take(name):
    assert not is_device(name)


def test_the_memory_of_an_intel_card_is_told_as_that_of_nvidias(xpu):
    assert devices.free_bytes(XPU) == 5 * GB + 2 * GB - GB // 2
    assert devices.room_of(XPU) == Room(total=8 * GB, free=5 * GB, ours=2 * GB)
    assert devices.name_of(XPU) == "Intel Arc B580"
    devices.release(XPU)
    assert xpu.emptied == 1


def test_an_intel_card_has_memory_apart_and_its_peaks_are_counted(xpu):
    found = card(XPU)
    assert found.apart
    assert isinstance(found.mover, InTurn)
    found.mark()
    xpu.taken = 3 * GB
    assert found.taken() == 3 * GB - GB // 2
    assert xpu.marked == 1


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_bfloat16_where_an_intel_card_has_it(monkeypatch, native, expected):
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda: native)
    assert devices.compute_dtype(XPU, "auto", "bfloat16") is expected
    assert devices.compute_dtype(XPU, "auto", "float16") is torch.float16


def test_apples_memory_is_that_of_the_machine_as_far_as_metal_may_use_it(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 * GB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 4 * GB)
    for available, free in ((20 * GB, 6 * GB), (2 * GB, 2 * GB)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda a=available: SimpleNamespace(available=a))
        assert devices.free_bytes(MPS) == free
    assert devices.room_of(MPS) is None
    assert not card(MPS).apart


@pytest.fixture
def direct_ml(monkeypatch):
    """The package of two cards; torch without it has no such device, so that the processor's stands for one."""
    package = SimpleNamespace(
        device=lambda number=0: torch.device("cpu"), device_count=lambda: 2,
        device_name=lambda number: f"Radeon {number}",
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch_directml", package)
    return package


def test_direct_ml_is_chosen_by_its_package(direct_ml):
    assert devices.choose("directml") == devices.choose("directml:1") == torch.device("cpu")
    with pytest.raises(EngineError) as caught:
        devices.choose("directml:2")
    assert "directml:2" in caught.value.message
    assert [o.id for o in devices.options()][-3:] == ["directml:0", "directml:1", "cpu"]
    assert devices.name_of(torch.device("privateuseone:1")) == "Radeon 1"


def test_without_the_package_it_is_told_what_is_missing():
    with pytest.raises(EngineError) as caught:
        devices.choose("directml")
    assert "torch-directml" in caught.value.message


def test_all_devices_are_offered_and_the_processor_last(xpu):
    found = devices.options()
    assert [o.id for o in found if o.id.startswith("xpu")] == ["xpu:0", "xpu:1"]
    assert found[-1].id == "cpu"
    assert all(option.title for option in found)


@pytest.mark.parametrize(
    "text",
    [
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "Could not allocate tensor with 9 bytes. There is not enough GPU video memory available!",
        "XPU out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_memory_that_ran_out_is_known_on_each(text):
    assert devices.is_out_of_memory(RuntimeError(text))
