"""Text encoders on a device of their own: the same picture, nothing of them on the card, and what a full one does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.card import card
from pipelines.runtime.components import PartKey
from pipelines.runtime.compute import Compute
from pipelines.runtime.device import bytes_of
from pipelines.runtime.engine import Engine, build
from pipelines.runtime.lodging import Lodging
from pipelines.runtime.occupancy import Occupancy
from pipelines.runtime.outlook import budget_of
from pipelines.runtime.part_plan import PartPlan
from pipelines.runtime.placement import MARGIN, Budget, Reading, Rung, Stage, plan
from pipelines.runtime.placement_words import place_words, words
from pipelines.runtime.text.prompts import PromptEncoder
from pipelines.spec.errors import EngineError
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.memory import IN_RAM, Holder, Memory, Room
from pipelines.spec.request import IpAdapterInput, LoraInput
from tests.runtime.conditioning.add_ons import found as written_lora
from tests.runtime.conditioning.add_ons import peft
from tests.runtime.conftest import options, run
from tests.runtime.fake_card import FakeCard, counting, counting_weights
from tests.runtime.test_fits import job_for

ROOMY = 2**32


@pytest.fixture(scope="module")
def records():
    return {record.id: record for record in scan([demo_root()])}


class SecondCard(FakeCard):
    """Not the place where RAM is, by its name."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.device = torch.device("cpu:0")


class Drawn:
    """Jobs on a counted card; `readers` is None, 'cpu', or the bytes of a second card."""

    def __init__(self, out, monkeypatch, jobs, readers=None, limit=ROOMY) -> None:
        settings, self.card = options(out, dtype="float32"), FakeCard(limit)
        own = SecondCard(readers) if isinstance(readers, int) else None
        own = card(torch.device("cpu")) if readers == "cpu" else own
        self.own = own
        self.compute = Compute(settings, self.card, own)
        self.plans, settle = [], self.compute.settle
        monkeypatch.setattr(
            self.compute,
            "settle",
            lambda job, placement: (self.plans.append(placement), settle(job, placement)),
        )
        self.engine = Engine(self.compute, settings)
        self.pictures, self.marks = [], []
        monkeypatch.setattr(self.compute, "load_all", counting_weights(self.compute, self.card))
        self._counting = lambda: counting(self.card.memory, monkeypatch, encode=readers is None)
        self.draw(jobs)

    def draw(self, jobs) -> None:
        with self._counting():
            for job in jobs:
                for event in run(self.engine, job):
                    if isinstance(event, ImageSaved):
                        self.pictures.append(Image.open(event.path).tobytes())
                        self.marks.append(event.marks)

    def encoders(self) -> dict[PartKey, object]:
        parts = self.compute.store.parts()
        return {key: part for key, part in parts if "text_encoder" in key.folder}


@pytest.fixture
def draw(torch_engine, out, monkeypatch):
    return lambda *jobs, **more: Drawn(out, monkeypatch, jobs, **more)


@pytest.mark.parametrize("name", ["demo-sd", "demo-sdxl", "demo-flux"])
@pytest.mark.parametrize("readers", ["cpu", ROOMY])
def test_the_picture_is_the_same_and_the_card_has_none_of_them(draw, records, name, readers):
    job = job_for(records[name])
    plain, apart = draw(job), draw(job, readers=readers)
    assert apart.pictures == plain.pictures
    assert apart.plans[0].reading is (Reading.RAM if readers == "cpu" else Reading.CARD)
    assert all(key.beside for key in apart.encoders())
    size = sum(bytes_of(part) for part in apart.encoders().values())
    assert size > 0
    taken = plain.card.memory.ever - apart.card.memory.ever
    assert taken == pytest.approx(size, rel=0.05), "as much is left free on the card"
    peaks = [found.plans[0].peaks[Stage.DENOISE] for found in (plain, apart)]
    assert peaks[0] - peaks[1] == pytest.approx(size, rel=0.05)
    assert apart.plans[0].peak_encoders > size


def test_they_stay_for_good_and_a_prompt_that_was_read_is_not_read_again(draw, records):
    sd = records["demo-sd"]
    jobs = (job_for(sd), job_for(sd, 2, "a blue square"), job_for(sd, 3))
    found = draw(*jobs, readers="cpu")
    plain = draw(*jobs)
    assert found.pictures == plain.pictures
    assert found.compute.prompts.encodes == plain.compute.prompts.encodes
    assert found.compute.store.loads == plain.compute.store.loads, "none was read from the disk twice"


def test_on_a_small_card_what_draws_has_it_for_itself(draw, records):
    """The plan that has the encoders apart keeps the denoiser where it is; without, parts take turns."""
    job = job_for(records["demo-flux"])
    roomy = draw(job, readers="cpu")
    limit = max(roomy.plans[0].peaks.values())
    apart, plain = (draw(job, readers=readers, limit=limit) for readers in ("cpu", None))
    assert apart.plans[0].rung is Rung.RESIDENT
    assert plain.plans[0].rung > Rung.RESIDENT
    assert apart.pictures == plain.pictures == roomy.pictures


def test_those_of_another_model_stay_where_only_the_card_is_short(draw, records, monkeypatch):
    """That they leave would give the card nothing, and the next prompt would wait for them to be read anew."""
    monkeypatch.setattr(Occupancy, "_free", lambda self: ROOMY if self.loader.beside else 0)
    found = draw(job_for(records["demo-sd"]), job_for(records["demo-flux"], 2), readers="cpu")
    folders = {key.folder for key in found.encoders()}
    assert found.plans[1].rung is Rung.RESIDENT
    assert {folder for folder in folders if folder.startswith(f"{records['demo-sd'].path}/")}


@pytest.fixture
def styled(records, tmp_path):
    """A job with a LoRA of the U-Net and the text encoder."""
    model = records["demo-sd"]
    state = peft(model, ("unet", "text_encoder"))
    lora = written_lora(tmp_path / "loras" / "both.safetensors", by_id(model.family), state)
    return job_for(model, 2, loras=(LoraInput(model=lora.id, weight=1.0),), parts={lora.id: lora})


def test_a_lora_of_the_text_encoders_is_worn_there(draw, records, styled):
    plain = job_for(records["demo-sd"])
    apart, here = draw(styled, plain, readers="cpu"), draw(styled, plain)
    assert apart.pictures == here.pictures
    assert here.pictures[0] != here.pictures[1]


def test_what_a_lora_has_changed_of_them_is_counted_where_it_lies(draw, records, styled):
    """A second copy, beside them: it is planned for, and could leave as they could."""
    found = draw(job_for(records["demo-sd"]), styled, readers=ROOMY)
    compute, (before, now) = found.compute, found.plans
    lying = [
        (key.beside, bytes_of(part), compute.adapters.size_of(part)) for key, part in compute.store.parts()
    ]
    apart, here = (sum(copy for beside, _, copy in lying if beside is where) for where in (True, False))
    assert min(apart, here) > 0
    found.own.memory.used = sum(size + copy for beside, size, copy in lying if beside)
    assert compute.readers.budget == ROOMY, "all that is there could leave"
    assert now.peak_encoders - before.peak_encoders == apart
    weights = [
        found.peaks[Stage.DECODE] - activations.decode(shape, 0)
        for found in (before, now)
        for _, _, shape, activations in (found.asked,)
    ]
    assert weights[1] - weights[0] == here + now.added, "none of theirs is expected on the card"


@pytest.mark.parametrize("when", ["loading", "reading"])
def test_a_second_card_that_is_full_after_all_leaves_it_to_the_processor(draw, records, when, monkeypatch):
    """Same seed, same picture, told beside it; the first card is not planned smaller for it."""
    job = job_for(records["demo-sd"])
    plain = draw(job)
    failed = []

    def full(original, is_theirs):
        def working(self, *given, **named):
            if is_theirs(self) and not failed:
                failed.append(True)
                raise torch.OutOfMemoryError("CUDA out of memory on GPU 1")
            return original(self, *given, **named)

        return working

    if when == "loading":
        monkeypatch.setattr(PartPlan, "load", full(PartPlan.load, lambda part: part.key.beside))
    else:
        monkeypatch.setattr(PromptEncoder, "_encode", full(PromptEncoder._encode, lambda _: True))
    found = draw(job, readers=ROOMY)
    assert failed
    assert [each.reading for each in found.plans] == [Reading.CARD, Reading.RAM]
    assert found.plans[0].rung is found.plans[1].rung is Rung.RESIDENT
    assert found.pictures == plain.pictures
    assert any("computed by the processor" in mark for mark in found.marks[0])
    assert {key.device for key in found.encoders()} == {"cpu"}


@pytest.mark.parametrize("readers", ["cpu", ROOMY])
def test_the_card_that_has_no_room_for_an_image_encoder_does_not_cost_them_theirs(
    draw, records, readers, monkeypatch, tmp_path
):
    """It is asked on the card that draws, so that is where less is to lie."""
    Image.new("RGB", (64, 64), "red").save(picture := tmp_path / "red.png")
    eye = records["demo-sd-ip-adapter"]
    used = (IpAdapterInput(model=eye.id, path=str(picture)),)
    job = job_for(records["demo-sd"], parts={eye.id: eye}, ip_adapters=used)
    plain, bring, failed = draw(job), Lodging.bring, []

    def bringing(lodging, part, place):
        if place.stage is Stage.SEE and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory on GPU 0")
        bring(lodging, part, place)

    monkeypatch.setattr(Lodging, "bring", bringing)
    found = draw(job, readers=readers)
    assert failed
    first, second = found.plans
    assert first.reading is second.reading is not Reading.HERE
    assert second.peaks[Stage.SEE] <= 0.98 * first.peaks[Stage.SEE]
    assert second.asked[1].limits.keys() == {Stage.SEE}
    assert found.pictures == plain.pictures


def test_a_second_card_that_was_full_is_tried_again_once_so_much_more_is_free_as_was_missing(
    draw, records, monkeypatch
):
    """What seemed to fit did not: it is 15 % short, until as much more is free than was then."""
    jobs = [job_for(records["demo-sd"], number, f"{number} circles") for number in range(1, 6)]
    load, tried = PartPlan.load, []

    def full(plan, *given, **named):
        if plan.key.beside and plan.device == found.own.device and found.plans[-1].reading is Reading.CARD:
            tried.append(plan.key)
            raise torch.OutOfMemoryError("CUDA out of memory on GPU 1")
        return load(plan, *given, **named)

    found = draw(readers=ROOMY)
    monkeypatch.setattr(PartPlan, "load", full)
    found.draw(jobs[:3])
    first, *others = found.plans
    assert len(tried) == 1
    assert first.reading is Reading.CARD
    assert [plan.reading for plan in others] == 3 * [Reading.RAM]
    readers, missing = found.compute.readers, first.peak_encoders - int(0.85 * first.peak_encoders)
    assert readers.budget == first.peak_encoders - missing, "smaller ones have a place there all the same"
    found.own.memory.limit += missing - 1
    found.draw(jobs[3:4])
    assert len(tried) == 1
    found.own.memory.limit += 1
    monkeypatch.setattr(PartPlan, "load", load)
    found.draw(jobs[4:])
    assert found.plans[-1].reading is Reading.CARD
    assert readers.budget >= ROOMY + missing
    assert len(found.pictures) == 5


def test_a_second_card_that_is_too_small_is_not_even_tried(draw, records):
    found = draw(job_for(records["demo-sd"]), readers=1000)
    assert [each.reading for each in found.plans] == [Reading.RAM]


def asked(draw, records, **changes):
    """The plan of a picture by the engine's own sizes, with another budget."""
    sizes, budget, shape, activations = draw(job_for(records["demo-flux"])).plans[0].asked
    return plan(sizes, replace(budget, **changes), shape, activations)


def test_the_words_of_a_plan_say_where_they_are(draw, records):
    card, ram = (asked(draw, records, encoders=size) for size in (ROOMY, 0))
    assert "text encoders stay on a device of their own, where they take" in words(card)
    assert "text encoders are computed by the processor, in RAM; the rest stays on the card" in words(ram)
    told = [place_words(place, card) for place in card.parts if place.stage is Stage.ENCODE]
    assert set(told) == {"on a device of its own"}
    assert ram.peak_ram >= ram.peak_encoders
    assert card.peak_ram == 0


def test_where_ram_is_too_small_for_them_they_share_the_card_again(draw, records):
    assert asked(draw, records, encoders=0, ram=1000).reading is Reading.HERE


def test_a_processor_that_draws_has_no_second_device(draw, records):
    assert asked(draw, records, device=False, encoders=0).reading is Reading.HERE


def test_the_window_plans_for_the_room_that_they_have():
    room = Room(total=8 * 10**9, free=5 * 10**9)
    held = Holder(name="T5", size_bytes=2 * 10**9, beside=True)
    memory = Memory(ram=room, card=room, encoders=room, holders=(held,))
    budget = budget_of(memory)
    assert budget.encoders == 7 * 10**9 - MARGIN
    assert budget.vram == 5 * 10**9 - MARGIN, "what lies there is not on the card"
    assert budget.ram == 5 * 10**9
    assert budget_of(replace(memory, encoders=IN_RAM)).encoders == 0
    assert budget_of(replace(memory, encoders=None)).encoders is None
    assert budget_of(replace(memory, card=None)) == Budget(vram=0, ram=budget.ram, device=False)


def test_the_engine_tells_the_window_of_their_memory(draw, records):
    assert draw(job_for(records["demo-sd"])).engine.memory().encoders is None
    told = draw(job_for(records["demo-sd"]), readers="cpu").engine.memory()
    assert told.encoders == IN_RAM
    assert not any(holder.beside for holder in told.holders), "in RAM as other things are"


def test_a_device_for_them_that_does_nothing_is_told(out):
    """Where the processor draws there is nothing that it would spare."""
    told = build(options(out, encoders_device="cuda:9")).machine.problems
    assert any("'cuda:9'" in each for each in told)
    assert build(options(out)).machine.problems == ()


def test_a_device_for_them_that_is_not_there_is_named_as_theirs(tmp_path):
    with pytest.raises(EngineError, match="text encoders cannot lie on 'cuda:7'") as caught:
        Compute(options(tmp_path, encoders_device="cuda:7"), FakeCard(ROOMY))
    assert "'cpu'" in caught.value.hint
    assert "auto" not in caught.value.hint  # which is none of theirs
