"""ControlNets: does the subject lie where the control picture says, and would it lie there without?

The captions tell what there is, not where or how large: that is the control picture's part.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from assets.demo.recipes.captions import caption, held_out
from assets.demo.recipes.depths import depth_of
from assets.demo.recipes.drawings import Drawing, random_drawing, render, subject_mask
from assets.demo.recipes.hints import unplaced
from pipelines.spec.request import ControlInput, GenerationRequest
from tests.benchmarks.demos.engine import Records, draw, request_of
from tests.benchmarks.demos.row import Row, Unit, not_trained
from tests.benchmarks.scoring import subject

WITH, WITHOUT = "subject where the picture says", "subject there without it"
LEAST, MOST, COUNT = 0.7, 0.3, 100
# By the kind of ControlNet: what is given of a drawing and its seed, and what the engine is to make of it first.
GIVEN: dict[str, tuple[Callable[[Drawing, int], Image.Image], str]] = {
    "canny": (render, "canny"),
    "depth": (depth_of, ""),
}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks; 0 for two empty ones."""
    one, other = one.astype(bool), other.astype(bool)
    return float((one & other).sum() / max(1, (one | other).sum()))


def pairs(count: int) -> list[tuple[str, Drawing]]:
    """Flat single shapes away from the middle, with held-out captions that do not tell place and size."""
    rng = random.Random(17)
    chosen: list[tuple[str, Drawing]] = []
    while len(chosen) < count:
        drawing = replace(random_drawing(rng, "single"), style="flat")
        text = caption(unplaced(drawing), rng)
        if (drawing.column, drawing.row) != ("middle", "middle") and held_out(text):
            chosen.append((text, drawing))
    return chosen


def masks(count: int) -> list[np.ndarray]:
    return [subject_mask(drawing, i) for i, (_, drawing) in enumerate(pairs(count))]


def asked(
    kind: str, net: str, base: str, records: Records, folder: Path, count: int
) -> tuple[list[GenerationRequest], list[GenerationRequest]]:
    """The same requests with and without the ControlNet `net`; its pictures are written into `folder`."""
    picture, preprocess = GIVEN[kind]
    bare = [request_of(records[base], text, i) for i, (text, _) in enumerate(pairs(count))]
    steered = []
    for i, (request, (_, drawing)) in enumerate(zip(bare, pairs(count), strict=True)):
        path = folder / f"control-{i}.png"
        picture(drawing, i).save(path)
        steer = ControlInput(model=net, path=str(path), preprocess=preprocess)
        steered.append(replace(request, controls=(steer,)))
    return steered, bare


def mean_overlap(requests: Sequence[GenerationRequest], records: Records, out: Path, device: str) -> float:
    drawn = draw(requests, records, out, device)
    wanted = masks(len(requests))
    return float(np.mean([overlap(subject(made), mask) for made, mask in zip(drawn, wanted, strict=True)]))


def rows(
    kind: str, net: str, base: str, records: Records, options: argparse.Namespace, out: Path
) -> list[Row]:
    if net not in records or base not in records:
        return [
            not_trained(net, WITH, LEAST, Unit.IOU),
            not_trained(net, WITHOUT, MOST, Unit.IOU, at_most=True),
        ]
    count = min(options.count, COUNT)
    steered, bare = asked(kind, net, base, records, out, count)
    figures = [mean_overlap(requests, records, out, options.device) for requests in (steered, bare)]
    return [
        Row(demo=net, topic=WITH, target=LEAST, unit=Unit.IOU, figure=figures[0], of=count),
        Row(demo=net, topic=WITHOUT, target=MOST, unit=Unit.IOU, figure=figures[1], of=count, at_most=True),
    ]
