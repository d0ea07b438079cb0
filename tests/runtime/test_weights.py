"""A model whose weights are packed while it is loaded: what it draws, what it takes, what a LoRA does on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from assets.demo.recipes.drawings import Drawing
from pipelines.library.folders import demo_root
from pipelines.library.models import record_of, scan
from pipelines.library.weights import sizes_of
from pipelines.runtime.movers import InRam
from pipelines.runtime.streaming import Home
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import Kind
from pipelines.spec.request import GenerationRequest, IpAdapterInput, LoraInput, Prompt, Size
from pipelines.spec.weights import NAMES
from tests.benchmarks.scoring import judge, read
from tests.runtime.conftest import run

RED = Drawing(kind="single", color="red", shape="circle", background="blue")
DEMOS = ("sd", "sdxl", "flux")


def job_of(demo: str, weights: str, *loras: tuple[str, float]) -> Job:
    record = record_of(demo_root() / demo)
    family = by_id(record.family)
    records = {r.id: r for r in scan([demo_root()]) if r.kind is Kind.LORA} if loras else {}
    request = GenerationRequest(
        model=record.id,
        weights=weights,
        prompt=Prompt(text="a large red circle on a blue background"),
        sampling=replace(record.sampling or family.sampling, seed=5),
        size=Size(width=record.native_size, height=record.native_size),
        loras=tuple(LoraInput(model=name, weight=weight) for name, weight in loras),
    )
    return Job(id=1, request=request, model=record, parts={name: records[name] for name, _ in loras})


def drawn(engine, job: Job) -> np.ndarray:
    (saved,) = [event for event in run(engine, job) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("demo", DEMOS)
@pytest.mark.parametrize("weights", NAMES)
def test_a_red_circle_is_red_and_round_in_few_bits(engine, demo, weights):
    right = judge(RED, read(drawn(engine, job_of(demo, weights))))
    assert right["color"]
    assert right["shape"]
    assert right["background"]


@pytest.mark.parametrize("demo", DEMOS)
@pytest.mark.parametrize("weights", ["", *NAMES])
def test_the_sizes_by_the_headers_are_those_in_memory(engine, demo, weights):
    job = job_of(demo, weights)
    family = by_id(job.model.family)
    model = engine.compute.load(job, family)
    told = sizes_of([job.model], itemsize=4, weights=weights)
    parts = {network.name: network.size_bytes for network in (*told.denoisers, *told.encoders)}
    assert parts == {name: pytest.approx(held(model.parts[name]), rel=0.002) for name in parts}


def held(network: torch.nn.Module) -> int:
    return sum(each.nbytes for each in {id(p): p for p in network.parameters()}.values())


def test_fewer_bits_take_less_and_other_parts_are_shared(engine):
    family, held_by, keys = by_id("sd1"), {}, {}
    for weights in ("", *NAMES):
        model = engine.compute.load(job_of("sd", weights), family)
        held_by[weights], keys[weights] = held(model.unet), model.keys
    sizes = [held_by[weights] for weights in ("nf4", "int4", "fp8", "int8")]
    assert sizes == sorted(sizes)
    assert len({*sizes}) == 4
    assert held_by["int8"] < held_by[""] / 3
    assert len({k["unet"] for k in keys.values()}) == 5
    assert len({k["vae"] for k in keys.values()}) == 1


@pytest.mark.parametrize("weights", NAMES)
def test_a_lora_draws_its_style_on_packed_weights(engine, weights):
    plain, styled = drawn(engine, job_of("sd", weights)), drawn(engine, job_of("sd", weights, NEON))
    whole = drawn(engine, job_of("sd", "", NEON))
    changed = np.abs(styled.astype(float) - plain).mean()
    assert changed > 10
    assert np.abs(styled.astype(float) - whole).mean() < changed / 2
    assert np.array_equal(drawn(engine, job_of("sd", weights, (NEON[0], 0.0))), plain)


NEON = ("demo-sd-neon", 1.0)


@pytest.mark.parametrize("weights", NAMES)
def test_a_picture_prompt_is_seen_beside_packed_weights(engine, weights, tmp_path):
    adapter = record_of(demo_root() / "sd-ip-adapter" / "sd-ip-adapter.safetensors")
    Image.new("RGB", (128, 128), "lime").save(tmp_path / "shown.png")

    def shown(weights: str) -> np.ndarray:
        job = job_of("sd", weights)
        given = IpAdapterInput(model=adapter.id, path=str(tmp_path / "shown.png"), scale=1.0)
        request = replace(job.request, ip_adapters=(given,))
        return drawn(engine, replace(job, request=request, parts={adapter.id: adapter})).astype(float)

    whole, packed, blind = shown(""), shown(weights), drawn(engine, job_of("sd", weights)).astype(float)
    assert np.abs(packed - whole).mean() < 0.5 * np.abs(packed - blind).mean()


@pytest.mark.parametrize("weights", ["int8", "nf4"])
def test_packed_weights_that_stream_draw_the_same(engine, weights):
    family, job = by_id("sd1"), job_of("sd", weights)
    unet = engine.compute.load(job, family).unet
    args = (torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor(500))
    text = torch.randn(1, 77, unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = unet(*args, text).sample
        home = Home(unet, InRam())
        with home.visiting(range(len(home.blocks)), slots=2):
            assert torch.equal(unet(*args, text).sample, before)
