"""Models that do not fit the card (goals 2 to 5): by the clock, on counting cards, and on the device itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.ceilings import ceilings
from tests.benchmarks.children import run_child
from tests.benchmarks.clock import CASES, clock_rows
from tests.benchmarks.engine import options_for
from tests.benchmarks.pairs import Interval, bootstrap, worst_of
from tests.benchmarks.placed import Trial
from tests.benchmarks.rows import Goal, Row, measured, skipped
from tests.benchmarks.terms import Terms

BOUND = Goal(sign="<=", bound=1.15)
SEQUENTIAL = Goal(sign="<=", bound=0.25)
# Goal 3, as ours / theirs: so much faster than group offload on a card of so many GiB.
GROUP: Mapping[float, Goal] = {
    8: Goal(sign="<=", bound=1 / 1.25),
    12: Goal(sign="<=", bound=1 / 1.5),
    16: Goal(sign="<=", bound=1 / 2),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """`cards` in GiB; on `compared` diffusers' own ways run as well. What fits whole is SD 1.5."""

    model: str
    side: int
    storage: str = "plain"
    cards: tuple[float, ...] = ()
    compared: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return self.model if self.storage == "plain" else f"{self.model}_{self.storage}"


SUBJECTS = (
    Subject("flux", 1024, cards=(6, 8, 12, 16, 24), compared=(8, 12, 16)),
    Subject("flux", 1024, "fp8", cards=(6, 8, 12)),
    Subject("sdxl", 1024, cards=(6, 8), compared=(6,)),
    Subject("sd15", 512, cards=(4,), compared=(4,)),
)
QUICK = (Subject("flux", 64, cards=(8,), compared=(8,)), Subject("sd15", 64, cards=(4,)))


def rows(terms: Terms) -> Iterator[Row]:
    if terms.device == "cuda":
        yield from device_rows(terms, QUICK if terms.quick else SUBJECTS)
        return
    from tests.benchmarks.small_cards import card_rows

    yield from clock_rows(CASES[-1:] if terms.quick else CASES)
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        yield from card_rows(options_for(terms, Path(folder), dtype="float32"), terms.quick)
    for subject in SUBJECTS:
        yield skipped(f"streaming.{subject.name}", "seconds a step and peaks: there is no accelerator here")


def device_rows(terms: Terms, subjects: tuple[Subject, ...]) -> Iterator[Row]:
    """Each plan in a process of its own. `quick` takes a few thousand weights, on any device."""
    found = ceilings(terms.device, terms.quick)
    bus = found.get("pcie_h2d_gbs", {}).get("1GB", found["copy_gbs"]) * 1e9
    for subject in subjects:
        trial = Trial(
            model=subject.model, way="resident", side=subject.side, storage=subject.storage,
            device=terms.device, tiny=terms.quick,
        )  # fmt: skip
        resident = run(trial)
        yield _resident_row(subject, resident)
        for card in subject.cards:
            ours = run(replace(trial, way="ours", card_gib=card))
            yield from _our_rows(subject, card, ours, resident, bus)
            for way in ("group", "sequential", "model_offload") if card in subject.compared else ():
                theirs = run(replace(trial, way=way, card_gib=card))
                yield _against_row(f"streaming.{subject.name}_{card:g}_{way}", way, card, ours, theirs)


def run(trial: Trial) -> dict[str, Any]:
    """As `placed.tried` answers, or an `error`."""
    return run_child("placed", json.dumps(asdict(trial)))


def _resident_row(subject: Subject, found: dict[str, Any]) -> Row:
    name = f"streaming.{subject.name}_resident"
    if "error" in found:
        return skipped(name, found["error"])
    own = bootstrap(found["steps"])
    return measured(
        name,
        own.middle,
        "s a step",
        own,
        n=len(found["steps"]),
        note=f"all on the device{_peak_words(found)}",
    )


def _our_rows(
    subject: Subject, card: float, ours: dict[str, Any], resident: dict[str, Any], bus: float
) -> Iterator[Row]:
    """A step over its bound, the peak over the predicted one, and whether the numbers are the same."""
    name = f"streaming.{subject.name}_{card:g}"
    if "error" in ours:
        yield skipped(name, ours["error"])
        return
    copies = ours["streamed"] / bus
    bound = max(median(resident.get("steps", [0.0])), copies)
    note = f"{ours['streamed'] / 1e9:.2f} GB stream at {bus / 1e9:.1f} GB/s{_peak_words(ours)}"
    yield measured(
        f"{name}_bound",
        median(ours["steps"]),
        "s a step",
        bootstrap([seconds / bound for seconds in ours["steps"]]),
        baseline_name="resident step, or copies",
        baseline=bound,
        n=len(ours["steps"]),
        goal=BOUND,
        note=note,
    )
    if "reserved" in ours:
        yield from _fits_rows(name, ours)
    if "digest" in resident:
        differs = float(ours["digest"] != resident["digest"])
        equal = Goal(sign="<=", bound=0, of="value")
        own = Interval(differs, differs, differs)
        yield measured(
            f"{name}_equal",
            differs,
            "steps differ",
            own,
            n=5,
            goal=equal,
            note="bit for bit, against resident",
        )


def _fits_rows(name: str, ours: dict[str, Any]) -> Iterator[Row]:
    """The peak is that of all steps."""
    ratio = ours["predicted"] / ours["reserved"]
    for what, sign, bound in (("peak_most", "<=", 1.08), ("peak_least", ">=", 1.0)):
        yield measured(
            f"{name}_{what}",
            ratio,
            "x reserved",
            worst_of([ratio]),
            n=len(ours["steps"]),
            goal=Goal(sign=sign, bound=bound, of="value"),
            note=f"predicted {ours['predicted'] / 2**30:.2f} GiB",
        )


def _against_row(name: str, way: str, card: float, ours: dict[str, Any], theirs: dict[str, Any]) -> Row:
    """Two processes, so that the steps have no pairs: each of ours is held against the median of theirs."""
    if "error" in ours or "error" in theirs:
        return skipped(name, ours.get("error") or f"diffusers: {theirs['error']}")
    against = median(theirs["steps"])
    return measured(
        name,
        median(ours["steps"]),
        "s a step",
        bootstrap([seconds / against for seconds in ours["steps"]]),
        baseline_name=way,
        baseline=against,
        n=len(ours["steps"]),
        goal={"group": GROUP.get(card), "sequential": SEQUENTIAL}.get(way),
        note=f"theirs{_peak_words(theirs)}",
    )


def _peak_words(found: dict[str, Any]) -> str:
    if "reserved" not in found:
        return ""
    return f"; peak {found['allocated'] / 2**30:.2f} GiB, {found['reserved'] / 2**30:.2f} reserved"
