"""The published models at their true size, drawn by the engine on cards that do not exist: predicted peaks and counted.

    python -m tests.benchmarks.truecards [--only flux_int8,sdxl+control] [--vram 8,12]
    python -m tests.benchmarks.truecards --fit        bytes of each stage beside the weights, by size

No weight is read and nothing is computed, so that it takes seconds and no memory; see truesize/counted.py for what is
counted. Exit code 1 where a picture does not get through, or more lies on the card than was predicted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.truesize.counted import GIB, WORKSPACE, Counted, counted
from tests.benchmarks.truesize.jobs import Drawing, Shelf

# Cards in GiB.
CARDS: Mapping[Drawing, tuple[float, ...]] = {
    Drawing(model="sd15"): (4, 6, 8),
    Drawing(model="sd15", lora=True): (4, 6),
    Drawing(model="sd15", control=True): (4, 6),
    Drawing(model="sd15", lora=True, control=True): (4,),
    Drawing(model="sdxl"): (6, 8, 10, 12),
    Drawing(model="sdxl", lora=True): (6, 8),
    Drawing(model="sdxl", control=True): (6, 8, 12),
    Drawing(model="sdxl", refiner=True): (6, 8, 12),
    Drawing(model="sdxl", weights="int8"): (6, 8),
    Drawing(model="flux"): (8, 10, 12, 16, 24),
    Drawing(model="flux", weights="fp8"): (8, 10, 12, 16, 24),
    Drawing(model="flux", weights="int8"): (8, 10, 12, 16, 24),
    Drawing(model="flux", weights="int4"): (8, 10, 12, 16, 24),
    Drawing(model="flux", lora=True): (8, 24),
    Drawing(model="flux", weights="int8", lora=True): (8, 16),
    Drawing(model="flux", control=True): (8, 24),
    Drawing(model="flux", weights="int4", control=True): (8, 12),
}
FITTED: Mapping[str, tuple[int, ...]] = {
    "sd15": (512, 768, 1024, 1536),
    "sdxl": (512, 768, 1024, 1536),
    "flux": (512, 768, 1024, 1536),
}


@dataclass(frozen=True, slots=True)
class Found:
    """`slack` is the least of the bytes that a stage was thought to take over those that it took with the workspace."""

    drawing: Drawing
    vram: float
    counted: Counted

    @property
    def slack(self) -> int:
        predicted = self.counted.predicted
        return min(predicted[stage] - taken - WORKSPACE for stage, taken in self.counted.peaks.items())

    @property
    def ratio(self) -> float:
        """The peak of all stages, predicted over counted."""
        return max(self.counted.predicted.values()) / (max(self.counted.peaks.values()) + WORKSPACE)

    @property
    def kept(self) -> bool:
        return self.counted.through and self.slack >= 0


def found(only: tuple[str, ...] = (), cards: tuple[float, ...] = ()) -> Iterator[Found]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        shelf = Shelf(Path(folder))
        for drawing, own in CARDS.items():
            for vram in own if not only or drawing.name in only else ():
                if not cards or vram in cards:
                    job = shelf.job(drawing)
                    yield Found(drawing, vram, counted(job, vram, str(Path(folder) / "out"), drawing.dtype))


def fit(names: tuple[str, ...] = ()) -> Iterator[tuple[Drawing, bool, Mapping[str, int]]]:
    """Of each drawing, whether in tiles, and the bytes of each stage beside the weights, on a card that has it all."""
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        shelf = Shelf(Path(folder))
        for model in names or FITTED:
            for drawing, tiled in _sizes(model):
                job, out = shelf.job(drawing), str(Path(folder) / "out")
                seen = counted(job, 0, out, drawing.dtype, tiled).seen
                yield drawing, tiled, {each.stage: each.size_bytes for each in seen}


def _sizes(model: str) -> Iterator[tuple[Drawing, bool]]:
    sides = FITTED[model]
    for side in sides:
        yield Drawing(model=model, side=side), False
    yield Drawing(model=model, side=sides[-1]), True
    yield Drawing(model=model, side=1024, cfg=False), False
    for side in (512, 1024):
        for weights in ("fp8", "int8", "int4"):
            yield Drawing(model=model, side=side, weights=weights), False


def main() -> int:
    args = parser().parse_args()
    only = tuple(args.only.split(",")) if args.only else ()
    if args.fit:
        for drawing, tiled, seen in fit(only):
            told = ", ".join(f"{stage} {size / 1e6:.1f} MB" for stage, size in seen.items())
            branches = "" if drawing.cfg else ", one branch"
            print(f"{drawing.name}{branches}{', tiles' if tiled else ''}: {told}", flush=True)
        return 0
    cards = tuple(float(text) for text in args.vram.split(",")) if args.vram else ()
    missed = 0
    for each in found(only, cards):
        missed += not each.kept
        print(line(each), flush=True)
    return int(missed > 0)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.truecards", description=__doc__)
    parser.add_argument("--only", default="", help="names of drawings (of models with --fit), with commas")
    parser.add_argument("--vram", default="", help="GiB of the cards, with commas")
    parser.add_argument("--fit", action="store_true", help="what computing takes, by size")
    return parser


def line(each: Found) -> str:
    told = each.counted
    stages = "  ".join(
        f"{stage.value} {predicted / GIB:5.2f} / {told.peaks.get(stage, 0) / GIB:5.2f}"
        for stage, predicted in told.predicted.items()
    )
    said = told.error or "; ".join(told.notes) or told.plan
    mark = "ok " if each.kept else "BAD"
    return f"{each.drawing.name:17} {each.vram:4g} GiB {mark} {stages}  x{each.ratio:.2f}  {said}"


if __name__ == "__main__":
    sys.exit(main())
