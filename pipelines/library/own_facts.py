"""`emulsion.json` beside a model: what its maker says of it and no config can."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.library.beside import read_small
from pipelines.library.names import slug
from pipelines.library.plain_text import line
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Sampling
from pipelines.spec.validate import problems

MAX_JSON_BYTES = 1_000_000
_LOG = logging.getLogger(__name__)


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelError when the file is missing, too big, or not a JSON object."""
    try:
        data = read_small(path, MAX_JSON_BYTES + 1)
        value = json.loads(data) if len(data) <= MAX_JSON_BYTES else None
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} is damaged.", "Download the model again.")
    return value


def own_facts(path: Path) -> dict[str, Any]:
    """The fields of this file, none when it is not there; one that is wrong is left out, the others hold."""
    try:
        facts = read_json(path)
    except ModelError:
        return {}
    return checked_facts(facts, path)


def checked_facts(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Those that are right; `path` is where they stand."""
    fields: dict[str, Any] = {}
    for name, read in _FACTS.items():
        if name in facts:
            try:
                fields[name] = read(facts[name])
            except (EngineError, ValueError, TypeError, OverflowError) as error:
                _LOG.warning("%s: %s is left out: %s", path, name, error)
    return fields


def without_misfits(record: ModelRecord, family: Family, channels: int) -> ModelRecord:
    """Of its own facts those that this family and its VAE can use: the others would fail every picture.

    `channels` are those of the latents.
    """
    rule, side = family.sizes, record.native_size
    if side and (side % rule.step or not rule.minimum <= side <= rule.maximum):
        _LOG.warning("%s: emulsion.json: native_size is left out: %s does not fit", record.id, side)
        record = dataclasses.replace(record, native_size=0)
    if record.latent_rgb and len(record.latent_rgb) != channels:
        _LOG.warning("%s: emulsion.json: latent_rgb is left out: it needs a row a channel", record.id)
        record = dataclasses.replace(record, latent_rgb=())
    return record


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    return value.encode("utf-8", "replace").decode()[:2000]


def _side(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 8 <= value <= 16384:
        raise ValueError("must be a number of pixels")
    return value


def _sampling(value: Any) -> Sampling:
    request = GenerationRequest.from_dict({"model": "", "sampling": value})
    for problem in problems(request, None, None):
        if problem.field.startswith("sampling."):
            raise ValueError(problem.message)
    return request.sampling


def _colour(value: Any) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in value)
    if not all(abs(v) < 1000 for v in (red, green, blue)):  # also true for NaN
        raise ValueError("must be three plain numbers")
    return red, green, blue


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError("must be a list of texts")
    return tuple(word for each in value[:30] if (word := line(each, 200)))


def _weight(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not abs(number) <= 10:  # also true for NaN
        raise ValueError("must be a number from -10 to 10")
    return number


_FACTS = {
    "id": lambda value: slug(_text(value)),
    "title": _text,
    "family": _text,
    "description": _text,
    "trigger_words": _words,
    "preferred_weight": _weight,
    "native_size": _side,
    "sampling": _sampling,
    "latent_rgb": lambda value: tuple(_colour(row) for row in value),
    "latent_rgb_bias": _colour,
}
