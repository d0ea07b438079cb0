"""`inspect`: what a file or a folder is, by its headers and configs alone."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipelines.cli import output
from pipelines.library.folders import data_dir
from pipelines.library.hash_lane import keep_hashes
from pipelines.library.hashes import Hashes
from pipelines.library.index import FILE, ModelIndex
from pipelines.library.models import record_of, scan
from pipelines.library.walk import is_model
from pipelines.spec.errors import RequestError
from pipelines.spec.record import Format, Kind, ModelRecord, State

NAME = "inspect"


def add_parser(sub: argparse._SubParsersAction) -> None:
    about = "Tells what each file or folder is and whether it can be used. Weights are not read, and no code is run."
    parser = sub.add_parser(NAME, help="tell what a model file is", description=about, allow_abbrev=False)
    what = "a weight file, a model's folder, or a folder of models"
    parser.add_argument("paths", metavar="FILE|FOLDER", nargs="+", help=what)
    more = "also read each file whole for its hashes, and keep them"
    parser.add_argument("--hash", action="store_true", help=more)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, one a model")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Always 0: that a file cannot be used is an answer too. Raises RequestError for a path that is not there."""
    with contextlib.ExitStack() as stack:
        index = _index(stack, args.hash)
        for path in _existing(args.paths):
            for record in _records(path):
                shown = facts(record, _hashes(record, index, args.hash))
                if args.json:
                    output.json_line(shown)
                else:
                    print("\n".join(output.plain(line) for line in _lines(record, shown)))
    return output.DONE


def _index(stack: contextlib.ExitStack, make: bool) -> ModelIndex | None:
    """None where there is none yet: only to look makes no file."""
    path = data_dir() / FILE
    if not make and not path.is_file():
        return None
    return stack.enter_context(contextlib.closing(ModelIndex(path)))


def _hashes(record: ModelRecord, index: ModelIndex | None, make: bool) -> Hashes | None:
    """Of a file, if they are known or to be made."""
    path = Path(record.path)
    if index is None or record.format is not Format.SINGLE_FILE or not path.is_file():
        return None
    if (known := index.hashes(path)) or not make:
        return known
    try:
        return keep_hashes(index, path)
    except OSError as error:
        output.say(f"{path} cannot be read: {error.strerror}.")
        return None


def _existing(names: Sequence[str]) -> tuple[Path, ...]:
    paths = tuple(Path(os.path.expanduser(name)) for name in names)
    for name, path in zip(names, paths, strict=True):
        if not name or not path.exists():
            raise RequestError("paths", f"there is no file or folder '{name}'.", "Check the path.")
    return paths


def _records(path: Path) -> tuple[ModelRecord, ...]:
    if not path.is_dir() or is_model(path):
        return (record_of(path),)
    return scan([path]) or (_nothing(path),)


def _nothing(folder: Path) -> ModelRecord:
    return ModelRecord(
        id="",
        path=str(folder.absolute()),
        title=folder.name,
        kind=Kind.UNKNOWN,
        state=State.UNSUPPORTED,
        problem="The folder holds no model.",
    )


def facts(record: ModelRecord, hashes: Hashes | None = None) -> dict[str, Any]:
    """What is printed of a model; null for what is not known."""
    named = hashes and {"sha256": hashes.sha256, "autov2": hashes.autov2, "autov3": hashes.autov3 or None}
    return {
        "path": record.path,
        "title": record.title,
        "kind": record.kind.value,
        "family": record.base or None,
        "variant": record.variant or None,
        "format": _format(record),
        "layout": record.layout or None,
        "dtype": record.dtype or None,
        "quantisation": record.quantisation or None,
        "prediction": record.prediction or None,
        "size": record.size_bytes or _size(record),
        "parameters": record.parameters or None,
        "state": record.state.value,
        "reason": record.problem or None,
        "needs": record.needs,
        "assumed": record.assumed,
        "trigger_words": record.trigger_words,
        "preferred_weight": record.preferred_weight or None,
        "preview": record.preview or None,
        "description": record.description or None,
        "hashes": named,
    }


def _format(record: ModelRecord) -> str | None:
    if not record.id:
        return None
    return "sharded" if record.sharded else record.format.value


def _size(record: ModelRecord) -> int | None:
    """Of a file that cannot be read as a model, what the disk says."""
    try:
        return os.path.getsize(record.path) if record.format is Format.SINGLE_FILE else None
    except OSError:
        return None


def _lines(record: ModelRecord, shown: dict[str, Any]) -> Iterable[str]:
    words = ("kind", "family", "variant", "format", "layout", "quantisation", "dtype", "prediction")
    yield record.path
    yield f"    {', '.join(dict.fromkeys(str(shown[word]) for word in words if shown[word]))}"
    numbers = f", {record.parameters / 1e6:.1f} million numbers" if record.parameters else ""
    if size := shown["size"]:
        yield f"    {size / 1e6:.1f} MB{numbers}"
    yield f"    {record.state.value}{f': {record.problem}' if record.problem else ''}"
    if record.needs:
        yield f"    needs besides: {', '.join(record.needs)}"
    yield from (f"    assumed: {text}" for text in record.assumed)
    if record.trigger_words:
        yield f"    called by: {', '.join(record.trigger_words)}"
    if record.preferred_weight:
        yield f"    preferred weight: {record.preferred_weight:g}"
    if record.preview:
        yield f"    picture: {record.preview}"
    if hashes := shown["hashes"]:
        yield f"    {', '.join(f'{name} {value}' for name, value in hashes.items() if value)}"
