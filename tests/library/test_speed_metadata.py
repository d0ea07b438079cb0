"""Of what made a picture quicker its metadata has what the picture shows, and nothing of the machine."""

from __future__ import annotations

from pipelines.library.metadata.infotext import infotext, parse
from pipelines.library.metadata.understand import from_infotext, from_own_json
from pipelines.library.metadata.write import own_json
from pipelines.spec.request import GenerationRequest, Prompt, Speed

SHOWN = Speed(step_cache="magcache", cache_limit=0.1)
REQUEST = GenerationRequest(
    model="m", prompt=Prompt(text="a cat"), speed=Speed(step_cache="magcache", cache_limit=0.1, compile=True)
)


def test_our_own_text_brings_the_step_cache_back_and_leaves_the_switches_of_the_machine_away():
    text = own_json(REQUEST, seed=1, image_index=0, seconds=1.0)
    found = from_own_json(text)
    assert found is not None
    assert (found.request.speed, found.notes) == (SHOWN, ())


def test_a_bad_limit_drops_itself_alone():
    text = own_json(REQUEST, seed=1, image_index=0, seconds=1.0)
    found = from_own_json(text.replace('"cache_limit": 0.1', '"cache_limit": "far"'))
    assert found is not None
    assert found.request.speed == Speed(step_cache="magcache")
    assert any("cache_limit" in note for note in found.notes)
    assert found.request.prompt.text == "a cat"


def test_the_common_text_has_it_too():
    text = infotext(REQUEST, model_name="M", seed=1, size=(512, 512))
    assert from_infotext(parse(text)).request.speed == SHOWN
    assert "compile" not in text


def test_a_cache_of_another_program_is_left_alone():
    text = infotext(REQUEST, model_name="M", seed=1, size=(512, 512)).replace("magcache 0.1", "teacache")
    assert from_infotext(parse(text)).request.speed == Speed()
