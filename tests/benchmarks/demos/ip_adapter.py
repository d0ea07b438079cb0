"""IP-Adapters: does the subject take its hue from the picture, when the caption keeps quiet about colours?"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import numpy as np

from assets.demo.recipes.drawings import SHAPES, Drawing, random_drawing, render
from assets.demo.recipes.small import UNSEEN
from pipelines.spec.request import GenerationRequest, IpAdapterInput
from tests.benchmarks.demos.engine import Records, draw, request_of
from tests.benchmarks.demos.row import Row, not_trained, share
from tests.benchmarks.scoring import subject_hue

HUE = "hue follows the picture"
TARGET, COUNT = 0.80, 70
WITHIN = 15.0  # degrees; orange and yellow, the nearest of the palette, are 21 apart
HUES = ("red", "orange", "yellow", "green", "blue", "purple", "pink")


def cases(count: int) -> list[tuple[str, Drawing]]:
    """What to draw, and the picture to show: flat, another shape, each hue as often as the others."""
    rng = random.Random(23)
    chosen: list[tuple[str, Drawing]] = []
    while len(chosen) < count:
        drawing = replace(random_drawing(rng, "single"), style="flat")
        if drawing.color == HUES[len(chosen) % len(HUES)]:
            other = rng.choice([shape for shape in SHAPES if shape != drawing.shape])
            chosen.append((f"a {other}", drawing))
    return chosen


def follows(made: np.ndarray, shown: np.ndarray) -> bool:
    """Whether both subjects have a hue, and the same one."""
    one, other = subject_hue(made), subject_hue(shown)
    if one is None or other is None:
        return False
    apart = abs(one - other) % 360
    return min(apart, 360 - apart) <= WITHIN


def asked(
    name: str, base: str, records: Records, folder: Path, count: int
) -> tuple[list[GenerationRequest], list[np.ndarray]]:
    """The requests and the pictures that they show, which are written into `folder`."""
    requests, shown = [], []
    for i, (text, drawing) in enumerate(cases(count)):
        path = folder / f"shown-{i}.png"
        picture = render(drawing, UNSEEN + i)
        picture.save(path)
        shown.append(np.asarray(picture))
        given = IpAdapterInput(model=name, path=str(path), scale=1.0)
        requests.append(replace(request_of(records[base], text, i), ip_adapters=(given,)))
    return requests, shown


def rows(name: str, base: str, records: Records, options: argparse.Namespace, out: Path) -> list[Row]:
    if name not in records or base not in records:
        return [not_trained(name, HUE, TARGET)]
    requests, shown = asked(name, base, records, out, min(options.count, COUNT))
    drawn = draw(requests, records, out, options.device)
    return [share(name, HUE, [follows(*pair) for pair in zip(drawn, shown, strict=True)], TARGET)]
