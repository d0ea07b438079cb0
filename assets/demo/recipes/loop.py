"""The training loop that every denoiser of the demos shares: some processes, one optimiser step, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from assets.demo.recipes.muon import optimizers
from assets.demo.recipes.training import Average, Clock, cosine, load_checkpoint, log, save_checkpoint

Loss = Callable[[nn.Module, float], torch.Tensor]


def _share_gradients(parameters: list[nn.Parameter]) -> None:
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for p in parameters:
        if p.grad is not None:
            p.grad.copy_(flat[offset : offset + p.numel()].view_as(p.grad))
            offset += p.numel()


def _agreed(fraction: float) -> float:
    """Rank 0's view of how far the training is, so that all processes stop at the same step."""
    if not dist.is_initialized():
        return fraction
    shared = torch.tensor([fraction])
    dist.broadcast(shared, 0)
    return float(shared)


def train(
    path: Path,
    module: nn.Module,
    loss_of: Loss,
    seconds: float,
    *,
    rate: float,
    rank: int = 0,
    decay: float = 0.9985,
    refresh: Callable[[], int] = lambda: 0,
    hidden: Callable[[str], bool] = lambda _name: False,
) -> None:
    """Runs, or resumes from the checkpoint `path`, `seconds` of training.

    `loss_of(module, fraction)` draws its own batch; `fraction` (0 to 1) tells how far the training is. `refresh` is
    called now and then and answers how many drawings there are. The matrices whose name is `hidden` are Muon's. The
    checkpoint's `average` is what is shipped.
    """
    average = Average(module, decay)
    parameters = [p for p in module.parameters() if p.requires_grad]
    steppers = optimizers(module, rate, hidden)
    step, clock = 0, Clock()
    if state := load_checkpoint(path):
        module.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, known in zip(steppers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        step, clock = state["step"], Clock(state["seconds"])
    torch.manual_seed(1000 * rank + step + 2)
    mean = None

    def save() -> None:
        if rank == 0:
            save_checkpoint(path, {"model": module.state_dict(), "average": average.state_dict(),
                                   "optimizers": [o.state_dict() for o in steppers],
                                   "step": step, "seconds": clock.seconds()})  # fmt: skip

    while (fraction := _agreed(clock.seconds() / seconds)) < 1:
        for optimizer in steppers:
            for group in optimizer.param_groups:
                group["lr"] = rate * cosine(fraction, warmup=0.01)
        loss = loss_of(module, fraction)
        module.zero_grad()
        loss.backward()
        if dist.is_initialized():
            _share_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in steppers:
            optimizer.step()
        average.update(module)
        step += 1
        seen = loss.detach()  # read in the report only: an accelerator would have to be waited for
        mean = seen if mean is None else torch.lerp(mean, seen, 0.01)
        if step % 100 == 0:
            known = refresh()
            if rank == 0:
                log(path.parent, path.stem, step=step, seconds=round(clock.seconds()), loss=round(float(mean), 4),
                    latents=known)  # fmt: skip
        if step % 250 == 0:
            save()
    save()
