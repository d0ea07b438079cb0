"""Trials on this machine's own kernels, and on kernels that are wrong in each way."""

from dataclasses import replace

import pytest
import torch

from pipelines.runtime.attention import trial
from pipelines.runtime.attention.kernels import BY_ID, Kernel
from pipelines.runtime.attention.trial import shape_on, tried
from pipelines.spec.attention import NAMES

CPU = torch.device("cpu")


def found(width=40, dtype=torch.float32):
    return {each.id: each for each in tried(CPU, dtype, shape_on(CPU, dtype, width, 1024))}


@pytest.mark.parametrize("width", [28, 40, 64, 128, 160])
def test_the_processors_kernels_are_right_repeat_themselves_and_are_timed(width):
    results = found(width)
    assert set(results) == {"", *NAMES} - {"auto", "deterministic"}
    for name in ("", "flash", "math"):
        assert results[name].why == ""
        assert results[name].repeats
        assert results[name].ms > 0
    assert results["flash"].own  # the processor's own choice, which cannot be quicker than itself
    assert not results["math"].own
    assert results["cudnn"].why
    assert results["cudnn"].ms == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_of_a_smaller_precision_is_no_error(dtype):
    results = found(40, dtype)
    assert results["flash"].why == results["math"].why == ""


def wrong_by(share):
    return lambda query, key, value, scale: BY_ID["math"].run(query, key, value, scale) * (1 + share)


def raising(error):
    def run(*_):
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (wrong_by(0.01), "answers wrong, by 1.0%"),
        (lambda q, k, v, s: torch.full_like(q, float("nan")), "answers wrong"),
        (lambda q, k, v, s: BY_ID["math"].run(q, k[:, :, :-1], v[:, :, :-1], s), "answers wrong"),
        (lambda q, k, v, s: BY_ID["math"].run(q, k, v, s).transpose(1, 2), "shape"),
        (
            raising(RuntimeError("No available kernel. Aborting execution.")),
            "cannot take heads of 40 numbers",
        ),
        (raising(torch.OutOfMemoryError("CUDA out of memory")), "ran out of memory"),
        (raising(AssertionError("head_dim must be 64")), "AssertionError: head_dim must be 64"),
    ],
    ids=["scaled", "nan", "a key short", "turned", "refused", "memory", "library"],
)
def test_a_kernel_that_cannot_be_used_says_why(monkeypatch, run, words):
    use(monkeypatch, replace(BY_ID["flash"], run=run))
    result = found()["flash"]
    assert words in result.why
    assert result.ms == 0


def test_one_that_rounds_may_be_off_by_more(monkeypatch):
    use(monkeypatch, Kernel(id="sage", run=wrong_by(0.001), lacks=lambda device: "", loose=20.0))
    assert found()["sage"].why == ""
    use(monkeypatch, Kernel(id="sage", run=wrong_by(0.01), lacks=lambda device: "", loose=20.0))
    assert "answers wrong" in found()["sage"].why


def test_one_that_is_right_and_never_the_same_is_told(monkeypatch):
    def unsteady(query, key, value, scale):
        return BY_ID["math"].run(query, key, value, scale) * (1 + 1e-6 * torch.rand(()))

    use(monkeypatch, replace(BY_ID["flash"], run=unsteady))
    assert not found()["flash"].repeats


def test_a_device_that_is_lost_is_no_finding_about_a_kernel(monkeypatch):
    use(
        monkeypatch, replace(BY_ID["flash"], run=raising(torch.AcceleratorError("CUDA error: launch failed")))
    )
    with pytest.raises(torch.AcceleratorError):
        found()


def use(monkeypatch, kernel):
    others = tuple(each for each in trial.KERNELS if each.id != kernel.id)
    monkeypatch.setattr(trial, "KERNELS", (*others, kernel))


def test_where_no_kernel_can_be_chosen_nothing_runs(monkeypatch):
    use(monkeypatch, replace(BY_ID["flash"], lacks=lambda device: "off"))
    use(monkeypatch, replace(BY_ID["math"], lacks=lambda device: "off"))
    monkeypatch.setattr(trial, "_inputs", raising(AssertionError("nothing is to be computed")))
    assert all(each.why for name, each in found().items() if name)


def test_sizes_that_compute_alike_share_a_trial():
    shapes = {shape_on(CPU, torch.float32, 40, tokens) for tokens in (256, 257, 1024, 4096)}
    assert len(shapes) == 1
    assert shape_on(CPU, torch.float32, 40, 64) not in shapes
    assert shape_on(CPU, torch.float32, 64, 1024) not in shapes
    assert shape_on(CPU, torch.bfloat16, 40, 1024) not in shapes


def test_another_version_of_a_package_is_another_shape(monkeypatch):
    before = shape_on(CPU, torch.float32, 40, 64)
    monkeypatch.setattr(trial.metadata, "version", lambda package: "99")
    assert "xformers 99" in shape_on(CPU, torch.float32, 40, 64).versions
    assert shape_on(CPU, torch.float32, 40, 64) != before


def test_on_a_card_the_versions_of_its_libraries_count(monkeypatch):
    """Without a card here: only the words."""
    monkeypatch.setattr(trial, "_driver", lambda: 12080)
    card = torch.device("cuda")
    assert "driver 12080, cudnn" in trial.versions(card)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "hip 6.4" in trial.versions(card)
    assert "driver" not in trial.versions(card)


def test_a_computer_without_nvidias_driver_has_none(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(trial.ctypes, "CDLL", missing)
    assert trial._driver() == 0
