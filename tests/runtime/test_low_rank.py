"""The one operation by which weights change: right, the same in place and beside, whatever the order in memory."""

from __future__ import annotations

import pytest
import torch

from pipelines.runtime.low_rank import Adapter, Pair, Use, change, changed, stacked

LAYERS = {"linear": (24, 40), "kernel": (16, 12, 3, 3), "one cell": (16, 12, 1, 1)}
ORDERS = ("usual", "channels last", "turned")


def weight_of(shape: tuple[int, ...], order: str) -> torch.Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if order == "channels last" and len(shape) == 4:
        return weight.contiguous(memory_format=torch.channels_last)
    return weight.transpose(0, 1).contiguous().transpose(0, 1) if order == "turned" else weight


def pair_of(shape: tuple[int, ...], rank: int, seed: int) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(s, generator=generator) for s in ((shape[0], rank), (rank, *shape[1:])))
    return Pair(up, down.flatten(1))


def weighed(pair: Pair, weight: float) -> Pair:
    return stacked("layer", [Use(object(), weight, {"layer": pair})])


def right(weight: torch.Tensor, *weighed: tuple[Pair, float]) -> torch.Tensor:
    wide = weight.double()
    for pair, scale in weighed:
        wide = wide + scale * (pair.up.double() @ pair.down.double()).view(weight.shape)
    return wide


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layer", LAYERS)
def test_it_is_the_product_and_beside_what_it_is_in_place(layer, order):
    shape = LAYERS[layer]
    weight, pair = weight_of(shape, order), pair_of(shape, 4, 2)
    whole, out = weight.clone(), torch.empty_like(weight)
    changed(weight, weighed(pair, -0.75), out)
    assert torch.allclose(out.double(), right(whole, (pair, -0.75)), rtol=1e-5, atol=1e-5)
    assert torch.equal(weight, whole)
    assert out.stride() == weight.stride()
    change(weight, weighed(pair, -0.75))
    assert torch.equal(weight, out)


def test_a_weight_of_one_takes_the_numbers_of_the_file_and_no_other_changes_them():
    """Those of a big LoRA would lie in memory twice; and it is the file's that the next job begins with."""
    pair = pair_of(LAYERS["linear"], 4, 2)
    before = [half.clone() for half in pair]
    assert all(one is other for one, other in zip(weighed(pair, 1.0), pair, strict=True))
    half = weighed(pair, 0.5)
    assert half.up is pair.up
    assert torch.equal(half.down, before[1] * 0.5)
    assert all(map(torch.equal, pair, before))


def test_several_of_different_ranks_are_one():
    shape = LAYERS["kernel"]
    weight = weight_of(shape, "usual")
    pairs = [(pair_of(shape, rank, rank), scale) for rank, scale in ((1, 0.5), (4, -1.0), (16, 0.25))]
    uses = [Use(object(), scale, {"layer": pair}) for pair, scale in pairs]
    one, out = stacked("layer", uses), torch.empty_like(weight)
    assert one.up.shape[1] == one.down.shape[0] == 21
    changed(weight, one, out)
    assert torch.allclose(out.double(), right(weight, *pairs), rtol=1e-5, atol=1e-5)


def test_a_smaller_precision_is_that_of_the_weight():
    shape = LAYERS["linear"]
    weight, pair = weight_of(shape, "usual").bfloat16(), pair_of(shape, 4, 2)
    out = torch.empty_like(weight)
    changed(weight, pair, out)
    assert torch.allclose(out.double(), right(weight, (pair, 1.0)), rtol=0.02, atol=0.05)


def test_equal_keys_are_the_same_files_at_the_same_weights():
    one, other, pairs = object(), object(), {"layer": pair_of((4, 4), 1, 0)}

    def key(*uses: tuple[object, float]) -> tuple[object, ...]:
        return Adapter(tuple(Use(of, weight, pairs) for of, weight in uses)).key

    assert key((one, 1.0), (other, 0.5)) == key((one, 1.0), (other, 0.5))
    different = [key((one, 1.0)), key((one, 0.5)), key((other, 1.0)), key((one, 1.0), (one, 1.0))]
    assert len({*different}) == 4
