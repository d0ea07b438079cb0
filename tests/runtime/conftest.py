"""A tiny Stable Diffusion with random weights on disk, and the real engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime.engine import Engine, build
from pipelines.spec.events import Event
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Sampling, Size

SIDE = 64


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A diffusers folder, fp16 safetensors, half a megabyte."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny(folder)
    return folder


def make_tiny(folder: Path) -> None:
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary = make_tokenizer(folder / "tokenizer")
    begin, end = vocabulary - 2, vocabulary - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=77,
                bos_token_id=begin, eos_token_id=end, pad_token_id=end,
            )
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=16,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
        )  # fmt: skip
        vae: Any = AutoencoderKL.from_config(
            {
                "sample_size": SIDE,
                "block_out_channels": [8, 8, 8, 8],
                "norm_num_groups": 4,
                "down_block_types": ["DownEncoderBlock2D"] * 4,
                "up_block_types": ["UpDecoderBlock2D"] * 4,
            }
        )
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    for name, part in (("text_encoder", text_encoder), ("unet", unet), ("vae", vae)):
        part.half().save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX))


INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}


def make_tokenizer(folder: Path) -> int:
    """A CLIP tokenizer with no merges: every character is a token. Answers the size of its vocabulary."""
    from transformers import CLIPTokenizer

    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(code) for code in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    ).save_pretrained(folder)
    return len(words)


@pytest.fixture(scope="session")
def torch_engine(tmp_path_factory, tiny_model) -> Engine:
    """Built once; `engine` is the same one with nothing loaded."""
    return build(options(tmp_path_factory.mktemp("shared")))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def engine(torch_engine, out, monkeypatch) -> Engine:
    torch_engine.compute.drop_caches()
    monkeypatch.setattr(torch_engine, "_options", options(out))
    return torch_engine


def options(folder: Path, **changes) -> EngineOptions:
    return EngineOptions(output_dir=str(folder), device="cpu", threads=1, **changes)


def record_of(folder: Path, **changes) -> ModelRecord:
    return ModelRecord(id="tiny", path=str(folder), title="Tiny", family="sd1", **changes)


def job_of(
    folder: Path,
    *,
    number: int = 1,
    text: str = "a red circle",
    negative: str = "",
    steps: int = 4,
    seed: int = 7,
    count: int = 1,
    scheduler: str = "euler",
    guidance: float = 5.0,
) -> Job:
    request = GenerationRequest(
        model="tiny",
        prompt=Prompt(text=text, negative=negative),
        sampling=Sampling(scheduler=scheduler, num_inference_steps=steps, guidance_scale=guidance, seed=seed),
        size=Size(width=SIDE, height=SIDE),
        count=count,
    )
    return Job(id=number, request=request, model=record_of(folder))


def run(engine: Engine, job: Job, on_event=lambda event: None) -> list[Event]:
    """All events of the job; `on_event` is called in the middle of the work, as the lane's listener is."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        on_event(event)

    engine.run(job, emit)
    return events


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
