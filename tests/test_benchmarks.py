"""The benchmark harness: its statistics on samples that are known, its areas on a tiny model. No times are asserted."""

from __future__ import annotations

import json
import random
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.spec.events import JobFinished, JobStarted, Stage, StageChanged
from tests.benchmarks import __main__ as harness
from tests.benchmarks import fingerprint, report
from tests.benchmarks.children import run_child
from tests.benchmarks.lane import Told
from tests.benchmarks.pairs import AB, ABBA, Interval, bootstrap, in_turns, warm_up, worst_of
from tests.benchmarks.rows import Goal, Row, crashed, measured, skipped
from tests.benchmarks.terms import Terms

# the statistics


class Machine:
    """Runs that take a known time, on a machine that gets slower run by run and is not quite even."""

    def __init__(self, *, slower: float = 0.0, noise: float = 0.0, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._slower, self._noise = slower, noise
        self._runs = 0

    def takes(self, seconds: float):
        def run() -> dict[str, float]:
            drift = 1 + self._slower * self._runs
            self._runs += 1
            return {"wall": seconds * drift * self._rng.lognormvariate(0, self._noise)}

        return run


def test_a_known_ratio_is_found_in_noise():
    machine = Machine(noise=0.02, slower=0.001)
    found = in_turns(machine.takes(1.05), machine.takes(1.0), 20).ratio("wall")
    assert found.lo <= 1.05 <= found.hi
    assert found.lo > 1.0
    assert found.hi < 1.10


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        rng = random.Random(seed)
        found = bootstrap([1.05 * rng.lognormvariate(0, 0.03) for _ in range(12)], rounds=400)
        covered += found.lo <= 1.05 <= found.hi
    assert 0.90 * 200 <= covered < 200


def test_abba_cancels_a_steady_drift_and_ab_does_not():
    machine = Machine(slower=0.02)
    exact = in_turns(machine.takes(1.05), machine.takes(1.0), 6, ABBA).ratio("wall")
    assert exact.lo == pytest.approx(1.05)
    assert exact.hi == pytest.approx(1.05)
    machine = Machine(slower=0.02)
    wide = in_turns(machine.takes(1.05), machine.takes(1.0), 6, AB).ratio("wall")
    assert wide.lo < 1.05 < wide.hi


@pytest.mark.parametrize(("order", "expected"), [(ABBA, "ABBAABBAABBA"), (AB, "ABBAAB")])
def test_order_of_the_runs(order, expected):
    ran = []

    def note(letter: str):
        return lambda: ran.append(letter) or {"wall": 1.0}

    pairs = in_turns(note("A"), note("B"), 3, order)
    assert "".join(ran) == expected
    assert len(pairs) == 3


def test_difference_and_middles():
    machine = Machine()
    pairs = in_turns(machine.takes(3.0), machine.takes(2.0), 5)
    assert pairs.difference("wall") == Interval(1.0, 1.0, 1.0)
    assert pairs.middles("wall") == (3.0, 2.0)
    assert pairs.own("wall", 1000) == Interval(3000.0, 3000.0, 3000.0)


def test_bootstrap_is_the_same_every_time_and_lies_within_the_sample():
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    found = bootstrap(values)
    assert found == bootstrap(values)
    assert (found.lo, found.middle, found.hi) == (1.0, 3.0, 9.0)
    assert worst_of(values) == Interval(3.0, 1.0, 9.0)
    with pytest.raises(ValueError):
        bootstrap([])


def test_warm_up_stops_once_two_runs_agree():
    times = iter([2.0, 1.2, 1.0, 1.01, 5.0])
    assert warm_up(lambda: next(times)) == 4
    swings = iter([1.0, 2.0] * 8)
    assert warm_up(lambda: next(swings), most=6) == 6


# goals and rows


@pytest.mark.parametrize(
    ("sign", "bound", "met"),
    [("<=", 1.10, True), ("<=", 1.05, False), (">=", 1.0, True), (">=", 1.02, False)],
)
def test_a_goal_is_met_by_the_bad_end_of_the_interval(sign, bound, met):
    assert Goal(sign=sign, bound=bound).met_by(Interval(1.04, 1.01, 1.08)) is met


SLOWER = Interval(1.04, 1.01, 1.08)


def row(n: int, interval: Interval = SLOWER, name: str = "engine.step") -> Row:
    return measured(
        name, 52.0, "ms", interval, n=n, goal=Goal(sign="<=", bound=1.10), baseline_name="bare", baseline=50.0
    )


def test_row_is_judged_by_enough_pairs_only():
    assert row(5).met is True
    assert (row(5).ratio, row(5).lo, row(5).hi) == (1.04, 1.01, 1.08)
    assert row(4).met is None
    assert row(4).lo is None
    assert "too few" in row(4).note


def test_row_of_a_difference_keeps_the_ratio_of_the_sides():
    found = measured(
        "engine.step_cpu", 52.0, "ms", Interval(2.0, 1.0, 3.0), n=9, baseline_name="bare", baseline=50.0,
        goal=Goal(sign="<=", bound=0.5, of="difference"),
    )  # fmt: skip
    assert found.met is False
    assert found.ratio == pytest.approx(1.04)
    assert found.goal == "difference <= 0.5"


def test_table_and_file_hold_every_row(tmp_path):
    rows = [
        row(9),
        row(9, Interval(1.2, 1.15, 1.3), "engine.other"),
        skipped("stalls.lora", "no LoRA yet"),
        crashed("x", "y"),
    ]
    lines = report.table(rows).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["engine", "step"], ["engine", "other"]]
    assert "1.040 [1.01 - 1.08]" in lines[1]
    assert " met " in lines[1]
    assert "MISSED" in lines[2]
    assert "skipped" in lines[3]
    assert "no LoRA yet" in lines[3]
    assert "crashed" in lines[4]
    report.write(tmp_path / "r.json", report.document(rows, {"cores": 2}))
    assert report.read_rows(tmp_path / "r.json") == rows
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert {"schema", "when", "commit", "fingerprint", "rows"} == set(content)
    assert content["schema"] == 1


def test_results_of_another_schema_are_refused(tmp_path):
    (tmp_path / "r.json").write_text('{"schema": 2, "rows": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="schema 1"):
        report.read_rows(tmp_path / "r.json")


def test_moved_are_only_rows_whose_intervals_do_not_touch():
    before = [row(9), row(9, name="engine.rerun")]
    now = [
        row(9, Interval(1.07, 1.06, 1.09)),
        row(9, Interval(1.2, 1.15, 1.3), "engine.rerun"),
        row(9, name="new.one"),
    ]
    assert [a.name for a, _ in report.moved(now, before)] == ["engine.rerun"]
    assert "[1.01 - 1.08] -> [1.15 - 1.3]" in report.moved_text(now, before)
    assert "Nothing moved" in report.moved_text(before, before)


def test_fingerprint_names_the_machine():
    found = fingerprint.fingerprint({"copy_gbs": 5.0})
    fields = {"cpu", "cores", "ram_gib", "gpu", "driver", "os", "python", "packages", "load1", "copy_gbs"}
    assert set(found) == fields
    assert found["packages"]["torch"]
    assert found["ram_gib"] > 0


# the command


def test_unknown_area_is_a_wrong_argument(capsys):
    with pytest.raises(SystemExit) as end:
        harness.main(["--only", "engine,nonsense"])
    assert end.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_without_a_model_the_rows_say_so(tmp_path, capsys):
    assert (
        harness.main(["--only", "engine", "--model", str(tmp_path), "--json", str(tmp_path / "r.json")]) == 0
    )
    assert f"there is no model at {tmp_path}" in capsys.readouterr().out
    assert [r.status for r in report.read_rows(tmp_path / "r.json")] == ["skipped"]


def test_a_crash_keeps_the_rows_before_it_and_is_the_exit_code(monkeypatch, tmp_path, capsys):
    def rows(terms: Terms):
        yield row(9)
        raise RuntimeError("the sky fell")

    area = types.ModuleType("tests.benchmarks.engine")
    area.rows = rows  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "tests.benchmarks.engine", area)
    (tmp_path / "model_index.json").touch()
    assert list(harness.area_rows("engine", Terms(model=tmp_path))) == [
        row(9),
        crashed("engine", "RuntimeError: the sky fell"),
    ]
    monkeypatch.setattr(harness, "limits", lambda terms: {})
    assert harness.main(["--only", "engine", "--model", str(tmp_path)]) == 1
    capsys.readouterr()


# the areas, on a model that takes no time


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    from tests.benchmarks.models import TINY, write_sd

    return write_sd(tmp_path_factory.mktemp("models") / "tiny", TINY)


@pytest.fixture
def terms(tiny) -> Terms:
    return Terms(quick=True, model=tiny)


def test_engine_area_compares_pixels_and_counts_steps(terms):
    from tests.benchmarks import engine

    found = {r.name: r for r in engine.rows(terms)}
    assert list(found) == ["engine.step", "engine.step_cpu", "engine.rerun"]
    assert all(r.status == "ok" and r.value is not None and r.baseline for r in found.values())
    assert "pixels equal" in found["engine.step"].note
    assert found["engine.rerun"].ratio is not None
    assert 0 <= found["engine.rerun"].ratio < 1


def test_switches_area_draws_each_prompt_in_every_way(terms, monkeypatch):
    from pipelines.runtime.speed import compiled, compiler
    from tests.benchmarks import switches

    monkeypatch.setattr(switches, "MODELS", ("flux", "gone"))
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiler, "why_not", lambda device: "there is no compiler")
    found = {r.name: r for r in switches.rows(terms)}
    whats = ("first_block", "taylorseer", "magcache", "compile", "fused_qkv")
    assert list(found) == [*(f"switches.flux.{what}" for what in (*whats, "recompiles")), "switches.gone"]
    assert found["switches.flux.recompiles"].met
    left_out = [r.name for r in found.values() if r.status == "skipped"]
    assert left_out == ["switches.flux.compile", "switches.gone"]
    assert "there is no compiler" in found["switches.flux.compile"].note
    for name in ("first_block", "fused_qkv"):
        row = found[f"switches.flux.{name}"]
        assert row.value
        assert row.baseline
        assert "pixels 0.00 of 255" in row.note  # of 6 steps none is like the one before
    assert "pixels 0.00" not in found["switches.flux.taylorseer"].note


def test_library_area_finds_every_file(terms, monkeypatch):
    from tests.benchmarks import library

    monkeypatch.setattr(library, "QUICK_FILES", 10)
    found = {r.name: r for r in library.rows(terms)}
    assert list(found) == ["library.first_scan", "library.later_start", "library.memory"]
    assert all(r.status == "ok" and r.value for r in found.values())


def test_text_area_counts_no_run_and_no_byte_for_a_repeated_prompt(terms):
    from tests.benchmarks import text

    found = {r.name: r for r in text.rows(terms)}
    assert list(found) == ["text.repeat", "text.encoder_runs", "text.encoder_bytes"]
    assert found["text.encoder_runs"].value == 0
    assert found["text.encoder_bytes"].value == 0
    assert found["text.encoder_bytes"].baseline  # a first prompt does move them


def test_attention_area_times_what_runs_here_and_says_why_the_rest_does_not(terms):
    from tests.benchmarks import attention

    found = {r.name: r for r in attention.rows(terms)}
    for width in (40, 64, 128):
        assert found[f"attention.{width}_auto"].note == "it takes torch's own choice: nothing to compare"
        for name in ("flash", "math"):
            row = found[f"attention.{width}_{name}"]
            assert row.status == "ok"
            assert row.value
            assert row.baseline
        assert found[f"attention.{width}_cudnn"].status == "skipped"
        assert "graphics cards" in found[f"attention.{width}_cudnn"].note


def test_lora_area_changes_weighs_and_draws(terms):
    from tests.benchmarks import lora

    found = {r.name: r for r in lora.rows(terms)}
    whats = ("change", "change_first", "other_shape", "weight", "step")
    assert {f"lora.{model}_{what}" for model in ("sd", "sdxl") for what in whats} < {*found}
    assert all(r.status == "ok" and r.value and r.baseline for r in found.values())


def test_the_narrow_lora_keeps_its_layers(tmp_path):
    from safetensors.torch import load_file

    from pipelines.library.folders import demo_root
    from pipelines.library.models import scan
    from tests.benchmarks.lora import NARROW, narrowed

    wide = next(record for record in scan([demo_root()]) if record.id == "demo-sd-neon")
    narrow = load_file(narrowed(wide, tmp_path / "narrow.safetensors").path)
    assert narrow.keys() == load_file(wide.path).keys()
    assert {t.shape[0] for name, t in narrow.items() if "lora_A" in name} == {NARROW}


def test_loading_area_loads_again_and_cold(terms):
    from tests.benchmarks import loading

    found = {r.name: r for r in loading.rows(terms)}
    assert list(found) == list(loading.NAMES)
    assert [r.status for r in found.values()] == ["skipped"] * 4 + ["ok"] * 2
    again = found["loading.again"]
    assert again.value is not None
    assert again.baseline is not None
    assert again.value < again.baseline


def test_leaks_area_looks_at_memory_after_the_first_jobs(terms):
    from tests.benchmarks import leaks

    (found,) = leaks.rows(terms)
    assert found.n == 4
    assert "20 jobs, 4 changes of the model" in found.note


def test_a_leak_is_found_in_noise():
    from tests.benchmarks.leaks import slope

    rng = random.Random(1)
    level = [(job, 500_000_000 + rng.randrange(1_000_000)) for job in range(100, 500, 10)]
    leaky = [(job, taken + 1_000_000 * job) for job, taken in level]
    assert slope(level).lo <= 0 <= slope(level).hi
    found = slope(leaky)
    assert found.lo < 100 / 600 < found.hi  # 1 MB a job over the first look's 600 MB


def test_the_work_of_a_step_is_the_published_one_and_lies_in_the_blocks():
    import torch

    from tests.benchmarks.truesize.configs import SD15
    from tests.benchmarks.truesize.flops import step_flops
    from tests.benchmarks.truesize.writing import on_meta

    network = on_meta(SD15.parts["unet"])
    assert network is not None
    whole, blocks = step_flops(network.to(torch.bfloat16), 512, 77)
    assert whole == pytest.approx(1.607e12, rel=0.001)
    assert min(blocks) > 0
    assert 0.85 * whole < sum(blocks) < whole


def test_the_clock_says_what_a_step_takes_on_a_card_that_is_not_here():
    from dataclasses import replace

    from pipelines.runtime.activations import FLUX
    from pipelines.spec.blocks import Block
    from pipelines.spec.sizes import Network, Shape
    from tests.benchmarks.clock import GIB, Case, Rates, predicted

    blocks = tuple(Block(name=f"transformer_blocks.{i}", size_bytes=GIB // 4) for i in range(40))
    network = Network(name="transformer", blocks=blocks)
    case = Case("flux", "transformer", "bf16", Shape(width=1024, height=1024, tokens=512), FLUX)
    work, slow = (10**12,) * 40, Rates("slow", 40e12, 1e15)
    whole = predicted(network, work, case, slow, 24 * GIB)
    assert (whole.streamed, whole.step_s) == (0, pytest.approx(1.0))
    hidden = predicted(network, work, case, slow, 6 * GIB)
    assert hidden.streamed > 5 * GIB
    assert hidden.step_s == pytest.approx(1.0, rel=1e-3)
    bus = predicted(network, work, case, replace(slow, bus=1e9), 6 * GIB)
    assert bus.bound_s == bus.streamed / 1e9
    assert 1 <= bus.step_s / bus.bound_s < 1.15
    with pytest.raises(ValueError, match="does not fit"):
        predicted(network, work, case, slow, GIB)


def test_small_cards_draw_the_same_and_no_more_than_was_predicted(tmp_path, terms):
    from tests.benchmarks.engine import options_for
    from tests.benchmarks.small_cards import card_rows

    found = {r.name: r for r in card_rows(options_for(terms, tmp_path, dtype="float32"), quick=True)}
    assert list(found) == ["streaming.peak_most", "streaming.peak_least", "streaming.pictures"]
    assert found["streaming.pictures"].value == 0
    assert found["streaming.pictures"].n == 2
    predicted = found["streaming.peak_least"].value
    assert predicted is not None
    assert 1 <= predicted < 1.2


@pytest.mark.parametrize(
    ("model", "storage"), [("sd15", "plain"), ("sdxl", "plain"), ("flux", "plain"), ("flux", "fp8")]
)
def test_every_way_to_place_a_denoiser_computes_the_same(model, storage):
    from tests.benchmarks.placed import WAYS, Trial, tried

    ways = [*WAYS] if storage == "plain" else ["resident", "ours"]
    found = {
        way: tried(Trial(model=model, way=way, side=64, storage=storage, steps=2, tiny=True)) for way in ways
    }
    assert len({each["digest"] for each in found.values()}) == 1
    assert all(len(each["steps"]) == 2 and min(each["steps"]) > 0 for each in found.values())
    assert found["ours"]["streamed"] > 0


@pytest.mark.slow
def test_device_rows_come_from_a_process_for_each_plan(terms):
    from tests.benchmarks.streaming import QUICK, device_rows

    found = {r.name: r for r in device_rows(terms, QUICK[:1])}
    whats = ("resident", "8_bound", "8_equal", "8_group", "8_sequential", "8_model_offload")
    assert list(found) == [f"streaming.flux_{what}" for what in whats]
    assert all(r.status == "ok" for r in found.values())
    assert found["streaming.flux_8_equal"].value == 0


def test_a_plan_that_fails_is_an_answer():
    from tests.benchmarks.placed import Trial
    from tests.benchmarks.streaming import run

    found = run(Trial(model="flux", way="nonsense", side=64, tiny=True))
    assert found == {"error": "KeyError: 'nonsense'"}


def test_the_baseline_is_what_diffusers_pipeline_draws(tiny):
    import torch

    from tests.benchmarks.bare import bare_picture, bare_pipeline, bare_scheduler
    from tests.benchmarks.engine import check_same_pixels
    from tests.benchmarks.models import record_of, request_for

    request = request_for(record_of(tiny), steps=3, seed=5)
    pipe = bare_pipeline(str(tiny), "cpu", torch.float32)
    steps: list[int] = []
    ours = bare_picture(pipe, request, steps.append)
    pipe.scheduler = bare_scheduler(pipe, request.sampling.scheduler)
    theirs = pipe(
        request.prompt.text, negative_prompt=request.prompt.negative, width=request.size.width,
        height=request.size.height, num_inference_steps=3, guidance_scale=request.sampling.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]  # fmt: skip
    check_same_pixels(ours, theirs)
    assert steps == [1, 2, 3]
    with pytest.raises(ValueError, match="a step"):
        bare_scheduler(pipe, "heun")


def test_different_pixels_are_told():
    from tests.benchmarks.engine import check_same_pixels

    pixels = np.zeros((4, 4, 3), np.uint8)
    other = pixels.copy()
    other[0, 0, 1] = 3
    with pytest.raises(AssertionError, match=r"6\.2% of the pixels differ .* up to 3"):
        check_same_pixels(Image.fromarray(pixels), Image.fromarray(other))
    with pytest.raises(AssertionError, match="diffusers"):
        check_same_pixels(Image.fromarray(pixels), Image.new("RGB", (8, 8)))


def test_time_outside_the_picture():
    from tests.benchmarks.engine import outside_picture_s

    stages = [
        (1.0, Stage.LOAD),
        (1.5, Stage.ENCODE),
        (2.0, Stage.DENOISE),
        (8.0, Stage.DECODE),
        (9.0, Stage.SAVE),
    ]
    told: list[Told] = [(0.0, JobStarted(job_id=1))]
    told += [(at, StageChanged(job_id=1, stage=stage)) for at, stage in stages]
    told += [(10.0, JobFinished(job_id=1))]
    assert outside_picture_s(told) == (2.0, 10.0)


def test_preview_area_sees_previews(terms):
    from tests.benchmarks import preview

    (found,) = preview.rows(terms)
    assert found.status == "ok"
    # Every second one shows some; the first and the last are not measured.
    assert found.note.startswith("2 previews in 6 steps")


def test_cancel_area_ends_a_running_job(terms):
    from tests.benchmarks import cancel

    (found,) = cancel.rows(terms)
    assert found.n == 1
    assert found.baseline is not None
    assert found.baseline >= 100.0


def test_ceilings_are_positive():
    from tests.benchmarks.ceilings import ceilings

    found = ceilings("cpu", quick=True)
    assert found["copy_gbs"] > 0
    assert all(rate > 0 for rate in found["matmul_tflops"].values())


# the child processes


@pytest.mark.parametrize("probe", ["trivial_window", "app_window"])
def test_window_probe_paints_before_it_takes_a_key(probe):
    found = run_child(probe)
    assert 0 < found["painted"] <= found["wall"]
    assert found["cpu"] > 0


def test_a_child_that_fails_tells_why():
    with pytest.raises(RuntimeError, match=r"No module named tests\.benchmarks\.probes\.nothing"):
        run_child("nothing")


@pytest.mark.slow
def test_stall_probes_see_both_phases(tiny, terms):
    from tests.benchmarks.stalls import PHASES, naive_arguments

    for found in (run_child("app_stalls", str(tiny)), run_child("naive_stalls", *naive_arguments(terms))):
        for phase in PHASES:
            assert found[phase]["ticks"] > 0
            assert 0 < found[phase]["p99"] <= found[phase]["worst"] <= found[phase]["raw_worst"]


@pytest.mark.slow
def test_stall_probes_of_a_load_and_a_lora(tiny):
    assert run_child("load_stalls", str(tiny))["load"]["ticks"] > 0
    assert run_child("lora_stalls", "demo-sd", "demo-sd-neon")["lora"]["ticks"] > 0


def test_models_page_probe_sees_the_scan_and_the_walk():
    found = run_child("models_page", "50")
    assert found["models_scan"]["ticks"] > 0
    assert found["models_page"]["ticks"] > 0


@pytest.mark.slow
def test_engine_probe_lists_what_it_imported(tmp_path):
    found = run_child("engine_ready", "cpu")
    assert {"torch", "diffusers"} <= set(found["modules"])
    assert not any(name.partition(".")[0] == "pipelines" for name in found["modules"])
    listed = tmp_path / "modules.json"
    listed.write_text(json.dumps(found["modules"]), encoding="utf-8")
    bare = run_child("bare_import", str(listed))
    # Names that nobody can import on their own are a handful beside some thousands.
    assert bare["missing"] < 0.02 * len(found["modules"])


def test_ticker_sees_a_blocked_event_loop(qtbot):
    from tests.benchmarks.probes.ticker import RunQueue, Ticker

    ticker = Ticker()
    ticker.phase = "work"
    qtbot.waitUntil(lambda: bool(ticker.summary()))
    time.sleep(0.08)  # this is the blocking that it shall see
    qtbot.waitUntil(lambda: ticker.summary()["work"]["raw_worst"] >= 80)
    assert ticker.summary()["work"]["worst"] >= 60 or not RunQueue.known()
