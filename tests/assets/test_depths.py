"""The depth of a drawing: white is near, and what was painted later is nearer."""

from __future__ import annotations

import random

import numpy as np
import pytest

from assets.demo.recipes.depths import depth_of
from assets.demo.recipes.drawings import SHAPES, THINGS, Drawing, random_drawing, render, subject_mask


def grey(drawing: Drawing, seed: int) -> np.ndarray:
    return np.asarray(depth_of(drawing, seed)).astype(int)[..., 0]


@pytest.mark.parametrize("kind", ["single", "count", "pair"])
def test_shapes_are_nearer_than_the_wall_and_lie_where_they_are_painted(kind):
    for seed in range(20):
        drawing = random_drawing(random.Random(seed), kind)
        if drawing.style == "outline":
            continue
        depth, mask = grey(drawing, seed), subject_mask(drawing, seed)
        assert len(np.unique(depth[:4])) == 1, "the wall is flat"
        assert ((depth > depth[0, 0] + 30) == mask).mean() > 0.99


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_is_nothing_but_its_line(shape):
    line = grey(Drawing(shape=shape, style="outline", size="large"), 3)
    full = grey(Drawing(shape=shape, size="large"), 3)
    assert line[128, 128] == line[0, 0] < full[128, 128]
    assert (line > line[0, 0]).sum() > 500


def test_the_shape_that_is_painted_later_is_nearer():
    depth = grey(Drawing(kind="pair", relation="left of"), 5)
    assert depth[128, 74] < depth[128, 182]


@pytest.mark.parametrize("thing", THINGS)
def test_a_scene_has_a_far_sky_a_ground_that_comes_nearer_and_a_thing_before_it(thing):
    drawing = Drawing(kind="scene", thing=thing, time="night", color="red")
    depth = grey(drawing, 2)
    assert not depth[:40].any(), "sky, moon and stars are as far as can be"
    ground = depth[200:, 0]
    assert (np.diff(ground) >= 0).all()
    assert ground[-1] > ground[0] > 0
    blue = grey(Drawing(kind="scene", thing=thing, time="day", color="blue"), 2)
    assert (depth == blue).all(), "colour and light are not depth"
    stands = depth[60:180, 100:156].max()
    assert depth[190, 0] < stands < depth[255, 0]


def test_it_is_decided_by_drawing_and_seed_and_the_seed_moves_it_as_it_moves_the_sheet():
    drawing = Drawing(size="large")
    assert (grey(drawing, 1) == grey(drawing, 1)).all()
    moved = [np.abs(np.asarray(a, int) - np.asarray(b, int)).any() for a, b in
             ((depth_of(drawing, 1), depth_of(drawing, 2)), (render(drawing, 1), render(drawing, 2)))]  # fmt: skip
    assert all(moved)
