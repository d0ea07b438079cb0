"""Single files to parts: the same picture as from the folder, the published sizes, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.library.places import Place, Source
from pipelines.library.single_file import CONFIGS, PartFile, bundled, read
from pipelines.runtime import device as devices
from pipelines.runtime.loader import _LOADERS
from pipelines.runtime.network import empty
from pipelines.runtime.single_file import NAMES, _tokenizer
from pipelines.spec.errors import Cancelled, ModelError
from pipelines.spec.events import ImageSaved
from pipelines.spec.families import FAMILIES, by_id
from pipelines.spec.job import Job
from pipelines.spec.request import GenerationRequest, Prompt, Size
from pipelines.workshop.convert import convert
from pipelines.workshop.ldm_names import renamed
from tests.benchmarks.recognise import COLLECTION
from tests.benchmarks.truesize.configs import MODELS
from tests.benchmarks.truesize.writing import on_meta
from tests.runtime.conftest import run

DEMOS = ("sd", "sdxl", "flux")
TRUE_SIZES = {"sd1": "sd15", "sdxl": "sdxl", "sdxl-refiner": "refiner", "flux": "flux"}
MANIFESTS = {
    "ckpt_sd15_ldm_fp16_pruned": "sd1",
    "ckpt_sd15_ldm_fp32_ema": "sd1",
    "ckpt_sd15_nai_clip_names": "sd1",
    "ckpt_sd21_768_ldm": "sd2",
    "ckpt_sdxl_base_sgm_fp16": "sdxl",
    "ckpt_sdxl_refiner_sgm_fp16": "sdxl-refiner",
    "flux_dev_comfy_bundle_fp8": "flux",
}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The demo models as single files."""
    folder = tmp_path_factory.mktemp("single")
    for name in (*DEMOS, "sd-v"):
        convert(record_of(demo_root() / name), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def copy(single, tmp_path) -> Path:
    return Path(shutil.copy(single / "sd.safetensors", tmp_path / "Ü ник 空间 'q\" #%.safetensors"))


def job_of(path: Path) -> Job:
    record = record_of(path)
    assert not record.problem, record.problem
    request = GenerationRequest(
        model=record.id,
        prompt=Prompt(text="a red circle on a blue ground", negative="green"),
        sampling=replace(by_id(record.family).sampling, num_inference_steps=3, guidance_scale=3.0, seed=5),
        size=Size(width=128, height=128),
    )
    return Job(id=1, request=request, model=record)


def load(engine, path: Path):
    job = job_of(path)
    return engine.compute.load(job, by_id(job.model.family))


def drawn(engine, path: Path) -> Image.Image:
    (saved,) = [event for event in run(engine, job_of(path)) if isinstance(event, ImageSaved)]
    with Image.open(saved.path) as picture:
        return picture.convert("RGB")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DEMOS, "sd-v"])
def test_the_picture_is_that_of_the_folder_bit_for_bit(engine, single, name):
    ours = drawn(engine, single / f"{name}.safetensors")
    engine.compute.drop_caches()
    theirs = drawn(engine, demo_root() / name)
    assert ours.tobytes() == theirs.tobytes()
    assert len(theirs.getcolors(2**24) or ()) > 100  # and no grey nothing


@pytest.mark.parametrize("name", DEMOS)
def test_what_the_folder_says_of_itself_comes_along(single, name):
    file, folder = record_of(single / f"{name}.safetensors"), record_of(demo_root() / name)
    same = (
        "family",
        "title",
        "description",
        "native_size",
        "sampling",
        "latent_rgb",
        "latent_rgb_bias",
        "dtype",
    )
    assert [getattr(file, fact) for fact in same] == [getattr(folder, fact) for fact in same]
    assert file.prediction == (folder.prediction or by_id(folder.family).prediction)
    assert file.parameters == folder.parameters


def test_the_tokenizer_is_the_folders(single):
    """Built from the words and not from the file of the library, which is how transformers 5.23 does it too."""
    config = read(single / "sd.safetensors", by_id("sd1")).configs["tokenizer"]
    ours, theirs = _tokenizer(config), _LOADERS["CLIPTokenizer"](demo_root() / "sd" / "tokenizer")
    for text in ("a red circle, and a blue SQUARE", "", "ü 空 🎨", "a " * 100):
        kinds = {"padding": "max_length", "truncation": True, "max_length": 77}
        assert ours(text, **kinds).input_ids == theirs(text, **kinds).input_ids
    assert (ours.pad_token_id, ours.model_max_length) == (theirs.pad_token_id, theirs.model_max_length)


def part_file(spelling, prefix, shapes) -> PartFile:
    places = {name: Place("F16", tuple(shape), 0, 0) for name, shape in shapes.items()}
    return PartFile(Source(Path("x"), 0, 0), spelling, prefix, places)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.file_parts], ids=lambda family: family.id)
def test_the_bundled_settings_come_to_the_published_sizes(family):
    flux = dict(MODELS["flux"].millions)
    published = {  # as `MODELS` has the others
        "sd2": {"unet": 865.9, "vae": 83.7, "text_encoder": 340.4},
        "flux-schnell": flux | {"transformer": 11891.2},
    }
    millions = published.get(family.id) or MODELS[TRUE_SIZES[family.id]].millions
    configs = bundled(family)
    for part, row in family.file_parts.items():
        module = empty(row.class_name, configs[part])
        assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions[part], abs=0.1)


@pytest.mark.skipif(not COLLECTION.is_dir(), reason=f"the acceptance collection is not at {COLLECTION}")
@pytest.mark.parametrize("name", MANIFESTS)
def test_published_files_fill_every_weight(name):
    """By the names and shapes of real files, which nobody here made up."""
    manifest = json.loads((COLLECTION / "models" / "manifests" / f"{name}.json").read_text())
    family = by_id(MANIFESTS[name])
    for part, row in family.file_parts.items():
        module = empty(row.class_name, bundled(family)[part])
        own = {n: shape for n, (_dtype, shape) in manifest["tensors"].items() if n.startswith(row.prefix)}
        found = NAMES[row.spelling](part_file(row.spelling, row.prefix, own), module)
        wanted = {n: p.shape for n, p in module.named_parameters()}
        assert {n: found[n].shape for n in wanted} == wanted, part


@pytest.mark.parametrize("family", TRUE_SIZES)
def test_the_names_that_are_written_are_read_again(family):
    """At the true sizes: there and back again no weight is lost, and none is another."""
    for part, row in by_id(family).file_parts.items():
        module: Any = on_meta(MODELS[TRUE_SIZES[family]].parts[part])
        assert module is not None
        wanted = dict(module.named_parameters())
        config = dict(module.config) if hasattr(module, "save_config") else {}
        written = renamed(row.spelling, wanted, config)
        shapes = {row.prefix + w.name: w.make(*(wanted[s] for s in w.sources)).shape for w in written}
        assert len(shapes) == len(written)
        found = NAMES[row.spelling](part_file(row.spelling, row.prefix, shapes), module)
        assert {name: stored.shape for name, stored in found.items()} == {
            n: p.shape for n, p in wanted.items()
        }


@pytest.mark.skipif(not COLLECTION.is_dir(), reason=f"the acceptance collection is not at {COLLECTION}")
@pytest.mark.parametrize(
    ("name", "size"), [("ckpt_sd15_ldm_fp16_pruned", "sd1"), ("ckpt_sdxl_base_sgm_fp16", "sdxl")]
)
def test_other_programs_find_the_names_they_know(name, size):
    """The names written of a model of the true size are those of the published file."""
    manifest = json.loads((COLLECTION / "models" / "manifests" / f"{name}.json").read_text())["tensors"]
    known = {
        n: tuple(shape)
        for n, (_, shape) in manifest.items()
        if not n.endswith(("position_ids", "logit_scale"))
    }
    written = {}
    for part, row in by_id(size).file_parts.items():
        module: Any = on_meta(MODELS[TRUE_SIZES[size]].parts[part])
        assert module is not None
        own = dict(module.named_parameters())
        config = dict(module.config) if hasattr(module, "save_config") else {}
        for each in renamed(row.spelling, own, config):
            written[row.prefix + each.name] = tuple(each.make(*(own[s] for s in each.sources)).shape)
    noise = {n for n in known if not n.startswith(tuple(r.prefix for r in by_id(size).file_parts.values()))}
    assert written == {n: shape for n, shape in known.items() if n not in noise}


@pytest.mark.skipif(not COLLECTION.is_dir(), reason=f"the acceptance collection is not at {COLLECTION}")
def test_other_programs_find_the_text_encoder_of_sd_2():
    """With the last layer, which a folder of it leaves out."""
    manifest = json.loads((COLLECTION / "models" / "manifests" / "ckpt_sd21_768_ldm.json").read_text())[
        "tensors"
    ]
    row = by_id("sd2").file_parts["text_encoder"]
    config = bundled(by_id("sd2"))["text_encoder"]
    own = dict(empty(row.class_name, config).named_parameters())
    written = {}
    for each in renamed(row.spelling, own, config | {"architectures": [row.class_name]}):
        written[row.prefix + each.name] = tuple(each.make(*(own[s] for s in each.sources)).shape)
    unheard = ("text_projection", "logit_scale", "attn_mask")  # what comes after the layer that is read
    known = {n: tuple(shape) for n, (_, shape) in manifest.items() if n.startswith(row.prefix)}
    assert written == {n: shape for n, shape in known.items() if not n.endswith(unheard)}
    assert f"{row.prefix}transformer.resblocks.23.attn.in_proj_weight" in written


def test_weights_are_the_files_own(engine, copy):
    from safetensors import safe_open

    unet = load(engine, copy).unet
    with safe_open(copy, framework="pt") as file:
        theirs = file.get_tensor("model.diffusion_model.out.2.weight")
    assert torch.equal(unet.conv_out.weight, theirs.float())
    assert not any(p.is_meta or p.requires_grad for p in unet.parameters())


def test_the_precision_of_the_file_is_kept_where_it_is_asked_for(copy, monkeypatch):
    from pipelines.runtime.components import ComponentStore
    from pipelines.runtime.loader import Loader
    from pipelines.spec.options import EngineOptions

    monkeypatch.setattr(devices, "computes_in", lambda *_: True)
    store = ComponentStore(lambda: 2**40, lambda: None)
    loader = Loader(store, torch.device("cpu"), EngineOptions(output_dir="", dtype="float16"))
    job = job_of(copy)
    model = loader.load(job, job.model, by_id("sd1"))
    assert {p.dtype for part in ("unet", "vae", "text_encoder") for p in model.parts[part].parameters()} == {
        torch.float16
    }


def test_a_file_that_shrinks_later_does_not_touch_the_loaded_model(engine, copy):
    unet = load(engine, copy).unet
    with copy.open("r+b") as file:
        file.truncate(8)
    assert all(torch.isfinite(p).all() for p in unet.parameters())


def test_a_changed_file_is_read_anew_and_an_unchanged_one_is_not(engine, copy):
    first = load(engine, copy)
    before = engine.compute.store.loads
    assert load(engine, copy).unet is first.unet
    assert engine.compute.store.loads == before
    copy.write_bytes(copy.read_bytes())
    assert load(engine, copy).unet is not first.unet
    assert len([k for k in engine.compute.store.keys() if k.folder.endswith("unet")]) == 1  # noqa: SIM118


def test_a_file_that_is_gone_or_cut_is_refused_with_its_path(engine, copy):
    job = job_of(copy)
    whole = copy.read_bytes()
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError) as caught:
        engine.compute.load(job, by_id("sd1"))
    assert "incomplete" in caught.value.message
    copy.unlink()
    with pytest.raises(ModelError) as caught:
        engine.compute.load(job, by_id("sd1"))
    assert str(copy) in caught.value.message
    assert not engine.compute.store.keys()


def changed(path: Path, *, without: str = "", metadata=None) -> None:
    from safetensors.torch import load_file, save_file

    told = dict(read_header(path).metadata) | (metadata or {})
    tensors = {
        name: t.clone() for name, t in load_file(path).items() if not without or not name.endswith(without)
    }
    save_file(tensors, path, metadata=told)


@pytest.mark.parametrize("name", ["out.2.weight", "decoder.conv_in.bias", "token_embedding.weight"])
def test_weights_that_do_not_fill_the_model_are_refused(engine, copy, name):
    changed(copy, without=name)
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert "missing" in caught.value.message
    assert str(copy) in caught.value.message


def test_settings_that_do_not_fit_the_weights_are_refused(engine, copy):
    configs = json.loads(read_header(copy).metadata[CONFIGS])
    configs["unet"]["block_out_channels"] = [32, 64, 128]
    changed(copy, metadata={CONFIGS: json.dumps(configs)})
    with pytest.raises(ModelError) as caught:
        load(engine, copy)
    assert str(copy) in caught.value.message


def test_settings_choose_no_code(copy, engine, tmp_path):  # M5
    """What a file says of classes and of how to compute is not heard."""
    configs = json.loads(read_header(copy).metadata[CONFIGS])
    hub = {"_attn_implementation": "someone/kernels", "attn_implementation": "someone/kernels"}
    configs["text_encoder"] |= hub | {"auto_map": {"AutoModel": "evil.Evil"}, "dtype": "float64"}
    configs["unet"] |= {"_class_name": "AutoencoderKL"}
    changed(copy, metadata={CONFIGS: json.dumps(configs)})
    model = load(engine, copy)
    assert type(model.unet).__name__ == "UNet2DConditionModel"
    assert model.text_encoder.config._attn_implementation == "sdpa"


def test_a_load_is_cancelled_between_tensors(engine, copy):
    job, checks = job_of(copy), []

    class Impatient:
        request, model = job.request, job.model

        def check(self) -> None:
            checks.append(1)
            if len(checks) == 20:
                raise Cancelled

    loader = engine.compute._loader
    parts = loader.load(Impatient(), job.model, by_id("sd1")).parts
    with pytest.raises(Cancelled):
        parts.ready(parts)
    assert len(checks) == 20
    assert not engine.compute.store.keys()


def test_a_model_that_is_asked_for_as_another_family_is_refused(engine, copy):
    job = job_of(copy)
    job = replace(job, model=replace(job.model, family="sdxl"))
    with pytest.raises(ModelError) as caught:
        engine.compute.load(job, by_id("sdxl"))
    assert str(copy) in caught.value.message
