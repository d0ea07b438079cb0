"""The model that ships with the program: what is in its folder, and that it draws what it is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTokenizer

from assets.demo.recipes.captions import vocabulary
from assets.demo.recipes.drawings import Drawing
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.engine import build
from pipelines.spec.events import ImageSaved
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.request import GenerationRequest, Prompt, Size
from tests.benchmarks.scoring import judge, read

FOLDER = demo_root() / "sd"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = build(EngineOptions(output_dir=str(tmp_path_factory.mktemp("pictures")), preview_interval_s=0))
    yield engine
    engine.close()


def picture_of(engine, text: str, seed: int = 1) -> np.ndarray:
    record = next(record for record in scan([demo_root()]) if record.id == "demo-sd")
    assert record.sampling is not None
    sampling = replace(record.sampling, seed=seed)
    size = Size(width=256, height=256)
    request = GenerationRequest(model=record.id, prompt=Prompt(text=text), sampling=sampling, size=size)
    saved: list[str] = []
    engine.run(
        Job(id=1, request=request, model=record),
        lambda event: saved.append(event.path) if isinstance(event, ImageSaved) else None,
    )
    return np.asarray(Image.open(saved[0]).convert("RGB"))


ASKED = {
    "a large red circle on a blue background": Drawing(color="red", background="blue", size="large"),
    "a large yellow star on a black background": Drawing(
        color="yellow", background="black", shape="star", size="large"
    ),
    "three green squares on a white background": Drawing(
        kind="count", count=3, color="green", shape="square", background="white"
    ),
    "a small blue heart in the top left corner on a yellow background": Drawing(
        color="blue", background="yellow", shape="heart", size="small", column="left", row="top"
    ),
}


@pytest.mark.parametrize("text", ASKED)
def test_it_draws_what_it_is_asked(engine, text):
    marks = [judge(ASKED[text], read(picture_of(engine, text, seed))) for seed in (1, 2, 3)]
    assert sum(all(mark.values()) for mark in marks) >= 2, marks


def test_another_colour_in_the_prompt_is_another_colour_in_the_picture(engine):
    seen = {
        color: read(picture_of(engine, f"a large {color} circle on a white background"))
        for color in ("red", "blue")
    }
    assert {color: reading.blobs[0].color for color, reading in seen.items()} == {
        "red": "red",
        "blue": "blue",
    }


def test_every_caption_word_is_one_token_and_any_text_can_be_read():
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    assert tokenizer.model_max_length == 77
    assert [word for word in vocabulary() if len(tokenizer.tokenize(word)) != 1] == []
    assert len(tokenizer("ein Fuchs 🦊 空间").input_ids) > 5


def test_weights_are_half_precision_safetensors_and_nothing_else():
    weights = [path for path in FOLDER.rglob("*") if path.stat().st_size > 100_000]
    assert {path.suffix for path in weights} == {".safetensors"}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 16 * 2**20
    for path in weights:
        with safe_open(path, "pt") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} <= {"F16", "I64"}  # noqa: SIM118


def test_no_path_of_the_machine_that_trained_it_is_inside():
    for path in FOLDER.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        json.loads(text)
        assert str(Path.home()) not in text
        assert "/tmp" not in text
        assert "_name_or_path" not in text or '"_name_or_path": ""' in text
