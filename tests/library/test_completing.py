"""Denoisers by themselves find their parts among the other models: true headers of published files (M12)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.library import index, models
from pipelines.library.folders import demo_root
from pipelines.spec.lent_parts import WORDS
from pipelines.spec.record import Kind, ModelRecord, State
from tests.benchmarks.recognise import COLLECTION

FILES = (
    "flux_dev_bfl_bf16",
    "flux_dev_comfy_bundle_fp8",
    "flux_vae_ae",
    "te_clip_l",
    "vae_sd1_ldm_bare",
    "gguf_flux_dev_q4_0",
)
pytestmark = pytest.mark.skipif(
    not COLLECTION.is_dir(), reason=f"the acceptance collection is not at {COLLECTION}"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Sparse files with the headers of the published ones; the bundle's T5 also as a file of its own."""
    folder = tmp_path_factory.mktemp("made")
    script = COLLECTION / "make_safetensors.py"
    subprocess.run([sys.executable, str(script), str(folder), *FILES], check=True, capture_output=True)
    return folder


@pytest.fixture
def tree(made, tmp_path) -> Path:
    """As ComfyUI has it."""
    root = tmp_path / "ComfyUI"
    for folder, names in {
        "models/diffusion_models": ("flux_dev_bfl_bf16",),
        "models/unet": ("gguf_flux_dev_q4_0",),
        "models/checkpoints": ("flux_dev_comfy_bundle_fp8",),
        "models/vae": ("flux_vae_ae", "vae_sd1_ldm_bare"),
        "models/text_encoders": ("te_clip_l",),
    }.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            for file in (made / name).iterdir():
                (root / folder / file.name).symlink_to(file)
    t5(root / "models" / "text_encoders" / "t5xxl_fp16.safetensors")
    words = root / "comfy" / "text_encoders" / "t5_tokenizer"
    words.mkdir(parents=True)
    shutil.copy(demo_root() / "flux" / "tokenizer_2" / "tokenizer.json", words)
    return root


def t5(path: Path) -> None:
    """The header of T5-XXL with a hole for the numbers."""
    manifest = json.loads(
        (COLLECTION / "models" / "manifests" / "flux_dev_comfy_bundle_fp8.json").read_text()
    )
    prefix, table, end = "text_encoders.t5xxl.transformer.", {}, 0
    for name, (_dtype, shape) in manifest["tensors"].items():
        if name.startswith(prefix):
            size = 2
            for side in shape:
                size *= side
            table[name.removeprefix(prefix)] = {
                "dtype": "F16",
                "shape": shape,
                "data_offsets": [end, end + size],
            }
            end += size
    text = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def named(root: Path, stem: str) -> ModelRecord:
    (record,) = [r for r in models.scan([root]) if Path(r.path).stem == stem]
    return record


def test_a_transformer_takes_what_it_lacks_from_where_it_lies(tree):
    record = named(tree, "flux1-dev")
    assert (record.kind, record.state, record.problem) == (Kind.TRANSFORMER, State.READY, "")
    assert {part: Path(path).relative_to(tree).as_posix() for part, path in record.borrowed} == {
        "vae": "models/vae/ae.safetensors",
        "text_encoder": "models/text_encoders/clip_l.safetensors",
        "text_encoder_2": "models/text_encoders/t5xxl_fp16.safetensors",
        "tokenizer_2": "comfy/text_encoders/t5_tokenizer",
    }


def test_packed_numbers_are_no_hindrance(tree):
    record = named(tree, "flux1-dev-Q4_0")
    assert (record.state, record.quantisation, len(record.borrowed)) == (State.READY, "Q4_0", 4)


def test_a_bundle_lacks_nothing_but_the_list_of_words(tree):
    bundle = named(tree, "flux1-dev-fp8")
    assert bundle.state is State.READY
    assert [part for part, _path in bundle.borrowed] == ["tokenizer_2"]


@pytest.mark.parametrize(
    ("gone", "named_as"),
    [
        ("models/vae/ae.safetensors", "a VAE"),
        ("models/text_encoders/clip_l.safetensors", "CLIP-L"),
        ("models/text_encoders/t5xxl_fp16.safetensors", "T5-XXL"),
        ("comfy/text_encoders/t5_tokenizer/tokenizer.json", "list of words (tokenizer.json)"),
    ],
)
def test_what_is_missing_is_named_and_nothing_else(tree, gone, named_as):
    (tree / gone).unlink()
    record = named(tree, "flux1-dev")
    assert record.state is State.INCOMPLETE
    assert named_as in record.problem
    others = {"a VAE", "CLIP-L", "T5-XXL", "list of words (tokenizer.json)"} - {named_as}
    assert not any(other in record.problem for other in others)


def test_the_words_alone_may_be_missing_and_what_is_told_goes_with_them(tree):
    words = tree / "comfy/text_encoders/t5_tokenizer/tokenizer.json"
    aside = words.rename(tree / "aside.json")
    assert named(tree, "flux1-dev").lacking == (WORDS,)
    assert named(tree, "flux1-dev-fp8").lacking == (WORDS,)
    (tree / "models/vae/ae.safetensors").unlink()
    assert named(tree, "flux1-dev").lacking == ("vae", WORDS)
    aside.rename(words)
    assert named(tree, "flux1-dev").lacking == ("vae",)
    assert named(tree, "flux1-dev-fp8").lacking == ()


def test_a_vae_of_another_family_is_never_taken(tree):
    (tree / "models/vae/ae.safetensors").unlink()
    assert any(r.kind is Kind.VAE for r in models.scan([tree]))  # that of SD 1.x is still there
    assert named(tree, "flux1-dev").needs == ("vae",)


def test_the_index_completes_what_it_remembers(tree, tmp_path):
    """The parts may come later than the model, which is not read again for it."""
    database = tmp_path / "index.sqlite"
    vae = tree / "models/vae/ae.safetensors"
    aside = vae.rename(tmp_path / "ae.safetensors")

    def found() -> ModelRecord:
        records = index.scan([tree], database=database)
        return next(r for r in records if Path(r.path).stem == "flux1-dev")

    assert found().state is State.INCOMPLETE
    aside.rename(vae)
    assert found().state is State.READY
    vae.rename(aside)
    assert found().state is State.INCOMPLETE
