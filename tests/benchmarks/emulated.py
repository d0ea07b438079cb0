"""A true-size model drawn on cards that do not exist: what lies on them is counted, and more than they have is refused.

    python -m tests.benchmarks.emulated FILE --vram 4,6,8 [--size 512x512] [--steps 1] [--weights int8]

The processor computes, so seconds tell nothing; bytes do, but for what computes in float32 here and in 16 bits on a
card: activations are up to twice theirs. Pictures are compared with that of the largest card, bit for bit. FILE may
have random weights (tests.benchmarks.singlefile writes such).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from pipelines.library.models import record_of
from pipelines.runtime.compute import Compute
from pipelines.runtime.engine import Engine, build
from pipelines.runtime.placement_words import gb, words
from pipelines.spec.errors import EngineError
from pipelines.spec.events import Event, ImageSaved, StageChanged
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.request import GenerationRequest, Prompt, Sampling, Size
from tests.runtime.fake_card import FakeCard, counting, counting_weights


def main() -> int:
    args = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as out:
        options = EngineOptions(output_dir=out, device="cpu", dtype=args.dtype, preview_interval_s=0)
        build(options).close()  # the imports
        seen, pictures = (), set[str]()
        for vram in sorted((float(text) for text in args.vram.split(",")), reverse=True):
            seen, picture = drawn(args, options, vram, seen)
            pictures |= {picture}
    print("all pictures are equal" if len(pictures) == 1 else f"pictures differ: {pictures}")
    return int(len(pictures) != 1)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.emulated", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--vram", default="8,6,4", help="GiB of the cards, with commas")
    parser.add_argument("--size", default="", help="such as 512x512 (the model's own)")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--dtype", default="float16", help="how weights are stored (float16)")
    parser.add_argument("--weights", default="", help="fp8, int8, int4 or nf4")
    return parser


def drawn(args: argparse.Namespace, options: EngineOptions, vram: float, seen: tuple) -> tuple[tuple, str]:
    """What was measured so far, and the digest of the picture's pixels, or why there is none."""
    card = FakeCard(int((vram - 0.9) * 2**30))
    compute = Compute(options, card)
    compute._usage.seen = seen
    engine, patches = Engine(compute, options), pytest.MonkeyPatch()
    patches.setattr(compute, "load_all", counting_weights(compute, card))
    saved: list[ImageSaved] = []

    def emit(event: Event) -> None:
        if isinstance(event, ImageSaved):
            saved.append(event)
        elif isinstance(event, StageChanged) and event.note:
            print(f"    {event.note}")

    start, job = time.perf_counter(), _job(args)
    print(f"{vram:g} GiB: {words(compute.plan(job))}", flush=True)
    with contextlib.closing(engine), counting(card.memory, patches):
        try:
            engine.run(job, emit)
        except EngineError as error:
            print(f"    no picture: {error}")
            return compute._usage.seen, str(error)
        seconds, most = time.perf_counter() - start, card.memory.ever
        print(f"    at the most {gb(most)} of {gb(card.memory.limit)}, {seconds:.0f} s", flush=True)
        return compute._usage.seen, hashlib.sha256(Image.open(saved[-1].path).tobytes()).hexdigest()[:12]


def _job(args: argparse.Namespace) -> Job:
    record = record_of(args.file)
    family = by_id(record.family)
    side = record.native_size or family.sizes.native
    width, height = (int(text) for text in args.size.split("x")) if args.size else (side, side)
    request = GenerationRequest(
        model=record.id, prompt=Prompt(text="a red circle"), size=Size(width=width, height=height),
        sampling=Sampling(
            scheduler=family.sampling.scheduler, num_inference_steps=args.steps, guidance_scale=1.0, seed=1
        ),
        weights=args.weights,
    )  # fmt: skip
    return Job(id=1, request=request, model=record)


if __name__ == "__main__":
    sys.exit(main())
