"""The small models that ship beside demo-sd: each is read by the library that its format is for, and does its work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spandrel
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor

from assets.demo.recipes.drawings import Drawing
from assets.demo.recipes.latents import sheet_number
from assets.demo.recipes.small import UNSEEN, tensor_of
from assets.demo.recipes.upscaler import FILE, from_state, halved
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import LoraInput
from tests.benchmarks.demos import scorer, upscaler
from tests.benchmarks.demos.engine import draw, request_of
from tests.benchmarks.scoring import judge, read

LORAS = ("demo-sd-neon", "demo-sd-mosaic")


@pytest.fixture(scope="module")
def records() -> dict[str, ModelRecord]:
    return {record.id: record for record in scan([demo_root()])}


def pictures(records: dict[str, ModelRecord], folder: Path, loras: tuple[LoraInput, ...]) -> list[np.ndarray]:
    plain = request_of(records["demo-sd"], "a large yellow star on a blue background", seed=3)
    return list(draw([replace(plain, loras=loras)], records, folder))


def test_the_scorer_finds_the_caption_of_an_unseen_drawing_among_ten():
    folder = demo_root() / "scorer"
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    right = scorer.first(model, CLIPProcessor.from_pretrained(folder), *scorer.pairs(60))
    assert sum(right) >= 54


def test_spandrel_reads_the_upscaler_and_computes_the_same():
    path = demo_root() / "upscaler" / FILE
    loaded = spandrel.ModelLoader(device="cpu").load_from_file(path)
    assert (loaded.architecture.name, loaded.scale) == ("RealESRGAN Compact", 2)
    ours = from_state(load_file(path))
    low = tensor_of(np.asarray(halved(sheet_number(UNSEEN)))[None], "cpu")
    with torch.inference_mode():
        assert torch.equal(loaded.model.float().eval()(low), ours(low))


def test_the_upscaler_is_better_than_lanczos_on_unseen_drawings():
    gains = upscaler.gains(from_state(load_file(demo_root() / "upscaler" / FILE)), 12)
    assert sum(gain > 0 for gain in gains) >= 10
    assert np.mean(gains) > 3


def test_the_loras_are_known_for_what_they_are_and_one_is_in_kohyas_format(records):
    for name in LORAS:
        assert (records[name].kind, records[name].family, records[name].problem) == (Kind.LORA, "sd1", "")
    with safe_open(demo_root() / "loras" / "sd-mosaic.safetensors", "pt") as file:
        names = list(file.keys())
        assert all(name.startswith("lora_unet_") for name in names)
        assert any(name.endswith(".alpha") for name in names)
        assert file.metadata()["ss_network_alpha"] == "2.0"


def test_neon_darkens_the_wall_and_weight_0_is_no_lora(records, tmp_path):
    (plain,) = pictures(records, tmp_path, ())
    (off,) = pictures(records, tmp_path, (LoraInput(model="demo-sd-neon", weight=0.0),))
    (on,) = pictures(records, tmp_path, (LoraInput(model="demo-sd-neon", weight=1.0),))
    assert judge(Drawing(color="yellow", background="blue", shape="star", size="large"), read(plain))["color"]
    assert np.array_equal(plain, off)
    rim = np.s_[:12]
    assert on[rim].mean() < 0.7 * plain[rim].mean()


def test_mosaic_lays_tiles(records, tmp_path):
    """Every 16 pixels there is grout: the ground has a rhythm that it has not without the LoRA."""
    (plain,) = pictures(records, tmp_path, ())
    (on,) = pictures(records, tmp_path, (LoraInput(model="demo-sd-mosaic", weight=1.0),))
    assert rhythm(on) > 4 * rhythm(plain)


def rhythm(picture: np.ndarray) -> float:
    """How much of the brightness along the rows repeats every 16 pixels."""
    rows = picture.mean(2) - picture.mean((1, 2), keepdims=False)[:, None]
    spectrum = np.abs(np.fft.rfft(rows, axis=1)).mean(0)
    return float(spectrum[16] / spectrum[1:9].mean())
