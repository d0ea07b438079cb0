"""A model written in fewer bits: any program reads the file, and it draws what was asked."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

import gguf
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from assets.demo.recipes.drawings import Drawing
from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.library.reports import ROWS, report_rows
from pipelines.runtime.engine import build
from pipelines.spec.errors import Cancelled, ModelError
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord, State
from pipelines.spec.request import GenerationRequest, Prompt, Size
from pipelines.spec.weights import NAMES, weights_of
from pipelines.workshop import quantize_report
from pipelines.workshop.convert import convert
from pipelines.workshop.quantize import MADE_FROM, quantize
from tests.benchmarks.scoring import judge, read
from tests.runtime.test_packed_weights import NF4 as PUBLISHED
from widgets.model_sections import REPORT

RED = Drawing(kind="single", color="red", shape="circle", background="blue")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    made = build(EngineOptions(output_dir=str(tmp_path_factory.mktemp("out")), device="cpu", threads=1))
    yield made
    made.close()


def made(folder: Path, demo: str, weights: str) -> ModelRecord:
    row = weights_of(weights)
    assert row is not None
    path = folder / f"{demo}-{weights}{row.end}"
    quantize(record_of(demo_root() / demo), row, path)
    return record_of(path)


def drawn(engine, record: ModelRecord, weights: str = "") -> np.ndarray:
    sampling = record.sampling or by_id(record.family).sampling
    request = GenerationRequest(
        model=record.id,
        weights=weights,
        prompt=Prompt(text="a large red circle on a blue background"),
        sampling=replace(sampling, seed=5),
        size=Size(width=record.native_size, height=record.native_size),
    )
    saved: list[str] = []
    engine.run(
        Job(id=1, request=request, model=record),
        lambda event: saved.append(event.path) if isinstance(event, ImageSaved) else None,
    )
    with Image.open(saved[0]) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("demo", ["sd", "flux"])
@pytest.mark.parametrize("weights", NAMES)
def test_the_file_is_listed_smaller_and_draws_what_its_source_does(engine, tmp_path, demo, weights):
    record = made(tmp_path, demo, weights)
    assert record.state is State.READY
    # Convolutions, of which half of a U-Net is, stay whole in a file of NF4, as its readers want it.
    most = 0.85 if (demo, weights) == ("sd", "nf4") else 0.75
    assert record.size_bytes < most * record_of(demo_root() / demo).size_bytes
    picture = drawn(engine, record, weights if weights == "nf4" else "")
    right = judge(RED, read(picture))
    assert right["color"]
    assert right["shape"]
    # The blocks of the file are those that are made at load: but for FLUX's joined rows, number by number.
    at_load = drawn(engine, record_of(demo_root() / demo), weights)
    assert np.abs(picture.astype(float) - at_load).mean() < 3


def test_a_gguf_is_read_by_the_package_and_says_what_it_is(tmp_path):
    record = made(tmp_path, "sd", "int8")
    reader = gguf.GGUFReader(record.path)
    name = "model.diffusion_model.output_blocks.2.0.in_layers.2.weight"
    tensor = next(each for each in reader.tensors if each.name == name)
    wide = gguf.dequantize(tensor.data, tensor.tensor_type).ravel()
    shape = read_header(Path(record.path)).shapes[name]
    assert len(shape) == 4  # a convolution, which was reshaped to fit the blocks
    assert wide.size == np.prod(shape)
    assert str(reader.fields["general.architecture"].contents()) == "sd1"
    told = json.loads(str(reader.fields[MADE_FROM].contents()))
    assert (told["id"], told["weights"]) == ("demo-sd", "int8")


@pytest.mark.parametrize("demo", ["sd-v", "sdxl", "flux"])
def test_nf4_is_spelled_as_bitsandbytes_does_and_its_family_is_known(tmp_path, demo):
    """QuantState.from_dict (bitsandbytes/functional.py) takes these tensors, and no others, beside a weight."""
    original = record_of(demo_root() / demo)
    record = made(tmp_path, demo, "nf4")
    assert (record.family, record.state, record.quantisation) == (original.family, State.READY, "nf4")
    tensors, whole = load_file(record.path), tmp_path / "whole.safetensors"
    convert(original, whole)
    end = ".quant_state.bitsandbytes__nf4"
    packed = [name.removesuffix(end) for name in tensors if name.endswith(end)]
    for name, weight in load_file(whole).items():
        if name not in packed:
            assert torch.equal(tensors.pop(name), weight)
            continue
        assert name.endswith(".weight")
        facts = json.loads(bytes(tensors.pop(f"{name}{end}").tolist()))
        shape = [*weight.shape]
        assert facts == {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": shape}
        assert len(shape) == 2
        table, most = tensors.pop(f"{name}.quant_map"), tensors.pop(f"{name}.absmax")
        assert torch.equal(table, PUBLISHED)
        pairs = tensors.pop(name)
        assert (pairs.dtype, *pairs.shape) == (torch.uint8, weight.numel() // 2, 1)
        codes = torch.cat((pairs >> 4, pairs & 15), 1).flatten().int()
        wide = (table[codes].view(-1, 64) * most[:, None]).view(shape)
        assert (wide - weight).norm() < 0.12 * weight.float().norm()
    assert packed
    assert not tensors


@pytest.mark.parametrize("weights", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_is_cancelled_leaves_nothing(tmp_path, weights, share):
    """At the first tensor, in the middle and after the last."""

    def stop(done: int, size: int) -> None:
        if done >= share * size:
            raise Cancelled

    row = weights_of(weights)
    assert row is not None
    with pytest.raises(Cancelled):
        quantize(record_of(demo_root() / "sd"), row, tmp_path / f"x{row.end}", progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [1, 20])
def test_a_report_that_is_cancelled_ends_who_draws_and_leaves_nothing(tmp_path, monkeypatch, at):
    record = made(tmp_path, "sd", "int4")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        quantize_report.compared(record_of(demo_root() / "sd"), record, pictures=1000, check=check)
    assert not multiprocessing.active_children()
    assert [path.name for path in tmp_path.iterdir()] == [Path(record.path).name]


@pytest.mark.parametrize("weights", ["int8", "nf4"])
def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, weights):
    """Else a power cut leaves a file of the right name with nothing in it."""
    calls, real, row = list[str](), os.fsync, weights_of(weights)
    assert row is not None
    out = tmp_path / f"x{row.end}"

    def fsync(handle: int) -> None:
        real(handle)
        stat = os.fstat(handle)
        is_whole = S_ISREG(stat.st_mode) and stat.st_size == sizes[-1]
        calls.append(f"{'whole file' if is_whole else 'other'}, {'named' if out.exists() else 'unnamed'}")

    sizes = list[int]()
    quantize(record_of(demo_root() / "sd"), row, tmp_path / f"first{row.end}")
    sizes.append((tmp_path / f"first{row.end}").stat().st_size)
    monkeypatch.setattr(os, "fsync", fsync)
    quantize(record_of(demo_root() / "sd"), row, out)
    assert calls[0] == "whole file, unnamed"


def test_what_is_packed_already_is_refused(tmp_path):
    row = weights_of("int4")
    assert row is not None
    record = made(tmp_path, "sd", "int8")
    with pytest.raises(ModelError, match="Q8_0 already"):
        quantize(record, row, tmp_path / "again.gguf")


@pytest.mark.parametrize("weights", ["int4", "nf4"])
def test_a_file_is_never_replaced(tmp_path, weights):
    record = made(tmp_path, "sd", weights)
    before = Path(record.path).read_bytes()
    with pytest.raises(FileExistsError):
        made(tmp_path, "sd", weights)
    assert Path(record.path).read_bytes() == before
    assert len([*tmp_path.iterdir()]) == 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> ModelRecord:
    """demo-flux's transformer in a file of its own, as the library lends it what it lacks."""
    folder = tmp_path_factory.mktemp("alone")
    convert(record_of(demo_root() / "flux"), folder / "whole.safetensors")
    tensors, told = (
        load_file(folder / "whole.safetensors"),
        read_header(folder / "whole.safetensors").metadata,
    )
    (folder / "whole.safetensors").unlink()
    lent = {"tokenizer_2": str(demo_root() / "flux" / "tokenizer_2")}
    for part, row in by_id("flux").file_parts.items():
        path = folder / f"{part}.safetensors"
        own = {n.removeprefix(row.prefix): t.clone() for n, t in tensors.items() if n.startswith(row.prefix)}
        save_file(own, path, dict(told) if part == "transformer" else {})
        lent |= {part: str(path)} if part != "transformer" else {}
    bare = record_of(folder / "transformer.safetensors")
    assert (bare.state, bare.needs) == (State.INCOMPLETE, ("vae", "clip_l", "t5xxl"))
    ready = {"state": State.READY, "problem": "", "needs": ()}
    return replace(bare, **ready, borrowed=tuple(sorted(lent.items())))


@pytest.mark.parametrize("weights", NAMES)
def test_a_model_that_takes_parts_from_others_is_packed_without_them(engine, alone, tmp_path, weights):
    row = weights_of(weights)
    assert row is not None
    path = tmp_path / f"small{row.end}"
    quantize(alone, row, path)
    bare = record_of(path)
    assert (bare.family, bare.state, bare.needs) == ("flux", State.INCOMPLETE, ("vae", "clip_l", "t5xxl"))
    assert bare.size_bytes < 0.75 * alone.size_bytes
    record = quantize_report.lent_as(bare, alone)
    assert (record.state, record.borrowed) == (State.READY, alone.borrowed)
    right = judge(RED, read(drawn(engine, record)))
    assert right["color"]
    assert right["shape"]


def test_a_file_that_cannot_be_loaded_is_refused(tmp_path):
    """As a transformer in the names of diffusers: nothing of it would be packed."""
    (weights,) = (demo_root() / "flux" / "transformer").glob("*.safetensors")
    row = weights_of("int8")
    assert row is not None
    shutil.copy(weights, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="Use the diffusers folder"):
        quantize(record_of(tmp_path / "x.safetensors"), row, tmp_path / "small.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_the_report_lies_beside_the_file_and_is_shown_in_rows(tmp_path):
    record = made(tmp_path, "sd", "int8")
    facts = quantize_report.compared(record_of(demo_root() / "sd"), record, pictures=2)
    quantize_report.write_report(Path(record.path), facts)
    before, after = facts["memory_bytes"]
    assert after < before / 3
    assert facts["ssim"] > 0.8
    assert abs(facts["clip_score"][1] - facts["clip_score"][0]) < 0.1
    rows = dict(report_rows(Path(record.path)))
    assert rows["Made from"] == "demo-sd"
    assert set(rows) == {*ROWS} == {*REPORT}  # as the Models page shows them


@pytest.mark.parametrize("text", ["", "[]", '{"disk_bytes": [1], "ssim": "x", "seconds": [null, 1]}'])
def test_a_damaged_report_tells_nothing(tmp_path, text):
    (tmp_path / "x.report.json").write_text(text)
    assert report_rows(tmp_path / "x.gguf") == ()


def test_pictures_that_are_the_same_are_not_apart():
    noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0)).double().numpy()
    assert quantize_report._psnr(noise, noise) is None
    assert quantize_report._ssim(noise, noise) == pytest.approx(1)
    assert quantize_report._ssim(noise, 255 - noise) < 0
