"""The recipes of ControlNets and LoRAs, for every base, from first stage to last, with a budget of seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from torch import nn

from assets.demo.recipes import control, flux, flux_denoiser, hints, lora, lora_names, sdxl
from assets.demo.recipes.captions import caption
from assets.demo.recipes.drawings import Drawing, render
from assets.demo.recipes.training import save_checkpoint
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
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

BASE = {"sd": "sd1", "sdxl": "sdxl", "flux": "flux"}
NETS = ("sd-canny", "sd-depth", "sdxl-canny", "flux-canny")
LORAS = ("sd-neon", "sd-mosaic", "sdxl-neon", "flux-neon")
# The recipe of a base, its stages before the denoiser, and where its denoiser is looked for.
BASES: dict[str, tuple[ModuleType, tuple[str, ...], str]] = {
    "sdxl": (sdxl, ("text", "latents"), "unet.pt"),
    "flux": (flux, ("t5", "latents"), "flux.pt"),
}
TINY = ["--batch", "2", "--drawings", "4", "--rate", "0.01"]
STEPS = 8  # at least, however busy the machine is: after one a ControlNet still adds less than a pixel shows
MIB = 2**20


def random_denoiser(name: str) -> nn.Module:
    """As its recipe builds it, but alive: what begins at zero would hide whatever goes on before it."""
    module = flux_denoiser.build() if name == "flux" else sdxl.build()
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return module


def written_base(name: str, folder: Path) -> Path:
    """A demo of chance, by all of its recipe but the training of the denoiser."""
    recipe, before, checkpoint = BASES[name]
    work = folder / "work" / name
    torch.manual_seed(3)
    save_checkpoint(work / checkpoint, {"average": {"module": random_denoiser(name).state_dict()}, "step": 0})
    stages = [word for stage in (*before, "export") for word in ("--stage", stage)]
    recipe.main(["--work", str(work), "--out", str(folder / "demo" / name), "--minutes", str(1 / 60),
                 "--workers", "1", "--drawings", "4", "--batch", "2", *stages])  # fmt: skip
    return folder / "demo" / name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bases of chance, and all that goes beside them and beside demo-sd, made once."""
    folder = tmp_path_factory.mktemp("beside")
    with torch.random.fork_rng():
        models = {name: written_base(name, folder) for name in BASES} | {"sd": demo_root() / "sd"}
        for name in (*NETS, *LORAS):
            base, word = name.split("-")
            kind, recipe = ("--kind", control) if name in NETS else ("--style", lora)
            out = folder / "demo" / (name if name in NETS else "loras")
            work = folder / "work" / kind
            checkpoint = work / (f"{name}.pt" if name in NETS else f"{word}/{base}.pt")
            seconds = 1
            while not checkpoint.exists() or torch.load(checkpoint, weights_only=True)["step"] < STEPS:
                recipe.main(["--base", base, kind, word, "--model", str(models[base]), "--out", str(out),
                             "--work", str(work), "--minutes", str(seconds / 60), *TINY])  # fmt: skip
                seconds *= 2
    return folder


@pytest.fixture(scope="module")
def records(root: Path) -> dict[str, ModelRecord]:
    """Of what is shipped demo-sd alone: the others are made here, under the same names."""
    found = {record.id: record for record in (*scan([demo_root() / "sd"]), *scan([root / "demo"]))}
    assert not {id: record.problem for id, record in found.items() if record.problem}
    return found


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = build(EngineOptions(output_dir=str(tmp_path), preview_interval_s=0))
    yield engine
    engine.close()


def drawn(
    engine: Engine, records: dict[str, ModelRecord], base: str, **changes: object
) -> tuple[np.ndarray, list[object]]:
    """A small picture in four steps, and the events."""
    record = records[f"demo-{base}"]
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


def made_for(record: ModelRecord) -> str:
    """FLUX's two families take the same add-ons."""
    return by_id(record.family).add_ons.base


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_the_library_knows_a_controlnet_for_what_it_is(root, records, name):
    base, kind = name.split("-")
    net = records[f"demo-{name}"]
    assert (net.kind, made_for(net), net.control) == (Kind.CONTROLNET, BASE[base], kind)
    assert size_of(root / "demo" / name) < 2.5 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("name", LORAS)
def test_the_library_knows_a_lora_for_what_it_is(records, name):
    record = records[name]
    assert (record.kind, made_for(record)) == (Kind.LORA, BASE[name.split("-")[0]])
    assert record.size_bytes < MIB / 2
    assert record.title.startswith("Demo: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_the_control_picture_changes_what_is_drawn_and_weight_0_is_none(engine, records, name, tmp_path):
    base = name.split("-")[0]
    steers = []
    for shade in (
        "black",
        "white",
    ):  # after a few steps of training the edges of a drawing change a millionth
        path = tmp_path / f"{shade}.png"
        Image.new("RGB", (64, 64), shade).save(path)
        steers.append(ControlInput(model=f"demo-{name}", path=str(path), weight=5.0))
    pictures = [drawn(engine, records, base, controls=(steer,))[0] for steer in steers]
    off, _ = drawn(engine, records, base, controls=(replace(steers[0], weight=0.0),))
    plain, _ = drawn(engine, records, base)
    assert (pictures[0] != pictures[1]).any()
    assert (pictures[0] != plain).any()
    assert (off == plain).all()


@pytest.mark.slow
def test_the_engine_draws_edges_from_a_plain_picture(engine, records, tmp_path):
    drawing = Drawing(column="left", row="top")
    render(drawing, 1).resize((64, 64)).save(tmp_path / "plain.png")
    hints.canny(Image.open(tmp_path / "plain.png")).save(tmp_path / "edges.png")
    both = [drawn(engine, records, "sd", controls=(
                ControlInput(model="demo-sd-canny", path=str(tmp_path / file), preprocess=first),))[0]
            for file, first in (("plain.png", "canny"), ("edges.png", ""))]  # fmt: skip
    assert (both[0] == both[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", LORAS)
def test_every_layer_of_a_lora_finds_its_place_and_weight_0_is_none(engine, records, name):
    base = name.split("-")[0]
    plain, _ = drawn(engine, records, base)
    off, _ = drawn(engine, records, base, loras=(LoraInput(model=name, weight=0.0),))
    on, told = drawn(engine, records, base, loras=(LoraInput(model=name, weight=8.0),))
    assert (plain == off).all()
    assert (plain != on).any()
    assert "have no place" not in str(told)


@pytest.mark.slow
def test_both_key_formats_say_the_same_layers():
    """The LoRA of one training under the names of kohya and of diffusers."""
    unet = UNet2DConditionModel.from_pretrained(demo_root() / "sd" / "unet", torch_dtype=torch.float32)
    module = lora.with_layers(unet, "unet")
    for parameter in module.parameters():
        parameter.data.normal_() if parameter.requires_grad else None
    layers = lora.layers_of(module)
    family, config = by_id("sd1"), unet.config
    kohya = {key: tensor.float() for key, tensor in lora_names.as_kohya(layers, lora.ALPHA).items()}
    plain = {key: tensor.float() for key, tensor in lora_names.as_diffusers(layers, "unet").items()}
    told = lora_names.told_by_diffusers("unet", lora.RANK, lora.ALPHA, lora.TARGETS["unet"])
    by_kohya = layers_of(Content(kohya, {}), family, config, "kohya")["unet"]
    by_peft = layers_of(Content(plain, told), family, config, "diffusers")["unet"]
    assert by_kohya.keys() == by_peft.keys() == layers.keys()
    assert all(torch.allclose(by_kohya[key], by_peft[key]) for key in layers)


@pytest.mark.slow
def test_one_lora_is_as_sd_scripts_writes_it_and_the_others_as_diffusers(root):
    with safe_open(root / "demo" / "loras" / "sd-mosaic.safetensors", "pt") as file:
        assert all(key.startswith("lora_unet_") for key in file.keys())  # noqa: SIM118 - it is no dict
        assert any(key.endswith(".alpha") for key in file.keys())  # noqa: SIM118
        assert file.metadata()["ss_base_model_version"] == "sd_v1"
    for name, part in {"sd-neon": "unet", "sdxl-neon": "unet", "flux-neon": "transformer"}.items():
        with safe_open(root / "demo" / "loras" / f"{name}.safetensors", "pt") as file:
            assert all(key.startswith(f"{part}.") for key in file.keys())  # noqa: SIM118
            assert json.loads(file.metadata()["lora_adapter_metadata"])[f"{part}.lora_alpha"] == lora.ALPHA


@pytest.mark.slow
def test_nothing_of_this_computer_is_shipped_and_all_can_read_it(root):
    for name in (*NETS, "loras"):
        for path in (root / "demo" / name).rglob("*.*"):
            assert path.stat().st_mode & 0o044 == 0o044, path
            for place in (str(demo_root()), str(root)):
                assert place.encode() not in path.read_bytes(), path


def test_an_unplaced_caption_keeps_quiet_about_place_and_size():
    drawing = Drawing(column="left", row="top", size="small")
    told = [caption(hints.unplaced(drawing), random.Random(seed)) for seed in range(200)]
    for word in ("left", "top", "upper", "small", "little", "tiny"):
        assert not any(word in text.split() for text in told), word
    pair = Drawing(kind="pair", relation="above")
    assert hints.unplaced(pair) == pair
