"""`doctor`: what this computer has for Emulsion, what is off, why, and what to do about it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from pipelines.cli import output
from pipelines.cli.output import DONE, FAILED
from pipelines.cli.probe import HEAD, Facts, probe
from pipelines.library.compiled_dir import VARIABLE
from pipelines.library.folders import HOME_VARIABLE, default_output_dir, demo_root
from pipelines.library.machine import processor
from pipelines.library.models import scan
from pipelines.library.version import program
from pipelines.spec.attention import AUTO, Tried, attention_of, choice

NAME = "doctor"
_REINSTALL = "Run: python3 installer/bootstrap.py run"
_GB = 1e9


class State(StrEnum):
    OK = "ok"
    OFF = "off"  # works without it
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer: `text` is what was found, `todo` what to do, mostly empty."""

    name: str
    state: State
    text: str
    todo: str = ""


def add_parser(sub: argparse._SubParsersAction) -> None:
    about = "Looks at this computer and at the installed libraries, and says what is off and what to do."
    parser = sub.add_parser(
        NAME, help="say what works here and what does not", description=about, allow_abbrev=False
    )
    parser.add_argument("--out", metavar="DIR", help="the folder for the pictures, whose disk is looked at")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, one a finding")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when pictures can be made and the window can open, 1 when something keeps from that."""
    status = DONE
    for finding in findings(Path(os.path.expanduser(args.out)) if args.out else default_output_dir()):
        if args.json:
            output.json_line(dataclasses.asdict(finding))
        else:
            print("\n".join(output.plain(line) for line in _lines(finding)), flush=True)
        status = FAILED if finding.state is State.PROBLEM else status
    return status


def findings(output_dir: Path) -> Iterator[Finding]:
    """Each as soon as it is known; the libraries come last, because torch takes its time."""
    yield Finding("Emulsion", State.OK, program())
    yield _python()
    yield Finding("System", State.OK, f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield _processor()
    yield _memory()
    yield _disk(output_dir)
    yield _demo_model()
    yield from _window(probe("window"))
    yield from _engine(probe("engine"))


def _lines(finding: Finding) -> Iterable[str]:
    yield f"{finding.state.value:<8} {finding.name}: {finding.text}"
    if finding.todo:
        yield f"         -> {finding.todo}"


def _python() -> Finding:
    text = f"{platform.python_version()}, {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", State.OK, text)
    return Finding("Python", State.PROBLEM, text, "Use Python 3.11, 3.12 or 3.13.")


def _processor() -> Finding:
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    return Finding("Processor", State.OK, f"{processor()}, {cores} cores, {os.cpu_count()} threads")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.total / _GB:.1f} GB, {memory.available / _GB:.1f} GB free"
    if memory.available < 2 * _GB:
        return Finding("Memory", State.PROBLEM, text, "Close other programs; a picture needs about 2 GB.")
    return Finding("Memory", State.OK, text)


def _disk(output_dir: Path) -> Finding:
    there = next(folder for folder in (output_dir, *output_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    text = f"{output_dir}, {free / _GB:.1f} GB free"
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding("Pictures", State.PROBLEM, f"{text}; cannot be written", "Choose another folder.")
    if free < _GB:
        return Finding("Pictures", State.PROBLEM, text, "Make room on this disk, or choose another folder.")
    return Finding("Pictures", State.OK, text)


def _demo_model() -> Finding:
    records = scan([demo_root()])
    usable = [record for record in records if not record.problem]
    if usable:
        return Finding("Demo model", State.OK, ", ".join(record.id for record in usable))
    why = records[0].problem if records else f"nothing in {demo_root()}"
    return Finding("Demo model", State.PROBLEM, why, "Get the program's files again: git checkout assets")


def _window(found: dict[str, Facts]) -> Iterator[Finding]:
    if error := found["PySide6"].get("error"):
        todo = "It installs what is missing, or prints the command for it: python3 installer/bootstrap.py run"
        yield Finding("Window", State.PROBLEM, f"Qt cannot be loaded ({error})", todo)
        return
    version = f"Qt for Python {found['PySide6'].get('version')}"
    if _no_display():
        text = f"{version}, but there is no display; generate, models and doctor work without"
        yield Finding("Window", State.OFF, text)
    elif error := found.get("x11", {}).get("error"):
        yield Finding("Window", State.PROBLEM, f"{version}, but not on X11 ({error})", _REINSTALL)
    else:
        yield Finding("Window", State.OK, version)


def _no_display() -> bool:
    wanted = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return sys.platform.startswith("linux") and not any(os.environ.get(name) for name in wanted)


def _engine(found: dict[str, Facts]) -> Iterator[Finding]:
    for name in ("torch", "diffusers", "transformers", "accelerate", "safetensors"):
        yield _library(name, found[name], State.PROBLEM, "No picture can be made without it. " + _REINSTALL)
    yield _device(found["torch"], found["device"])
    yield from _encoders(found["torch"])
    yield _library("xformers", found["xformers"], State.OFF, "torch's own attention is used instead.")
    yield from _attention(found["attention"])
    yield _compiler(found["compiler"])
    yield _compiled(found["compiled_dir"])
    yield _library("torchvision", found["torchvision"], State.OFF, _REINSTALL)
    yield _library("peft", found["peft"], State.OFF, "LoRA cannot be used without it. " + _REINSTALL)
    todo = "The sampler LMS and the schedule Beta cannot be used without it. " + _REINSTALL
    yield _library("scipy", found["scipy"], State.OFF, todo)


def _library(name: str, facts: Facts, without: State, todo: str) -> Finding:
    version = str(facts.get("version", ""))
    if error := facts.get("error"):
        return Finding(name, without, f"{version} cannot be used: {error}".strip(), todo)
    return Finding(name, State.OK, version)


def _device(torch: Facts, found: Facts) -> Finding:
    if error := found.get("error"):
        return Finding("Device", State.PROBLEM, f"none can be used: {error}", _REINSTALL)
    device, gpus = found["device"], torch.get("gpus") or []
    if device != "cpu":
        return Finding("Device", State.OK, f"{device} ({', '.join(gpus)})" if gpus else device)
    threads = f"cpu, {torch.get('threads')} threads"
    if not torch.get("cuda_build"):
        return Finding(
            "Device", State.OFF, f"{threads}; this torch was built without CUDA", "Pictures take longer."
        )
    text = f"{threads}; torch for CUDA {torch['cuda_build']} finds no graphics card"
    return Finding("Device", State.OFF, text, "Where there is an NVIDIA card, update its driver.")


def _encoders(torch: Facts) -> Iterator[Finding]:
    """Where there are several cards, or a card beside the processor."""
    gpus = torch.get("gpus") or []
    if gpus:
        others = [f"cuda:{number} ({name})" for number, name in enumerate(gpus)][1:]
        text = f"they can lie on another device than the rest: {', '.join((*others, 'cpu'))}"
        yield Finding("Text encoders", State.OK, f"{text} (--encoders-device, or the settings)")


def _compiler(facts: Facts) -> Finding:
    """The switch 'Compile blocks'."""
    if error := facts.get("error"):
        text = f"blocks cannot be compiled: {error}"
        return Finding("Compiler", State.OFF, text, "It takes a C++ compiler, and on a graphics card Triton.")
    return Finding("Compiler", State.OK, f"blocks can be compiled for {facts.get('version')}")


def _compiled(facts: Facts) -> Finding:
    """Where compiled blocks are kept."""
    if error := facts.get("error"):
        todo = (
            f"Make it writable, or name another by {VARIABLE}, or by {HOME_VARIABLE} for all of the program."
        )
        return Finding("Compiled blocks", State.OFF, error, todo)
    return Finding("Compiled blocks", State.OK, f"kept in {facts.get('version')}")


def _attention(facts: Facts) -> Iterator[Finding]:
    """What is used, then each kernel by itself."""
    if error := facts.get("error"):
        yield Finding("Attention", State.PROBLEM, f"it could not be tried: {error}", _REINSTALL)
        return
    tried = tuple(Tried(**each) for each in facts["tried"])
    used, own = choice(AUTO, tried), next(each for each in tried if not each.id)
    what = attention_of(used.id).title if used.id else "torch's own choice"
    yield Finding("Attention", State.OK, f"{what} (heads of {HEAD} numbers, {facts['dtype']})")
    for each in tried:
        if each.id:
            state = State.OFF if each.why else State.OK
            yield Finding(f"Attention {each.id}", state, _kernel_words(each, used, own))


def _kernel_words(each: Tried, used: Tried, own: Tried) -> str:
    if each.why:
        return each.why
    if each.own:
        return "can be used: torch's own choice is this one" + ("" if used.id else ", and used")
    if each == used:
        return f"used: it takes {each.ms / own.ms:.2f} times as long as torch's own choice"
    same = "" if each.repeats else "; it did not give the same bits twice"
    alone = "; for those who ask for it, as pictures differ" if attention_of(each.id).alone else ""
    return f"can be used: it takes {each.ms / used.ms:.2f} times as long as what is used{alone}{same}"
