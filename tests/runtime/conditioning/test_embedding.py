"""Textual inversion in the real engine: the pixels of diffusers, its word alone, and nothing that stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.spec.errors import Cancelled, ModelError, RequestError
from pipelines.spec.events import StageChanged, StepDone
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import EmbeddingInput, GenerationRequest
from tests.runtime.conditioning.add_ons import found, peft
from tests.runtime.conditioning.test_lora import assert_equal, drawn, state_of
from tests.runtime.conftest import run
from tests.runtime.test_families import bare, plain_call, request_of
from tests.runtime.tiny import written

NAMES = ("sd1", "sd2")
WORD = "<ink>"
TEXT = f"a circle in {WORD}, red"
WIDTH = 16


@pytest.fixture(scope="module")
def records(tmp_path_factory, torch_engine) -> dict[str, ModelRecord]:
    folder = tmp_path_factory.mktemp("embeddings")
    return {name: written(folder, by_id(name)) for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)) * 3


def embedding(folder: Path, name: str, count: int = 1, word: str = WORD, seed: int = 0) -> ModelRecord:
    return found(folder / "Ink.safetensors", by_id(name), {word: vectors(count, seed)})


def asked(name: str, *embeddings: ModelRecord, text: str = TEXT) -> GenerationRequest:
    inputs = tuple(EmbeddingInput(model=each.id) for each in embeddings)
    return request_of(by_id(name), text, embeddings=inputs)


def job_of(request: GenerationRequest, record: ModelRecord, *parts: ModelRecord) -> Job:
    return Job(id=1, request=request, model=record, parts={part.id: part for part in parts})


def test_the_library_tells_its_word(tmp_path, name, records):
    record = embedding(tmp_path / "e", name)
    assert (record.kind, record.family, record.problem) == (Kind.EMBEDDING, name, "")
    assert record.trigger_words == (WORD,)


@pytest.mark.parametrize("count", [1, 3])
def test_the_word_draws_as_in_diffusers_and_nothing_stays(engine, records, tmp_path, name, count):
    family, record, ink = by_id(name), records[name], embedding(tmp_path / "e", name, count)
    request = asked(name, ink)
    job = job_of(request, record, ink)
    without = drawn(engine, job_of(request_of(family, TEXT), record))
    before, table = state_of(engine, job, family), engine.compute.load(job, family).tokenizer.get_vocab()
    with_it = drawn(engine, job)
    assert_equal(state_of(engine, job, family), before)
    assert engine.compute.load(job, family).tokenizer.get_vocab() == table
    pipe = bare(record, family, request)
    pipe.load_textual_inversion({WORD: vectors(count)}, token=WORD)
    expected = np.asarray(pipe(**plain_call(request)).images[0])
    assert np.array_equal(with_it, expected)
    assert not np.array_equal(with_it, without)
    assert np.array_equal(drawn(engine, job_of(request_of(family, TEXT), record)), without)


def test_a_prompt_without_the_word_is_as_ever_and_says_so(engine, records, tmp_path):
    family, record, ink = by_id("sd1"), records["sd1"], embedding(tmp_path / "e", "sd1")
    job = job_of(asked("sd1", ink, text="a red circle"), record, ink)
    notes = [event.note for event in run(engine, job) if isinstance(event, StageChanged) and event.note]
    assert notes == [f"The word '{WORD}' of an embedding is not in the prompt, so it changes nothing."]
    plain = drawn(engine, job_of(request_of(family), record))
    assert np.array_equal(drawn(engine, job_of(asked("sd1", ink, text="a red circle"), record, ink)), plain)


def test_the_word_counts_in_the_negative_prompt_and_for_every_file_anew(engine, records, tmp_path):
    record, ink = records["sd1"], embedding(tmp_path / "e", "sd1")
    request = asked("sd1", ink, text="a red circle")
    negative = GenerationRequest.from_dict(
        request.to_dict() | {"prompt": {"text": "a red circle", "negative": WORD}}
    )
    first = drawn(engine, job_of(negative, record, ink))
    assert not np.array_equal(first, drawn(engine, job_of(request, record, ink)))
    embedding(tmp_path / "e", "sd1", seed=4)
    assert not np.array_equal(drawn(engine, job_of(negative, record, ink)), first), (
        "the file is another one now"
    )


def test_two_words_and_a_lora_of_the_text_encoder(engine, records, tmp_path):
    record = records["sd1"]
    ink = embedding(tmp_path / "1", "sd1")
    wool = found(tmp_path / "2" / "wool.safetensors", by_id("sd1"), {"emb_params": vectors(2, seed=7)})
    assert wool.trigger_words == ("wool",)
    both = asked("sd1", ink, wool, text="wool and <ink>")
    pictures = [
        drawn(engine, job_of(request, record, ink, wool))
        for request in (
            both,
            asked("sd1", ink, text="wool and <ink>"),
            asked("sd1", wool, text="wool and <ink>"),
        )
    ]
    lora = found(tmp_path / "3" / "L.safetensors", by_id("sd1"), peft(record, ("text_encoder",)))
    data = both.to_dict() | {"loras": [{"model": lora.id}]}
    pictures.append(drawn(engine, job_of(GenerationRequest.from_dict(data), record, ink, wool, lora)))
    for one in range(4):
        for other in range(one):
            assert not np.array_equal(pictures[one], pictures[other]), (one, other)


def test_a_cancel_leaves_no_word_behind(engine, records, tmp_path):
    family, record, ink = by_id("sd1"), records["sd1"], embedding(tmp_path / "e", "sd1")
    drawn(engine, job_of(request_of(family, TEXT), record))
    job = job_of(asked("sd1", ink), record, ink)
    before = state_of(engine, job, family)
    with pytest.raises(Cancelled):
        run(engine, job, lambda event: job.cancel() if isinstance(event, StepDone) else None)
    assert_equal(state_of(engine, job, family), before)


def test_one_of_another_width_names_its_file(engine, records, tmp_path):
    family, record = by_id("sd1"), records["sd1"]
    wide = found(tmp_path / "e" / "Wide.safetensors", family, {WORD: torch.zeros(1, WIDTH + 1)})
    before = state_of(engine, job_of(request_of(family), record), family)
    with pytest.raises(ModelError, match=r"'Wide' is 17 wide, .* reads 16: .*Wide\.safetensors"):
        run(engine, job_of(asked("sd1", wide), record, wide))
    assert_equal(state_of(engine, job_of(request_of(family), record), family), before)


def test_one_of_another_family_is_refused_with_both_names(engine, records, tmp_path):
    ink = embedding(tmp_path / "e", "sd2")
    with pytest.raises(RequestError) as caught:
        run(engine, job_of(asked("sd1", ink), records["sd1"], ink))
    assert caught.value.field == "embeddings[0].model"
    for word in (ink.title, by_id("sd2").name, by_id("sd1").name):
        assert word in caught.value.message
