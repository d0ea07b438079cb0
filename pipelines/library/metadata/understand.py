"""From texts to a `GenerationRequest`. A bad field drops itself alone, with a note that says which."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from pipelines.library.folders import inputs_dir
from pipelines.library.metadata.infotext import LOW_BITS, STEP_CACHE, Infotext
from pipelines.library.metadata.write import PICTURED
from pipelines.library.names import slug
from pipelines.spec.errors import RequestError
from pipelines.spec.request import MAX_SEED, GenerationRequest, Prompt, Refiner, Sampling, Size, Speed
from pipelines.spec.schedulers import find
from pipelines.spec.speed import cache_of
from pipelines.spec.validate import MAX_COUNT, MAX_GUIDANCE, MAX_STEPS
from pipelines.spec.weights import WEIGHTS

MAX_SIDE = 16384
_HASH = re.compile(r"\s*\[[0-9a-fA-F]{8,64}\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """`seed` is the picture's own, None when unknown; `notes` are sentences about what was left out."""

    request: GenerationRequest
    seed: int | None = None
    image_index: int = 0
    notes: tuple[str, ...] = ()


def from_own_json(text: str) -> Understood | None:
    """None when the text is not ours; else everything in it that can be used."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("request"), dict):
        return None
    notes: list[str] = []
    request = _bounded(_request(data["request"], notes), notes)
    return Understood(
        request=_with_stored_inputs(request),
        seed=_whole(data.get("seed"), 0, 2**64),
        image_index=_whole(data.get("image_index"), 0, MAX_COUNT) or 0,
        notes=tuple(notes),
    )


def _request(data: dict[str, Any], notes: list[str]) -> GenerationRequest:
    request, left_out = GenerationRequest.readable(data)
    notes.extend(f"Left out: {error.message[:200].rstrip('.')}." for error in left_out)
    return request


def _bounded(request: GenerationRequest, notes: list[str]) -> GenerationRequest:
    """A number that no panel can hold is brought to the nearest that it can, and a note says so."""
    sampling, size = request.sampling, request.size
    steps = _clamped("steps", sampling.num_inference_steps, 1, MAX_STEPS, notes)
    guidance = _clamped("guidance", sampling.guidance_scale, 0.0, MAX_GUIDANCE, notes)
    seed = sampling.seed
    if not 0 <= seed <= MAX_SEED:
        # The nearest seed would be another picture all the same.
        notes.append(f"Left out: the seed {str(seed)[:30]} is not within 0 to {MAX_SEED}.")
        seed = 0
    width = _clamped("width", size.width, 8, MAX_SIDE, notes)
    height = _clamped("height", size.height, 8, MAX_SIDE, notes)
    return dataclasses.replace(
        request,
        sampling=Sampling(
            scheduler=sampling.scheduler, num_inference_steps=steps, guidance_scale=guidance, seed=seed
        ),
        size=Size(width=width, height=height),
        count=_clamped("count", request.count, 1, MAX_COUNT, notes),
        true_cfg_scale=_clamped("true CFG", request.true_cfg_scale, 1.0, MAX_GUIDANCE, notes),
        refiner=_bounded_refiner(request.refiner, notes),
    )


def _bounded_refiner(refiner: Refiner | None, notes: list[str]) -> Refiner | None:
    if refiner is None:
        return None
    steps = refiner.num_inference_steps
    if steps is not None:
        steps = _clamped("refiner's steps", steps, 1, MAX_STEPS, notes)
    switch_at = _clamped("switch to the refiner", refiner.switch_at, 0.0, 1.0, notes)
    return dataclasses.replace(refiner, switch_at=switch_at, num_inference_steps=steps)


def _clamped(name: str, value: Any, least: Any, most: Any, notes: list[str]) -> Any:
    kept = min(max(value, least), most)
    if kept != value:
        notes.append(f"The {name} {str(value)[:30]} is out of range; {kept} is used.")
    return kept


def _with_stored_inputs(request: GenerationRequest) -> GenerationRequest:
    """Input pictures are named without a folder; those that lie in our own store get their path back."""
    changes: dict[str, Any] = {
        field: tuple(_in_store(given) for given in getattr(request, field)) for field in PICTURED
    }
    if request.image:
        changes["image"] = _in_store(request.image)
    return dataclasses.replace(request, **changes)


def _in_store(given: Any) -> Any:
    name = PureWindowsPath(given.path).name.replace("\0", "")
    stored = str(inputs_dir() / name)
    # os.path answers False for a name that no file can have; pathlib raises where it is too long.
    return dataclasses.replace(given, path=stored if name and os.path.isfile(stored) else name)


def _whole(value: Any, least: int, most: int) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    return value if fits else None


def from_infotext(text: Infotext) -> Understood:
    """The request behind A1111's text: what it says and we know; the rest stays at its default."""
    notes: list[str] = []
    default = Sampling()
    cfg, distilled = text.get("CFG scale"), text.get("Distilled CFG Scale")
    seed = _number(text.get("Seed"), "seed", None, notes)
    sampling = Sampling(
        scheduler=_scheduler(text, default.scheduler, notes),
        num_inference_steps=int(_number(text.get("Steps"), "steps", default.num_inference_steps, notes)),
        guidance_scale=float(_number(distilled or cfg, "guidance", default.guidance_scale, notes)),
        seed=int(seed or 0),
    )
    request = GenerationRequest(
        model=slug(text.get("Model")) if text.get("Model") else "",
        weights=next((row.id for row in WEIGHTS if text.get(LOW_BITS).startswith(row.forge)), ""),
        prompt=Prompt(text=text.prompt, negative=text.negative),
        sampling=sampling,
        size=_size(text.get("Size"), notes),
        true_cfg_scale=float(_number(cfg, "true CFG", 1.0, notes)) if distilled else 1.0,
        refiner=_refiner(text, notes),
        speed=_speed(text, notes),
    )
    own_seed = None if seed is None else _whole(int(seed), 0, 2**64)
    return Understood(request=_bounded(request, notes), seed=own_seed, notes=tuple(notes))


def _refiner(text: Infotext, notes: list[str]) -> Refiner | None:
    """From `Refiner: name [hash]` and `Refiner switch at: 0.8`."""
    model = slug(_HASH.sub("", text.get("Refiner"))) if text.get("Refiner") else ""
    if not model:
        return None
    default = Refiner(model=model)
    at = _number(text.get("Refiner switch at"), "switch to the refiner", default.switch_at, notes)
    return dataclasses.replace(default, switch_at=float(at))


def _speed(text: Infotext, notes: list[str]) -> Speed:
    """From `Step cache: first_block 0.08`."""
    name, _, limit = text.get(STEP_CACHE).partition(" ")
    if not name or cache_of(name) is None:
        return Speed()
    number = _number(limit, "limit of the step cache", None, notes)
    return Speed(step_cache=name, cache_limit=None if number is None else float(number))


def _number(text: str, name: str, default: Any, notes: list[str]) -> Any:
    """A whole number stays whole however long it is: seeds of other tools have 64 bits."""
    if not text:
        return default
    try:
        value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 2**64:
        notes.append(f"Left out: the {name} '{text[:30]}' is not a usable number.")
        return default
    return value


def _size(text: str, notes: list[str]) -> Size:
    width, _, height = text.lower().partition("x")
    if width.isdecimal() and height.isdecimal() and len(text) <= 12:
        return Size(width=int(width), height=int(height))
    if text:
        notes.append(f"Left out: the size '{text[:30]}' is not WIDTHxHEIGHT.")
    return Size()


# The words of k-diffusion and ComfyUI that `find` does not know; they fuse sampler and schedule with '_'.
_OTHER_WORDS = {"uni_pc_bh2": "unipc", "undefined": "euler"}
_FUSED = re.compile(r"(.+)_(normal|simple|karras|exponential|beta|sgm_uniform)")


def _scheduler(text: Infotext, default: str, notes: list[str]) -> str:
    sampler, schedule = text.get("Sampler"), text.get("Schedule type", "Scheduler")
    name = sampler.lower().replace(" ", "_").removeprefix("k_").removesuffix("_gpu")
    name = _OTHER_WORDS.get(name, name)
    if not schedule and (fused := _FUSED.fullmatch(name)):
        name, schedule = fused.groups()
    if not sampler:
        return default
    reasons: list[str] = []
    for wanted in ((name, schedule), (name, "")):
        try:
            found = find(*wanted).id
        except RequestError as error:
            reasons.append(error.message.removeprefix(f"{error.field}: "))
        else:
            notes.extend(f"Left out: {reason}" for reason in reasons)
            return found
    notes.append(f"Left out: the sampler '{sampler[:60]}' is not known.")
    return default
