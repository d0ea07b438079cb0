"""`models`: what can be drawn with, and what is listed but cannot."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipelines.cli import output
from pipelines.library.folders import default_roots
from pipelines.library.index import scan
from pipelines.library.trees import tree_of
from pipelines.spec.errors import RequestError
from pipelines.spec.record import ModelRecord

NAME = "models"


def add_parser(sub: argparse._SubParsersAction) -> None:
    about = "Lists the models and what goes with them, of this program and of your model folders, and what each is for."
    parser = sub.add_parser(NAME, help="list the models", description=about, allow_abbrev=False)
    add_models_argument(parser)
    only = "list the models of these folders only, also of another program's (ComfyUI, A1111, ...); can be given again"
    parser.add_argument("--root", metavar="DIR", nargs="+", action="extend", default=[], help=only)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, one a model")
    parser.set_defaults(run=run)


def add_models_argument(parser: argparse.ArgumentParser) -> None:
    text = "a folder to look for models in, besides the usual ones; can be given again"
    parser.add_argument("--models", metavar="DIR", action="append", default=[], help=text)


def find_records(folders: Sequence[str]) -> tuple[ModelRecord, ...]:
    """The models in the usual folders and in these. Raises RequestError, field `models`, for a missing one."""
    return scan((*default_roots(), *_existing(folders, "models")))


def _existing(names: Sequence[str], field: str) -> tuple[Path, ...]:
    folders = tuple(Path(os.path.expanduser(name)) for name in names)
    for name, folder in zip(names, folders, strict=True):
        if not name or not folder.is_dir():
            raise RequestError(field, f"there is no folder '{name}'.", f"Check the path after --{field}.")
    return folders


def run(args: argparse.Namespace) -> int:
    """Always 0: a model that cannot be used is an answer too."""
    extra = _existing(args.models, "models")
    roots = (*_existing(args.root, "root"), *extra) if args.root else (*default_roots(), *extra)
    _tell_trees(roots)
    records = scan(roots, progress=_progress if sys.stderr.isatty() else None)
    for record in records:
        if args.json:
            output.json_line(dataclasses.asdict(record))
        else:
            print("\n".join(output.plain(line) for line in _lines(record)))
    if not records:
        output.say(f"No models were found. Put a diffusers folder into {default_roots()[-1]}.")
    return 0


def _tell_trees(roots: Iterable[Path]) -> None:
    for tree in filter(None, map(tree_of, roots)):
        output.say(f"{tree.root} is a folder of {tree.tool}. Its models are used where they lie.")
        for problem in tree.problems:
            output.say(problem)


def _progress(done: int, count: int) -> None:
    """A line on the terminal that is written over, and gone at the end."""
    if done % 50 == 0 or done == count:
        text = f"{done} of {count} files" if done < count else ""
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _lines(record: ModelRecord) -> Iterable[str]:
    size = f"{record.size_bytes / 1e6:.0f} MB" if record.size_bytes else ""
    side = f"{record.native_size}x{record.native_size}" if record.native_size else ""
    facts = [
        fact for fact in (record.kind.value, record.control, record.family, side, record.dtype, size) if fact
    ]
    yield f"{record.id}  {record.title}"
    yield f"    {', '.join(facts)}"
    if record.trigger_words:
        yield f"    called by: {', '.join(record.trigger_words)}"
    if record.preferred_weight:
        yield f"    preferred weight: {record.preferred_weight:g}"
    yield f"    {record.path}"
    if record.problem:
        yield f"    Cannot be used: {record.problem}"
