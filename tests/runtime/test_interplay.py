"""Which ways to make a step quicker go together in these versions of torch and diffusers, tried on small networks.

What is said to fail still fails and what is said to lie still lies, so that its mending is noticed; what our own way
does instead is right. The rules of spec/speed.py are these findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from diffusers.hooks import FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import nn
from torch._dynamo.exc import TorchDynamoException, Unsupported

from pipelines.runtime.adapters import Adapters
from pipelines.runtime.gguf_weights import pack_layers
from pipelines.runtime.lodging import Lodging
from pipelines.runtime.low_rank import NONE, Adapter, Pair, Use
from pipelines.runtime.movers import InRam
from pipelines.runtime.precision import Precision, is_widened, settle
from pipelines.runtime.speed import compiled as compiling
from pipelines.runtime.speed.channels_last import channels_last
from pipelines.runtime.speed.compiled import compiled
from pipelines.runtime.speed.fused_qkv import fused_qkv
from pipelines.runtime.streaming import Home

TOKENS, TEXT = 16, 8


@pytest.fixture(autouse=True)
def by_dynamo_alone(monkeypatch) -> Iterator[None]:
    """What Dynamo traces is what matters here; no program is made of it."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    compiling._kinds.clear()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch.inference_mode():
        yield
    torch._dynamo.reset()
    compiling._kinds.clear()


def flux() -> Any:
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=16, axes_dims_rope=(4, 6, 6),
    ).eval().requires_grad_(False)  # fmt: skip


def unet() -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=32,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
    ).eval().requires_grad_(False)  # fmt: skip


def answer(network: Any, step: int = 0, tokens: int = TOKENS) -> torch.Tensor:
    """One call; `step` changes what is asked."""
    given = torch.Generator().manual_seed(step)
    if isinstance(network, UNet2DConditionModel):
        side = int(tokens**0.5) * 2
        sample = torch.randn(2, 4, side, side, generator=given)
        text = torch.randn(2, TEXT, 32, generator=given)
        return network(sample, torch.tensor(500 - step), text, return_dict=False)[0]
    ids = torch.zeros(tokens, 3)
    ids[:, 1] = torch.arange(tokens)
    with network.cache_context("cond"):
        return network(
            hidden_states=torch.randn(1, tokens, 16, generator=given), img_ids=ids, txt_ids=torch.zeros(TEXT, 3),
            encoder_hidden_states=torch.randn(1, TEXT, 24, generator=given),
            pooled_projections=torch.randn(1, 16, generator=given), timestep=torch.tensor([1 - step / 10]),
            return_dict=False,
        )[0]  # fmt: skip


NETWORKS: dict[str, Callable[[], Any]] = {"flux": flux, "unet": unet}


@pytest.fixture(params=NETWORKS)
def network(request) -> Any:
    return NETWORKS[request.param]()


def merge(network: Any, scale: float, only: str = "to_q") -> None:
    """What a LoRA of this weight adds, in place."""
    torch.manual_seed(1)
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(only):
            down, up = torch.randn(2, module.in_features), torch.randn(module.out_features, 2)
            module.weight.add_(scale * up @ down)


def lora_of(network: Any, seed: int, weight: float) -> Adapter:
    """Of all queries."""
    numbers, pairs = torch.Generator().manual_seed(seed), dict[str, Pair]()
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith("to_q"):
            sides = (module.out_features, 2), (2, module.in_features)
            pairs[name] = Pair(*(torch.randn(side, generator=numbers) / 8 for side in sides))
    return Adapter((Use(object(), weight, pairs),))


# --- compile -------------------------------------------------------------------------------------------------------


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"].get("unique_graphs", 0)


@pytest.mark.parametrize("config", [FirstBlockCacheConfig(), TaylorSeerCacheConfig()], ids=type)
def test_blocks_compiled_by_diffusers_fail_with_a_step_cache(config):
    network = flux()
    network.enable_cache(config)
    network.compile_repeated_blocks(fullgraph=True, backend="eager")
    with pytest.raises(Unsupported):
        [answer(network, step) for step in range(4)]


@pytest.mark.parametrize(
    "config",
    [FirstBlockCacheConfig(0.3), TaylorSeerCacheConfig(3, use_lite_mode=True, taylor_factors_dtype=torch.float32)],
    ids=type,
)  # fmt: skip
def test_ours_answer_the_same_with_a_step_cache_around_them(config):
    plain, quick = flux(), flux()
    plain.enable_cache(config)
    told, made = list[str](), 0
    with compiled(quick, told.append):
        quick.enable_cache(config)
        for step in range(6):
            torch.testing.assert_close(answer(quick, step), answer(plain, step))
            made = graphs() if step == 0 else made
        quick.disable_cache()
    assert told == []
    assert graphs() == made == 3  # the first of the single blocks gets its tokens in another layout


def test_blocks_compiled_by_diffusers_fail_with_weights_that_are_widened_in_the_layers():
    network = flux()
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    network.compile_repeated_blocks(fullgraph=True, backend="eager")
    with pytest.raises(TorchDynamoException):
        answer(network)


def test_ours_fail_with_them_as_well_and_draw_as_they_are(network):
    """So the switch is left out where `is_widened`."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.to(torch.float8_e4m3fn)
    assert not is_widened(network)
    settle(network, Precision(compute=torch.float32, storage=torch.float32, keeps_fp8=True))
    assert is_widened(network)
    right, told = answer(network), list[str]()
    with compiled(network, told.append):
        assert torch.equal(answer(network), right)
    assert told


@pytest.mark.parametrize("weights", ["int8", "int4", "nf4"])
def test_packed_weights_are_compiled(network, weights):
    pack_layers(network, weights, torch.float32)
    right = answer(network)
    with compiled(network, pytest.fail):
        torch.testing.assert_close(answer(network), right)
    assert graphs()


def test_packed_weights_are_compiled_once_without_a_lora_and_once_for_all_of_a_rank(network):
    pack_layers(network, "int8", torch.float32)
    adapters, made = Adapters(Lodging(InRam())), list[int]()
    for lora in (NONE, *(lora_of(network, seed, weight) for seed, weight in ((1, 0.5), (1, 0.7), (2, -1.0)))):
        adapters.settle(network, lora)
        right = answer(network)
        with compiled(network, pytest.fail):
            torch.testing.assert_close(answer(network), right)
        made.append(graphs())
    assert 0 < made[0] < made[1] == made[2] == made[3]


def test_no_graph_is_made_for_another_lora_or_weight_nor_for_a_third_size(network):
    with compiled(network, pytest.fail):
        answer(network)
        answer(network, tokens=4 * TOKENS)
    made = graphs()
    assert made
    for scale, tokens in ((0.5, TOKENS), (0.25, 4 * TOKENS), (-0.75, 9 * TOKENS)):
        merge(network, scale)
        right = answer(network, tokens=tokens)
        with compiled(network, pytest.fail):  # entered anew, as each picture does
            torch.testing.assert_close(answer(network, tokens=tokens), right)
    assert graphs() == made


def test_another_model_of_the_same_kind_finds_the_programs_that_are_there(network):
    with compiled(network, pytest.fail):
        answer(network)
    made = graphs()
    with compiled(
        other := NETWORKS["flux" if hasattr(network, "transformer_blocks") else "unet"](), pytest.fail
    ):
        answer(other)
    assert graphs() == made


def test_blocks_that_stream_stand_outside_and_answer_the_same(network):
    right = [answer(network, step) for step in range(3)]
    home = Home(network, InRam())
    with home.visiting(range(len(home.blocks))), compiled(network, pytest.fail):
        found = [answer(network, step) for step in range(3)]
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)
    assert graphs()


def test_a_block_that_cannot_be_compiled_is_drawn_as_it_is_and_told_of_once_a_picture(network):
    right = answer(network)

    def broken(_module, _inputs):
        raise RuntimeError("this machine's compiler is broken")

    compiling._kinds.clear()
    told = list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "BACKEND", broken)
        with compiled(network, told.append):
            torch.testing.assert_close(answer(network), right)
            torch.testing.assert_close(answer(network), right)
        first = list(told)
        with compiled(network, told.append):  # the next picture
            torch.testing.assert_close(answer(network), right)
    assert 1 <= len(first) <= 2  # of each kind of block
    assert "compiler is broken" in told[0]
    assert told == first * 2


def test_a_new_engine_tries_again_what_could_not_be_compiled(network):
    right, told, broken = answer(network), list[str](), [True]

    def backend(module, _inputs):
        if broken:
            raise RuntimeError("the disk is full")
        return module.forward

    compiling._kinds.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "BACKEND", backend)
        with compiled(network, told.append):
            answer(network)
        assert told
        told.clear()
        broken.clear()
        compiling.try_again()
        torch._dynamo.reset()
        with compiled(network, told.append):
            torch.testing.assert_close(answer(network), right)
    assert not told


def test_afterwards_the_blocks_are_as_they_were(network):
    answer(network)
    before = {name: dict(module.__dict__) for name, module in network.named_modules()}
    with compiled(network, pytest.fail):
        answer(network)
    assert {name: dict(module.__dict__) for name, module in network.named_modules()} == before


# --- fused QKV -----------------------------------------------------------------------------------------------------


def test_fused_inputs_answer_the_same_and_leave_nothing_behind(network):
    right = answer(network)
    names, size = set(network.state_dict()), sum(p.untyped_storage().nbytes() for p in network.parameters())
    with fused_qkv(network):
        assert set(network.state_dict()) > names
        torch.testing.assert_close(answer(network), right, atol=1e-5, rtol=1e-4)
        stores = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in network.parameters()}
        assert sum(stores.values()) == size  # no number lies there twice
    assert set(network.state_dict()) == names
    assert torch.equal(answer(network), right)


def test_a_lora_on_fused_inputs_is_lost_without_a_word(network):
    plain = answer(network)
    with fused_qkv(network):
        for module in network.modules():  # as a LoRA's layers replace those that they change
            if hasattr(module, "to_q"):
                module.to_q.weight = nn.Parameter(module.to_q.weight + 1, requires_grad=False)
        torch.testing.assert_close(answer(network), plain, atol=1e-5, rtol=1e-4)


def test_weights_in_fp8_cannot_be_fused_by_diffusers():
    network = flux()
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    with pytest.raises(NotImplementedError):
        network.fuse_qkv_projections()


def test_fused_inputs_take_the_attention_of_an_ip_adapter_away():
    network = unet()
    own = {
        name: IPAdapterAttnProcessor2_0(hidden_size=32, cross_attention_dim=32)
        if name.endswith("attn2.processor")
        else processor
        for name, processor in network.attn_processors.items()
    }
    network.set_attn_processor(dict(own))
    network.fuse_qkv_projections()
    assert not any(isinstance(each, IPAdapterAttnProcessor2_0) for each in network.attn_processors.values())


def test_packed_weights_cannot_be_fused():
    network = flux()
    pack_layers(network, "int8", torch.float32)
    with pytest.raises(Exception, match=r"."), fused_qkv(network):
        answer(network)


# --- channels last -------------------------------------------------------------------------------------------------


def test_channels_last_answers_the_same_and_lays_the_weights_back():
    network = unet()
    before = {name: p.stride() for name, p in network.named_parameters()}
    right = answer(network)
    with channels_last(network):
        assert any(p.stride() != before[name] for name, p in network.named_parameters())
        torch.testing.assert_close(answer(network), right, atol=1e-5, rtol=1e-4)
    assert {name: p.stride() for name, p in network.named_parameters()} == before
    assert torch.equal(answer(network), right)


def test_a_lora_on_kernels_comes_off_again_after_channels_last():
    network, adapters = unet(), Adapters(Lodging(InRam()))
    plain = answer(network)
    up, down = torch.randn(16, 2), torch.randn(2, 16 * 9)
    lora = Adapter((Use(object(), 0.1, {"down_blocks.0.resnets.0.conv1": Pair(up, down)}),))
    adapters.settle(network, lora)
    right = answer(network)
    assert not torch.equal(right, plain)
    with channels_last(network):
        torch.testing.assert_close(answer(network), right, atol=1e-5, rtol=1e-4)
    assert torch.equal(answer(network), right)
    adapters.settle(network)
    assert torch.equal(answer(network), plain)


def test_channels_last_takes_no_second_memory():
    network = unet()
    before = {name: p.data_ptr() for name, p in network.named_parameters()}
    with channels_last(network):
        assert {name: p.data_ptr() for name, p in network.named_parameters()} == before


# --- step caches ---------------------------------------------------------------------------------------------------


def controlled(network: Any, step: int, scale: float) -> torch.Tensor:
    """`answer` with what a ControlNet adds after the single blocks."""
    forward = network.forward
    own = torch.Generator().manual_seed(2)
    added = [scale * torch.randn(1, TOKENS, 32, generator=own) for _ in network.single_transformer_blocks]
    network.forward = lambda **given: forward(**given, controlnet_single_block_samples=added)
    try:
        return answer(network, step)
    finally:
        network.forward = forward


def test_a_controlnet_is_added_once_more_to_a_step_that_is_left_out():
    """The same question twice: the second answer, which is out of the cache, must be the first one and is not."""
    network = flux()
    network.enable_cache(FirstBlockCacheConfig(0.5))
    torch.testing.assert_close(answer(network), answer(network))
    network.disable_cache()
    network.enable_cache(FirstBlockCacheConfig(0.5))
    first, second = controlled(network, 0, 0.5), controlled(network, 0, 0.5)
    assert (first - second).abs().max() > 1e-3
    network.disable_cache()
    torch.testing.assert_close(controlled(network, 0, 0.5), first)


# --- what U-Nets do not have ---------------------------------------------------------------------------------------


def test_a_unet_has_no_step_cache():
    assert not hasattr(UNet2DConditionModel, "enable_cache")


def test_the_backend_of_attention_is_set_on_no_layer_of_a_unet():
    network = unet()
    network.set_attention_backend("native")
    processors = network.attn_processors.values()
    assert processors
    assert not any(hasattr(processor, "_attention_backend") for processor in processors)
