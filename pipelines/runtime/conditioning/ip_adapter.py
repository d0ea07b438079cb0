"""IP-Adapters: pictures as prompts, by keys and values of their own in every attention that reads the text.

Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models". diffusers knows
the kinds of files and has the attention; the undoing is ours, as its own puts other processors than there were before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from PIL import Image
from transformers import CLIPImageProcessor

from pipelines.library.inputs import input_picture
from pipelines.runtime import device as devices
from pipelines.runtime.conditioning import tensors
from pipelines.runtime.conditioning.base import Work
from pipelines.runtime.loader import Model, network_plan
from pipelines.runtime.part_plan import PartPlan
from pipelines.spec.errors import ModelError
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

State = dict[str, tensors.Tensors]  # 'image_proj' and 'ip_adapter', as diffusers has them
_KIND = "ip_image_proj"  # what a U-Net's config calls it


def wanted(request: GenerationRequest) -> bool:
    """A scale of 0 is no IP-Adapter, bit for bit."""
    return any(given.scale for given in request.ip_adapters)


def networks(job: Job) -> list[tuple[Path, str]]:
    """Where the networks lie that it needs besides the model; they are of no family."""
    used = (given.model for given in job.request.ip_adapters if given.scale)
    return [(Path(job.parts[model].image_encoder), "") for model in used]


@contextmanager
def applied(work: Work, model: Model) -> Iterator[Model]:
    """The model with its pictures to attend to. Raises RequestError for a picture that cannot be read, ModelError."""
    used = [(n, given) for n, given in enumerate(work.job.request.ip_adapters) if given.scale]
    pictures = [input_picture(given.path, f"ip_adapters[{place}].path") for place, given in used]
    records = [work.job.parts[given.model] for _, given in used]
    states = [tensors.kept(record, work, lambda record=record: _read(record, work)) for record in records]
    unet = getattr(model, work.family.denoiser)
    projections = [_projection(unet, *each, work) for each in zip(records, states, strict=True)]
    embeds = list[torch.Tensor]()
    for picture, record, projection in zip(pictures, records, projections, strict=True):
        with work.asked(_encoder(record, work)) as encoder:
            embeds.append(_embeds(picture, encoder, projection, _guided(work, unet)))
    work.job.check()
    with _attending(unet, states, [float(given.scale) for _, given in used], projections):
        yield replace(model, always={**model.always, "ip_adapter_image_embeds": embeds})


def _read(record: ModelRecord, work: Work) -> State:
    state: State = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in tensors.read(Path(record.path), work.job).tensors.items():
        part, _, name = key.partition(".")
        if part in state:
            state[part][name] = tensor.to(work.device, work.dtype)
    return state


def _projection(unet: Any, record: ModelRecord, state: State, work: Work) -> torch.nn.Module:
    """The layers that turn the encoder's answer into tokens. Raises ModelError where it or the rest does not fit."""
    unfit = f"The IP-Adapter '{record.title}' does not fit the model '{work.job.model.title}': {record.path}"
    shapes = {name: tuple(tensor.shape) for name, tensor in state["ip_adapter"].items()}
    if not _expected(unet).items() <= shapes.items():
        raise ModelError(unfit, "It was made for another model; remove it from the request.")
    try:
        made = unet._convert_ip_adapter_image_proj_to_diffusers(state["image_proj"], low_cpu_mem_usage=True)
    except Exception as error:  # they raise whatever a name that is not expected leads to
        if devices.is_out_of_memory(error) or devices.is_lost(error):
            raise
        reason = " ".join(str(error).split())[:200]
        text = f"The IP-Adapter '{record.title}' cannot be read: {record.path} ({reason})"
        raise ModelError(text, "Get it again.") from error
    if any(parameter.is_meta for parameter in made.parameters()):
        raise ModelError(f"The IP-Adapter '{record.title}' is incomplete: {record.path}", "Get it again.")
    return made.eval().requires_grad_(False)


def _expected(unet: Any) -> dict[str, tuple[int, ...]]:
    """The tensors that an adapter of this U-Net has; its attentions are numbered, those to themselves as well."""
    reading = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    layers = [unet.get_submodule(name.removesuffix(".processor")).to_k for name in reading]
    return {
        f"{2 * n + 1}.{half}.weight": (
            layer.out_features,
            layer.in_features,
        )  # packed weights have other shapes
        for n, layer in enumerate(layers)
        for half in ("to_k_ip", "to_v_ip")
    }


def _encoder(record: ModelRecord, work: Work) -> PartPlan:
    return network_plan(Path(record.image_encoder), work.dtype, work.device)


def _guided(work: Work, unet: Any) -> bool:
    """Whether the pipeline asks twice a step, as StableDiffusionPipeline.do_classifier_free_guidance."""
    return work.family.cfg_scale(work.job.request) > 1 and unet.config.get("time_cond_proj_dim") is None


@torch.no_grad()
def _embeds(picture: Image.Image, encoder: Any, projection: torch.nn.Module, guided: bool) -> torch.Tensor:
    """[1 or 2, 1, width] of a plain adapter, [1 or 2, 1, patches, width] of a finer one; no picture comes first."""
    side = encoder.config.image_size
    see = CLIPImageProcessor(
        size=side, crop_size=side
    )  # without the folder's own settings, as diffusers does it
    pixels = see(picture, return_tensors="pt").pixel_values.to(encoder.device, encoder.dtype)
    if isinstance(projection, ImageProjection):
        seen = encoder(pixels).image_embeds
        nothing = torch.zeros_like(seen)
    else:
        seen, nothing = (
            encoder(each, output_hidden_states=True).hidden_states[-2]
            for each in (pixels, torch.zeros_like(pixels))
        )
    return torch.stack([nothing, seen]) if guided else seen[None]


@contextmanager
def _attending(
    unet: Any, states: list[State], scales: list[float], projections: list[torch.nn.Module]
) -> Iterator[None]:
    """The U-Net with attention to pictures, and afterwards with the very processors that it had."""
    before, kind = dict(unet.attn_processors), unet.config.encoder_hid_dim_type
    made = unet._convert_ip_adapter_attn_to_diffusers(states, low_cpu_mem_usage=True)
    crossed: dict[str, Any] = {name: own for name, own in made.items() if isinstance(own, torch.nn.Module)}
    for own in crossed.values():
        own.eval().requires_grad_(False)
        own.scale = list(scales)
    try:
        unet.set_attn_processor({**before, **crossed})
        unet.encoder_hid_proj = MultiIPAdapterImageProjection(projections)
        unet.config.encoder_hid_dim_type = _KIND
        yield
    finally:
        unet.config.encoder_hid_dim_type = kind
        del unet.encoder_hid_proj  # None would else stay among the modules
        unet.encoder_hid_proj = None
        unet.set_attn_processor(before)
