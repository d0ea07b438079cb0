"""`SamplingPanel`: how the picture is drawn: sampler, schedule, steps, guidance, seed."""

from __future__ import annotations

from PySide6.QtCore import QRandomGenerator, QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.errors import RequestError
from pipelines.spec.families.base import Family, Feature, Prediction
from pipelines.spec.request import MAX_SEED, Sampling
from pipelines.spec.schedulers import SchedulerRow, fitting, samplers, scheduler_by_id
from pipelines.spec.validate import MAX_COUNT, Problem
from widgets.controls import Choice, DecimalField, IconButton, NumberField, Slider
from widgets.field import Field, column, row
from widgets.icons import icon
from widgets.metrics import XS, M
from widgets.plain import plain_tooltip
from widgets.seed_field import SeedField
from widgets.slider_field import SliderRow

_SAMPLER_TIP = "How each step removes noise. Each sampler draws the same seed a little differently."
_SCHEDULE_TIP = "How the noise is spread over the steps. Karras spends more of them on fine detail."
_STEPS_TIP = "How often the model refines the picture. More steps take longer; past 30 little changes."
_GUIDANCE_TIP = "How closely the picture follows the prompt. Low is free and soft, high is literal and harsh."
_SEED_TIP = (
    "The number that the noise starts from. The same seed with the same settings gives the same picture."
)
_DICE_TIP = "Take another random seed: another picture of the same prompt."
_LOCK_TIP = (
    "Locked: every Generate uses this seed. Unlocked: every Generate draws a new one, so the picture changes. "
    "Writing a seed locks it."
)


class SamplingPanel(QWidget):
    """The value is a `Sampling`. Guidance is the family's own while the family has no use for it."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._prediction = Prediction.EPSILON
        self._fixed_guidance: float | None = None
        self._default_scheduler = Sampling().scheduler
        self._make_controls()
        self._make_fields()
        self._connect()
        self._show_scheduler(self._default_scheduler)
        self.setValue(Sampling())

    def _make_controls(self) -> None:
        self._sampler = Choice("Sampler", _SAMPLER_TIP)
        self._schedule = Choice("Schedule", _SCHEDULE_TIP)
        self._steps = SliderRow(NumberField("Steps", _STEPS_TIP), Slider("Steps slider", _STEPS_TIP))
        self._steps.box.setRange(0, 9999)  # validate.py says which of them work
        self._steps.slider.setRange(1, 60)
        guidance = DecimalField("Guidance", _GUIDANCE_TIP)
        guidance.setRange(0, 999)
        guidance.setDecimals(4)
        guidance.setSingleStep(0.5)
        self._guidance = SliderRow(guidance, Slider("Guidance slider", _GUIDANCE_TIP), per_unit=2)
        self._guidance.slider.setRange(0, 40)
        self._seed = SeedField("Seed", _SEED_TIP)
        self._dice = IconButton("dice", "Random seed", _DICE_TIP)
        self._lock = IconButton("unlock", "Lock the seed", _LOCK_TIP)
        self._lock.setCheckable(True)

    def _make_fields(self) -> None:
        self._guidance_field = Field(
            "Guidance", self._guidance, {"sampling.guidance_scale": self._guidance.box}
        )
        seed = row(self._seed, self._dice, self._lock, spacing=XS)
        sampler = row(self._sampler, self._schedule)
        sampler.setStretch(0, 4)
        sampler.setStretch(1, 3)
        places = {"sampling.scheduler": self._sampler, "sampling": self._sampler}
        self._fields = (
            Field("Sampler and schedule", sampler, places),
            Field("Steps", self._steps, {"sampling.num_inference_steps": self._steps.box}),
            self._guidance_field,
            Field("Seed", seed, {"sampling.seed": self._seed}),
        )
        lines = column(self, M)
        for field in self._fields:
            lines.addWidget(field)

    def _connect(self) -> None:
        self._sampler.currentIndexChanged.connect(self._sampler_chosen)
        self._schedule.currentIndexChanged.connect(self._changed)
        self._steps.valueChanged.connect(self._changed)
        self._guidance.valueChanged.connect(self._changed)
        self._seed.seedChanged.connect(self._seed_typed)
        self._dice.clicked.connect(self._roll)
        self._lock.toggled.connect(self._show_lock)

    def value(self) -> Sampling:
        guidance = self._fixed_guidance
        return Sampling(
            scheduler=self._schedule.currentData(),
            num_inference_steps=int(self._steps.box.value()),
            guidance_scale=self._guidance.box.value() if guidance is None else guidance,
            seed=self._seed.seed(),
        )

    def setValue(self, sampling: Sampling) -> None:
        self._show_scheduler(sampling.scheduler)
        self._steps.set_value(sampling.num_inference_steps)
        self._guidance.set_value(sampling.guidance_scale)
        with QSignalBlocker(self._seed):
            self._seed.set_seed(sampling.seed)
        self._changed()

    def set_family(self, family: Family | None) -> None:
        """Offers the samplers that fit; one that does not is replaced by the family's own."""
        before = self.value()
        self._prediction = family.prediction if family else Prediction.EPSILON
        has_guidance = family is None or Feature.GUIDANCE in family.supports
        self._fixed_guidance = None if family is None or has_guidance else family.sampling.guidance_scale
        self._guidance_field.setVisible(has_guidance)
        self._default_scheduler = (family.sampling if family else Sampling()).scheduler
        fits = any(row.id == before.scheduler for row in fitting(self._prediction))
        self._show_scheduler(before.scheduler if fits else self._default_scheduler)
        if self.value() != before:
            self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        for field in self._fields:
            field.set_problems(problems)

    def next_seed(self) -> int:
        """The seed for the next Generate: a new random one, then shown, or the same one while locked."""
        if not self._lock.isChecked():
            self._roll()
        return self._seed.seed()

    def seed_locked(self) -> bool:
        return self._lock.isChecked()

    def set_seed_locked(self, locked: bool) -> None:
        self._lock.setChecked(locked)

    def _roll(self) -> None:
        # The seeds of a job count up from the first; the last must be one too.
        self._seed.set_seed(QRandomGenerator.system().generate64() % (MAX_SEED - MAX_COUNT + 1))
        self._changed()

    def _seed_typed(self) -> None:
        """A number that a person writes is the one they want: the next Generate must not draw another."""
        self._lock.setChecked(True)
        self._changed()

    def _show_lock(self, locked: bool) -> None:
        self._lock.setIcon(icon("lock" if locked else "unlock"))

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())

    def _sampler_chosen(self) -> None:
        """The schedule stays the same one where the new sampler has it."""
        with QSignalBlocker(self._schedule):
            self._fill_schedules(self._sampler.currentData(), self._schedule.currentText())
        self._changed()

    def _show_scheduler(self, scheduler_id: str) -> None:
        row = _row_or_none(scheduler_id)
        with QSignalBlocker(self._sampler), QSignalBlocker(self._schedule):
            self._sampler.clear()
            for name in samplers(self._prediction):
                self._sampler.addItem(name, name)
            if row is None or self._prediction not in row.fits:
                self._show_stranger(row, scheduler_id)
            else:
                self._sampler.setCurrentIndex(self._sampler.findData(row.sampler))
                self._fill_schedules(row.sampler, row.schedule)

    def _show_stranger(self, row: SchedulerRow | None, scheduler_id: str) -> None:
        """A sampler from elsewhere is shown as it is; validate.py tells why it does not work."""
        self._sampler.addItem(row.name if row else scheduler_id, "")
        self._sampler.setCurrentIndex(self._sampler.count() - 1)
        self._schedule.clear()
        self._schedule.addItem(row.schedule if row else "", scheduler_id)

    def _fill_schedules(self, sampler: str, schedule: str) -> None:
        rows = [row for row in fitting(self._prediction) if row.sampler == sampler]
        if not rows:
            return
        self._schedule.clear()
        for each in rows:
            self._schedule.addItem(each.schedule, each.id)
        self._schedule.setCurrentIndex(max(0, self._schedule.findText(schedule)))
        self._sampler.setToolTip(plain_tooltip(f"{_SAMPLER_TIP}\n\n{rows[0].note}".strip()))


def _row_or_none(scheduler_id: str) -> SchedulerRow | None:
    try:
        return scheduler_by_id(scheduler_id)
    except RequestError:
        return None
