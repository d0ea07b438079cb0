"""What networks wear: the same numbers wherever their weights lie, and every weight as it was once it is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from pipelines.runtime import adapters as adapting
from pipelines.runtime import gguf_weights
from pipelines.runtime.adapters import Adapters
from pipelines.runtime.lodging import Lodging
from pipelines.runtime.low_rank import NONE, Adapter, Pair, Use
from pipelines.runtime.movers import InRam
from pipelines.runtime.placement import Place, Stage
from pipelines.runtime.precision import Precision, settle
from pipelines.spec.errors import Cancelled

WIDTH, BLOCKS = 32, 5
WAYS = ("beside", "afresh", "on the device", "streamed", "all streamed")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(WIDTH, WIDTH)
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, WIDTH, side, side]."""
        x = x + self.to_q(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return torch.tanh(x + self.conv(x))


class Net(nn.Module):
    """Named like the networks of diffusers, so that it has blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(WIDTH, WIDTH, 1)
        self.transformer_blocks = nn.ModuleList(Block() for _ in range(BLOCKS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for block in self.transformer_blocks:
            x = block(x)
        return x


@pytest.fixture(params=["plain", "channels last", "int8", "half"])
def net(request) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Net().eval().requires_grad_(False)
    if request.param == "channels last":
        made = made.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if request.param == "int8":
        gguf_weights.pack_layers(made, "int8", torch.float32)
    if request.param == "half":
        settle(made.half(), Precision(compute=torch.float32, storage=torch.float16))
    return made


def lora(seed: int, rank: int = 4, names: Callable[[str], bool] = lambda name: True) -> dict[str, Pair]:
    """Of the layers of a net whose name is one of `names`."""
    generator, pairs = torch.Generator().manual_seed(seed), dict[str, Pair]()
    for name, module in Net().named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and names(name):
            out, *rest = module.weight.shape
            up, down = (torch.randn(s, generator=generator) / 8 for s in ((out, rank), (rank, *rest)))
            pairs[name] = Pair(up, down.flatten(1))
    return pairs


def adapter(*weighed: tuple[dict[str, Pair], float]) -> Adapter:
    """The very pairs are what tells two LoRAs apart."""
    return Adapter(tuple(Use(id(pairs), weight, pairs) for pairs, weight in weighed))


def drawn(net: Net) -> torch.Tensor:
    x = torch.randn(1, WIDTH, 6, 6, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        for _ in range(2):
            x = net(x)
    return x


def state(net: Net) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def hooks(net: Net) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


class Wardrobe:
    """A net that lies in one of the ways."""

    def __init__(self, net: Net, way: str) -> None:
        self.net, self.way = net, way
        self.lodging = Lodging(InRam())
        self.adapters = Adapters(self.lodging)
        if self.lodged:
            self.lodging.house(net)
            self.bring()

    @property
    def lodged(self) -> bool:
        return self.way not in ("beside", "afresh")

    def bring(self) -> None:
        streamed = {"streamed": (1, 3), "all streamed": tuple(range(BLOCKS))}.get(self.way, ())
        size = sum(p.nbytes for p in self.net.parameters())
        place = Place(
            name="net", model="", stage=Stage.DENOISE, size_bytes=size, stays=2 * size, always=False,
            streamed=streamed, slots=2 if streamed else 0,
        )  # fmt: skip
        self.lodging.bring(self.net, place)

    def wear(self, worn: Adapter, check: Callable[[], None] = lambda: None) -> torch.Tensor:
        self.adapters.settle(self.net, worn, self.way == "afresh", check)
        return drawn(self.net)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The layers that are changed."""
    names, real = list[str](), adapting.stacked

    def counting(name, uses):
        names.append(name)
        return real(name, uses)

    with monkeypatch.context() as patch:
        patch.setattr(adapting, "stacked", counting)
        yield names


def test_the_numbers_are_the_same_in_every_way_and_the_weights_afterwards_as_before(net):
    one, other = lora(1), lora(2, rank=7)
    wanted = [adapter((one, 0.8)), adapter((one, 0.8), (other, -0.5)), adapter((other, 1.0)), NONE]
    plain, before, seen = drawn(net), state(net), []
    for way in WAYS:
        wardrobe = Wardrobe(net, way)
        seen.append([wardrobe.wear(each) for each in wanted])
        wardrobe.lodging.forget(net)
        assert_same(state(net), before)
        assert hooks(net) == 0
    for pictures in seen:
        assert all(map(torch.equal, pictures, seen[0]))
        assert torch.equal(pictures[-1], plain)
    assert not torch.equal(seen[0][0], plain)
    assert not torch.equal(seen[0][1], seen[0][0])


@pytest.mark.parametrize("way", WAYS)
def test_only_layers_that_differ_are_touched(net, way, monkeypatch):
    all_of_it, kernels = lora(1), lora(2, names=lambda name: name.endswith("conv"))
    wardrobe = Wardrobe(net, way)
    for weights, touched in (((1, 1), 2 * BLOCKS + 1), ((1, 1), 0), ((1, 0.5), BLOCKS), ((0.5, 0.5), 11)):
        with counted(monkeypatch) as names:
            wardrobe.wear(adapter(*zip((all_of_it, kernels), weights, strict=True)))
        assert len(names) == touched
    with counted(monkeypatch) as names:
        wardrobe.wear(adapter((all_of_it, 0.5)))
    assert len(names) == BLOCKS, "those that lose the second one"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [Cancelled(), torch.OutOfMemoryError("no memory")])
def test_what_is_broken_off_in_the_middle_is_put_right_by_whoever_comes_next(net, way, error, monkeypatch):
    one, other = lora(1), lora(2)
    plain, before, wardrobe = drawn(net), state(net), Wardrobe(net, way)
    whole = wardrobe.wear(adapter((one, 1.0)))
    real, calls = adapting.stacked, list[str]()

    def breaking(name, uses):
        calls.append(name)
        if len(calls) == 4:
            raise error
        return real(name, uses)

    for then, right in ((adapter((one, 1.0)), whole), (NONE, plain)):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(adapting, "stacked", breaking)
            with pytest.raises(type(error)):
                wardrobe.wear(adapter((other, 1.0)))
        assert torch.equal(wardrobe.wear(then), right)
    wardrobe.lodging.forget(net)
    assert_same(state(net), before)


@pytest.mark.parametrize("net", ["plain"], indirect=True)
@pytest.mark.parametrize("way", ["beside", "on the device"])
def test_a_weight_that_is_half_written_is_made_anew(net, way, monkeypatch):
    one, other = lora(1), lora(2)
    plain, wardrobe = drawn(net), Wardrobe(net, way)
    whole = wardrobe.wear(adapter((one, 1.0)))

    def broken(*given: torch.Tensor) -> None:
        given[0 if way == "on the device" else 2].fill_(torch.nan)
        raise torch.OutOfMemoryError("no memory")

    for then, right in ((adapter((one, 1.0)), whole), (NONE, plain)):
        with monkeypatch.context() as patch:
            patch.setattr(adapting, "change", broken)
            patch.setattr(adapting, "changed", broken)
            with pytest.raises(torch.OutOfMemoryError):
                wardrobe.wear(adapter((other, 1.0)))
        assert torch.equal(wardrobe.wear(then), right)


def test_a_cancel_is_seen_between_two_layers(net):
    wardrobe, calls = Wardrobe(net, "beside"), list[int]()

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        wardrobe.wear(adapter((lora(1), 1.0)), check)
    assert len(calls) == 3


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("beside", "afresh")])
def test_one_that_was_sent_home_is_changed_anew_when_it_is_back(net, way):
    wardrobe, worn = Wardrobe(net, way), adapter((lora(1), 1.0))
    plain, there = drawn(net), wardrobe.wear(worn)
    wardrobe.lodging.send()
    assert torch.equal(wardrobe.wear(NONE), plain)
    wardrobe.bring()
    assert torch.equal(wardrobe.wear(worn), there)
    assert torch.equal(wardrobe.wear(NONE), plain)


def test_what_lies_beside_is_counted_and_is_gone_with_the_changes(net):
    wardrobe = Wardrobe(net, "beside")
    assert wardrobe.adapters.size_of(net) == 0
    wardrobe.wear(adapter((lora(1), 1.0)))
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert wardrobe.adapters.size_of(net) == sum(w.nbytes for w in weights if w.dtype is torch.float32)
    wardrobe.wear(NONE)
    assert wardrobe.adapters.size_of(net) == 0
    assert wardrobe.adapters._worn == {}


def test_weights_in_memory_of_their_own_keep_their_order(net):
    before = [p.stride() for p in net.parameters()]
    Wardrobe(net, "beside").wear(adapter((lora(1), 1.0)))
    assert [p.stride() for p in net.parameters()] == before
