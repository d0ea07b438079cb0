"""The recipes of the embedding and the IP-Adapter from first stage to last, with a budget of seconds."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel

from assets.demo.recipes import embedding, image_encoder, ip_adapter, scorer
from assets.demo.recipes.drawings import COLORS, STYLES, Drawing, render
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.engine import build
from pipelines.spec.adding import added
from pipelines.spec.events import ImageSaved
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import EmbeddingInput, GenerationRequest, IpAdapterInput, Prompt, Size

TINY = ["--minutes", str(1 / 60), "--batch", "2", "--drawings", "6"]
MIB = 2**20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, made once."""
    folder = tmp_path_factory.mktemp("prompts")
    with torch.random.fork_rng():
        for name, recipe, more in (
            ("scorer", scorer, []),
            ("sd-embedding", embedding, []),
            ("sd-ip-adapter", ip_adapter, ["--scorer", str(folder / "demo" / "scorer")]),
        ):
            out = ["--work", str(folder / "work" / name), "--out", str(folder / "demo" / name)]
            recipe.main([*out, *TINY, *more])
    return folder


@pytest.fixture(scope="module")
def records(root: Path) -> dict[str, ModelRecord]:
    found = {record.id: record for record in scan([root / "demo", demo_root()])}
    assert not {id: record.problem for id, record in found.items() if record.problem}
    return found


def drawn(records: dict[str, ModelRecord], out: Path, *requests: dict[str, Any]) -> list[np.ndarray]:
    """Small pictures in four steps by demo-sd."""
    record = records["demo-sd"]
    assert record.sampling is not None
    engine = build(EngineOptions(output_dir=str(out), preview_interval_s=0))
    events: list[object] = []
    for changes in requests:
        plain = GenerationRequest(
            model=record.id, prompt=Prompt(text="a <flag>"), size=Size(width=64, height=64),
            sampling=replace(record.sampling, num_inference_steps=4),
        )  # fmt: skip
        request = replace(plain, **changes)
        engine.run(Job(id=1, request=request, model=record, parts=added(request, records)), events.append)
    engine.close()
    paths = [event.path for event in events if isinstance(event, ImageSaved)]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


@pytest.mark.slow
def test_the_engine_draws_with_both(root, records, tmp_path):
    word, pictures = records["sd-embedding"], records["sd-ip-adapter"]
    assert (word.kind, word.family, word.trigger_words) == (Kind.EMBEDDING, "sd1", (embedding.WORD,))
    assert (pictures.kind, pictures.family) == (Kind.IP_ADAPTER, "sd1")
    assert Path(pictures.image_encoder) == root / "demo" / "sd-ip-adapter" / ip_adapter.ENCODER
    render(Drawing(color="green"), 1).save(tmp_path / "shown.png")
    shown = IpAdapterInput(model=pictures.id, path=str(tmp_path / "shown.png"), scale=1.0)
    plain, named, seen = drawn(
        records,
        tmp_path / "out",
        {},
        {"embeddings": (EmbeddingInput(model=word.id),)},
        {"ip_adapters": (shown,)},
    )
    assert (plain != named).any()
    assert (plain != seen).any()


@pytest.mark.slow
def test_both_are_small_and_all_can_read_them(root):
    sizes = {name: sum(p.stat().st_size for p in (root / "demo" / name).rglob("*") if p.is_file())
             for name in ("sd-embedding", "sd-ip-adapter")}  # fmt: skip
    assert sizes["sd-embedding"] < 4096
    assert sizes["sd-ip-adapter"] < 1.5 * MIB
    for path in (root / "demo").rglob("*.safetensors"):
        assert path.stat().st_mode & 0o044 == 0o044, path
    for path in (root / "demo").rglob("*.json"):
        assert str(root) not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_the_image_encoder_answers_as_the_scorer_though_its_pixels_are_openais(root):
    folder = root / "demo" / "scorer"
    encoder: Any = image_encoder.encoder_from(folder)
    clip: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    sheet, side = render(Drawing(), 1), scorer.SIDE
    answers = []
    own: dict[str, Any] = {"image_mean": scorer.MEAN, "image_std": scorer.STD}
    for settings in ({}, own):
        see = CLIPImageProcessor(size=side, crop_size=side, **settings)
        pixels: Any = see(sheet, return_tensors="pt").pixel_values
        if settings:
            answers.append(clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output))
        else:
            answers.append(encoder(pixels).image_embeds)
    assert torch.allclose(*answers, atol=1e-4)


def test_without_a_scorer_it_says_which_recipe_to_run_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ip_adapter.main(["--work", str(tmp_path), "--scorer", str(tmp_path / "gone")])
    assert "python -m assets.demo.recipes.scorer" in capsys.readouterr().err


def test_a_quiet_caption_names_no_colour_and_no_ground():
    for index in range(300):
        drawing = ip_adapter.drawing_number(index)
        text = ip_adapter.quiet(drawing, random.Random(index))
        words = text.replace(",", " ").split()
        assert not {*COLORS, "grey", "background", "watercolor", "outline"} & set(words), text
        assert any(word.startswith((drawing.shape, "disc")) for word in words), text


def test_what_is_shown_has_the_colours_and_the_style_of_what_is_to_be_drawn():
    pairs = [(ip_adapter.drawing_number(i), ip_adapter.shown_number(i)) for i in range(200)]
    for own, shown in pairs:
        assert (own.color, own.background, own.style) == (shown.color, shown.background, shown.style)
    assert {own.style for own, _ in pairs} == set(STYLES)
    assert sum(own.shape != shown.shape for own, shown in pairs) > 100


def test_the_word_is_the_only_hint():
    told = {embedding.said(random.Random(seed)) for seed in range(200)}
    assert all(embedding.WORD in text for text in told)
    assert not any(word in text for text in told for word in ("star", "yellow", "red", "left", "top"))
    assert len(told) == 2 * len(embedding.TEMPLATES)
