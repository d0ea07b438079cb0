"""`plan`: by the headers alone, for the demo models and for the true headers of published files."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli.commands import main
from pipelines.library.folders import demo_root
from pipelines.library.header import read_header
from pipelines.library.models import record_of
from pipelines.library.weights import sizes_of
from pipelines.runtime.placement import RESERVE
from tests.benchmarks.recognise import COLLECTION, ROOT

FILES = (
    "ckpt_sd15_ldm_fp16_pruned",
    "ckpt_sdxl_base_sgm_fp16",
    "ckpt_sdxl_base_fp8",
    "ckpt_sdxl_refiner_sgm_fp16",
    "flux_dev_bfl_bf16",
    "flux_dev_comfy_bundle_fp8",
    "gguf_flux_dev_q4_0",
    "te_clip_l",
    "te_t5xxl_fp8",
    "flux_vae_ae",
)
collection = pytest.mark.skipif(
    not COLLECTION.is_dir(), reason=f"the acceptance collection is not at {COLLECTION}"
)
MILLION = 10**6


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Sparse files with the headers of published ones, and T5's words beside them."""
    folder = tmp_path_factory.mktemp("published")
    script = COLLECTION / "make_safetensors.py"
    subprocess.run([sys.executable, str(script), str(folder), *FILES], check=True, capture_output=True)
    words = folder / "comfy" / "text_encoders" / "t5_tokenizer"
    words.mkdir(parents=True)
    shutil.copy(demo_root() / "flux" / "tokenizer_2" / "tokenizer.json", words)
    return folder


def asked(capsys, *flags: str, status: int = 0) -> dict:
    assert main(["plan", "--json", *flags]) == status
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def part(answer: dict, name: str) -> dict:
    return next(each for each in answer["parts"] if each["name"] == name)


@pytest.mark.parametrize("model", ["demo-sd", "demo-sd-v", "demo-sdxl", "demo-flux"])
def test_a_demo_fits_everywhere(capsys, model):
    answer = asked(capsys, "--model", model, "--vram", "4GB", "--ram", "8GB")
    assert (answer["fits"], answer["rung"], answer["cheaper"]) == (True, "resident", [])
    assert answer["peak_vram"] < answer["free_vram"] == 4 * 2**30 - RESERVE
    record = record_of(demo_root() / model.removeprefix("demo-"))
    twice = part(answer, "vae")["size"] / 2 if model == "demo-sdxl" else 0  # it decodes in float32
    total = sum(each["size"] for each in answer["parts"]) - twice
    assert total == pytest.approx(record.size_bytes, rel=0.1)


def test_without_a_card_it_is_planned_for_the_processor(capsys):
    answer = asked(capsys, "--model", "demo-sd", "--ram", "8GB")
    assert answer["words"] == "everything stays in RAM"
    assert answer["peak_vram"] == 0
    assert answer["free_vram"] is None


def test_a_request_file_and_a_lora(capsys, tmp_path):
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"model": "demo-sd", "prompt": {"text": "a circle"}, "count": 2}))
    plain = asked(capsys, "--request", str(path), "--vram", "6GB")
    lora = asked(capsys, "--request", str(path), "--vram", "6GB", "--lora", "demo-sd-neon")
    assert plain["added"] == 0
    file = demo_root() / "loras" / "sd-neon.safetensors"
    downs = [shape for name, shape in read_header(file).shapes.items() if name.endswith("lora_A.weight")]
    assert downs
    # Half of it lies a second time, multiplied by the weight, in the 16 bits that a card computes with.
    assert lora["added"] == file.stat().st_size + 2 * sum(math.prod(shape) for shape in downs)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (("--vram", "much"), "vram"),
        (("--ram", "8 cups"), "ram"),
        (("--encoders-vram", "8GB"), "encoders_vram"),
        (("--model", "gone", "--vram", "8GB"), "model"),
        (("--size", "13x13", "--vram", "8GB"), "size.width"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(capsys, flags, field):
    assert asked(capsys, *flags, status=2)["field"] == field


@collection
def test_the_bytes_are_those_of_the_published_models(published):
    """Millions of parameters as in tests/benchmarks/truesize/configs.py, two bytes each."""
    (base,) = (published / "ckpt_sdxl_base_sgm_fp16").iterdir()
    sizes = sizes_of([record_of(base)])
    (unet,) = sizes.denoisers
    assert unet.size_bytes == pytest.approx(2 * 2567.5 * MILLION, rel=1e-3)
    assert unet.rest < 0.06 * unet.size_bytes
    assert len(unet.blocks) == 70 + 17  # transformer blocks, residual blocks
    assert sizes.vae == pytest.approx(2 * 83.7 * MILLION, rel=1e-3)
    (fp8,) = (published / "ckpt_sdxl_base_fp8").iterdir()
    assert sizes_of([record_of(fp8)]).denoisers[0].size_bytes < 0.6 * unet.size_bytes


@collection
def test_sdxl_on_a_small_card(capsys, published):
    answer = asked(capsys, "--models", str(published), "--model", "sd_xl_base_1.0", "--vram", "6GB")
    assert (answer["fits"], answer["rung"]) == (True, "partial")
    assert answer["peak_vram"] <= answer["free_vram"]
    unet = part(answer, "unet")
    assert 0 < unet["streamed_blocks"] < 87
    assert "of the U-Net stays on the card, the rest streams" in answer["words"]


@collection
def test_sdxl_with_its_refiner(capsys, published):
    flags = ("--models", str(published), "--model", "sd_xl_base_1.0", "--refiner", "sd_xl_refiner_1.0")
    answer = asked(capsys, *flags, "--vram", "12GB", "--ram", "32GB")
    assert [each["model"] for each in answer["parts"] if each["name"] == "unet"] == [
        "sd_xl_base_1.0",
        "sd_xl_refiner_1.0",
    ]
    assert "the U-Nets and the VAE take turns" in answer["words"]


@collection
@pytest.mark.parametrize(
    ("model", "vram", "rung"),
    [
        ("flux1-dev", "16GB", "partial"),
        ("flux1-dev", "24GB", "stages"),
        ("flux1-dev-fp8", "8GB", "partial"),
        ("flux1-dev-q4_0", "12GB", "encoders_leave"),
        ("v1-5-pruned-emaonly-fp16", "4GB", "resident"),
    ],
)
def test_published_files(capsys, published, model, vram, rung):
    answer = asked(capsys, "--models", str(published), "--model", model, "--vram", vram, "--ram", "48GB")
    assert (answer["fits"], answer["rung"]) == (True, rung)
    assert answer["peak_vram"] <= answer["free_vram"]


@collection
def test_what_does_not_fit_names_two_that_do(capsys, published):
    flags = ("--models", str(published), "--model", "flux1-dev", "--vram", "8GB", "--ram", "16GB")
    answer = asked(capsys, *flags, status=1)
    assert not answer["fits"]
    assert "of RAM" in answer["words"]
    assert [each["words"] for each in answer["cheaper"]] == ["int8 weights", "int4 weights"]
    assert all(each["peak_ram"] <= answer["free_ram"] for each in answer["cheaper"])
    assert main(["plan", *flags]) == 1
    told = capsys.readouterr().out
    assert "does not fit" in told
    assert told.count("What would fit") == 2


@collection
def test_a_picture_too_large_is_offered_smaller(capsys, published):
    flags = ("--models", str(published), "--model", "v1-5-pruned-emaonly-fp16")
    answer = asked(capsys, *flags, "--size", "2048x2048", "--vram", "2.5GB", status=1)
    assert "pixels" in answer["cheaper"][0]["words"]


def test_nothing_heavy_is_imported():
    script = "import sys; from pipelines.cli.commands import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    flags = ("plan", "--model", "demo-sdxl", "--vram", "8GB")
    done = subprocess.run(
        [sys.executable, "-c", script, *flags], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert "everything stays on the card" in done.stdout


def test_text_encoders_on_a_second_card_or_in_ram(capsys):
    flags = ("--model", "demo-flux", "--vram", "8GB", "--encoders-vram")
    second, ram = (asked(capsys, *flags, size) for size in ("4GB", "0"))
    for answer, where in (
        (second, "on a device of its own"),
        (ram, "in RAM, where the processor computes it"),
    ):
        assert part(answer, "text_encoder")["where"] == where
        assert answer["peak_encoders"] > 0
    assert ram["peak_ram"] > second["peak_ram"]
    plain = asked(capsys, *flags[:-1])
    assert plain["peak_encoders"] is None
    assert plain["peak_vram"] > second["peak_vram"] == ram["peak_vram"]
