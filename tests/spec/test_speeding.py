"""What cannot be chosen together is refused at its field with a sentence; everything else is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.spec.families import by_id
from pipelines.spec.record import Kind, ModelRecord
from pipelines.spec.request import (
    ControlInput,
    GenerationRequest,
    IpAdapterInput,
    LoraInput,
    Prompt,
    Sampling,
    Size,
    Speed,
)
from pipelines.spec.run_time import work_of
from pipelines.spec.speed import STEP_CACHES, SWITCHES, offered
from pipelines.spec.validate import problems

PARTS = {
    kind: ModelRecord(id=kind.value, path=f"/{kind}", title=kind.value, kind=kind, family="sd1")
    for kind in (Kind.LORA, Kind.CONTROLNET, Kind.IP_ADAPTER)
}
ALL = Speed(step_cache="first_block", compile=True, channels_last=True, fused_qkv=True)
ADDED = {
    "lora": {"loras": (LoraInput(model=Kind.LORA.value),)},
    "control": {"controls": (ControlInput(model=Kind.CONTROLNET.value, path="/p.png"),)},
    "ip_adapter": {"ip_adapters": (IpAdapterInput(model=Kind.IP_ADAPTER.value, path="/p.png"),)},
    "packed": {"weights": "int8"},
    "fp8": {"weights": "fp8"},
}


def fields(family: str, speed: Speed, dtype: str = "float16", **more) -> dict[str, str]:
    """The problems with the switches, by their field without its 'speed.'."""
    own = by_id(family)
    record = ModelRecord(id="m", path="/m", title="M", family=family, dtype=dtype)
    side = own.sizes.native
    request = GenerationRequest(
        model="m", prompt=Prompt(text="a"), speed=speed, size=Size(width=side, height=side),
        sampling=Sampling(scheduler=own.sampling.scheduler), **more,
    )  # fmt: skip
    parts = {part.id: replace(part, family=family) for part in PARTS.values()}
    found = problems(request, record, own, None, parts)
    assert all(each.field.startswith("speed.") for each in found), found
    return {each.field.removeprefix("speed."): each.told for each in found}


@pytest.mark.parametrize("family", ["sd1", "sdxl", "flux", "flux-schnell"])
def test_what_a_family_is_offered_can_be_chosen_all_at_once_and_the_rest_does_nothing(family):
    able = {row.id for row in offered(by_id(family))}
    found = fields(family, ALL)
    assert set(found) == {row.id for row in SWITCHES} - able
    assert all("does nothing for" in text for text in found.values())
    assert ("step_cache" in able, "channels_last" in able) == ("flux" in family, "flux" not in family)


@pytest.mark.parametrize(
    ("family", "what", "refused"),
    [
        ("sd1", "lora", {"fused_qkv"}),
        ("sd1", "ip_adapter", {"fused_qkv"}),
        ("sd1", "control", set()),
        ("sd1", "packed", {"fused_qkv", "channels_last"}),
        ("sd1", "fp8", {"fused_qkv", "channels_last", "compile"}),
        ("flux", "lora", {"fused_qkv"}),
        ("flux", "control", {"step_cache"}),
        ("flux", "packed", {"fused_qkv"}),
        ("flux", "fp8", {"fused_qkv", "compile"}),
    ],
)
def test_what_is_refused_beside_something_else(family, what, refused):
    speed = replace(ALL, step_cache="first_block" if family == "flux" else "", channels_last=family == "sd1")
    assert set(fields(family, speed)) == set()
    assert set(fields(family, speed, **ADDED[what])) == refused


def test_a_lora_of_weight_0_is_none_and_a_file_that_is_packed_is_packed():
    assert not fields("sd1", Speed(fused_qkv=True), loras=(LoraInput(model="lora", weight=0.0),))
    assert set(fields("sd1", Speed(fused_qkv=True, compile=True), dtype="Q4_K")) == {"fused_qkv"}
    assert set(fields("sd1", Speed(compile=True), dtype="float8_e4m3fn")) == {"compile"}


@pytest.mark.parametrize("row", STEP_CACHES, ids=lambda row: row.id)
def test_the_limit_of_a_cache_is_its_own(row):
    for limit in (row.limit, row.least, row.most, None):
        assert not fields("flux", Speed(step_cache=row.id, cache_limit=limit)), limit
    wrong = [row.least / 2, row.most * 2, *([row.least + 0.5] if row.whole else [])]
    for limit in wrong:
        assert row.title in fields("flux", Speed(step_cache=row.id, cache_limit=limit))["cache_limit"]


def test_unknown_caches_and_limits_of_none_are_told():
    assert "first_block" in fields("flux", Speed(step_cache="teacache"))["step_cache"]
    assert set(fields("flux", Speed(cache_limit=0.1))) == {"cache_limit"}


def test_times_are_compared_among_pictures_of_the_same_switches():
    def way(speed: Speed) -> str:
        return work_of(GenerationRequest(model="m", speed=speed), by_id("flux")).way

    ways = [way(Speed()), way(Speed(compile=True)), way(Speed(step_cache="first_block"))]
    ways.append(way(Speed(step_cache="first_block", cache_limit=0.2)))
    assert len(set(ways)) == 4
    assert way(Speed(step_cache="first_block")) == way(Speed(step_cache="first_block", cache_limit=0.08))
