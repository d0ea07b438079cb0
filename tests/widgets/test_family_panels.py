"""The panels of what only some families take: shown and worth something where the family supports it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.spec.families import by_id
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Refiner, Size, SizeConditioning, Speed
from pipelines.spec.validate import Problem
from widgets.field import Field
from widgets.refiner_panel import RefinerPanel
from widgets.size_conditioning_panel import SizeConditioningPanel
from widgets.speed_panel import SpeedPanel
from widgets.true_cfg_panel import TrueCfgPanel

FULL = SizeConditioning(
    original=Size(width=2048, height=1024), target=Size(width=64, height=64), crop_left=8, crop_top=16
)
RECORDS = (
    ModelRecord(id="xl", path="/xl", title="XL", family="sdxl"),
    ModelRecord(id="r", path="/r", title="R", family="sdxl-refiner"),
    ModelRecord(id="f", path="/f", title="F", family="flux"),
    ModelRecord(id="bad", path="/b", title="B", family="sdxl-refiner", problem="unet is missing."),
)
REFINER = Refiner(
    model="r", switch_at=0.65, num_inference_steps=30, prompt="sharp", aesthetic_score=7.5,
    negative_aesthetic_score=1.5,
)  # fmt: skip


def refiner_panel(qtbot) -> RefinerPanel:
    panel = RefinerPanel()
    qtbot.addWidget(panel)
    panel.set_records(RECORDS)
    panel.set_family(by_id("sdxl"))
    return panel


@pytest.mark.parametrize(
    ("panel_class", "value", "off", "able", "unable"),
    [
        (TrueCfgPanel, 3.5, 1.0, "flux", "sdxl"),
        (SizeConditioningPanel, FULL, SizeConditioning(), "sdxl", "flux"),
    ],
)
def test_a_value_comes_back_and_rests_where_it_has_no_use(qtbot, panel_class, value, off, able, unable):
    panel = panel_class()
    qtbot.addWidget(panel)
    assert panel.value() == off
    panel.set_family(by_id(able))
    panel.setValue(value)
    assert panel.value() == value
    assert not panel.isHidden()
    with qtbot.waitSignal(panel.valueChanged) as told:
        panel.set_family(by_id(unable))
    assert (panel.value(), told.args, panel.isHidden()) == (off, [off], True)
    panel.set_family(by_id(able))
    assert panel.value() == value


def test_one_side_alone_is_told_of_a_square(qtbot):
    panel = SizeConditioningPanel()
    qtbot.addWidget(panel)
    panel._original[0].setValue(512)
    assert panel.value().original == Size(width=512, height=512)


def test_a_refiner_comes_back(qtbot):
    panel = refiner_panel(qtbot)
    assert panel.value() is None
    for refiner in (REFINER, Refiner(model="xl"), Refiner(model="gone", switch_at=0.5), None):
        panel.setValue(refiner)
        assert panel.value() == refiner


def test_only_models_that_fit_are_offered(qtbot):
    panel = refiner_panel(qtbot)
    assert [panel._model.itemData(i) for i in range(panel._model.count())] == ["", "xl", "r"]
    panel.setValue(REFINER)
    panel.set_records(RECORDS[:1])
    assert panel.value() == REFINER
    assert "not found" in panel._model.currentText()


def test_details_are_there_for_a_refiner_and_scores_for_one_that_learned_them(qtbot):
    panel = refiner_panel(qtbot)
    panel.setValue(None)
    assert all(field.isHidden() for field in (*panel._details, *panel._scores))
    panel.setValue(Refiner(model="xl"))
    assert not any(field.isHidden() for field in panel._details)
    assert all(field.isHidden() for field in panel._scores)
    panel.setValue(REFINER)
    assert not any(field.isHidden() for field in panel._scores)
    panel.set_family(by_id("sd1"))
    assert panel.isHidden()
    assert panel.value() is None


def test_problems_stand_at_their_field(qtbot):
    panel = refiner_panel(qtbot)
    panel.setValue(REFINER)
    names = ("model", "switch_at", "num_inference_steps", "aesthetic_score", "negative_aesthetic_score")
    panel.set_problems(tuple(Problem(f"refiner.{name}", name) for name in names))
    assert sorted(field.problem() for field in panel.findChildren(Field) if field.problem()) == sorted(names)


FAST = Speed(step_cache="taylorseer", cache_limit=4.0, compile=True, channels_last=True, fused_qkv=True)


def speed_panel(qtbot, family: str) -> SpeedPanel:
    panel = SpeedPanel()
    qtbot.addWidget(panel)
    panel.set_family(by_id(family))
    return panel


def test_switches_come_back_and_those_of_other_families_rest(qtbot):
    panel = speed_panel(qtbot, "flux")
    assert panel.value() == Speed()
    panel.setValue(FAST)
    assert panel.value() == replace(FAST, channels_last=False)
    panel.set_family(by_id("sdxl"))
    assert panel.value() == Speed(compile=True, channels_last=True, fused_qkv=True)
    panel.set_family(None)
    assert panel.value() == FAST
    panel.setValue(Speed(step_cache="teacache", cache_limit=0.3))
    assert panel.value() == Speed(step_cache="teacache", cache_limit=0.3)


def test_switches_are_folded_away_behind_a_button_that_tells_those_that_are_on(qtbot):
    panel = speed_panel(qtbot, "sdxl")
    assert panel.isHidden()
    assert panel._head.text() == "All off"
    panel.setValue(FAST)
    assert panel._head.text() == "3 on"
    assert "Compile blocks, Channels last, Fused" in panel._head.toolTip()
    panel._head.click()
    assert not panel.isHidden()
    shown = {name for name, field in panel._fields.items() if not field.isHidden()}
    assert shown == {"compile", "channels_last", "fused_qkv"}


def test_a_problem_with_a_switch_opens_the_panel(qtbot):
    panel = speed_panel(qtbot, "flux")
    panel.setValue(FAST)
    names = ("step_cache", "cache_limit", "compile", "fused_qkv")
    panel.set_problems((Problem("size.width", "elsewhere"),))
    assert not panel._head.isChecked()
    panel.set_problems(tuple(Problem(f"speed.{name}", name) for name in names))
    assert sorted(field.problem() for field in panel.findChildren(Field) if field.problem()) == sorted(
        ("step_cache\ncache_limit", "compile", "fused_qkv")
    )
    assert not panel._fields["fused_qkv"].isHidden()


def test_a_cache_has_its_own_limit_until_another_is_said(qtbot):
    panel = speed_panel(qtbot, "flux")
    panel._head.click()
    panel.setValue(Speed(step_cache="first_block"))
    assert panel.value() == Speed(step_cache="first_block")
    assert "0.08" in panel._limit.toolTip()
    panel._limit.setValue(0.2)
    assert panel.value() == Speed(step_cache="first_block", cache_limit=0.2)
    panel.setValue(Speed())
    assert panel._limit.isHidden()
