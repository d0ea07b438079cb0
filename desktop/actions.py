"""`ACTIONS`: everything a menu or a shortcut can do, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from desktop.main_window import MainWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """`menu` is its title; `text` has its own mnemonic; `choice` the theme a checkable row stands for."""

    id: str
    menu: str
    text: str
    tip: str
    run: Callable[[MainWindow], object]
    shortcut: str = ""
    icon: str = ""
    choice: str = ""
    separator: bool = False


MENUS = ("&File", "&Picture", "&View", "&Help")

ACTIONS = (
    ActionRow(
        id="save_as", menu="&File", text="Save picture &as…", shortcut="Ctrl+S", icon="save",
        tip="Save a copy of the picture in the viewer", run=lambda w: w.pictures.save_shown(),
    ),
    ActionRow(
        id="open_outputs", menu="&File", text="&Open pictures folder", shortcut="Ctrl+O", icon="folder",
        tip="Show the folder that pictures are saved in", run=lambda w: w.pictures.open_folder(),
    ),
    ActionRow(
        id="change_outputs", menu="&File", text="&Change pictures folder…",
        tip="Choose where new pictures are saved", run=lambda w: w.change_folder(),
    ),
    ActionRow(
        id="settings", menu="&File", text="S&ettings…", shortcut="Ctrl+,",
        tip="Choose the device, its precision and the kernel of attention",
        run=lambda w: w.settingsWanted.emit(),
    ),
    ActionRow(
        id="downloads", menu="&File", text="&Downloads…", shortcut="Ctrl+J", icon="download", separator=True,
        tip="Fetch models, and see how far they are", run=lambda w: w.downloadsWanted.emit(),
    ),
    ActionRow(
        id="quit", menu="&File", text="&Quit", shortcut="Ctrl+Q", separator=True,
        tip="Close the program; a running picture is cancelled", run=lambda w: w.close(),
    ),
    ActionRow(
        id="generate", menu="&Picture", text="&Generate", shortcut="Ctrl+Return", icon="play",
        tip="Make the picture that the prompt describes", run=lambda w: w.session.generate(),
    ),
    ActionRow(
        id="cancel", menu="&Picture", text="&Cancel", shortcut="Esc", icon="stop",
        tip="Stop the running picture", run=lambda w: w.session.cancel(),
    ),
    ActionRow(
        id="free_memory", menu="&Picture", text="Free &memory now",
        tip="Let go of the loaded models, after a running picture; the next one loads them again",
        run=lambda w: w.freeWanted.emit(),
    ),
    ActionRow(
        id="copy", menu="&Picture", text="Cop&y picture", shortcut="Ctrl+Shift+C", icon="copy", separator=True,
        tip="Copy the picture in the viewer", run=lambda w: w.pictures.copy_shown(),
    ),
    ActionRow(
        id="restore", menu="&Picture", text="&Restore all settings", shortcut="Ctrl+R", icon="restore",
        tip="Set prompt, model, size, sampling and seed as they were for the picture in the viewer",
        run=lambda w: w.pictures.restore_shown(),
    ),
    ActionRow(
        id="delete", menu="&Picture", text="&Delete picture…", shortcut="Ctrl+Del", icon="trash",
        tip="Move the picture in the viewer to the system's trash", run=lambda w: w.pictures.delete_shown(),
    ),
    ActionRow(
        id="focus_prompt", menu="&View", text="Go to &prompt", shortcut="Ctrl+L",
        tip="Put the cursor into the prompt", run=lambda w: w.focus_prompt(),
    ),
    ActionRow(
        id="models", menu="&View", text="&Models", shortcut="Ctrl+M", icon="cards",
        tip="All models: what they are, where they lie, and why one cannot be used",
        run=lambda w: w.turn_page(),
    ),
    ActionRow(
        id="fit", menu="&View", text="&Fit picture", shortcut="Ctrl+0", icon="fit", separator=True,
        tip="Show the whole picture", run=lambda w: w.viewer.canvas.fit(),
    ),
    ActionRow(
        id="actual_size", menu="&View", text="Picture at &100 %", shortcut="Ctrl+1", icon="actual",
        tip="Show each pixel of the picture as one of the screen", run=lambda w: w.viewer.canvas.actual_size(),
    ),
    ActionRow(
        id="theme_system", menu="&View", text="Theme of the &system", choice="system", separator=True,
        tip="Light or dark as the desktop is", run=lambda w: w.choose_theme("system"),
    ),
    ActionRow(
        id="theme_light", menu="&View", text="&Light theme", choice="light",
        tip="Light colours", run=lambda w: w.choose_theme("light"),
    ),
    ActionRow(
        id="theme_dark", menu="&View", text="&Dark theme", choice="dark",
        tip="Dark colours", run=lambda w: w.choose_theme("dark"),
    ),
    ActionRow(
        id="reset_layout", menu="&View", text="&Reset the layout", separator=True,
        tip="Put all parts of the window where they were at the first start", run=lambda w: w.reset_layout(),
    ),
    ActionRow(
        id="restart_engine", menu="&Help", text="&Restart the engine",
        tip="Start the engine anew; waiting pictures are kept", run=lambda w: w.session.restart_engine(),
    ),
    ActionRow(
        id="show_log", menu="&Help", text="Show &log",
        tip="What the program wrote down about this run", run=lambda w: w.show_log(),
    ),
    ActionRow(
        id="about", menu="&Help", text="&About Emulsion", separator=True,
        tip="Version, device, and what is off and why", run=lambda w: w.show_about(),
    ),
)  # fmt: skip
