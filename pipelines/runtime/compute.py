"""`Compute`: one device with the models on it; all of the engine that touches torch goes through here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import diffusers
import torch
import transformers
from PIL import Image

from pipelines.runtime import decoding, sampling
from pipelines.runtime import device as devices
from pipelines.runtime.components import ComponentStore
from pipelines.runtime.conditioning.base import Work, conditioned
from pipelines.runtime.conditioning.table import CONDITIONERS, networks_beside
from pipelines.runtime.loader import Loader, Model, network_plan
from pipelines.runtime.meter import Meter
from pipelines.runtime.pace import Pace
from pipelines.runtime.phases import Phase, Role, Source, phases, roles
from pipelines.runtime.text.prompts import Conditioning, PromptEncoder
from pipelines.spec.events import Event
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Prompt


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

    def load(self, job: Job, family: Family, record: ModelRecord | None = None) -> Model:
        """The model of `record`, the job's own unless given."""
        return self._loader.load(job, record or job.model, family)

    def load_all(self, job: Job, roles: Sequence[Role], meter: Meter) -> list[Model]:
        """The models of the roles; `meter` knows before the first is read what the job has to read in all."""
        plans = [self._loader.plan(job, role.record, role.family) for role in roles]
        for plan in plans:
            plan.expect(meter)
        dtype = self._loader.precision(roles[0].record, roles[0].family).compute
        for path, made_for in networks_beside(job):
            network_plan(path, dtype, self._device, made_for).expect(self.store, meter)
        return [plan.load(meter) for plan in plans]

    def encode(self, job: Job, model: Model, family: Family, prompt: Prompt | None = None) -> Conditioning:
        """`prompt` is the request's own unless given."""
        return self.prompts.encode(job, model, family, prompt)

    def roles(self, job: Job, family: Family) -> tuple[Role, ...]:
        return roles(job, family)

    @contextmanager
    def conditioned(
        self, job: Job, parts: Sequence[Role], models: Sequence[Model], meter: Meter
    ) -> Iterator[tuple[Model, ...]]:
        """The models with what the request adds to its own one, which a refiner does not get.

        Where the refiner is the very same model it can't be without.
        """
        base, family = models[0], parts[0].family
        dtype = getattr(base, family.denoiser).dtype
        work = Work(job, family, self.store, self._device, dtype, meter)
        with conditioned(CONDITIONERS, work, base) as changed:
            yield tuple(changed if model.keys == base.keys else model for model in models)

    def cast(self, job: Job, parts: Sequence[Role], models: Sequence[Model]) -> tuple[Source, ...]:
        """Reads the prompt of each role with its model."""
        return tuple(
            Source(role, model, self.encode(job, model, role.family, role.prompt))
            for role, model in zip(parts, models, strict=True)
        )

    def phases(self, job: Job, sources: Sequence[Source]) -> tuple[Phase, ...]:
        return phases(job, sources)

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
    warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated", FutureWarning)  # by diffusers itself
