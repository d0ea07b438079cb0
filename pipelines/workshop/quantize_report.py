"""What a model in fewer bits saves and what it costs: the same pictures with it and with what it was made from.

Each model draws in a process of its own, whose peak of memory is then its own. Of the pictures, PSNR
and SSIM (Wang et al. 2004) over windows of 8 pixels are told, which is nearer to what eyes see. CLIP's score (Hessel et
al. 2021) is the cosine of picture and prompt.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from pipelines.library.beside import REPORT, beside
from pipelines.library.files import remove, write_temporary
from pipelines.library.folders import demo_root
from pipelines.library.own_facts import read_json
from pipelines.spec.errors import EngineError, ModelError
from pipelines.spec.events import Event, ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord, State
from pipelines.spec.request import GenerationRequest, Prompt, Size

VERSION = 1
PROMPTS = (
    "a large red circle on a blue background",
    "a small yellow star in the top left corner on a white background",
    "three green squares on a black background",
    "a blue triangle above an orange square on a white background",
    "a house by day",
    "a purple heart on a yellow background",
    "two red stars on a green background",
    "a tree at night",
)
_SSIM = 8  # pixels of a window
_LOOK_S = 0.2  # seconds between two looks for a cancel
_END_S = 10.0  # for a process to end that has told what it had to
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def compared(
    original: ModelRecord,
    made: ModelRecord,
    pictures: int = 8,
    scorer: Path | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The facts of the report, plain JSON. `scorer` is the folder of a CLIP, the demos' own unless given.

    `check` is called while the models draw, and what it raises ends them. Raises ModelError for a model that cannot be
    drawn with, and for a scorer that cannot be read.
    """
    scorer = scorer or demo_root() / "scorer"
    _clip(scorer)  # one that cannot be read is told before all is drawn; meanwhile it would take memory
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_apart(each, pictures, str(Path(folder) / word), check) for each, word in
                         ((original, "original"), (made, "made")))  # fmt: skip
        pairs = [(_pixels(a), _pixels(b)) for a, b in zip(first["paths"], second["paths"], strict=True)]
        clip = _clip(scorer)
        scores = [_scores(each["paths"], pictures, clip) for each in (first, second)]
    psnr = [value for a, b in pairs if (value := _psnr(a, b)) is not None]
    return {
        "version": VERSION,
        "original": original.id,
        "made": made.id,
        "pictures": pictures,
        "disk_bytes": [original.size_bytes, made.size_bytes],
        "memory_bytes": [first["held"], second["held"]],
        "peak_bytes": [first["peak"], second["peak"]],
        "seconds": [first["seconds"], second["seconds"]],
        "clip_score": scores,
        "scorer": "demo-scorer" if scorer == demo_root() / "scorer" else scorer.name,
        "mean_distance": float(np.mean([np.abs(a - b).mean() for a, b in pairs])),
        "psnr": float(np.mean(psnr)) if psnr else None,
        "ssim": float(np.mean([_ssim(a, b) for a, b in pairs])),
    }


def write_report(path: Path, facts: Mapping[str, Any]) -> Path:
    """Beside the model's file, whole or not at all; an older one is replaced."""
    report = beside(path, REPORT)
    text = json.dumps(facts, indent=1).encode() + b"\n"
    temporary = write_temporary(report.parent, lambda file: file.write(text))
    try:
        os.replace(temporary, report)
    except OSError:
        remove(temporary)
        raise
    return report


def lines(facts: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    mb = [tuple(each / 1e6 for each in facts[name]) for name in ("disk_bytes", "memory_bytes", "peak_bytes")]
    told = [
        f"{name}: {b:.1f} MB, was {a:.1f}"
        for name, (a, b) in zip(("on disk", "in memory", "peak of the process"), mb, strict=True)
    ]
    before, after = facts["seconds"]
    told.append(f"seconds a picture: {after:.2f}, was {before:.2f}")
    if None not in facts["clip_score"]:
        before, after = facts["clip_score"]
        told.append(f"CLIP score: {after:.3f}, was {before:.3f} (by {facts['scorer']})")
    psnr = "the same" if facts["psnr"] is None else f"{facts['psnr']:.1f} dB"
    told.append(f"pictures: PSNR {psnr}, SSIM {facts['ssim']:.3f}, {facts['mean_distance']:.1f} of 255 apart")
    return told


def lent_as(made: ModelRecord, original: ModelRecord) -> ModelRecord:
    """`made` with the parts that its original takes from other files: pictures differ by nothing else then."""
    if not original.borrowed:
        return made
    return replace(made, state=State.READY, problem="", needs=(), borrowed=original.borrowed)


def is_scorer(folder: Path) -> bool:
    """Whether it has the settings and the weights of a CLIP, by their names."""
    try:
        kind = read_json(folder / "config.json").get("model_type")
    except (ModelError, ValueError):
        return False
    return kind == "clip" and any(folder.glob("*.safetensors"))


def _apart(record: ModelRecord, pictures: int, out: str, check: Callable[[], None]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(theirs, record, pictures, out), daemon=True)
    process.start()
    theirs.close()
    try:
        while not ours.poll(_LOOK_S):
            check()
        answer = ours.recv()
        process.join(_END_S)
    except EOFError as error:
        text = f"'{record.id}' could not be drawn with: its process ended."
        raise ModelError(text, "Memory may have been too small.") from error
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _tell(pipe: Connection, record: ModelRecord, pictures: int, out: str) -> None:
    try:
        pipe.send(drawn(record, pictures, out))
    except KeyboardInterrupt:  # the terminal sends it to all; the one who waits tells it
        return
    except Exception as error:
        kept = error if isinstance(error, EngineError) else RuntimeError(f"{type(error).__name__}: {error}")
        pipe.send(kept)


def drawn(record: ModelRecord, pictures: int, out: str) -> dict[str, Any]:
    """Paths of the pictures, median seconds of one, bytes of the packed parts, peak bytes of this process."""
    from pipelines.runtime.engine import build
    from pipelines.spec.weights import is_packed_part

    family = by_id(record.family)
    engine: Any = build(EngineOptions(output_dir=out, preview_interval_s=0))
    paths, times = list[str](), list[float]()

    def hear(event: Event) -> None:
        if isinstance(event, ImageSaved):
            paths.append(event.path)

    for number in range(pictures):
        job = Job(id=number, request=_request(record, number), model=record)
        start = time.perf_counter()
        engine.run(job, hear)
        times.append(time.perf_counter() - start)
    model = engine.compute.load(Job(id=0, request=_request(record, 0), model=record), family)
    held = sum(
        parameter.nbytes
        for name, part in model.parts.items()
        if is_packed_part(family, name)
        for parameter in part.parameters()
    )
    return {"paths": paths, "seconds": float(np.median(times)), "held": held, "peak": _peak()}


def _request(record: ModelRecord, number: int) -> GenerationRequest:
    family = by_id(record.family)
    side = record.native_size or family.sizes.native
    return GenerationRequest(
        model=record.id,
        prompt=Prompt(text=PROMPTS[number % len(PROMPTS)]),
        sampling=replace(record.sampling or family.sampling, seed=1000 + number),
        size=Size(width=side, height=side),
    )


def _peak() -> int:
    """Bytes of RAM that this process had at the most, and of the card where it has one."""
    import torch

    card = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if sys.platform == "linux":  # getrusage's figure is the parent's where that was larger
        status = Path("/proc/self/status").read_text()
        return card + 1024 * int(status.partition("VmHWM:")[2].split()[0])
    memory = psutil.Process().memory_info()
    return card + getattr(memory, "peak_wset", memory.rss)


def _pixels(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float64)


def _psnr(a: np.ndarray, b: np.ndarray) -> float | None:
    """None where they are the same."""
    error = float(((a - b) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else None


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Of the brightness."""
    x, y = (_windows(each.mean(2)) for each in (a, b))
    mx, my = x.mean(-1), y.mean(-1)
    vx, vy = x.var(-1), y.var(-1)
    both = ((x - mx[..., None]) * (y - my[..., None])).mean(-1)
    above = (2 * mx * my + _C1) * (2 * both + _C2)
    return float((above / ((mx**2 + my**2 + _C1) * (vx + vy + _C2))).mean())


def _windows(grey: np.ndarray) -> np.ndarray:
    """[rows, columns, pixels of one]"""
    height, width = (side // _SSIM * _SSIM for side in grey.shape)
    cut = grey[:height, :width].reshape(height // _SSIM, _SSIM, width // _SSIM, _SSIM)
    return cut.transpose(0, 2, 1, 3).reshape(height // _SSIM, width // _SSIM, -1)


def _scores(paths: Sequence[str], pictures: int, clip: tuple[Any, Any] | None) -> float | None:
    """The mean cosine by `_clip`'s answer; None where there is no scorer."""
    if clip is None:
        return None
    import torch

    model, processor = clip
    texts = [PROMPTS[number % len(PROMPTS)] for number in range(pictures)]
    images = [Image.open(path).convert("RGB") for path in paths]
    given = processor(text=texts, images=images, return_tensors="pt", padding=True, truncation=True)
    with torch.inference_mode():
        found = model.eval()(input_ids=given["input_ids"], pixel_values=given["pixel_values"])
    cosines = (found.image_embeds * found.text_embeds).sum(-1)  # both of unit length
    return float(cosines.mean())


def _clip(scorer: Path) -> tuple[Any, Any] | None:
    """The network and what prepares its inputs; None where there is no scorer. Raises ModelError for a broken one."""
    if not is_scorer(scorer):
        return None
    import torch
    from transformers import CLIPModel, CLIPProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # which is for a person who loads by hand
    try:
        model = CLIPModel.from_pretrained(
            scorer, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        return model, CLIPProcessor.from_pretrained(scorer, local_files_only=True)
    except Exception as error:  # transformers answers bad files with any kind
        text = f"The scorer cannot be read: {scorer} ({' '.join(str(error).split())[:200]})"
        raise ModelError(
            text, "Name the folder of a whole CLIP, with its tokenizer and processor."
        ) from error
