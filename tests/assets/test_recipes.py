"""Every recipe from its first stage to its last, with a budget of a few steps: it goes on, and the engine can draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from assets.demo.recipes import flux, sd_v, sdxl, sdxl_refiner
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.runtime.engine import build
from pipelines.spec.events import ImageSaved
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Refiner, Size

# The recipe, its family, and the checkpoint and part of the denoiser that it ships.
RECIPES: dict[str, tuple[ModuleType, str, str, str]] = {
    "flux": (flux, "flux", "flux.pt", "transformer"),
    "sdxl": (sdxl, "sdxl", "unet.pt", "unet"),
    "sdxl-refiner": (sdxl_refiner, "sdxl-refiner", "unet.pt", "unet"),
    "sd-v": (sd_v, "sd2", "unet.pt", "unet"),
}
SECOND = str(1 / 60)
Made = Callable[[str], Path]
pytestmark = pytest.mark.slow


def _run(name: str, root: Path, *more: str, minutes: str = SECOND) -> None:
    recipe = RECIPES[name][0]
    base = ["--sdxl", str(root / "sdxl")] if name == "sdxl-refiner" else []
    recipe.main(
        ["--work", str(root / f"{name}-work"), "--out", str(root / name), "--minutes", minutes, "--workers", "1",
         "--drawings", "6", "--batch", "2", *base, *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture(scope="module")
def made(root: Path) -> Made:
    """The finished folder of a recipe, made when it is first asked for."""

    def folder(name: str) -> Path:
        if name == "sdxl-refiner":
            folder("sdxl")
        if not (root / name).exists():
            with torch.random.fork_rng():
                _run(name, root)
        return root / name

    return folder


def _record(folder: Path) -> ModelRecord:
    (record,) = scan([folder])
    assert not record.problem, record.problem
    return record


def _drawn(request: GenerationRequest, model: ModelRecord, out: Path, refiner: ModelRecord | None = None):
    saved: list[str] = []
    engine = build(EngineOptions(output_dir=str(out), preview_interval_s=0))
    engine.run(
        Job(id=1, request=request, model=model, refiner=refiner),
        lambda event: saved.append(event.path) if isinstance(event, ImageSaved) else None,
    )
    engine.close()
    with Image.open(saved[0]) as picture:
        return np.asarray(picture.convert("RGB"))


def _request(record: ModelRecord, **changes: object) -> GenerationRequest:
    assert record.sampling is not None
    return replace(
        GenerationRequest(
            model=record.id, prompt=Prompt(text="a large red circle on a blue background"),
            sampling=replace(record.sampling, num_inference_steps=4), size=Size(width=64, height=64),
        ),
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_the_library_knows_the_folder_for_what_it_is(made, name):
    record = _record(made(name))
    assert (record.family, record.id, record.native_size) == (RECIPES[name][1], f"demo-{name}", 256)
    assert record.size_bytes < 9 * 2**20
    assert len(record.latent_rgb) == 4


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_shipped_is_the_average_of_the_checkpoint_in_half_precision(made, root, name):
    _recipe, _family, checkpoint, part = RECIPES[name]
    trained = torch.load(root / f"{made(name).name}-work" / checkpoint, weights_only=True)["average"][
        "module"
    ]
    shipped = load_file(made(name) / part / "diffusion_pytorch_model.safetensors")
    assert shipped.keys() == trained.keys()
    assert all(torch.equal(shipped[key], trained[key].half()) for key in shipped)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "sdxl-refiner"])
def test_the_engine_draws_with_it(made, name, tmp_path):
    record = _record(made(name))
    assert _drawn(_request(record), record, tmp_path).std() > 0


def test_the_refiner_finishes_what_the_base_began(made, tmp_path):
    base, refiner = _record(made("sdxl")), _record(made("sdxl-refiner"))
    alone = _drawn(_request(base), base, tmp_path)
    together = _request(base, refiner=Refiner(model=refiner.id, switch_at=0.5))
    assert (_drawn(together, base, tmp_path, refiner) != alone).any()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_goes_on_where_it_was_stopped(made, root, name):
    made(name)
    path = root / f"{name}-work" / ("flux.pt" if name == "flux" else "unet.pt")
    before = torch.load(path, weights_only=True)
    more = 2 * before["seconds"] + 2  # however long the first steps took, there is time for another
    _run(name, root, "--stage", "denoiser", minutes=str(more / 60 / 0.8))
    after = torch.load(path, weights_only=True)
    assert after["step"] > before["step"]
    assert after["seconds"] > before["seconds"]
    moved = [(after["model"][key] - value).abs().max() for key, value in before["model"].items()]
    assert 0 < max(moved) < 0.2, "it goes on from the weights it had"


@pytest.mark.parametrize("name", RECIPES)
def test_no_path_of_this_computer_is_shipped(made, name):
    for path in made(name).rglob("*.json"):
        assert str(demo_root()) not in path.read_text(encoding="utf-8"), path
        assert "/tmp" not in path.read_text(encoding="utf-8"), path


def test_a_stage_that_needs_another_says_which(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="run --stage text first"):
        sdxl.main(["--work", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "1", "--drawings", "6",
                   "--minutes", SECOND, "--stage", "denoiser"])  # fmt: skip


def test_the_refiner_says_so_in_its_index(made):
    index = json.loads((made("sdxl-refiner") / "model_index.json").read_text())
    assert index["requires_aesthetics_score"] is True
    assert index["force_zeros_for_empty_prompt"] is False
