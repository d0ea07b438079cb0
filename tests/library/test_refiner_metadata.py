"""The refiner, sizes and both kinds of guidance in a picture's texts, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from pipelines.library.metadata import carriers
from pipelines.library.metadata.infotext import parse
from pipelines.library.metadata.read import read_request
from pipelines.library.metadata.understand import from_infotext
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Refiner, Size, SizeConditioning
from tests.library.conftest import RECORD, REQUEST
from tests.library.test_metadata import png_with

REFINER = ModelRecord(id="sdxl-refiner", path="/models/r", title="SDXL refiner", family="sdxl-refiner")
FULL = replace(
    REQUEST,
    refiner=Refiner(model="sdxl-refiner", switch_at=0.75, num_inference_steps=30, prompt="sharp, detailed"),
    size_conditioning=SizeConditioning(original=Size(width=2048, height=1536), crop_left=16),
    true_cfg_scale=1.0,
)


def test_all_of_it_comes_back(save):
    stored = read_request(save(FULL, refiner=REFINER))
    assert stored
    assert stored.request == FULL
    assert stored.notes == ()


def test_a1111s_words_for_the_refiner(save):
    text = carriers.texts(save(FULL, refiner=REFINER))["parameters"]
    assert "Model: Demo, Refiner: SDXL refiner, Refiner switch at: 0.75, Version: Emulsion" in text
    assert from_infotext(parse(text)).request.refiner == Refiner(model="sdxl-refiner", switch_at=0.75)
    assert "Refiner: sdxl-refiner," in carriers.texts(save(FULL))["parameters"], (
        "its id where no record is at hand"
    )


@pytest.mark.parametrize(
    ("fields", "refiner", "notes"),
    [
        ("Refiner: sd_xl_refiner_1.0 [7440042bbd], Refiner switch at: 0.8", ("sd_xl_refiner_1.0", 0.8), 0),
        ("Refiner: some model", ("some-model", 0.8), 0),
        ("Refiner: m, Refiner switch at: 7", ("m", 1.0), 1),
        ("Refiner: m, Refiner switch at: often", ("m", 0.8), 1),
        ("Refiner switch at: 0.8", None, 0),
    ],
)
def test_other_tools_refiners(fields, refiner, notes):
    understood = from_infotext(parse(f"x\nSteps: 20, Sampler: Euler, Seed: 1, {fields}"))
    wanted = None if refiner is None else Refiner(model=refiner[0], switch_at=refiner[1])
    assert understood.request.refiner == wanted
    assert len(understood.notes) == notes


def test_flux_has_two_kinds_of_guidance(save):
    request = replace(REQUEST, true_cfg_scale=2.5)
    text = carriers.texts(save(request, record=replace(RECORD, family="flux")))["parameters"]
    assert "CFG scale: 2.5, Distilled CFG Scale: 6.5," in text
    read = from_infotext(parse(text)).request
    assert (read.true_cfg_scale, read.sampling.guidance_scale) == (2.5, 6.5)


BAD: list[tuple[str, Any]] = [
    ("refiner", 5),
    ("refiner", {"model": "m", "switch_at": "late"}),
    ("refiner", {"switch_at": 0.5}),
    ("size_conditioning", {"original": {"width": "x"}, "crop_top": 8}),
    ("true_cfg_scale", "much"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=str)
def test_a_bad_field_drops_itself_only(tmp_path, name, value):
    own = json.dumps({"version": 1, "request": {**FULL.to_dict(), name: value}, "seed": 7})
    stored = read_request(png_with(tmp_path / "bad.png", emulsion=own))
    assert stored
    assert stored.request.prompt == REQUEST.prompt
    assert any(name in note for note in stored.notes)
    if isinstance(value, dict) and "model" in value:
        assert stored.request.refiner == Refiner(model="m")
    if isinstance(value, dict) and "crop_top" in value:
        assert stored.request.size_conditioning == SizeConditioning(crop_top=8)


def test_a_picture_is_saved_without_a_refiner_as_before(save):
    with Image.open(save()) as picture:
        assert "Refiner" not in picture.info["parameters"]
