"""A model written in fewer bits: any program reads the file, and it draws what was asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from PIL import Image

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
from pipelines.workshop.quantize import MADE_FROM, quantize
from tests.benchmarks.scoring import judge, read
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
    assert record.size_bytes < 0.75 * record_of(demo_root() / demo).size_bytes
    picture = drawn(engine, record)
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


def test_what_is_cancelled_leaves_nothing(tmp_path):
    def stop(_done: int, _size: int) -> None:
        raise Cancelled

    for weights in NAMES:
        row = weights_of(weights)
        assert row is not None
        with pytest.raises(Cancelled):
            quantize(record_of(demo_root() / "sd"), row, tmp_path / f"x{row.end}", progress=stop)
    assert not list(tmp_path.iterdir())


def test_what_is_packed_already_is_refused(tmp_path):
    row = weights_of("int4")
    assert row is not None
    record = made(tmp_path, "sd", "int8")
    with pytest.raises(ModelError, match="Q8_0 already"):
        quantize(record, row, tmp_path / "again.gguf")


def test_a_file_is_never_replaced(tmp_path):
    record = made(tmp_path, "sd", "int4")
    before = Path(record.path).read_bytes()
    with pytest.raises(FileExistsError):
        made(tmp_path, "sd", "int4")
    assert Path(record.path).read_bytes() == before


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
