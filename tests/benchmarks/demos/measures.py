"""`MEASURES`: everything that is asked of the demos, in the order in which it is shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.library.models import scan
from pipelines.spec.record import ModelRecord
from tests.benchmarks.demos import base, control, embedding, ip_adapter, lora, scorer, upscaler
from tests.benchmarks.demos.engine import Records
from tests.benchmarks.demos.row import Row
from tests.benchmarks.semantics import TARGETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`root` holds the demos' folders; `out` is for pictures."""

    root: Path
    records: Records
    options: argparse.Namespace
    out: Path

    def folder(self, name: str) -> Path:
        """A folder of its own for the pictures of one demo."""
        path = self.out / name
        path.mkdir(parents=True, exist_ok=True)
        return path


Measure = Callable[[Context], list[Row]]


def _base(demo: str, targets: dict[str, float] = TARGETS) -> Measure:
    return lambda c: base.rows(demo, c.records, c.options, c.folder(demo), targets)


def _control(kind: str, net: str, model: str) -> Measure:
    return lambda c: control.rows(kind, net, model, c.records, c.options, c.folder(net))


def _lora(style: str, name: str, model: str) -> Measure:
    return lambda c: lora.rows(style, name, model, c.records, c.options, c.folder(name))


def _embedding(name: str, model: str) -> Measure:
    return lambda c: embedding.rows(name, model, c.records, c.options, c.folder(name))


def _ip_adapter(name: str, model: str) -> Measure:
    return lambda c: ip_adapter.rows(name, model, c.records, c.options, c.folder(name))


MEASURES: tuple[Measure, ...] = (
    _base("demo-sd"),
    _base("demo-sdxl"),
    lambda c: base.refiner_rows(
        "demo-sdxl-refiner", "demo-sdxl", c.records, c.options, c.folder("demo-sdxl-refiner")
    ),
    _base("demo-flux"),
    _base("demo-sd-v", base.VELOCITY),
    _control("canny", "demo-sd-canny", "demo-sd"),
    _control("canny", "demo-sdxl-canny", "demo-sdxl"),
    _control("canny", "demo-flux-canny", "demo-flux"),
    _control("depth", "demo-sd-depth", "demo-sd"),
    _lora("neon", "demo-sd-neon", "demo-sd"),
    _lora("crayon", "demo-sd-crayon", "demo-sd"),
    _lora("mosaic", "demo-sd-mosaic", "demo-sd"),
    _lora("neon", "demo-sdxl-neon", "demo-sdxl"),
    _lora("neon", "demo-flux-neon", "demo-flux"),
    _embedding("demo-sd-embedding", "demo-sd"),
    _ip_adapter("demo-sd-ip-adapter", "demo-sd"),
    lambda c: scorer.rows(c.root),
    lambda c: upscaler.rows(c.root),
)


def _as_shipped(record: ModelRecord) -> ModelRecord:
    """A single file, which has no say in its id, gets its `demo-` with the folder of the demos only."""
    return record if record.id.startswith("demo-") else replace(record, id=f"demo-{record.id}")


def rows(root: Path, options: argparse.Namespace, out: Path) -> Iterator[Row]:
    """Every row, as it is measured. A demo with a problem is as good as none."""
    found = [_as_shipped(record) for record in scan([root]) if not record.problem]
    records = {record.id: record for record in found}
    context = Context(root=root, records=records, options=options, out=out)
    for measure in MEASURES:
        yield from measure(context)
