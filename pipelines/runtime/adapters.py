"""`Adapters`: which low-rank changes each network computes with now, and where its changed weights are.

A change belongs to the network, not to a job: it stays until somebody is to compute with other ones, or with none, and
then only layers that differ are touched. The weights as they were loaded are never written:
- a network with a home in RAM is changed where it lies on the device, its streamed blocks each time they arrive;
- a weight that is widened while its layer runs, from few bits or from 16, is changed then;
- any other lies a second time beside itself. Where memory is too small for that it is changed while its layer runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pipelines.runtime.lodging import Lodging
from pipelines.runtime.low_rank import NONE, Adapter, Pair, change, changed, flat, stacked
from pipelines.runtime.packed_layers import PackedConv2d, PackedLinear
from pipelines.runtime.precision import widened
from pipelines.runtime.streaming import Visit

Check = Callable[[], None]


class Adapters:
    """One thread. Who computes with a network settles it before, whether with LoRAs or without."""

    def __init__(self, lodging: Lodging) -> None:
        self._lodging = lodging
        self._worn: dict[int, _Worn] = {}

    def settle(
        self,
        network: nn.Module,
        adapter: Adapter = NONE,
        afresh: bool = False,
        check: Check = lambda: None,
    ) -> None:
        """From now on `network` computes with this, and nothing else.

        `afresh`: there is no memory for changed weights beside its own. `check` is called between layers. What it
        raises, and the device when it is out of memory, leaves each layer with its change or without; the next call
        puts that right.
        """
        worn = self._worn.get(id(network))
        if worn is None:
            if not adapter.uses:
                return
            worn = self._worn[id(network)] = _Worn(network)
        worn.settle(adapter, self._lodging.visit(network), afresh, check)
        if not adapter.uses:
            del self._worn[id(network)]

    def forget(self, network: object) -> None:
        """It is not needed any more."""
        self._worn.pop(id(network), None)

    def size_of(self, network: object) -> int:
        """Bytes that its changed weights take beside its own."""
        worn = self._worn.get(id(network))
        return sum(layer.size_bytes for layer in worn.layers.values()) if worn else 0


class _Worn:
    """What one network has on. `key` is None while nobody knows."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._key: tuple[object, ...] | None = None
        self._way: tuple[Visit | None, bool] = (None, False)
        self.layers: dict[str, _Layer] = {}

    def settle(self, adapter: Adapter, visit: Visit | None, afresh: bool, check: Check) -> None:
        same_way = self._way[0] is visit and self._way[1] == afresh
        if same_way and self._key == adapter.key:
            return
        self._key = None
        wanted = {name for names in adapter.layers.values() for name in names}
        for name in [name for name in self.layers if not same_way or name not in wanted]:
            self.layers.pop(name).undo()
        self._way = (visit, afresh)
        for uses, names in adapter.layers.items():
            on = tuple((use.of, use.weight) for use in uses)
            for name in names:
                layer = self.layers.get(name) or self._layer(name)
                if layer.on != on:
                    check()
                    layer.on = None
                    layer.put(stacked(name, uses))
                    layer.on = on
        self._key = adapter.key

    def _layer(self, name: str) -> _Layer:
        made = self.layers[name] = _layer(self._network.get_submodule(name), *self._way)
        return made


class _Layer(ABC):
    """`put` may come again, with another change in place of the last one.

    `on`: the LoRAs that it was put on for, with their weights; None while nobody knows.
    """

    size_bytes = 0
    on: tuple[tuple[object, float], ...] | None = None

    @abstractmethod
    def put(self, low_rank: Pair) -> None: ...

    @abstractmethod
    def undo(self) -> None: ...


def _layer(module: Any, visit: Visit | None, afresh: bool) -> _Layer:
    if isinstance(module, PackedLinear | PackedConv2d):
        return _Widening(module)
    if (hook := widened(module)) is not None:
        return _Widening(hook)
    if visit is None:
        return _WhileItRuns(module) if afresh else _Beside(module.weight)
    return (
        _Arriving(module.weight, visit) if visit.streams(module.weight) else _OnDevice(module.weight, visit)
    )


class _Widening(_Layer):
    """The layer's weight is made anew each time that it runs, by `owner`, which changes it then."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def put(self, low_rank: Pair) -> None:
        self._owner.low_rank = low_rank

    def undo(self) -> None:
        self._owner.low_rank = None


class _Beside(_Layer):
    """The weight points to a changed copy."""

    def __init__(self, weight: nn.Parameter) -> None:
        self._weight, self._whole = weight, weight.data
        self._own = torch.empty_like(self._whole)  # with its strides
        self._flat, self._own_flat, self._at = flat(self._whole), flat(self._own), self._own.data_ptr()
        self.size_bytes = self._own.nbytes

    def put(self, low_rank: Pair) -> None:
        changed(self._flat, low_rank, self._own_flat)
        if self._weight.data_ptr() != self._at:  # to set it takes as long as half of the change
            self._weight.data = self._own

    def undo(self) -> None:
        if self._weight.data_ptr() == self._at:
            self._weight.data = self._whole


class _OnDevice(_Layer):
    """The weight is a copy of what its home has."""

    def __init__(self, weight: nn.Parameter, visit: Visit) -> None:
        self._weight, self._visit = weight, visit
        self._touched = False

    def put(self, low_rank: Pair) -> None:
        self.undo()
        self._touched = True
        change(self._weight.data, low_rank)

    def undo(self) -> None:
        if self._touched and not self._visit.over:
            self._weight.data.copy_(self._visit.home.whole(self._weight), non_blocking=True)
        self._touched = False


class _Arriving(_Layer):
    """The weight is in a block that streams; its place in the arena is the same in every step."""

    def __init__(self, weight: nn.Parameter, visit: Visit) -> None:
        self._weight, self._changes = weight, visit.changes(weight)

    def put(self, low_rank: Pair) -> None:
        self._changes[id(self._weight)] = lambda: change(self._weight.data, low_rank)

    def undo(self) -> None:
        self._changes.pop(id(self._weight), None)


class _WhileItRuns(_Layer):
    """The weight points to a changed copy for as long as its layer runs."""

    def __init__(self, module: nn.Module) -> None:
        self._weight: Any = module.weight
        self._whole: torch.Tensor | None = None
        self._low_rank: Pair | None = None
        self._handles = [
            module.register_forward_pre_hook(self._before),
            module.register_forward_hook(self._after, always_call=True),
        ]

    def put(self, low_rank: Pair) -> None:
        self._low_rank = low_rank

    def undo(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._after()

    def _before(self, *_: object) -> None:
        if self._low_rank is not None:
            whole = self._weight.data
            own = torch.empty_like(whole)
            changed(whole, self._low_rank, own)
            self._whole, self._weight.data = whole, own

    def _after(self, *_: object) -> None:
        if self._whole is not None:
            self._weight.data, self._whole = self._whole, None
