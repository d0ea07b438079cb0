"""The prompts of the semantics benchmark: held-out wordings of flat drawings, the same 200 at every run."""

from __future__ import annotations

import random
from dataclasses import replace

from assets.demo.recipes.captions import caption, held_out
from assets.demo.recipes.drawings import Drawing, random_drawing

# How many of 200 are of each kind; the singles are half in the middle, half at a named place.
_SHARES = {"single": 110, "count": 40, "pair": 50}


def prompts(count: int = 200, seed: int = 2026) -> list[tuple[str, Drawing]]:
    """`count` different captions that no training caption equals word for word, with what each asks for."""
    rng = random.Random(seed)
    kinds = [kind for kind, share in _SHARES.items() for _ in range(share)]
    rng.shuffle(kinds)
    chosen: dict[str, Drawing] = {}
    while len(chosen) < count:
        drawing = replace(random_drawing(rng, kinds[len(chosen) % len(kinds)]), style="flat")
        text = caption(drawing, rng)
        if held_out(text):
            chosen.setdefault(text, drawing)
    return list(chosen.items())
