"""Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): momentum made orthogonal.

torch.optim.Muon computes in bfloat16, for which a CPU without it takes ten times as long; this one keeps the
gradient's own type. The step is scaled to the size of AdamW's (Liu et al., "Muon is Scalable for LLM Training", 2025),
so one learning rate serves both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import nn

_A, _B, _C = 3.4445, -4.7750, 2.0315  # Jordan's quintic


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """About U V^T of the singular value decomposition U S V^T, by Newton-Schulz; [..., rows, columns] as `matrix`."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Of parameters with two dimensions or more; a convolution's are taken as one row an output channel.

    Matrices of one shape are made orthogonal together: an accelerator waits for orders and not for sums.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 1e-2
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for shape, parameters in alike.items():
                moments = [self.state[p].setdefault("moment", torch.zeros_like(p)) for p in parameters]
                gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
                torch._foreach_lerp_(moments, list(gradients), 1 - group["momentum"])
                ahead = gradients.lerp(torch.stack(moments), group["momentum"]).flatten(2)
                size = 0.2 * math.sqrt(max(ahead.shape[1:]))
                updates = list(orthogonal(ahead).reshape(-1, *shape))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(parameters, updates, alpha=-group["lr"] * size)


def optimizers(module: nn.Module, rate: float, hidden: Callable[[str], bool]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices whose name is `hidden`, AdamW for the rest."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    ours = [p for name, p in named if p.ndim > 1 and hidden(name)]
    rest = [p for name, p in named if not (p.ndim > 1 and hidden(name))]
    found: list[torch.optim.Optimizer] = [Muon(ours, rate)] if ours else []
    return [*found, torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=1e-2)]
