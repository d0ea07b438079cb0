"""Each row runs the kernel that it names; what a device does not have says why.

xformers and sageattention compute on graphics cards only, and have not run here: in their place stands a function that
takes and answers what their documents say.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.backends import cuda as switches
from torch.nn.functional import scaled_dot_product_attention

from pipelines.runtime.attention.kernels import BY_ID, KERNELS, is_refusal
from pipelines.runtime.attention.trial import Tensors
from pipelines.spec.attention import AUTO, DETERMINISTIC, NAMES
from tests.runtime.attention.ran import ran

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def given() -> Tensors:
    """[batch, heads, tokens, width] as diffusers hands them over: a view of [batch, tokens, heads, width]."""
    numbers = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, n, 3, 16, generator=numbers).transpose(1, 2) for n in (40, 77, 77))
    return query, key, value


def state():
    return (
        switches.flash_sdp_enabled(), switches.mem_efficient_sdp_enabled(), switches.math_sdp_enabled(),
        switches.cudnn_sdp_enabled(),
    )  # fmt: skip


def test_every_row_that_is_a_kernel_has_its_way_to_run():
    assert {AUTO, DETERMINISTIC, *BY_ID} == set(NAMES)


@pytest.mark.parametrize("name", ["flash", "math"])
def test_the_kernel_that_is_asked_for_is_the_one_that_runs(name, given: Tensors):
    assert not BY_ID[name].lacks(CPU)
    assert ran(lambda: BY_ID[name].run(*given, None)) == {name: 1}
    assert all(state())


@pytest.mark.parametrize("name", ["flash", "math"])
def test_it_takes_a_scale(name, given: Tensors):
    torch.testing.assert_close(
        BY_ID[name].run(*given, 0.7), scaled_dot_product_attention(*given, scale=0.7), atol=1e-5, rtol=1e-5
    )


def test_a_kernel_that_cannot_run_raises_and_no_other_runs_in_its_place(given: Tensors):
    with pytest.raises(RuntimeError) as caught:
        BY_ID["cudnn"].run(*given, None)
    assert is_refusal(caught.value)
    assert not is_refusal(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert all(state())


def test_a_switch_that_was_off_stays_off(given: Tensors, monkeypatch):
    from pipelines.runtime.attention import kernels

    turned = []
    monkeypatch.setattr(
        kernels, "_SWITCHES", {"flash": (turned.append, True), "cudnn": (turned.append, False)}
    )
    BY_ID["flash"].run(*given, None)
    assert turned == [True, False, True, False]


def attended(query, key, value, scale):
    """Heads last, as xformers has it."""
    heads_first = (each.transpose(1, 2) for each in (query, key, value))
    return scaled_dot_product_attention(*heads_first, scale=scale).transpose(1, 2)


def test_xformers_takes_heads_after_tokens(given: Tensors, monkeypatch):
    monkeypatch.setitem(sys.modules, "xformers.ops", SimpleNamespace(memory_efficient_attention=attended))
    torch.testing.assert_close(
        BY_ID["xformers"].run(*given, 0.5), scaled_dot_product_attention(*given, scale=0.5)
    )


def test_sage_takes_heads_before_tokens(given: Tensors, monkeypatch):
    def sageattn(query, key, value, tensor_layout, sm_scale):
        assert tensor_layout == "HND"
        return scaled_dot_product_attention(query, key, value, scale=sm_scale)

    monkeypatch.setitem(sys.modules, "sageattention", SimpleNamespace(sageattn=sageattn))
    torch.testing.assert_close(
        BY_ID["sage"].run(*given, 0.5), scaled_dot_product_attention(*given, scale=0.5)
    )


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [("xformers", "xformers.ops", "memory_efficient_attention"), ("sage", "sageattention", "sageattn")],
)
def test_a_package_is_called_from_a_compiled_block(name, module, function, given: Tensors, monkeypatch):
    """Dynamo refuses an import in what it traces, and the block would be drawn as it is."""

    def answer(query, key, value, **_):
        return 2 * query

    package = ModuleType(module)
    setattr(package, function, answer)
    monkeypatch.setitem(sys.modules, module, package)
    run = BY_ID[name].run
    torch._dynamo.reset()
    compiled = torch.compile(lambda q, k, v: run(q, k, v, None), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*given), 2 * given[0])
    torch._dynamo.reset()


def test_the_processor_has_two_kernels_and_says_why_not_the_others():
    lacks = {kernel.id: kernel.lacks(CPU) for kernel in KERNELS}
    assert [name for name, why in lacks.items() if not why] == ["flash", "math"]
    assert "graphics cards" in lacks["cudnn"]
    assert "NVIDIA" in lacks["xformers"]


@pytest.mark.parametrize("name", ["xpu", "mps", "privateuseone"])
def test_where_the_switches_do_nothing_nothing_can_be_chosen(name):
    for kernel in KERNELS:
        assert kernel.lacks(torch.device(name))


def test_a_torch_for_amd_has_no_cudnn(monkeypatch):
    assert not BY_ID["cudnn"].lacks(CARD)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "AMD" in BY_ID["cudnn"].lacks(CARD)
    assert not BY_ID["flash"].lacks(CARD)


def test_a_package_that_is_not_installed_or_built_for_another_torch_says_so(monkeypatch):
    assert "sageattention is not installed" in BY_ID["sage"].lacks(CARD)
    library = ModuleType("xformers._cpp_lib")
    library._cpp_library_load_exception = "built for CUDA 1208"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "xformers.ops", ModuleType("xformers.ops"))
    monkeypatch.setitem(sys.modules, "xformers._cpp_lib", library)
    assert "built for CUDA 1208" in BY_ID["xformers"].lacks(CARD)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)  # pyright: ignore[reportArgumentType]
    assert "cannot be loaded" in BY_ID["xformers"].lacks(CARD)
