"""`ComponentStore`: the loaded parts of models, the least recently used ones leaving first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.runtime.device import bytes_of
from pipelines.spec.errors import ModelError

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class PartKey:
    """One part as it lies in memory; `stamp` changes with its files, so that a replaced one is read anew.

    `apart`: it is a refiner's, and no other model's whatever it holds. `beside`: `device` is that of the text encoders
    alone.
    """

    folder: str
    stamp: Stamp
    dtype: str
    device: str
    apart: bool = False
    beside: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(size for _name, size, _mtime in self.stamp)


def stamp_of(folder: Path) -> Stamp:
    """(name, bytes, mtime_ns) of each file of a part. Raises ModelError if the folder is not there."""
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as error:
        raise ModelError(
            f"A part of the model is missing: {folder}", "Was the model moved or deleted?"
        ) from error
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


class ComponentStore:
    """`free_bytes` tells the free memory where parts lie. `loads` counts what was really loaded.

    `left` hears of each part that is let go; one that `is_held` does not leave to make room; `bare` takes off a part
    what a job has changed of its weights. Parts of the same content
    are one part, known by the key of the model that brought it (part_plan.py compares them).
    """

    def __init__(
        self,
        free_bytes: Callable[[], int],
        release: Callable[[], None],
        left: Callable[[Any], None] = lambda part: None,
        is_held: Callable[[PartKey], bool] = lambda key: False,
        bare: Callable[[Any], None] = lambda part: None,
    ) -> None:
        self._free_bytes = free_bytes
        self._release = release
        self._left = left
        self._is_held = is_held
        self._bare = bare
        self._parts: OrderedDict[PartKey, Any] = OrderedDict()
        self._kinds: dict[PartKey, str] = {}  # of the parts that others may share
        self._sizes: dict[PartKey, int] = {}  # a network has thousands of tensors to count
        self._known: dict[PartKey, PartKey] = {}  # also of parts that have left: it is a fact about the files
        self.loads = 0

    def __contains__(self, key: PartKey) -> bool:
        return key in self._parts

    def get(self, key: PartKey, load: Callable[[], Any], kind: str = "") -> Any:
        """The part, from memory or by `load`; whatever `load` raises leaves nothing of it behind.

        `kind` says what else it could be the same as; empty for what is nobody else's.
        """
        if key in self._parts:
            return self.part(key)
        self._drop_outdated(key)
        self._make_room(key.size_bytes)
        part = load()
        self.loads += 1
        self._parts[key] = part
        self._kinds[key] = kind
        self._sizes[key] = bytes_of(part)
        return part

    def part(self, key: PartKey) -> Any:
        """One that is there."""
        self._parts.move_to_end(key)
        return self._parts[key]

    def bare(self, key: PartKey) -> Any:
        """One that is there, with the weights of its files."""
        part = self.part(key)
        self._bare(part)
        return part

    def known_as(self, key: PartKey) -> PartKey:
        """The key of the part with the same content that came first."""
        return self._known.get(key, key)

    def alike(self, key: PartKey, kind: str) -> tuple[PartKey, ...]:
        """Parts in memory that may be the same as the one that `key` stands for."""
        self._drop_outdated(key)
        place = (key.dtype, key.device, key.beside)
        alike = (k for k in self._parts if kind and self._kinds[k] == kind)
        return tuple(k for k in alike if (k.dtype, k.device, k.beside) == place)

    def same(self, key: PartKey, other: PartKey) -> tuple[PartKey, Any]:
        """From now on `key` stands for the part of `other`, which is answered with the key that it is known by."""
        self._known[key] = other
        return other, self.part(other)

    def keys(self) -> tuple[PartKey, ...]:
        """Least recently used first."""
        return tuple(self._parts)

    def parts(self) -> tuple[tuple[PartKey, Any], ...]:
        """Least recently used first."""
        return tuple(self._parts.items())

    def size_of(self, key: PartKey) -> int:
        """Bytes of the weights of a part that is there."""
        return self._sizes[key]

    def drop(self, keys: Iterable[PartKey]) -> None:
        """Lets go of these; whoever holds one keeps it alive."""
        for key in keys:
            if key in self._parts:
                del self._kinds[key], self._sizes[key]
                self._left(self._parts.pop(key))
        self._release()

    def clear(self) -> None:
        self.drop(self.keys())

    def _drop_outdated(self, key: PartKey) -> None:
        old = [k for k in self._parts if k.folder == key.folder and k.stamp != key.stamp]
        if old:
            self.drop(old)

    def _make_room(self, wanted: int) -> None:
        """Twice the file: fp16 weights become float32 on the CPU, and a picture needs room as well."""
        while self._free_bytes() < 2 * wanted:
            oldest = next((key for key in self._parts if not self._is_held(key)), None)
            if oldest is None:
                return
            self.drop([oldest])
