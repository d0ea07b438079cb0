"""The trained demos of all families draw what they are asked, and the ControlNets put it where they are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assets.demo.recipes.drawings import Drawing
from pipelines.library.folders import demo_root
from pipelines.library.models import scan
from pipelines.spec.record import ModelRecord, State
from pipelines.spec.request import Refiner
from tests.benchmarks.demos import control
from tests.benchmarks.demos.engine import draw, request_of
from tests.benchmarks.scoring import judge, read

BASES = {"demo-sd": "sd1", "demo-sd-v": "sd2", "demo-sdxl": "sdxl", "demo-flux": "flux"}
ASKED = (
    ("a large red circle on a blue background", Drawing(color="red", background="blue", size="large")),
    (
        "a yellow triangle on a black background",
        Drawing(shape="triangle", color="yellow", background="black"),
    ),
)
NETS = (("canny", "demo-sd-canny"), ("depth", "demo-sd-depth"), ("canny", "demo-sdxl-canny"))


@pytest.fixture(scope="module")
def records() -> dict[str, ModelRecord]:
    return {record.id: record for record in scan([demo_root()])}


@pytest.mark.parametrize("demo", BASES)
def test_a_demo_of_each_family_draws_what_it_is_asked(records, tmp_path, demo):
    record = records[demo]
    assert (record.family, record.state, record.native_size) == (BASES[demo], State.READY, 256)
    asks = [request_of(record, text, seed) for seed, (text, _) in enumerate(ASKED)]
    for picture, (text, drawing) in zip(draw(asks, records, tmp_path), ASKED, strict=True):
        seen = judge(drawing, read(picture))
        assert seen["color"] + seen["background"] + seen["shape"] == 3, (text, seen)


def test_the_refiner_finishes_a_picture_and_keeps_what_is_on_it(records, tmp_path):
    text, drawing = ASKED[0]
    alone = request_of(records["demo-sdxl"], text, 0)
    both = replace(alone, refiner=Refiner(model="demo-sdxl-refiner"))
    base, refined = draw([alone, both], records, tmp_path)
    assert not np.array_equal(base, refined)
    seen = judge(drawing, read(refined))
    assert seen["color"] + seen["background"] + seen["shape"] == 3, seen


@pytest.mark.parametrize(("kind", "net"), NETS)
def test_a_controlnet_puts_the_subject_where_it_is_shown(records, tmp_path, kind, net):
    base = net.rsplit("-", 1)[0]
    steered, bare = control.asked(kind, net, base, records, tmp_path, 3)
    assert control.mean_overlap(steered, records, tmp_path, "cpu") > 0.7
    assert control.mean_overlap(bare, records, tmp_path, "cpu") < 0.3
