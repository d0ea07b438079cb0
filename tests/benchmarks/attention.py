"""Each kernel of attention against the one torch takes by itself, at the head sizes of SD 1.5, SDXL and FLUX."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from pipelines.runtime.attention.kernels import BY_ID, OWN, Run
from pipelines.runtime.attention.trial import Tensors, shape_on, tried
from pipelines.spec.attention import AUTO, Tried, choice
from tests.benchmarks.engine import DTYPES, one_thread
from tests.benchmarks.pairs import Sample, in_turns, warm_up
from tests.benchmarks.rows import Goal, Row, measured, skipped
from tests.benchmarks.terms import Terms

WIDTHS = (40, 64, 128)
TOKENS, HEADS = {"cpu": 1024, "cuda": 4096}, {"cpu": 2, "cuda": 16}
QUICK_TOKENS = 64
PAIRS = 10
BASE = "torch's own choice"


def rows(terms: Terms) -> Iterator[Row]:
    device, dtype = torch.device(terms.device), getattr(torch, DTYPES[terms.device])
    tokens = QUICK_TOKENS if terms.quick else TOKENS[terms.device]
    with one_thread(), torch.no_grad():
        for width in WIDTHS:
            found = tried(device, dtype, shape_on(device, dtype, width, tokens))
            given = _given(terms.device, dtype, tokens, width)
            yield _auto_row(width, found, given, terms)
            for each in found:
                if each.id and each.why:
                    yield skipped(f"attention.{width}_{each.id}", each.why)
                elif each.id:
                    yield _row(f"{width}_{each.id}", BY_ID[each.id].run, given, terms)


def _given(device: str, dtype: torch.dtype, tokens: int, width: int) -> Tensors:
    numbers = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, HEADS[device], tokens, width, generator=numbers)
    return query.to(device, dtype), key.to(device, dtype), value.to(device, dtype)


def _auto_row(width: int, found: tuple[Tried, ...], given: Tensors, terms: Terms) -> Row:
    """What the program takes is never to be slower than what torch would have taken."""
    taken, name = choice(AUTO, found), f"{width}_auto"
    if not taken.id:
        return skipped(f"attention.{name}", f"it takes {BASE}: nothing to compare")
    return _row(name, BY_ID[taken.id].run, given, terms, Goal(sign="<=", bound=1.02), f"it takes {taken.id}")


def _own(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    return OWN(query, key, value, scale=scale)


def _row(name: str, run: Run, given: Tensors, terms: Terms, goal: Goal | None = None, note: str = "") -> Row:
    ours, own = _timed(run, given, terms), _timed(_own, given, terms)
    warm_up(lambda: ours()["wall"], most=1 if terms.quick else 8)
    warm_up(lambda: own()["wall"], most=1 if terms.quick else 8)
    pairs = in_turns(ours, own, terms.times(PAIRS), terms.order)
    value, baseline = pairs.middles("wall")
    return measured(
        f"attention.{name}", value * 1e3, "ms", pairs.ratio("wall"), baseline_name=BASE, baseline=baseline * 1e3,
        n=len(pairs), goal=goal, note=f"{given[0].shape[2]} tokens, {given[0].shape[1]} heads; {note}".rstrip("; "),
    )  # fmt: skip


def _timed(run: Run, given: Tensors, terms: Terms) -> Callable[[], Sample]:
    """Of so many calls that the clock's own grain does not count."""
    calls = 1 if terms.quick else 5

    def sample() -> Sample:
        start = time.perf_counter()
        for _ in range(calls):
            run(*given, None)
        if terms.device == "cuda":
            torch.cuda.synchronize()
        return {"wall": (time.perf_counter() - start) / calls}

    return sample
