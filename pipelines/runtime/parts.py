"""`Parts`: the parts of a model by name, each loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


class Parts(Mapping[str, Any]):
    """`loads` tell how to get each. One that was got stays until `let_go`, whatever the store does meanwhile."""

    def __init__(self, loads: Mapping[str, Callable[[], Any]], got: Mapping[str, Any] | None = None) -> None:
        self._loads = loads
        self._got = dict(got or {})

    def __getitem__(self, name: str) -> Any:
        if name not in self._got:
            self._got[name] = self._loads[name]()
        return self._got[name]

    def __contains__(self, name: object) -> bool:
        return name in self._loads  # Mapping's own way would load it

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)

    @property
    def got(self) -> tuple[str, ...]:
        """Those that are there."""
        return tuple(self._got)

    def ready(self, names: Iterable[str]) -> None:
        """Loads those of these that the model has."""
        for name in names:
            if name in self._loads:
                self[name]

    def let_go(self, names: Iterable[str]) -> None:
        """They are loaded anew when they are asked for again."""
        for name in names:
            self._got.pop(name, None)

    def replaced(self, name: str, part: Any) -> Parts:
        """With another part in one place; the rest is shared, and not loaded for this."""
        return _Replaced(self, name, part)


class _Replaced(Parts):
    def __init__(self, parts: Parts, name: str, part: Any) -> None:
        super().__init__({each: lambda each=each: parts[each] for each in parts}, {name: part})
        self._parts = parts
        self._name = name

    def __getitem__(self, name: str) -> Any:
        return self._got[name] if name == self._name else self._parts[name]

    def let_go(self, names: Iterable[str]) -> None:
        self._parts.let_go(name for name in names if name != self._name)
