"""Checkpoints in one file at their true size, random weights, no network: loaded beside bare diffusers, and drawn with.

    python -m tests.benchmarks.singlefile --out DIR --models sd15,sdxl --pairs 3 --draw

The names are those of published files (`shared/acceptance/models`), the weights random. Each load is a process of its
own, ours and `from_single_file` in turns. diffusers maps a file whose precision is kept and reads nothing yet, so
the seconds of a first look at every weight are added to both. The picture is made by main.py with every socket refused.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.fullsize import measure
from tests.benchmarks.pairs import AB, Pairs, Sample, in_turns
from tests.benchmarks.probes.told import peak_bytes
from tests.benchmarks.recognise import COLLECTION
from tests.benchmarks.truesize.configs import MODELS

if TYPE_CHECKING:
    from pipelines.runtime.engine import Engine

MAX_TIME_RATIO, MAX_MEMORY_RATIO = 1.1, 1.15
_CHUNK = 1 << 24
# N7: every way out of the process is refused and counted.
_OFFLINE = """
import socket, sys
calls = []

def refused(self, *address):
    calls.append(address)
    raise OSError("offline")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refused
from main import main
status = main(sys.argv[1:])
print("connections:", len(calls), file=sys.stderr, flush=True)
sys.exit(status or bool(calls))
"""


@dataclass(frozen=True)
class Case:
    """`manifest` of the collection; `size` of `MODELS`, whose `runs` say which picture is made."""

    manifest: str
    family: str
    size: str


CASES = {
    "sd15": Case("ckpt_sd15_ldm_fp16_pruned", "sd1", "sd15"),
    "sdxl": Case("ckpt_sdxl_base_sgm_fp16", "sdxl", "sdxl"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    if args.child:
        print(json.dumps(_CHILDREN[args.child](args)))
        return 0
    names = args.models.split(",")
    if unknown := sorted(set(names) - set(CASES)):
        _parser().error(f"--models: there is no {', '.join(unknown)}; known: {', '.join(CASES)}")
    if not COLLECTION.is_dir():
        print(f"The acceptance collection is not at {COLLECTION}.")
        return 2
    failed = 0
    for name in names:
        file = written(CASES[name], Path(args.out) / name)
        if args.pairs:
            failed += _loads(name, file, args)
        if args.draw:
            failed += _draws(name, file, args.dtype)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.singlefile", description=__doc__)
    add = parser.add_argument
    add("--out", metavar="DIR", required=True, help="where the files are written, and kept for the next time")
    add("--models", default="sd15", help=f"comma separated, of {', '.join(CASES)} (sd15)")
    add("--pairs", type=int, default=3, help="loads of each, in turns; 0 for none (3)")
    add(
        "--dtype",
        default="float32",
        help="what is computed in: float32, as the CPU does, or float16 (float32)",
    )
    add("--draw", action="store_true", help="make a picture: SD 1.5 256x256 2 steps, SDXL 512x512 1 step")
    add("--child", choices=tuple(_CHILDREN), help=argparse.SUPPRESS)
    add("--file", help=argparse.SUPPRESS)
    add("--config", help=argparse.SUPPRESS)
    return parser


def written(case: Case, folder: Path) -> Path:
    """The file with random weights, N(0, 0.02) and those of norms around 1, made by the collection's own script."""
    script = [sys.executable, str(COLLECTION / "make_safetensors.py"), str(folder), case.manifest]
    marker = folder / "filled"
    if not marker.is_file():
        subprocess.run(script, check=True, capture_output=True)
        (file,) = (folder / case.manifest).glob("*.safetensors")
        _fill(file)
        marker.touch()
    (file,) = (folder / case.manifest).glob("*.safetensors")
    return file


def _fill(path: Path) -> None:
    import numpy as np

    generator = np.random.default_rng(0)
    noise = (generator.standard_normal(_CHUNK, dtype=np.float32) * 0.02).astype(np.float16)
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            begin, end = entry["data_offsets"]
            if entry["dtype"] != "F16":
                continue
            file.seek(8 + length + begin)
            plus = np.float16(name.endswith("weight") and len(entry["shape"]) == 1)
            left = (end - begin) // 2
            while left:
                start = int(generator.integers(0, _CHUNK // 2))
                piece = noise[start : start + left] + plus
                file.write(piece.tobytes())
                left -= len(piece)


def compared(name: str, file: Path, out: Path, dtype: str, pairs: int, against: str = "theirs") -> Pairs:
    """Our load of the file and another, in turns, each in a process of its own; keys as in `sampled`.

    `against`: theirs, `from_single_file`, or plain, which does no more than to read the file into memory of its own.
    """
    with tempfile.TemporaryDirectory() as config:
        _write_configs(CASES[name], Path(config))

        def side(which: str) -> Sample:
            command = [
                sys.executable, "-m", "tests.benchmarks.singlefile", "--out", str(out), "--child", which,
                "--models", name, "--file", str(file), "--config", config, "--dtype", dtype,
            ]  # fmt: skip
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
            sample = json.loads(done.stdout.splitlines()[-1])
            print(f"  {which:7}{json.dumps(sample)}", file=sys.stderr, flush=True)
            return sample

        read_through(file)  # into the system's memory, or the first load alone pays for the disk
        for which in ("ours", against):  # and their imports
            side(which)
        return in_turns(lambda: side("ours"), lambda: side(against), pairs, AB)


def read_through(file: Path) -> float:
    """Seconds in which the file is read from its begin to its end."""
    start = time.perf_counter()
    with file.open("rb", buffering=0) as whole:
        while whole.read(_CHUNK):
            pass
    return time.perf_counter() - start


def _loads(name: str, file: Path, args: argparse.Namespace) -> int:
    """A line of medians; 1 when a limit is passed."""
    pairs = compared(name, file, Path(args.out), args.dtype, args.pairs)
    failed = 0
    for key, limit in (("ready_s", MAX_TIME_RATIO), ("ready_cpu_s", MAX_TIME_RATIO), ("load_s", None)):
        ours, theirs = pairs.middles(key)
        ratio = pairs.ratio(key)
        failed += limit is not None and ours / theirs > limit
        print(
            f"{name} {args.dtype} {key:12} ours {ours:7.2f}  theirs {theirs:7.2f}  of medians {ours / theirs:.2f}  "
            f"of pairs {ratio.middle:.2f} [{ratio.lo:.2f}-{ratio.hi:.2f}]"
        )
    ours, theirs = pairs.middles("memory")
    print(
        f"{name} {args.dtype} peak memory / bytes of the weights: ours {ours:.3f}  theirs {theirs:.3f}",
        flush=True,
    )
    return int(bool(failed) or ours > MAX_MEMORY_RATIO)


def _write_configs(case: Case, folder: Path) -> None:
    """What from_single_file needs to know, so that it asks nobody: the folder of the model without its weights."""
    from tests.benchmarks.truesize.writing import write_configs

    write_configs(MODELS[case.size], folder)


def engine_for(out: str, dtype: str) -> Engine:
    from pipelines.runtime.engine import build
    from pipelines.spec.options import EngineOptions

    return build(EngineOptions(output_dir=out, device="cpu", dtype=dtype))


def parts_of(engine: Engine, path: Path) -> Iterable[Any]:
    """Of the model at `path`, loaded by the engine unless it has them."""
    from pipelines.library.models import record_of
    from pipelines.spec.families import by_id
    from pipelines.spec.job import Job
    from pipelines.spec.request import GenerationRequest

    record = record_of(path)
    job = Job(id=1, request=GenerationRequest(model=record.id), model=record)
    return engine.compute.load(job, by_id(record.family)).parts.values()


def _ours(args: argparse.Namespace) -> Sample:
    engine = engine_for(args.out, args.dtype)
    return sampled(lambda: parts_of(engine, Path(args.file)))


def _theirs(args: argparse.Namespace) -> Sample:
    import diffusers
    import torch

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    build = getattr(diffusers, MODELS[CASES[args.models].size].class_name)
    for name in ("UNet2DConditionModel", "AutoencoderKL"):
        getattr(diffusers, name)  # their modules are imported when they are first named
    dtype = getattr(torch, args.dtype)
    told: dict[str, Any] = {"config": args.config, "local_files_only": True, "torch_dtype": dtype}
    return sampled(lambda: build.from_single_file(args.file, **told).components.values())


def _plain(args: argparse.Namespace) -> Sample:
    """What no load that keeps its weights in memory of its own can be quicker than."""
    pieces: list[bytearray] = []
    start, cpu = time.perf_counter(), time.process_time()
    with open(args.file, "rb", buffering=0) as whole:
        while count := whole.readinto(piece := bytearray(_CHUNK)):
            pieces.append(piece[:count] if count < _CHUNK else piece)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {"ready_s": seconds, "ready_cpu_s": cpu_s}


def sampled(load: Callable[[], Iterable[Any]]) -> Sample:
    """Seconds until the parts are there, and until every weight has been looked at; memory as a share of theirs."""
    import psutil

    before = psutil.Process().memory_info().rss
    start, cpu = time.perf_counter(), time.process_time()
    parts = [part for part in load() if hasattr(part, "parameters")]
    load_s = time.perf_counter() - start
    weights = [weight.detach() for part in parts for weight in part.parameters()]
    for weight in weights:
        weight.view(-1)[::1024].sum()  # a look at every page
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    size = sum(weight.nbytes for weight in weights)
    memory = (peak_bytes() - before) / size
    return {"load_s": load_s, "ready_s": seconds, "ready_cpu_s": cpu_s, "memory": memory, "gb": size / 1e9}


def _draws(name: str, file: Path, dtype: str) -> int:
    pictures = file.parent / "pictures"
    before = set(pictures.rglob("*.png"))
    runs = [word for word in MODELS[CASES[name].size].runs if word not in ("--dtype", "bfloat16")]
    command = [
        sys.executable, "-c", _OFFLINE, "generate", "--prompt", "a red circle", "--seed", "1", "--json",
        "--device", "cpu", "--dtype", dtype, "--models", str(file.parent), "--model", str(file),
        "--out", str(pictures), *runs,
    ]  # fmt: skip
    measured = measure(command)
    made = set(pictures.rglob("*.png")) - before
    print(
        f"{name} {dtype} picture: exit status {measured.status} with all sockets refused and counted, "
        f"{len(made)} made, {measured.seconds:.0f} s, peak {measured.peak_bytes / 1e9:.2f} GB",
        flush=True,
    )
    return int(measured.status != 0 or len(made) != 1)


_CHILDREN = {"ours": _ours, "theirs": _theirs, "plain": _plain}

if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    raise SystemExit(main())
