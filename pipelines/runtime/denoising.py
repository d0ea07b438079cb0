"""`Denoising`: the steps of a picture, with all that is switched on for them and off again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from pipelines.runtime import sampling
from pipelines.runtime.attention.chosen import ChosenAttention, Head, applied
from pipelines.runtime.attention.kernels import Kernel
from pipelines.runtime.card import Card
from pipelines.runtime.components import ComponentStore
from pipelines.runtime.conditioning import tensors
from pipelines.runtime.latents import cells_of
from pipelines.runtime.lodging import Lodging
from pipelines.runtime.pace import Pace
from pipelines.runtime.phases import Phase
from pipelines.runtime.speed import compiled
from pipelines.runtime.speed.compiling import Compiling, listened
from pipelines.runtime.speed.quickened import quickened
from pipelines.runtime.speed.step_cache import Magnitudes
from pipelines.runtime.stages import Stages
from pipelines.runtime.tiny_vae import TinyPreviews, decoder_of
from pipelines.spec import events
from pipelines.spec.errors import ModelError
from pipelines.spec.events import Event
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DenoiseInputs:
    """Pictures of one job on one engine. `note` takes sentences for the user."""

    job: Job
    options: EngineOptions
    attention: ChosenAttention
    stages: Stages
    dtype: torch.dtype
    emit: Callable[[Event], None]
    note: Note


class Denoising:
    """What it measured of a model for MagCache it keeps from job to job."""

    def __init__(self, card: Card, store: ComponentStore, lodging: Lodging) -> None:
        self._card, self._store, self._lodging = card, store, lodging
        self.magnitudes = Magnitudes()
        self.compiling = Compiling(lambda: None)  # of the last picture
        compiled.try_again()

    def denoise(self, parts: tuple[Phase, ...], given: DenoiseInputs, image: int, pace: Pace) -> torch.Tensor:
        """The latents of the job's picture `image`."""
        self.compiling = Compiling(lambda: given.emit(events.Compiling(job_id=given.job.id)))
        with (
            listened(self.compiling),
            applied(_kernels(parts, given), given.attention.forced),
            ExitStack() as quick,
        ):

            def before(phase: Phase) -> None:
                quick.close()  # what the phase before had
                quick.enter_context(given.stages.seeing(phase))
                given.stages.drawing(phase)
                self._quicken(quick, phase, given)
                self._card.mark()

            return sampling.denoise(
                parts, given.job, image=image, pace=pace, preview_interval_s=given.options.preview_interval_s,
                emit=given.emit, before=before, tiny=self._tiny_previews(given),
            )  # fmt: skip

    def _tiny_previews(self, given: DenoiseInputs) -> TinyPreviews | None:
        """One that cannot be read costs the previews their sharpness, and nobody a picture."""
        job, options, device = given.job, given.options, self._card.device
        record = job.tiny_vae
        if record is None or options.preview != "tiny" or not options.preview_interval_s:
            return None
        try:
            key = tensors.key(record, given.dtype, device)
            return TinyPreviews(self._store.get(key, lambda: decoder_of(record, job, device, given.dtype)))
        except ModelError as error:
            given.note(f"The previews are the fast ones: {error.message}.")
            return None

    def _quicken(self, quick: ExitStack, phase: Phase, given: DenoiseInputs) -> None:
        moves = self._lodging.has(phase.denoiser)
        quick.enter_context(
            quickened(phase, given.job.request, moves=moves, magnitudes=self.magnitudes, tell=given.note)
        )


def _kernels(parts: Sequence[Phase], given: DenoiseInputs) -> dict[Head, Kernel]:
    """Found before the denoiser is brought to the card: trials take memory of their own."""
    found = dict[Head, Kernel]()
    for phase in parts:
        cells = cells_of(given.job.request.size, phase.family.latent)
        found |= given.attention.kernels(phase.networks, phase.denoiser.dtype, cells)
    return found
