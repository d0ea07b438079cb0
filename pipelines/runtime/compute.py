"""`Compute`: one device with the models on it; all of the engine that touches torch goes through here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import psutil
import torch
import transformers
from PIL import Image

from pipelines.library.known_sizes import KnownSizes
from pipelines.library.runs import runs_in
from pipelines.runtime import decoding
from pipelines.runtime import device as devices
from pipelines.runtime.attention.chosen import ChosenAttention
from pipelines.runtime.card import Card, card
from pipelines.runtime.components import PartKey
from pipelines.runtime.conditioning.base import Work, conditioned
from pipelines.runtime.conditioning.table import CONDITIONERS, changes_parts, networks_beside
from pipelines.runtime.copy_ratio import Known
from pipelines.runtime.denoising import DenoiseInputs, Denoising
from pipelines.runtime.holders import holders
from pipelines.runtime.latents import cells_of
from pipelines.runtime.loader import Model, network_plan
from pipelines.runtime.meter import Meter
from pipelines.runtime.occupancy import Occupancy
from pipelines.runtime.pace import Pace
from pipelines.runtime.part_plan import PartPlan, guarded
from pipelines.runtime.phases import Phase, Role, Source, phases, roles
from pipelines.runtime.placement import Placement, Reading, Stage, stage_of
from pipelines.runtime.preflight import NOTHING, preflight
from pipelines.runtime.rates import known_rates
from pipelines.runtime.repeating import prepare, repeating
from pipelines.runtime.stages import Stages
from pipelines.runtime.text.prompts import Conditioning, PromptEncoder
from pipelines.runtime.usage import Usage
from pipelines.spec import events
from pipelines.spec.events import Event, MemoryChanged
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.machine import Machine, Option
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Prompt

_THREADS = torch.get_num_threads()  # torch's own choice, which an engine before this one may have changed


class Compute:
    """Built and used on one thread. Raises EngineError for a device, precision or attention that is not there.

    `where` is the device of the options unless given, `readers` that of the text encoders, where they have one.
    """

    def __init__(
        self, options: EngineOptions, where: Card | None = None, readers: Card | None = None
    ) -> None:
        _silence()
        torch.set_num_threads(options.threads or _THREADS)
        prepare(options.deterministic)
        self._options = options
        self.card = where or card(devices.choose(options.device))
        self.name = str(self.card.device)
        self.rates = known_rates(self.card, options.rates_file)
        self.attention = ChosenAttention(self.card.device, options)
        self.occupancy = Occupancy(options, self.card, readers)
        self.lodging, self.adapters = self.occupancy.lodging, self.occupancy.adapters
        self.store, self.readers = self.occupancy.store, self.occupancy.readers
        self.prompts = PromptEncoder(self.card.device)
        self._loader = self.occupancy.loader
        self._stages: Stages | None = None
        self._denoising = Denoising(self.card, self.store, self.lodging)
        self._sizes = KnownSizes()
        self._usage = Usage(self.card, self._options.measured_file)
        self._titles: dict[PartKey, str] = {}  # of the models that parts were loaded for

    def plan(self, job: Job) -> Placement:
        """Where the parts of the job's models are to lie, by what is free now. Raises ModelError."""
        return preflight(
            job, self.occupancy.budget(), self._options.dtype, self._usage.seen, self._sizes, self._known()
        )

    def _known(self) -> Known:
        if self.rates is None:
            return NOTHING
        file, name = self._options.runs_file, devices.name_of(self.card.device)
        return Known(device=name, rates=self.rates, runs=runs_in(Path(file)) if file else ())

    def settle(self, job: Job, placement: Placement) -> None:
        """From now on the job's parts lie as `placement` says."""
        self._stages = Stages(
            placement, self.lodging, self.adapters, self.store, family=job.model.family,
            changed=changes_parts(job.request), check=job.check,
        )  # fmt: skip
        self.occupancy.settle(self._stages)

    @property
    def stages(self) -> Stages:
        """Of the job that was settled last."""
        assert self._stages is not None
        return self._stages

    def load(self, job: Job, family: Family, record: ModelRecord | None = None) -> Model:
        """The model of `record`, the job's own unless given, with all its parts."""
        model = self._model(job, record or job.model, family)
        model.parts.ready(model.parts)
        return model

    def load_all(self, job: Job, roles: Sequence[Role], meter: Meter) -> list[Model]:
        """The models of `roles`. What they need for this job is loaded, unless it is to be only when its turn comes.

        `meter` knows before the first part is read what is read now in all, ControlNets and the like with it.
        """
        models = [self._model(job, role.record, role.family, meter) for role in roles]
        self._check_attention(job, roles, models)
        self.occupancy.make_room(job, models, self.stages)
        wanted = [self._at_once(role, model) for role, model in zip(roles, models, strict=True)]
        for model, names in zip(models, wanted, strict=True):
            self._loader.expect(model, names, meter)
        for path, made_for in networks_beside(job):
            plan = network_plan(path, models[0].dtype, self.card.device, made_for)
            plan.expect(self.store, meter)
        for model, names in zip(models, wanted, strict=True):
            model.parts.ready(names)
        return models

    def _check_attention(self, job: Job, roles: Sequence[Role], models: Sequence[Model]) -> None:
        """Raises EngineError for a kernel that was asked for and cannot run, before anything of a model is read."""
        if not self.attention.forced:
            return
        for role, model in zip(roles, models, strict=True):
            cells = cells_of(job.request.size, role.family.latent)
            self.attention.kernels([self._layers(model, role.family.denoiser)], model.dtype, cells)

    def kernels(self, job: Job, family: Family) -> tuple[Option, ...]:
        """All of attention; one that cannot compute the job's denoisers says why. Nothing of a model is read."""
        parts = roles(job, family)
        models = [self._model(job, role.record, role.family) for role in parts]
        networks = [self._layers(m, role.family.denoiser) for m, role in zip(models, parts, strict=True)]
        return self.attention.options_for(
            networks, models[0].dtype, cells_of(job.request.size, family.latent)
        )

    def _layers(self, model: Model, part: str) -> torch.nn.Module:
        """The network, with its weights only where it is loaded already."""
        key, plan = model.keys[part], model.plans[part]
        if key in self.store:
            return self.store.part(key)
        assert plan.sketch is not None
        return guarded(plan.place, plan.sketch).module

    def _at_once(self, role: Role, model: Model) -> list[str]:
        """The parts that the job needs from its start."""
        if not self.stages.at_once:
            return []
        readers = {name for name in model.parts if name.startswith(("text_encoder", "tokenizer"))}
        known = self.prompts.knows(model, role.family, (role.prompt.text, role.prompt.negative))
        return [name for name in model.parts if not (known and name in readers)]

    def _model(self, job: Job, record: ModelRecord, family: Family, meter: Meter | None = None) -> Model:
        model = self._loader.load(job, record, family, meter)
        self._titles |= dict.fromkeys(model.keys.values(), record.title or record.id)
        return model

    def machine(self) -> Machine:
        return Machine(devices=devices.options(), attention=self.attention.options(), rates=self.rates)

    def memory(self) -> MemoryChanged:
        held = holders(map(self.occupancy.where, self.store.parts()), self._titles, self.prompts.size_bytes)
        device = self.card.device
        name, room = devices.name_of(device), devices.room_of(device)
        return MemoryChanged(device_name=name, card=room, encoders=self.readers.room, holders=held)

    def encode(self, job: Job, model: Model, family: Family, prompt: Prompt | None = None) -> Conditioning:
        """`prompt` is the request's own unless given."""
        return self.prompts.encode(job, model, family, prompt, self._before_reading)

    def _before_reading(self, model: Model) -> None:
        if self._stages:
            self._stages.reading(model)
        self.card.mark()

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
        beside, asked = partial(self._beside, meter), partial(self._asked, meter)
        work = Work(job, family, self.store, self.card.device, base.dtype, beside, asked)
        with repeating(self._options.deterministic), conditioned(CONDITIONERS, work, base) as changed:
            yield tuple(changed if m is base or m.keys == base.keys else m for m in models)

    def _beside(self, meter: Meter, plan: PartPlan) -> Any:
        """It waits in RAM where the denoiser does."""
        _, network = plan.load(self.store, meter, self._loader.lands)
        if self.stages.waits_in_ram:
            self.occupancy.house(network)
        return network

    @contextmanager
    def _asked(self, meter: Meter, plan: PartPlan) -> Iterator[Any]:
        """It waits in RAM, wherever the model is: once a job is too seldom to take memory of a card."""
        self.stages.sees = True
        if self.card.apart:
            _, network = plan.load(self.store, meter, torch.device("cpu"))
            self.occupancy.house(network)
            with self.stages.asking(network):
                yield network
        else:
            yield plan.load(self.store, meter)[1]
        self.stages.sees = False

    def cast(self, job: Job, parts: Sequence[Role], models: Sequence[Model]) -> tuple[Source, ...]:
        """Reads the prompt of each role with its model."""
        read = self.prompts.encodes
        sources = tuple(
            Source(role, model, self.encode(job, model, role.family, role.prompt))
            for role, model in zip(parts, models, strict=True)
        )
        if self._stages:
            here = self._stages.placement.reading is Reading.HERE
            if self.prompts.encodes > read and len(sources) == 1 and here:
                self._usage.taken(Stage.ENCODE, self._stages)
            self._stages.read(sources)
        return sources

    def phases(self, job: Job, sources: Sequence[Source]) -> tuple[Phase, ...]:
        return phases(job, sources)

    def denoise(
        self,
        parts: tuple[Phase, ...],
        job: Job,
        image: int,
        pace: Pace,
        emit: Callable[[Event], None],
        note: Callable[[str], None],
    ) -> torch.Tensor:
        given = DenoiseInputs(
            job, self._options, self.attention, self.stages, self.occupancy.models[0].dtype, emit, note
        )
        latents = self._denoising.denoise(parts, given, image, pace)
        if len(parts) == 1:
            self._usage.taken(Stage.DENOISE, self.stages)
        return latents

    @property
    def compile_s(self) -> float:
        """What the last picture waited for compilers."""
        return self._denoising.compiling.seconds

    def decode(
        self,
        parts: Sequence[Phase],
        sources: Sequence[Source],
        latents: torch.Tensor,
        job: Job,
        note: decoding.Note,
    ) -> Image.Image:
        self.stages.decoding(parts, sources)
        phase, tiled = parts[-1], bool(self.stages.placement.tile)
        self.card.mark()
        told = list[str]()

        def tell(text: str) -> None:
            told.append(text)
            note(text)

        picture = decoding.decode(phase.pipe, latents, job, tell, phase.family.latent, tiled)
        self._usage.taken(Stage.DECODE, self.stages, short=decoding.TILED in told)
        return picture

    def marks(self, picture: Image.Image) -> tuple[str, ...]:
        """Warnings that go with the picture, as in `ImageSaved.marks`."""
        return ("uniform",) if decoding.is_uniform(picture) else ()

    def is_out_of_memory(self, error: BaseException) -> bool:
        return devices.is_out_of_memory(error)

    def stage_of(self, stage: events.Stage) -> Stage:
        """Whose memory ran out: also while they were loaded, the text encoders' own device is to blame."""
        if self._loader.beside:
            return Stage.ENCODE
        return Stage.SEE if self._stages and self._stages.sees else stage_of(stage)

    def is_lost(self, error: BaseException) -> bool:
        return devices.is_lost(error)

    def forget(self, error: BaseException) -> None:
        """Lets go of the tensors that the error's traceback holds."""
        devices.forget_frames(error)

    def is_hopeless(self, placement: Placement) -> bool:
        """Whether even the least that it takes is more than RAM and swap: a system that is out of both kills programs.

        A card says no by itself, and its estimate may be wrong.
        """
        ram = placement.asked[1].ram
        return (
            not placement.fits
            and not placement.device
            and placement.peak_ram > ram + psutil.swap_memory().free
        )

    def retreat(self, stage: Stage) -> None:
        """After memory ran out in `stage`: the models leave where it did."""
        if self.card.apart:
            self.occupancy.retreat(stage, self.stages.placement)
        else:
            self.drop_caches()

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
