"""The measures of the demos' table are honest: what is right is right, what knows nothing is at chance."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPProcessor

from assets.demo.recipes import scorer as scorer_recipe
from assets.demo.recipes.drawings import Drawing, render
from assets.demo.recipes.text_encoder import build_tokenizer
from assets.demo.recipes.upscaler import Compact
from tests.benchmarks.demos import control, embedding, ip_adapter, measures, scorer, upscaler
from tests.benchmarks.demos.row import Row, Unit, not_trained, share, table
from tests.benchmarks.scoring import subject


def test_nothing_trained_is_every_target_missed(tmp_path):
    options = argparse.Namespace(count=200, seed=0, device="cpu", work=None)
    found = list(measures.rows(tmp_path, options, tmp_path / "out"))
    assert {row.why for row in found} == {"not trained"}
    assert not any(row.met for row in found)
    assert max(Counter((row.demo, row.topic) for row in found).values()) == 1
    assert table(found).count("MISSED") == len(found)


@pytest.mark.parametrize(
    ("figure", "more", "met"),
    [(0.9, {}, True), (0.89, {}, False), (0.9, {"above": True}, False), (0.91, {"above": True}, True),
     (0.9, {"at_most": True}, True), (0.91, {"at_most": True}, False), (None, {}, False)],
)  # fmt: skip
def test_a_target_is_met_on_its_own_side(figure, more, met):
    assert Row(demo="d", topic="t", target=0.9, figure=figure, **more).met is met


def test_the_table_says_how_many_and_what_was_wanted():
    rows = [
        share("demo-a", "right", [True, False, True, True], 0.7),
        not_trained("demo-b", "far", 0.3, Unit.IOU),
    ]
    first, second = table(rows).splitlines()[1:]
    assert first.split() == ["demo-a", "right", "75.0%", "4", ">=", "70.0%", "met"]
    assert second.split() == ["demo-b", "far", "not", "trained", "-", ">=", "0.30", "MISSED"]


def test_the_overlap_of_masks():
    one, other = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    one[:, :2], other[:, 1:3] = True, True
    assert control.overlap(one, other) == pytest.approx(1 / 3)
    assert control.overlap(one, one) == 1
    assert control.overlap(np.zeros(4), np.zeros(4)) == 0


def test_the_drawing_itself_lies_where_it_should_and_what_the_caption_asks_for_does_not():
    """Who follows the control picture meets both targets; who hears the caption alone draws in the middle."""
    asked, masks = control.pairs(60), control.masks(60)
    followed = [subject(np.asarray(render(drawing, i))) for i, (_, drawing) in enumerate(asked)]
    heard = [subject(np.asarray(render(Drawing(shape=d.shape, color=d.color, background=d.background), i)))
             for i, (_, d) in enumerate(asked)]  # fmt: skip
    assert np.mean([control.overlap(a, b) for a, b in zip(followed, masks, strict=True)]) > 0.9
    assert np.mean([control.overlap(a, b) for a, b in zip(heard, masks, strict=True)]) < control.MOST


def test_decibels():
    black = np.zeros((4, 4, 3), np.uint8)
    assert upscaler.decibels(black + 1, black) == pytest.approx(48.13, abs=0.01)
    assert upscaler.decibels(black, black) == float("inf")


def test_an_upscaler_that_adds_nothing_is_worse_than_lanczos():
    model = Compact()
    with torch.no_grad():
        for parameter in model.body[-1].parameters():
            parameter.zero_()
    assert np.mean(upscaler.gains(model, 10)) < -0.5


def test_a_scorer_that_knows_nothing_is_at_chance():
    tokenizer = build_tokenizer()
    torch.manual_seed(5)
    model = scorer_recipe.build(tokenizer).eval()
    square = {"height": scorer_recipe.SIDE, "width": scorer_recipe.SIDE}
    images = CLIPImageProcessor(size=square, crop_size=square, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    right = scorer.first(model, CLIPProcessor(images, tokenizer), *scorer.pairs(100))
    assert sum(right) < 35


def test_the_scorer_is_asked_with_captions_that_differ():
    _, texts = scorer.pairs(100)
    assert len(set(texts)) == 100


def test_only_the_concept_shows_the_concept():
    concept = embedding.CONCEPT
    assert all(embedding.shows(np.asarray(render(concept, i))) for i in range(20))
    for wrong in ({"color": "blue"}, {"shape": "circle"}, {"background": "white"}, {"column": "right"}):
        assert not embedding.shows(np.asarray(render(replace(concept, **wrong), 1))), wrong


def test_a_subject_of_the_same_hue_follows_and_the_next_hue_does_not():
    cases = ip_adapter.cases(28)
    assert {drawing.color for _, drawing in cases} == set(ip_adapter.HUES)
    for i, (text, shown) in enumerate(cases):
        assert text.removeprefix("a ") != shown.shape
        picture = np.asarray(render(shown, i))
        made = replace(shown, shape=text.removeprefix("a "), background="black")
        assert ip_adapter.follows(np.asarray(render(made, 99 + i)), picture)
        next_hue = ip_adapter.HUES[(i + 1) % len(ip_adapter.HUES)]
        assert not ip_adapter.follows(np.asarray(render(replace(made, color=next_hue), i)), picture)
        assert not ip_adapter.follows(np.asarray(render(replace(made, color="gray"), i)), picture)
    assert not ip_adapter.follows(np.zeros((256, 256, 3), np.uint8), np.asarray(render(Drawing(), 1)))
