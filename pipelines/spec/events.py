"""What the engine tells: frozen events. Each job ends with exactly one of the terminal three."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pipelines.spec.machine import Machine, Option
from pipelines.spec.memory import Holder, Room


class Stage(StrEnum):
    """Where a job is. The order is the order of the work."""

    LOAD = "load"
    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    SAVE = "save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A small picture of the unfinished latents: `rgb` holds width * height * 3 bytes, row by row."""

    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQueued:
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChanged:
    """`image` counts from 0 and says which of the job's pictures; `note` is a sentence for the user, mostly empty."""

    job_id: int
    stage: Stage
    image: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """`done` of `total` bytes that this job reads are in memory; `part` is being read ('unet', 'text_encoder' ...).

    Told a few times a second while a model is read from its files, and never for what is in memory already.
    `bytes_per_s` is the speed so far, `eta_s` the seconds that the rest takes at it, None when it is not known.
    """

    job_id: int
    done: int
    total: int
    bytes_per_s: float = 0.0
    eta_s: float | None = None
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiling:
    """A program of the denoiser's blocks is being compiled, for up to minutes; a cancel has to wait for its end.

    Told of each program. It goes on with the next event of the job.
    """

    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """`step` of `steps` (from 1) of picture `image` is done; `eta_s` seconds until the whole job is done, or None."""

    job_id: int
    step: int
    steps: int
    image: int = 0
    images: int = 1
    eta_s: float | None = None
    preview: Preview | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSaved:
    """`path` exists, whole, with its metadata. `marks` are warnings such as 'uniform' (a picture of one colour).

    `seconds` from the first step until it was saved, of them `denoise_s` and `decode_s`; 0 where nobody measured.
    `compile_s` of `denoise_s` were taken by a compiler, which the next picture does not wait for.
    `pace` names what of the plan made its steps slower, as `Placement.pace`.
    """

    job_id: int
    path: str
    seed: int
    width: int
    height: int
    image: int = 0
    marks: tuple[str, ...] = ()
    denoise_s: float = 0.0
    decode_s: float = 0.0
    seconds: float = 0.0
    compile_s: float = 0.0
    pace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    job_id: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled:
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """`message` is one sentence for the user, `hint` what to do, `kind` the error's class, `is_bug` if unexpected.

    `field` is the dotted path of the wrong field where the request is to blame, else empty.
    """

    job_id: int
    message: str
    hint: str = ""
    kind: str = "EngineError"
    field: str = ""
    is_bug: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    """torch is imported and the engine built, `seconds` after the worker's start; `device` as in 'cpu', 'cuda:0'.

    `machine` is what can be chosen here.
    """

    seconds: float
    device: str
    machine: Machine = field(default_factory=Machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied:
    """The lane has ended although nobody asked; queued jobs are kept. A new worker takes them over."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChanged:
    """Told once the engine is there, after each load, before the end of a job and once models were let go of.

    `device_name` as its maker calls it; `card` is its memory, None where all is computed in RAM; `encoders` as in
    `Memory`.
    """

    device_name: str
    card: Room | None = None
    encoders: Room | None = None
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelsTried:
    """Answers `Worker.look`: all kernels of attention, and why one cannot compute the `model` of that id."""

    model: str
    attention: tuple[Option, ...]


Terminal = JobFinished | JobCancelled | JobFailed
Event = (
    JobQueued | JobStarted | StageChanged | LoadProgress | Compiling | StepDone | ImageSaved | JobFinished
    | JobCancelled | JobFailed | WorkerReady | WorkerDied | MemoryChanged | KernelsTried
)  # fmt: skip


def is_terminal(event: object) -> bool:
    return isinstance(event, JobFinished | JobCancelled | JobFailed)
