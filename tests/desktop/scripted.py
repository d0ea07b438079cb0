"""An engine that does what a script says, behind the real worker: stages, previews, real PNG files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from pipelines.library.outputs import save_picture
from pipelines.spec.errors import DeviceLost, NotSaved, OutOfMemory
from pipelines.spec.events import (
    Compiling,
    Event,
    ImageSaved,
    MemoryChanged,
    Preview,
    Stage,
    StageChanged,
    StepDone,
)
from pipelines.spec.job import Job
from pipelines.spec.machine import Machine, Option
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord

Draw = Callable[[Job, int], Image.Image]
RECORD = ModelRecord(id="scripted", path="/nowhere", title="Scripted model", family="sd1", native_size=64)


def plain(job: Job, image: int) -> Image.Image:
    """A picture of one colour that the seed decides."""
    seed = job.request.sampling.seed + image
    colour = (seed % 256, seed // 256 % 256, 90)
    return Image.new("RGB", (job.request.size.width, job.request.size.height), colour)


class Script:
    """What all engines of a test do. `faults` maps a job's number (from 0) to the error it raises after its first step.

    `hold` blocks every job there until `release`; a held step does not look at the cancel flag.
    """

    def __init__(self, draw: Draw = plain, step_s: float = 0.0) -> None:
        self.draw, self.step_s = draw, step_s
        self.faults: dict[int, BaseException] = {}
        self.holding = threading.Event()
        self._free = threading.Event()
        self._free.set()
        self.hold_at = 0.0  # share of the steps after which a hold or a fault comes; never before step 2
        self.seen: list[int] = []
        self.built = 0
        self.freed = 0
        self.compiles = False  # before its first step each job waits for a compiler, and is held there
        self.memory = MemoryChanged(device_name="Scripted processor")
        self.machine = Machine()
        self.kernels: tuple[Option, ...] = ()  # for the models of a job; none: those of the machine
        self.options: EngineOptions | None = None  # of the engine that was built last
        self.factory_fault: BaseException | None = None
        self.ready_gate = threading.Event()
        self.ready_gate.set()

    def hold(self) -> None:
        self.holding.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def wait_if_held(self) -> None:
        if not self._free.is_set():
            self.holding.set()
            self._free.wait()

    def factory(self, options: EngineOptions) -> Callable[[], ScriptedEngine]:
        def build() -> ScriptedEngine:
            self.built += 1
            self.options = options
            self.ready_gate.wait()
            if self.factory_fault is not None:
                raise self.factory_fault
            return ScriptedEngine(self, options)

        return build


class ScriptedEngine:
    device = "cpu"

    def __init__(self, script: Script, options: EngineOptions) -> None:
        self._script, self._options = script, options

    @property
    def machine(self) -> Machine:
        return self._script.machine

    def memory(self) -> MemoryChanged:
        return self._script.memory

    def kernels(self, job: Job) -> tuple[Option, ...]:
        return self._script.kernels or self.machine.attention

    def free(self) -> None:
        self._script.freed += 1

    def close(self) -> None:
        pass

    def run(self, job: Job, emit: Callable[[Event], None]) -> None:
        number = len(self._script.seen)
        self._script.seen.append(job.id)
        for stage in (Stage.LOAD, Stage.ENCODE, Stage.DENOISE):
            job.check()
            emit(StageChanged(job_id=job.id, stage=stage))
        if self._script.compiles:
            emit(Compiling(job_id=job.id))
            self._script.wait_if_held()
        for image in range(job.request.count):
            picture = self._script.draw(job, image)
            self._steps(job, emit, image, number, picture)
            for stage in (Stage.DECODE, Stage.SAVE):
                job.check()
                emit(StageChanged(job_id=job.id, stage=stage, image=image))
            emit(self._saved(job, image, picture))

    def _steps(
        self, job: Job, emit: Callable[[Event], None], image: int, number: int, picture: Image.Image
    ) -> None:
        steps = job.request.sampling.num_inference_steps
        for step in range(1, steps + 1):
            if step == max(2, round(steps * self._script.hold_at)):
                self._script.wait_if_held()
                if (fault := self._script.faults.get(number)) is not None:
                    raise fault
            job.check()
            if self._script.step_s:
                time.sleep(self._script.step_s)
            emit(
                StepDone(
                    job_id=job.id, step=step, steps=steps, image=image, images=job.request.count,
                    eta_s=(steps - step) * 0.4, preview=preview_of(picture, step / steps),
                )
            )  # fmt: skip

    def _saved(self, job: Job, image: int, picture: Image.Image) -> ImageSaved:
        seed = job.request.sampling.seed + image
        compile_s = 300.0 if self._script.compiles and not image else 0.0
        path = save_picture(
            picture, job.request, record=job.model, seed=seed, image_index=image, seconds=0.1,
            output_dir=Path(self._options.output_dir), pattern=self._options.filename_pattern,
        )  # fmt: skip
        return ImageSaved(
            job_id=job.id, path=str(path), seed=seed, width=picture.width, height=picture.height, image=image,
            denoise_s=8.0 + compile_s, decode_s=1.5, seconds=10.0 + compile_s, compile_s=compile_s,
        )  # fmt: skip


def preview_of(picture: Image.Image, done: float) -> Preview:
    """The picture at an eighth of its size, mixed with noise for what is not done yet."""
    small = picture.convert("RGB").resize((max(1, picture.width // 8), max(1, picture.height // 8)))
    noise = Image.effect_noise(small.size, 90).convert("RGB")
    mixed = Image.blend(noise, small, done)
    return Preview(width=mixed.width, height=mixed.height, rgb=mixed.tobytes())


OUT_OF_MEMORY = OutOfMemory("Not enough memory for 64x64 pixels.", "Try a smaller size.")
DEVICE_LOST = DeviceLost("The device cuda:0 has stopped working.", "Restart the engine.")
NOT_SAVED = NotSaved(
    "The picture was not saved: the disk is full.", "Free some space, or choose another folder."
)
