"""Edges: OpenCV's to the pixel, for every picture a person may bring."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.runtime.preprocess.canny import canny
from pipelines.runtime.preprocess.table import PREPROCESSORS
from pipelines.spec import controls


def drawing() -> Image.Image:
    picture = Image.new("RGB", (160, 120), (30, 60, 200))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 20, 90, 100), fill=(220, 40, 30))
    draw.polygon(((100, 110), (150, 30), (155, 115)), fill=(240, 220, 40))
    return picture


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ramp() -> Image.Image:
    values = np.linspace(0, 255, 96, dtype=np.uint8)
    return Image.fromarray(np.stack([np.add.outer(values // 2, values // 2)] * 3, axis=2).astype(np.uint8))


PICTURES = {
    "drawing": drawing(),
    "noise": noise(97, 61),
    "smooth noise": noise(24, 18).resize((190, 140), Image.Resampling.BICUBIC),
    "ramp": ramp(),
    "one colour": Image.new("RGB", (64, 64), "red"),
    "one pixel": noise(1, 1),
    "one row": noise(40, 1),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("limits", [(100, 200), (40, 90)], ids=str)
def test_the_edges_are_opencvs(name, limits):
    picture = PICTURES[name]
    ours = np.asarray(canny(picture, *limits))
    theirs = cv2.Canny(np.asarray(picture), *limits)
    assert ours.shape == (picture.height, picture.width, 3)
    assert np.array_equal(ours, np.stack([theirs] * 3, axis=2))


def test_the_edge_of_a_circle_is_one_thin_line_where_the_circle_ends():
    edges = np.asarray(canny(drawing()))[..., 0] > 0
    _, _, stats, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8), connectivity=8)
    assert 0.01 < edges.mean() < 0.06
    assert np.abs(stats[1][:4] - (20, 20, 71, 81)).max() <= 1


def test_every_preprocessor_of_the_table_is_there():
    assert set(PREPROCESSORS) == set(controls.PREPROCESSORS)
    for draw in PREPROCESSORS.values():
        drawn = draw(drawing())
        assert (drawn.mode, drawn.size) == ("RGB", (160, 120))
