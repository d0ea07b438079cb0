"""Inpainting models from a prompt alone: what they see beside the latents, and what they draw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.spec.events import ImageSaved, StepDone
from pipelines.spec.families import by_id
from pipelines.spec.record import State
from pipelines.workshop.convert import convert
from tests.runtime.conftest import run
from tests.runtime.test_single_file import job_of

CLASSES = {"sd": "StableDiffusionInpaintPipeline", "sdxl": "StableDiffusionXLInpaintPipeline"}


def inpainting(name: str, folder: Path, spread: float = 0.0) -> Path:
    """The demo as if it painted into pictures; with a `spread` of 0 it does not heed what it sees there."""
    shutil.copytree(demo_root() / name, folder)
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": CLASSES[name]}
    (folder / "model_index.json").write_text(json.dumps(index))
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"in_channels": 9}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    (path,) = (folder / "unet").glob("*.safetensors")
    tensors = load_file(path)
    first = tensors["conv_in.weight"]
    more = torch.randn(first.shape[0], 5, 3, 3, generator=torch.Generator().manual_seed(0)) * spread
    tensors["conv_in.weight"] = torch.cat([first, more.to(first)], dim=1)
    save_file(tensors, path)
    return folder


def drawn(engine, path: Path) -> bytes:
    (saved,) = [event for event in run(engine, job_of(path)) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return picture.convert("RGB").tobytes()


@pytest.mark.parametrize("name", CLASSES)
def test_one_that_heeds_nothing_beside_draws_what_the_plain_model_draws(engine, tmp_path, name):
    plain = drawn(engine, demo_root() / name)
    folder = inpainting(name, tmp_path / "inpainting")
    record = record_of(folder)
    assert (record.variant, record.state, record.family) == ("inpaint", State.READY, by_id(record.family).id)
    assert drawn(engine, folder) == plain
    file = tmp_path / "inpainting.safetensors"
    convert(record, file)
    assert record_of(file).variant == "inpaint"
    assert drawn(engine, file) == plain


@pytest.mark.parametrize("name", CLASSES)
def test_it_sees_a_whole_mask_and_a_grey_picture(engine, tmp_path, name):
    folder = inpainting(name, tmp_path / "inpainting", spread=0.3)
    job = job_of(folder)
    model = engine.compute.load(job, by_id(job.model.family))
    seen = []
    handle = model.unet.conv_in.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    try:
        picture = drawn(engine, folder)
    finally:
        handle.remove()
    with torch.no_grad():
        grey = (
            model.vae.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean * model.vae.config.scaling_factor
        )
    assert len(seen) >= 3
    for sample in seen:
        assert sample.shape[1:] == (9, 16, 16)
        assert (sample[:, 4] == 1).all()
        assert torch.equal(sample[:, 5:], grey.expand(len(sample), -1, -1, -1))
    assert picture != drawn(engine, demo_root() / name)
    assert not model.unet._forward_pre_hooks


def test_previews_of_it_are_shown(engine, tmp_path, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(engine.compute, "_options", replace(engine.compute._options, preview_interval_s=1e-6))
    events = run(engine, job_of(inpainting("sd", tmp_path / "inpainting")))
    assert [event for event in events if isinstance(event, StepDone) and event.preview]


def test_a_plain_model_of_an_inpainting_pipeline_is_a_plain_model(engine, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(demo_root() / "sd", folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": CLASSES["sd"]}))
    assert record_of(folder).variant == "normal"
    assert drawn(engine, folder) == drawn(engine, demo_root() / "sd")
