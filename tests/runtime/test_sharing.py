"""Text encoders, VAEs and tokenizers of several models are one in memory where their weights are the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.spec.errors import Cancelled
from pipelines.spec.events import LoadProgress
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import LoraInput, Refiner
from pipelines.workshop.convert import convert
from tests.runtime.conditioning.add_ons import found, peft
from tests.runtime.conftest import run
from tests.runtime.test_single_file import job_of

SHARED = ("text_encoder", "vae", "tokenizer")


@pytest.fixture
def copies(tmp_path) -> tuple[Path, Path]:
    """Two folders of demo-sd whose U-Nets are not the same."""
    one, two = (Path(shutil.copytree(demo_root() / "sd", tmp_path / name)) for name in ("one", "two"))
    changed(two / "unet", "conv_out.bias")
    return one, two


def changed(folder: Path, name: str) -> None:
    """One number of one weight is another."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    number = tensors[name].view(-1)
    number[-1] = number[-1] + 0.5
    save_file(tensors, path)


def load(engine, path: Path):
    job = job_of(path)
    return engine.compute.load(job, by_id(job.model.family))


def test_folders_with_the_same_encoder_have_one(engine, copies):
    one, two = (load(engine, path) for path in copies)
    assert all(two.parts[part] is one.parts[part] for part in SHARED)
    assert all(two.keys[part] == one.keys[part] for part in SHARED)
    assert two.unet is not one.unet
    assert load(engine, copies[1]).vae is one.vae  # and again, by what is known of the files


def test_a_prompt_that_one_model_has_read_is_read_for_the_other(engine, copies):
    first, second = (job_of(path) for path in copies)
    run(engine, first)
    encodes = engine.compute.prompts.encodes
    run(engine, second)
    assert engine.compute.prompts.encodes == encodes


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("text_encoder", "final_layer_norm.bias"),
        ("text_encoder", "embeddings.token_embedding.weight"),
        ("vae", "decoder.conv_out.bias"),
        ("vae", "encoder.conv_in.weight"),
    ],
)
def test_one_number_that_differs_makes_it_another(engine, copies, part, name):
    (path,) = (copies[1] / part).glob("*.safetensors")
    changed(copies[1] / part, next(each for each in load_file(path) if each.endswith(name)))
    one, two = (load(engine, path) for path in copies)
    assert two.parts[part] is not one.parts[part]
    assert two.keys[part] != one.keys[part]
    weights = [dict(model.parts[part].named_parameters()) for model in (one, two)]
    assert sum(not torch.equal(weights[0][n], weights[1][n]) for n in weights[0]) == 1
    others = [other for other in SHARED if other != part]
    assert all(two.parts[other] is one.parts[other] for other in others)


@pytest.mark.parametrize(("part", "setting"), [("vae", "scaling_factor"), ("text_encoder", "layer_norm_eps")])
def test_other_settings_make_it_another(engine, copies, part, setting):
    path = copies[1] / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: 0.5}))
    one, two = (load(engine, path) for path in copies)
    assert two.parts[part] is not one.parts[part]
    assert two.parts["tokenizer"] is one.parts["tokenizer"]


def test_a_file_and_a_folder_share_what_lies_in_them_under_other_names(engine, copies, tmp_path):
    """An LDM file has names of its own for the VAE, and its attention as convolutions."""
    path = tmp_path / "one.safetensors"
    convert(record_of(copies[0]), path)
    one, two = load(engine, copies[0]), load(engine, path)
    assert two.vae is one.vae
    assert two.text_encoder is one.text_encoder


def test_a_file_that_changes_is_compared_anew(engine, copies):
    one, two = (load(engine, path) for path in copies)
    assert two.vae is one.vae
    changed(copies[1] / "vae", "decoder.conv_out.bias")
    assert load(engine, copies[1]).vae is not one.vae
    assert load(engine, copies[0]).vae is one.vae


def test_what_is_shared_outlives_a_memory_that_was_emptied(engine, copies):
    one, two = (load(engine, path) for path in copies)
    engine.compute.drop_caches()
    shutil.rmtree(copies[0])
    again = load(engine, copies[1])
    assert again.keys == two.keys
    assert again.vae is not one.vae
    assert all(torch.equal(a, b) for a, b in zip(again.vae.parameters(), one.vae.parameters(), strict=True))


def test_only_what_is_not_there_is_told_as_read(engine, copies):
    """To find a part the same it is read once; the next time nothing is."""
    run(engine, job_of(copies[0]))
    loads = engine.compute.store.loads
    events = [e for e in run(engine, job_of(copies[1])) if isinstance(e, LoadProgress)]
    assert engine.compute.store.loads == loads + 2  # U-Net and scheduler
    assert events[-1].done == events[-1].total
    assert not [e for e in run(engine, job_of(copies[1])) if isinstance(e, LoadProgress)]


def test_a_cancel_is_seen_while_parts_are_compared(engine, copies, monkeypatch):
    from pipelines.runtime import part_plan

    load(engine, copies[0])
    job, tensors = job_of(copies[1]), part_plan.tensors

    def watched(*wanted):
        for item in tensors(*wanted):
            job.cancel()
            yield item

    monkeypatch.setattr(part_plan, "tensors", watched)
    with pytest.raises(Cancelled):
        engine.compute.load(job, by_id("sd1"))
    assert engine.compute.store.known_as(next(iter(engine.compute.store.keys()))) is not None


def test_a_refiner_keeps_text_encoders_of_its_own(engine, tmp_path):
    """A LoRA changes the base's for its job, and the refiner's never."""
    base = record_of(demo_root() / "sdxl")
    other = record_of(Path(shutil.copytree(demo_root() / "sdxl", tmp_path / "other")))
    request = replace(job_of(demo_root() / "sdxl").request, refiner=Refiner(model=other.id))
    job, family = Job(id=1, request=request, model=base, refiner=other), by_id("sdxl")
    alone = engine.compute.load(replace(job, model=other, refiner=None), family)
    first = engine.compute.load(job, family)
    assert (
        first.text_encoder is alone.text_encoder
    )  # the base may have it of the other, not so its own refiner
    second = engine.compute.load(job, family, other)
    assert second.vae is first.vae
    assert second.text_encoder is not first.text_encoder
    assert second.text_encoder_2 is not first.text_encoder_2


def lora() -> ModelRecord:
    return record_of(demo_root() / "loras" / "sd-neon.safetensors")


def test_a_lora_on_a_shared_encoder_is_gone_for_the_other_model(engine, copies):
    first, second = (job_of(path) for path in copies)
    plain = pixels(engine, second)
    engine.compute.drop_caches()
    request = replace(first.request, loras=(LoraInput(model=lora().id, weight=1.0),))
    run(engine, Job(id=1, request=request, model=first.model, parts={lora().id: lora()}))
    assert pixels(engine, second) == plain


def test_an_encoder_that_a_lora_has_changed_is_still_known_for_the_same(engine, copies, tmp_path):
    """The files are compared with the weights as they were loaded."""
    text = found(
        tmp_path / "lora" / "T.safetensors", by_id("sd1"), peft(job_of(copies[0]).model, ("text_encoder",))
    )
    first, second = (job_of(path) for path in copies)
    plain = pixels(engine, second)
    engine.compute.drop_caches()
    request = replace(first.request, loras=(LoraInput(model=text.id, weight=1.0),))
    run(engine, Job(id=1, request=request, model=first.model, parts={text.id: text}))
    encoder, loads = load(engine, copies[0]).text_encoder, engine.compute.store.loads
    assert engine.compute.adapters.size_of(encoder)
    assert pixels(engine, second) == plain
    assert load(engine, copies[1]).text_encoder is encoder
    assert engine.compute.store.loads == loads + 2  # U-Net and scheduler


def pixels(engine, job: Job) -> bytes:
    from PIL import Image

    from pipelines.spec.events import ImageSaved

    (saved,) = [event for event in run(engine, job) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return picture.convert("RGB").tobytes()
