"""What fewer bits save and what they cost: each demo as it is, and packed as `GenerationRequest.weights` can.

    python -m tests.benchmarks.quantised [--models demo-sd demo-sdxl demo-flux] [--count 100] [--json FILE]

`size` is of the denoiser (and T5) in memory against float32, `step` the time of one step of the denoiser against
float32's, the least of several in one run, turn by turn. `right` is the share of all that the held-out prompts ask for,
as `semantics` judges it, `pixels` the mean distance of a picture from float32's, of 255. Exits 1 where int8 is more
than 2 points below float32, or int4 or nf4 more than 5.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.library.weights import sizes_of
from pipelines.runtime.engine import build
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from pipelines.spec.weights import NAMES
from tests.benchmarks import semantics
from tests.benchmarks.prompts import prompts
from tests.benchmarks.scoring import judge, read

_POINTS = {"": 0.0, "fp8": 0.02, "int8": 0.02, "int4": 0.05, "nf4": 0.05}  # that may be lost
_TURNS = 12


def bytes_of(record: ModelRecord, weights: str) -> int:
    sizes = sizes_of([record], itemsize=4, weights=weights)
    packed = {"transformer", "unet", "text_encoder_2"} if record.family == "flux" else {"unet"}
    return sum(n.size_bytes for n in (*sizes.denoisers, *sizes.encoders) if n.name in packed)


def step_seconds(record: ModelRecord) -> dict[str, float]:
    """Of one call of the denoiser, by the weights; the calls take turns, so that a busy machine slows all alike."""
    engine: Any = build(EngineOptions(output_dir=".", device="cpu", threads=1))
    family = by_id(record.family)
    calls, seconds = {}, dict[str, float]()
    for weights in ("", *NAMES):
        job = Job(id=1, request=GenerationRequest(model=record.id, weights=weights), model=record)
        network = getattr(engine.compute.load(job, family), family.denoiser)
        calls[weights] = network, inputs(network, record)
    with torch.inference_mode():
        for _ in range(_TURNS):
            for weights, (network, given) in calls.items():
                start = time.perf_counter()
                network(**given)
                took = time.perf_counter() - start
                seconds[weights] = min(took, seconds.get(weights, took))
    return seconds


def inputs(network: Any, record: ModelRecord) -> Mapping[str, Any]:
    """Noise, as a picture of the model's own size has it, with and without the prompt at once."""
    config, side = network.config, record.native_size // 8
    if record.family == "flux":
        places = side // 2
        image = torch.zeros(places * places, 3)
        image[:, 1] = torch.arange(places).repeat_interleave(places)
        image[:, 2] = torch.arange(places).repeat(places)
        return {
            "hidden_states": torch.randn(1, places * places, config.in_channels),
            "encoder_hidden_states": torch.randn(1, 64, config.joint_attention_dim),
            "pooled_projections": torch.randn(1, config.pooled_projection_dim),
            "timestep": torch.tensor([0.5]),
            "guidance": torch.tensor([3.5]),
            "img_ids": image,
            "txt_ids": torch.zeros(64, 3),
        }
    given: dict[str, Any] = {
        "sample": torch.randn(2, config.in_channels, side, side),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(2, 77, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(2, width), "time_ids": torch.ones(2, 6)}
    return given


def measure(record: ModelRecord, options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """A row for each way to pack the weights, float32 first."""
    asked, seconds = prompts(options.count), step_seconds(record)
    rows, wide = list[dict[str, Any]](), list[np.ndarray]()
    for weights in ("", *NAMES):
        options.weights = weights
        right, total, off, times = 0, 0, list[float](), list[float]()
        drawn = semantics.draw(record, asked, options, out)
        for number, (drawing, picture, took) in enumerate(drawn):
            found = judge(drawing, read(picture)).values()
            right, total = right + sum(found), total + len(found)
            times.append(took)
            if not weights:
                wide.append(picture)
            off.append(float(np.abs(picture.astype(float) - wide[number]).mean()))
            print(f"\r{record.id} {weights} {number + 1}/{len(asked)}", end="", file=sys.stderr, flush=True)
        share = right / total
        first = rows[0] if rows else {"right": share}
        rows.append(
            {
                "model": record.id,
                "weights": weights or "float32",
                "size_bytes": bytes_of(record, weights),
                "size": bytes_of(record, weights) / bytes_of(record, ""),
                "step": seconds[weights] / seconds[""],
                "seconds": float(np.median(times)),
                "right": share,
                "of": total,
                "pixels": float(np.mean(off)),
                "met": share >= first["right"] - _POINTS[weights],
            }
        )
    print(file=sys.stderr)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'model':<12}{'weights':<9}{'MB':>7}{'size':>7}{'step':>7}{'s':>7}{'right':>8}{'of':>6}{'pixels':>8}  verdict"
    ]
    lines += [
        f"{row['model']:<12}{row['weights']:<9}{row['size_bytes'] / 1e6:>7.1f}{row['size']:>7.2f}"
        f"{row['step']:>7.2f}{row['seconds']:>7.2f}{row['right']:>8.1%}{row['of']:>6}{row['pixels']:>8.2f}"
        f"  {'met' if row['met'] else 'MISSED'}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["demo-sd", "demo-sdxl", "demo-flux"])
    parser.add_argument("--count", type=int, default=100, help="held-out prompts for each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.steps, options.guidance, options.seed, options.device = 0, None, 0, "cpu"
    records = {record.id: record for record in scan([demo_root()])}
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            if name not in records:
                parser.error(f"--models: '{name}' is not among the demos")
            rows += measure(records[name], options, Path(folder))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
