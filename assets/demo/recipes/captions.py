"""Plain English for a `Drawing`, in many wordings, and the rule that keeps some captions out of training.

`held_out` is decided by the caption's own text, so the benchmark can draw prompts that no training caption
contains word for word, without keeping a list.
"""

from __future__ import annotations

import random
import zlib

from assets.demo.recipes.drawings import COLORS, COUNTS, SHAPES, THINGS, TIMES, Drawing

_SYNONYMS = {
    "large": ("large", "large", "big", "huge"),
    "small": ("small", "small", "little", "tiny"),
    "gray": ("gray", "gray", "grey"),
    "circle": ("circle", "circle", "circle", "disc"),
}
_OPENERS = ("", "", "", "", "", "a picture of ", "a drawing of ", "an image of ", "a painting of ")
_FILLERS = (
    "beautiful", "masterpiece", "best quality", "highly detailed", "simple", "clean", "sharp focus",
    "minimalist", "digital art", "illustration", "vector art", "high resolution", "nice", "professional",
)  # fmt: skip
_TIME_PHRASES = {
    "day": ("by day", "in the daytime", "on a sunny day", "under a blue sky", "in sunshine"),
    "sunset": ("at sunset", "at sunset", "in the evening", "at dusk", "under a sunset sky"),
    "night": ("at night", "at night", "under the stars", "in the moonlight", "under a night sky"),
}
_PLACES = {
    ("left", "top"): ("in the top left corner", "in the upper left", "at the top left"),
    ("right", "top"): ("in the top right corner", "in the upper right", "at the top right"),
    ("left", "bottom"): ("in the bottom left corner", "in the lower left", "at the bottom left"),
    ("right", "bottom"): ("in the bottom right corner", "in the lower right", "at the bottom right"),
    ("middle", "top"): ("at the top",),
    ("middle", "bottom"): ("at the bottom",),
    ("left", "middle"): ("on the left", "on the left side"),
    ("right", "middle"): ("on the right", "on the right side"),
}
_RELATION_PHRASES = {
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
}


def _word(word: str, rng: random.Random) -> str:
    return rng.choice(_SYNONYMS.get(word, (word,)))


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeio" else f"a {phrase}"


def _noun(color: str, shape: str, rng: random.Random, size: str = "medium") -> str:
    words = [] if size == "medium" else [_word(size, rng)]
    return " ".join([*words, _word(color, rng), _word(shape, rng)])


def _styled(subject: str, drawing: Drawing, rng: random.Random) -> str:
    if drawing.style == "outline":
        return rng.choice(("an outline of ", "an outline drawing of ")) + subject
    if drawing.style == "watercolor":
        return rng.choice(("a watercolor of ", "a watercolor painting of ")) + subject
    return rng.choice(_OPENERS) + subject


def _subject(drawing: Drawing, rng: random.Random) -> str:
    if drawing.kind == "count":
        number = {n: word for word, n in COUNTS.items()}[drawing.count]
        return f"{number} {_noun(drawing.color, drawing.shape, rng)}s"
    if drawing.kind == "pair":
        relation = rng.choice(_RELATION_PHRASES[drawing.relation])
        first = _article(_noun(drawing.color, drawing.shape, rng))
        return f"{first} {relation} {_article(_noun(drawing.other_color, drawing.other_shape, rng))}"
    return _article(_noun(drawing.color, drawing.shape, rng, drawing.size))


def caption(drawing: Drawing, rng: random.Random) -> str:
    """One wording of the drawing. A white background may be left unsaid, as may a medium size."""
    if drawing.kind == "scene":
        thing = _article(f"{_word(drawing.color, rng)} {drawing.thing}")
        return _decorated(f"{rng.choice(_OPENERS)}{thing} {rng.choice(_TIME_PHRASES[drawing.time])}", rng)
    place = ""
    if drawing.kind == "single" and (drawing.column, drawing.row) != ("middle", "middle"):
        place = " " + rng.choice(_PLACES[drawing.column, drawing.row])
    background = _article(f"{_word(drawing.background, rng)} background")
    form = rng.random()
    if drawing.background == "white" and form < 0.5:
        text = _styled(_subject(drawing, rng), drawing, rng) + place
    elif form < 0.86:
        text = f"{_styled(_subject(drawing, rng), drawing, rng)}{place} on {background}"
    elif form < 0.93:
        text = f"{_styled(_subject(drawing, rng), drawing, rng)}{place}, {_word(drawing.background, rng)} background"
    else:
        text = f"on {background}, {_styled(_subject(drawing, rng), drawing, rng)}{place}"
    return _decorated(text, rng)


def _decorated(text: str, rng: random.Random) -> str:
    """Words that people add and that change nothing: the model learns to ignore them."""
    if rng.random() > 0.15:
        return text
    extra = ", ".join(rng.sample(_FILLERS, rng.randint(1, 4)))
    return f"{extra}, {text}" if rng.random() < 0.3 else f"{text}, {extra}"


def held_out(text: str) -> bool:
    """True for one caption in eight; the recipes never train on these."""
    return zlib.crc32(text.lower().encode()) % 8 == 0


def trained_caption(drawing: Drawing, rng: random.Random) -> str:
    """A wording that is not held out for the benchmark."""
    while held_out(text := caption(drawing, rng)):
        pass
    return text


def vocabulary() -> list[str]:
    """Every word that gets a token of its own, sorted."""
    texts = [*_FILLERS, *_OPENERS, *COLORS, *THINGS, *TIMES, *COUNTS, "on a an background of outline drawing",
             "watercolor painting", *(f"{shape} {shape}s" for shape in (*SHAPES, "disc"))]  # fmt: skip
    for group in (_SYNONYMS, _TIME_PHRASES, _PLACES, _RELATION_PHRASES):
        texts.extend(phrase for phrases in group.values() for phrase in phrases)
    return sorted({word for text in texts for word in text.replace(",", " ").split()} | {","})
