"""The views of SDXL's micro-conditioning show what their numbers say."""

from __future__ import annotations

import numpy as np
from PIL import Image

from assets.demo.recipes.latents import sheet_number
from assets.demo.recipes.views import (
    BEAUTIFUL,
    FLAWED,
    View,
    flaw_number,
    flawed_view,
    score_number,
    view_number,
    view_of,
)

NUMBERS = range(60)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float32)


def sharpness(picture: Image.Image) -> float:
    """The largest step between two neighbours."""
    return float(np.abs(np.diff(pixels(picture), axis=1)).max())


def test_most_sheets_are_whole_and_untouched():
    whole = [n for n in NUMBERS if view_number(n) == View()]
    assert 0.4 < len(whole) / len(NUMBERS) < 0.8
    assert all((pixels(view_of(n)) == pixels(sheet_number(n))).all() for n in whole[:10])


def test_a_small_original_is_softer_and_says_its_size():
    small = [n for n in NUMBERS if view_number(n).original < 128]
    assert small
    for n in small:
        assert view_number(n).ids()[:2] == [view_number(n).original] * 2
        assert sharpness(view_of(n)) < sharpness(sheet_number(n))


def test_a_piece_lies_where_its_crop_says():
    pieces = [n for n in NUMBERS if view_number(n).scaled > 256]
    assert pieces
    for n in pieces:
        view = view_number(n)
        assert view.ids() == [256, 256, view.top, view.left]
        sheet = sheet_number(n).resize((view.scaled, view.scaled), Image.Resampling.BICUBIC)
        x, y = 37, 200
        assert view_of(n).getpixel((x, y)) == sheet.getpixel((x + view.left, y + view.top))


def test_flaws_have_low_scores_and_spoil_the_picture():
    flawed = [n for n in NUMBERS if flaw_number(n)]
    assert {flaw_number(n) for n in flawed} == {"blur", "noise", "blocks"}
    for n in NUMBERS:
        spoiled = np.abs(pixels(flawed_view(n)) - pixels(view_of(n))).max()
        assert (spoiled > 10) == (n in flawed)
        assert abs(score_number(n) - (FLAWED if n in flawed else BEAUTIFUL)) <= 0.5
