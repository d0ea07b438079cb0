"""The copy of a denoiser in its own steps: by pictures, by FLOPs, or 1; the same for the engine and the card before."""

from dataclasses import replace

import pytest

from pipelines.library import rates as kept
from pipelines.library import runs as drawn
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.attention.trial import versions
from pipelines.runtime.compute import Compute
from pipelines.runtime.copy_ratio import Known, copy_ratio
from pipelines.runtime.device import name_of
from pipelines.runtime.placement import Budget
from pipelines.runtime.preflight import preflight
from pipelines.spec.families import by_id
from pipelines.spec.measured import Rates
from pipelines.spec.request import Size
from pipelines.spec.run_time import Run, work_of
from pipelines.spec.sizes import Shape
from tests.runtime.conftest import options
from tests.runtime.fake_card import FakeCard
from tests.runtime.test_fits import job_for

FLUX_BYTES = 23_800_000_000
RATES = Rates(copied=12.8e9, flops=30e12)  # of an RTX 4060, by its data sheet
SHAPE = Shape(width=1024, height=1024, tokens=512)


@pytest.fixture(scope="module")
def job():
    record = next(record for record in scan([demo_root()]) if record.id == "demo-flux")
    return job_for(record, side=1024)


def ratio(job, known, shape=SHAPE):
    return copy_ratio(job, by_id("flux"), FLUX_BYTES, shape, known)


def run_of(job, step_s, way="", device="card"):
    work = replace(work_of(job.request, by_id("flux"), way), evaluations=10)
    return Run(device=device, work=work, denoise_s=10 * step_s, decode_s=1, seconds=10 * step_s + 1)


def test_nothing_is_known_of_a_new_device(job):
    assert ratio(job, Known()) == 1.0
    assert ratio(job, Known(device="card", runs=(run_of(job, 9.0),))) == 1.0, (
        "how quick its bus is, nobody knows"
    )
    assert ratio(job, Known(device="card", rates=Rates(copied=12.8e9))) == 1.0, "nor how long a step takes"


def test_before_the_first_picture_a_step_is_as_long_as_its_flops(job):
    """74.4 TFLOP at 0.6 of 30 are 4.1 s, and the copy takes 1.86 s."""
    known = Known(device="card", rates=RATES)
    assert ratio(job, known) == pytest.approx(1.86 / 4.13, rel=0.1)
    wide = replace(SHAPE, width=2048)
    assert ratio(job, known, wide) == pytest.approx(ratio(job, known) / 2, rel=0.2)
    assert ratio(job, known, replace(SHAPE, branches=2)) == pytest.approx(ratio(job, known) / 2, rel=0.2)
    fast = Known(device="card", rates=Rates(copied=25e9, flops=800e12))
    assert ratio(job, fast) > 4, "the bus is the limit of a fast card"


def test_a_picture_that_was_drawn_whole_tells_better(job):
    runs = (run_of(job, 0.93), run_of(job, 9.0, "streams=2/4"), run_of(job, 30.0, device="other"))
    assert ratio(job, Known(device="card", rates=RATES, runs=runs)) == pytest.approx(2.0, rel=0.1)
    streamed = Known(device="card", rates=RATES, runs=runs[1:])
    assert ratio(job, streamed) == ratio(job, Known(device="card", rates=RATES)), (
        "its steps waited for copies"
    )


def test_pictures_that_differ_by_a_little_give_the_same_plan(job):
    found = {ratio(job, Known(device="card", rates=RATES, runs=(run_of(job, s),))) for s in (0.99, 1.0, 1.01)}
    assert len(found) == 1


def test_a_ratio_stays_within_reason(job):
    slow, quick = (Known(device="card", rates=RATES, runs=(run_of(job, s),)) for s in (1e-9, 1e9))
    assert (ratio(job, quick), ratio(job, slow)) == (1 / 64, 64)


def test_the_engine_and_the_card_before_plan_alike(job, out, tmp_path, torch_engine):
    card = FakeCard(2**32)
    rates_file, runs_file = tmp_path / kept.FILE, tmp_path / drawn.FILE
    name = name_of(card.device)
    rates = Rates(copied=2e6, flops=30e12)  # so slow that the demo takes some steps to copy
    kept.keep(rates_file, name, versions(card.device), rates)
    store = drawn.Runs(runs_file)
    store.add(run_of(job, 0.5, device=name))
    store.close()
    settings = options(out, dtype="float32", rates_file=str(rates_file), runs_file=str(runs_file))
    compute = Compute(settings, card)
    planned = compute.plan(job)
    budget = planned.asked[1]
    assert compute.machine().rates == rates
    assert budget.copy_ratio > 1
    known = Known(device=name, rates=compute.machine().rates, runs=drawn.runs_in(runs_file))
    told = preflight(job, replace(budget, copy_ratio=1.0), "float32", known=known)
    assert told.asked[1] == budget
    assert told == planned


def test_what_computes_in_ram_has_no_ratio(job):
    budget = Budget(vram=0, ram=2**34, device=False)
    assert preflight(job, budget, known=Known(device="card", rates=RATES)).asked[1].copy_ratio == 1.0


def test_another_size_of_the_same_model_has_another(job):
    small = replace(job, request=replace(job.request, size=Size(width=512, height=512)))
    known = Known(device="card", rates=RATES, runs=(run_of(job, 1.0),))
    found = copy_ratio(small, by_id("flux"), FLUX_BYTES, replace(SHAPE, width=512, height=512), known)
    assert found == pytest.approx(4 * ratio(job, known), rel=0.2)
