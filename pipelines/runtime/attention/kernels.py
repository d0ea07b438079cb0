"""`KERNELS`: how each row of the table of attention is run, and why a device may not have it.

Torch's own kernels are chosen by the switches of torch.backends.cuda, which hold for the CPU as well; with only one of
them on, a kernel that cannot take a shape raises, and no other one runs in its place.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata

import torch
from torch.backends import cuda as switches
from torch.nn.functional import scaled_dot_product_attention

Run = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float | None], torch.Tensor]
OWN = scaled_dot_product_attention  # torch's function as it came, which `applied` puts another one before

_SWITCHES: Mapping[str, tuple[Callable[[bool], None], bool]] = {
    "flash": (switches.enable_flash_sdp, switches.flash_sdp_enabled()),
    "efficient": (switches.enable_mem_efficient_sdp, switches.mem_efficient_sdp_enabled()),
    "cudnn": (switches.enable_cudnn_sdp, switches.cudnn_sdp_enabled()),
    "math": (switches.enable_math_sdp, switches.math_sdp_enabled()),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """`run` answers [batch, heads, tokens, width] for query, key and value of that shape, and a scale or None.

    It is traced where blocks are compiled, and may import nothing: `lacks`, which is asked before, has done that.

    `lacks` says why a device does not have it, empty where it may. `loose` is how many times the rounding of the
    precision its answer may be off.
    """

    id: str
    run: Run
    lacks: Callable[[torch.device], str]
    loose: float = 1.0


def _torch_run(
    name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Set for this one call alone: they are the whole process's, and an engine that is replaced may still run."""
    for own, (switch, _) in _SWITCHES.items():
        switch(own == name)
    try:
        return OWN(query, key, value, scale=scale)
    finally:
        for switch, before in _SWITCHES.values():
            switch(before)


_REFUSALS = ("No available kernel", "No viable backend")  # on a card, on the CPU


def is_refusal(error: BaseException) -> bool:
    """Whether torch says that the one kernel that is switched on cannot take the shape."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _REFUSALS)


def _torch_lacks(name: str, device: torch.device) -> str:
    if device.type == "cpu":
        return "" if name in ("flash", "math") else "it computes on graphics cards only"
    if device.type != "cuda":
        return f"torch has only its own choice on '{device.type}'"
    if name == "cudnn" and torch.version.hip:
        return "it is for NVIDIA's cards, and this torch is for AMD's"
    return ""


def _xformers(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    attend = sys.modules["xformers.ops"].memory_efficient_attention
    heads_last = (each.transpose(1, 2) for each in (query, key, value))
    return attend(*heads_last, scale=scale).transpose(1, 2)


def _xformers_lacks(device: torch.device) -> str:
    if found := _package_lacks("xformers", "xformers.ops", device):
        return found
    library = importlib.import_module("xformers._cpp_lib")  # imports even where its kernels do not load
    if reason := library._cpp_library_load_exception:
        return f"its kernels were built for another torch or CUDA ({_short(reason)})"
    return ""


def _sage(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    attend = sys.modules["sageattention"].sageattn
    return attend(query, key, value, tensor_layout="HND", sm_scale=scale)


def _package_lacks(package: str, module: str, device: torch.device) -> str:
    if device.type != "cuda":
        return "it computes on graphics cards of NVIDIA and AMD only"
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"the package {package} is not installed"
    try:
        importlib.import_module(module)
    except Exception as error:  # built for another torch, half updated: they fail in every way
        return f"{package} {version} cannot be loaded ({_short(error)})"
    return ""


def _short(error: object) -> str:
    return " ".join(str(error).split())[:160]


KERNELS = (
    *(
        Kernel(id=name, run=partial(_torch_run, name), lacks=partial(_torch_lacks, name))
        for name in _SWITCHES
    ),
    Kernel(id="xformers", run=_xformers, lacks=_xformers_lacks),
    Kernel(id="sage", run=_sage, lacks=partial(_package_lacks, "sageattention", "sageattention"), loose=20.0),
)
BY_ID = {kernel.id: kernel for kernel in KERNELS}
