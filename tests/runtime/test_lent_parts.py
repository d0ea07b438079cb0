"""A transformer by itself, with VAE and text encoders out of files of their own: the picture of the whole folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.library.single_file import CONFIGS
from pipelines.runtime import device as devices
from pipelines.spec.errors import ModelError
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord, State
from pipelines.spec.request import GenerationRequest, Prompt, Size
from pipelines.workshop.convert import convert
from tests.runtime.conftest import run

FLUX = by_id("flux")


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    """demo-flux as FLUX is published for other programs: each part in a file, without a prefix; its settings stay."""
    folder = tmp_path_factory.mktemp("split")
    whole = folder / "whole.safetensors"
    convert(record_of(demo_root() / "flux"), whole)
    tensors, metadata = load_file(whole), read_header(whole).metadata
    whole.unlink()
    for part, row in FLUX.file_parts.items():
        own = {n.removeprefix(row.prefix): t for n, t in tensors.items() if n.startswith(row.prefix)}
        told = dict(metadata) if part == "transformer" else {}
        save_file(
            {name: tensor.clone() for name, tensor in own.items()}, folder / f"{part}.safetensors", told
        )
    return folder


@pytest.fixture
def parts(split, tmp_path) -> Path:
    return Path(shutil.copytree(split, tmp_path / "parts"))


def record(folder: Path) -> ModelRecord:
    lent = {part: str(folder / f"{part}.safetensors") for part, row in FLUX.file_parts.items() if row.need}
    lent["tokenizer_2"] = str(demo_root() / "flux" / "tokenizer_2")
    bare = record_of(folder / "transformer.safetensors")
    assert (bare.state, bare.needs) == (State.INCOMPLETE, ("vae", "clip_l", "t5xxl"))
    return replace(bare, state=State.READY, problem="", needs=(), borrowed=tuple(sorted(lent.items())))


def job_of(model: ModelRecord) -> Job:
    sampling = replace(FLUX.sampling, num_inference_steps=2, guidance_scale=2.0, seed=5)
    prompt = Prompt(text="a red circle on a blue background")
    request = GenerationRequest(
        model=model.id, prompt=prompt, sampling=sampling, size=Size(width=128, height=128)
    )
    return Job(id=1, request=request, model=model)


def drawn(engine, model: ModelRecord) -> bytes:
    (saved,) = [event for event in run(engine, job_of(model)) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return picture.convert("RGB").tobytes()


def test_parts_in_their_own_files_make_the_picture_of_the_folder(engine, parts):
    ours = drawn(engine, record(parts))
    engine.compute.drop_caches()
    assert ours == drawn(engine, record_of(demo_root() / "flux"))


def test_parts_that_two_models_share_are_loaded_once(engine, parts):
    other = parts / "another.safetensors"
    shutil.copy(parts / "transformer.safetensors", other)
    first = record(parts)
    one = engine.compute.load(job_of(first), FLUX)
    two = engine.compute.load(job_of(replace(first, path=str(other))), FLUX)
    assert two.transformer is not one.transformer
    assert all(two.parts[part] is one.parts[part] for part in ("vae", "text_encoder", "text_encoder_2"))


def test_a_lent_part_that_is_gone_or_another_is_named(engine, parts):
    model = record(parts)
    shutil.copy(parts / "vae.safetensors", parts / "text_encoder_2.safetensors")
    with pytest.raises(ModelError) as caught:
        engine.compute.load(job_of(model), FLUX)
    assert str(parts / "text_encoder_2.safetensors") in str(caught.value)
    (parts / "vae.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        engine.compute.load(job_of(model), FLUX)
    assert "vae.safetensors" in str(caught.value)


def in_fp8(path: Path) -> None:
    """As ComfyUI's bundles: the big matrices in 8 bits, the rest as it was."""
    metadata = dict(read_header(path).metadata)
    tensors = {name: t.to(torch.float8_e4m3fn) if t.ndim > 1 else t for name, t in load_file(path).items()}
    save_file(tensors, path, metadata)


def test_weights_in_8_bits_stay_so_where_memory_is_short_and_draw_the_same(engine, parts, monkeypatch):
    in_fp8(parts / "transformer.safetensors")
    model = record(parts)
    assert model.dtype == "float8"
    wide = drawn(engine, model)
    assert engine.compute.load(job_of(model), FLUX).transformer.proj_out.weight.dtype is torch.float32
    engine.compute.drop_caches()
    engine.compute._loader._precisions.clear()
    with monkeypatch.context() as patch:
        patch.setattr(devices, "free_bytes", lambda _: 10)
        transformer = engine.compute.load(job_of(model), FLUX).transformer
    assert drawn(engine, model) == wide
    assert transformer.proj_out.weight.dtype is torch.float8_e4m3fn
    assert transformer.dtype is torch.float32


def test_a_transformer_with_fewer_blocks_is_built_as_it_is(parts):
    """Pruned ones such as Flux-lite have them; nothing but the names says so."""
    from pipelines.library.single_file import read

    path = parts / "transformer.safetensors"
    tensors = {n: t for n, t in load_file(path).items() if not n.startswith("single_blocks.1.")}
    metadata = {k: v for k, v in read_header(path).metadata.items() if k != CONFIGS}
    kept = {int(n.split(".")[1]) for n in tensors if n.startswith("single_blocks.")}
    save_file(tensors, path, metadata)
    lent = dict(record_borrowed(parts))
    config = read(path, FLUX, lent).configs["transformer"]
    double = {int(n.split(".")[1]) for n in tensors if n.startswith("double_blocks.")}
    assert (config["num_layers"], config["num_single_layers"]) == (max(double) + 1, max(kept) + 1)


def record_borrowed(folder: Path) -> list[tuple[str, str]]:
    lent = [(part, str(folder / f"{part}.safetensors")) for part, row in FLUX.file_parts.items() if row.need]
    return [*lent, ("tokenizer_2", str(demo_root() / "flux" / "tokenizer_2"))]
