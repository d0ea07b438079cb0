"""The published architectures at their true size, with random weights: counted, written, and run through main.py.

    python -m tests.benchmarks.fullsize                                       count only, and FLUX's plan
    python -m tests.benchmarks.fullsize --out DIR --models sd15,sdxl --dtype bf16 --run

Each model is built, and drawn with, in a process of its own, so that the peak of memory is its own too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.truesize.configs import MODELS, TrueSize
from tests.benchmarks.truesize.plan import GIB, Block, place

ROOT = Path(__file__).resolve().parents[2]
CARDS_GIB = (8, 12, 16, 24)
COUNTED_ONLY = ("flux",)  # 33 GB on disk; its plan is printed instead
HALF_BYTES = 2


@dataclass(frozen=True)
class Measured:
    """Of a child process: its exit status, wall-clock seconds, and the most memory it had at once."""

    status: int
    seconds: float
    peak_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    names = args.models.split(",")
    if unknown := sorted(set(names) - set(MODELS)):
        _parser().error(f"--models: there is no {', '.join(unknown)}; known: {', '.join(MODELS)}")
    if args.child:
        return _child(MODELS[names[0]], Path(args.out), args.dtype)
    failed = 0
    print(f"{'model':9} {'what':8} {'M params':>9} {'expected':>9} {'GB':>7} {'s':>7} {'peak GB':>8}")
    for size in (MODELS[name] for name in names):
        failed += _count(size)
        if args.out and size.name not in COUNTED_ONLY:
            failed += _write(size, Path(args.out), args.dtype)
            if args.run and size.runs:
                failed += _run(size, Path(args.out))
            if not args.keep:
                shutil.rmtree(Path(args.out) / size.name, ignore_errors=True)
        if size.name in COUNTED_ONLY:
            _print_plan(size)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fullsize", description=__doc__)
    add = parser.add_argument
    add("--out", metavar="DIR", help="where the models are written; without it they are only counted")
    add("--models", default=",".join(MODELS), help=f"comma separated, of {', '.join(MODELS)} (all)")
    add("--dtype", default="bf16", choices=("bf16", "fp16", "fp32"), help="of the weights on disk (bf16)")
    add("--run", action="store_true", help="draw with each: SD 1.5 256x256 2 steps, SDXL 512x512 1 step")
    add("--keep", action="store_true", help="leave the models there; else each goes after its turn")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def _count(size: TrueSize) -> int:
    """A line a part; how many are not as published."""
    from tests.benchmarks.truesize.writing import on_meta, parameters

    wrong = 0
    for name, part in size.parts.items():
        module = on_meta(part)
        if module is None:
            continue
        millions, expected = parameters(module) / 1e6, size.millions[name]
        off = abs(millions - expected) > 0.1
        wrong += off
        gigabytes = f"{millions * HALF_BYTES / 1e3:.2f}"
        mark = "  NOT as published" if off else ""
        print(f"{size.name:9} {name[:8]:8} {millions:9.1f} {expected:9.1f} {gigabytes:>7}{mark}")
    return wrong


def _write(size: TrueSize, out: Path, dtype: str) -> int:
    command = [
        sys.executable, "-m", "tests.benchmarks.fullsize", "--child", "--out", str(out),
        "--models", size.name, "--dtype", dtype,
    ]  # fmt: skip
    measured = measure(command)
    written = sum(file.stat().st_size for file in (out / size.name).rglob("*.safetensors"))
    _print_line(size.name, "write", measured, written)
    return int(measured.status != 0)


def _child(size: TrueSize, out: Path, dtype: str) -> int:
    import torch

    from tests.benchmarks.truesize.writing import DTYPES, write

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    write(size, out / size.name, DTYPES[dtype])
    return 0


def _run(size: TrueSize, out: Path) -> int:
    """One picture through the headless door."""
    pictures = out / f"{size.name}-pictures"
    command = [
        sys.executable, "main.py", "generate", "--prompt", "a red circle", "--seed", "1", "--json",
        "--models", str(out), "--model", size.name, "--out", str(pictures), *size.runs,
    ]  # fmt: skip
    measured = measure(command)
    made = list(pictures.rglob("*.png"))
    _print_line(size.name, "draw", measured, sum(file.stat().st_size for file in made))
    return int(measured.status != 0 or not made)


def measure(command: Sequence[str]) -> Measured:
    """Runs it to its end; what it says goes to stderr."""
    start = time.perf_counter()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    child = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, env=environment)
    if sys.platform == "win32":
        return Measured(child.wait(), time.perf_counter() - start, 0)
    _, status, usage = os.wait4(child.pid, 0)  # of this child alone, which getrusage cannot tell
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(child.returncode, time.perf_counter() - start, usage.ru_maxrss * unit)


def _print_line(name: str, what: str, measured: Measured, size_bytes: int) -> None:
    failed = f"  FAILED, exit status {measured.status}" if measured.status else ""
    print(
        f"{name:9} {what:8} {'':9} {'':9} {size_bytes / 1e9:7.2f} {measured.seconds:7.1f} "
        f"{measured.peak_bytes / 1e9:8.2f}{failed}",
        flush=True,
    )


def _print_plan(size: TrueSize) -> None:
    blocks, encoders = sizes_of(size)
    print(f"\n{size.name} in 16 bits: what would be placed where")
    for card in CARDS_GIB:
        plan = place(blocks, encoders, card)
        print(
            f"{card:3} GiB: {json.dumps(plan.encoders)}, streamed a step {plan.streamed_bytes / 1e9:.1f} GB"
        )
        for name, count in plan.resident.items():
            print(f"         {name}: {count} resident, {plan.streamed[name]} streamed")


def sizes_of(size: TrueSize) -> tuple[tuple[Block, ...], dict[str, int]]:
    """The transformer's blocks by kind, and the bytes of each encoder, in 16 bits."""
    from tests.benchmarks.truesize.writing import on_meta, parameters

    transformer = on_meta(size.parts["transformer"])
    assert transformer is not None
    whole, blocks = parameters(transformer) * HALF_BYTES, []
    for name in ("transformer_blocks", "single_transformer_blocks"):
        alike = getattr(transformer, name)
        blocks.append(Block(name, len(alike), parameters(alike[0]) * HALF_BYTES))
    rest = whole - sum(block.count * block.size_bytes for block in blocks)
    encoders = {
        name: int(size.millions[name] * 1e6) * HALF_BYTES for name in size.parts if name.startswith("text_")
    }
    assert whole < 100 * GIB
    return (Block("in and out", 1, rest), *blocks), encoders


if __name__ == "__main__":
    raise SystemExit(main())
