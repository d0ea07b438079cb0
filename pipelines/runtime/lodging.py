"""`Lodging`: which parts of models are on the card now; brings them there and sends them home, as a placement says."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from torch import nn

from pipelines.runtime.movers import Mover
from pipelines.runtime.placement import Place
from pipelines.runtime.residency import SLOTS, streaming
from pipelines.runtime.streaming import Home, Visit

_OVER = 1.02  # of the bytes that were planned: parameters begin at multiples of 16


@dataclass(slots=True)
class _Guest:
    """A part with a home in RAM. While it is on the card, `leave` ends that `visit` and `place` says in which way."""

    home: Home
    place: Place | None = None
    visit: Visit | None = None
    leave: ExitStack | None = None

    @property
    def on_card(self) -> int:
        return self.place.on_device if self.place else 0


class Lodging:
    """Weights are read only, so that a part that leaves the card is not copied back: its home has them. One thread."""

    def __init__(self, mover: Mover) -> None:
        self._mover = mover
        self._guests: dict[int, _Guest] = {}

    def house(self, part: nn.Module) -> None:
        """Gives the part a home in RAM, before anything is added to it; on the card it is then when it is brought."""
        if id(part) not in self._guests:
            self._guests[id(part)] = _Guest(Home(part, self._mover))

    def has(self, part: object) -> bool:
        return id(part) in self._guests

    def bring(self, part: nn.Module, place: Place) -> None:
        """On the card from now on as `place` says. Raises what the device raises when it is out of memory."""
        guest = self._guests[id(part)]
        if guest.place is not None and _way(guest.place) == _way(place):
            guest.place = place
            return
        self._send(guest)
        streamed, slots = _fitted(place, guest.home)
        with ExitStack() as leave:
            guest.visit = leave.enter_context(guest.home.visiting(streamed, slots))
            guest.place, guest.leave = place, leave.pop_all()

    def visit(self, part: object) -> Visit | None:
        """That of now; None for a part that is at home, or has none."""
        guest = self._guests.get(id(part))
        return guest.visit if guest else None

    def send(self, but: Iterable[object] = (), always: bool = False) -> None:
        """Home with all but these parts; with those that are to be on the card `always` only when it is true."""
        kept = {id(part) for part in but}
        for key, guest in self._guests.items():
            if key not in kept and guest.place is not None and (always or not guest.place.always):
                self._send(guest)

    def keep(self, places: Iterable[Place]) -> None:
        """Home with all that do not lie on the card as one of these says."""
        kept = set(places)
        for guest in self._guests.values():
            if guest.place is not None and guest.place not in kept:
                self._send(guest)

    def leave(self, part: object) -> None:
        """Home with it, if it has one."""
        if guest := self._guests.get(id(part)):
            self._send(guest)

    def forget(self, part: object) -> None:
        """The part is not needed any more, nor its home."""
        if guest := self._guests.pop(id(part), None):
            self._send(guest)

    def lies(self, part: object) -> tuple[int, int] | None:
        """Bytes in RAM and on the card; None for a part without a home."""
        guest = self._guests.get(id(part))
        return (guest.home.size_bytes, guest.on_card) if guest else None

    @property
    def on_card(self) -> int:
        """Bytes."""
        return sum(guest.on_card for guest in self._guests.values())

    @property
    def at_home(self) -> int:
        """Bytes of RAM."""
        return sum(guest.home.size_bytes for guest in self._guests.values())

    @staticmethod
    def _send(guest: _Guest) -> None:
        leave, guest.visit, guest.leave, guest.place = guest.leave, None, None, None
        if leave is not None:
            leave.close()


def _fitted(place: Place, home: Home) -> tuple[tuple[int, ...], float]:
    """Which blocks stream, through how many slots. The plan knew the blocks from the names in the file.

    Where the network has come out of it with other blocks, the same room is divided anew.
    """
    if not place.streamed:
        return (), place.slots
    sizes = home.sizes
    if place.streamed[-1] < len(sizes):
        stays = home.size_bytes - sum(sizes[index] for index in place.streamed)
        if stays + place.slots * max(sizes) <= _OVER * place.on_device:
            return place.streamed, place.slots
    found = streaming(sizes, place.on_device - home.rest.buffer.numel(), 1.0)
    return (found.streamed, found.slots) if found else (tuple(range(len(sizes))), SLOTS[0])


def _way(place: Place) -> tuple[tuple[int, ...], float]:
    return place.streamed, place.slots
