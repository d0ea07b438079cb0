"""Models of the world (kept outside the tree as lists of their tensors): each is taken for what it is, and fast."""

from __future__ import annotations

import pytest

from tests.benchmarks import recognise

absent = pytest.mark.skipif(
    not recognise.COLLECTION.is_dir(), reason="the collection of model headers is not on this machine"
)


@absent
def test_every_model_of_the_collection(tmp_path):
    result = recognise.measured(tmp_path)
    assert result.wrong == {}
    assert (result.files, result.folders) == (62, 17)
    assert result.seconds < recognise.MAX_SECONDS
    assert result.mb < recognise.MAX_MB


ANSWER = {
    "kind": "lora",
    "family": "flux",
    "variant": None,
    "quantisation": None,
    "prediction": None,
    "state": "ready",
    "reason": None,
    "needs": [],
    "assumed": [],
}
EXPECTED = {"kind": "lora", "base": "flux", "supported": True}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"kind": "checkpoint"}, {}),
        ({"family": "flux2"}, {}),
        ({"family": None}, {}),
        ({"family": "fl"}, {}),
        ({"state": "unsupported", "reason": "Whatever."}, {}),
        ({"state": "unsupported"}, {"supported": False}),
        ({"reason": "ready and yet not"}, {}),
        ({"quantisation": "Q4_0"}, {}),
        ({}, {"precision": "fp8_e4m3"}),
        ({}, {"variant": "inpaint"}),
        ({}, {"prediction": "epsilon"}),
        ({"prediction": "epsilon"}, {"prediction": "epsilon (name only)", "prediction_decidable": False}),
        ({"needs": ["vae", "clip_l"]}, {"needs": "vae from elsewhere"}),
    ],
    ids=str,
)
def test_the_measure_sees_what_is_wrong(answer, expected):
    right = {"id": "x", "expected": EXPECTED}
    assert recognise._wrong(right, [ANSWER]) == ""
    assert recognise._wrong({"id": "x", "expected": {**EXPECTED, **expected}}, [{**ANSWER, **answer}])
    assert recognise._wrong(right, [])
    assert recognise._wrong(right, [ANSWER, ANSWER])


def test_a_part_that_lacks_another_one_says_which():
    row = {"id": "x", "expected": {**EXPECTED, "supported": "recognised"}}
    lacking = {**ANSWER, "state": "incomplete", "reason": "Its image encoder was not found."}
    assert recognise._wrong(row, [lacking])
    assert recognise._wrong(row, [{**lacking, "needs": ["image_encoder"]}]) == ""
    assert recognise._wrong({**row, "expected": EXPECTED}, [{**lacking, "needs": ["image_encoder"]}])
