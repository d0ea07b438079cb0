"""Pictures of true size on cards that do not exist: they get through as planned, and take no more than was thought."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks import truecards
from tests.benchmarks.truesize.counted import counted
from tests.benchmarks.truesize.jobs import Drawing, Shelf
from tests.benchmarks.truesize.weightless import weightless
from tests.runtime.fake_card import Counted as Counting
from tests.runtime.fake_card import Memory

# The smallest cards, and what has most beside its weights.
CASES = (
    (Drawing(model="sd15"), 4),
    (Drawing(model="sd15", control=True), 4),
    (Drawing(model="sdxl", lora=True, control=True), 6),
    (Drawing(model="flux", weights="int8"), 8),
    (Drawing(model="flux", weights="fp8", control=True), 12),
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("hollow"))


@pytest.mark.parametrize(("drawing", "vram"), CASES, ids=lambda each: getattr(each, "name", str(each)))
def test_a_picture_of_true_size_gets_through_as_planned(shelf, drawing, vram, out, torch_engine):
    found = counted(shelf.job(drawing), vram, str(out), drawing.dtype)
    told = truecards.Found(drawing, vram, found)
    assert found.through, (found.error, found.notes)
    assert told.slack >= 0, (found.predicted, found.peaks)
    assert told.ratio <= 1.15, (found.predicted, found.peaks)


def test_a_card_that_is_too_small_draws_nothing(shelf, out, torch_engine):
    found = counted(shelf.job(Drawing(model="sd15")), 1.2, str(out))
    assert not found.pictures
    assert "Not enough memory" in found.error


class Layers(nn.Module):
    """What networks are made of: convolution, norm, attention, a view, a change in place, a growing tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 32, 3, padding=1), nn.GroupNorm(8, 32)
        self.mix = nn.Linear(32, 96)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        seen = functional.silu(self.norm(self.conv(pixels)))
        rows = self.mix(seen.flatten(2).transpose(1, 2))
        query, key, value = (each.unflatten(2, (2, 16)).transpose(1, 2) for each in rows.chunk(3, dim=2))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed.mul_(0.5).add_(query)
        return torch.cat([mixed.transpose(1, 2).flatten(2), rows], dim=2).softmax(-1)


def test_what_is_not_computed_takes_what_it_would_take(monkeypatch):
    def taken() -> tuple[int, int, torch.Tensor]:
        memory = Memory(2**40)
        layers, pixels = Layers(), torch.zeros(2, 4, 96, 96)
        with torch.no_grad(), Counting(memory):
            answer = layers(pixels)
        return memory.most, memory.used, answer

    most, used, answer = taken()
    with weightless(monkeypatch):
        told_most, told_used, told = taken()
        assert (told.shape, told.stride(), told.dtype) == (answer.shape, answer.stride(), answer.dtype)
        assert not told.any()
    assert (told_most, told_used) == (most, used)
