"""`quantize`: a model becomes a file of fewer bits, which the library then lists beside it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipelines.cli import output, transfer
from pipelines.cli.models import add_models_argument, find_records
from pipelines.library import compiled_dir
from pipelines.library.folders import models_dir
from pipelines.library.models import record_of
from pipelines.spec.errors import EngineError, ModelError, RequestError
from pipelines.spec.record import ModelRecord
from pipelines.spec.weights import NAMES, weights_of

NAME = "quantize"


def add_parser(sub: argparse._SubParsersAction) -> None:
    about = (
        "Writes a model into a file whose denoiser (and T5) has fewer bits: int8 and int4 as GGUF, fp8 and nf4 as "
        "safetensors. What was made of what is noted in the file. --report draws the same pictures with both and notes "
        "beside the file what it saves and what it costs."
    )
    parser = sub.add_parser(NAME, help="write a model in 8 or 4 bits", description=about, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", help="the id of a model, its folder or its file")
    parser.add_argument("--to", metavar="BITS", required=True, help=f"{', '.join(NAMES)}")
    parser.add_argument(
        "--out", metavar="FILE", help="the file to write; never replaced (MODEL-BITS in the models folder)"
    )
    parser.add_argument("--report", action="store_true", help="measure it against the model it was made from")
    parser.add_argument("--prompts", metavar="N", default="8", help="pictures of the report (8)")
    scorer = (
        "the folder of a CLIP that scores the pictures of the report (the demos' own, of simple drawings)"
    )
    parser.add_argument("--scorer", metavar="DIR", help=scorer)
    parser.add_argument("--json", action="store_true", help="print the result as a JSON object")
    add_models_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises RequestError for arguments that are wrong, ModelError for a model that cannot be packed."""
    row = weights_of(args.to)
    if row is None:
        raise RequestError("to", f"there are no weights '{args.to[:40]}'.", f"Known: {', '.join(NAMES)}.")
    if not (args.prompts.isdecimal() and 1 <= int(args.prompts[:6]) <= 1000):
        raise RequestError("prompts", f"must be a whole number from 1 to 1000, not '{args.prompts[:40]}'.")
    if args.scorer is not None and not args.report:
        raise RequestError("scorer", "it is asked for a report alone.", "Add --report.")
    scorer = None if args.scorer is None else Path(os.path.expanduser(args.scorer)).absolute()
    record = _record(args.model, args.models)
    if args.report and record.problem:
        raise ModelError(f"'{record.id}' cannot be drawn with: {record.problem}", "Leave out --report.")
    end = row.end
    out = Path(os.path.expanduser(args.out or models_dir() / f"{record.id}-{row.id}{end}")).absolute()
    if not out.name.lower().endswith(end):
        raise RequestError("out", f"must end in {end}, not '{out.name}'.")
    if args.out is None:
        out.parent.mkdir(parents=True, exist_ok=True)
    if not out.parent.is_dir():
        raise RequestError("out", f"there is no folder '{out.parent}'.", "Make it first.")
    if out.exists():
        raise RequestError("out", f"'{out}' is there already.", "Name another file.")
    compiled_dir.prepare("")  # torch makes the folder while it is imported, and we compile nothing
    # torch takes seconds: only once the arguments are right
    from pipelines.workshop.quantize import quantize
    from pipelines.workshop.quantize_report import is_scorer

    if scorer is not None and not is_scorer(scorer):
        text = f"there is no CLIP in '{scorer}'."
        raise RequestError("scorer", text, "Name a folder with its config.json and .safetensors file.")

    try:
        with transfer.written(record.title, args.json) as progress:
            quantize(record, row, out, progress=progress)
    except FileExistsError as error:
        raise RequestError("out", f"'{out}' is there already.", "Name another file.") from error
    except EngineError:
        raise
    except OSError as error:
        why = error.strerror or "not all of it went onto the drive"  # numpy's own errors give no reason
        raise ModelError(f"{out} could not be written: {why}.", "Is the drive full?") from error
    report = _report(record, out, int(args.prompts), scorer) if args.report else None
    size = out.stat().st_size
    if args.json:
        output.json_line({"event": "finished", "path": str(out), "size": size, "report": report})
    else:
        print(output.plain(f"{out}  {size / 1e6:.1f} MB, of {record.size_bytes / 1e6:.1f}"))
        for line in (report or {}).get("lines", ()):
            print(output.plain(f"  {line}"))
    return output.DONE


def _report(record: ModelRecord, out: Path, pictures: int, scorer: Path | None) -> dict:
    from pipelines.workshop.quantize_report import compared, lent_as, lines, write_report

    try:
        facts = compared(record, lent_as(record_of(out), record), pictures, scorer)
    except EngineError as error:
        hint = f"{error.hint} {out} is whole; it only was not measured.".strip()
        raise ModelError(error.message, hint) from error
    write_report(out, facts)
    return {**facts, "lines": lines(facts)}


def _record(wanted: str, folders: list[str]) -> ModelRecord:
    path = Path(os.path.expanduser(wanted))
    found = record_of(path) if path.exists() else None
    for record in find_records(folders):
        if wanted.lower() == record.id.lower() or (found and record.path == found.path):
            found = record
            break
    if found is None or not found.draws:
        hint = "`python main.py models` lists those there are."
        raise RequestError("model", f"there is no model '{wanted[:80]}' that draws.", hint)
    return found
