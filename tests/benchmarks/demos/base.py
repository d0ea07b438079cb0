"""The base models: do they draw held-out prompts, and does the refiner bring a picture nearer to the drawing?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from assets.demo.recipes.drawings import render
from pipelines.spec.request import Refiner
from tests.benchmarks import semantics
from tests.benchmarks.demos.engine import Records, draw, request_of
from tests.benchmarks.demos.row import Row, Unit, not_trained
from tests.benchmarks.demos.upscaler import decibels
from tests.benchmarks.prompts import prompts

VELOCITY = {"color": 0.90, "background": 0.90}  # demo-sd-v may be smaller, and is asked for no more
_NEARER = "nearer to the drawing than base"


def rows(
    demo: str, records: Records, options: argparse.Namespace, out: Path, targets: Mapping[str, float]
) -> list[Row]:
    """One row for each topic of `targets`."""
    if demo not in records:
        return [not_trained(demo, topic, target) for topic, target in targets.items()]
    seen = semantics.measure(records[demo], options, out)["rows"]
    return [
        Row(demo=demo, topic=topic, target=target, figure=seen[topic]["share"], of=seen[topic]["of"])
        for topic, target in targets.items()
    ]


def refiner_rows(demo: str, base: str, records: Records, options: argparse.Namespace, out: Path) -> list[Row]:
    """How many decibels nearer the pictures of base and refiner are than those of the base, in as many steps."""
    if demo not in records or base not in records:
        return [not_trained(demo, _NEARER, 0.0, Unit.DECIBEL, above=True)]
    asked = prompts(min(options.count, 50))
    alone = [request_of(records[base], text, options.seed + i) for i, (text, _) in enumerate(asked)]
    both = [replace(request, refiner=Refiner(model=demo)) for request in alone]
    clean = [np.asarray(render(drawing, i)) for i, (_, drawing) in enumerate(asked)]
    near = [
        [
            decibels(made, sheet)
            for made, sheet in zip(draw(asks, records, out, options.device), clean, strict=True)
        ]
        for asks in (alone, both)
    ]
    gain = float(np.mean(np.subtract(near[1], near[0])))
    return [
        Row(demo=demo, topic=_NEARER, target=0.0, unit=Unit.DECIBEL, figure=gain, of=len(clean), above=True)
    ]
