"""`convert`: a diffusers folder, or a pickle (.ckpt, .pt, .bin), becomes a .safetensors file."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.cli import output, transfer
from pipelines.cli.models import add_models_argument, find_records
from pipelines.library import compiled_dir
from pipelines.library.header import WEIGHTS, read_header
from pipelines.library.models import record_of
from pipelines.library.walk import is_model
from pipelines.spec.errors import EngineError, ModelError, RequestError, UnsafeModel
from pipelines.spec.record import Kind, ModelRecord

NAME = "convert"
_ENDS = (".safetensors", ".sft")


def add_parser(sub: argparse._SubParsersAction) -> None:
    about = (
        "Writes a model out of its diffusers folder into one .safetensors file, in the names that other programs "
        "read. The weights stay as they are, bit for bit. A .ckpt, .pt, .pth or .bin file is opened for its weights "
        "alone, in a process of its own, and refused if it could run code."
    )
    parser = sub.add_parser(NAME, help="write a model as one file", description=about, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", help="the id of a model, its folder, or a .ckpt file")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="the .safetensors file to write; never replaced"
    )
    add_models_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the result as a JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises RequestError for arguments that are wrong, ModelError for a model that cannot be converted."""
    out = Path(os.path.expanduser(args.out)).absolute()
    if not out.name.lower().endswith(_ENDS):
        raise RequestError("out", f"must end in .safetensors, not '{out.name}'.")
    if not out.parent.is_dir():
        raise RequestError("out", f"there is no folder '{out.parent}'.", "Make it first.")
    if out.exists():
        raise RequestError("out", f"'{out}' is there already.", "Name another file.")
    source = Path(os.path.expanduser(args.model))
    left_out: tuple[str, ...] = ()
    if source.is_file():
        left_out = _unpickle(source, out)
    else:
        _convert(_record(args.model, args.models), out, args.json)
    size = out.stat().st_size
    if args.json:
        output.json_line({"event": "finished", "path": str(out), "size": size, "left_out": left_out})
    else:
        if left_out:
            more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
            output.say(f"Left out, being no tensors: {', '.join(left_out[:5])}{more}.")
        print(output.plain(f"{out}  {size / 1e6:.1f} MB"))
    return output.DONE


def _record(wanted: str, folders: list[str]) -> ModelRecord:
    path = Path(os.path.expanduser(wanted))
    if path.is_dir() and is_model(path):
        return record_of(path)
    for record in find_records(folders):
        if wanted.lower() == record.id.lower() and record.kind in (Kind.CHECKPOINT, Kind.CONTROLNET):
            return record
    raise RequestError(
        "model", f"there is no model '{wanted}'.", "`python main.py models` lists those there are."
    )


def _unpickle(source: Path, out: Path) -> tuple[str, ...]:
    """The names of what was left out. Raises RequestError for a file that has the format already."""
    from pipelines.workshop.unpickle import unpickle

    if source.name.lower().endswith(WEIGHTS):
        try:
            read_header(source)
        except UnsafeModel:
            pass  # a pickle by another name
        else:
            hint = "Name a diffusers folder or a .ckpt file."
            raise RequestError("model", f"'{source.name}' needs no conversion.", hint)
    with _written(out):
        return unpickle(source, out).left_out


def _convert(record: ModelRecord, out: Path, as_json: bool) -> None:
    compiled_dir.prepare("")  # torch makes the folder while it is imported, and we compile nothing
    from pipelines.workshop.convert import convert  # torch takes seconds: only once the arguments are right

    with _written(out), transfer.written(record.title, as_json) as progress:
        convert(record, out, progress)


@contextlib.contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise RequestError("out", f"'{out}' is there already.", "Name another file.") from error
    except EngineError:
        raise
    except OSError as error:
        raise ModelError(f"{out} could not be written: {error.strerror}.", "Check the drive.") from error
