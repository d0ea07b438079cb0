"""Checkpoints in one file as the library sees them: which are whole, which settings and words they have."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipelines.library.clip_words import BEGIN, END, counter, words_of
from pipelines.library.folders import demo_root
from pipelines.library.header import Header
from pipelines.library.models import record_of
from pipelines.library.single_file import CONFIGS, bundled, can_load, lacking, read
from pipelines.library.tokens import count_tokens
from pipelines.spec.errors import ModelError
from pipelines.spec.families import FAMILIES, by_id
from pipelines.spec.record import State
from tests.library.test_detect import SD1
from tests.library.test_parts import file

LOADED = [family for family in FAMILIES if family.file_parts]


def test_clips_words_are_those_of_the_published_tokenizer():
    """The numbers are CLIP's own for these words."""
    words = words_of({})
    assert len(words.vocabulary) == 49408
    assert (words.vocabulary[BEGIN], words.vocabulary[END]) == (49406, 49407)
    ids = (
        counter(words).encode("a photo of an astronaut riding a horse on Mars", add_special_tokens=False).ids
    )
    assert ids == [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496]


def test_a_text_in_any_writing_is_cut_and_joined_again():
    tokenizer = counter(words_of({}))
    assert tokenizer.decode(tokenizer.encode("ü 空間", add_special_tokens=False).ids)
    assert (
        END not in tokenizer.encode("ü 空間 🎨", add_special_tokens=False).tokens
    )  # nothing is unknown to it


@pytest.mark.parametrize(
    "config",
    [
        {"vocabulary": ["a"]},
        {"vocabulary": {BEGIN: 0}},
        {"vocabulary": {BEGIN: 0, END: 1}, "merges": [["a", "b"]]},
        {"vocabulary": {BEGIN: 0, END: "1"}},
        {"vocabulary": {BEGIN: 0, END: 1}, "merges": [["a"]]},
        {"pad_token": "no such word"},
        {"model_max_length": 10**9},
    ],
)
def test_damaged_words_are_refused(config):
    with pytest.raises(ModelError):
        words_of(config)


@pytest.mark.parametrize("family", LOADED, ids=lambda family: family.id)
def test_every_part_of_such_a_family_has_its_settings(family):
    configs = bundled(family)
    assert configs.keys() == set(family.required_parts) - set(family.lent_words)
    assert configs["scheduler"]["num_train_timesteps"] == 1000


def header(**changes) -> Header:
    return replace(Header(dtype="float16", size_bytes=1, shapes=SD1), **changes)


def test_a_part_that_is_not_in_the_file_makes_it_less_than_a_model():
    sd1 = by_id("sd1")
    assert not lacking(header(), sd1)
    for part, row in sd1.file_parts.items():
        rest = {name: shape for name, shape in SD1.items() if not name.startswith(row.prefix)}
        assert lacking(header(shapes=rest), sd1) == [part]


def test_numbers_that_nothing_here_unpacks_are_refused():
    assert all(can_load(header(), word) for word in ("", "fp8_e4m3", "fp8_e4m3_scaled", "nf4"))
    assert not any(can_load(header(), word) for word in ("int8", "int4", "fp4", "svdquant"))
    assert can_load(header(container="gguf", dtypes={"a": "Q4_0", "b": "F32"}), "Q4_0")
    assert not can_load(header(container="gguf", dtypes={"a": "TQ1_0", "b": "F32"}), "TQ1_0")


def test_the_last_step_of_pure_noise_is_told_by_its_mark(tmp_path):
    shapes = {name: tuple(1 for _ in shape) for name, shape in SD1.items()}
    plain = read(file(tmp_path / "plain.safetensors", shapes), by_id("sd1")).configs["scheduler"]
    marked = read(file(tmp_path / "z.safetensors", {**shapes, "ztsnr": ()}), by_id("sd1")).configs[
        "scheduler"
    ]
    assert "rescale_betas_zero_snr" not in plain
    assert (marked["rescale_betas_zero_snr"], marked["timestep_spacing"]) == (True, "trailing")


@pytest.mark.parametrize("text", ["{", "[]", '{"unet": 1}', '{"unet": {}}', "[" * 100_000])
def test_damaged_settings_in_the_file_are_refused(tmp_path, text):
    shapes = {name: tuple(1 for _ in shape) for name, shape in SD1.items()}
    path = file(tmp_path / "a.safetensors", shapes, {CONFIGS: text})
    with pytest.raises(ModelError, match="settings in the file"):
        read(path, by_id("sd1"))


def test_the_tokens_of_a_file_are_counted(tmp_path):
    shapes = {name: tuple(1 for _ in shape) for name, shape in SD1.items()}
    facts = json.dumps({"tokenizer": {}})
    record = record_of(file(tmp_path / "a.safetensors", shapes, {"emulsion.family": "sd1"}))
    assert record.state is State.READY, record.problem
    assert count_tokens(record, "a photo of an astronaut").used == 5
    own = record_of(file(tmp_path / "b.safetensors", shapes, {"emulsion.family": "sd1", CONFIGS: facts}))
    with pytest.raises(ModelError):
        count_tokens(own, "a")
    assert count_tokens(record_of(demo_root() / "sd"), "a red circle").used == 3
