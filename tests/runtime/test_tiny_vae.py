"""Previews by a small VAE that knows the demo's colours show what is drawn, and take their share of the time only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DecoderTiny
from PIL import Image
from safetensors.torch import save_file

from pipelines.library.folders import demo_root
from pipelines.library.models import record_of, scan
from pipelines.runtime import preview as previewing
from pipelines.runtime import tiny_vae
from pipelines.runtime.preview import Previewer
from pipelines.runtime.tiny_vae import SHARE, TinyPreviews, decoder_of
from pipelines.spec.errors import ModelError
from pipelines.spec.events import ImageSaved, Preview, StepDone
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.previews import tiny_vae_of
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Size
from tests.runtime.conftest import options, run

SD = record_of(demo_root() / "sd")


def decoder(channels: int = 4) -> DecoderTiny:
    torch.manual_seed(0)
    return DecoderTiny(channels, 3, (3, 3, 3, 1), (64, 64, 64, 64), 2, "relu", "nearest")


def record(path: Path, **changes: Any) -> ModelRecord:
    return ModelRecord(id="taesd", path=str(path), title=path.stem, kind=Kind.TINY_VAE, **changes)


def by_its_maker(of: DecoderTiny) -> dict[str, torch.Tensor]:
    """With the names of madebyollin/taesd: their first layer is the clamp."""
    names = {name: name.removeprefix("layers.").split(".", 1) for name in of.state_dict()}
    return {f"{int(names[name][0]) + 1}.{names[name][1]}": t for name, t in of.state_dict().items()}


def job_for(tiny: ModelRecord | None, side: int = 128) -> Job:
    sampling = replace(SD.sampling or by_id("sd1").sampling, seed=5, num_inference_steps=8)
    request = GenerationRequest(
        model=SD.id, prompt=Prompt(text="a large red circle on a blue background"), sampling=sampling,
        size=Size(width=side, height=side),
    )  # fmt: skip
    return Job(id=1, request=request, model=SD, tiny_vae=tiny)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """One that knows the demo's colours: its layers hand on both signs of each latent, the last one mixes them."""
    own = decoder()
    rgb = torch.tensor(SD.latent_rgb or by_id("sd1").latent.rgb)  # [4, 3]
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.zero_()  # a block is then no more than its skip
        convs = [layer for layer in own.layers if isinstance(layer, torch.nn.Conv2d)]
        for channel in range(4):
            convs[0].weight[channel, channel, 1, 1], convs[0].weight[channel + 4, channel, 1, 1] = 1, -1
            for conv in convs[1:-1]:
                for place in (channel, channel + 4):
                    conv.weight[place, place, 1, 1] = 1
            convs[-1].weight[:, channel, 1, 1], convs[-1].weight[:, channel + 4, 1, 1] = (
                rgb[channel],
                -rgb[channel],
            )
        bias = convs[-1].bias
        assert bias is not None
        bias.copy_(torch.tensor(SD.latent_rgb_bias))
    path = tmp_path_factory.mktemp("taesd") / "taesd_decoder.safetensors"
    save_file(by_its_maker(own), path)
    return path


def previews(
    engine: Any, job: Job, monkeypatch: pytest.MonkeyPatch, out: Path, **on: Any
) -> tuple[list[Preview], ImageSaved]:
    with monkeypatch.context() as patch:
        changed = options(out, preview_interval_s=1e-9, **on)
        patch.setattr(engine.compute, "_options", changed)
        patch.setattr(previewing, "SHARE", 1e9)  # at every step, whatever it takes
        events = run(engine, job)
    (saved,) = (event for event in events if isinstance(event, ImageSaved))
    return [event.preview for event in events if isinstance(event, StepDone) and event.preview], saved


def test_the_last_preview_of_a_red_circle_on_blue_is_one(engine, fitted, monkeypatch, out):
    monkeypatch.setattr(tiny_vae, "_HALVED_FROM", 16)
    seen, saved = previews(engine, job_for(record(fitted), 256), monkeypatch, out, preview="tiny")
    assert len(seen) == 7  # not after the last step
    last = seen[-1]
    assert (last.width, last.height) == (128, 128)
    pixels = np.frombuffer(last.rgb, np.uint8).reshape(128, 128, 3).astype(int)
    picture = np.asarray(Image.open(saved.path).resize((128, 128))).astype(int)
    more = picture[..., 0] - picture[..., 2]  # red than blue
    for where, sign in ((more > 80, 1), (more < -80, -1)):
        assert where.mean() > 0.1
        assert sign * (pixels[..., 0] - pixels[..., 2])[where].mean() > 60
    assert saved.marks == ()


def test_without_the_option_or_a_small_vae_the_previews_are_the_fast_ones(engine, fitted, monkeypatch, out):
    for tiny, preview in ((record(fitted), "fast"), (None, "tiny")):
        seen, _ = previews(engine, job_for(tiny), monkeypatch, out, preview=preview)
        assert {(each.width, each.height) for each in seen} == {(16, 16)}


def test_memory_that_is_too_small_for_it_is_not_taken_for_a_fault_of_the_file(
    engine, fitted, monkeypatch, out
):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DecoderTiny, "load_state_dict", full)
    _, saved = previews(engine, job_for(record(fitted)), monkeypatch, out, preview="tiny")
    (mark,) = saved.marks
    assert "no memory for the small VAE" in mark


def test_a_file_that_is_no_small_vae_costs_no_picture_and_is_told(engine, fitted, monkeypatch, out, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"1.weight": torch.zeros(64, 4, 3, 3)}, other)
    for path, words in ((other, "other layers than TAESD"), (tmp_path / "gone.safetensors", "gone")):
        seen, saved = previews(engine, job_for(record(path)), monkeypatch, out, preview="tiny")
        assert {(each.width, each.height) for each in seen} == {(16, 16)}
        assert any(words in mark for mark in saved.marks)


def test_every_naming_of_a_file_is_the_same_decoder(tmp_path):
    own = decoder(16)
    namings = {
        "taef1_decoder": by_its_maker(own),
        "taef1": {f"taesd_decoder.{name}": t for name, t in by_its_maker(own).items()},
        "diffusion_pytorch_model": {f"decoder.{name}": t for name, t in own.state_dict().items()},
    }
    latents = torch.randn(16, 8, 8)
    answers = []
    for name, tensors in namings.items():
        save_file(tensors, path := tmp_path / f"{name}.safetensors")
        read = decoder_of(record(path), job_for(None), torch.device("cpu"), torch.float32)
        answers.append(TinyPreviews(read)(latents))
    assert answers[0] is not None
    assert answers[0] == answers[1] == answers[2]
    with pytest.raises(ModelError):
        decoder_of(record(tmp_path / "no.safetensors"), job_for(None), torch.device("cpu"), torch.float32)


def test_a_large_picture_is_decoded_from_every_second_cell():
    drawn = TinyPreviews(decoder())
    small, large = drawn(torch.randn(4, 47, 40)), drawn(torch.randn(4, 48, 40))
    assert small is not None
    assert large is not None
    assert (small.width, small.height, large.width, large.height) == (320, 376, 160, 192)


class Costly(TinyPreviews):
    """Takes so many seconds of a clock that stands still else."""

    def __init__(self, clock: list[float], cost_s: float) -> None:
        super().__init__(decoder())
        self._clock, self._own_cost_s = clock, cost_s

    def __call__(self, latents):
        self._clock[0] += self._own_cost_s
        self.cost_s = self._own_cost_s
        return Preview(width=1, height=1, rgb=b"abc")


@pytest.mark.parametrize("cost_s", [0.001, 0.05, 0.4])
def test_previews_come_as_seldom_as_their_share_of_the_time_asks(monkeypatch, cost_s):
    clock, step_s, steps = [0.0], 0.5, 200
    monkeypatch.setattr(previewing.time, "perf_counter", lambda: clock[0])
    scheduler = type("Flow", (), {"config": {}})()
    previewer = Previewer(torch.zeros(5, 3), scheduler, 1.0, 0.1, tiny=Costly(clock, cost_s))
    latents, seen = torch.zeros(1, 4, 2, 2), 0
    for _ in range(steps):
        clock[0] += step_s
        previewer.hook(None, (latents.clone(), torch.tensor(0.5)), (latents,))
        seen += previewer.take() is not None
    assert seen * cost_s <= SHARE * 1.05 * steps * step_s + cost_s  # the first one is not known
    assert seen >= min(steps, SHARE * steps * step_s / cost_s / 2)


def test_when_memory_runs_out_the_fast_ones_go_on():
    drawn = TinyPreviews(decoder())
    first = drawn._decoder
    assert first is not None
    first.forward = lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    scheduler = type("Flow", (), {"config": {}})()
    previewer = Previewer(torch.zeros(5, 3), scheduler, 1.0, 1e-9, tiny=drawn)
    latents = torch.zeros(1, 4, 2, 2)
    previewer.hook(None, (latents, torch.tensor(0.5)), (latents,))
    preview = previewer.take()
    assert preview is not None
    assert (preview.width, preview.height) == (2, 2)
    assert not drawn.takes(4)


def test_the_library_names_the_small_vae_of_each_family(tmp_path):
    for name, channels in (("taesd_decoder", 4), ("taesdxl_decoder", 4), ("taef1_decoder", 16)):
        save_file(by_its_maker(decoder(channels)), tmp_path / f"{name}.safetensors")
    encoder = {"0.weight": torch.zeros(64, 3, 3, 3), "1.conv.0.weight": torch.zeros(64, 64, 3, 3)}
    save_file(encoder | {"14.weight": torch.zeros(4, 64, 3, 3)}, tmp_path / "a_taesd_encoder.safetensors")
    records = scan([tmp_path])
    assert len(records) == 4
    found = {family: tiny_vae_of(by_id(family), records) for family in ("sd1", "sd2", "sdxl", "flux")}
    stems = {family: tiny.path.rsplit("/", 1)[-1].split("_")[0] for family, tiny in found.items() if tiny}
    assert stems == {"sd1": "taesd", "sd2": "taesd", "sdxl": "taesdxl", "flux": "taef1"}
    assert [r.problem for r in records if "encoder" in r.path and "draws none" in r.problem]
