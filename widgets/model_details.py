"""`ModelDetails`: all that is known of one model, and what a person adds to it."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QHideEvent
from PySide6.QtWidgets import QPlainTextEdit, QPushButton, QWidget

from pipelines.spec.model_note import NO_NOTE, ModelFacts, ModelNote
from pipelines.spec.record import Format, ModelRecord
from widgets.controls import IconButton
from widgets.field import column, row
from widgets.icons import icon
from widgets.metrics import ICON, M, S, TextSize
from widgets.model_entries import Entry
from widgets.model_sections import (
    FACTS,
    REPORT,
    FactsTable,
    Reason,
    Section,
    StateLine,
    facts_of,
    small_button,
    text_label,
)
from widgets.model_texts import STATES, can_draw, defaults_text, sentence, size_text, use_tip
from widgets.plain import Label, name_control, plain_tooltip
from widgets.scroll_column import ScrollColumn

_SAVE_MS = 800  # of rest until a note is kept
_USE_CURRENT = "Use current settings"
_USE_TIP = "Begin with the sampler, steps, guidance and size that are set now whenever this model is chosen."
_FORGET_TIP = "Begin with the model's own settings again when it is chosen."
_HASH_TIP = "Read the whole file now. It is otherwise done in the background while no picture is made."
_NOTES_TIP = (
    "What you want to remember of this model. Kept by this program, never written into the model's file."
)


class ModelDetails(QWidget):
    """The signals begin with the model's path, `useRequested` with its id; objects, for a path may be no text to Qt."""

    useRequested = Signal(object)
    revealRequested = Signal(object)
    favouriteChanged = Signal(object, bool)
    noteChanged = Signal(object, str)
    defaultsRequested = Signal(object, bool)  # whether to take the current settings; else they are forgotten
    hashRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._record: ModelRecord | None = None
        self._note = NO_NOTE
        self._save = QTimer(self, singleShot=True, interval=_SAVE_MS)
        self._make_head()
        self._make_sections()
        self._empty = Label("Choose a model to see what it is.", muted=True, wrap=True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._body = QWidget()
        lines = column(self._body, M)
        for widget in (*self._head, *self._sections):
            lines.addWidget(widget)
        self.column = ScrollColumn(self._body)
        outer = column(self, 0)
        outer.addWidget(self._empty, 1)
        outer.addWidget(self.column, 1)
        self._connect()
        self.show_entry(None, NO_NOTE)

    def _make_head(self) -> None:
        self._title = Label("", TextSize.TITLE, bold=True, wrap=True)
        self._title.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._what = Label("", wrap=True, muted=True)
        self._state = StateLine()
        self.use = QPushButton("Use this model")
        self.use.setDefault(True)
        self.star = IconButton("star", "Favourite", "Mark this model as a favourite; favourites come first.")
        self.star.setCheckable(True)
        self.reveal = IconButton(
            "folder", "Show in the file manager", "Open the folder that the model lies in."
        )
        self.copy = IconButton("copy", "Copy the path", "Copy the path of the file or folder.")
        buttons = QWidget()
        line = row(self.use, self.star, self.reveal, self.copy, spacing=S)
        line.setStretch(0, 1)
        buttons.setLayout(line)
        self.reason = Reason()
        self._head = (self._title, self._what, self._state, buttons, self.reason)

    def _make_sections(self) -> None:
        self.facts = FactsTable(FACTS)
        self._words, self._description, self._parts = text_label(), text_label(), text_label()
        self.copy_words = IconButton(
            "copy", "Copy the trigger words", "Copy the words that call what it learned."
        )
        self.copy_words.setIconSize(QSize(ICON - 4, ICON - 4))
        self._words_section = Section("Trigger words", self._words, self.copy_words)
        self._description_section = Section("Description", self._description)
        self._parts_section = Section("Where its parts come from", self._parts)
        self.report = FactsTable(REPORT)
        self._report_section = Section("Measured against what it was made from", self.report)
        self.hashes = FactsTable(("AutoV2", "AutoV3", "SHA-256", "State"))
        self.hash_now = small_button("Compute now", _HASH_TIP)
        self._hash_section = Section("Hashes", self.hashes, self.hash_now)
        self._defaults = text_label()
        self.use_current = small_button(_USE_CURRENT, _USE_TIP)
        self.forget = small_button("Forget", _FORGET_TIP)
        buttons = row(self.use_current, self.forget)
        buttons.addStretch(1)
        defaults = QWidget()
        lines = column(defaults, S)
        lines.addWidget(self._defaults)
        lines.addLayout(buttons)
        self._defaults_section = Section("Default settings", defaults)
        self.notes = QPlainTextEdit()
        self.notes.setPlaceholderText("Write what you want to remember")
        self.notes.setTabChangesFocus(True)
        self.notes.setFixedHeight(5 * self.notes.fontMetrics().height() + M)
        name_control(self.notes, "Notes", _NOTES_TIP)
        self._sections = (
            Section("About", self.facts),
            self._words_section,
            self._description_section,
            self._parts_section,
            self._report_section,
            self._hash_section,
            self._defaults_section,
            Section("Notes", self.notes),
        )

    def _connect(self) -> None:
        self.use.clicked.connect(lambda: self.useRequested.emit(self._id()))
        self.star.clicked.connect(lambda on: self.favouriteChanged.emit(self.path(), on))
        self.reveal.clicked.connect(lambda: self.revealRequested.emit(self.path()))
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.path()))
        self.copy_words.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._words.text()))
        self.use_current.clicked.connect(lambda: self.defaultsRequested.emit(self.path(), True))
        self.forget.clicked.connect(lambda: self.defaultsRequested.emit(self.path(), False))
        self.hash_now.clicked.connect(lambda: self.hashRequested.emit(self.path()))
        self.notes.textChanged.connect(self._save.start)
        self._save.timeout.connect(self.keep_note)

    def path(self) -> str:
        """Of the model that is shown, '' for none."""
        return self._record.path if self._record else ""

    def _id(self) -> str:
        return self._record.id if self._record else ""

    # what is shown

    def show_entry(self, entry: Entry | None, note: ModelNote) -> None:
        """What was written about the one before is kept first."""
        self.keep_note()
        same = entry is not None and entry.record == self._record
        self._record = entry.record if entry is not None else None
        self._empty.setVisible(entry is None)
        self.column.setVisible(entry is not None)
        if entry is None:
            self._note = NO_NOTE
            return
        if not same:
            self._show_record(entry)
            self.column.verticalScrollBar().setValue(0)
        self.show_note(note)

    def _show_record(self, entry: Entry) -> None:
        record = entry.record
        self._title.setText(entry.name)
        self._what.setText(sentence(record))
        self._state.show_state(record.state, STATES[record.state])
        self._state.setVisible(not record.problem)
        self.reason.show_record(record)
        self.use.setEnabled(can_draw(record))
        self.use.setDefault(can_draw(record))
        name_control(self.use, "Use this model", use_tip(record))
        self.facts.setValue(facts_of(record))
        self._words.setText(", ".join(record.trigger_words))
        self._words_section.setVisible(bool(record.trigger_words))
        self._description.setText(record.description)
        self._description_section.setVisible(bool(record.description))
        self._defaults_section.setVisible(can_draw(record))
        self.set_facts(None)

    def show_note(self, note: ModelNote) -> None:
        """A text that is being written here is not taken away."""
        typing = self._save.isActive()
        self._note = note
        self.star.setChecked(note.favourite)
        self.star.setIcon(icon("star-full" if note.favourite else "star"))
        own = note.defaults
        self._defaults.setText(defaults_text(own) if own else "As the model or its family says.")
        self.forget.setVisible(own is not None)
        if not typing and self.notes.toPlainText() != note.text:
            with QSignalBlocker(self.notes):
                self.notes.setPlainText(note.text)

    def set_facts(self, facts: ModelFacts | None) -> None:
        """None while they are looked up."""
        single = self._record is not None and self._record.format is Format.SINGLE_FILE
        parts = facts.parts if facts else ()
        lines = [" · ".join(filter(None, (p.name, p.what, size_text(p.size_bytes)))) for p in parts]
        files = (f"{part.name}/{file}" for part in parts for file in part.files)
        self._parts.setToolTip(plain_tooltip("\n".join(files)))
        self._parts.setText("\n".join(lines))
        self._parts_section.setVisible(bool(lines))
        report = dict(facts.report) if facts else {}
        self.report.setValue(report)
        self._report_section.setVisible(bool(report))
        self._hash_section.setVisible(single)
        known = facts is not None and bool(facts.sha256)
        state = "" if known else "Not computed yet." if facts is not None else "Looking…"
        shown = {"AutoV2": facts.autov2, "AutoV3": facts.autov3, "SHA-256": facts.sha256} if facts else {}
        self.hashes.setValue({**shown, "State": state})
        self.hash_now.setVisible(facts is not None and not known)

    def set_hashing(self, text: str) -> None:
        """While the hashes of this file are made."""
        self.hash_now.setVisible(False)
        self.hashes.setValue({"State": text})

    def set_uses(self, uses: int | None) -> None:
        """In how many pictures; None while they are counted."""
        if self._record is None:
            return
        counted = (
            "no picture" if uses == 0 else "1 picture" if uses == 1 else f"{uses:,} pictures" if uses else ""
        )
        told = counted if uses is not None else "The pictures are being read…"
        self.facts.setValue({**facts_of(self._record), "Used in": told})

    # notes

    def keep_note(self) -> None:
        """At once, if something was written."""
        if self._save.isActive() and self._record is not None:
            self._save.stop()
            self.noteChanged.emit(self._record.path, self.notes.toPlainText())
        self._save.stop()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.keep_note()
