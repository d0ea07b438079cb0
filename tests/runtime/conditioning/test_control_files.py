"""ControlNets in one file, in the names of LDM and of diffusers: the picture of the folder, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from pipelines.library.control_files import PART, read_control
from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.library.places import Place, Source
from pipelines.library.single_file import CONFIGS, PartFile
from pipelines.runtime.network import empty
from pipelines.runtime.single_file import NAMES
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.families.file_parts import Spelling
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord, State
from pipelines.spec.request import ControlInput, GenerationRequest, Prompt, Size
from pipelines.workshop.convert import convert
from tests.benchmarks.recognise import COLLECTION
from tests.runtime.conditioning.add_ons import controlnet
from tests.runtime.conditioning.test_lora import drawn
from tests.runtime.tiny import written

DEMOS = {"sd": "sd-canny", "sdxl": "sdxl-canny"}


@pytest.fixture
def edges(tmp_path) -> str:
    picture = Image.new("RGB", (128, 128))
    ImageDraw.Draw(picture).ellipse((24, 24, 100, 104), outline="white", width=2)
    picture.save(tmp_path / "edges.png")
    return str(tmp_path / "edges.png")


def job_of(model: ModelRecord, net: ModelRecord, edges: str) -> Job:
    assert not net.problem, net.problem
    request = GenerationRequest(
        model=model.id,
        prompt=Prompt(text="a red circle on a blue ground"),
        sampling=replace(by_id(model.family).sampling, num_inference_steps=2, guidance_scale=2.0, seed=5),
        size=Size(width=128, height=128),
        controls=(ControlInput(model=net.id, path=edges),),
    )
    return Job(id=1, request=request, model=model, parts={net.id: net})


def in_diffusers_names(net: ModelRecord, path: Path, prefix: str = "") -> Path:
    (weights,) = Path(net.path).glob("*.safetensors")
    config = json.loads((Path(net.path) / "config.json").read_text())
    metadata = {"emulsion.family": net.family, CONFIGS: json.dumps({PART: config})}
    save_file({prefix + name: tensor for name, tensor in load_file(weights).items()}, path, metadata)
    return path


@pytest.mark.parametrize("name", DEMOS)
def test_the_picture_is_that_of_the_folder_bit_for_bit(engine, tmp_path, edges, name):
    model, net = record_of(demo_root() / name), record_of(demo_root() / DEMOS[name])
    ldm = tmp_path / "ldm-canny.safetensors"
    convert(net, ldm)
    names = load_file(ldm).keys()
    assert {"control_model.input_hint_block.14.weight", "control_model.zero_convs.0.0.weight"} <= names
    files = [
        ldm,
        in_diffusers_names(net, tmp_path / "plain-canny.safetensors"),
        in_diffusers_names(net, tmp_path / "wrapped-canny.safetensors", "controlnet."),
    ]
    expected = drawn(engine, job_of(model, net, edges))
    alone = job_of(model, net, edges)
    without = drawn(engine, replace(alone, request=replace(alone.request, controls=())))
    for path in files:
        record = record_of(path)
        assert (record.kind, record.family, record.state) == (Kind.CONTROLNET, net.family, State.READY)
        assert record.control == "canny"
        assert np.array_equal(drawn(engine, job_of(model, record, edges)), expected), path.name
    assert not np.array_equal(without, expected)


def test_one_for_flux_in_diffusers_names(engine, tmp_path, edges):
    model = written(tmp_path / "models", by_id("flux"))
    net = controlnet(tmp_path / "nets" / "flux-canny", by_id("flux"), model)
    path = tmp_path / "flux-canny.safetensors"
    convert(net, path)
    record = record_of(path)
    expected = drawn(engine, job_of(model, net, edges))
    assert np.array_equal(drawn(engine, job_of(model, record, edges)), expected)


@pytest.mark.skipif(not COLLECTION.is_dir(), reason=f"the acceptance collection is not at {COLLECTION}")
@pytest.mark.parametrize("name", ["controlnet_sd15_ldm", "controlnet_sd15_ldm_noprefix"])
def test_published_files_fill_every_weight(name):
    manifest = json.loads((COLLECTION / "models" / "manifests" / f"{name}.json").read_text())["tensors"]
    prefix = "control_model." if any(each.startswith("control_model.") for each in manifest) else ""
    places = {each: Place("F16", tuple(shape), 0, 0) for each, (_, shape) in manifest.items()}
    part = PartFile(Source(Path("x"), 0, 0), Spelling.LDM_CONTROL, prefix, places)
    from pipelines.library.control_files import _config
    from pipelines.spec.families.file_parts import LDM_CONTROL

    module: Any = empty("ControlNetModel", _config(LDM_CONTROL, by_id("sd1"), part.names))
    found = NAMES[part.spelling](part, module)
    assert {n: found[n].shape for n, _ in module.named_parameters()} == {
        n: p.shape for n, p in module.named_parameters()
    }
    assert len(found) == len(manifest)


def test_a_small_one_without_settings_is_built_as_its_names_say(tmp_path):
    """diffusers publishes ControlNets for SDXL with fewer transformer blocks than the U-Net, and with none."""
    from diffusers import ControlNetModel

    from pipelines.library.single_file import bundled

    told = {
        k: v for k, v in bundled(by_id("sdxl"))["unet"].items() if k not in ("up_block_types", "sample_size")
    }
    small = told | {
        "down_block_types": ["DownBlock2D"] * 3, "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [1, 1, 1],
    }  # fmt: skip
    middle = told | {
        "transformer_layers_per_block": [1, 1, 1],
        "down_block_types": ["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
    }
    for config in (told, small, middle):
        wanted = {n: tuple(p.shape) for n, p in empty("ControlNetModel", config).state_dict().items()}
        path = tmp_path / "net.safetensors"
        header = {n: {"dtype": "F8_E4M3", "shape": s, "data_offsets": [0, 0]} for n, s in wanted.items()}
        write_sparse(path, header)
        found = read_control(path, by_id("sdxl"))
        made = empty(found.class_name, found.config)
        assert isinstance(made, ControlNetModel)
        assert {n: tuple(p.shape) for n, p in made.state_dict().items()} == wanted


def write_sparse(path: Path, header: dict[str, Any]) -> None:
    """A file of the true size whose numbers are all zero, and take no room on the disk."""
    end = 0
    for entry in header.values():
        size = int(np.prod(entry["shape"]))
        entry["data_offsets"], end = [end, end + size], end + size
    table = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(table).to_bytes(8, "little") + table)
        file.truncate(8 + len(table) + end)


def test_what_cannot_be_used_is_refused_with_a_reason(tmp_path):
    net = record_of(demo_root() / "sd-canny")
    path = in_diffusers_names(net, tmp_path / "a.safetensors")
    tensors, metadata = load_file(path), dict(read_header(path).metadata)
    save_file({**tensors, "controlnet_mode_embedder.weight": torch.zeros(2, 2)}, path, metadata)
    record = record_of(path)
    assert record.state is State.UNSUPPORTED
    assert "several modes" in record.problem
    with pytest.raises(ModelError) as caught:
        read_control(tmp_path / "gone.safetensors", by_id("sd1"))
    assert "gone.safetensors" in caught.value.message


def test_a_weight_that_is_missing_is_named(engine, tmp_path, edges):
    net = record_of(demo_root() / "sd-canny")
    path = in_diffusers_names(net, tmp_path / "a-canny.safetensors")
    tensors, metadata = load_file(path), dict(read_header(path).metadata)
    save_file({n: t for n, t in tensors.items() if n != "controlnet_mid_block.bias"}, path, metadata)
    with pytest.raises(ModelError) as caught:
        drawn(engine, job_of(record_of(demo_root() / "sd"), record_of(path), edges))
    assert "controlnet_mid_block.bias" in caught.value.message
    assert str(path) in caught.value.message
