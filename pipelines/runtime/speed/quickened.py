"""`quickened`: the denoiser of a phase with the switches that the request asks for, and as it was after the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pipelines.runtime.phases import Phase
from pipelines.runtime.precision import is_widened
from pipelines.runtime.speed import compiler
from pipelines.runtime.speed.channels_last import channels_last
from pipelines.runtime.speed.compiled import compiled
from pipelines.runtime.speed.fused_qkv import fused_qkv
from pipelines.runtime.speed.step_cache import Caching, Magnitudes, step_cache
from pipelines.spec.request import GenerationRequest
from pipelines.spec.speed import offered

WIDENED = "the model's weights are widened layer by layer to what this device computes in"
MOVES = "the model's weights wait in RAM and come to the card by turns"


@contextmanager
def quickened(
    phase: Phase,
    request: GenerationRequest,
    *,
    moves: bool,
    magnitudes: Magnitudes,
    tell: Callable[[str], None],
) -> Iterator[None]:
    """`moves`: the denoiser has a home in RAM, whose copies of its weights no switch may lay out anew.

    `tell` hears of each switch that is left out. Order matters: a step cache decides whether a compiled block is asked.
    """
    speed, denoiser = request.speed, phase.denoiser
    able = {row.id: row for row in offered(phase.family)}
    with ExitStack() as undo:
        for name, apply in (("fused_qkv", fused_qkv), ("channels_last", channels_last)):
            if not getattr(speed, name) or name not in able:
                continue
            if moves:
                tell(f"{able[name].title} was left out: {MOVES}.")
            else:
                undo.enter_context(apply(denoiser))
        if speed.compile:
            widened = WIDENED if is_widened(denoiser) else ""
            if reason := widened or compiler.why_not(denoiser.device.type):
                tell(f"{able['compile'].title} was left out: {reason}.")
            else:
                undo.enter_context(compiled(denoiser, tell))
        if speed.step_cache and "step_cache" in able:
            undo.enter_context(step_cache(denoiser, _caching(phase, request, magnitudes, tell)))
        yield


def _caching(
    phase: Phase, request: GenerationRequest, magnitudes: Magnitudes, tell: Callable[[str], None]
) -> Caching:
    order = phase.pipe.scheduler.order
    return Caching(request, phase.record.id, phase.steps * order - (order - 1), magnitudes, tell)
