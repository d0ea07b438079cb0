"""GGUF files of denoisers: the blocks stay packed in memory and draw what the whole weights draw, nearly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize
from PIL import Image
from safetensors.torch import load_file

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.library.places import Place
from pipelines.runtime.gguf_weights import fits, is_packed, packed, widened
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord, State
from pipelines.spec.request import GenerationRequest, LoraInput, Prompt, Size
from pipelines.workshop.convert import convert
from tests.runtime.conftest import run

FLUX = by_id("flux")
KINDS = {name: gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q5_1", "Q4_0")}


def written(path: Path, tensors: dict[str, torch.Tensor], kind: gguf.GGMLQuantizationType) -> Path:
    """As city96/ComfyUI-GGUF writes them: matrices packed where their rows are whole blocks, the rest as it is."""
    writer = gguf.GGUFWriter(str(path), "flux")
    block = gguf.GGML_QUANT_SIZES[kind][0]
    for name, tensor in tensors.items():
        numbers = tensor.float().numpy()
        if numbers.ndim == 2 and numbers.shape[1] % block == 0:
            writer.add_tensor(name, quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "flux.safetensors"
    convert(record_of(demo_root() / "flux"), path)
    return path


@pytest.fixture
def made(whole, tmp_path, monkeypatch):
    """Makes the record of a GGUF of demo-flux; all but the transformer comes out of the bundle."""
    from pipelines.library import single_file

    tensors = load_file(whole)
    prefix = FLUX.file_parts["transformer"].prefix
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    # A GGUF says nothing of sizes, and the demo is smaller than what was published.
    settings = single_file.own_configs(single_file.read_header(whole))
    monkeypatch.setattr(single_file, "bundled", lambda _family: {k: dict(v) for k, v in settings.items()})

    def make(kind: str) -> ModelRecord:
        path = written(tmp_path / f"flux-{kind}.gguf", own, KINDS[kind])
        record = record_of(path)
        lent = {part: str(whole) for part, row in FLUX.file_parts.items() if row.need}
        lent["tokenizer_2"] = str(demo_root() / "flux" / "tokenizer_2")
        return replace(
            record, family="flux", kind=Kind.TRANSFORMER, state=State.READY, problem="",
            needs=(), borrowed=tuple(sorted(lent.items())),
        )  # fmt: skip

    return make


def job_of(model: ModelRecord, *loras: ModelRecord) -> Job:
    request = GenerationRequest(
        model=model.id,
        prompt=Prompt(text="a large red circle on a blue background"),
        sampling=replace(FLUX.sampling, num_inference_steps=8, guidance_scale=2.0, seed=5),
        size=Size(width=256, height=256),
        loras=tuple(LoraInput(model=lora.id, weight=1.0) for lora in loras),
    )
    return Job(id=1, request=request, model=model, parts={lora.id: lora for lora in loras})


def drawn(engine, job: Job) -> np.ndarray:
    (saved,) = [event for event in run(engine, job) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=float)


def packed_bytes(network: torch.nn.Module) -> int:
    return sum(p.nbytes for p in network.parameters() if is_packed(p))


def test_the_picture_is_that_of_the_whole_weights_the_nearer_the_more_bits(engine, made):
    wide = drawn(engine, job_of(record_of(demo_root() / "flux")))
    other = drawn(engine, replace_seed(job_of(record_of(demo_root() / "flux"))))
    off = {}
    for kind in ("Q8_0", "Q4_0"):
        off[kind] = np.abs(drawn(engine, job_of(made(kind))) - wide).mean()
    assert off["Q8_0"] < off["Q4_0"] < np.abs(other - wide).mean()
    assert off["Q8_0"] < 3


def replace_seed(job: Job) -> Job:
    sampling = replace(job.request.sampling, seed=99)
    return replace(job, request=replace(job.request, sampling=sampling))


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_stay_packed_in_memory(engine, made, kind):
    record = made(kind)
    transformer = engine.compute.load(job_of(record), FLUX).transformer
    block, size = gguf.GGML_QUANT_SIZES[KINDS[kind]]
    plain = sum(p.numel() for p in record_of_numbers(transformer))
    assert packed_bytes(transformer) == plain // block * size
    assert not any(p.is_meta for p in transformer.parameters())


def record_of_numbers(network: torch.nn.Module) -> list[torch.Tensor]:
    """Weights as many as the packed ones stand for."""
    return [
        torch.empty(m.out_features, m.in_features, device="meta")
        for m in network.modules()
        if isinstance(m, torch.nn.Linear) and is_packed(m.weight)
    ]


def test_a_lora_goes_on_packed_weights(engine, made):
    lora = next(r for r in scan_loras() if r.family.startswith("flux"))
    model = made("Q8_0")
    without, with_it = drawn(engine, job_of(model)), drawn(engine, job_of(model, lora))
    folder = record_of(demo_root() / "flux")
    wide = drawn(engine, job_of(folder, lora))
    assert np.abs(with_it - without).mean() > 5
    assert np.abs(with_it - wide).mean() < np.abs(with_it - without).mean() / 2


def scan_loras() -> list[ModelRecord]:
    from pipelines.library.models import scan

    return [r for r in scan([demo_root()]) if r.kind is Kind.LORA]


def test_weights_that_were_reshaped_to_be_packed_are_widened_to_their_own_shape():
    """ComfyUI-GGUF packs rows of 640 numbers in blocks of 256 by reshaping, and notes the shape that they had."""
    numbers = np.random.default_rng(0).standard_normal((64, 40), dtype=np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    raw = torch.from_numpy(quantize(numbers.reshape(-1, 256), kind).copy()).flatten()
    weight = packed(raw, Place("Q8_0", (64, 40), 0, raw.numel()))
    assert fits(weight, (64, 40))
    assert not fits(weight, (64, 41))
    assert torch.allclose(widened(weight, (64, 40), torch.float32), torch.from_numpy(numbers), atol=0.05)
