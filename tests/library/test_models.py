"""The scan: what is a model, what is none, and why. The folders are built here, without weights worth the name."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from pathlib import Path

import pytest

from pipelines.library.folders import demo_root
from pipelines.library.models import INDEX, first_choice, scan
from pipelines.spec.record import Format, Kind
from pipelines.spec.request import Sampling

PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
}


def weights(path: Path, count: int = 64, dtype: str = "F16") -> None:
    size = count * (2 if dtype == "F16" else 4)
    header = json.dumps({"w": {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))


def model(folder: Path, **changes) -> Path:
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None], **PARTS, **changes}
    for part in PARTS:
        (folder / part).mkdir(parents=True)
    for part in ("unet", "vae", "text_encoder"):
        (folder / part / "config.json").write_text("{}")
        weights(folder / part / "model.safetensors")
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def only(root: Path):
    (record,) = scan([root])
    return record


def test_a_whole_folder_is_usable(tmp_path):
    model(tmp_path / "My Model v1.5")
    record = only(tmp_path)
    assert record.problem == ""
    assert (record.id, record.title, record.family) == ("my-model-v1.5", "My Model v1.5", "sd1")
    assert (record.kind, record.format, record.dtype) == (Kind.CHECKPOINT, Format.DIFFUSERS, "float16")
    assert record.prediction == "v_prediction"
    sizes = [file.stat().st_size for file in tmp_path.rglob("*.safetensors")]
    assert record.size_bytes == sum(sizes)


def test_the_demo_model_is_listed_and_usable():
    record = next(record for record in scan([demo_root()]) if record.id == "demo-sd")
    assert record.problem == ""
    assert record.title
    assert record.sampling
    assert record.native_size >= 128
    assert len(record.latent_rgb) == 4


FACTS = {
    "title": "A title",
    "description": "What it draws.",
    "native_size": 256,
    "sampling": {"scheduler": "euler", "num_inference_steps": 15},
    "latent_rgb": [[0.1, 0.2, 0.3]] * 4,
    "latent_rgb_bias": [0.5, 0.4, 0.3],
}


def test_its_own_facts_are_read(tmp_path):
    (model(tmp_path / "m") / "emulsion.json").write_text(json.dumps({"id": "Chosen", **FACTS, "more": 1}))
    record = only(tmp_path)
    assert (record.id, record.title, record.description) == ("chosen", "A title", "What it draws.")
    assert record.native_size == 256
    assert record.sampling == Sampling(scheduler="euler", num_inference_steps=15)
    assert record.latent_rgb == ((0.1, 0.2, 0.3),) * 4
    assert record.latent_rgb_bias == (0.5, 0.4, 0.3)


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("value", [None, True, -1, "", "x", [], [[1]], {"seed": "x"}, [1e999, 0, 0]], ids=str)
def test_a_wrong_fact_leaves_only_itself_out(tmp_path, name, value):
    (model(tmp_path / "m") / "emulsion.json").write_text(json.dumps({**FACTS, name: value}))
    record = only(tmp_path)
    assert record.problem == ""
    others = {"title": "A title", "native_size": 256, "description": "What it draws."}
    for other in others.keys() - {name}:
        assert getattr(record, other) == others[other]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("native_size", 100),
        ("native_size", 16384),
        ("sampling", {"scheduler": "no such sampler"}),
        ("sampling", {"num_inference_steps": 0}),
        ("sampling", {"guidance_scale": 10**400}),
        ("latent_rgb", [[0.1, 0.2, 0.3]]),
    ],
)
def test_a_fact_that_would_fail_every_picture_is_left_out(tmp_path, name, value):
    (model(tmp_path / "m") / "emulsion.json").write_text(json.dumps({**FACTS, name: value}))
    record = only(tmp_path)
    assert record.title == "A title"
    assert not getattr(record, name)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 100_000, "\0\0", " " * 2_000_000, '{"_class_name": ["a"]}']
)
def test_a_damaged_index_is_listed_with_its_reason(tmp_path, content):
    (model(tmp_path / "m") / INDEX).write_text(content)
    assert "damaged" in only(tmp_path).problem or "not supported" in only(tmp_path).problem


def unlink(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def pickled(folder: Path) -> None:
    (folder / "unet" / "model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")


def cut(folder: Path) -> None:
    os.truncate(folder / "vae" / "model.safetensors", 150)


def page(folder: Path) -> None:
    (folder / "unet" / "model.safetensors").write_text("<!DOCTYPE html><html>Sign in</html>")


def shards(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))


BROKEN = {
    "weights gone": (unlink("unet/model.safetensors"), "'unet' has no weights"),
    "config gone": (unlink("vae/config.json"), "config.json is missing"),
    "part gone": (unlink("tokenizer/tokenizer_config.json"), "Parts are missing: tokenizer"),
    "pickle": (pickled, "is a pickle (diffusion_pytorch_model.bin), which can run code"),
    "cut short": (cut, "vae/model.safetensors is incomplete: 150 of"),
    "web page": (page, "is a web page"),
    "shard gone": (shards, "model-00002-of-00002.safetensors is missing"),
    "empty weights": (lambda f: os.truncate(f / "unet" / "model.safetensors", 0), "is empty"),
    "wild header": (
        lambda f: (f / "unet" / "model.safetensors").write_bytes(b"\xff" * 64),
        "not a safetensors",
    ),
}


@pytest.mark.parametrize(
    "entry",
    [None, "unet", [], [None, None], ["diffusers"], ["diffusers", []], [["diffusers"], "Net"], [{}, "Net"]],
)
def test_an_index_that_does_not_name_a_class_is_refused(tmp_path, entry):
    """M3, M12: at the scan, and the scan of the others goes on."""
    model(tmp_path / "broken", unet=entry)
    model(tmp_path / "whole")
    broken, whole = scan([tmp_path])
    assert "'unet'" in broken.problem
    assert whole.problem == ""


@pytest.mark.parametrize("offset", ["1e999", "NaN", "[]", '{"a": 1}', "9" * 4000])
def test_an_offset_that_is_no_number_is_a_damaged_header(tmp_path, offset):
    header = f'{{"w": {{"dtype": "F16", "shape": [1], "data_offsets": [0, {offset}]}}}}'.encode()
    file = model(tmp_path / "m") / "unet" / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    problem = only(tmp_path).problem
    assert "unet/model.safetensors" in problem
    assert "damaged" in problem or "incomplete" in problem


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_says_what_is_wrong_with_it(tmp_path, name):
    """M1 to M4, M11; the scan of the others goes on."""
    break_it, reason = BROKEN[name]
    break_it(model(tmp_path / "broken"))
    model(tmp_path / "whole")
    broken, whole = scan([tmp_path])
    assert reason in broken.problem
    assert whole.problem == ""


def test_code_of_a_model_is_never_run(tmp_path):
    """M5."""
    folder = model(tmp_path / "m", unet=["my_code", "Net"])
    for place in (folder, folder / "unet"):
        (place / "my_code.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')")
    assert "needs code of its own (my_code), which is never run" in only(tmp_path).problem
    assert not (tmp_path / "PWNED").exists()


def test_an_unknown_kind_is_listed_with_its_name(tmp_path):
    """M6."""
    model(tmp_path / "m", _class_name="KolorsPipeline")
    record = only(tmp_path)
    assert "'KolorsPipeline' are not supported" in record.problem
    assert record.family == ""


def test_same_names_are_told_apart_and_stay(tmp_path):
    """M15."""
    for place in ("a", "b", "c"):
        model(tmp_path / place / "Same")
    ids = [record.id for record in scan([tmp_path])]
    assert ids[0] == "same"
    assert len(set(ids)) == 3
    assert ids == [record.id for record in scan([tmp_path])]


def test_depth_links_and_pipes(tmp_path):
    """M14."""
    model(tmp_path / "1" / "2" / "3" / "deep")
    model(tmp_path / "1" / "2" / "3" / "4" / "too deep")
    assert [record.id for record in scan([tmp_path, tmp_path / "1", tmp_path / "missing"])] == ["deep"]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights there")
def test_links_are_followed_once(tmp_path):
    model(tmp_path / "elsewhere" / "m")
    root = tmp_path / "root"
    root.mkdir()
    for name in ("one", "two"):
        (root / name).symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    os.mkfifo(root / INDEX)
    assert [record.id for record in scan([root])] == ["m"]


def test_scanning_writes_nothing(tmp_path):
    model(tmp_path / "m")
    before = sorted(tmp_path.rglob("*"))
    scan([tmp_path, tmp_path / "absent"])
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_choice_the_first_model_draws_and_of_the_demos_the_plainest():
    demos = scan([demo_root()])
    chosen = first_choice(demos)
    assert chosen is not None
    assert chosen.id == "demo-sd"
    own = dataclasses.replace(chosen, id="mine", path="/models/mine")
    assert first_choice((own, *demos)) == own
    assert first_choice((dataclasses.replace(own, problem="It is cut off."), *demos)) == chosen
    assert first_choice(()) is None
