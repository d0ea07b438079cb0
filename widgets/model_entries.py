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


def filtered(
    entries: Sequence[Entry], order: Iterable[int], wanted: ModelFilter, favourites: Set[str]
) -> Shown:
    """The entries that `wanted` lets through, in `order`; `favourites` are paths."""
    words = wanted.text.lower().split()
    kinds: list[Kind] = []
    names: list[str] = []
    states: list[State] = []
    shown = Shown()
    for at in order:
        entry = entries[at]
        if words and not all(word in entry.search for word in words):
            continue
        record = entry.record
        if wanted.favourites and record.path not in favourites:
            continue
        kind = wanted.kind is None or record.kind is wanted.kind
        family = not wanted.family or entry.family == wanted.family
        state = wanted.state is None or record.state is wanted.state
        if kind and family:
            states.append(record.state)
        if kind and state:
            names.append(entry.family)
        if family and state:
            kinds.append(record.kind)
            if kind:
                shown.rows.append(at)
    shown.kinds, shown.families, shown.states = Counter(kinds), Counter(names), Counter(states)
    return shown
