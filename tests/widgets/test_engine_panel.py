"""The settings of the engine as a widget: its value, and what cannot be used here with its reason."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox

from pipelines.spec.attention import NAMES
from pipelines.spec.machine import Machine, Option
from pipelines.spec.options import EngineChoice
from widgets.controls import Choice
from widgets.engine_panel import EnginePanel

CARD = Option(id="cuda:0", title="NVIDIA GeForce RTX 4060")
OFF = {"cudnn": "it computes on graphics cards only", "sage": "the package sageattention is not installed"}
MACHINE = Machine(
    devices=(CARD, Option(id="cpu", title="AMD Ryzen 5")),
    attention=tuple(Option(id=name, title=name, why=OFF.get(name, "")) for name in NAMES),
)


@pytest.fixture
def panel(qtbot):
    panel = EnginePanel()
    qtbot.addWidget(panel)
    panel.set_machine(MACHINE)
    return panel


def box(panel, name) -> Choice:
    (found,) = [each for each in panel.findChildren(Choice) if each.accessibleName() == name]
    return found


def repeat_box(panel) -> QCheckBox:
    (found,) = panel.findChildren(QCheckBox)
    return found


def rows(panel, name):
    """Id -> (text, whether it can be taken)."""
    choice = box(panel, name)
    return {
        choice.itemData(at): (
            choice.itemText(at),
            bool(choice.model().flags(choice.model().index(at, 0)) & Qt.ItemFlag.ItemIsEnabled),
        )
        for at in range(choice.count())
    }


def choose(panel, name, value):
    choice = box(panel, name)
    choice.setCurrentIndex(choice.findData(value))


@pytest.mark.parametrize(
    "choice",
    [
        EngineChoice(),
        EngineChoice(device="cuda:0", dtype="float16", attention="math", deterministic=True, threads=3),
        EngineChoice(device="cuda"),  # the first card
        EngineChoice(preview="tiny"),
        EngineChoice(device="cuda:7", attention="cudnn"),  # what is not here stays until somebody changes it
    ],
)
def test_what_is_put_in_comes_out(panel, choice):
    panel.setValue(choice)
    assert panel.value() == choice


def test_the_engines_devices_are_listed_by_their_makers_name(panel):
    found = rows(panel, "Device")
    assert list(found) == ["auto", "cuda:0", "cpu"]
    assert found["cuda:0"] == ("NVIDIA GeForce RTX 4060 (cuda:0)", True)


def test_a_device_that_is_gone_is_named_and_cannot_be_taken_again(panel):
    panel.setValue(EngineChoice(device="cuda:7"))
    text, can = rows(panel, "Device")["cuda:7"]
    assert "does not answer" in text
    assert not can


def test_a_kernel_that_cannot_run_here_says_why_and_is_greyed(panel):
    found = rows(panel, "Attention")
    assert set(found) == set(NAMES)
    for name, why in OFF.items():
        assert why in found[name][0]
        assert not found[name][1]
    assert found["flash"][1]


def test_with_deterministic_only_what_repeats_can_be_taken(panel):
    panel.setValue(EngineChoice(attention="xformers"))
    repeat_box(panel).setChecked(True)
    assert panel.value() == EngineChoice(deterministic=True)
    assert "same bits" in rows(panel, "Attention")["xformers"][0]
    assert not rows(panel, "Attention")["xformers"][1]
    assert rows(panel, "Attention")["math"][1]
    repeat_box(panel).setChecked(False)
    assert rows(panel, "Attention")["xformers"][1]


def test_where_nothing_repeats_the_box_is_greyed_but_can_be_switched_off(panel):
    why = "no kernel of this device is known to give the same bits twice"
    nothing = Machine(attention=(Option(id="deterministic", title="Deterministic", why=why),))
    panel.set_machine(nothing)
    assert not repeat_box(panel).isEnabled()
    assert "Not here: no kernel" in " ".join(repeat_box(panel).toolTip().split())
    panel.setValue(EngineChoice(deterministic=True))
    assert repeat_box(panel).isEnabled()


def test_each_change_is_told_once(panel):
    heard = []
    panel.valueChanged.connect(heard.append)
    choose(panel, "Attention", "math")
    choose(panel, "Precision", "float32")
    choose(panel, "Device", "cpu")
    assert heard == [
        EngineChoice(attention="math"),
        EngineChoice(attention="math", dtype="float32"),
        EngineChoice(attention="math", dtype="float32", device="cpu"),
    ]


def test_before_the_engine_has_looked_everything_can_be_asked_for(qtbot):
    panel = EnginePanel()
    qtbot.addWidget(panel)
    panel.setValue(EngineChoice(device="xpu:1"))
    assert rows(panel, "Device")["xpu:1"][1]
    assert all(can for _, can in rows(panel, "Attention").values())


def test_text_encoders_have_a_choice_where_there_is_a_second_device(panel):
    assert not panel._reading.isHidden()
    assert list(rows(panel, "Text encoders")) == ["", "cuda:0", "cpu"]
    choose(panel, "Text encoders", "cpu")
    assert panel.value() == EngineChoice(encoders_device="cpu")
    panel.set_machine(Machine(devices=(Option(id="cpu", title="AMD Ryzen 5"),)))
    assert not panel._reading.isHidden(), "what is chosen stays to be seen"
    panel.setValue(EngineChoice())
    assert panel._reading.isHidden()


def test_a_device_of_the_text_encoders_that_is_gone_is_kept_and_told(panel):
    panel.setValue(EngineChoice(encoders_device="cuda:1"))
    assert panel.value().encoders_device == "cuda:1"
    assert "does not answer" in rows(panel, "Text encoders")["cuda:1"][0]
