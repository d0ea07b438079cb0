"""Jobs for models of true size without weights: a picture of a family, with what can be added to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image

from pipelines.library.models import record_of
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import (
    ControlInput,
    GenerationRequest,
    LoraInput,
    Prompt,
    Refiner,
    Sampling,
    Size,
)
from tests.benchmarks.truesize.configs import MODELS
from tests.benchmarks.truesize.hollow import write_hollow, write_hollow_lora, write_hollow_network
from tests.benchmarks.truesize.writing import on_meta

DTYPES = {"flux": "bfloat16"}  # what a card computes in; float16 for the others
NATIVE = {"sd15": 512}  # pixels a side; 1024 for the others
FLUX_CONTROL = {"num_layers": 5, "num_single_layers": 0}  # as those of InstantX


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """`model` of `MODELS`; `side` in pixels, 0 for its own; `weights` as in `GenerationRequest`."""

    model: str
    side: int = 0
    weights: str = ""
    cfg: bool = True
    lora: bool = False
    control: bool = False
    refiner: bool = False

    @property
    def name(self) -> str:
        told = (self.lora, "lora"), (self.control, "control"), (self.refiner, "refiner")
        plus = [word for wanted, word in told if wanted]
        size = [str(self.side)] if self.side else []
        return "+".join(("_".join((self.model, *size, *([self.weights] if self.weights else []))), *plus))

    @property
    def dtype(self) -> str:
        return DTYPES.get(self.model, "float16")


class Shelf:
    """Hollow files in `folder`, written when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[str, ModelRecord] = {}

    def job(self, drawing: Drawing) -> Job:
        """One step."""
        record = self.model(drawing.model)
        family = by_id(record.family)
        side = drawing.side or NATIVE.get(drawing.model, 1024)
        parts: dict[str, ModelRecord] = {}
        more: dict[str, Any] = {}
        if drawing.lora:
            lora = self._lora(drawing.model)
            parts[lora.id], more["loras"] = lora, (LoraInput(model=lora.id, weight=0.8),)
        if drawing.control:
            control = self._control(drawing.model)
            parts[control.id] = control
            more["controls"] = (ControlInput(model=control.id, path=str(self._picture())),)
        refiner = self.model("refiner") if drawing.refiner else None
        if refiner:
            more["refiner"] = Refiner(model=refiner.id, switch_at=0.5)
        guidance = family.sampling.guidance_scale if drawing.cfg else 1.0
        request = GenerationRequest(
            model=record.id, prompt=Prompt(text="a red circle"), size=Size(width=side, height=side),
            sampling=Sampling(
                scheduler=family.sampling.scheduler, num_inference_steps=2 if refiner else 1,
                guidance_scale=guidance, seed=1,
            ),
            weights=drawing.weights, **more,
        )  # fmt: skip
        return Job(id=1, request=request, model=record, refiner=refiner, parts=parts)

    def model(self, name: str) -> ModelRecord:
        return self._kept(name, lambda path: write_hollow(MODELS[name], path, _dtype(name)))

    def _lora(self, name: str) -> ModelRecord:
        part, network = _denoiser(name)
        path = self._folder / f"{name}-lora" / f"{name}-lora.safetensors"
        family = self.model(name).family
        return self._kept(path.name, lambda _: write_hollow_lora(network, part, path, family, _dtype(name)))

    def _control(self, name: str) -> ModelRecord:
        _, network = _denoiser(name)
        with torch.device("meta"):
            if name == "flux":
                config = {**MODELS[name].parts["transformer"].config, **FLUX_CONTROL}
                control: Any = diffusers.FluxControlNetModel(**config)
            else:
                control = diffusers.ControlNetModel.from_unet(network, load_weights_from_unet=False)
        family = self.model(name).family
        return self._kept(
            f"{name}-control", lambda path: write_hollow_network(control, path, family, _dtype(name))
        )

    def _kept(self, name: str, write: Any) -> ModelRecord:
        if name not in self._records:
            self._records[name] = record = record_of(write(self._folder / name))
            assert not record.problem, record.problem
        return self._records[name]

    def _picture(self) -> Path:
        path = self._folder / "control.png"
        if not path.exists():
            Image.new("RGB", (64, 64)).save(path)
        return path


def _dtype(name: str) -> torch.dtype:
    return getattr(torch, DTYPES.get(name, "float16"))


def _denoiser(name: str) -> tuple[str, Any]:
    part = "transformer" if name == "flux" else "unet"
    return part, on_meta(MODELS[name].parts[part])
