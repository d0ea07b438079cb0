"""Copies and matrix products, timed on a device with a clock of its own; measured once for a device and its driver."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.library import rates as kept
from pipelines.runtime import rates
from pipelines.runtime.attention.trial import versions
from pipelines.runtime.card import Card
from pipelines.runtime.device import name_of
from pipelines.runtime.movers import InRam
from pipelines.spec.measured import Rates

BUS, PRODUCT_S = 2e9, 0.005


class TimedMover(InRam):
    """The bus carries `BUS` bytes a second; its first copy takes ten times as long."""

    def __init__(self) -> None:
        self.busy, self.copies = 0.0, 0

    def copy(self, into: torch.Tensor, source: torch.Tensor, after: Any) -> Any:
        super().copy(into, source, after)
        self.busy += source.nbytes / BUS * (1 if self.copies else 10)
        self.copies += 1


class TimedCard(Card):
    """Work is done once it is waited for: what only asks for it sees no time go by. Products take `PRODUCT_S`."""

    def __init__(self) -> None:
        self.now, self.timed = 0.0, TimedMover()
        super().__init__(torch.device("cpu"), self.timed, apart=True)

    def finish(self) -> None:
        self.now += self.timed.busy or PRODUCT_S
        self.timed.busy = 0.0

    def clock(self) -> float:
        return self.now


def test_both_speeds_are_those_of_work_that_is_done():
    card = TimedCard()
    found = rates.measured(card, copied=10**6, side=8, clock=card.clock)
    assert found.copied == pytest.approx(BUS)
    assert found.flops == pytest.approx(2 * 8**3 / PRODUCT_S)


@pytest.fixture
def counted(monkeypatch):
    """How often it was measured, on a processor that is taken for a card with memory."""
    calls = []
    monkeypatch.setattr(
        rates.devices, "memory_of", lambda device: SimpleNamespace(get_device_name=lambda device: "Card")
    )

    def measured(card):
        calls.append(card)
        return Rates(copied=float(len(calls)), flops=1.0)

    monkeypatch.setattr(rates, "measured", measured)
    return calls


def test_it_is_measured_once_and_anew_with_another_driver(tmp_path, counted, monkeypatch):
    file = str(tmp_path / kept.FILE)
    monkeypatch.setattr(TimedCard, "release", lambda self: None)
    assert (
        rates.known_rates(TimedCard(), file)
        == rates.known_rates(TimedCard(), file)
        == Rates(copied=1.0, flops=1.0)
    )
    monkeypatch.setattr(rates, "versions", lambda device: "driver 99")
    assert rates.known_rates(TimedCard(), file) == Rates(copied=2.0, flops=1.0)
    assert len(counted) == 2


def test_a_full_card_and_one_that_nobody_can_measure_are_not_known(tmp_path, counted, monkeypatch):
    def full(card):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TimedCard, "release", lambda self: None)
    monkeypatch.setattr(rates, "measured", full)
    assert rates.known_rates(TimedCard(), str(tmp_path / kept.FILE)) is None
    assert not [*tmp_path.iterdir()]


def test_the_processor_copies_nothing_and_a_card_without_a_clock_takes_what_was_kept(tmp_path):
    processor, card = Card(torch.device("cpu"), InRam(), apart=False), TimedCard()
    path, seen = tmp_path / kept.FILE, Rates(copied=5e9)
    kept.keep(path, name_of(card.device), versions(card.device), seen)
    assert rates.known_rates(processor, str(path)) is None
    assert rates.known_rates(card, str(path)) == seen
    assert rates.known_rates(card, "") is None
