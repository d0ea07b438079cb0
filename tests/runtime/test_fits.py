"""Jobs on a card that is too small for all of their model: the plan holds, and the picture is the same bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from PIL import Image

from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime import preflight
from pipelines.runtime.compute import Compute
from pipelines.runtime.engine import Engine
from pipelines.runtime.placement import Rung, Stage
from pipelines.spec.errors import EngineError, OutOfMemory
from pipelines.spec.events import Event, ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.measured import Measured
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import (
    ControlInput,
    GenerationRequest,
    IpAdapterInput,
    LoraInput,
    Prompt,
    Refiner,
    Sampling,
    Size,
)
from tests.runtime.conftest import options, run
from tests.runtime.fake_card import FakeCard, counting, counting_weights

ROOMY = 2**32
FAMILIES = ("demo-sd", "demo-sd-v", "demo-sdxl", "demo-flux")
STEPS = 2


@pytest.fixture(scope="module")
def records() -> dict[str, ModelRecord]:
    return {record.id: record for record in scan([demo_root()])}


@pytest.fixture(autouse=True)
def no_workspace(monkeypatch):
    """No library takes memory for itself on a card that does not exist."""
    for kind in ("UNET", "SDXL", "FLUX"):
        monkeypatch.setattr(preflight, kind, replace(getattr(preflight, kind), workspace=0))


def job_for(record: ModelRecord, number: int = 1, text: str = "a red circle", count: int = 1, **more) -> Job:
    family = by_id(record.family)
    parts, refiner = more.pop("parts", {}), more.pop("refined_by", None)
    side = more.pop("side", 0) or record.native_size or family.sizes.native
    request = GenerationRequest(
        model=record.id, prompt=Prompt(text=text), size=Size(width=side, height=side), count=count,
        sampling=Sampling(scheduler=family.sampling.scheduler, num_inference_steps=STEPS, seed=3), **more,
    )  # fmt: skip
    return Job(id=number, request=request, model=record, parts=parts, refiner=refiner)


@dataclass
class Seen:
    pictures: list[bytes]
    marks: list[tuple[str, ...]]
    rungs: list[Rung]
    predicted: int
    card: FakeCard
    engine: Engine
    error: EngineError | None = None

    def takes(self, job: Job) -> int:
        """Bytes with everything on the card, by what was measured."""
        plan = self.engine.compute.plan(job)
        assert plan.rung is Rung.RESIDENT
        return plan.peak_vram


@pytest.fixture
def draw(torch_engine, out, monkeypatch) -> Callable[..., Seen]:
    """Draws jobs one after the other on a card of `limit` bytes where `seen` was measured before."""

    def drawing(
        *jobs: Job, limit: int = ROOMY, seen: tuple[Measured, ...] = (), decoding: bool = True
    ) -> Seen:
        card, settings = FakeCard(limit), options(out, dtype="float32")
        compute = Compute(settings, card)
        compute._usage.seen = seen
        told = Seen([], [], [], 0, card, Engine(compute, settings))
        settle = compute.settle

        def settled(job, placement):
            told.rungs.append(placement.rung)
            told.predicted = max(told.predicted, placement.peak_vram)
            settle(job, placement)

        monkeypatch.setattr(compute, "settle", settled)
        monkeypatch.setattr(compute, "load_all", counting_weights(compute, card))
        events: list[Event] = []
        with counting(card.memory, monkeypatch, decoding):
            for job in jobs:
                try:
                    events += run(told.engine, job)
                except EngineError as error:
                    told.error = error
        saved = [event for event in events if isinstance(event, ImageSaved)]
        told.pictures = [Image.open(event.path).tobytes() for event in saved]
        told.marks = [event.marks for event in saved]
        return told

    return drawing


def measured(roomy: Seen) -> tuple[Measured, ...]:
    return roomy.engine.compute._usage.seen


@pytest.mark.parametrize("name", FAMILIES)
def test_every_card_that_is_large_enough_for_a_plan_draws_the_same(draw, records, name):
    job = job_for(records[name])
    roomy = draw(job)
    assert roomy.rungs == [Rung.RESIDENT]
    found, most, small = set(), roomy.takes(job), None
    for percent in range(98, 0, -4):
        limit = most * percent // 100
        small = draw(job, limit=limit, seen=measured(roomy))
        if small.error:
            break
        assert small.pictures == roomy.pictures, percent
        assert small.card.memory.ever <= limit
        assert 1 <= small.predicted / small.card.memory.ever <= 1.08, percent
        found |= {*small.rungs}
    assert small is not None
    assert isinstance(small.error, OutOfMemory)
    assert found >= {Rung.ENCODERS_LEAVE, Rung.STAGES}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_streams_draws_the_same(draw, records, name):
    """Down to the last block, on a card that decodes for nothing: these small models take most of it for that."""
    job = job_for(records[name])
    roomy = draw(job, decoding=False)
    seen = tuple(replace(m, size_bytes=0) if m.stage == "decode" else m for m in measured(roomy))
    found, most, small = set(), roomy.takes(job), None
    for percent in range(70, 0, -5):
        limit = most * percent // 100
        small = draw(job, limit=limit, seen=seen, decoding=False)
        if small.error:
            break
        assert small.pictures == roomy.pictures, percent
        assert small.card.memory.ever <= limit
        found |= {*small.rungs}
    assert small is not None
    assert isinstance(small.error, OutOfMemory)
    assert found >= {Rung.PARTIAL}


def test_what_was_expected_too_low_is_repaired_with_the_same_seed(draw, records):
    """Nothing is known of this card, and computing takes more than anybody thought."""
    job = job_for(records["demo-sd"], count=2)
    roomy = draw(job)
    nothing = tuple(replace(each, size_bytes=each.size_bytes // 2) for each in measured(roomy))
    limit = int(0.85 * roomy.takes(job))
    small = draw(job, limit=limit, seen=nothing)
    assert small.error is None
    assert small.pictures == roomy.pictures
    assert len(small.rungs) > 1
    assert any("Memory ran out" in mark for mark in small.marks[0])
    again = small.engine.compute.plan(job)
    assert again.peak_vram <= limit, "the next plan knows better"
    assert again.rung is small.rungs[-1]


def test_a_card_that_is_too_small_says_how_much_it_takes_and_goes_on_with_others(draw, records):
    large, small = job_for(records["demo-sdxl"], side=1024), job_for(records["demo-sd-v"], 2)
    roomy = draw(small)
    seen = measured(roomy)
    told = draw(large, small, limit=int(0.9 * roomy.takes(small)), seen=seen)
    assert isinstance(told.error, OutOfMemory)
    assert "MB" in told.error.message
    assert "card" in told.error.message
    assert told.pictures == roomy.pictures


def test_a_prompt_that_was_read_before_moves_no_text_encoder(draw, records):
    job = job_for(records["demo-flux"])
    roomy = draw(job)
    limit = int(0.8 * roomy.takes(job))
    once, twice = (draw(*[job] * n, limit=limit, seen=measured(roomy)) for n in (1, 2))
    assert twice.pictures == 2 * roomy.pictures
    encoders = sum(
        guest.home.size_bytes
        for _, part in twice.engine.compute.store.parts()
        if type(part).__name__ in ("CLIPTextModel", "T5EncoderModel")
        for guest in [twice.engine.compute.lodging._guests[id(part)]]
    )
    assert encoders > 0
    second = twice.card.mover_.copied - once.card.mover_.copied
    assert second <= once.card.mover_.copied - encoders


def test_a_lora_and_a_refiner_draw_the_same_on_a_small_card(draw, records):
    lora, refiner = records["demo-sd-neon"], records["demo-sdxl-refiner"]
    plain = job_for(records["demo-sd"])
    styled = job_for(
        records["demo-sd"], 2, loras=(LoraInput(model=lora.id, weight=1.0),), parts={lora.id: lora}
    )
    refined = job_for(records["demo-sdxl"], 3, refiner=Refiner(model=refiner.id), refined_by=refiner)
    roomy = draw(plain, styled, refined)
    small = draw(plain, styled, refined, limit=int(0.7 * roomy.takes(styled)), seen=measured(roomy))
    assert small.error is None
    assert small.pictures == roomy.pictures
    assert roomy.pictures[0] != roomy.pictures[1]
    assert Rung.RESIDENT not in small.rungs


@pytest.mark.parametrize(
    ("name", "loras", "weights"),
    [
        ("demo-sd", ("demo-sd-neon", "demo-sd-crayon"), ""),
        ("demo-sdxl", ("demo-sdxl-neon",), ""),
        ("demo-flux", ("demo-flux-neon",), ""),
        ("demo-sd", ("demo-sd-mosaic",), "int8"),
    ],
)
def test_loras_draw_the_same_on_every_card(draw, records, name, loras, weights):
    """Beside the weights, where they lie on the card, as they arrive there, or while they are widened.

    The card decodes for nothing, as these small models take most of it for that.
    """
    plain = job_for(records[name], weights=weights)
    used = tuple(LoraInput(model=lora, weight=0.8) for lora in loras)
    parts = {lora: records[lora] for lora in loras}
    styled = job_for(records[name], 2, count=2, weights=weights, loras=used, parts=parts)
    roomy = draw(styled, plain, decoding=False)
    seen = tuple(replace(m, size_bytes=0) if m.stage == "decode" else m for m in measured(roomy))
    most, found = roomy.takes(styled), set()
    assert roomy.pictures[1] != roomy.pictures[2]
    for percent in (98, 80, 60, 45, 35):
        limit = most * percent // 100
        small = draw(styled, plain, limit=limit, seen=seen, decoding=False)
        if small.error:
            break
        assert small.pictures == roomy.pictures, percent
        assert small.card.memory.ever <= limit
        found |= {*small.rungs}
    assert found & {Rung.ENCODERS_LEAVE, Rung.STAGES}
    # In 8 bits so little is left of the weights that none of them needs to stream.
    assert weights or found & {Rung.PARTIAL, Rung.STREAMED}


def test_what_is_asked_beside_the_denoiser_is_on_the_card_when_that_is(draw, records, tmp_path):
    """A ControlNet, and an image encoder, which is asked once and goes home."""
    Image.new("RGB", (64, 64), "red").save(picture := tmp_path / "red.png")
    net, eye = records["demo-sd-canny"], records["demo-sd-ip-adapter"]
    job = job_for(
        records["demo-sd"], parts={net.id: net, eye.id: eye},
        controls=(ControlInput(model=net.id, path=str(picture)),),
        ip_adapters=(IpAdapterInput(model=eye.id, path=str(picture)),),
    )  # fmt: skip
    roomy = draw(job, decoding=False)
    small = draw(job, limit=int(0.7 * roomy.takes(job)), decoding=False)
    assert small.error is None
    assert small.pictures == roomy.pictures
    assert small.rungs[0] >= Rung.STAGES
    assert {type(part).__name__ for _, part in small.engine.compute.store.parts()} >= {
        "ControlNetModel", "CLIPVisionModelWithProjection",
    }  # fmt: skip
    for _, part in small.engine.compute.store.parts():
        if type(part).__name__ in ("ControlNetModel", "CLIPVisionModelWithProjection"):
            assert small.engine.compute.lodging.lies(part)[1] == 0, "it went home"


def test_an_image_encoder_without_room_does_not_make_the_denoiser_leave(draw, records, tmp_path, monkeypatch):
    """Others take memory once all was planned to stay: when it is asked, half of it finds no room beside the rest."""
    Image.new("RGB", (64, 64), "red").save(picture := tmp_path / "red.png")
    eye = records["demo-sd-ip-adapter"]
    used = (IpAdapterInput(model=eye.id, path=str(picture)),)
    job = job_for(records["demo-sd"], parts={eye.id: eye}, ip_adapters=used)
    roomy = draw(job, decoding=False)
    sizes, _, shape, activations = roomy.engine.compute.plan(job).asked
    asked, settle, plans = roomy.engine.compute.plan(job).peaks[Stage.SEE], Compute.settle, []

    def settled(compute, job, placement):
        plans.append(placement)
        compute.card.memory.limit = asked - activations.encode(shape) - sizes.seeing // 2
        settle(compute, job, placement)

    monkeypatch.setattr(Compute, "settle", settled)
    told = draw(job, decoding=False)
    assert told.error is None
    assert told.pictures == roomy.pictures
    assert told.rungs == [Rung.RESIDENT, Rung.ENCODERS_LEAVE]
    assert plans[1].asked[1].limits.keys() == {Stage.SEE}


def test_a_card_that_others_fill_meanwhile_draws_the_same_with_a_lora(draw, records, monkeypatch):
    """What lies changed on the card gets a home in RAM, which must have the weights of the files."""
    lora = records["demo-sd-neon"]
    plain = job_for(records["demo-sd"])
    used = (LoraInput(model=lora.id, weight=1.0),)
    styled = job_for(records["demo-sd"], 2, loras=used, parts={lora.id: lora})
    roomy = draw(styled, plain)
    told = draw(styled, seen=measured(roomy))
    told.card.memory.limit = int(0.75 * roomy.takes(styled))
    with counting(told.card.memory, monkeypatch):
        events = [event for job in (plain, styled) for event in run(told.engine, job)]
    pictures = [Image.open(event.path).tobytes() for event in events if isinstance(event, ImageSaved)]
    assert told.rungs[0] is Rung.RESIDENT
    assert Rung.RESIDENT not in told.rungs[1:]
    assert pictures == roomy.pictures[::-1]


def test_nothing_stays_on_the_card_that_is_not_planned_to(draw, records):
    job = job_for(records["demo-sd"])
    roomy = draw(job)
    small = draw(job, limit=int(0.7 * roomy.takes(job)), seen=measured(roomy))
    assert small.rungs[-1] >= Rung.STAGES
    assert small.card.memory.used < 2**18, "prompts that were read; on a true card those are in RAM"
    small.engine.free()
    assert small.card.memory.used == 0
    assert small.engine.compute.lodging._guests == {}


def test_what_is_on_the_card_for_another_job_leaves_in_time(draw, records):
    """Another model's parts, the same model's in other weights, and those of a folder whose name begins alike."""
    sd, flux = job_for(records["demo-sd"]), job_for(records["demo-flux"], 2)
    sdxl, packed = job_for(records["demo-sdxl"], 3), job_for(records["demo-sd"], 4, weights="int8")
    roomy = draw(sd, flux, sdxl, packed)
    most = roomy.takes(sd)
    for first, second, limit in (
        (sd, flux, int(0.95 * most)), (sdxl, sd, roomy.takes(sdxl) + 10**5), (sd, packed, most + 10**5),
    ):  # fmt: skip
        small = draw(first, second, limit=limit, seen=measured(roomy))
        assert small.marks == [(), ()], (first.request.model, second.request.model)


def test_a_larger_picture_is_not_drawn_beside_what_the_smaller_one_left_on_the_card(draw, records):
    small, large = job_for(records["demo-sd"], side=64), job_for(records["demo-sd"], 2, side=192)
    roomy = draw(small, large)
    limit = int(1.1 * roomy.takes(small))
    told = draw(small, large, limit=limit, seen=measured(roomy))
    assert told.error is None
    assert told.rungs[0] < told.rungs[-1]
    assert told.marks == [(), ()]


def test_parts_of_the_job_at_hand_come_to_the_card_also_when_ram_is_short(draw, records, out):
    """The store makes room for each part that is read, but not by those that the job has: they have to be brought."""
    job = job_for(records["demo-sd"])
    roomy = draw(job)
    settings = options(out, dtype="float32")
    compute = Compute(settings, FakeCard(int(0.8 * roomy.takes(job))))
    compute._usage.seen = measured(roomy)
    compute.store._free_bytes = lambda: 0
    brought, bring = set(), compute.lodging.bring

    def bringing(part, place):
        brought.add(place.name)
        bring(part, place)

    compute.lodging.bring = bringing
    run(Engine(compute, settings), job)
    assert brought == {"text_encoder", "unet", "vae"}
