"""Reading lessons: a text encoder learns what a caption says before any denoiser reads its hidden states.

It is not left to learn English from a denoiser's loss, which takes it a hundred thousand pictures. Asked are colours,
shapes, places ... and of two shapes also what stands at which side of the sheet: a denoiser that has to work that out
of "under" and the order of the words mixes the two colours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.drawings import (
    COLORS,
    COLUMNS,
    KINDS,
    RELATIONS,
    ROWS,
    SHAPES,
    SIZES,
    STYLES,
    THINGS,
    TIMES,
    Drawing,
    random_drawing,
)
from assets.demo.recipes.training import Clock, cosine, load_checkpoint, log, save_checkpoint

SHORT = (
    36  # tokens; the longest caption without fillers is shorter, and lessons of this length are twice as fast
)
NOTHING = "nothing"
# Where the first and the second of a pair stand.
SIDES = ("top", "bottom", "left", "right")
_STANDS = {"above": ("top", "bottom"), "below": ("bottom", "top"), "left of": ("left", "right"),
           "right of": ("right", "left")}  # fmt: skip
# What the encoder is asked; a field that a kind of drawing does not use is not asked of it.
_FIELDS: dict[str, tuple] = {
    "kind": KINDS, "shape": SHAPES, "color": COLORS, "background": COLORS, "size": tuple(SIZES),
    "column": tuple(COLUMNS), "row": tuple(ROWS), "count": (1, 2, 3, 4), "other_shape": SHAPES,
    "other_color": COLORS, "relation": RELATIONS, "thing": THINGS, "time": TIMES, "style": STYLES,
    **{f"{side}_color": (*COLORS, NOTHING) for side in SIDES},
    **{f"{side}_shape": (*SHAPES, NOTHING) for side in SIDES},
}  # fmt: skip
_AT_SIDES = tuple(f"{side}_{what}" for side in SIDES for what in ("color", "shape"))
_ASKED = {
    "single": ("kind", "shape", "color", "background", "size", "column", "row", "style"),
    "count": ("kind", "shape", "color", "background", "count", "style"),
    "pair": (
        "kind",
        "shape",
        "color",
        "background",
        "other_shape",
        "other_color",
        "relation",
        "style",
        *_AT_SIDES,
    ),
    "scene": ("kind", "color", "thing", "time"),
}


def tokens_of(tokenizer: Any, texts: list[str], length: int) -> torch.Tensor:
    """int64 [len(texts), length], padded as the pipelines pad."""
    return tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


def _answer(drawing: Drawing, field: str) -> object:
    """What `drawing` has in `field` of _FIELDS."""
    if field not in _AT_SIDES:
        return getattr(drawing, field)
    side, what = field.split("_")
    first, second = _STANDS[drawing.relation]
    if side == first:
        return getattr(drawing, what)
    return getattr(drawing, f"other_{what}") if side == second else NOTHING


def _batch(tokenizer: Any, rng: random.Random, size: int, length: int):
    drawings = [random_drawing(rng) for _ in range(size)]
    ids = tokens_of(tokenizer, [trained_caption(d, rng) for d in drawings], length)
    targets = {
        name: torch.tensor(
            [values.index(_answer(d, name)) if name in _ASKED[d.kind] else -100 for d in drawings]
        )
        for name, values in _FIELDS.items()
    }
    return ids, targets


def _loss_and_hits(heads: nn.ModuleDict, states: torch.Tensor, targets: dict[str, torch.Tensor]):
    loss, hits, asked = torch.zeros(()), 0, 0
    for name, wanted in targets.items():
        if bool((wanted >= 0).any()):
            answer = heads[name](states).float()
            loss = loss + F.cross_entropy(answer, wanted)
            hits += int((answer.argmax(-1) == wanted).sum())
            asked += int((wanted >= 0).sum())
    return loss, hits / asked


def teach(
    path: Path,
    tokenizer: Any,
    encoder: nn.Module,
    read: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]],
    length: int,
    seconds: float,
    batch: int = 128,
) -> None:
    """Runs, or resumes from the checkpoint `path`, `seconds` of lessons; leaves `encoder` frozen.

    `read` gives the hidden states [batch, length, width] of token ids, and the pooled output [batch, width] if a
    denoiser sees it too; asked are that, the state at the end token, and the one at a random pad behind it.
    """
    width = read(tokens_of(tokenizer, [""], SHORT))[0].shape[-1]
    heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in _FIELDS.items()})
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=1e-2)
    step, clock = 0, Clock()
    if state := load_checkpoint(path):
        encoder.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
    rng = random.Random(11 + step)
    mean = 0.0

    def save() -> None:
        save_checkpoint(path, {"model": encoder.state_dict(), "heads": heads.state_dict(),
                               "optimizer": optimizer.state_dict(), "step": step,
                               "seconds": clock.seconds()})  # fmt: skip

    while clock.seconds() < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * cosine(clock.seconds() / seconds)
        ids, targets = _batch(tokenizer, rng, batch, length if rng.random() < 0.15 else SHORT)
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        pad = torch.tensor([rng.randint(int(e), ids.shape[1] - 1) for e in end])
        states, pooled = read(ids)
        rows = torch.arange(len(ids))
        at_end, hits = _loss_and_hits(heads, states[rows, end], targets)
        loss = at_end + _loss_and_hits(heads, states[rows, pad], targets)[0]
        if pooled is not None:
            loss = loss + _loss_and_hits(heads, pooled, targets)[0]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        mean = 0.95 * mean + 0.05 * hits
        if step % 100 == 0:
            log(path.parent, path.stem, step=step, seconds=round(clock.seconds()), right=round(mean, 4))
            save()
    save()
    encoder.eval().requires_grad_(False)
