"""The recipes of scorer, upscaler, ControlNet and LoRAs from first stage to last, with a budget of seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor

from assets.demo.recipes import control, lora, scorer, small, style_reader, styles, upscaler
from assets.demo.recipes.captions import caption
from assets.demo.recipes.drawings import Drawing, render
from pipelines.library.models import demo_root, scan
from pipelines.runtime.conditioning.lora_file import layers_of
from pipelines.runtime.conditioning.tensors import Content
from pipelines.runtime.engine import Engine, build
from pipelines.spec.adding import added
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import ControlInput, GenerationRequest, LoraInput, Prompt, Size

TINY = ["--minutes", str(1 / 60), "--batch", "2", "--drawings", "6"]
MIB = 2**20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four, made once."""
    folder = tmp_path_factory.mktemp("small")
    with torch.random.fork_rng():
        for name, recipe in {"scorer": scorer, "upscaler": upscaler, "sd-canny": control}.items():
            recipe.main(["--work", str(folder / "work" / name), "--out", str(folder / "demo" / name), *TINY])
        for style in ("neon", lora.KOHYA):
            lora.main(["--style", style, "--work", str(folder / "work" / "lora"),
                       "--out", str(folder / "demo" / "sd-loras"), *TINY])  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def records(root: Path) -> dict[str, ModelRecord]:
    found = {record.id: record for record in scan([root / "demo", demo_root()])}
    assert not {id: record.problem for id, record in found.items() if record.problem}
    return found


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = build(EngineOptions(output_dir=str(tmp_path), preview_interval_s=0))
    yield engine
    engine.close()


def drawn(
    engine: Engine, records: dict[str, ModelRecord], **changes: object
) -> tuple[np.ndarray, list[object]]:
    """A small picture in four steps by demo-sd, and the events."""
    record = records["demo-sd"]
    assert record.sampling is not None
    plain = GenerationRequest(
        model=record.id, prompt=Prompt(text="a large red circle on a blue background"),
        sampling=replace(record.sampling, num_inference_steps=4), size=Size(width=64, height=64),
    )  # fmt: skip
    request = replace(plain, **changes)
    events: list[object] = []
    engine.run(Job(id=1, request=request, model=record, parts=added(request, records)), events.append)
    (saved,) = [event for event in events if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return np.asarray(picture.convert("RGB")), events


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
def test_the_library_knows_the_controlnet_and_the_loras_for_what_they_are(root, records):
    net = records["demo-sd-canny"]
    assert (net.kind, net.family, net.control) == (Kind.CONTROLNET, "sd1", "canny")
    assert size_of(root / "demo" / "sd-canny") < 4 * MIB
    for name in ("sd-neon", "sd-mosaic"):
        assert (records[name].kind, records[name].family) == (Kind.LORA, "sd1")
        assert records[name].size_bytes < MIB / 2
        assert records[name].title.startswith("Demo: ")


@pytest.mark.slow
def test_the_engine_draws_with_the_controlnet(engine, records, tmp_path):
    render(Drawing(column="left", row="top"), 1).save(tmp_path / "plain.png")
    steer = ControlInput(model="demo-sd-canny", path=str(tmp_path / "plain.png"), preprocess="canny")
    with_it, _ = drawn(engine, records, controls=(steer,))
    assert (with_it != drawn(engine, records)[0]).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd-neon", "sd-mosaic"])
def test_every_layer_of_a_lora_finds_its_place_and_weight_0_is_none(engine, records, name):
    plain, _ = drawn(engine, records)
    off, _ = drawn(engine, records, loras=(LoraInput(model=name, weight=0.0),))
    on, told = drawn(engine, records, loras=(LoraInput(model=name, weight=8.0),))
    assert (plain == off).all()
    assert (plain != on).any()
    assert "have no place" not in str(told)


@pytest.mark.slow
def test_both_key_formats_say_the_same_layers(root):
    """The LoRA of one training under the names of kohya and of diffusers."""
    options = small.parser_of("", "", minutes=0, drawings=1, batch=1, rate=0).parse_args(
        ["--work", str(root)]
    )
    unet = lora.with_layers(control.frozen_unet(options))
    for parameter in unet.parameters():
        parameter.data.normal_() if parameter.requires_grad else None
    layers = lora.layers_of(unet)
    family, config = by_id("sd1"), unet.config
    kohya = {key: tensor.float() for key, tensor in lora.as_kohya(layers).items()}
    plain = {key: tensor.float() for key, tensor in lora.as_diffusers(layers).items()}
    by_kohya = layers_of(Content(kohya, {}), family, config, "kohya")["unet"]
    by_peft = layers_of(Content(plain, lora.told_by_diffusers()), family, config, "diffusers")["unet"]
    assert by_kohya.keys() == by_peft.keys() == layers.keys()
    assert all(torch.allclose(by_kohya[key], by_peft[key]) for key in layers)


@pytest.mark.slow
def test_one_lora_is_as_sd_scripts_writes_it_and_the_others_as_diffusers(root):
    with safe_open(root / "demo" / "sd-loras" / "sd-mosaic.safetensors", "pt") as file:
        assert all(key.startswith("lora_unet_") for key in file.keys())  # noqa: SIM118 - it is no dict
        assert any(key.endswith(".alpha") for key in file.keys())  # noqa: SIM118
        assert file.metadata()["ss_base_model_version"] == "sd_v1"
    with safe_open(root / "demo" / "sd-loras" / "sd-neon.safetensors", "pt") as file:
        assert all(key.startswith("unet.") for key in file.keys())  # noqa: SIM118
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.lora_alpha"] == lora.ALPHA


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
    """Far from its full training, but far from one in six too."""
    options = ["--work", str(root / "work" / "judge"), "--minutes", str(6 / 60), "--drawings", "48", "--batch", "16",
               "--unseen", "1"]  # fmt: skip
    style_reader.main(options)
    model = style_reader.load(root / "work" / "judge")
    sheets, numbers = zip(*(style_reader.painted(small.UNSEEN + i) for i in range(48)), strict=True)
    right = [name == style_reader.NAMES[n]
             for name, n in zip(style_reader.read(model, np.stack(sheets)), numbers, strict=True)]  # fmt: skip
    assert sum(right) >= 24


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


def test_an_unplaced_caption_keeps_quiet_about_place_and_size():
    drawing = Drawing(column="left", row="top", size="small")
    told = [caption(control.unplaced(drawing), random.Random(seed)) for seed in range(200)]
    for word in ("left", "top", "upper", "small", "little", "tiny"):
        assert not any(word in text.split() for text in told), word
    pair = Drawing(kind="pair", relation="above")
    assert control.unplaced(pair) == pair
