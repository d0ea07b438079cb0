"""The recipes of scorer and upscaler, and the judge of styles, with a budget of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor

from assets.demo.recipes import scorer, small, style_reader, styles, upscaler
from assets.demo.recipes.drawings import Drawing, render
from pipelines.library.folders import demo_root

TINY = ["--minutes", str(1 / 60), "--batch", "2", "--drawings", "6"]
MIB = 2**20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, made once."""
    folder = tmp_path_factory.mktemp("small")
    with torch.random.fork_rng():
        for name, recipe in {"scorer": scorer, "upscaler": upscaler}.items():
            recipe.main(["--work", str(folder / "work" / name), "--out", str(folder / "demo" / name), *TINY])
    return folder


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_the_scorer_is_a_clip_model_whose_processor_sees_what_it_was_trained_on(root):
    folder = root / "demo" / "scorer"
    processor = CLIPProcessor.from_pretrained(folder)
    sheet = render(Drawing(), 1)
    given = processor(text=["a red circle"], images=[sheet], return_tensors="pt", padding=True)  # pyright: ignore[reportCallIssue]
    trained_on = scorer.normalised(small.small(sheet, scorer.SIDE)[None], "cpu")
    assert (given["pixel_values"] - trained_on).abs().mean() < 0.02  # bicubic here, the mean of pixels there
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    assert model(**given).logits_per_image.shape == (1, 1)
    assert size_of(folder) < 2.5 * MIB


@pytest.mark.slow
def test_the_upscaler_is_known_by_its_file_alone_and_doubles(root):
    state = load_file(root / "demo" / "upscaler" / upscaler.FILE)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    model = upscaler.from_state(state)
    told = json.loads((root / "demo" / "upscaler" / "config.json").read_text())
    assert (model.scale, len(model.body)) == (told["upscale"], 2 * told["num_conv"] + 3)
    assert model(torch.rand(1, 3, 12, 20)).shape == (1, 3, 24, 40)
    assert size_of(root / "demo" / "upscaler") < MIB


@pytest.mark.slow
def test_a_recipe_goes_on_where_it_was_stopped(root):
    path = root / "work" / "upscaler" / "upscaler.pt"
    before = torch.load(path, weights_only=True)
    more = ["--minutes", str((before["seconds"] + 2) / 60), "--batch", "2", "--drawings", "6"]
    upscaler.main(["--work", str(path.parent), "--out", str(root / "again"), *more])
    after = torch.load(path, weights_only=True)
    assert after["step"] > before["step"]
    moved = max((after["model"][key] - value).abs().max() for key, value in before["model"].items())
    assert 0 < moved < 0.2, "it goes on from the weights it had"


@pytest.mark.slow
def test_nothing_of_this_computer_is_shipped_and_all_can_read_it(root):
    for path in (root / "demo").rglob("*.json"):
        assert str(demo_root()) not in path.read_text(encoding="utf-8"), path
        assert str(root) not in path.read_text(encoding="utf-8"), path
    for path in (root / "demo").rglob("*.safetensors"):
        assert path.stat().st_mode & 0o044 == 0o044, path


@pytest.mark.slow
def test_the_judge_of_styles_tells_them_apart_after_seconds(root):
    """Far from its full training, but far from one in six too: 8 of 48 by chance, 17 once in a thousand."""
    options = ["--work", str(root / "work" / "judge"), "--minutes", str(20 / 60), "--drawings", "48", "--batch", "16",
               "--unseen", "1"]  # fmt: skip
    style_reader.main(options)
    model = style_reader.load(root / "work" / "judge")
    sheets, numbers = zip(*(style_reader.painted(small.UNSEEN + i) for i in range(48)), strict=True)
    right = [name == style_reader.NAMES[n]
             for name, n in zip(style_reader.read(model, np.stack(sheets)), numbers, strict=True)]  # fmt: skip
    assert sum(right) >= 18


@pytest.mark.parametrize("style", styles.STYLES)
def test_a_style_is_decided_by_drawing_and_seed_and_changes_much(style):
    drawing = Drawing(size="large", background="blue")
    one, again, other = (np.asarray(styles.styled(drawing, seed, style), int) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
    assert np.abs(one - np.asarray(render(drawing, 1), int)).mean() > 8


def test_a_style_says_what_it_cannot_paint():
    with pytest.raises(ValueError, match="'oil' is not one of neon, crayon, mosaic"):
        styles.styled(Drawing(), 1, "oil")
    with pytest.raises(ValueError, match="not scenes"):
        styles.styled(Drawing(kind="scene"), 1, "neon")
