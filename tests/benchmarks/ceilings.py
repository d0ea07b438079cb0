"""What the machine can do at best: copies and matrix products, on random data. About ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

MB = 1_000_000


def ceilings(device: str, quick: bool) -> dict[str, Any]:
    """GB/s and TFLOPS (1 multiply-add = 2) under the names of the fingerprint."""
    return _cuda(quick) if device == "cuda" else _cpu(quick)


def _cpu(quick: bool) -> dict[str, Any]:
    side = 512 if quick else 2048
    size = 64 * MB if quick else 512 * MB
    rate = {name: _matmul_tflops("cpu", side, dtype) for name, dtype in _CPU_DTYPES.items()}
    return {
        "threads": torch.get_num_threads(),
        "matmul_tflops": rate,
        "copy_gbs": _copy_gbs("cpu", "cpu", size),
    }


def _cuda(quick: bool) -> dict[str, Any]:
    side = 4096 if quick else 8192
    small, large = 64 * MB, (256 if quick else 1000) * MB
    rate = {name: _matmul_tflops("cuda", side, dtype) for name, dtype in _CUDA_DTYPES.items()}
    rate["fp16_acc16"] = _fp16_accumulation_tflops(side)
    return {
        "pcie_h2d_gbs": {
            "64MB": _copy_gbs("pinned", "cuda", small),
            "1GB": _copy_gbs("pinned", "cuda", large),
        },
        "pcie_d2h_gbs": {
            "64MB": _copy_gbs("cuda", "pinned", small),
            "1GB": _copy_gbs("cuda", "pinned", large),
        },
        "pageable_h2d_gbs": _copy_gbs("cpu", "cuda", large),
        "copy_gbs": _copy_gbs("cuda", "cuda", large),
        "matmul_tflops": {**rate, "fp8": _fp8_tflops(side)},
        "sdpa_tflops": _sdpa_tflops(),
    }


_CPU_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_CUDA_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _seconds(work: Callable[[], object], device: str, repeats: int = 5) -> float:
    """The median of `repeats` runs after one that warms up."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def _buffer(place: str, size: int) -> torch.Tensor:
    where = "cuda" if place == "cuda" else "cpu"
    data = torch.randint(0, 255, (size,), dtype=torch.uint8, device=where)
    return data.pin_memory() if place == "pinned" else data


def _copy_gbs(source: str, target: str, size: int) -> float:
    """Bytes moved once a copy; a copy inside one memory reads and writes, but counts its bytes once."""
    a, b = _buffer(source, size), _buffer(target, size)
    device = "cuda" if "cuda" in (source, target) else "cpu"
    return round(size / _seconds(lambda: b.copy_(a, non_blocking=True), device) / 1e9, 2)


def _matmul_tflops(device: str, side: int, dtype: torch.dtype) -> float:
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    return round(2 * side**3 / _seconds(lambda: a @ b, device) / 1e12, 3)


def _fp16_accumulation_tflops(side: int) -> float:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_accumulation
    matmul.allow_fp16_accumulation = True
    try:
        return _matmul_tflops("cuda", side, torch.float16)
    finally:
        matmul.allow_fp16_accumulation = before


def _fp8_tflops(side: int) -> float | None:
    """None before Ada (compute capability 8.9), which has no such product."""
    if torch.cuda.get_device_capability() < (8, 9):
        return None
    one = torch.ones((), device="cuda")
    a = torch.randn(side, side, device="cuda").to(torch.float8_e4m3fn)
    b = torch.randn(side, side, device="cuda").to(torch.float8_e4m3fn).t()

    def product() -> torch.Tensor:
        return torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    return round(2 * side**3 / _seconds(product, "cuda") / 1e12, 3)


def _sdpa_tflops(tokens: int = 4608, heads: int = 24, width: int = 128) -> float:
    """Attention of the size that FLUX has at 1024 x 1024 with 512 text tokens."""
    q, k, v = (torch.randn(1, heads, tokens, width, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    work = 4 * heads * tokens**2 * width
    attention = torch.nn.functional.scaled_dot_product_attention
    return round(work / _seconds(lambda: attention(q, k, v), "cuda") / 1e12, 3)
