"""Does a demo model draw what it is asked? Draws held-out prompts with the real engine and reads the pixels.

    python -m tests.benchmarks.semantics --model demo-sd [--count 200] [--steps 20] [--weights int8] [--out DIR]
    python -m tests.benchmarks.semantics --all [--count 200] [--out DIR] [--json FILE]

`--all` asks everything that ships what it is for, ControlNets, LoRAs, scorer and upscaler included; what has not been
trained yet is a target missed.
Prints one table and exits 1 when a target is missed. The measure is in `scoring.py`; a test proves that it scores
drawings by the data program 100 % and noise at chance.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from assets.demo.recipes.drawings import Drawing
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.engine import build
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Size
from tests.benchmarks.prompts import prompts
from tests.benchmarks.scoring import judge, read

TARGETS = {"color": 0.95, "background": 0.95, "shape": 0.90, "position": 0.85, "count": 0.80}
_NAMES = {"color": "subject colour", "background": "background colour"}


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    if not total:
        return 0.0, 1.0
    p, spread = hits / total, z * z / total
    middle = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / total + spread / (4 * total))
    return middle - half, middle + half


def _requests(record: ModelRecord, pairs: list[tuple[str, Drawing]], options: argparse.Namespace):
    sampling = record.sampling or by_id(record.family).sampling
    side = record.native_size or by_id(record.family).sizes.native
    for i, (text, _) in enumerate(pairs):
        own = replace(sampling, seed=options.seed + i)
        if options.steps:
            own = replace(own, num_inference_steps=options.steps)
        if options.guidance is not None:
            own = replace(own, guidance_scale=options.guidance)
        size = Size(width=side, height=side)
        yield GenerationRequest(
            model=record.id, weights=options.weights, prompt=Prompt(text=text), sampling=own, size=size
        )


def draw(record: ModelRecord, pairs: list[tuple[str, Drawing]], options: argparse.Namespace, out: Path):
    """Yields (drawing, picture uint8 [h, w, 3], seconds) for each prompt."""
    engine = build(EngineOptions(output_dir=str(out), device=options.device, preview_interval_s=0))
    for number, request in enumerate(_requests(record, pairs, options)):
        saved: list[str] = []
        start = time.perf_counter()
        job = Job(id=number, request=request, model=record)
        engine.run(
            job,
            lambda event, paths=saved: paths.append(event.path) if isinstance(event, ImageSaved) else None,
        )
        seconds = time.perf_counter() - start
        yield pairs[number][1], np.asarray(Image.open(saved[0]).convert("RGB")), seconds
    engine.close()


def measure(record: ModelRecord, options: argparse.Namespace, out: Path) -> dict:
    """Shares right by topic, with how many pictures each was asked of, and the median seconds a picture."""
    hits: dict[str, list[bool]] = defaultdict(list)
    times, sheets = [], []
    pairs = prompts(options.count)
    for number, (drawing, picture, seconds) in enumerate(draw(record, pairs, options, out)):
        for topic, right in judge(drawing, read(picture)).items():
            hits[topic].append(right)
        times.append(seconds)
        sheets.append(picture)
        print(f"\r{number + 1}/{len(pairs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _contact_sheet(sheets[:48], out / "contact-sheet.png")
    rows = {
        topic: {"right": sum(hits[topic]), "of": len(hits[topic]), "share": sum(hits[topic]) / max(1, len(hits[topic])),
                "target": target, "met": sum(hits[topic]) >= target * len(hits[topic])}
        for topic, target in TARGETS.items()
    }  # fmt: skip
    return {"model": record.id, "count": len(pairs), "seconds": float(np.median(times)), "rows": rows}


def _contact_sheet(pictures: list[np.ndarray], path: Path, columns: int = 8, side: int = 160) -> None:
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), (120, 120, 120))
    for i, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((side - 4, side - 4), Image.Resampling.LANCZOS)
        sheet.paste(small, (i % columns * side + 2, i // columns * side + 2))
    sheet.save(path)


def table(result: dict) -> str:
    lines = [
        f"{result['model']}: {result['count']} held-out prompts, {result['seconds']:.2f} s a picture (median)"
    ]
    lines.append(f"{'topic':<20}{'right':>12}{'share':>9}   {'95 % interval':<16}{'target':>8}  verdict")
    for topic, row in result["rows"].items():
        lo, hi = wilson(row["right"], row["of"])
        counts, interval = f"{row['right']}/{row['of']}", f"{lo:.0%} - {hi:.0%}"
        verdict = "met" if row["met"] else "MISSED"
        name = _NAMES.get(topic, topic)
        lines.append(
            f"{name:<20}{counts:>12}{row['share']:>9.1%}   {interval:<16}{row['target']:>8.0%}  {verdict}"
        )
    return "\n".join(lines)


def measure_all(options: argparse.Namespace) -> int:
    """The table over all demos; 1 when a target is missed."""
    from tests.benchmarks.demos import measures, row

    with tempfile.TemporaryDirectory() as folder:
        found = list(measures.rows(options.root or demo_root(), options, options.out or Path(folder)))
    print(row.table(found))
    if options.json:
        lines = [{**asdict(each), "met": each.met} for each in found]
        options.json.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
    return 0 if all(each.met for each in found) else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--model", default="demo-sd", help="id of a model under assets/demo")
    asked.add_argument("--all", action="store_true", help="one table over all demos")
    parser.add_argument("--root", type=Path, help="look for the model here instead")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=0, help="0: the model's own default")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--weights", default="", help="pack the model: fp8, int8, int4 or nf4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="keep the pictures and a contact sheet here")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--work", type=Path, help="with --all: keep the judge of styles here, so that it is trained once"
    )
    options = parser.parse_args()
    if options.all:
        return measure_all(options)
    records = {record.id: record for record in scan([options.root or demo_root()])}
    if options.model not in records:
        parser.error(f"--model: '{options.model}' is not among {', '.join(records) or 'no models at all'}")
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        result = measure(records[options.model], options, out)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["met"] for row in result["rows"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
