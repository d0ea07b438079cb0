"""Prompts to embeddings: cleaning, chunks, the cache; odd texts (G16)."""

import pytest
import torch

from pipelines.runtime.text import clip
from pipelines.runtime.text.clean import TOO_LONG, UNREADABLE, clean
from pipelines.spec.events import ImageSaved, StageChanged
from pipelines.spec.families import by_id
from pipelines.spec.request import MAX_PROMPT
from tests.runtime.conftest import job_of, run


@pytest.fixture
def model(engine, tiny_model):
    return engine.compute.load(job_of(tiny_model), by_id("sd1"))


def test_plain_text_stays_as_it_is():
    text = "a fox,\n(red:1.2) <lora:x:0.8> 狐 🦊 é\tx"
    assert clean(text).text == text
    assert clean(text).notes == ()


@pytest.mark.parametrize(
    ("text", "kept", "notes"),
    [
        ("a\0b", "ab", (UNREADABLE,)),
        ("a\ud800b", "ab", (UNREADABLE,)),
        ("\x1b[31mred", "[31mred", (UNREADABLE,)),
        ("x" * (MAX_PROMPT + 1), "x" * MAX_PROMPT, (TOO_LONG,)),
        ("", "", ()),
    ],
)
def test_what_cannot_be_read_is_left_out_with_a_note(text, kept, notes):
    assert clean(text).text == kept
    assert clean(text).notes == notes


def test_a_text_of_one_chunk_has_the_ids_of_the_pipeline(model):
    for text in ("", "a red circle", "x" * 75):
        expected = model.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert clip.chunks_of(model.tokenizer, text) == ([expected], False)


def test_longer_text_is_split_every_75_tokens_and_bounded(model):
    chunks, cut = clip.chunks_of(model.tokenizer, "y" * 76)
    begin, end = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    assert [len(chunk) for chunk in chunks] == [77, 77]
    assert all(chunk[0] == begin for chunk in chunks)
    assert chunks[0][-1] == end
    assert chunks[1][2:] == [end] * 75
    assert not cut
    chunks, cut = clip.chunks_of(model.tokenizer, "y" * (75 * clip.MAX_CHUNKS + 1))
    assert len(chunks) == clip.MAX_CHUNKS
    assert cut


def test_both_prompts_get_the_same_length_by_empty_chunks(engine, model, tiny_model):
    job = job_of(tiny_model, text="y" * 150, negative="blue")
    call = engine.compute.encode(job, model, by_id("sd1")).call
    assert call["prompt_embeds"].shape == call["negative_prompt_embeds"].shape == (1, 154, 16)
    empty = clip.embed(model.text_encoder, clip.chunks_of(model.tokenizer, "")[0])
    assert torch.equal(call["negative_prompt_embeds"][:, 77:], empty)


def test_without_guidance_the_negative_prompt_is_not_encoded(engine, model, tiny_model):
    encodes = engine.compute.prompts.encodes
    call = engine.compute.encode(
        job_of(tiny_model, guidance=1.0, negative="never seen"), model, by_id("sd1")
    ).call
    assert set(call) == {"prompt_embeds"}
    assert engine.compute.prompts.encodes <= encodes + 1


@pytest.mark.parametrize(
    ("text", "note"),
    [("", ""), ("\0", UNREADABLE), ("a \ud800 fox", UNREADABLE), ("many words " * 100_000, TOO_LONG), ("🦊" * 99, "")],
    ids=["empty", "nul", "surrogate", "megabyte", "emoji"],
)  # fmt: skip
def test_odd_prompts_make_a_picture_with_a_note(engine, tiny_model, text, note):  # G16
    events = run(engine, job_of(tiny_model, text=text, negative=text, steps=2))
    assert isinstance(events[-1], ImageSaved)
    assert [event.note for event in events if isinstance(event, StageChanged) and event.note] == [
        note
    ] * bool(note)
