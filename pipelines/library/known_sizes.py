"""`KnownSizes`: the sizes of models, each file's header read once for as long as the file is the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from pipelines.library.weights import sizes_of
from pipelines.spec.errors import ModelError
from pipelines.spec.record import ModelRecord
from pipelines.spec.sizes import Sizes

KEPT = 32


class KnownSizes:
    """Called like `sizes_of`, from one thread. `reads` counts how often headers were really read."""

    def __init__(self) -> None:
        self._known: OrderedDict[object, Sizes] = OrderedDict()
        self.reads = 0

    def __call__(
        self,
        records: Iterable[ModelRecord],
        added: Iterable[ModelRecord] = (),
        itemsize: int = 2,
        upcast: bool = False,
        weights: str = "",
    ) -> Sizes:
        """Raises ModelError as `sizes_of` does."""
        records, added = tuple(records), tuple(added)
        stamps = tuple(_stamp(record) for record in (*records, *added))
        key = (stamps, len(records), itemsize, upcast, weights)
        if key not in self._known:
            self.reads += 1
            self._known[key] = sizes_of(records, added, itemsize, upcast, weights)
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return self._known[key]


def _stamp(record: ModelRecord) -> object:
    """Changes with the files that the record's model is read from."""
    path = Path(record.path)
    places = [path, *(Path(lent) for _part, lent in record.borrowed)]
    try:
        if path.is_dir():
            places += [*path.glob("*/*.safetensors"), *path.glob("*.safetensors")]
        seen = tuple(
            (str(each), (found := each.stat()).st_mtime_ns, found.st_size) for each in sorted(places)
        )
    except OSError as error:
        raise ModelError(f"This file cannot be read: {path}", "Was it moved or deleted?") from error
    return (record.id, record.family, record.format, seen)
