"""What would fit instead: weights in fewer bits, of two kinds of as many bits the one that loses less."""

from __future__ import annotations

from pipelines.runtime.activations import FLUX
from pipelines.runtime.offers import offers
from pipelines.runtime.placement import Budget, plan
from pipelines.spec.blocks import grouped
from pipelines.spec.sizes import Network, Shape, Sizes

GB = 10**9
BLOCKS, REST = grouped({f"transformer_blocks.{n}.weight": 400_000_000 for n in range(57)} | {"x.weight": GB})
SIZES = Sizes(
    encoders=(),
    denoisers=(Network(name="transformer", blocks=BLOCKS, rest=REST, model="flux"),),
    vae=GB // 5,
    added=0,
)


def weights_offered(ram: int) -> list[str]:
    shape = Shape(width=1024, height=1024, tokens=512)
    placement = plan(SIZES, Budget.of_card(8 * GB, ram), shape, FLUX)
    return [each.change.weights or "" for each in offers(placement, 16, 16)]


def test_nf4_is_offered_where_int4_does_not_fit_and_only_there():
    found = [weights_offered(ram * GB // 10) for ram in range(40, 300, 2)]
    assert ["int8", "int4"] in found
    assert any("nf4" in names and "int4" not in names for names in found)
    assert not any({"int4", "nf4"} <= {*names} for names in found)
