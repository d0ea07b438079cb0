"""ControlNets: a second network that reads a control picture and steers the denoiser's blocks.

Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from pipelines.library.inputs import input_picture
from pipelines.runtime.conditioning.base import Work
from pipelines.runtime.loader import Model, network_plan
from pipelines.runtime.preprocess.table import PREPROCESSORS
from pipelines.spec.families.base import Task
from pipelines.spec.job import Job
from pipelines.spec.request import ControlInput, GenerationRequest, Size


def wanted(request: GenerationRequest) -> bool:
    """A weight of 0 is no ControlNet, bit for bit."""
    return any(control.weight for control in request.controls)


def networks(job: Job) -> list[tuple[Path, str]]:
    """Where the networks lie that it needs besides the model, and for which family they are."""
    return [_place(job, control) for control in job.request.controls if control.weight]


def _place(job: Job, control: ControlInput) -> tuple[Path, str]:
    record = job.parts[control.model]
    return Path(record.path), record.family


@contextmanager
def applied(work: Work, model: Model) -> Iterator[Model]:
    """The model with its ControlNets beside it. Raises RequestError for a picture that cannot be read, ModelError."""
    used = [(n, control) for n, control in enumerate(work.job.request.controls) if control.weight]
    size = work.job.request.size
    pictures = []
    for place, control in used:
        work.job.check()
        pictures.append(control_picture(control, size, f"controls[{place}].path"))
    nets = [_net(work, control) for _, control in used]
    call = _call([control for _, control in used], pictures, work.family.control_image)
    yield replace(
        model, task=Task.CONTROL, added={**model.added, "controlnet": _one_or_all(nets)},
        call={**model.call, **call},
    )  # fmt: skip


def control_picture(control: ControlInput, size: Size, field: str) -> Image.Image:
    """What the ControlNet sees: the middle of the picture, scaled until it fills `size`, then preprocessed."""
    picture = input_picture(control.path, field)
    if picture.size != (size.width, size.height):
        picture = ImageOps.fit(picture, (size.width, size.height), Image.Resampling.LANCZOS)
    return PREPROCESSORS[control.preprocess](picture) if control.preprocess else picture


def _net(work: Work, control: ControlInput) -> Any:
    path, family = _place(work.job, control)
    return work.beside(network_plan(path, work.dtype, work.device, family))


def _call(controls: list[ControlInput], pictures: list[Image.Image], image: str) -> Mapping[str, Any]:
    return {
        image: _one_or_all(pictures),
        "controlnet_conditioning_scale": _one_or_all([float(control.weight) for control in controls]),
        "control_guidance_start": _one_or_all([control.start for control in controls]),
        "control_guidance_end": _one_or_all([control.end for control in controls]),
    }


def _one_or_all(values: list[Any]) -> Any:
    """The pipelines take one ControlNet's bare, and lists for several."""
    return values[0] if len(values) == 1 else values
