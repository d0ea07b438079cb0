"""`Compute`: one device with the models on it; all of the engine that touches torch goes through here."""

from __future__ import annotations

from collections.abc import Callable

import diffusers
import torch
import transformers
from PIL import Image

from pipelines.runtime import decoding, sampling
from pipelines.runtime import device as devices
from pipelines.runtime.components import ComponentStore
from pipelines.runtime.loader import Loader, Model
from pipelines.runtime.pace import Pace
from pipelines.runtime.phases import Phase, phases
from pipelines.runtime.text.prompts import Conditioning, PromptEncoder
from pipelines.spec.events import Event
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions


class Compute:
    """Built and used on one thread. Raises EngineError for a device or precision that is not there."""

    def __init__(self, options: EngineOptions) -> None:
        _silence()
        if options.threads:
            torch.set_num_threads(options.threads)
        self._options = options
        self._device = device = devices.choose(options.device)
        self.name = str(device)
        self.store = ComponentStore(lambda: devices.free_bytes(device), lambda: devices.release(device))
        self.prompts = PromptEncoder()
        self._loader = Loader(self.store, device, options)

    def load(self, job: Job, family: Family) -> Model:
        return self._loader.load(job, job.model, family)

    def encode(self, job: Job, model: Model, family: Family) -> Conditioning:
        return self.prompts.encode(job, model, family)

    def phases(self, job: Job, model: Model, family: Family, conditioning: Conditioning) -> tuple[Phase, ...]:
        return phases(job, model, family, conditioning)

    def denoise(
        self, parts: tuple[Phase, ...], job: Job, image: int, pace: Pace, emit: Callable[[Event], None]
    ) -> torch.Tensor:
        interval_s = self._options.preview_interval_s
        return sampling.denoise(parts, job, image=image, pace=pace, preview_interval_s=interval_s, emit=emit)

    def decode(self, phase: Phase, latents: torch.Tensor, job: Job, note: decoding.Note) -> Image.Image:
        return decoding.decode(phase.pipe, latents, job, note, phase.family.latent)

    def marks(self, picture: Image.Image) -> tuple[str, ...]:
        """Warnings that go with the picture, as in `ImageSaved.marks`."""
        return ("uniform",) if decoding.is_uniform(picture) else ()

    def is_out_of_memory(self, error: BaseException) -> bool:
        return devices.is_out_of_memory(error)

    def is_lost(self, error: BaseException) -> bool:
        return devices.is_lost(error)

    def forget(self, error: BaseException) -> None:
        """Lets go of the tensors that the error's traceback holds."""
        devices.forget_frames(error)

    def drop_caches(self) -> None:
        """After this nothing is loaded; the next job loads what it needs."""
        self.prompts.clear()
        self.store.clear()


def _silence() -> None:
    """Their bars and advice go to the terminal of a window program, where nobody is."""
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
