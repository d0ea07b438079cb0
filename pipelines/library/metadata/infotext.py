"""The A1111 `parameters` text: writing ours, splitting anybody's (Forge: `modules/infotext_utils.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.library.version import NAME
from pipelines.spec.errors import RequestError
from pipelines.spec.request import GenerationRequest
from pipelines.spec.schedulers import AUTOMATIC, scheduler_by_id
from pipelines.spec.speed import cache_limit, cache_of
from pipelines.spec.weights import weights_of

NEGATIVE = "Negative prompt:"
LOW_BITS = "Diffusion in Low Bits"  # in Forge's words
STEP_CACHE = "Step cache"  # ours: nobody else writes which one
# The key is bounded, so that a hostile megabyte without a colon costs linear time.
_FIELD = re.compile(r'(\w[\w \-/]{1,80}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_LEAST_FIELDS = 3
# Even with every unit of ControlNet a line of fields has a few thousand. Eight million letters without a colon cost
# ten seconds, in which no other thread of Python runs, the window's neither.
_LONGEST_FIELDS = 100_000


@dataclass(frozen=True, slots=True)
class Infotext:
    """`fields` in the order of the text, values unquoted; keys as they are written."""

    prompt: str
    negative: str
    fields: tuple[tuple[str, str], ...] = ()

    def get(self, *names: str) -> str:
        """The value of the first of these keys that is there, in any case; empty when none is."""
        by_name = {key.lower(): value for key, value in reversed(self.fields)}
        return next((by_name[name.lower()] for name in names if name.lower() in by_name), "")


def infotext(
    request: GenerationRequest,
    *,
    model_name: str,
    seed: int,
    size: tuple[int, int],
    refiner_name: str = "",
    distilled: bool = False,
) -> str:
    """The text for one picture. A hash that nobody has computed is left out.

    `distilled`: guidance is an input of the model, and A1111's CFG is `true_cfg_scale`, as Forge writes it for FLUX.
    """
    lines = [request.prompt.text]
    if request.prompt.negative:
        lines.append(f"{NEGATIVE} {request.prompt.negative}")
    pairs = _pairs(request, model_name, seed, size, refiner_name, distilled)
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs if value))
    # NUL ends a text in many readers, and half of a surrogate pair cannot be encoded.
    return "\n".join(lines).replace("\0", "").encode("utf-8", "replace").decode()


def _pairs(
    request: GenerationRequest,
    model_name: str,
    seed: int,
    size: tuple[int, int],
    refiner_name: str,
    distilled: bool,
) -> Iterator[tuple[str, str]]:
    sampler, schedule = _sampler(request.sampling.scheduler)
    yield "Steps", str(request.sampling.num_inference_steps)
    yield "Sampler", sampler
    yield "Schedule type", schedule
    guidance = request.sampling.guidance_scale
    yield "CFG scale", f"{request.true_cfg_scale if distilled else guidance:g}"
    if distilled:
        yield "Distilled CFG Scale", f"{guidance:g}"
    yield "Seed", str(seed)
    yield "Size", f"{size[0]}x{size[1]}"
    yield "Model", model_name
    if row := weights_of(request.weights):
        yield LOW_BITS, row.forge
    if request.image:
        yield "Denoising strength", f"{request.image.strength:g}"
    if request.refiner:
        yield "Refiner", refiner_name or request.refiner.model
        yield "Refiner switch at", f"{request.refiner.switch_at:g}"
    if row := cache_of(request.speed.step_cache):
        yield STEP_CACHE, f"{row.id} {cache_limit(request):g}"
    yield "Version", NAME


def _sampler(scheduler: str) -> tuple[str, str]:
    try:
        row = scheduler_by_id(scheduler)
    except RequestError:
        return scheduler, ""
    return row.sampler, row.schedule or AUTOMATIC


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,\n:]", value) else value


def parse(text: str) -> Infotext:
    """Prompt, negative prompt and fields; a text without fields is all prompt. Never raises."""
    *lines, last = text.strip().replace("\r\n", "\n").split("\n")
    found = _FIELD.findall(last.strip()) if len(last) <= _LONGEST_FIELDS else ()
    fields = tuple((key.strip(), _unquoted(value)) for key, value in found)
    if len(fields) < _LEAST_FIELDS:
        lines, fields = [*lines, last], ()
    start = next((i for i, line in enumerate(lines) if line.strip().startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).strip().removeprefix(NEGATIVE)
    return Infotext("\n".join(lines[:start]).strip(), negative.strip(), fields)


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except (ValueError, RecursionError):
        return value
