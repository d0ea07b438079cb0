"""The tokenizer and the CLIPTextModel of the demos.

The encoder is not left to learn English from a denoiser's loss, which takes it a hundred thousand pictures: it first
learns to tell what a caption says (colours, shapes, places ...) from the hidden states that the denoiser will read. Of
two shapes it is also asked what stands at which side of the sheet: a denoiser that has to work that out of "under" and
the order of the words mixes the two colours.
"""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from assets.demo.recipes.captions import caption, held_out, vocabulary
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
)  # fmt: skip
from assets.demo.recipes.training import Clock, cosine, load_checkpoint, log, save_checkpoint

LENGTH = 77
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


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE (GPT-2's table), in CLIP's order."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in kept]
    return symbols + [chr(256 + i) for i in range(256 - len(kept))]


def _merge(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    while len(symbols) > 1:
        rank, i = min((ranks.get(pair, 1 << 30), i) for i, pair in enumerate(pairwise(symbols)))
        if rank == 1 << 30:
            break
        symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]
    return symbols


def build_tokenizer() -> CLIPTokenizer:
    """A genuine CLIP BPE in which every word of the captions is one token; any other text falls to bytes."""
    symbols = _byte_symbols()
    ranks: dict[tuple[str, str], int] = {}
    for word in vocabulary():
        parts = _merge([*word[:-1], word[-1] + "</w>"], ranks)
        while len(parts) > 1:  # earlier words' merges come first, so what is left is merged from the left
            ranks[(parts[0], parts[1])] = len(ranks)
            parts = [parts[0] + parts[1], *parts[2:]]
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in ranks)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=list(ranks), model_max_length=LENGTH
    )


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """3 layers x 128. Token embeddings start wide: CLIP's 0.02 leaves all words alike to a small model."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=128, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    encoder = CLIPTextModel(config)
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.5)
    return encoder


def trained_caption(drawing: Drawing, rng: random.Random) -> str:
    """A wording that is not held out for the benchmark."""
    while held_out(text := caption(drawing, rng)):
        pass
    return text


def tokens_of(tokenizer: CLIPTokenizer, texts: list[str], length: int = LENGTH) -> torch.Tensor:
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


def _batch(tokenizer: CLIPTokenizer, rng: random.Random, size: int, length: int):
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


def train(
    work: Path, seconds: float, batch: int = 128, start: Path | None = None
) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Runs, or resumes, the reading lessons; the states asked are those at the end token and at a random pad.

    `start` is a text_encoder folder to begin with instead of chance.
    """
    tokenizer = build_tokenizer()
    encoder = build_encoder(tokenizer)
    if start is not None:
        encoder.load_state_dict(CLIPTextModel.from_pretrained(start, dtype=torch.float32).state_dict())
    heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in _FIELDS.items()})
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=1e-2)
    step, clock = 0, Clock()
    if state := load_checkpoint(work / "text_encoder.pt"):
        encoder.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
    rng = random.Random(11 + step)
    mean = 0.0
    while clock.seconds() < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * cosine(clock.seconds() / seconds)
        ids, targets = _batch(tokenizer, rng, batch, LENGTH if rng.random() < 0.15 else 36)
        end = (ids == tokenizer.eos_token_id).int().argmax(1)
        pad = torch.tensor([rng.randint(int(e), ids.shape[1] - 1) for e in end])
        states = encoder(ids).last_hidden_state
        rows = torch.arange(len(ids))
        at_end, hits = _loss_and_hits(heads, states[rows, end], targets)
        at_pad, _ = _loss_and_hits(heads, states[rows, pad], targets)
        optimizer.zero_grad()
        (at_end + at_pad).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        mean = 0.95 * mean + 0.05 * hits
        if step % 100 == 0:
            log(work, "text", step=step, seconds=round(clock.seconds()), right=round(mean, 4))
    state = {"model": encoder.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
    save_checkpoint(work / "text_encoder.pt", {**state, "step": step, "seconds": clock.seconds()})
    return tokenizer, encoder.eval().requires_grad_(False)
