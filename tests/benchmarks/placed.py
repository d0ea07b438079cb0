"""A denoiser of true size with random weights, placed in one of several ways, and what a step of it takes.

The same code runs with a few thousand weights on the processor. `SPREAD` keeps the signal alive through all layers;
zeros would run faster and hide faults.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pipelines.runtime.activations import FLUX, SDXL, UNET, Linear
from pipelines.runtime.movers import mover
from pipelines.runtime.placement import Budget, Place, Placement, Stage, plan
from pipelines.runtime.precision import Precision, settle
from pipelines.runtime.streaming import Home, blocks_of
from pipelines.spec.blocks import Block
from pipelines.spec.sizes import Network, Shape, Sizes
from tests.benchmarks.truesize.configs import MODELS, Part
from tests.benchmarks.truesize.inputs import Inputs, inputs_for
from tests.benchmarks.truesize.writing import SPREAD, on_meta

GIB = 2**30
RAM = 100 * GIB
WARM = 2  # steps before the clock runs
# A tiny one has no card: it may take so much of its own weights, so that some of its blocks stream.
TINY_SHARE = 0.7
TINY: Mapping[str, Mapping[str, Any]] = {
    "sd15": {
        "sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 2,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 16,
    },
    "flux": {
        "in_channels": 64, "num_layers": 3, "num_single_layers": 5, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 24, "pooled_projection_dim": 16, "guidance_embeds": True,
        "axes_dims_rope": (4, 6, 6),
    },
}  # fmt: skip
TINY = {**TINY, "sdxl": {
    **TINY["sd15"], "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 8 * 6 + 16,
}}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`model` of `MODELS`; `storage` 'plain' or 'fp8'; `way` of `WAYS`; `card_gib` 0 for all that there is."""

    model: str
    way: str
    side: int
    storage: str = "plain"
    card_gib: float = 0
    device: str = "cpu"
    steps: int = 5
    tiny: bool = False

    @property
    def part(self) -> str:
        return "transformer" if self.model == "flux" else "unet"

    @property
    def tokens(self) -> int:
        if self.tiny:
            return 16
        return 512 if self.model == "flux" else 77

    @property
    def dtype(self) -> torch.dtype:
        """A processor computes in float32, as 16 bits are ten times slower on many."""
        return torch.float32 if self.device == "cpu" else torch.bfloat16


def tried(trial: Trial) -> dict[str, Any]:
    """`steps` in seconds, `digest` of all steps' numbers, `streamed` bytes a step; peaks of the card in bytes."""
    limited(trial)
    network = network_of(trial)
    generator = torch.Generator().manual_seed(1)
    like = torch.empty(0, device=trial.device, dtype=trial.dtype)
    count = WARM + trial.steps
    calls = [inputs_for(network, trial.side, trial.tokens, like, generator) for _ in range(count)]
    _mark(trial.device)
    with WAYS[trial.way](network, trial) as told:
        seconds, digest = _stepped(network, calls, trial.device)
        return {"steps": seconds, "digest": digest, **told, **_peaks(trial.device)}


def limited(trial: Trial) -> None:
    """A card of `card_gib`, of which 0.6 are not for this process."""
    if trial.card_gib and trial.device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (trial.card_gib - 0.6) * GIB / total))


def network_of(trial: Trial) -> Any:
    """In RAM. The weights are drawn on the device, one at a time: a processor takes minutes for 12e9 of them."""
    part = MODELS[trial.model].parts[trial.part]
    network: Any = on_meta(Part(part.library, part.class_name, TINY[trial.model]) if trial.tiny else part)
    assert not list(network.buffers())
    network.to(trial.dtype).to_empty(device="cpu").requires_grad_(False).eval()
    generator = torch.Generator(trial.device).manual_seed(0)
    for name, weight in network.named_parameters():
        values = torch.empty(weight.shape, device=trial.device).normal_(0, SPREAD, generator=generator)
        norm = name.endswith("weight") and weight.ndim == 1
        weight.data.copy_((values + 1 if norm else values).to(weight.dtype))
    if trial.storage == "fp8":
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight.data = module.weight.data.to(torch.float8_e4m3fn)
        settle(network, Precision(trial.dtype, trial.dtype, keeps_fp8=True))
    return network


def placement_for(home: Home, trial: Trial) -> Placement:
    """As the program plans it for a card of this size with nothing else on it."""
    blocks = tuple(
        Block(name=name, size_bytes=size)
        for name, size in zip(blocks_of(home.network), home.sizes, strict=True)
    )
    network = Network(name=trial.part, blocks=blocks, rest=home.rest.buffer.numel())
    branches = 1 if trial.model == "flux" else 2
    shape = Shape(width=trial.side, height=trial.side, branches=branches, tokens=trial.tokens)
    activations: Linear = {"flux": FLUX, "sdxl": SDXL}.get(trial.model, UNET)
    budget = Budget.of_card(int(trial.card_gib * GIB), RAM)
    if trial.tiny:
        activations = replace(activations, workspace=0, token=0, pixel=0)
        room = int(TINY_SHARE * home.size_bytes) + activations.denoise(shape)
        budget = Budget(vram=room, ram=RAM)
    return plan(Sizes(encoders=(), denoisers=(network,), vae=0), budget, shape, activations)


@contextmanager
def _ours(network: Any, trial: Trial) -> Iterator[dict[str, Any]]:
    home = Home(network, mover(torch.device(trial.device)))
    placement = placement_for(home, trial)
    if not placement.fits:
        raise RuntimeError(f"{trial.model} does not fit a card of {trial.card_gib} GiB")
    place: Place = next(part for part in placement.parts if part.stage is Stage.DENOISE)
    told = {
        "streamed": sum(home.sizes[i] for i in place.streamed),
        "predicted": placement.peaks[Stage.DENOISE],
    }
    with home.visiting(place.streamed, place.slots):
        yield told


@contextmanager
def _resident(network: Any, trial: Trial) -> Iterator[dict[str, Any]]:
    network.to(trial.device)
    yield {}


@contextmanager
def _model_offload(network: Any, trial: Trial) -> Iterator[dict[str, Any]]:
    """What `enable_model_cpu_offload` does with a denoiser."""
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(network, trial.device)
    yield {}


@contextmanager
def _sequential(network: Any, trial: Trial) -> Iterator[dict[str, Any]]:
    """What `enable_sequential_cpu_offload` does with a denoiser."""
    from accelerate import cpu_offload

    cpu_offload(network, torch.device(trial.device), offload_buffers=True)
    yield {}


@contextmanager
def _group(network: Any, trial: Trial) -> Iterator[dict[str, Any]]:
    """What `enable_group_offload` does with a denoiser, at its fastest."""
    from diffusers.hooks import apply_group_offloading

    streams = trial.device == "cuda"
    apply_group_offloading(
        network, onload_device=torch.device(trial.device), offload_device=torch.device("cpu"),
        offload_type="leaf_level", use_stream=streams, record_stream=streams,
    )  # fmt: skip
    yield {}


WAYS: Mapping[str, Callable[[Any, Trial], Any]] = {
    "ours": _ours,
    "resident": _resident,
    "model_offload": _model_offload,
    "sequential": _sequential,
    "group": _group,
}


@torch.no_grad()
def _stepped(network: Any, calls: list[Inputs], device: str) -> tuple[list[float], str]:
    """The host waits for the device once, at the end. Raises ValueError where a step gave no numbers."""
    marks, found = [], []
    for step, call in enumerate(calls, 1):
        found += network(**call, return_dict=False)
        if step >= WARM:
            marks.append(_now(device))
    whole = torch.stack(found).cpu()
    if not whole.isfinite().all():
        raise ValueError("a step gave numbers that are not finite")
    digest = hashlib.sha256(whole.view(torch.uint8).numpy().tobytes()).hexdigest()
    return [_between(a, b) for a, b in itertools.pairwise(marks)], digest


def _now(device: str) -> Any:
    if device != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(begin: Any, end: Any) -> float:
    return begin.elapsed_time(end) / 1e3 if isinstance(begin, torch.cuda.Event) else end - begin


def _mark(device: str) -> None:
    """The peaks are those of the steps, and not of what drew the weights."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peaks(device: str) -> dict[str, int]:
    if device != "cuda":
        return {}
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
