"""`generate`: one request through the same engine as the window's, told on the terminal or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.cli.compose import compose
from pipelines.cli.listeners import JsonLines, Listener, Terminal, ends
from pipelines.cli.models import add_models_argument, find_records
from pipelines.library import attention, compiled_dir, measured, rates, runs
from pipelines.library.folders import cache_dir, data_dir, default_output_dir
from pipelines.library.inputs import check_inputs
from pipelines.runtime.worker import Engine, Worker
from pipelines.spec.advice import advice
from pipelines.spec.attention import AUTO, NAMES
from pipelines.spec.devices import DTYPES, KNOWN, is_device, is_encoders_device
from pipelines.spec.errors import RequestError
from pipelines.spec.events import Event, JobFailed, WorkerDied
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.speed import SWITCHES

NAME = "generate"
MAX_THREADS = 1024
STOP_LIMIT_S = 1.0

_Events = queue.SimpleQueue[Event | None]

_EXAMPLE = """examples:
  python main.py generate --prompt "a red circle on a white background" --out pictures
  python main.py generate --prompt "two blue squares" --sampler "Euler a" --count 4 --out pictures
  python main.py generate --request request.json --seed 8 --out pictures --json"""


def add_parser(sub: argparse._SubParsersAction) -> None:
    parser = sub.add_parser(
        NAME,
        help="make pictures from a prompt",
        description="Makes pictures from a prompt and prints their paths.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_request_arguments(parser)
    add = parser.add_argument
    add("--out", metavar="DIR", help="the folder for the pictures (your pictures folder)")
    add("--json", action="store_true", help="print one JSON object a line for each event, nothing else")
    add("--device", default="auto", help=f"{KNOWN} (auto)")
    add(
        "--encoders-device",
        default="",
        metavar="DEVICE",
        help="beside a card: another device where text encoders lie for good and compute, such as cuda:1, or cpu (the "
        "same one)",
    )
    add("--dtype", default="auto", help="precision: auto, float32, float16, bfloat16 (auto)")
    add(
        "--attention",
        default=AUTO,
        metavar="ID",
        help=f"{', '.join(NAMES)} (auto: the quickest that is right)",
    )
    add("--deterministic", action="store_true", help="the same request makes the same picture, to the bit")
    add("--threads", default="0", metavar="N", help="processor threads to use, 0 for all (0)")
    add("--debug", action="store_true", help="tell errors with all their details, on stderr")
    add_models_argument(parser)
    parser.set_defaults(run=run)


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """All that `compose` reads."""
    add = parser.add_argument
    add("--prompt", metavar="TEXT", help="what to draw")
    add("--negative", metavar="TEXT", help="what to keep out of the picture")
    add(
        "--model", metavar="ID", help="the model to draw with, by the id that `models` lists (the demo model)"
    )
    add(
        "--weights",
        metavar="BITS",
        help="pack the model while it is loaded: fp8, int8, int4, nf4 (as its file is); smaller, a little less exact",
    )
    add("--steps", metavar="N", help="steps, 1 to 150: more are slower and finer (the model's own number)")
    add(
        "--guidance",
        metavar="G",
        help="guidance, 0 to 30: how closely to follow the prompt (the model's own)",
    )
    add("--sampler", metavar="NAME", help="sampler, by its usual name: Euler a, DPM++ 2M, UniPC ...")
    add("--schedule", metavar="NAME", help="schedule: Automatic, Karras, Exponential, Beta, SGM Uniform")
    add("--seed", metavar="N", help="the same seed gives the same picture; random when negative or not given")
    add("--size", metavar="WxH", help="width and height in pixels, such as 512x768 (the model's own size)")
    add("--count", metavar="N", help="how many pictures, 1 to 64; their seeds count up")
    _add_family_arguments(parser)
    add(
        "--step-cache",
        metavar="NAME[:LIMIT]",
        help="FLUX: leave out what hardly changes from step to step: first_block, taylorseer or magcache, with how far "
        "it goes (their own: 0.08, 5, 0.06); quicker, and another picture",
    )
    for row in SWITCHES:
        if row.id != "step_cache":
            add(f"--{row.id.replace('_', '-')}", action="store_true", help=_one_line(row.words))
    add("--request", metavar="FILE.json", help="take the request from a file; flags win over it")


def _one_line(words: str) -> str:
    """As the helps of the others begin and end."""
    return words[0].lower() + words[1:].rstrip(".").replace(". ", "; ")


def _add_family_arguments(parser: argparse.ArgumentParser) -> None:
    """What only some families take; the others refuse it by its field."""
    group = parser.add_argument_group("for some models")
    add = group.add_argument
    add("--true-cfg", metavar="G", help="FLUX: real guidance with the negative prompt, 1 to 30; 1 is off (1)")
    add("--original-size", metavar="WxH", help="SDXL: the size it is told the picture had once (its own)")
    add("--target-size", metavar="WxH", help="SDXL: the size it is told the picture has (its own)")
    add(
        "--lora",
        metavar="ID[:WEIGHT]",
        action="append",
        help="a LoRA by the id that `models` lists, such as ink or ink:0.7; can be given again",
    )
    add(
        "--embedding",
        metavar="ID",
        action="append",
        help="SD: a textual inversion whose word the prompt uses, by id; can be given again",
    )
    add(
        "--control",
        metavar=("MODEL", "PICTURE"),
        action="append",
        nargs="+",
        help="a ControlNet by id and the picture that it follows, then, where they differ, weight=0.8 (1), start=0 "
        "end=0.6 (0 and 1 of the steps), preprocess=canny for a plain picture; can be given again",
    )
    add(
        "--ip-adapter",
        metavar=("MODEL", "PICTURE"),
        action="append",
        nargs="+",
        help="SD, SDXL: an IP-Adapter by id and the picture that it reads as a prompt, then, where it differs, "
        "scale=0.8 (0.6; 0 is none, 1 as trained); can be given again",
    )
    add("--crop-left", metavar="N", help="SDXL: the pixels it is told were cut off at the left (0)")
    add("--crop-top", metavar="N", help="SDXL: the pixels it is told were cut off at the top (0)")
    add("--refiner", metavar="ID", help="SDXL: the model that finishes the picture, by id (none)")
    add("--switch-at", metavar="F", help="when the refiner takes over, 0 to 1 of the steps (0.8)")
    add("--refiner-steps", metavar="N", help="steps of the refiner's schedule (those of --steps)")
    add("--refiner-prompt", metavar="TEXT", help="what the refiner is asked to draw (the prompt)")
    add("--aesthetic-score", metavar="S", help="how beautiful the refiner's pictures shall be, 0 to 10 (6)")
    add("--negative-aesthetic-score", metavar="S", help="how they shall not be, 0 to 10 (2.5)")


def run(args: argparse.Namespace) -> int:
    """Raises RequestError before anything heavy is loaded; then 0 done, 1 failed, 130 cancelled."""
    job = compose(args, find_records(args.models))
    check_inputs(job.request)
    options = EngineOptions(
        output_dir=str(_output_dir(args.out)),
        device=_device(args.device),
        encoders_device=_encoders_device(args.encoders_device),
        dtype=_dtype(args.dtype),
        attention=_attention(args.attention),
        deterministic=args.deterministic,
        threads=_threads(args.threads),
        preview_interval_s=0,
        measured_file=str(data_dir() / measured.FILE),
        attention_file=str(data_dir() / attention.FILE),
        rates_file=str(data_dir() / rates.FILE),
        runs_file=str(data_dir() / runs.FILE),
        compiled_dir=str(cache_dir() / compiled_dir.FOLDER),
    )
    notes = [note.told for note in advice(job.request, by_id(job.model.family))]
    listener = JsonLines(job.request, notes) if args.json else Terminal(job.request, notes)
    # What a library prints must not come between the JSON lines.
    with contextlib.redirect_stdout(sys.stderr):
        return _draw(job, options, listener)


def _draw(job: Job, options: EngineOptions, listener: Listener) -> int:
    def factory() -> Engine:
        from pipelines.runtime.engine import build

        return build(options)

    events: _Events = queue.SimpleQueue()
    worker = Worker(factory, events.put)
    try:
        with _ctrl_c_into(events):
            worker.submit(job)
            worker.start()
            for event in _until_ended(events, worker, listener.interrupted):
                listener.hear(event)
    finally:
        worker.stop(STOP_LIMIT_S)  # one that does not end is left to `commands.main`
    return listener.status


@contextlib.contextmanager
def _ctrl_c_into(events: _Events) -> Iterator[None]:
    """The first Ctrl+C becomes None in the queue and interrupts no line of output; a second one ends at once."""

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        events.put(None)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _until_ended(events: _Events, worker: Worker, interrupted: Callable[[], None]) -> Iterator[Event]:
    """The events up to the terminal one; after Ctrl+C the cancelled job's end is waited for."""
    while True:
        try:
            event = events.get(timeout=0.2)  # bounded, or Windows would not see Ctrl+C
        except queue.Empty:
            continue
        if event is None:
            interrupted()
            worker.cancel_all()
            continue
        yield _advised(event)
        if ends(event):
            return


def _advised(event: Event) -> Event:
    """The engine's hints speak of the window's log and its restart button; there is neither here."""
    match event:
        case JobFailed(is_bug=True):
            return dataclasses.replace(event, hint="Run it again with --debug for the details.")
        case JobFailed(hint=hint) | WorkerDied(hint=hint) if hint.startswith("Restart the engine"):
            return dataclasses.replace(
                event, hint="python main.py doctor tells what is off, --debug the details."
            )
    return event


def _output_dir(name: str | None) -> Path:
    """Made now, so that a folder that cannot be written is known before the picture is drawn."""
    if name == "":  # an unset variable of a script, mostly
        raise RequestError("out", "is empty.", "Name a folder, or leave --out away for your pictures folder.")
    folder = Path(os.path.expanduser(name)).absolute() if name else default_output_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise RequestError("out", f"'{folder}' is no folder.") from error
    except OSError as error:
        raise RequestError("out", f"the folder '{folder}' cannot be made: {error.strerror}.") from error
    return folder


def _device(text: str) -> str:
    if not is_device(text):
        raise RequestError("device", f"there is no device '{text}'.", f"Known: {KNOWN}.")
    return text


def _encoders_device(text: str) -> str:
    if not is_encoders_device(text):
        known = KNOWN.removeprefix("auto, ")
        raise RequestError("encoders_device", f"there is no device '{text}' for them.", f"Known: {known}.")
    return text


def _attention(text: str) -> str:
    if text not in NAMES:
        raise RequestError("attention", f"there is no attention '{text}'.", f"Known: {', '.join(NAMES)}.")
    return text


def _dtype(text: str) -> str:
    if text not in DTYPES:
        raise RequestError("dtype", f"there is no precision '{text}'.", f"Known: {', '.join(DTYPES)}.")
    return text


def _threads(text: str) -> int:
    if not (text.isdecimal() and len(text) <= 4 and int(text) <= MAX_THREADS):
        raise RequestError("threads", f"must be a whole number from 0 to {MAX_THREADS}, not '{text}'.")
    return int(text)
