"""One file, loaded by the engine: for the first time, after another model, and cold from the disk.

argv: the file, another model's folder, a folder for pictures, the precision.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

from tests.benchmarks.probes.told import answer
from tests.benchmarks.singlefile import engine_for, parts_of, read_through, sampled


def evict(file: Path) -> None:
    """Out of the system's memory, as far as nobody has it mapped."""
    with file.open("rb") as whole:
        os.fsync(whole.fileno())
        os.posix_fadvise(whole.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(file: Path, other: Path, out: str, dtype: str) -> None:
    engine = engine_for(out, dtype)
    parts_of(engine, other)  # what is imported at a first load
    first = sampled(lambda: parts_of(engine, file))
    parts_of(engine, other)
    start = time.perf_counter()
    parts_of(engine, file)
    again_s = time.perf_counter() - start
    engine.free()
    gc.collect()
    evict(file)
    cold = sampled(lambda: parts_of(engine, file))
    engine.free()
    gc.collect()
    evict(file)
    answer(first_s=first["ready_s"], again_s=again_s, cold_s=cold["ready_s"], read_s=read_through(file))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
