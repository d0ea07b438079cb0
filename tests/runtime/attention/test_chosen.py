"""The kernel that is asked for draws the picture, of every family and with what goes with it, and nothing stays set."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention as OWN

from pipelines.library.attention import FILE
from pipelines.runtime.attention import chosen, kernels, trial
from pipelines.runtime.attention.chosen import ChosenAttention, applied
from pipelines.runtime.attention.kernels import BY_ID, KERNELS
from pipelines.spec.attention import NAMES, Tried
from pipelines.spec.errors import Cancelled, EngineError
from pipelines.spec.events import ImageSaved, LoadProgress, StepDone
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import ControlInput, IpAdapterInput, Refiner
from tests.runtime.attention.ran import ran, ran_while_drawing
from tests.runtime.conditioning.add_ons import controlnet, ip_adapter
from tests.runtime.conftest import job_of, options, run
from tests.runtime.test_families import request_of
from tests.runtime.tiny import written

CPU = torch.device("cpu")
NAMED = ("sd1", "sd2", "sdxl", "sdxl-refiner", "flux")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("attention")


@pytest.fixture(scope="module")
def records(folder, torch_engine) -> dict[str, ModelRecord]:
    return {name: written(folder, by_id(name)) for name in NAMED}


@pytest.fixture
def seen(monkeypatch) -> Counter[str]:
    return ran_while_drawing(monkeypatch)


@pytest.fixture
def use(engine, monkeypatch):
    """The engine, as if it had been built with these options."""

    def change(**changes: Any) -> None:
        monkeypatch.setattr(engine.compute, "attention", of(**changes))
        monkeypatch.setattr(engine.compute, "_options", options(Path(), **changes))

    return change


def of(**changes: Any) -> ChosenAttention:
    return ChosenAttention(CPU, options(Path(), **changes))


def picture(engine, job: Job) -> np.ndarray:
    (path,) = (event.path for event in run(engine, job) if isinstance(event, ImageSaved))
    return np.asarray(Image.open(path)).astype(int)


def plain(records, family: str, *parts: ModelRecord, **changes: Any) -> Job:
    request = request_of(by_id(family), **changes)
    return Job(id=1, request=request, model=records[family], parts={part.id: part for part in parts})


def only(seen: Counter[str], kernel: str) -> bool:
    """Whether it ran, and no other."""
    return set(seen) == {kernel} and seen[kernel] > 0


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "flux"])
def test_each_kernel_draws_every_family_and_the_picture_is_the_same(engine, records, use, seen, family):
    own = picture(engine, plain(records, family))
    for name in ("flash", "math"):
        seen.clear()
        use(attention=name)
        drawn = picture(engine, plain(records, family))
        assert only(seen, name)
        assert np.abs(drawn - own).max() <= 1
    assert functional.scaled_dot_product_attention is OWN


def test_the_refiner_uses_it_too(engine, records, use, seen):
    use(attention="math")
    refiner = records["sdxl-refiner"]
    request = request_of(by_id("sdxl"), refiner=Refiner(model=refiner.id, switch_at=0.5))
    run(engine, Job(id=1, request=request, model=records["sdxl"], refiner=refiner))
    assert only(seen, "math")


@pytest.mark.parametrize("fine", [False, True], ids=["plain", "with attention of its own"])
def test_control_nets_and_ip_adapters_use_it_too(engine, records, use, seen, folder, fine):
    Image.new("RGB", (64, 64), "navy").save(folder / "shown.png")
    sd1, shown = by_id("sd1"), str(folder / "shown.png")
    net = controlnet(folder / f"{fine}" / "sd1-canny", sd1, records["sd1"])
    adapter = ip_adapter(folder / f"adapter-{fine}", sd1, records["sd1"], fine=fine)
    plain_job = plain(records, "sd1")
    use(attention="math")
    run(engine, plain_job)
    alone = seen["math"]
    job = plain(
        records, "sd1", net, adapter, controls=(ControlInput(model=net.id, path=shown),),
        ip_adapters=(IpAdapterInput(model=adapter.id, path=shown),),
    )  # fmt: skip
    seen.clear()
    run(engine, job)
    assert only(seen, "math")
    assert seen["math"] > alone  # those of the ControlNet and of the adapter


def test_the_same_bits_again_and_what_was_set_is_as_before(engine, records, use, seen, folder):
    use(deterministic=True)
    first = picture(engine, plain(records, "sd1"))
    assert only(seen, "flash")
    assert not torch.are_deterministic_algorithms_enabled()
    engine.compute.drop_caches()
    use(deterministic=True)  # as at another start, with a trial of its own
    assert (picture(engine, plain(records, "sd1")) == first).all()


def test_a_cancel_leaves_nothing_set(engine, tiny_model, use):
    use(attention="math", deterministic=True)
    job = job_of(tiny_model)
    inside = []

    def at(event):
        if isinstance(event, StepDone):
            inside.append(functional.scaled_dot_product_attention is not OWN)
            inside.append(torch.are_deterministic_algorithms_enabled())
            job.cancel()

    with pytest.raises(Cancelled):
        run(engine, job, at)
    assert inside == [True, True]
    assert functional.scaled_dot_product_attention is OWN
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_run_here_fails_before_anything_of_the_model_is_read(engine, tiny_model, use):
    told = []
    for name in NAMES:
        use(attention=name)
        if not next(o.why for o in engine.compute.attention.options() if o.id == name):
            continue
        with pytest.raises(EngineError) as caught:
            run(engine, job_of(tiny_model), told.append)
        assert "cannot be used here" in caught.value.message
        assert "graphics cards" in caught.value.message
        assert "auto" in caught.value.hint
    assert not [event for event in told if isinstance(event, LoadProgress)]
    assert engine.compute.store.keys() == ()


def test_a_model_that_is_loaded_is_not_laid_out_again(engine, tiny_model, use, monkeypatch):
    from pipelines.runtime import loader

    laid_out = []
    real = loader.empty
    monkeypatch.setattr(loader, "empty", lambda name, config: laid_out.append(name) or real(name, config))
    use(attention="math")
    run(engine, job_of(tiny_model))
    assert laid_out.count("UNet2DConditionModel") == 2  # to see its heads, and to be read
    run(engine, job_of(tiny_model))
    assert laid_out.count("UNet2DConditionModel") == 2


def test_auto_uses_the_quickest_where_there_is_something_to_win(engine, tiny_model, use, seen, monkeypatch):
    use()
    times = {"": 10.0, "math": 5.0}
    found = tuple(Tried(id=name, ms=times.get(name, 20.0)) for name in ("", *BY_ID))
    monkeypatch.setattr(chosen, "tried", lambda *_: found)
    run(engine, job_of(tiny_model))
    # The tiny picture has 16 tokens, and its prompt 77: the former stay torch's own, which is flash.
    assert seen["math"] == seen["flash"] > 0


def test_every_width_of_head_has_its_own_choice(monkeypatch):
    def by_width(_device, _dtype, shape):
        quick = "math" if shape.width == 40 else ""
        return tuple(Tried(id=name, ms=1.0 if name == quick else 10.0) for name in ("", *BY_ID))

    monkeypatch.setattr(chosen, "tried", by_width)
    network = torch.nn.Module()
    for n, (heads, inner) in enumerate(((8, 320), (8, 640))):
        block = torch.nn.Module()
        block.heads, block.inner_dim = heads, inner  # pyright: ignore[reportArgumentType]
        network.add_module(f"block{n}", block)
    found = of().kernels([network], torch.float32, 4096)
    assert {head: kernel.id for head, kernel in found.items()} == {(40, torch.float32): "math"}


def test_what_cannot_take_the_heads_of_a_model_is_told_before_a_job_fails_at_it(
    engine, tiny_model, use, monkeypatch
):
    real = chosen.tried

    def tried(device, dtype, shape):
        why = {"math": f"it cannot take heads of {shape.width} numbers", "flash": trial.NO_MEMORY}
        return tuple(
            replace(each, why=each.why or why.get(each.id, "")) for each in real(device, dtype, shape)
        )

    monkeypatch.setattr(chosen, "tried", tried)
    use()
    off = {option.id: option.why for option in engine.kernels(job_of(tiny_model))}
    assert off["math"].startswith("it cannot take heads of ")
    assert off["flash"] == "", "memory may be there another time"
    assert off["auto"] == ""
    assert off["cudnn"] == next(o.why for o in engine.compute.attention.options() if o.id == "cudnn")
    assert engine.compute.store.keys() == (), "nothing is read for it"


@pytest.mark.parametrize("family", NAMED)
def test_every_family_can_be_looked_at(engine, records, use, family):
    use()
    off = {option.id: option.why for option in engine.kernels(plain(records, family))}
    assert [name for name, why in off.items() if not why] == ["auto", "flash", "math", "deterministic"]


# what is remembered


@pytest.fixture
def counted(monkeypatch) -> list[Any]:
    """The shapes that were tried."""
    shapes, real = [], chosen.tried
    monkeypatch.setattr(chosen, "tried", lambda d, t, shape: shapes.append(shape) or real(d, t, shape))
    return shapes


def test_a_trial_is_made_once_and_not_again_after_a_start(tmp_path, counted):
    for _ in range(2):
        attention = of(attention_file=str(tmp_path / FILE))
        for _ in range(2):
            assert attention.choice(torch.float32, 40, 1024).id == ""
    assert len(counted) == 1


def test_another_version_is_tried_anew(tmp_path, counted, monkeypatch):
    for version in ("1", "2"):
        monkeypatch.setattr(trial, "versions", lambda device, version=version: version)
        of(attention_file=str(tmp_path / FILE)).choice(torch.float32, 40, 1024)
    assert len(counted) == 2


def test_a_damaged_file_costs_a_trial_and_nothing_else(tmp_path, counted):
    path = tmp_path / FILE
    path.write_bytes(b"not a database" * 100)
    for _ in range(2):
        of(attention_file=str(path)).choice(torch.float32, 40, 1024)
    assert len(counted) == 1


def test_memory_that_was_short_once_is_not_remembered_over_a_start(tmp_path, monkeypatch):
    short = tuple(Tried(id=name, why=trial.NO_MEMORY if name == "math" else "") for name in ("", *BY_ID))
    with monkeypatch.context() as patch:
        patch.setattr(chosen, "tried", lambda *_: short)
        of(attention_file=str(tmp_path / FILE)).tried(torch.float32, 40, 1024)
    found = of(attention_file=str(tmp_path / FILE)).tried(torch.float32, 40, 1024)
    assert not next(each.why for each in found if each.id == "math")


def test_a_package_that_broke_since_is_not_believed(tmp_path, counted, monkeypatch):
    of(attention_file=str(tmp_path / FILE)).choice(torch.float32, 40, 1024)
    broken = replace(BY_ID["math"], lacks=lambda device: "it cannot be loaded")
    for module in (chosen, trial):
        monkeypatch.setattr(module, "KERNELS", (*(k for k in KERNELS if k.id != "math"), broken))
    monkeypatch.setattr(chosen, "BY_ID", BY_ID | {"math": broken})
    with pytest.raises(EngineError) as caught:
        of(attention_file=str(tmp_path / FILE), attention="math").choice(torch.float32, 40, 1024)
    assert "cannot be loaded" in caught.value.message
    assert len(counted) == 2


def test_a_kernel_that_a_file_does_not_know_is_tried(tmp_path, counted, monkeypatch):
    of(attention_file=str(tmp_path / FILE)).choice(torch.float32, 40, 1024)
    monkeypatch.setattr(chosen, "BY_ID", {**BY_ID, "auto": BY_ID["math"]})
    of(attention_file=str(tmp_path / FILE)).choice(torch.float32, 40, 1024)
    assert len(counted) == 2


# what can be asked for


def test_an_unknown_one_is_named():
    with pytest.raises(EngineError) as caught:
        of(attention="warp")
    assert "warp" in caught.value.message
    assert "flash" in caught.value.hint


def test_one_that_may_not_repeat_cannot_be_had_with_deterministic():
    with pytest.raises(EngineError) as caught:
        of(attention="xformers", deterministic=True)
    assert "xFormers" in caught.value.message
    assert of(attention="math", deterministic=True).wanted == "math"
    assert of(deterministic=True).wanted == "deterministic"


@pytest.mark.parametrize("device", ["xpu", "mps"])
def test_where_no_kernel_can_be_chosen_auto_works_and_deterministic_says_what_to_do(device, monkeypatch):
    """Neither has ever been here: only torch's own choice is left on them, and nothing is run to know it."""
    monkeypatch.setattr(trial.devices, "name_of", lambda _: "a card")
    there = torch.device(device)
    auto = ChosenAttention(there, options(Path()))
    assert auto.choice(torch.float16, 64, 4096).id == ""
    assert [option.id for option in auto.options() if not option.why] == ["auto"]
    repeating = ChosenAttention(there, options(Path(), deterministic=True))
    with pytest.raises(EngineError) as caught:
        repeating.choice(torch.float16, 64, 4096)
    assert "same bits twice" in caught.value.message
    assert "Switch off" in caught.value.hint


def test_all_options_are_told_and_those_that_are_off_say_why():
    found = {option.id: option.why for option in of().options()}
    assert set(found) == set(NAMES)
    assert [name for name, why in found.items() if not why] == ["auto", "flash", "math", "deterministic"]


# the context by itself

MATH = {(16, torch.float32): BY_ID["math"]}


def tensors(width: int = 16, dtype: torch.dtype = torch.float32) -> trial.Tensors:
    numbers = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 80, width, generator=numbers).to(dtype)
    return query, key, value


def test_only_the_heads_that_are_named_go_another_way(monkeypatch):
    asked = []
    spy = replace(BY_ID["math"], run=lambda q, k, v, s: asked.append(q.shape[-1]) or OWN(q, k, v, scale=s))
    with applied({(16, torch.float32): spy}, strict=False):
        for width, dtype in ((16, torch.float32), (32, torch.float32), (16, torch.bfloat16)):
            functional.scaled_dot_product_attention(*tensors(width=width, dtype=dtype))
    assert asked == [16]


def test_a_kernel_that_was_asked_for_takes_all_heads():
    asked = []
    spy = replace(BY_ID["math"], run=lambda q, k, v, s: asked.append(q.shape[-1]) or OWN(q, k, v, scale=s))
    with applied({(16, torch.float32): spy}, strict=True):
        functional.scaled_dot_product_attention(*tensors(width=32))
    assert asked == [32]


def test_compiled_layers_follow_it():
    """Dynamo sees through the function, and looks at each call whether it is still the same one."""

    def layer(query, key, value):
        return functional.scaled_dot_product_attention(2 * query, key, value)

    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    try:
        for name in ("flash", "math", "flash"):
            with applied({(16, torch.float32): BY_ID[name]}, strict=True):
                compiled(*tensors())
                assert set(ran(lambda: compiled(*tensors()))) == {name}
    finally:
        torch._dynamo.reset()


def test_a_mask_goes_to_torchs_own_and_is_refused_to_a_kernel_that_was_asked_for():
    query, key, value = tensors()
    mask = torch.zeros(80, 80)
    cases: list[dict[str, Any]] = [{"attn_mask": mask}, {"is_causal": True}]
    for keywords in cases:
        with applied(MATH, strict=False):
            given = functional.scaled_dot_product_attention(query, key, value, **keywords)
        torch.testing.assert_close(given, OWN(query, key, value, **keywords))
        with applied(MATH, strict=True), pytest.raises(EngineError, match="masked"):
            functional.scaled_dot_product_attention(query, key, value, **keywords)


def test_a_shape_that_a_kernel_cannot_take_is_told_in_words():
    cudnn = {(16, torch.float32): BY_ID["cudnn"]}  # which the processor has not
    with applied(cudnn, strict=True), pytest.raises(EngineError) as caught:
        functional.scaled_dot_product_attention(*tensors())
    assert "80 tokens against 80, heads of 16 numbers" in caught.value.message


def test_an_engine_that_ends_late_neither_takes_away_nor_leaves_anything():
    """Two engines for a moment: a restart does not wait for the one that hangs."""
    late, next_one = applied(MATH, strict=True), applied(MATH, strict=True)
    late.__enter__()
    next_one.__enter__()
    in_use = functional.scaled_dot_product_attention
    late.__exit__(None, None, None)
    assert functional.scaled_dot_product_attention is in_use
    next_one.__exit__(None, None, None)
    assert functional.scaled_dot_product_attention is OWN


def test_torchs_own_choice_is_not_touched():
    with applied({}, strict=True):
        assert functional.scaled_dot_product_attention is OWN
    assert kernels.OWN is OWN
    assert len(KERNELS) == len(BY_ID)
