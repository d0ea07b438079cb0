"""How quickly the device gets weights from RAM and computes: measured once, in some milliseconds, and remembered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pipelines.library.rates import keep, rates_of
from pipelines.runtime import device as devices
from pipelines.runtime.attention.trial import versions
from pipelines.runtime.card import Card
from pipelines.spec.errors import EngineError
from pipelines.spec.measured import Rates

_COPIED = 64_000_000  # bytes
_SIDE = 4096  # of the square matrices
_TIMES = 3  # the quickest counts: what else the machine does makes others slower

log = logging.getLogger(__name__)


def known_rates(card: Card, file: str) -> Rates | None:
    """Those that `file` keeps of this device with this driver, else measured and kept there; empty: not kept.

    None where weights have no way to go, and where nobody could measure: plans are made all the same.
    """
    if not card.apart:
        return None
    path, name, with_these = Path(file), devices.name_of(card.device), versions(card.device)
    kept = rates_of(path, name, with_these) if file else None
    if kept is not None or devices.memory_of(card.device) is None:
        return kept
    found = _measured(card)
    if found is not None and file:
        try:
            keep(path, name, with_these, found)
        except EngineError as error:
            log.warning("%s", error)
    return found


def _measured(card: Card) -> Rates | None:
    try:
        found = measured(card)
    except RuntimeError as error:  # mostly other programs fill the card
        if devices.is_lost(error):
            raise
        log.warning("the speed of %s could not be measured: %s", card.device, error)
        return None
    finally:
        card.release()
    log.info(
        "%s gets %.1f GB a second and makes %.1f TFLOPS", card.device, found.copied / 1e9, found.flops / 1e12
    )
    return found


def measured(
    card: Card, copied: int = _COPIED, side: int = _SIDE, clock: Callable[[], float] = time.perf_counter
) -> Rates:
    """Raises what the device raises when it is out of memory."""
    mover = card.mover
    host, room = mover.host(copied).fill_(1), mover.room(copied)
    copy_s = _seconds(lambda: mover.wait(mover.copy(room, host, mover.computed())), card.finish, clock)
    matrix = torch.randn(side, side, device=card.device).to(torch.float16)
    product_s = _seconds(lambda: matrix @ matrix, card.finish, clock)
    return Rates(copied=copied / copy_s, flops=2 * side**3 / product_s)


def _seconds(work: Callable[[], object], finish: Callable[[], None], clock: Callable[[], float]) -> float:
    """Of one that is not the first, which warms up."""
    taken = list[float]()
    for _ in range(1 + _TIMES):
        finish()
        start = clock()
        work()
        finish()
        taken.append(clock() - start)
    return max(min(taken[1:]), 1e-9)
