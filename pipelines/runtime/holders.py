"""Who holds memory: the loaded parts of models by names that a person knows, and the prompts that are remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipelines.runtime.components import PartKey
from pipelines.runtime.placement_words import part_name
from pipelines.spec.memory import Holder

PROMPTS = "Prompts read so far"


def holders(
    parts: Iterable[tuple[PartKey, int, int]], titles: Mapping[PartKey, str], prompts: int
) -> tuple[Holder, ...]:
    """The largest first. `parts` with their bytes in RAM and on their card: one that streams lies in both.

    `titles` are those of the models that the parts were loaded for, `prompts` bytes in RAM.
    """
    found = [holder for key, ram, card in parts for holder in _of_part(key, _name(key, titles), ram, card)]
    found += [Holder(name=PROMPTS, size_bytes=prompts)] if prompts else []
    return tuple(sorted(found, key=lambda holder: -holder.size_bytes))


def _of_part(key: PartKey, name: str, ram: int, card: int) -> Iterator[Holder]:
    """What has no tensors, such as a tokenizer, takes next to nothing."""
    for on_card, size in ((True, card), (False, ram)):
        if size:
            beside = on_card and key.beside
            yield Holder(name=name, size_bytes=size, on_card=on_card and not beside, beside=beside)


def _name(key: PartKey, titles: Mapping[PartKey, str]) -> str:
    place = Path(key.folder)
    title = titles.get(key)
    return f"{title}: {part_name(place.name)}" if title else place.name
