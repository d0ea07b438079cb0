"""`Entry`: a model as a list shows it, with its words made once; `ModelFilter`: which of them are shown.

All of it is plain data, so that thousands are prepared on the I/O lane.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

from pipelines.spec.record import Kind, ModelRecord, State
from widgets.model_texts import KINDS, STATES, family_name, precision, size_text


@dataclass(frozen=True, slots=True)
class Entry:
    """`search` holds in lower case whatever a search may find it by; `folder` is the one that it lies in."""

    record: ModelRecord
    name: str
    kind: str
    family: str
    precision: str
    size: str
    state: str
    folder: str
    search: str


def entries_of(records: Iterable[ModelRecord]) -> tuple[Entry, ...]:
    """In the order of the records."""
    return tuple(_entry(record) for record in records)


def _entry(record: ModelRecord) -> Entry:
    folder, file = os.path.split(record.path)
    name = printable(record.title or record.id)
    family, kind = family_name(record), KINDS[record.kind]
    stored = precision(record)
    told = (name, record.id, file, folder, kind, family, record.variant, stored, *record.trigger_words)
    return Entry(
        record=record,
        name=name,
        kind=kind,
        family=family,
        precision=stored,
        size=size_text(record.size_bytes),
        state=STATES[record.state],
        folder=printable(os.path.basename(folder) or folder),
        search="\n".join(told).lower(),
    )


def printable(text: str) -> str:
    """One line without half surrogates: a path may hold bytes that are no text."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFilter:
    """What is empty lets all through; the words of `text` must all be found."""

    text: str = ""
    kind: Kind | None = None
    family: str = ""
    state: State | None = None
    favourites: bool = False


@dataclass(slots=True)
class Shown:
    """`rows` are places in the entries. Of each choice the counts say what it would show, beside the other choices."""

    rows: list[int] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    families: Counter[str] = field(default_factory=Counter)
    states: Counter[State] = field(default_factory=Counter)


class Listed:
    """Entries, and what filters and sorting ask of them in lists: a loop over 10,000 objects takes 40 ms, over lists 5.

    Made on the I/O lane with the entries. Kinds and states are their places in `_KINDS` and `_STATES`, as an enum's
    member takes long to hash. `keys` sort, by the name of a column's field; `by_name` are places in the entries.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.entries = entries
        self.paths = [entry.record.path for entry in entries]
        self.places = {path: at for at, path in enumerate(self.paths)}
        self.searches = [entry.search for entry in entries]
        self.kinds = [_AT_KIND[entry.record.kind] for entry in entries]
        self.families = [entry.family for entry in entries]
        self.states = [_AT_STATE[entry.record.state] for entry in entries]
        self.keys: dict[str, list[str] | list[int]] = {
            "name": [entry.name.casefold() for entry in entries],
            "kind": [entry.kind for entry in entries],
            "family": self.families,
            "precision": [entry.precision for entry in entries],
            "size": [entry.record.size_bytes for entry in entries],
            "state": [entry.state for entry in entries],
            "folder": [path.casefold() for path in self.paths],
        }
        self.by_name = sorted(range(len(entries)), key=self.keys["name"].__getitem__)


_KINDS, _STATES = tuple(Kind), tuple(State)
_AT_KIND = {kind: at for at, kind in enumerate(_KINDS)}
_AT_STATE = {state: at for at, state in enumerate(_STATES)}


def filtered(listed: Listed, order: Iterable[int], wanted: ModelFilter, favourites: Set[str]) -> Shown:
    """The entries that `wanted` lets through, in `order`; `favourites` are paths."""
    rows = list(order)
    for word in wanted.text.lower().split():
        searches = listed.searches
        rows = [at for at in rows if word in searches[at]]
    if wanted.favourites:
        rows = [at for at in rows if listed.paths[at] in favourites]
    kind = None if wanted.kind is None else _KINDS.index(wanted.kind)
    state = None if wanted.state is None else _STATES.index(wanted.state)
    of_kind = _only(rows, listed.kinds, kind)
    of_both = _only(of_kind, listed.families, wanted.family or None)
    kinds = _only(_only(rows, listed.families, wanted.family or None), listed.states, state)
    families, states = _only(of_kind, listed.states, state), of_both
    return Shown(
        rows=_only(of_both, listed.states, state),
        kinds=Counter({_KINDS[at]: n for at, n in Counter(map(listed.kinds.__getitem__, kinds)).items()}),
        families=Counter(map(listed.families.__getitem__, families)),
        states=Counter({_STATES[at]: n for at, n in Counter(map(listed.states.__getitem__, states)).items()}),
    )


def _only(rows: list[int], values: Sequence[object], wanted: object) -> list[int]:
    return rows if wanted is None else [at for at in rows if values[at] == wanted]
