"""`SpeedPanel`: the switches that make a step quicker, behind a button that says how many are on."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QSizePolicy, QToolButton, QWidget

from pipelines.spec.families.base import Family
from pipelines.spec.request import Speed
from pipelines.spec.speed import STEP_CACHES, SWITCHES, Switch, cache_of, offered
from pipelines.spec.validate import Problem
from widgets.controls import Check, Choice, DecimalField
from widgets.field import Field, column, row
from widgets.icons import icon
from widgets.metrics import M
from widgets.plain import name_control, plain_tooltip

_HEAD_TIP = "What makes a step quicker, and what it costs. All is off unless you switch it on."
_LIMIT_TIP = "How far the step cache goes. 'own' is what it was made for."
_CACHE = SWITCHES[0]
_CHECKED = SWITCHES[1:]
_FIELD = "speed"


class SpeedPanel(QWidget):
    """The value is a `Speed`; of what the family has no use for, it has its defaults.

    `head` is always seen and stands where whoever lays out the panels puts it; the panel itself once it was pressed.
    """

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._offered = SWITCHES
        self._make_controls()
        self._make_fields()
        self._connect()
        self._open(False)
        self._show()

    def _make_controls(self) -> None:
        self._head = QToolButton()
        name_control(self._head, "Speed", _HEAD_TIP)
        self._head.setCheckable(True)
        self._head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._head.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._head.setProperty("field", True)
        self.head = Field("Speed", self._head, {})
        self.head.setParent(self)  # until it is laid out elsewhere
        self._cache = Choice(_CACHE.title, _CACHE.words)
        self._cache.addItem("None", "")
        for each in STEP_CACHES:
            self._cache.addItem(each.title, each.id)
        self._limit = DecimalField("Limit of the step cache", _LIMIT_TIP)
        self._limit.setRange(0, 999)  # validate.py says which of them work
        self._limit.setDecimals(3)
        self._limit.setSpecialValueText("own")
        self._checks = {each.id: _check(each) for each in _CHECKED}

    def _make_fields(self) -> None:
        line = row(self._cache, self._limit)
        line.setStretch(0, 1)
        places = {
            f"{_FIELD}.step_cache": self._cache,
            f"{_FIELD}.cache_limit": self._limit,
            _FIELD: self._cache,
        }
        self._fields = {_CACHE.id: Field(_CACHE.title, line, places)}
        for each in _CHECKED:
            check = self._checks[each.id]
            field = Field("", check, {f"{_FIELD}.{each.id}": check})
            field.label.hide()
            self._fields[each.id] = field
        lines = column(self, M)
        for field in self._fields.values():
            lines.addWidget(field)

    def _connect(self) -> None:
        self._head.toggled.connect(self._open)
        self._cache.currentIndexChanged.connect(self._changed)
        self._limit.valueChanged.connect(self._changed)
        for check in self._checks.values():
            check.toggled.connect(self._changed)

    def value(self) -> Speed:
        able = {each.id for each in self._offered}
        name = str(self._cache.currentData()) if _CACHE.id in able else ""
        limit = float(self._limit.value()) or None
        checks = {name: check.isChecked() and name in able for name, check in self._checks.items()}
        return Speed(step_cache=name, cache_limit=limit if name else None, **checks)

    def setValue(self, speed: Speed) -> None:
        for control in (self._cache, self._limit, *self._checks.values()):
            control.blockSignals(True)
        if self._cache.findData(speed.step_cache) < 0:
            self._cache.addItem(speed.step_cache, speed.step_cache)
        self._cache.setCurrentIndex(self._cache.findData(speed.step_cache))
        self._limit.setValue(speed.cache_limit or 0)
        for name, check in self._checks.items():
            check.setChecked(getattr(speed, name))
        for control in (self._cache, self._limit, *self._checks.values()):
            control.blockSignals(False)
        self._changed()

    def set_family(self, family: Family | None) -> None:
        """Only what does something for it is shown. What was set stays for a family where it does."""
        before = self.value()
        self._offered = offered(family) if family else SWITCHES
        self._show()
        if self.value() != before:
            self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        """One that stands here opens the panel: nobody could find it else."""
        for field in self._fields.values():
            field.set_problems(problems)
        if any(field.problem() for field in self._fields.values()):
            self._head.setChecked(True)

    def _open(self, on: bool) -> None:
        self._head.setIcon(icon("chevron-up" if on else "chevron-down"))
        self._show()

    def _show(self) -> None:
        able, on = {each.id for each in self._offered}, self._head.isChecked()
        for name, field in self._fields.items():
            field.setVisible(name in able)
        self.setVisible(on and bool(able))
        self._explain()

    def _explain(self) -> None:
        speed = self.value()
        cache = cache_of(speed.step_cache)
        self._limit.setVisible(bool(speed.step_cache))
        with QSignalBlocker(self._limit):
            self._limit.setSingleStep(1 if cache and cache.whole else 0.01)
        told = f"{_CACHE.words}\n\n{cache.title}: {cache.words}" if cache else _CACHE.words
        self._cache.setToolTip(plain_tooltip(told))
        own = f" {cache.limit_words} Its own is {cache.limit:g}." if cache else ""
        self._limit.setToolTip(plain_tooltip(f"{_LIMIT_TIP}{own}"))
        names = [cache.title if cache else speed.step_cache] if speed.step_cache else []
        names += [each.title for each in _CHECKED if getattr(speed, each.id)]
        self._head.setText(f"{len(names)} on" if names else "All off")
        self._head.setToolTip(
            plain_tooltip(f"{_HEAD_TIP}\n\nOn: {', '.join(names)}." if names else _HEAD_TIP)
        )

    def _changed(self) -> None:
        self._explain()
        self.valueChanged.emit(self.value())


def _check(each: Switch) -> Check:
    check = Check(each.title)
    name_control(check, each.title, each.words)
    return check
