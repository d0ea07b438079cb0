"""LoRAs in the real engine: the pixels of diffusers, nothing at weight 0, and a model that is left as it came."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.runtime import device as devices
from pipelines.runtime.conditioning import lora_file
from pipelines.runtime.placement import Budget, plan
from pipelines.spec.errors import Cancelled, ModelError, OutOfMemory, RequestError
from pipelines.spec.events import ImageSaved, StageChanged, StepDone
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import GenerationRequest, LoraInput, Refiner
from tests.runtime.conditioning.add_ons import found, kohya, kohya_flux, peft, write
from tests.runtime.conftest import run
from tests.runtime.test_families import _LENGTH, bare, plain_call, request_of
from tests.runtime.tiny import written

NAMES = ("sd1", "sd2", "sdxl", "flux", "flux-schnell")
# Of layers of random numbers: at 1 their attention looks at one token alone, and the last digit decides at which.
GENTLE = 0.01
ENCODERS = {"sdxl": ("text_encoder", "text_encoder_2"), "flux": ("text_encoder",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("loras")


@pytest.fixture(scope="module")
def records(folder, torch_engine) -> dict[str, ModelRecord]:
    return {name: written(folder, by_id(name)) for name in (*NAMES, "sdxl-refiner")}


@pytest.fixture(params=NAMES)
def family(request) -> Family:
    return by_id(request.param)


@pytest.fixture
def record(records, family) -> ModelRecord:
    return records[family.id]


def parts_of(family: Family) -> tuple[str, ...]:
    return (family.denoiser, *ENCODERS.get(family.id, ("text_encoder",)))


@pytest.fixture
def lora(tmp_path, family, record) -> ModelRecord:
    return found(tmp_path / "loras" / "Style.safetensors", family, peft(record, parts_of(family)))


def asked(family: Family, *loras: tuple[ModelRecord, float], **changes: Any) -> GenerationRequest:
    inputs = tuple(LoraInput(model=lora.id, weight=weight) for lora, weight in loras)
    return request_of(family, loras=inputs, **changes)


def job_of(request: GenerationRequest, record: ModelRecord, *loras: ModelRecord, **more: Any) -> Job:
    return Job(id=1, request=request, model=record, parts={lora.id: lora for lora in loras}, **more)


def drawn(engine, job: Job) -> np.ndarray:
    (path,) = (event.path for event in run(engine, job) if isinstance(event, ImageSaved))
    return np.asarray(Image.open(path))


def drawn_with(engine, family: Family, record: ModelRecord, *loras: tuple[ModelRecord, float]) -> np.ndarray:
    return drawn(engine, job_of(asked(family, *loras), record, *(lora for lora, _ in loras)))


def plain(family: Family, record: ModelRecord, *loras: tuple[Path, float]) -> np.ndarray:
    """What diffusers itself draws with these files."""
    request = request_of(family)
    pipe = bare(record, family, request)
    for number, (path, _) in enumerate(loras):
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=f"a{number}")
    pipe.set_adapters([f"a{number}" for number in range(len(loras))], [weight for _, weight in loras])
    return np.asarray(pipe(**plain_call(request), **_LENGTH.get(family.text, {})).images[0])


def state_of(engine, job: Job, family: Family) -> dict[str, dict[str, Any]]:
    """Every tensor and module of the model as a job without LoRAs has it; in it nothing of one may be left."""
    fresh = Job(id=2, request=job.request, model=job.model)  # the job itself may be cancelled
    model = engine.compute.load(fresh, family)
    hosts = {name: part for name, part in model.parts.items() if isinstance(part, torch.nn.Module)}
    for host in hosts.values():
        engine.compute.adapters.settle(host)
    return {
        name: {
            **{key: tensor.clone() for key, tensor in host.state_dict().items()},
            "modules": [(key, type(module)) for key, module in host.named_modules()],
            "train": host.training,
            "learns": any(p.requires_grad for p in host.parameters()),
            "attributes": sorted(vars(host)),
            "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in host.modules()),
        }
        for name, host in hosts.items()
    }


def assert_close(one: np.ndarray, other: np.ndarray) -> None:
    """Up to the last digit, as sums are made in another order: a colour may be rounded otherwise."""
    off = np.abs(one.astype(int) - other)
    assert off.max() <= 1
    assert off.mean() < 0.02


def assert_equal(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.keys() == other[name].keys()
        for key, value in values.items():
            same = (
                torch.equal(value, other[name][key])
                if isinstance(value, torch.Tensor)
                else (value == other[name][key])
            )
            assert same, f"{name}: {key}"


def test_a_lora_goes_with_weights_that_lie_in_half_precision(engine, family, record, lora, monkeypatch):
    plain_one, wide = drawn_with(engine, family, record), drawn_with(engine, family, record, (lora, 1.0))
    monkeypatch.setattr(devices, "computes_in", lambda _device, dtype: dtype is torch.float32)
    monkeypatch.setattr(engine.compute._loader, "_dtype", record.dtype)
    small = drawn_with(engine, family, record, (lora, 1.0))
    off = np.abs(small.astype(int) - wide).mean()
    assert off < 0.1 * np.abs(wide.astype(int) - plain_one).mean()


def test_the_library_tells_what_it_is(lora, family):
    assert (lora.kind, lora.problem, lora.title) == (Kind.LORA, "", "Style")
    assert by_id(lora.family).add_ons.base == family.add_ons.base


def test_it_changes_the_pixels_as_diffusers_does_and_the_model_not_at_all(engine, record, family, lora):
    job = job_of(asked(family, (lora, GENTLE)), record, lora)
    without, before = drawn_with(engine, family, record), state_of(engine, job, family)
    with_it = drawn(engine, job)
    assert_equal(state_of(engine, job, family), before)
    assert not np.array_equal(with_it, without)
    assert_close(with_it, plain(family, record, (Path(lora.path), GENTLE)))
    assert np.array_equal(drawn_with(engine, family, record), without)


def test_weight_0_is_no_lora_bit_for_bit_and_half_is_something_else(engine, record, family, lora):
    without, none, half, whole = (
        drawn_with(engine, family, record, *loras)
        for loras in ((), ((lora, 0.0),), ((lora, 0.5),), ((lora, 1.0),))
    )
    assert np.array_equal(none, without)
    assert not np.array_equal(half, without)
    assert not np.array_equal(half, whole)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # of diffusers' own way
def test_several_at_once(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    one = found(tmp_path / "1" / "One.safetensors", family, peft(record, ("unet",)))
    other = found(
        tmp_path / "2" / "Other.safetensors", family, peft(record, ("unet", "text_encoder"), seed=5)
    )
    both = drawn_with(engine, family, record, (one, 0.75 * GENTLE), (other, -GENTLE))
    theirs = plain(family, record, (Path(one.path), 0.75 * GENTLE), (Path(other.path), -GENTLE))
    assert_close(both, theirs)
    assert not np.array_equal(both, drawn_with(engine, family, record, (one, 0.75 * GENTLE)))


def test_kohyas_keys_and_alpha(engine, records, tmp_path):
    """Of the U-Net as diffusers draws it; of the text encoder too, whose alpha diffusers 0.42 loses."""
    family, record = by_id("sd1"), records["sd1"]
    unet = found(tmp_path / "1" / "K.safetensors", family, kohya(record, ("unet",)))
    assert_close(
        drawn_with(engine, family, record, (unet, GENTLE)), plain(family, record, (Path(unet.path), GENTLE))
    )
    whole = found(tmp_path / "2" / "Whole.safetensors", family, kohya(record, ("unet", "text_encoder")))
    alike = {  # the same numbers without an alpha
        name: tensor * (0.5 if ".lora_B." in name else 1.0)
        for name, tensor in peft(record, ("unet", "text_encoder")).items()
    }
    same = found(tmp_path / "3" / "Alike.safetensors", family, alike)
    one, other = (drawn_with(engine, family, record, (each, 1.0)) for each in (whole, same))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, drawn_with(engine, family, record, (unet, 1.0)))


def test_kohyas_sdxl_has_two_text_encoders(engine, records, tmp_path):
    family, record, parts = by_id("sdxl"), records["sdxl"], ("unet", "text_encoder", "text_encoder_2")
    prefix = {
        "unet": "lora_unet_",
        "text_encoder": "lora_te1_text_model_",
        "text_encoder_2": "lora_te2_text_model_",
    }
    theirs = found(tmp_path / "1" / "K.safetensors", family, kohya(record, parts, prefix=prefix))
    alike = {n: t * (0.5 if ".lora_B." in n else 1.0) for n, t in peft(record, parts).items()}
    same = found(tmp_path / "2" / "Alike.safetensors", family, alike)
    one, other = (drawn_with(engine, family, record, (each, 1.0)) for each in (theirs, same))
    assert np.array_equal(one, other)


def test_kohyas_flux_has_queries_keys_and_values_in_one(engine, records, tmp_path):
    family, record = by_id("flux"), records["flux"]
    lora = found(tmp_path / "loras" / "F.safetensors", family, kohya_flux(record))
    assert_close(
        drawn_with(engine, family, record, (lora, GENTLE)), plain(family, record, (Path(lora.path), GENTLE))
    )
    schnell = drawn_with(engine, by_id("flux-schnell"), records["flux-schnell"], (lora, 1.0))
    assert not np.array_equal(schnell, drawn_with(engine, by_id("flux-schnell"), records["flux-schnell"])), (
        "[schnell] takes those of [dev]"
    )


def test_the_alpha_that_diffusers_writes_beside_the_layers_counts(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    path = tmp_path / "loras" / "Own.safetensors"
    settings = {
        "unet.r": 4,
        "unet.lora_alpha": 8,
        "unet.target_modules": ["to_q", "to_k", "to_v", "to_out.0"],
    }
    told = {"lora_adapter_metadata": json.dumps(settings), "emulsion.family": "sd1"}
    lora = found(path, family, peft(record, ("unet",)))
    once = drawn_with(engine, family, record, (lora, GENTLE))
    write(path, peft(record, ("unet",)), told)
    twice = drawn_with(engine, family, record, (lora, GENTLE))
    assert np.abs(twice.astype(int) - once).max() > 2
    assert_close(twice, plain(family, record, (path, GENTLE)))


@pytest.mark.parametrize("key", ["to_q", "attn1.to_q", "^down.attn1.to_q", r"^down\.attn1\.to_q$"])
def test_a_layers_own_alpha_is_found_by_its_name_or_the_end_of_it(key):
    settings = {"unet": {"lora_alpha": 4, "alpha_pattern": {"to_k": 1, key: 16}}}
    assert lora_file._peft_scale(settings, "unet.down.attn1.to_q", 4) == 4.0
    assert lora_file._peft_scale(settings, "unet.down.attn1.to_v", 4) == 1.0


def test_only_from_the_start_where_the_key_says_so():
    settings = {"unet": {"lora_alpha": 4, "alpha_pattern": {"^to_q": 16}}}
    assert lora_file._peft_scale(settings, "unet.down.to_q", 4) == 1.0


def test_a_pattern_that_would_run_for_ever_is_refused():
    settings = {"unet": {"lora_alpha": 4, "alpha_pattern": {"(a+)+$": 16}}}
    with pytest.raises(ModelError, match="alpha_pattern"):
        lora_file._peft_scale(settings, f"unet.{'a' * 60}b", 4)


@pytest.mark.parametrize("alpha", ["much", None])
def test_an_alpha_that_is_no_number_is_refused(alpha):
    with pytest.raises(ModelError, match="no number"):
        lora_file._peft_scale({"unet": {"lora_alpha": alpha}}, "unet.to_q", 4)


def test_a_prompt_that_is_read_with_a_lora_is_not_taken_for_one_without(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    of_text = found(tmp_path / "1" / "T.safetensors", family, peft(record, ("text_encoder",)))
    of_unet = found(tmp_path / "2" / "U.safetensors", family, peft(record, ("unet",)))
    encodes = []
    for loras in ((), ((of_text, 1.0),), ((of_text, 0.5),), ((of_unet, 1.0),), ()):
        before = engine.compute.prompts.encodes
        drawn_with(engine, family, record, *loras)
        encodes.append(engine.compute.prompts.encodes - before)
    assert encodes == [2, 2, 2, 0, 0], "the prompt and the empty negative one, anew where the encoder changes"


def test_the_next_job_reads_no_file_again_but_a_changed_one(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, ("unet",)))
    pictures, loads = [], []
    for seed in (0, 0, 9):
        if seed:
            write(Path(lora.path), peft(record, ("unet",), seed), {})
        before = engine.compute.store.loads
        pictures.append(drawn_with(engine, family, record, (lora, 1.0)))
        loads.append(engine.compute.store.loads - before)
    assert loads[1:] == [0, 1], "the model stays in memory"
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


@pytest.mark.parametrize("when", ["load", "step"])
def test_a_cancel_leaves_no_layer_behind(engine, records, tmp_path, when):
    family, record = by_id("sd1"), records["sd1"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, ("unet", "text_encoder")))
    job = job_of(asked(family, (lora, 1.0)), record, lora)
    without, before = drawn_with(engine, family, record), state_of(engine, job, family)
    reached = []

    def on_event(event) -> None:
        wanted = StepDone if when == "step" else StageChanged
        if isinstance(event, wanted):
            reached.append(event)
            job.cancel()

    with pytest.raises(Cancelled):
        run(engine, job, on_event)
    assert len(reached) == 1
    assert_equal(state_of(engine, job, family), before)
    assert np.array_equal(drawn_with(engine, family, record), without)


def test_a_cancel_comes_between_two_loras(engine, records, tmp_path, monkeypatch):
    from pipelines.runtime.conditioning import lora as conditioner

    family, record = by_id("sd1"), records["sd1"]
    loras = [
        found(tmp_path / name / f"{name}.safetensors", family, peft(record, ("unet",))) for name in ("a", "b")
    ]
    job = job_of(asked(family, *((lora, 1.0) for lora in loras)), record, *loras)
    before, real = state_of(engine, job, family), conditioner._read
    read = []

    def cancel_then(lora, *args):
        read.append(lora.title)
        job.cancel()
        return real(lora, *args)

    monkeypatch.setattr(conditioner, "_read", cancel_then)
    with pytest.raises(Cancelled):
        run(engine, job)
    assert read == ["a"]
    assert_equal(state_of(engine, job, family), before)


@pytest.mark.parametrize(
    "error", [Cancelled(), torch.OutOfMemoryError("DefaultCPUAllocator: not enough memory")]
)
def test_what_breaks_off_while_weights_change_leaves_none_of_it(
    engine, records, tmp_path, monkeypatch, error
):
    """G1."""
    from pipelines.runtime import adapters

    family, record = by_id("sd1"), records["sd1"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, ("unet", "text_encoder")))
    job = job_of(asked(family, (lora, 1.0)), record, lora)
    without, right = drawn_with(engine, family, record), drawn(engine, job)
    before = state_of(engine, job, family)
    real, calls = adapters.changed, []

    def breaking(*args) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise error
        real(*args)

    monkeypatch.setattr(adapters, "changed", breaking)
    with pytest.raises((Cancelled, OutOfMemory)):  # what so small a picture takes leaves nothing to save
        run(engine, job)
    assert len(calls) == 5
    assert_equal(state_of(engine, job, family), before)
    assert np.array_equal(drawn_with(engine, family, record), without)
    assert np.array_equal(drawn_with(engine, family, record, (lora, 1.0)), right)


def test_the_next_job_changes_only_what_differs(engine, records, tmp_path, monkeypatch):
    """Nothing for the same LoRAs; for another weight, the layers of that LoRA; the picture is that of a first job."""
    from pipelines.runtime import adapters

    family, record = by_id("sd1"), records["sd1"]
    whole = found(tmp_path / "1" / "W.safetensors", family, peft(record, ("unet",)))
    some = {name: tensor for name, tensor in peft(record, ("unet",), seed=3).items() if "attn1" in name}
    part = found(tmp_path / "2" / "P.safetensors", family, some)
    real, touched = adapters.stacked, []
    monkeypatch.setattr(adapters, "stacked", lambda name, uses: (touched.append(name), real(name, uses))[1])
    counts, pictures = [], []
    rows = [(1.0, 1.0), (1.0, 1.0), (1.0, 0.5), (0.5, 0.5), (1.0, 1.0)]
    for one, other in rows:
        touched.clear()
        pictures.append(drawn_with(engine, family, record, (whole, one), (part, other)))
        counts.append(len(touched))
    layers, own = len(peft(record, ("unet",))) // 2, len(some) // 2
    assert counts == [layers, 0, own, layers, layers]
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[4])
    assert len({picture.tobytes() for picture in pictures}) == 3


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # of diffusers' own way
def test_five_at_once_are_the_five_of_diffusers(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    weighed = [
        (found(tmp_path / f"{n}" / f"L{n}.safetensors", family, peft(record, parts, n)), GENTLE * (n - 1.5))
        for n, parts in enumerate(
            (("unet",), ("unet", "text_encoder"), ("text_encoder",), ("unet",), ("unet",))
        )
    ]
    five = drawn_with(engine, family, record, *weighed)
    assert_close(five, plain(family, record, *((Path(lora.path), weight) for lora, weight in weighed)))
    assert not np.array_equal(five, drawn_with(engine, family, record, *weighed[:4]))


def test_two_models_in_turns_draw_as_alone(engine, records, tmp_path):
    """Each with another LoRA, and one without; what a model wears waits for its next job."""
    first, second = by_id("sd1"), by_id("sdxl")
    one = found(tmp_path / "1" / "A.safetensors", first, peft(records["sd1"], ("unet", "text_encoder")))
    other = found(tmp_path / "2" / "B.safetensors", second, peft(records["sdxl"], parts_of(second)))
    rounds = [
        [
            drawn_with(engine, first, records["sd1"], (one, 1.0)),
            drawn_with(engine, second, records["sdxl"], (other, 1.0)),
            drawn_with(engine, second, records["sdxl"]),
            drawn_with(engine, first, records["sd1"]),
        ]
        for _ in range(2)
    ]
    for again, before in zip(rounds[1], rounds[0], strict=True):
        assert np.array_equal(again, before)
    assert not np.array_equal(rounds[0][1], rounds[0][2])


@pytest.mark.parametrize("from_file", [False, True])
def test_where_ram_is_short_the_picture_is_the_same(engine, records, tmp_path, monkeypatch, from_file):
    """Without a second copy of what changes; and with text encoders that are read anew, which lack it at first."""
    family, record = by_id("sdxl"), records["sdxl"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, parts_of(family)))
    job = job_of(asked(family, (lora, 1.0), count=2), record, lora)
    right, compute = pictures(engine, job), engine.compute
    asked_for = compute.plan(job).asked
    rams = range(compute.plan(job).peak_ram, 0, -5_000)
    plans = (plan(asked_for[0], Budget(vram=0, ram=ram, device=False), *asked_for[2:]) for ram in rams)
    small = next(each for each in plans if each.fits and (each.from_file if from_file else each.afresh))
    compute.drop_caches()
    monkeypatch.setattr(compute, "plan", lambda _job: small)
    for _ in range(2):
        assert all(map(np.array_equal, pictures(engine, job), right))
    beside = sum(compute.adapters.size_of(part) for _, part in compute.store.parts())
    assert bool(beside) is not small.afresh


def pictures(engine, job: Job) -> list[np.ndarray]:
    saved = [event for event in run(engine, job) if isinstance(event, ImageSaved)]
    return [np.asarray(Image.open(event.path)) for event in saved]


def test_one_that_fits_nowhere_is_an_error_and_leaves_nothing(engine, records, tmp_path):
    """M9. The same family at another size: the shapes do not fit."""
    family, record = by_id("sd1"), records["sd1"]
    state = {
        name: torch.zeros([n + 1 for n in tensor.shape]) for name, tensor in peft(record, ("unet",)).items()
    }
    lora = found(tmp_path / "loras" / "Wide.safetensors", family, state)
    job = job_of(asked(family, (lora, 1.0)), record, lora)
    before = state_of(engine, job, family)
    with pytest.raises(
        ModelError, match=r"No part of the LoRA 'Wide' fits the model 'sd1': .*Wide.safetensors"
    ):
        run(engine, job)
    assert_equal(state_of(engine, job, family), before)


def test_layers_without_a_place_are_told(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    state = peft(record, ("unet",))
    extra = {name.replace("unet.", "unet.nowhere."): tensor.clone() for name, tensor in [*state.items()][:4]}
    lora = found(tmp_path / "loras" / "Half.safetensors", family, {**state, **extra})
    events = run(engine, job_of(asked(family, (lora, 1.0)), record, lora))
    notes = [event.note for event in events if isinstance(event, StageChanged) and event.note]
    (note,) = notes
    assert note.startswith("2 of ")
    assert "'Half' have no place" in note


def test_the_refiner_does_not_get_it(engine, records, tmp_path, monkeypatch):
    family, record, refiner = by_id("sdxl"), records["sdxl"], records["sdxl-refiner"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, ("unet",)))
    request = asked(family, (lora, 1.0))
    request = replace(request, refiner=Refiner(model=refiner.id, switch_at=0.5))
    seen: dict[str, bool] = {}
    real = engine.compute.phases

    def phases(*args):
        parts = real(*args)
        for phase in parts:
            seen[phase.family.id] = bool(phase.adapter.uses)
        return parts

    monkeypatch.setattr(engine.compute, "phases", phases)
    run(engine, job_of(request, record, lora, refiner=refiner))
    assert seen == {"sdxl": True, "sdxl-refiner": False}


def test_one_of_another_family_is_refused_with_both_names(engine, records, tmp_path):
    """M8."""
    lora = found(tmp_path / "loras" / "XL.safetensors", by_id("sdxl"), peft(records["sdxl"], ("unet",)))
    job = job_of(asked(by_id("sd1"), (lora, 1.0)), records["sd1"], lora)
    with pytest.raises(RequestError) as caught:
        run(engine, job)
    assert caught.value.field == "loras[0].model"
    for word in ("XL", "Stable Diffusion XL", "Stable Diffusion 1.x"):
        assert word in caught.value.message


def test_a_file_that_is_gone_is_told_with_its_path(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    lora = found(tmp_path / "loras" / "Gone.safetensors", family, peft(record, ("unet",)))
    Path(lora.path).unlink()
    with pytest.raises(ModelError, match=r"Gone\.safetensors"):
        run(engine, job_of(asked(family, (lora, 1.0)), record, lora))
