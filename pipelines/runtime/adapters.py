"""`Adapters`: which low-rank changes each network computes with now, and where its changed weights are.

A change belongs to the network, not to a job: it stays until somebody is to compute with other ones, or with none, and
then only layers that differ are touched. The weights as they were loaded are never written:
- a network with a home in RAM is changed where it lies on the device, its streamed blocks each time they arrive;
- a weight that is widened while its layer runs, from few bits or from 16, is changed then;
- any other lies a second time beside itself. Where memory is too small for that it is changed while its layer runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from pipelines.runtime.lodging import Lodging
from pipelines.runtime.low_rank import NONE, Adapter, Pair, change, changed, stacked
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
        self._on: dict[str, list[tuple[object, float]]] = {}

    def settle(self, adapter: Adapter, visit: Visit | None, afresh: bool, check: Check) -> None:
        same_way = self._way[0] is visit and self._way[1] == afresh
        if same_way and self._key == adapter.key:
            return
        self._key, wanted = None, adapter.layers
        for name in [name for name in self.layers if not same_way or name not in wanted]:
            self._on.pop(name, None)
            self.layers.pop(name).undo()
        self._way = (visit, afresh)
        for name, uses in wanted.items():
            on = [(use.of, use.weight) for use in uses]
            if self._on.get(name) != on:
                check()
                self._on.pop(name, None)
                self._layer(name).put(stacked(name, uses))
                self._on[name] = on
        self._key = adapter.key

    def _layer(self, name: str) -> _Layer:
        if name not in self.layers:
            self.layers[name] = _layer(self._network.get_submodule(name), *self._way)
        return self.layers[name]


class _Layer(Protocol):
    """`put` may come again, with another change in place of the last one."""

    size_bytes: int

    def put(self, low_rank: Pair) -> None: ...
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


class _Widening:
    """The layer's weight is made anew each time that it runs, by `owner`, which changes it then."""

    size_bytes = 0

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def put(self, low_rank: Pair) -> None:
        self._owner.low_rank = low_rank

    def undo(self) -> None:
        self._owner.low_rank = None


class _Beside:
    """The weight points to a changed copy."""

    def __init__(self, weight: nn.Parameter) -> None:
        self._weight, self._whole = weight, weight.data
        self._own = torch.empty_like(self._whole)  # with its strides
        self.size_bytes = self._own.nbytes

    def put(self, low_rank: Pair) -> None:
        changed(self._whole, low_rank, self._own)
        if not self._is_own:  # to set it takes as long as half of the change
            self._weight.data = self._own

    def undo(self) -> None:
        if self._is_own:
            self._weight.data = self._whole

    @property
    def _is_own(self) -> bool:
        return self._weight.data_ptr() == self._own.data_ptr()


class _OnDevice:
    """The weight is a copy of what its home has."""

    size_bytes = 0

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


class _Arriving:
    """The weight is in a block that streams; its place in the arena is the same in every step."""

    size_bytes = 0

    def __init__(self, weight: nn.Parameter, visit: Visit) -> None:
        self._weight, self._changes = weight, visit.changes(weight)

    def put(self, low_rank: Pair) -> None:
        self._changes[id(self._weight)] = lambda: change(self._weight.data, low_rank)

    def undo(self) -> None:
        self._changes.pop(id(self._weight), None)


class _WhileItRuns:
    """The weight points to a changed copy for as long as its layer runs."""

    size_bytes = 0

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
