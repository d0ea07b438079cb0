"""LoRAs: does a small trained judge say that pictures have the style, and is weight 0 no LoRA at all?"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from assets.demo.recipes import style_reader
from pipelines.spec.request import GenerationRequest, LoraInput
from tests.benchmarks.demos.engine import Records, draw, request_of
from tests.benchmarks.demos.row import Row, not_trained, share
from tests.benchmarks.prompts import prompts

STYLE, NOTHING = "pictures have the style", "weight 0 equals no LoRA"
TARGET, COUNT, SAME = 0.90, 50, 3


def judge(options: argparse.Namespace, out: Path) -> style_reader.StyleReader:
    """Trained where it is missing; its own share of right answers is printed by its recipe."""
    work = options.work or out
    if not (work / "style_reader.pt").exists():
        style_reader.main(["--work", str(work)])
    return style_reader.load(work)


def with_lora(request: GenerationRequest, lora: str, weight: float) -> GenerationRequest:
    return replace(request, loras=(LoraInput(model=lora, weight=weight),))


def rows(
    style: str, lora: str, base: str, records: Records, options: argparse.Namespace, out: Path
) -> list[Row]:
    if lora not in records or base not in records:
        return [not_trained(lora, STYLE, TARGET), not_trained(lora, NOTHING, 1.0)]
    bare = [request_of(records[base], text, options.seed + i)
            for i, (text, _) in enumerate(prompts(min(options.count, COUNT)))]  # fmt: skip
    styled = list(draw([with_lora(each, lora, 1.0) for each in bare], records, out, options.device))
    seen = style_reader.read(judge(options, out), np.stack(styled))
    plain = list(draw(bare[:SAME], records, out, options.device))
    off = draw([with_lora(each, lora, 0.0) for each in bare[:SAME]], records, out, options.device)
    same = [bool((one == other).all()) for one, other in zip(plain, off, strict=True)]
    return [share(lora, STYLE, [name == style for name in seen], TARGET), share(lora, NOTHING, same, 1.0)]
