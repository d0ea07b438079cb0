"""What the makers of a single file tell of it: in the file `NAME.emulsion.json` beside it, and in its metadata."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pipelines.library.header import Header
from pipelines.library.own_facts import own_facts
from pipelines.spec.record import ModelRecord

SIDE_FACTS = ".emulsion.json"  # behind the file's stem
_FACTS = ("title", "family", "description")
# What the metadata call the base, by trust.
_WORDS = ("emulsion.family", "modelspec.architecture", "ss_base_model_version")


def side_facts(path: Path) -> dict[str, Any]:
    """What `NAME.emulsion.json` says of the file `NAME.safetensors`."""
    facts = own_facts(path.with_name(f"{path.stem}{SIDE_FACTS}"))
    return {name: value for name, value in facts.items() if name in _FACTS}


def described(record: ModelRecord, header: Header, own: dict[str, Any]) -> ModelRecord:
    """With a title, a description and the words that call it: the maker's own facts before the metadata's."""
    told = {
        "title": header.metadata.get("modelspec.title", ""),
        "description": header.metadata.get("modelspec.description", ""),
    }
    text = {name: own.get(name) or value.strip()[:2000] for name, value in told.items()}
    words = header.metadata.get("modelspec.trigger_phrase", "").strip()[:200]
    return dataclasses.replace(
        record,
        title=text["title"] or record.title,
        description=text["description"],
        trigger_words=(words,) if words else (),
    )


def told_family(header: Header, own: str) -> str:
    """The family that the maker names: in his own facts, else in the metadata of the trainer."""
    words = (header.metadata.get(name, "").strip() for name in _WORDS)
    return own or next((word[:100] for word in words if word), "")
