"""ControlNets in the real engine: the pixels of diffusers, the picture's place and size, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pipelines.runtime import device as devices
from pipelines.runtime.compute import Compute
from pipelines.runtime.conditioning.control import control_picture
from pipelines.runtime.engine import Engine
from pipelines.runtime.latents import pack
from pipelines.runtime.placement import Placement, Rung
from pipelines.runtime.preprocess.canny import canny
from pipelines.runtime.sampling import noise
from pipelines.spec.errors import Cancelled, RequestError
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family, Task
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import ControlInput, GenerationRequest, LoraInput, Refiner, Size
from tests.runtime.conditioning.add_ons import controlnet, found, peft
from tests.runtime.conditioning.test_lora import assert_equal, drawn, state_of
from tests.runtime.conftest import SIDE, options, run
from tests.runtime.fake_card import FakeCard, counting
from tests.runtime.test_families import _LENGTH, plain_call, request_of
from tests.runtime.tiny import written

NAMES = ("sd1", "sd2", "sdxl", "flux", "flux-schnell")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("controls")


@pytest.fixture(scope="module")
def records(folder, torch_engine) -> dict[str, ModelRecord]:
    return {name: written(folder / "models", by_id(name)) for name in (*NAMES, "sdxl-refiner")}


@pytest.fixture(scope="module")
def nets(folder, records) -> dict[str, ModelRecord]:
    return {name: controlnet(folder / "nets" / f"{name}-canny", by_id(name), records[name]) for name in NAMES}


@pytest.fixture(params=NAMES)
def family(request) -> Family:
    return by_id(request.param)


@pytest.fixture
def edges(tmp_path) -> Path:
    """A control picture of the size of the request."""
    picture = Image.new("RGB", (SIDE, SIDE))
    ImageDraw.Draw(picture).ellipse((10, 10, 50, 54), outline="white")
    picture.save(tmp_path / "edges.png")
    return tmp_path / "edges.png"


def asked(family: Family, *controls: ControlInput, **changes: Any) -> GenerationRequest:
    return request_of(family, controls=controls, **changes)


def job_of(request: GenerationRequest, record: ModelRecord, *parts: ModelRecord, **more: Any) -> Job:
    return Job(id=1, request=request, model=record, parts={part.id: part for part in parts}, **more)


def plain(
    family: Family, record: ModelRecord, nets: list[ModelRecord], request: GenerationRequest, **call: Any
):
    """What the diffusers pipeline draws. FLUX's draws from the generator before it makes its noise: it is given."""
    loaded = [_network(net) for net in nets]
    pipe = getattr(diffusers, family.pipelines[Task.CONTROL]).from_pretrained(
        record.path, controlnet=loaded if len(loaded) > 1 else loaded[0], dtype=torch.float32, local_files_only=True,
        **family.fixed,
    )  # fmt: skip
    from tests.runtime.test_families import bare

    pipe.scheduler = bare(record, family, request).scheduler
    pipe.set_progress_bar_config(disable=True)
    side = SIDE // family.latent.scale
    latents, generator = noise(request.sampling.seed, (1, family.latent.channels, side, side))
    given = plain_call(request) | {"latents": pack(latents, family.latent.patch), "generator": generator}
    return np.asarray(pipe(**given, **_LENGTH.get(family.text, {}), **call).images[0])


def _network(net: ModelRecord) -> Any:
    build = diffusers.FluxControlNetModel if "flux" in net.family else diffusers.ControlNetModel
    return build.from_pretrained(net.path, torch_dtype=torch.float32)


def test_it_steers_the_picture_as_diffusers_does_and_is_gone_afterwards(engine, records, nets, family, edges):
    record, net = records[family.id], nets[family.id]
    control = ControlInput(model=net.id, path=str(edges), weight=0.8, start=0.0, end=0.6)
    job = job_of(asked(family, control), record, net)
    without = drawn(engine, job_of(request_of(family), record))
    before = state_of(engine, job, family)
    steered = drawn(engine, job)
    assert_equal(state_of(engine, job, family), before)
    told = {family.control_image: Image.open(edges), "controlnet_conditioning_scale": 0.8}
    expected = plain(
        family, record, [net], job.request, control_guidance_start=0.0, control_guidance_end=0.6, **told
    )
    assert np.array_equal(steered, expected)
    assert not np.array_equal(steered, without)
    assert np.array_equal(drawn(engine, job_of(request_of(family), record)), without)


def test_weight_picture_and_times_matter_and_weight_0_is_nothing(
    engine, records, nets, family, edges, tmp_path
):
    record, net = records[family.id], nets[family.id]
    blank = tmp_path / "blank.png"
    Image.new("RGB", (SIDE, SIDE)).save(blank)
    control = ControlInput(model=net.id, path=str(edges))
    pictures = [
        drawn(engine, job_of(asked(family, *controls), record, net))
        for controls in (
            (),
            (replace(control, weight=0.0),),
            (control,),
            (replace(control, weight=0.4),),
            (replace(control, path=str(blank)),),
            (replace(control, end=0.5),),
        )
    ]
    assert np.array_equal(pictures[0], pictures[1])
    different = [pictures[0], *pictures[2:]]
    for one in range(len(different)):
        for other in range(one):
            assert not np.array_equal(different[one], different[other]), (one, other)


@pytest.mark.parametrize("name", ["sd1", "flux"])
def test_several_at_once(engine, records, nets, name, edges, tmp_path):
    family, record, net = by_id(name), records[name], nets[name]
    second = controlnet(tmp_path / "second", family, record, seed=3)
    controls = (
        ControlInput(model=net.id, path=str(edges), weight=0.7),
        ControlInput(model=second.id, path=str(edges), weight=0.5, start=0.25),
    )
    request = asked(family, *controls)
    both = drawn(engine, job_of(request, record, net, second))
    told = {family.control_image: [Image.open(edges)] * 2, "controlnet_conditioning_scale": [0.7, 0.5]}
    times = {"control_guidance_start": [0.0, 0.25], "control_guidance_end": [1.0, 1.0]}
    assert np.array_equal(both, plain(family, record, [net, second], request, **told, **times))
    assert not np.array_equal(both, drawn(engine, job_of(asked(family, controls[0]), record, net)))


def test_with_a_lora_too(engine, records, nets, edges, tmp_path):
    family, record, net = by_id("sd1"), records["sd1"], nets["sd1"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, ("unet", "text_encoder")))
    control = ControlInput(model=net.id, path=str(edges))
    alone = drawn(engine, job_of(asked(family, control), record, net))
    both = asked(family, control, loras=(LoraInput(model=lora.id),))
    assert not np.array_equal(drawn(engine, job_of(both, record, net, lora)), alone)
    assert np.array_equal(drawn(engine, job_of(asked(family, control), record, net)), alone)


def test_the_network_is_read_once(engine, records, nets, edges):
    family, record, net = by_id("sd1"), records["sd1"], nets["sd1"]
    loads = []
    for seed in (1, 2):
        before = engine.compute.store.loads
        run(
            engine, job_of(asked(family, ControlInput(model=net.id, path=str(edges)), seed=seed), record, net)
        )
        loads.append(engine.compute.store.loads - before)
    assert loads == [6, 0], "five parts of the model and the ControlNet"


def test_the_base_alone_is_steered_where_a_refiner_finishes(engine, records, nets, edges):
    family, refiner, net = by_id("sdxl"), records["sdxl-refiner"], nets["sdxl"]
    request = asked(family, ControlInput(model=net.id, path=str(edges)))
    request = replace(request, refiner=Refiner(model=refiner.id, switch_at=0.5))
    with_it = drawn(engine, job_of(request, records["sdxl"], net, refiner=refiner))
    without = drawn(engine, job_of(replace(request, controls=()), records["sdxl"], refiner=refiner))
    assert not np.array_equal(with_it, without)


def test_a_cancel_comes_before_the_next_block_of_the_controlnet(engine, records, nets, edges):
    family, record, net = by_id("sd1"), records["sd1"], nets["sd1"]
    request = asked(family, ControlInput(model=net.id, path=str(edges)))
    run(engine, job_of(request, record, net))
    job = job_of(request, record, net)
    (network,) = (
        part for part in engine.compute.store._parts.values() if hasattr(part, "controlnet_mid_block")
    )
    calls = []

    def cancel(*_) -> None:
        calls.append("first")
        job.cancel()

    with network.down_blocks[0].register_forward_hook(cancel), pytest.raises(Cancelled):
        run(engine, job)
    assert calls == ["first"]


def test_samplers_that_draw_noise_go_with_it_at_half_precision(engine, records, nets, edges, monkeypatch):
    monkeypatch.setattr(devices, "computes_in", lambda *_: True)
    monkeypatch.setattr(engine.compute._loader, "_dtype", "bfloat16")
    family, record, net = by_id("sd1"), records["sd1"], nets["sd1"]
    request = asked(family, ControlInput(model=net.id, path=str(edges)))
    request = replace(request, sampling=replace(request.sampling, scheduler="euler_a", num_inference_steps=2))
    assert drawn(engine, job_of(request, record, net)).shape == (SIDE, SIDE, 3)


# The picture


@pytest.mark.parametrize(("size", "seen"), [((128, 64), "green"), ((64, 128), "green"), ((32, 32), "green")])
def test_the_middle_of_the_picture_fills_the_request(tmp_path, size, seen):
    picture = Image.new("RGB", size, "red")
    square = min(size)
    left, top = (size[0] - square) // 2, (size[1] - square) // 2
    picture.paste(seen, (left, top, left + square, top + square))
    picture.save(tmp_path / "p.png")
    control = ControlInput(model="c", path=str(tmp_path / "p.png"))
    shown = control_picture(control, Size(width=64, height=64), "controls[0].path")
    assert shown.size == (64, 64)
    assert np.asarray(shown)[2:-2, 2:-2, 0].max() == 0, "no red is left"


def test_a_photograph_stands_upright_and_what_is_transparent_is_black(tmp_path):
    picture = Image.new("RGB", (64, 32), "blue")
    picture.paste("white", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture.save(tmp_path / "p.jpg", exif=exif, quality=95)
    control = ControlInput(model="c", path=str(tmp_path / "p.jpg"))
    shown = np.asarray(control_picture(control, Size(width=32, height=64), "f"))
    assert shown[:28].min() > 200, "the left half is the upper one now"
    assert shown[36:, :, 0].max() < 60
    Image.new("RGBA", (32, 64), (255, 255, 255, 0)).save(tmp_path / "t.png")
    control = replace(control, path=str(tmp_path / "t.png"))
    assert np.asarray(control_picture(control, Size(width=32, height=64), "f")).max() == 0


def test_a_plain_picture_is_preprocessed_at_the_size_of_the_request(engine, records, nets, tmp_path):
    family, record, net = by_id("sd1"), records["sd1"], nets["sd1"]
    photo = Image.new("RGB", (100, 100), "navy")
    ImageDraw.Draw(photo).ellipse((20, 20, 70, 80), fill="yellow")
    photo.save(tmp_path / "photo.png")
    control = ControlInput(model=net.id, path=str(tmp_path / "photo.png"), preprocess="canny")
    edges = control_picture(control, Size(width=SIDE, height=SIDE), "f")
    assert np.array_equal(
        np.asarray(edges), np.asarray(canny(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    )
    edges.save(tmp_path / "edges.png")
    ready = replace(control, path=str(tmp_path / "edges.png"), preprocess="")
    one, other = (drawn(engine, job_of(asked(family, each), record, net)) for each in (control, ready))
    assert np.array_equal(one, other)


def test_a_picture_that_cannot_be_read_names_its_field(engine, records, nets, edges, tmp_path):
    family, record, net = by_id("sd1"), records["sd1"], nets["sd1"]
    data = edges.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "page.png").write_text("<html>")
    good = ControlInput(model=net.id, path=str(edges))
    for name in ("gone.png", "cut.png", "page.png"):
        bad = replace(good, model="second", path=str(tmp_path / name))
        second = replace(net, id="second")
        with pytest.raises(RequestError) as caught:
            run(engine, job_of(asked(family, good, bad), record, net, second))
        assert caught.value.field == "controls[1].path"
        assert name in caught.value.message


# Which they are


def test_the_library_tells_what_it_is(nets, family):
    net = nets[family.id]
    assert (net.kind, net.problem, net.control) == (Kind.CONTROLNET, "", "canny")
    assert by_id(net.family).add_ons.base == family.add_ons.base


def test_one_of_another_family_is_refused_with_both_names(engine, records, nets, edges):
    """M10."""
    job = job_of(
        asked(by_id("sd1"), ControlInput(model=nets["sdxl"].id, path=str(edges))),
        records["sd1"],
        nets["sdxl"],
    )
    with pytest.raises(RequestError) as caught:
        run(engine, job)
    assert caught.value.field == "controls[0].model"
    for word in (nets["sdxl"].title, "Stable Diffusion XL", "Stable Diffusion 1.x"):
        assert word in caught.value.message


def test_flux_sees_the_control_picture_also_where_its_vae_waits_in_ram(
    records, nets, edges, out, monkeypatch
):
    """Its pipeline asks the VAE in the middle of its call, when the card belongs to the denoiser."""
    record, net = records["flux"], nets["flux"]
    job = job_of(asked(by_id("flux"), ControlInput(model=net.id, path=str(edges))), record, net)
    roomy, roomy_plan, _ = _on_a_card(2**32, job, out, monkeypatch)
    small, placement, compute = _on_a_card(roomy_plan.peak_vram - 1, job, out, monkeypatch)
    assert roomy_plan.rung is Rung.RESIDENT
    assert placement.rung is not Rung.RESIDENT
    assert (small == roomy).all()
    vae = next(part for _, part in compute.store.parts() if type(part).__name__ == "AutoencoderKL")
    assert "encode" not in vars(vae), "it sees again what it is shown"


def _on_a_card(limit: int, job: Job, out: Path, monkeypatch) -> tuple[np.ndarray, Placement, Compute]:
    settings, card = options(out, dtype="float32"), FakeCard(limit)
    compute = Compute(settings, card)
    placement = compute.plan(job)
    with counting(card.memory, monkeypatch):
        (saved,) = [event for event in run(Engine(compute, settings), job) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return np.asarray(picture), placement, compute
