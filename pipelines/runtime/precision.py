"""In which precision weights lie in memory and in which they compute, which differ where a device is slow in the first.

A processor without 16-bit arithmetic computes in bfloat16 ten times slower than in float32. There weights stay as small
as they are in their file, and each layer is widened for as long as it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

from pipelines.runtime.low_rank import Pair, change
from pipelines.spec.families.base import Family
from pipelines.spec.weights import is_packed_part

# diffusers asks the hook of this name for the precision of a network (get_parameter_dtype).
_HOOK = "layerwise_casting"
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@dataclass(frozen=True, slots=True)
class Precision:
    """`storage` of what is not in 8 bits; that stays so where `keeps_fp8`.

    `weights` as in `GenerationRequest`: what linear layers and convolutions are packed into, empty for nothing.
    """

    compute: torch.dtype
    storage: torch.dtype
    keeps_fp8: bool = False
    weights: str = ""

    def of(self, own: torch.dtype) -> torch.dtype:
        """In which a tensor of a file is kept that has it in `own`."""
        kept = not own.is_floating_point or (self.keeps_fp8 and own.itemsize == 1)
        return own if kept else self.storage

    def of_part(self, family: Family, part: str) -> Precision:
        """Not every part is packed."""
        return self if is_packed_part(family, part) else replace(self, weights="")

    def __str__(self) -> str:
        storage = f"{self.storage} or fp8" if self.keeps_fp8 else str(self.storage)
        plain = storage if storage == str(self.compute) else f"{storage} in {self.compute}"
        return f"{self.weights}, else {plain}" if self.weights else plain


def settle(network: nn.Module, precision: Precision) -> None:
    """A network whose weights are in a smaller precision computes in `precision.compute` from now on.

    Widened for good is what is not a linear layer or a convolution: norms, embeddings and tables are a hundredth of the
    weights, and code reads them outside of any layer.
    """
    if precision.storage is precision.compute and not precision.keeps_fp8:
        return
    for module in network.modules():
        if isinstance(module, _LAYERS):
            if module.weight.dtype is precision.compute or not module.weight.is_floating_point():
                continue  # packed numbers have layers of their own
            registry = HookRegistry.check_if_exists_or_initialize(module)
            registry.register_hook(Widened(precision.compute), _HOOK)
            continue
        for table in (module._parameters, module._buffers):
            for tensor in table.values():
                if tensor is not None and tensor.is_floating_point():
                    tensor.data = tensor.data.to(precision.compute)


def is_widened(network: nn.Module) -> bool:
    """Whether layers of it compute in another precision than their weights lie in."""
    registries = (getattr(module, "_diffusers_hook", None) for module in network.modules())
    return any(registry is not None and registry.get_hook(_HOOK) is not None for registry in registries)


def widened(module: nn.Module) -> Widened | None:
    """Who widens the weights of this layer while it runs, if somebody does."""
    registry = getattr(module, "_diffusers_hook", None)
    hook = registry.get_hook(_HOOK) if registry else None
    return hook if isinstance(hook, Widened) else None


class Widened(ModelHook):
    """diffusers' own hook narrows the weights again after each call, which costs as much as to widen them.

    `low_rank` is what LoRAs change of the weight, once it is wide.
    """

    def __init__(self, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.compute_dtype = compute_dtype
        self.low_rank: Pair | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        weights = [weight for weight in module._parameters.values() if weight is not None]
        small = [weight.data for weight in weights]
        try:
            for weight in weights:
                weight.data = weight.data.to(self.compute_dtype)
            if self.low_rank is not None:
                change(module.weight.data, self.low_rank)  # pyright: ignore[reportArgumentType] - it is a layer
            # T5 narrows what goes into a layer to the precision of its weight.
            wide = [each.to(self.compute_dtype) if _is_number(each) else each for each in args]
            return self.fn_ref.original_forward(*wide, **kwargs)  # pyright: ignore[reportOptionalCall] - set with the hook
        finally:
            for weight, data in zip(weights, small, strict=True):
                weight.data = data


def _is_number(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
