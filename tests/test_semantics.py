"""The measure of the semantics benchmark is honest: all of it right on drawings, chance on noise."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from assets.demo.recipes.captions import caption, held_out, trained_caption
from assets.demo.recipes.drawings import Drawing, random_drawing, render, subject_mask
from tests.benchmarks.prompts import prompts
from tests.benchmarks.scoring import judge, read


def drawings(count: int) -> list[Drawing]:
    rng = random.Random(5)
    return [
        replace(random_drawing(rng, rng.choice(("single", "count", "pair"))), style="flat")
        for _ in range(count)
    ]


def test_drawings_by_the_data_program_score_full_marks():
    for i, drawing in enumerate(drawings(150)):
        marks = judge(drawing, read(np.asarray(render(drawing, i))))
        assert all(marks.values()), (drawing, marks)


def test_noise_scores_chance():
    right, asked = Counter(), Counter()
    for i, drawing in enumerate(drawings(100)):
        noise = np.random.default_rng(i).integers(0, 256, (256, 256, 3), np.uint8)
        for topic, value in judge(drawing, read(noise)).items():
            right[topic] += value
            asked[topic] += 1
    share = {topic: right[topic] / asked[topic] for topic in asked}
    assert max(share["color"], share["background"]) <= 0.2  # one of ten colours
    assert share["shape"] <= 0.3  # one of six shapes
    assert share["position"] <= 0.15
    assert share["count"] <= 0.4


def test_a_picture_of_something_else_is_marked_wrong():
    asked = Drawing(shape="circle", color="red", background="blue")
    other = replace(asked, shape="star", color="green", background="white")
    assert not any(judge(asked, read(np.asarray(render(other, 1)))).values())


@pytest.mark.parametrize(("shown", "right"), [(2, False), (3, True), (4, False)])
def test_count_is_counted(shown, right):
    picture = render(Drawing(kind="count", shape="heart", count=shown, size="small"), 3)
    asked = Drawing(kind="count", shape="heart", count=3, size="small")
    assert judge(asked, read(np.asarray(picture)))["count"] is right


def test_swapped_shapes_are_in_the_wrong_place():
    asked = Drawing(
        kind="pair", shape="circle", color="red", other_shape="star", other_color="blue", relation="above"
    )
    swapped = replace(asked, relation="below")
    assert judge(asked, read(np.asarray(render(asked, 2))))["position"]
    marks = judge(asked, read(np.asarray(render(swapped, 2))))
    assert marks == {"background": True, "color": True, "shape": True, "position": False}


def test_prompts_are_200_different_ones_that_training_never_uses():
    texts = [text for text, _ in prompts()]
    assert len(set(texts)) == 200
    rng = random.Random(1)
    trained = {trained_caption(random_drawing(rng), rng) for _ in range(3000)}
    assert not trained & set(texts)
    assert all(held_out(text) for text in texts)


def test_caption_says_what_the_drawing_shows():
    rng = random.Random(2)
    drawing = Drawing(
        shape="heart", color="pink", background="black", size="large", column="middle", row="middle"
    )
    for _ in range(50):
        text = caption(drawing, rng)
        assert "pink heart" in text
        assert "black background" in text


def test_subject_mask_is_where_the_subject_is():
    drawing = Drawing(shape="star", color="red", background="white", column="left", row="top")
    mask, picture = subject_mask(drawing, 4), np.asarray(render(drawing, 4)).astype(int)
    red = (picture[..., 0] > 150) & (picture[..., 1] < 120)
    assert (mask & red).sum() / (mask | red).sum() > 0.95
