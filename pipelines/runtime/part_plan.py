"""`PartPlan`: one part of a model that a job wants, whether it must be read, and how.

Text encoders, VAEs and tokenizers are shared by content: a model whose part is, bit for bit, one that another brought
already takes that one. What has the same class, settings and precision is a candidate; its weights are then compared
with those of the file, tensor by tensor, as they would lie in memory. So no digest can lie, nothing is hashed at the
first load, a fine-tune is told at the first tensor that differs, and an equal part costs one read of its file and no
memory. What was found equal is remembered by the file's stamp.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.runtime import device as devices
from pipelines.runtime import gguf_weights
from pipelines.runtime.components import ComponentStore, PartKey
from pipelines.runtime.meter import Meter
from pipelines.runtime.network import Sketch, filled, settings_of
from pipelines.runtime.precision import Precision
from pipelines.runtime.reading import tensors
from pipelines.spec.errors import Cancelled, EngineError, ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlan:
    """`size_bytes` are those of its weights on disk; `place` is what messages name.

    A network has a `sketch`; what has no weights is what `make` answers, and `words` the digest of all it is made of.
    `shared`: it may be another model's part of the same content.
    """

    key: PartKey
    part: str
    place: Path
    precision: Precision
    device: torch.device
    size_bytes: int = 0
    sketch: Callable[[], Sketch] | None = None
    make: Callable[[], Any] | None = None
    words: Callable[[], str] | None = None
    shared: bool = False

    def expect(self, store: ComponentStore, meter: Meter) -> None:
        """Tells the meter what will have to be read."""
        if self.size_bytes and self.known(store) not in store:
            meter.expect(self.key, self.size_bytes)

    def load(
        self, store: ComponentStore, meter: Meter, lands: torch.device | None = None
    ) -> tuple[PartKey, Any]:
        """The part, and the key that it is known by in the store. It lies on the device, unless it `lands` elsewhere.

        Raises ModelError with the path for what is gone, damaged or not supported; Cancelled between tensors.
        """
        meter.check()
        key = self.known(store)
        if key in store:
            return key, store.part(key)
        load = self._network if self.sketch else self._made
        return guarded(self.place, lambda: load(key, store, meter, lands or self.device))

    def known(self, store: ComponentStore) -> PartKey:
        """The key by which the store knows it, its own or another model's."""
        return store.known_as(self.key) if self.shared else self.key

    def _made(
        self, key: PartKey, store: ComponentStore, _meter: Meter, _lands: torch.device
    ) -> tuple[PartKey, Any]:
        assert self.make is not None
        kind = self.words() if self.shared and self.words else ""
        for other in store.alike(self.key, kind):
            return store.same(self.key, other)
        return key, store.get(key, self.make, kind)

    def _network(
        self, key: PartKey, store: ComponentStore, meter: Meter, lands: torch.device
    ) -> tuple[PartKey, Any]:
        assert self.sketch is not None
        sketch = self.sketch()
        kind = _kind(sketch) if self.shared else ""
        meter.begins(self.key, self.part, self.size_bytes)
        for other in store.alike(self.key, kind):
            if self._holds(store.bare(other), sketch, meter):
                meter.ends(self.key)
                return store.same(self.key, other)
            meter.begins(self.key, self.part, self.size_bytes)
        part = store.get(key, lambda: filled(sketch, self.precision, self.device, lands, meter), kind)
        meter.ends(self.key)
        return key, part

    def _holds(self, network: Any, sketch: Sketch, meter: Meter) -> bool:
        """Whether the network has these very weights."""
        own = network.state_dict()
        wanted = {name: sketch.names[name] for name in sketch.module.state_dict() if name in sketch.names}
        if not wanted or not wanted.keys() <= own.keys():
            return False
        read = tensors(wanted, self.precision.of, torch.device("cpu"), meter)
        return all(_same_bits(own[name], tensor) for name, tensor in read)


def _kind(sketch: Sketch) -> str:
    told = [type(sketch.module).__name__, settings_of(sketch.module)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """In the precision of `one`: norms and tables are widened once they are loaded. NaN is equal to itself here."""
    if gguf_weights.is_packed(one) or gguf_weights.is_packed(other) or one.shape != other.shape:
        return False
    ours, theirs = (each.to(one.device, one.dtype).contiguous().view(-1) for each in (one, other))
    return torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))


def guarded(place: Path, load: Callable[[], Any]) -> Any:
    """Libraries answer bad files with any kind of error; all but the device's own are the file's fault."""
    try:
        return load()
    except (Cancelled, EngineError):
        raise
    except Exception as error:
        if devices.is_out_of_memory(error) or devices.is_lost(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"A part of the model cannot be read: {place} ({reason})",
            "It may be damaged or incomplete; get the model again.",
        ) from error
