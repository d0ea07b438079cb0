"""In how many pictures a model was used: by what the pictures themselves say, read once each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from pipelines.library import picture_models
from pipelines.library.outputs import save_picture
from pipelines.library.picture_models import FILE, count_uses
from pipelines.spec.errors import Cancelled
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, LoraInput, Prompt, Refiner

MODEL = ModelRecord(id="sdxl", path="/sdxl", title="SDXL", family="sdxl")
PLAIN = GenerationRequest(model="sdxl", prompt=Prompt(text="a fox"))
RICH = replace(
    PLAIN,
    model="other",
    loras=(LoraInput(model="neon"), LoraInput(model="neon", weight=0.5)),
    refiner=Refiner(model="sdxl-refiner"),
)


@pytest.fixture
def saved(tmp_path):
    out = tmp_path / "out"
    return out, [_save(out, request) for request in (PLAIN, PLAIN, RICH)]


def _save(out, request):
    return save_picture(
        Image.new("RGB", (8, 8)),
        request,
        record=MODEL,
        seed=0,
        image_index=0,
        output_dir=out,
        pattern="[number]",
        seconds=0.0,
    )


def test_every_model_that_a_picture_names_counts_once(saved, tmp_path):
    out, _ = saved
    expected = {"sdxl": 2, "other": 1, "neon": 1, "sdxl-refiner": 1}
    assert count_uses(out, tmp_path / "cache") == expected


def test_a_picture_is_read_once_and_a_deleted_one_counts_no_more(saved, tmp_path, monkeypatch):
    out, paths = saved
    count_uses(out, tmp_path / "cache")
    read = []
    monkeypatch.setattr(picture_models, "models_of", lambda path: read.append(path) or {"new"})
    assert count_uses(out, tmp_path / "cache")["sdxl"] == 2
    assert not read
    paths[0].unlink()
    assert count_uses(out, tmp_path / "cache")["sdxl"] == 1


def test_a_count_that_is_ended_keeps_what_it_read(saved, tmp_path, monkeypatch):
    out, _ = saved
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled("uses")

    with pytest.raises(Cancelled):
        count_uses(out, tmp_path / "cache", check)
    read, models_of = [], picture_models.models_of
    monkeypatch.setattr(picture_models, "models_of", lambda path: read.append(path) or models_of(path))
    count_uses(out, tmp_path / "cache")
    assert len(read) == 1


def test_a_damaged_cache_costs_time_only(saved, tmp_path):
    out, _ = saved
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE).write_bytes(b"not a database at all")
    assert count_uses(out, tmp_path / "cache")["sdxl"] == 2


def test_no_pictures_no_uses(tmp_path):
    assert count_uses(tmp_path / "nothing", tmp_path / "cache") == {}
