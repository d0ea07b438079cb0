"""How long a picture will take. The seconds are those of demo-sd and demo-flux on two cores of a Xeon, one thread."""

from dataclasses import replace

import pytest

from pipelines.spec.families import by_id
from pipelines.spec.request import (
    ControlInput,
    GenerationRequest,
    ImageInput,
    LoraInput,
    Refiner,
    Sampling,
    Size,
)
from pipelines.spec.run_time import Run, Work, estimate, work_of

DEVICE = "Intel Xeon"


def work(side=256, steps=20, branches=2, model="demo-sd", family="sd1", way="") -> Work:
    return Work(
        model=model, family=family, width=side, height=side, evaluations=steps, branches=branches, way=way
    )


def run(side, steps, denoise_s, decode_s, seconds, when=1.0, device=DEVICE, **changes) -> Run:
    return Run(
        device=device, work=work(side, steps, **changes), denoise_s=denoise_s, decode_s=decode_s, seconds=seconds,
        when=when,
    )  # fmt: skip


SD = (
    run(256, 20, 2.360, 0.361, 2.764),
    run(256, 20, 2.131, 0.291, 2.437),
    run(384, 10, 0.861, 0.392, 1.266),
    run(512, 8, 1.061, 0.809, 1.887),
)
FLUX = tuple(
    run(*numbers, branches=1, model="demo-flux", family="flux")
    for numbers in (
        (256, 20, 1.156, 0.246, 1.411),
        (256, 20, 1.220, 0.224, 1.451),
        (256, 10, 0.447, 0.192, 0.645),
        (384, 10, 1.046, 0.495, 1.553),
    )
)
FLUX_512 = (512, 8, 2.311)


def flux(side, steps):
    return work(side, steps, branches=1, model="demo-flux", family="flux")


def test_nothing_is_said_before_the_first_picture():
    assert estimate(work(), (), DEVICE) is None
    assert estimate(work(), SD, "another card") is None
    assert estimate(flux(256, 20), SD, DEVICE) is None


def test_the_first_picture_says_the_time_and_no_spread():
    found = estimate(work(), SD[:1], DEVICE)
    assert found is not None
    assert found.seconds == pytest.approx(2.764)
    assert found.spread_s is None
    assert found.pictures == 1


def test_a_picture_like_those_before_takes_their_middle_time():
    found = estimate(work(), SD, DEVICE)
    assert found is not None
    assert 2.437 <= found.seconds <= 2.764
    assert found.spread_s is not None
    assert 0 < found.spread_s < 1


def test_another_size_is_told_by_the_two_nearest():
    side, steps, seen = FLUX_512
    found = estimate(flux(side, steps), FLUX, DEVICE)
    assert found is not None
    assert found.spread_s is not None
    assert abs(found.seconds - seen) < found.spread_s
    assert abs(found.seconds / seen - 1) < 0.15


def test_of_one_size_alone_the_time_grows_with_the_cells_and_the_spread_is_wide():
    side, steps, seen = FLUX_512
    found = estimate(flux(side, steps), FLUX[:3], DEVICE)
    assert found is not None
    assert found.spread_s is not None
    assert found.spread_s == pytest.approx(0.3 * found.seconds)
    assert abs(found.seconds - seen) < found.spread_s


def test_a_line_never_promises_less_than_the_smaller_picture_took():
    odd = (run(256, 10, 1.0, 0.1, 1.1), run(384, 10, 0.5, 0.1, 0.6))
    larger = estimate(work(512, 10), odd, DEVICE)
    assert larger is not None
    assert larger.seconds >= 0.6


def test_twice_the_steps_is_twice_the_drawing_and_one_decoding():
    one, two = (estimate(work(512, steps), SD, DEVICE) for steps in (8, 16))
    assert one is not None
    assert two is not None
    assert two.seconds - one.seconds == pytest.approx(1.061, rel=0.01)


def test_without_a_negative_prompt_half_is_asked():
    one = estimate(work(256, 20, branches=1), SD, DEVICE)
    two = estimate(work(256, 20, branches=2), SD, DEVICE)
    assert one is not None
    assert two is not None
    assert one.seconds < 0.7 * two.seconds


def test_another_model_of_the_family_is_better_than_nothing_and_what_is_added_is_never_scaled():
    other = estimate(work(model="own-sd"), SD, DEVICE)
    assert other is not None
    assert other.spread_s is not None
    assert other.spread_s >= 0.1 * other.seconds
    assert estimate(work(way="control=1"), SD, DEVICE) is None


def test_the_newest_pictures_count():
    old = tuple(replace(each, seconds=9.0, denoise_s=8.5, when=0.5) for each in SD[:2]) * 20
    found = estimate(work(), (*old, *(replace(SD[1], when=2.0 + n) for n in range(20))), DEVICE)
    assert found is not None
    assert found.seconds == pytest.approx(2.437)


def test_the_last_prediction_and_what_was_seen():
    told = (replace(SD[0], predicted_s=2.5, when=1.0), replace(SD[1], predicted_s=2.7, when=3.0), SD[2])
    found = estimate(work(), told, DEVICE)
    assert found is not None
    assert (found.last_predicted_s, found.last_s) == (2.7, 2.437)


def test_times_of_a_model_that_streams_do_not_stand_for_one_that_does_not():
    request = GenerationRequest(model="demo-sd", size=Size(width=256, height=256))
    streams = work_of(request, by_id("sd1"), "streams=2/4")
    assert streams.way == "streams=2/4"
    assert estimate(streams, SD, DEVICE) is None
    assert estimate(streams, (*SD, replace(SD[0], work=streams, seconds=9.0)), DEVICE) is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, {"evaluations": 20, "branches": 2, "way": ""}),
        ({"sampling": Sampling(scheduler="heun", num_inference_steps=20)}, {"evaluations": 39}),
        ({"sampling": Sampling(guidance_scale=1.0)}, {"branches": 1}),
        ({"image": ImageInput(path="/a", strength=0.5)}, {"evaluations": 10}),
        ({"loras": (LoraInput(model="l"),)}, {"way": "lora=1"}),
        ({"controls": (ControlInput(model="c", path="/p"),) * 2}, {"way": "control=2"}),
        ({"refiner": Refiner(model="r", switch_at=0.8)}, {"way": "refiner=r@0.8"}),
    ],
)
def test_what_a_request_asks_for(change, told):
    request = replace(GenerationRequest(model="m", size=Size(width=512, height=768)), **change)
    found = work_of(request, by_id("sd1"))
    assert (found.model, found.family, found.width, found.height) == ("m", "sd1", 512, 768)
    assert {name: getattr(found, name) for name in told} == told
