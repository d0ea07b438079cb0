"""What goes wrong on a device, scripted into the parts of a real model: G1 to G6 and G17."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from pipelines.library.folders import demo_root
from pipelines.runtime import decoding, network, preflight, sampling
from pipelines.runtime import device as devices
from pipelines.runtime.activations import Linear
from pipelines.runtime.worker import Worker
from pipelines.spec.errors import BadPicture, DeviceLost, ModelError, OutOfMemory
from pipelines.spec.events import ImageSaved, JobFailed, StageChanged
from pipelines.spec.families import by_id
from tests.runtime.conftest import files, job_of, run
from tests.runtime.scripted import Listener

DEMO = demo_root() / "sd"


def model_of(engine, job):
    return engine.compute.load(job, by_id("sd1"))


def notes(events) -> list[str]:
    return [event.note for event in events if isinstance(event, StageChanged) and event.note]


def raising(error, calls_before=0):
    left = [calls_before]

    def forward(*args, **kwargs):
        if left[0] == 0:
            raise error
        left[0] -= 1
        return torch.zeros(2, 4, 8, 8), None

    return forward


def short_of_memory(monkeypatch, jobs=(1,), times=1000):
    """The step in which memory runs out, in these jobs, as often; answers how often it was tried."""
    drawn, tried = sampling._drawn, []

    def failing(phase, latents, generator, job, progress):
        if job.id not in jobs or len(tried) >= times:
            return drawn(phase, latents, generator, job, progress)
        tried.append(job.id)
        denoiser = phase.denoiser
        denoiser.forward = raising(torch.OutOfMemoryError("CUDA out of memory."), 2)
        try:
            return drawn(phase, latents, generator, job, progress)
        finally:
            del denoiser.forward

    monkeypatch.setattr(sampling, "_drawn", failing)
    return tried


@pytest.mark.usefixtures("little_computing")
def test_out_of_memory_in_a_step_fails_its_job_alone(engine, out, monkeypatch):  # G1
    """After every cheaper plan was tried as well."""
    tried = short_of_memory(monkeypatch, jobs=(2,))
    listener = Listener()
    jobs = [job_of(DEMO, number=number) for number in range(1, 6)]
    worker = Worker(lambda: engine, listener)
    worker.start()
    for job in jobs:
        worker.submit(job)
    listener.end_of(5)
    assert worker.stop(30.0)
    assert {number: names[0] for number, names in listener.ends().items()} == {
        1: "JobFinished", 2: "JobFailed", 3: "JobFinished", 4: "JobFinished", 5: "JobFinished",
    }  # fmt: skip
    (failed,) = (event for event in listener.events if isinstance(event, JobFailed))
    assert failed.kind == "OutOfMemory"
    assert not failed.is_bug
    assert "64 × 64" in failed.message
    assert "smaller size" in failed.hint
    assert len(files(out)) == 4
    assert len(tried) > 1


@pytest.fixture
def little_computing(monkeypatch):
    """The weights of the demo are what takes most."""
    monkeypatch.setattr(preflight, "UNET", Linear(cell=64, pixel=1, token=1, workspace=0))


@pytest.mark.usefixtures("little_computing")
def test_out_of_memory_in_a_step_is_tried_again_with_the_next_plan(engine, monkeypatch):  # G1
    """The same picture, and beside it stands what was done."""
    plain = picture(run(engine, job_of(DEMO, count=2)))
    short_of_memory(monkeypatch, times=1)
    events = run(engine, job_of(DEMO, count=2))
    assert picture(events) == plain
    (note,) = notes(events)
    assert "Memory ran out" in note
    assert "text encoders are forgotten" in note
    first, second = [event for event in events if isinstance(event, ImageSaved)]
    assert (first.marks, second.marks) == ((note,), ())


def picture(events) -> list[bytes]:
    return [Image.open(event.path).tobytes() for event in events if isinstance(event, ImageSaved)]


def test_out_of_memory_gives_the_memory_back(engine, tiny_model, monkeypatch):
    short_of_memory(monkeypatch)
    with pytest.raises(OutOfMemory):
        run(engine, job_of(tiny_model))
    assert engine.compute.store.keys() == ()


def failing_first(vae, times):
    """vae.decode that is out of memory as often."""
    decode, left = vae.decode, [times]

    def failing(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(*args, **kwargs)

    return failing


def test_out_of_memory_in_decode_is_tried_once_in_tiles(engine, tiny_model, monkeypatch):  # G2
    job = job_of(tiny_model)
    vae = model_of(engine, job).vae
    monkeypatch.setattr(vae, "decode", failing_first(vae, 1))
    events = run(engine, job)
    assert notes(events) == [decoding.TILED]
    assert isinstance(events[-1], ImageSaved)
    assert not vae.use_tiling


def test_tiles_are_smaller_than_the_picture_of_a_vae_that_learned_on_large_ones(
    engine, tiny_model, monkeypatch
):  # G2
    """SDXL's learned on 1024 pixels, and in tiles of that size 1024 pixels take as much as in one piece."""
    job = job_of(tiny_model)
    vae = model_of(engine, job).vae
    monkeypatch.setattr(vae, "decode", failing_first(vae, 1))
    monkeypatch.setattr(vae, "tile_latent_min_size", 128)
    monkeypatch.setattr(vae, "tile_sample_min_size", 1024)
    widths = []
    handle = vae.decoder.register_forward_pre_hook(lambda _m, args: widths.append(args[0].shape[-1]))
    latents = torch.zeros(1, 4, 96, 96)
    with torch.no_grad():
        pixels = decoding._with_room(SimpleNamespace(vae=vae), latents, lambda _note: None)
    handle.remove()
    assert pixels.shape[-2:] == (768, 768)
    assert max(widths) == decoding.TILE // 8
    assert (vae.tile_latent_min_size, vae.tile_sample_min_size) == (128, 1024)


def test_out_of_memory_in_tiles_too_fails_the_job(engine, tiny_model, out, monkeypatch):  # G2
    job = job_of(tiny_model)
    vae = model_of(engine, job).vae
    monkeypatch.setattr(vae, "decode", failing_first(vae, 2))
    with pytest.raises(OutOfMemory):
        run(engine, job)
    assert not files(out)


def test_out_of_memory_in_a_load_leaves_nothing_half_loaded(engine, tiny_model, monkeypatch):  # G3
    tensors = network.tensors

    def short(*wanted):
        for number, item in enumerate(tensors(*wanted)):
            if number == 5:
                raise RuntimeError(
                    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
                )
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(network, "tensors", short)
        with pytest.raises(OutOfMemory):
            run(engine, job_of(tiny_model))
    assert engine.compute.store.keys() == ()
    assert isinstance(run(engine, job_of(tiny_model))[-1], ImageSaved)


def test_a_lost_device_is_told_as_such(engine, tiny_model):  # G4; that no second job is burnt: test_worker
    job = job_of(tiny_model)
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    model_of(engine, job).unet.forward = raising(error, 1)
    with pytest.raises(DeviceLost):
        run(engine, job)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_no_numbers_are_never_saved(engine, tiny_model, out, value):  # G5
    job = job_of(tiny_model)
    model_of(engine, job).unet.forward = lambda *_, **__: (torch.full((2, 4, 8, 8), value),)
    with pytest.raises(BadPicture) as caught:
        run(engine, job)
    assert "float32" in str(caught.value)
    assert not files(out)


def nan_while(vae, broken):
    """vae.decode that answers NaN while `broken(dtype)`."""
    decode = vae.decode

    def decoded(latents, **kwargs):
        pixels = decode(latents, **kwargs)
        return (pixels[0] * float("nan"),) if broken(latents.dtype) else pixels

    return decoded


@pytest.fixture
def half_engine(engine, monkeypatch):
    """The engine at bfloat16, which the CPU can do."""
    monkeypatch.setattr(devices, "computes_in", lambda *_: True)
    monkeypatch.setattr(engine.compute._loader, "_dtype", "bfloat16")
    return engine


def test_nan_at_half_precision_is_decoded_again_in_float32(half_engine, tiny_model, monkeypatch):  # G5
    job = job_of(tiny_model)
    vae = model_of(half_engine, job).vae
    monkeypatch.setattr(vae, "decode", nan_while(vae, lambda dtype: dtype is not torch.float32))
    events = run(half_engine, job)
    assert notes(events) == [decoding.AGAIN]
    assert isinstance(events[-1], ImageSaved)
    assert events[-1].marks == (decoding.AGAIN,)
    assert vae.dtype is torch.bfloat16


def test_nan_in_float32_too_fails_the_job(half_engine, tiny_model, out, monkeypatch):  # G5
    job = job_of(tiny_model)
    vae = model_of(half_engine, job).vae
    monkeypatch.setattr(vae, "decode", nan_while(vae, lambda dtype: True))
    with pytest.raises(BadPicture) as caught:
        run(half_engine, job)
    assert "VAE" in caught.value.message
    assert "float32" in caught.value.message
    assert not files(out)


@pytest.mark.parametrize("scheduler", ["euler_a", "lcm", "dpmpp_2m_sde"])
def test_noise_of_a_step_is_the_same_at_half_precision(half_engine, tiny_model, scheduler, monkeypatch):
    """A seed must mean the same picture on a device that computes in half precision."""
    run(half_engine, job_of(tiny_model))  # the first job of all tries attention, with noise of its own
    drawn = []
    monkeypatch.setattr(torch, "randn", _spy(torch.randn, drawn))
    run(half_engine, job_of(tiny_model, scheduler=scheduler))
    assert len(drawn) >= 3
    assert set(drawn) == {torch.float32}


def _spy(randn, drawn):
    def spying(*args, dtype=None, **kwargs):
        drawn.append(dtype)
        return randn(*args, dtype=dtype, **kwargs)

    return spying


def test_a_picture_of_one_colour_is_saved_and_marked(engine, tiny_model, monkeypatch):  # G6
    job = job_of(tiny_model)
    vae = model_of(engine, job).vae
    monkeypatch.setattr(vae, "decode", lambda latents, **_: (torch.zeros(1, 3, 64, 64),))
    saved = run(engine, job)[-1]
    assert isinstance(saved, ImageSaved)
    assert saved.marks == ("uniform",)


def test_a_model_that_vanished_fails_with_its_path_and_others_go_on(engine, tiny_model, tmp_path):  # G17
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    run(engine, job_of(copy))
    shutil.rmtree(copy)
    with pytest.raises(ModelError) as caught:
        run(engine, job_of(copy))
    assert str(copy) in caught.value.message
    assert isinstance(run(engine, job_of(tiny_model))[-1], ImageSaved)
