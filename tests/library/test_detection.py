"""Which family a diffusers folder belongs to, by its class and the configs of its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.library.models import INDEX, scan
from pipelines.spec.errors import ModelError
from pipelines.spec.families import detected
from pipelines.spec.families.base import FolderFacts
from tests.library.test_models import PARTS, model

XL_PARTS = {
    **PARTS,
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}


def facts(class_name: str, parts: Any = PARTS, **configs: Any) -> FolderFacts:
    return FolderFacts(class_name=class_name, parts=frozenset(parts), configs=configs)


def sd(cross: int, hidden: int) -> FolderFacts:
    return facts(
        "StableDiffusionPipeline",
        unet={"cross_attention_dim": cross, "in_channels": 4},
        text_encoder={"hidden_size": hidden},
    )


# The values of the published folders.
KNOWN = {
    "sd1": sd(768, 768),
    "sd2": sd(1024, 1024),
    "sdxl": facts(
        "StableDiffusionXLPipeline", XL_PARTS, unet={"cross_attention_dim": 2048, "in_channels": 4}
    ),
}
FLUX_PARTS = (*(part for part in XL_PARTS if part != "unet"), "transformer")
KNOWN |= {
    name: facts("FluxPipeline", FLUX_PARTS, transformer={"guidance_embeds": guided, "in_channels": 64})
    for name, guided in (("flux", True), ("flux-schnell", False))
}
REFINER_PARTS = [part for part in XL_PARTS if part not in ("text_encoder", "tokenizer")]
KNOWN["sdxl-refiner"] = facts(
    "StableDiffusionXLImg2ImgPipeline", REFINER_PARTS, unet={"cross_attention_dim": 1280, "in_channels": 4}
)


@pytest.mark.parametrize("family", KNOWN)
def test_the_published_models_are_told_apart(family):
    assert detected(KNOWN[family]).id == family


def test_a_reduced_model_is_its_class_and_its_maker_may_say_more():
    assert detected(sd(128, 128)).id == "sd1"
    assert detected(sd(128, 128), "sd2").id == "sd2"
    assert detected(facts("StableDiffusionXLImg2ImgPipeline", XL_PARTS)).id == "sdxl"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (sd(2048, 2048), "cross_attention_dim 2048"),
        (sd(768, 1280), "hidden_size 1280"),
        (facts("StableDiffusionPipeline", unet={"in_channels": 7}), "in_channels 7"),
        (
            facts("StableDiffusionPipeline", unet={"cross_attention_dim": "wide"}),
            "cross_attention_dim 'wide'",
        ),
        (facts("FluxFillPipeline", FLUX_PARTS), "'FluxFillPipeline' are not supported"),
        (facts("KolorsPipeline"), "'KolorsPipeline' are not supported"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.class_name,
)
def test_what_is_of_no_family_says_why(found, reason):
    with pytest.raises(ModelError) as caught:
        detected(found)
    assert found.class_name in caught.value.message
    assert reason in caught.value.message
    assert "Stable Diffusion XL" in caught.value.hint


def test_a_makers_word_does_not_make_a_model_of_another_class(tmp_path):
    assert detected(KNOWN["sdxl"], "sdxl").id == "sdxl"
    with pytest.raises(ModelError):
        detected(KNOWN["sdxl"], "sd1")


def test_the_scan_reads_the_configs(tmp_path):
    folder = model(tmp_path / "m")
    (folder / "unet" / "config.json").write_text('{"cross_attention_dim": 1024, "sample_size": 96}')
    (record,) = scan([tmp_path])
    assert (record.family, record.native_size, record.problem) == ("sd2", 768, "")
    (folder / "emulsion.json").write_text('{"family": "sd1", "native_size": 256}')
    (record,) = scan([tmp_path])
    assert (record.family, record.native_size) == ("sd1", 256)


def test_what_predicts_something_else_is_not_taken_for_noise(tmp_path):
    folder = model(tmp_path / "m")
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "sample"}')
    (record,) = scan([tmp_path])
    assert "predict 'sample' are not supported" in record.problem


@pytest.mark.parametrize("size", [True, [64, 64], 63, -8, 10**9, "64", None])
def test_an_odd_sample_size_is_no_native_size(tmp_path: Path, size: Any):
    folder = model(tmp_path / "m")
    (folder / "unet" / "config.json").write_text(json.dumps({"sample_size": size}))
    (record,) = scan([tmp_path])
    assert record.problem == ""
    assert record.native_size == (504 if size == 63 else 0)
    assert (folder / INDEX).is_file()
