"""IP-Adapters in the real engine: the pixels of diffusers, nothing at scale 0, and a model that is left as it came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from pipelines.spec.errors import Cancelled, ModelError, RequestError
from pipelines.spec.events import StepDone
from pipelines.spec.families import by_id
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import ControlInput, GenerationRequest, IpAdapterInput, LoraInput, Refiner
from tests.runtime.conditioning.add_ons import controlnet, found, ip_adapter, peft, write
from tests.runtime.conditioning.test_lora import assert_equal, drawn, state_of
from tests.runtime.conftest import run
from tests.runtime.test_families import bare, plain_call, request_of
from tests.runtime.tiny import written

NAMES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ip-adapters")


@pytest.fixture(scope="module")
def records(folder, torch_engine) -> dict[str, ModelRecord]:
    return {name: written(folder / "models", by_id(name)) for name in (*NAMES, "sdxl-refiner", "flux")}


@pytest.fixture(scope="module")
def adapters(folder, records) -> dict[str, ModelRecord]:
    return {name: ip_adapter(folder / name, by_id(name), records[name]) for name in NAMES}


@pytest.fixture(params=NAMES)
def family(request) -> Family:
    return by_id(request.param)


@pytest.fixture
def picture(tmp_path) -> Path:
    shown = Image.new("RGB", (60, 40), "navy")
    ImageDraw.Draw(shown).ellipse((10, 5, 50, 35), fill="orange")
    shown.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def other(tmp_path) -> Path:
    Image.effect_noise((50, 50), 90).convert("RGB").save(tmp_path / "other.png")
    return tmp_path / "other.png"


def asked(family: Family, *given: IpAdapterInput, **changes: Any) -> GenerationRequest:
    return request_of(family, ip_adapters=given, **changes)


def job_of(request: GenerationRequest, record: ModelRecord, *parts: ModelRecord, **more: Any) -> Job:
    return Job(id=1, request=request, model=record, parts={part.id: part for part in parts}, **more)


def plain(
    family: Family, record: ModelRecord, given: list[tuple[ModelRecord, Path, float]],
    request: GenerationRequest,
) -> np.ndarray:  # fmt: skip
    """What diffusers itself draws; all have one encoder."""
    pipe = bare(record, family, request)
    files = [Path(adapter.path) for adapter, _, _ in given]
    pipe.load_ip_adapter(
        [str(file.parent) for file in files], subfolder=[""] * len(files), local_files_only=True,
        weight_name=[file.name for file in files], image_encoder_folder="image_encoder",
    )  # fmt: skip
    pipe.set_ip_adapter_scale([scale for _, _, scale in given])
    shown = [Image.open(path).convert("RGB") for _, path, _ in given]
    return np.asarray(pipe(**plain_call(request), ip_adapter_image=shown).images[0])


def test_it_draws_as_diffusers_does_and_is_gone_afterwards(engine, records, adapters, family, picture):
    record, adapter = records[family.id], adapters[family.id]
    job = job_of(asked(family, IpAdapterInput(model=adapter.id, path=str(picture))), record, adapter)
    without = drawn(engine, job_of(request_of(family), record))
    before = state_of(engine, job, family)
    with_it = drawn(engine, job)
    assert_equal(state_of(engine, job, family), before)
    assert np.array_equal(with_it, plain(family, record, [(adapter, picture, 0.6)], job.request))
    assert not np.array_equal(with_it, without)
    assert np.array_equal(drawn(engine, job_of(request_of(family), record)), without)


def test_the_finer_kind_too(engine, records, picture, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    adapter = ip_adapter(tmp_path / "fine", family, record, fine=True)
    job = job_of(asked(family, IpAdapterInput(model=adapter.id, path=str(picture))), record, adapter)
    assert np.array_equal(drawn(engine, job), plain(family, record, [(adapter, picture, 0.6)], job.request))


def test_without_guidance_there_is_no_second_half(engine, records, adapters, picture):
    family, record, adapter = by_id("sd1"), records["sd1"], adapters["sd1"]
    request = asked(family, IpAdapterInput(model=adapter.id, path=str(picture)))
    request = replace(request, sampling=replace(request.sampling, guidance_scale=1.0))
    expected = plain(family, record, [(adapter, picture, 0.6)], request)
    assert np.array_equal(drawn(engine, job_of(request, record, adapter)), expected)


def test_scale_and_picture_matter_and_scale_0_is_nothing(engine, records, adapters, family, picture, other):
    record, adapter = records[family.id], adapters[family.id]
    given = IpAdapterInput(model=adapter.id, path=str(picture))
    pictures = [
        drawn(engine, job_of(asked(family, *each), record, adapter))
        for each in (
            (),
            (replace(given, scale=0.0),),
            (given,),
            (replace(given, scale=1.0),),
            (replace(given, path=str(other)),),
        )
    ]
    assert np.array_equal(pictures[0], pictures[1])
    different = [pictures[0], *pictures[2:]]
    for one in range(len(different)):
        for another in range(one):
            assert not np.array_equal(different[one], different[another]), (one, another)


def test_several_at_once(engine, records, adapters, picture, other, tmp_path):
    family, record, first = by_id("sd1"), records["sd1"], adapters["sd1"]
    second = replace(ip_adapter(tmp_path / "second", family, record, seed=3), id="second")
    given = (
        IpAdapterInput(model=first.id, path=str(picture), scale=0.7),
        IpAdapterInput(model=second.id, path=str(other), scale=0.5),
    )
    request = asked(family, *given)
    expected = plain(family, record, [(first, picture, 0.7), (second, other, 0.5)], request)
    assert np.array_equal(drawn(engine, job_of(request, record, first, second)), expected)


def test_with_a_lora_and_a_controlnet_and_none_of_them_stays(engine, records, adapters, picture, tmp_path):
    family, record, adapter = by_id("sd1"), records["sd1"], adapters["sd1"]
    lora = found(tmp_path / "loras" / "L.safetensors", family, peft(record, ("unet", "text_encoder")))
    net = controlnet(tmp_path / "net", family, record)
    given = IpAdapterInput(model=adapter.id, path=str(picture))
    others = {
        "loras": (LoraInput(model=lora.id),),
        "controls": (ControlInput(model=net.id, path=str(picture)),),
    }
    without = drawn(engine, job_of(request_of(family), record))
    job = job_of(asked(family, given, **others), record, adapter, lora, net)
    before = state_of(engine, job, family)
    everything = drawn(engine, job)
    assert_equal(state_of(engine, job, family), before)
    seen = [everything, without, drawn(engine, job_of(asked(family, **others), record, lora, net))]
    seen += [drawn(engine, job_of(asked(family, given), record, adapter))]
    assert len({each.tobytes() for each in seen}) == len(seen)
    assert np.array_equal(drawn(engine, job_of(request_of(family), record)), without)


def test_the_files_are_read_once(engine, records, adapters, picture):
    family, record, adapter = by_id("sd1"), records["sd1"], adapters["sd1"]
    loads = []
    for seed in (1, 2):
        before = engine.compute.store.loads
        given = IpAdapterInput(model=adapter.id, path=str(picture))
        run(engine, job_of(asked(family, given, seed=seed), record, adapter))
        loads.append(engine.compute.store.loads - before)
    assert loads == [7, 0], "five parts of the model, the adapter and its image encoder"


def test_a_model_that_refines_itself_sees_the_picture_in_both_halves(engine, records, adapters, picture):
    family, record, adapter = by_id("sdxl"), records["sdxl"], adapters["sdxl"]
    request = asked(family, IpAdapterInput(model=adapter.id, path=str(picture)))
    alone = drawn(engine, job_of(request, record, adapter))
    for refiner in (record, records["sdxl-refiner"]):
        both = replace(request, refiner=Refiner(model=refiner.id, switch_at=0.5))
        assert not np.array_equal(drawn(engine, job_of(both, record, adapter, refiner=refiner)), alone)


def test_a_cancel_leaves_no_attention_behind(engine, records, adapters, family, picture):
    record, adapter = records[family.id], adapters[family.id]
    drawn(engine, job_of(request_of(family), record))
    job = job_of(asked(family, IpAdapterInput(model=adapter.id, path=str(picture))), record, adapter)
    before = state_of(engine, job, family)
    with pytest.raises(Cancelled):
        run(engine, job, lambda event: job.cancel() if isinstance(event, StepDone) else None)
    assert_equal(state_of(engine, job, family), before)


def test_processors_of_another_kind_come_back(engine, records, adapters, picture):
    """Whatever was there before: diffusers' own unloading would put torch's."""
    from diffusers.models.attention_processor import AttnProcessor

    family, record, adapter = by_id("sd1"), records["sd1"], adapters["sd1"]
    job = job_of(asked(family, IpAdapterInput(model=adapter.id, path=str(picture))), record, adapter)
    unet = engine.compute.load(job, family).unet
    unet.set_attn_processor(AttnProcessor())
    before = dict(unet.attn_processors)
    run(engine, job)
    assert unet.attn_processors == before


def test_a_picture_that_cannot_be_read_names_its_field(engine, records, adapters, picture, tmp_path):
    family, record, adapter = by_id("sd1"), records["sd1"], adapters["sd1"]
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:60])
    good = IpAdapterInput(model=adapter.id, path=str(picture))
    for name in ("gone.png", "cut.png"):
        bad = replace(good, path=str(tmp_path / name))
        with pytest.raises(RequestError) as caught:
            run(engine, job_of(asked(family, good, bad), record, adapter))
        assert caught.value.field == "ip_adapters[1].path"
        assert name in caught.value.message


def broken(adapter: ModelRecord, folder: Path, change: Any) -> ModelRecord:
    """A copy of its file that `change` has been at; the record is as before."""
    state = load_file(adapter.path)
    change(state)
    return replace(adapter, path=str(write(folder / "Broken.safetensors", state, {})))


def _without_a_layer(state: dict[str, torch.Tensor]) -> None:
    del state["ip_adapter.3.to_v_ip.weight"]


def _of_another_size(state: dict[str, torch.Tensor]) -> None:
    state["ip_adapter.1.to_k_ip.weight"] = torch.zeros(8, 16)


def _without_a_norm(state: dict[str, torch.Tensor]) -> None:
    del state["image_proj.norm.weight"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_a_layer, "'Pictures' does not fit"),
        (_of_another_size, "'Pictures' does not fit"),
        (_without_a_norm, "'Pictures' is incomplete|'Pictures' cannot be read"),
    ],
)
def test_one_that_does_not_fit_names_its_file_and_leaves_nothing(
    engine, records, adapters, picture, tmp_path, change, said
):
    family, record = by_id("sd1"), records["sd1"]
    adapter = broken(adapters["sd1"], tmp_path, change)
    job = job_of(asked(family, IpAdapterInput(model=adapter.id, path=str(picture))), record, adapter)
    before = state_of(engine, job, family)
    with pytest.raises(ModelError, match=rf"{said}.*Broken\.safetensors"):
        run(engine, job)
    assert_equal(state_of(engine, job, family), before)


def test_an_encoder_with_missing_weights_is_refused(engine, records, picture, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    adapter = ip_adapter(tmp_path / "a", family, record)
    file = Path(adapter.image_encoder) / "model.safetensors"
    state = load_file(file)
    del state["visual_projection.weight"]
    write(file, state, {"format": "pt"})
    job = job_of(asked(family, IpAdapterInput(model=adapter.id, path=str(picture))), record, adapter)
    with pytest.raises(ModelError, match=r"1 weights are missing, such as 'visual_projection\.weight'"):
        run(engine, job)


def test_the_library_tells_what_it_is(adapters, family):
    adapter = adapters[family.id]
    assert (adapter.kind, adapter.family, adapter.problem) == (Kind.IP_ADAPTER, family.id, "")
    assert Path(adapter.image_encoder).name == "image_encoder"


def test_another_family_and_flux_are_refused(engine, records, adapters, picture):
    given = IpAdapterInput(model=adapters["sdxl"].id, path=str(picture))
    for name, field in (("sd1", "ip_adapters[0].model"), ("flux", "ip_adapters")):
        family = by_id(name)
        with pytest.raises(RequestError) as caught:
            run(engine, job_of(asked(family, given), records[name], adapters["sdxl"]))
        assert caught.value.field == field
        assert family.name in caught.value.message
