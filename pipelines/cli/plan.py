"""`plan`: whether a picture fits a card, where the parts of the model would lie, and what it would take."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psutil

from pipelines.cli import output
from pipelines.cli.compose import compose
from pipelines.cli.generate import add_request_arguments
from pipelines.cli.models import add_models_argument, find_records
from pipelines.library.folders import data_dir
from pipelines.library.machine import processor
from pipelines.library.rates import FILE, rates_of
from pipelines.library.runs import runs_of
from pipelines.runtime.copy_ratio import Known
from pipelines.runtime.offers import Offer, offers
from pipelines.runtime.placement import Budget, Placement, Reading
from pipelines.runtime.placement_words import gb, place_words, words
from pipelines.runtime.preflight import preflight
from pipelines.spec.errors import RequestError
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.run_time import TimeEstimate, estimate, work_of
from pipelines.spec.time_words import grounds, time_words
from pipelines.spec.weights import bits_now

NAME = "plan"
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(gib|gb|g|mib|mb|m)?", re.IGNORECASE)
_EXAMPLE = """examples:
  python main.py plan --model demo-sdxl --vram 8GB
  python main.py plan --request request.json --vram 12GB --ram 16GB --json"""


def add_parser(sub: argparse._SubParsersAction) -> None:
    parser = sub.add_parser(
        NAME,
        help="tell whether a picture fits a card, and how",
        description="Tells whether a picture fits, where the parts of the model would lie and what that takes, by the "
        "headers of the model's files. Nothing is loaded.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_request_arguments(parser)
    add = parser.add_argument
    add("--vram", metavar="SIZE", help="the card's memory, such as 8GB, of which 0.9 are kept free (no card)")
    add(
        "--encoders-vram",
        metavar="SIZE",
        help="beside a card: the memory of a second one for the text encoders, 0 for RAM (they share the card)",
    )
    add("--ram", metavar="SIZE", help="free RAM, such as 16GB (what is free now)")
    add("--json", action="store_true", help="print one JSON object")
    add_models_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when it fits, 1 when not. Raises RequestError and ModelError."""
    vram = None if args.vram is None else _bytes("vram", args.vram)
    ram = psutil.virtual_memory().available if args.ram is None else _bytes("ram", args.ram)
    if args.request is None and args.prompt is None:
        args.prompt = ""
    job = compose(args, find_records(args.models))
    budget = Budget(vram=0, ram=ram, device=False) if vram is None else Budget.of_card(vram, ram)
    if args.encoders_vram is not None:
        if vram is None:
            raise RequestError("encoders_vram", "it is a second memory beside a card.", "Give --vram too.")
        own = _bytes("encoders_vram", args.encoders_vram)
        budget = replace(budget, encoders=Budget.of_card(own, ram).vram)
    known = _known(budget.device)
    found = preflight(job, budget, known=known)
    other = (
        ()
        if found.fits
        else offers(found, bits_now(job.request, job.model), by_id(job.model.family).sizes.step)
    )
    work = work_of(job.request, by_id(job.model.family), found.pace)
    time = estimate(work, known.runs, known.device)
    if args.json:
        told = None if time is None else dataclasses.asdict(time)
        output.json_line(facts(job, found, other) | {"time": told})
    else:
        print("\n".join(output.plain(line) for line in (*_lines(job, found, other), *_time_lines(time))))
    return output.DONE if found.fits else output.FAILED


def _known(on_card: bool) -> Known:
    """What was seen of this computer's processor, or of the card that drew last."""
    runs, name = runs_of(data_dir()), processor()
    if not on_card:
        return Known(device=name, runs=runs)
    device = next((run.device for run in runs if run.device != name), "")
    return Known(device=device, rates=rates_of(data_dir() / FILE, device), runs=runs)


def _time_lines(time: TimeEstimate | None) -> Iterable[str]:
    return () if time is None else (f"  time: {time_words(time)}. {grounds(time)}",)


def _bytes(field: str, text: str) -> int:
    """8GB is a card of that name, which has 8 GiB; RAM is sold the same way. A bare number counts gigabytes."""
    found = _BYTES.fullmatch(text.strip())
    if found is None or float(found[1]) > 1e6:
        raise RequestError(field, f"must be a size such as 8GB, not '{text[:40]}'.")
    return int(float(found[1]) * (2**20 if (found[2] or "g").lower().startswith("m") else 2**30))


def facts(job: Job, found: Placement, other: Iterable[Offer]) -> dict[str, Any]:
    """What --json prints; sizes in bytes."""
    _, budget, _, _ = found.asked
    return {
        "model": job.model.id,
        "fits": found.fits,
        "rung": found.rung.name.lower(),
        "words": words(found),
        "peak_vram": found.peak_vram,
        "peak_ram": found.peak_ram,
        "peak_encoders": found.peak_encoders or None,
        "free_vram": budget.vram if found.device else None,
        "free_ram": budget.ram,
        "peaks": {stage.value: peak for stage, peak in found.peaks.items()},
        "streamed_bytes_per_step": found.streamed_bytes,
        "tile": found.tile or None,
        "parts": [
            {
                "name": place.name,
                "model": place.model or None,
                "size": place.size_bytes,
                "stays": place.stays,
                "arena": place.arena,
                "streamed_blocks": len(place.streamed),
                "where": place_words(place, found),
            }
            for place in found.parts
        ],
        "added": found.added,
        "cheaper": [
            {
                "words": offer.words,
                "plan": words(offer.placement),
                "peak_vram": offer.placement.peak_vram,
                "peak_ram": offer.placement.peak_ram,
            }
            for offer in other
        ],
    }


def _lines(job: Job, found: Placement, other: Iterable[Offer]) -> Iterable[str]:
    size, (_, budget, _, _) = job.request.size, found.asked
    yield f"{job.model.title}, {size.width} × {size.height} pixels: {words(found)}."
    yield ""
    for place in found.parts:
        yield f"  {place.name:<16} {gb(place.size_bytes):>8}   {place_words(place, found)}"
    if found.added:
        yield f"  {'LoRA, ControlNet':<16} {gb(found.added):>8}   beside the denoiser"
    yield ""
    if found.device:
        yield f"  card: {gb(found.peak_vram)} of {gb(budget.vram)} that are free at the most"
    if found.reading is Reading.CARD:
        yield f"  card of the text encoders: {gb(found.peak_encoders)} of {gb(budget.encoders or 0)}"
    yield f"  RAM:  {gb(found.peak_ram)} of {gb(budget.ram)}"
    for offer in other:
        yield f"  What would fit: {offer.words} ({words(offer.placement)})."
