"""What `quantize --report` noted beside a model's file, as rows for a person. No file is trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.library.beside import REPORT, beside
from pipelines.library.own_facts import read_json
from pipelines.spec.errors import ModelError

ROWS = (
    "Made from",
    "On disk",
    "In memory",
    "Peak memory",
    "Seconds a picture",
    "CLIP score",
    "Pictures differ",
)


def report_rows(path: Path) -> tuple[tuple[str, str], ...]:
    """Names of `ROWS` with their texts; none where there is no report, and without what is damaged in it."""
    try:
        facts = read_json(beside(path, REPORT))
    except (ModelError, ValueError):
        return ()
    texts = {
        "Made from": str(facts.get("original", ""))[:200],
        "On disk": _pair(facts, "disk_bytes", _mb),
        "In memory": _pair(facts, "memory_bytes", _mb),
        "Peak memory": _pair(facts, "peak_bytes", _mb),
        "Seconds a picture": _pair(facts, "seconds", lambda value: f"{value:.2f}"),
        "CLIP score": _score(facts),
        "Pictures differ": _differ(facts),
    }
    return tuple((name, texts[name]) for name in ROWS if texts[name])


def _pair(facts: Mapping[str, Any], name: str, told: Any) -> str:
    """'after, was before'."""
    pair = facts.get(name)
    if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
        return ""
    return f"{told(pair[1])}, was {told(pair[0])}"


def _score(facts: Mapping[str, Any]) -> str:
    scores, scorer = _pair(facts, "clip_score", lambda value: f"{value:.3f}"), facts.get("scorer")
    return f"{scores} ({scorer[:60]})" if scores and isinstance(scorer, str) and scorer else scores


def _differ(facts: Mapping[str, Any]) -> str:
    psnr, ssim = facts.get("psnr"), facts.get("ssim")
    if not _is_number(ssim):
        return ""
    return f"PSNR {psnr:.1f} dB, SSIM {ssim:.3f}" if _is_number(psnr) else f"SSIM {ssim:.3f}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mb(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"
