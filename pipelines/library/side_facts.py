"""What is told of a single file: by `NAME.emulsion.json` and other programs' notes beside it, and by its metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.beside import OWN, PREVIEWS, beside
from pipelines.library.notes import NONE, Notes, notes_of
from pipelines.library.own_facts import checked_facts, own_facts
from pipelines.spec.record import ModelRecord

_DRAWN = ("description", "native_size", "sampling", "latent_rgb", "latent_rgb_bias")
_FACTS = ("title", "family", "description", "trigger_words", "preferred_weight")
# What the metadata call the base, by trust.
FAMILY = "emulsion.family"
FACTS = "emulsion.facts"  # what emulsion.json said of the folder that the file was made of
_WORDS = ("modelspec.architecture", "ss_base_model_version")


@dataclass(frozen=True, slots=True)
class Told:
    """`own` is what `NAME.emulsion.json` says, `notes` what other programs noted, `preview` the path of a picture."""

    own: Mapping[str, Any]
    notes: Notes = NONE
    preview: str = ""

    def family(self, metadata: Mapping[str, str]) -> str:
        """As its maker calls it: our own facts, other programs' notes, the metadata of the trainer. The tensors decide;
        this is asked where they leave it open."""
        words = (metadata.get(name, "").strip()[:100] for name in _WORDS)
        told = (self.own.get("family", ""), metadata.get(FAMILY, "").strip()[:100], self.notes.base, *words)
        return next((word for word in told if word), "")


def told_beside(path: Path, ends: Sequence[str]) -> Told:
    """`ends` are those of the files that are there; no other is looked for."""
    if not ends:
        return Told({})
    facts = own_facts(beside(path, OWN)) if OWN in ends else {}
    preview = next((str(beside(path, end).absolute()) for end in PREVIEWS if end in ends), "")
    own = {name: value for name, value in facts.items() if name in _FACTS}
    return Told(own, notes_of(path, ends), preview)


def described(record: ModelRecord, metadata: Mapping[str, str], told: Told) -> ModelRecord:
    """With a title, a description, the words that call it and a picture: our own facts first, the metadata last."""
    own, notes = told.own, told.notes
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()[:200]
    text = {
        name: own.get(name) or getattr(notes, name) or metadata.get(f"modelspec.{name}", "").strip()[:2000]
        for name in ("title", "description")
    }
    return dataclasses.replace(
        record,
        title=text["title"] or record.title,
        description=text["description"],
        trigger_words=own.get("trigger_words") or notes.words or ((phrase,) if phrase else ()),
        preferred_weight=own.get("preferred_weight") or notes.weight,
        preview=told.preview,
    )


def brought_facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Of a checkpoint that `convert` wrote: its sizes, samplers and preview colours; none of any other file."""
    try:
        facts = json.loads(metadata.get(FACTS, "{}"))
    except (ValueError, RecursionError):
        return {}
    own = checked_facts(facts, path) if isinstance(facts, dict) else {}
    return {name: value for name, value in own.items() if name in _DRAWN}
