"""The flags that only some families take, and the refiner as a second model."""

from __future__ import annotations

import json

import pytest

from pipelines.spec.families import by_id
from pipelines.spec.record import ModelRecord
from tests.cli.conftest import RECORDS

OTHERS = tuple(
    ModelRecord(id=name, path=f"/models/{name}", title=name, family=name)
    for name in ("sdxl", "sdxl-refiner", "flux")
)


@pytest.fixture
def families(headless, monkeypatch):
    monkeypatch.setattr("pipelines.cli.models.scan", lambda roots, **_: (*RECORDS, *OTHERS))
    return headless


def test_every_flag_reaches_its_field(families):
    words = (
        "--prompt a --model sdxl --original-size 2048x1024 --target-size 512x640 --crop-left 8 --crop-top 16 "
        "--refiner SDXL-Refiner --switch-at 0.6 --refiner-steps 30 --refiner-prompt b --aesthetic-score 7 "
        "--negative-aesthetic-score 1.5 --dtype bfloat16"
    )
    seen = []
    families.script = lambda job, emit: seen.append(job)
    status, (first, *_) = families.generate(*words.split())
    assert status == 0
    request = first["request"]
    assert request["size_conditioning"] == {
        "original": {"width": 2048, "height": 1024},
        "target": {"width": 512, "height": 640},
        "crop_left": 8,
        "crop_top": 16,
    }
    assert request["refiner"] == {
        "model": "sdxl-refiner",
        "switch_at": 0.6,
        "num_inference_steps": 30,
        "prompt": "b",
        "aesthetic_score": 7.0,
        "negative_aesthetic_score": 1.5,
    }
    assert seen[0].refiner == OTHERS[1]
    assert families.options.dtype == "bfloat16"


def test_a_family_brings_its_defaults(families):
    for name in ("sdxl", "flux"):
        _, (first, *_) = families.generate("--prompt", "x", "--model", name)
        family, request = by_id(name), first["request"]
        assert request["sampling"]["scheduler"] == family.sampling.scheduler
        assert request["size"] == {"width": 1024, "height": 1024}
        assert request["refiner"] is None
    _, (first, *_) = families.generate("--prompt", "x", "--model", "flux", "--true-cfg", "2")
    assert first["request"]["true_cfg_scale"] == 2.0


def test_flags_win_over_the_files_refiner(families, tmp_path):
    file = tmp_path / "r.json"
    told = {"prompt": {"text": "x"}, "model": "sdxl", "refiner": {"model": "sdxl-refiner", "switch_at": 0.5}}
    file.write_text(json.dumps(told))
    _, (first, *_) = families.generate("--request", str(file), "--switch-at", "0.9")
    assert first["request"]["refiner"]["switch_at"] == 0.9
    file.write_text(json.dumps(told | {"refiner": None, "size_conditioning": None}))
    _, (first, *_) = families.generate("--request", str(file), "--refiner", "sdxl", "--crop-top", "8")
    assert first["request"]["refiner"]["model"] == "sdxl"


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ("--true-cfg 2", "true_cfg_scale"),
        ("--crop-top 8", "size_conditioning"),
        ("--refiner sdxl-refiner", "refiner"),
        ("--model sdxl --refiner nope", "refiner.model"),
        ("--model sdxl --refiner flux", "refiner.model"),
        ("--model sdxl --refiner sdxl --switch-at 2", "refiner.switch_at"),
        ("--model sdxl --refiner sdxl --switch-at x", "refiner.switch_at"),
        ("--model sdxl --switch-at 0.5", "refiner.model"),
        ("--model sdxl --original-size 512", "original_size"),
        ("--model sdxl --original-size 512xb", "size_conditioning.original.height"),
        ("--model sdxl --crop-left -1", "size_conditioning.crop_left"),
        ("--model sdxl-refiner", "model"),
        ("--model flux --sampler Euler", "sampling.scheduler"),
        ("--model flux --size 1032x1024", "size.width"),
        ("--model flux --true-cfg 0", "true_cfg_scale"),
        ("--dtype float8", "dtype"),
    ],
)
def test_what_is_wrong_is_named(families, flags, field):
    status, events = families.generate("--prompt", "x", *flags.split())
    assert (status, events[-1]["field"]) == (2, field)
    assert families.options is None


def test_the_switches_reach_their_fields_and_a_cache_takes_its_limit_along(families):
    families.script = lambda job, emit: None
    _, (first, *_) = families.generate(
        *["--prompt", "a", "--model", "flux", "--step-cache", "taylorseer:4", "--compile", "--fused-qkv"]
    )
    assert first["request"]["speed"] == {
        "step_cache": "taylorseer",
        "cache_limit": 4.0,
        "compile": True,
        "channels_last": False,
        "fused_qkv": True,
    }
    _, (first, *_) = families.generate(*["--prompt", "a", "--model", "flux", "--step-cache", "magcache"])
    assert first["request"]["speed"]["cache_limit"] is None


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("--model sdxl --step-cache first_block", "speed.step_cache"),
        ("--model flux --channels-last", "speed.channels_last"),
        ("--model flux --step-cache first_block:far", "speed.cache_limit"),
        ("--model flux --step-cache first_block:7", "speed.cache_limit"),
        ("--model flux --step-cache teacache", "speed.step_cache"),
        ("--model sdxl --compile --weights fp8", "speed.compile"),
    ],
)
def test_a_switch_that_cannot_be_is_refused_by_its_field(families, words, field):
    status, (error,) = families.generate("--prompt", "a", *words.split())
    assert (status, error["field"]) == (2, field)
