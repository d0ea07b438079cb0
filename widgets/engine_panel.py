"""`EnginePanel`: the device, its precision, attention, whether pictures repeat to the bit, and what previews are."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.attention import ATTENTION, AUTO, DETERMINISTIC, attention_of
from pipelines.spec.machine import Machine, Option
from pipelines.spec.options import EngineChoice
from widgets.controls import Check, Choice, NumberField
from widgets.field import Field, column
from widgets.metrics import XS, M, TextSize
from widgets.plain import Label, name_control, plain_tooltip

_DEVICE_TIP = (
    "What draws the pictures. Automatic takes the first graphics card that answers, else the processor, which takes "
    "many times as long."
)
_ENCODERS_TIP = (
    "What reads the prompt. On another device than the rest the text encoders stay there for good, and leave the card "
    "to what draws. On the processor a long prompt takes some seconds, once; the picture is the same but for its last "
    "bits."
)
_DTYPE_TIP = (
    "How many bits a number has while a picture is computed. 16 bits are quicker on a card and take half the memory; "
    "32 are exact, and what a processor is quickest in. Pictures differ in small details."
)
_DTYPES = (
    Option(id="auto", title="Automatic: as suits device and model"),
    Option(id="float32", title="32 bits (float32)"),
    Option(id="float16", title="16 bits (float16)"),
    Option(id="bfloat16", title="16 bits with a wide range (bfloat16)"),
)
_ATTENTION_TIP = (
    "The part of a model that takes longest on large pictures can be computed in several ways. All but SageAttention "
    "give the same picture but for its last bits."
)
_REPEAT_TIP = (
    "The same request makes the same picture again on this computer, to the bit. It costs some speed on a graphics "
    "card. Automatic attention then takes the first kernel that is known to repeat."
)
_THREADS_TIP = (
    "How many threads of the processor compute; 'all' leaves it to torch. Fewer leave room for other programs, and a "
    "picture takes longer. The picture is the same."
)
_PREVIEW_TIP = (
    "What is shown while a picture forms. A small VAE (TAESD, TAESDXL, TAEF1) among the models draws it sharper, as "
    "often as costs no more than a twentieth of the time; without one for the model, previews are the fast ones. The "
    "picture is the same."
)
_PREVIEWS = (
    Option(id="fast", title="Fast: its colours, a little blurred"),
    Option(id="tiny", title="Sharper: by a small VAE where there is one"),
)
_FLAGS = Qt.ItemDataRole.UserRole - 1  # where Qt's own model of a combo box keeps what can be done with a row
_NOT_REPEATING = "it is not known to give the same bits twice"


class EnginePanel(QWidget):
    """The value is an `EngineChoice`. What `Machine` says cannot be used here is listed with its reason, and greyed."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._machine = Machine()
        self._device = Choice("Device", _DEVICE_TIP)
        self._encoders = Choice("Text encoders", _ENCODERS_TIP)
        self._dtype = Choice("Precision", _DTYPE_TIP)
        self._attention = Choice("Attention", _ATTENTION_TIP)
        self._repeat = Check("Pictures repeat to the bit")
        name_control(self._repeat, "Deterministic", _REPEAT_TIP)
        self._threads = NumberField("Threads", _THREADS_TIP)
        self._threads.setRange(0, 1024)
        self._threads.setSpecialValueText("all")
        self._preview = Choice("Previews", _PREVIEW_TIP)
        self._words = Label("", TextSize.SMALL, muted=True, wrap=True)
        self._problems = Label("", TextSize.SMALL, wrap=True)
        self._problems.setVisible(False)
        self._lay_out()
        _fill(self._dtype, _DTYPES, "auto")
        _fill(self._preview, _PREVIEWS, "fast")
        self.setValue(EngineChoice())
        for choice in (self._device, self._encoders, self._dtype, self._attention, self._preview):
            choice.currentIndexChanged.connect(self._changed)
        self._repeat.toggled.connect(self._changed)
        self._threads.valueChanged.connect(self._changed)

    def _lay_out(self) -> None:
        lines = column(self, M)
        lines.addWidget(Field("Device", self._device, {"device": self._device}))
        self._reading = Field("Text encoders", self._encoders, {"encoders_device": self._encoders})
        lines.addWidget(self._reading)
        for label, control in (("Precision", self._dtype), ("Attention", self._attention)):
            lines.addWidget(Field(label, control, {label.lower(): control}))
        lines.addSpacing(XS - M)
        lines.addWidget(self._words)
        lines.addWidget(self._repeat)
        lines.addWidget(Field("Previews", self._preview, {"preview": self._preview}))
        lines.addWidget(Field("Threads of the processor", self._threads, {"threads": self._threads}))
        lines.addWidget(self._problems)

    def value(self) -> EngineChoice:
        return EngineChoice(
            device=self._device.currentData(),
            encoders_device=self._encoders.currentData(),
            dtype=self._dtype.currentData(),
            attention=self._attention.currentData(),
            deterministic=self._repeat.isChecked(),
            threads=self._threads.value(),
            preview=self._preview.currentData(),
        )

    def setValue(self, choice: EngineChoice) -> None:
        """One that cannot be used here is shown all the same, so that nothing changes unasked."""
        with QSignalBlocker(self._repeat), QSignalBlocker(self._threads):
            self._repeat.setChecked(choice.deterministic)
            self._threads.setValue(choice.threads)
        _fill(self._dtype, _DTYPES, choice.dtype)
        _fill(self._preview, _PREVIEWS, choice.preview)
        self._fill(choice.device, choice.attention, choice.encoders_device)
        self._changed()

    def set_machine(self, machine: Machine) -> None:
        self._machine = machine
        self._problems.setText("\n".join(machine.problems))
        self._problems.setVisible(bool(machine.problems))
        self._fill(self._device.currentData(), self._attention.currentData(), self._encoders.currentData())

    def _fill(self, device: str, attention: str, encoders: str) -> None:
        why = next((each.why for each in self._machine.attention if each.id == DETERMINISTIC), "")
        self._repeat.setEnabled(not why or self._repeat.isChecked())
        self._repeat.setToolTip(plain_tooltip(f"{_REPEAT_TIP}\n\nNot here: {why}." if why else _REPEAT_TIP))
        _fill(self._device, self._devices(device), device)
        _fill(self._encoders, self._readers(encoders), encoders)
        self._reading.setVisible(len(self._machine.devices) > 1 or bool(encoders))
        _fill(self._attention, self._kernels(), attention)

    def _devices(self, chosen: str) -> Iterable[Option]:
        yield Option(id="auto", title="Automatic")
        known = self._machine.devices or (Option(id="cpu", title="Processor"),)
        for each in known:
            yield Option(id=each.id, title=f"{each.title} ({each.id})", why=each.why)
        # 'cuda' is the first of them.
        if chosen != "auto" and not any(each.id in (chosen, f"{chosen}:0") for each in known):
            why = "it does not answer" if self._machine.devices else ""
            yield Option(id=chosen, title=chosen, why=why)
        elif chosen != "auto" and all(each.id != chosen for each in known):
            yield Option(id=chosen, title=f"The first of them ({chosen})")

    def _readers(self, chosen: str) -> Iterable[Option]:
        yield Option(id="", title="With the rest")
        for each in self._machine.devices:
            yield Option(id=each.id, title=f"{each.title} ({each.id})", why=each.why)
        if chosen and all(each.id != chosen for each in self._machine.devices):
            why = "it does not answer" if self._machine.devices else ""
            yield Option(id=chosen, title=chosen, why=why)

    def _kernels(self) -> Iterable[Option]:
        off = {each.id: each.why for each in self._machine.attention}
        for row in ATTENTION:
            why = off.get(row.id, "")
            if self._repeat.isChecked() and not row.repeats and row.id not in (AUTO, DETERMINISTIC):
                why = why or _NOT_REPEATING
            yield Option(id=row.id, title=row.title, why=why)

    def _changed(self) -> None:
        chosen = self._attention.currentData()
        if self._repeat.isChecked() and not (chosen in (AUTO, DETERMINISTIC) or attention_of(chosen).repeats):
            chosen = AUTO
        _fill(self._attention, self._kernels(), chosen)
        self._words.setText(attention_of(chosen).words)
        self.valueChanged.emit(self.value())


def _fill(choice: Choice, options: Iterable[Option], chosen: str) -> None:
    """The options in place of those before; one that is off stands there with its reason, and cannot be taken."""
    with QSignalBlocker(choice):
        choice.clear()
        for at, option in enumerate(options):
            text = f"{option.title}: {option.why}" if option.why else option.title
            choice.addItem(text, option.id)
            choice.setItemData(at, plain_tooltip(text), Qt.ItemDataRole.ToolTipRole)
            if option.why:
                choice.setItemData(at, 0, _FLAGS)
        choice.setCurrentIndex(max(0, choice.findData(chosen)))
