"""What is wrong with the switches of a request: what fails or silently draws another picture cannot be chosen."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.spec.errors import shortened
from pipelines.spec.families.base import Family
from pipelines.spec.problem import Problem
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from pipelines.spec.speed import (
    CACHE_NAMES,
    EXCLUDED,
    SWITCHES,
    StepCache,
    Switch,
    cache_of,
    hindrances,
    offered,
    wanted,
)

_OFF = "Switch one of them off."


def speed_problems(
    request: GenerationRequest, record: ModelRecord | None, family: Family
) -> Iterator[Problem]:
    """`record` is the model's. What depends on where the parts lie is left out when the job runs, with a note."""
    yield from _cache(request)
    there, able = hindrances(request, record), offered(family)
    for row in SWITCHES:
        if not wanted(request, row):
            continue
        if row not in able:
            text = f"{row.title} does nothing for {family.name}."
            yield Problem(f"speed.{row.id}", text, "Switch it off.")
            continue
        yield from _excluded(row, there)


def _excluded(row: Switch, there: frozenset[str]) -> Iterator[Problem]:
    for name in row.excludes:
        if name in there:
            yield Problem(f"speed.{row.id}", f"{row.title} does not work with {EXCLUDED[name]}.", _OFF)


def _cache(request: GenerationRequest) -> Iterator[Problem]:
    name, limit = request.speed.step_cache, request.speed.cache_limit
    row = cache_of(name)
    if name and row is None:
        known = f"Known: {', '.join(CACHE_NAMES)}, or empty for none."
        yield Problem("speed.step_cache", f"There is no step cache '{shortened(name)}'.", known)
    elif limit is not None and row is None:
        text = "There is a limit for a step cache, but no step cache."
        yield Problem("speed.cache_limit", text, "Choose a step cache, or leave its limit away.")
    elif limit is not None and row is not None and not _fits(row, limit):
        kind = "a whole number from " if row.whole else ""
        text = f"The limit of {row.title} must be {kind}{row.least:g} to {row.most:g}, not {limit:g}."
        yield Problem("speed.cache_limit", text)


def _fits(row: StepCache, limit: float) -> bool:
    return row.least <= limit <= row.most and not (row.whole and limit % 1)
