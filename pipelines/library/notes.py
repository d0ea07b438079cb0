"""What other programs keep beside a model file: title, description, trigger words, weight and base.

Civitai Helper and its kin (`x.civitai.info`), Stability Matrix (`x.cm-info.json`), Lora-Manager (`x.metadata.json`),
A1111 (`x.json`), SwarmUI (`x.swarm.json`), and plain text. All of it is foreign text: a field of a wrong type is left
out and the others hold; hashes that stand there are nobody's word, and paths and addresses are not followed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from pipelines.library.beside import NOTES, TEXTS, beside, read_small
from pipelines.library.plain_text import line, without_html

MAX_BYTES = 2_000_000  # a Civitai version lists its pictures with all their settings
MAX_TEXT = 2000
MAX_WORDS = 30
MAX_WEIGHT = 10.0
_LOG = logging.getLogger(__name__)

# The bases as Civitai calls them, by how they begin, in the words of the families; the others begin as families do.
_BASES = {
    "pony": "sdxl",
    "illustrious": "sdxl",
    "noobai": "sdxl",
    "animagine": "sdxl",
    "playground v2": "",
    "sdxl distilled": "sdxl",
    "other": "",
    "unknown": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Empty or 0 where nobody tells. `weight` is the strength that the maker or the user prefers, `base` the family as
    they call it."""

    title: str = ""
    description: str = ""
    words: tuple[str, ...] = ()
    weight: float = 0.0
    base: str = ""


NONE = Notes()


def notes_of(path: Path, ends: Iterable[str]) -> Notes:
    """Of the weight file `path`, out of those of `ends` that are notes; the first in order of trust has the word."""
    there = set(ends)
    told = [_read(path, end) for end in NOTES if end in there]
    # A text file may be about anything: it describes only what nothing else does; one that says it does comes first.
    texts = {end: Notes(description=_text(beside(path, end))) for end in TEXTS if end in there}
    every = [texts.get(TEXTS[0], NONE), *told, texts.get(TEXTS[1], NONE)]
    return Notes(**{f.name: _first(every, f.name) for f in fields(Notes)}) if there else NONE


def _first(every: list[Notes], name: str) -> Any:
    return next((value for notes in every if (value := getattr(notes, name))), getattr(NONE, name))


def _read(path: Path, end: str) -> Notes:
    facts = _object(beside(path, end))
    return _READERS[end](facts) if facts else NONE


def _object(path: Path) -> dict[str, Any]:
    """Empty for what is no JSON object, too big, or cannot be read."""
    try:
        data = read_small(path, MAX_BYTES + 1)
        value = orjson.loads(data.removeprefix(b"\xef\xbb\xbf")) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        _LOG.info("%s is left out: %s", path, error)
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    try:
        return without_html(read_small(path, 4 * MAX_TEXT).decode("utf-8-sig", "replace"), MAX_TEXT)
    except OSError:
        return ""


def _civitai(facts: Mapping[str, Any]) -> Notes:
    """A version of a model; `name` is the version's ('v1.0')."""
    model = _dict(facts.get("model"))
    return Notes(
        title=_title(model.get("name"), facts.get("name")),
        description=_markup(model.get("description")) or _markup(facts.get("description")),
        words=_words(facts.get("trainedWords")),
        base=_base(facts.get("baseModel")),
    )


def _stability_matrix(facts: Mapping[str, Any]) -> Notes:
    return Notes(
        title=_line(facts.get("UserTitle")) or _title(facts.get("ModelName"), facts.get("VersionName")),
        description=_markup(facts.get("ModelDescription")) or _markup(facts.get("VersionDescription")),
        words=_words(facts.get("TrainedWords")),
        base=_base(facts.get("BaseModel")),
    )


def _lora_manager(facts: Mapping[str, Any]) -> Notes:
    """`civitai` in it is a version as above; `usage_tips` is JSON within a string."""
    civitai, tips = _civitai(_dict(facts.get("civitai"))), _dict(_loads(facts.get("usage_tips")))
    described = _markup(facts.get("notes")) or _markup(facts.get("modelDescription")) or civitai.description
    return Notes(
        title=_line(facts.get("model_name")) or civitai.title,
        description=described,
        words=civitai.words,
        weight=_weight(tips.get("strength")),
        base=_base(facts.get("base_model")) or civitai.base,
    )


def _a1111(facts: Mapping[str, Any]) -> Notes:
    parts = (_markup(facts.get("description")), _markup(facts.get("notes")))
    return Notes(
        description="\n\n".join(dict.fromkeys(part for part in parts if part))[:MAX_TEXT],
        words=_words([facts.get("activation text")]),
        weight=_weight(facts.get("preferred weight")),
        base=_base(facts.get("sd version")),
    )


def _swarm(facts: Mapping[str, Any]) -> Notes:
    """The words of ModelSpec, with and without their prefix."""

    def value(name: str) -> Any:
        return facts.get(f"modelspec.{name}", facts.get(name))

    return Notes(
        title=_line(value("title")),
        description=_markup(value("description")),
        words=_words([value("trigger_phrase")]),
        base=_base(value("architecture")),
    )


_READERS: dict[str, Callable[[Mapping[str, Any]], Notes]] = dict(
    zip(NOTES, (_civitai, _stability_matrix, _lora_manager, _a1111, _swarm), strict=True)
)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _loads(value: Any) -> Any:
    try:
        return orjson.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _line(value: Any, most: int = 200) -> str:
    return line(value, most) if isinstance(value, str) else ""


def _markup(value: Any) -> str:
    return without_html(value, MAX_TEXT) if isinstance(value, str) else ""


def _title(model: Any, version: Any) -> str:
    """Two versions of one model lie side by side, so the version is a part of the name."""
    name, number = _line(model), _line(version, 60)
    return name if not name or not number or number in name else f"{name} {number}"


def _words(value: Any) -> tuple[str, ...]:
    found = [_line(word) for word in value[:MAX_WORDS]] if isinstance(value, list) else []
    return tuple(dict.fromkeys(word for word in found if word))


def _weight(value: Any) -> float:
    """A1111 writes 0 for none; others write the number as text."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) and abs(number) <= MAX_WEIGHT else 0.0


def _base(value: Any) -> str:
    word = _line(value, 60).lower()
    return next((base for start, base in _BASES.items() if word.startswith(start)), word)
