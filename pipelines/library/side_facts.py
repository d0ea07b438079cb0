"""What the makers of a single file tell of it: in the file `NAME.emulsion.json` beside it, and in its metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.library.own_facts import checked_facts, own_facts
from pipelines.spec.record import ModelRecord

SIDE_FACTS = ".emulsion.json"  # behind the file's stem
_DRAWN = ("description", "native_size", "sampling", "latent_rgb", "latent_rgb_bias")
_FACTS = ("title", "family", "description")
# What the metadata call the base, by trust.
FAMILY = "emulsion.family"
FACTS = "emulsion.facts"  # what emulsion.json said of the folder that the file was made of
_WORDS = (FAMILY, "modelspec.architecture", "ss_base_model_version")


def side_facts(path: Path) -> dict[str, Any]:
    """What `NAME.emulsion.json` says of the file `NAME.safetensors`."""
    facts = own_facts(path.with_name(f"{path.stem}{SIDE_FACTS}"))
    return {name: value for name, value in facts.items() if name in _FACTS}


def described(record: ModelRecord, metadata: Mapping[str, str], own: dict[str, Any]) -> ModelRecord:
    """With a title, a description and the words that call it: the maker's own facts before the metadata's."""
    told = {
        "title": metadata.get("modelspec.title", ""),
        "description": metadata.get("modelspec.description", ""),
    }
    text = {name: own.get(name) or value.strip()[:2000] for name, value in told.items()}
    words = metadata.get("modelspec.trigger_phrase", "").strip()[:200]
    return dataclasses.replace(
        record,
        title=text["title"] or record.title,
        description=text["description"],
        trigger_words=(words,) if words else (),
    )


def brought_facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Of a checkpoint that `convert` wrote: its sizes, samplers and preview colours; none of any other file."""
    try:
        facts = json.loads(metadata.get(FACTS, "{}"))
    except (ValueError, RecursionError):
        return {}
    own = checked_facts(facts, path) if isinstance(facts, dict) else {}
    return {name: value for name, value in own.items() if name in _DRAWN}


def told_family(metadata: Mapping[str, str], own: str) -> str:
    """The family that the maker names: in his own facts, else in the metadata of the trainer."""
    words = (metadata.get(name, "").strip() for name in _WORDS)
    return own or next((word[:100] for word in words if word), "")
