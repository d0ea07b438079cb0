"""What a load tells as it goes: bytes of the files, their speed, and when it is over."""

from __future__ import annotations

import pytest

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of
from pipelines.runtime.meter import Meter
from pipelines.spec.errors import Cancelled
from pipelines.spec.events import LoadProgress, Stage, StageChanged
from pipelines.workshop.convert import convert
from tests.runtime.conftest import job_of, run
from tests.runtime.test_single_file import job_of as job_of_file


class Ticking:
    """A clock that goes a hundredth of a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def told(engine, job) -> list[LoadProgress]:
    return [event for event in run(engine, job) if isinstance(event, LoadProgress)]


def test_it_is_told_ten_times_a_second_at_most(tiny_model):
    events, clock = [], Ticking()
    meter = Meter(job_of(tiny_model), events.append, clock)
    meter.expect("unet", 1000)
    meter.expect("vae", 500)
    began = clock.now
    meter.begins("unet", "unet", 1000)
    for _ in range(100):
        meter.read(10)
    meter.ends("unet")
    meter.begins("vae", "vae", 500)
    meter.read(400)
    meter.ends("vae")
    assert 2 <= len(events) <= (clock.now - began) / 0.1 + 2  # the first, and the last
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert {event.total for event in events} == {1500}
    assert (events[-1].done, events[-1].part, events[-1].eta_s) == (1500, "vae", 0.0)
    middle = events[len(events) // 2]
    assert middle.part == "unet"
    assert middle.eta_s == pytest.approx((1500 - middle.done) / middle.bytes_per_s)


def test_a_folder_tells_the_bytes_of_its_weights_once(engine, tiny_model):
    events = told(engine, job_of(tiny_model))
    weights = sum(path.stat().st_size for path in tiny_model.glob("*/*.safetensors"))
    assert {event.total for event in events} == {weights}
    assert events[-1].done == weights
    assert events[0].part == "unet"
    assert not told(engine, job_of(tiny_model, seed=8)), "it is in memory"


def test_what_is_in_memory_does_not_count(engine, tiny_model):
    run(engine, job_of(tiny_model))
    store = engine.compute.store
    vae = next(key for key in store.keys() if key.folder.endswith("vae"))  # noqa: SIM118
    del store._parts[vae], store._kinds[vae]
    events = told(engine, job_of(tiny_model))
    size = next((tiny_model / "vae").glob("*.safetensors")).stat().st_size
    assert (events[-1].done, events[-1].total, events[-1].part) == (size, size, "vae")


def test_it_comes_while_the_model_loads_and_before_the_prompt_is_read(engine, tiny_model):
    events = run(engine, job_of(tiny_model))
    loads = [number for number, event in enumerate(events) if isinstance(event, LoadProgress)]
    stages = {e.stage: number for number, e in enumerate(events) if isinstance(e, StageChanged)}
    assert stages[Stage.LOAD] < min(loads) <= max(loads) < stages[Stage.ENCODE]


def test_a_single_file_tells_the_bytes_of_its_parts(engine, tmp_path):
    path = tmp_path / "sd.safetensors"
    convert(record_of(demo_root() / "sd"), path)
    events = told(engine, job_of_file(path))
    total = events[-1].total
    assert events[-1].done == total
    assert 0.98 * path.stat().st_size < total <= path.stat().st_size
    assert events[-1].part == "text_encoder"


def test_a_cancel_is_seen_inside_a_tensor(engine, tiny_model):
    job = job_of(tiny_model)
    meter = Meter(job)
    meter.begins("unet", "unet", 100)
    meter.read(10)
    job.cancel()
    with pytest.raises(Cancelled):
        meter.read(10)
