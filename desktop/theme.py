"""`apply(app, theme)`: the look, light and dark, from one table, the only place with colours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from string import Template

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

from widgets.metrics import RADIUS, TONE_ROLES, XS, M, S, Tone

Role = QPalette.ColorRole
Group = QPalette.ColorGroup


class Theme(StrEnum):
    LIGHT = "light"
    DARK = "dark"


# name: (light, dark). Text has a contrast of 4.5 or more on its grounds, accent and edge of 3 (WCAG 2.2).
COLOURS: dict[str, tuple[str, str]] = {
    "ground": ("#dfe2e7", "#121316"),  # behind the picture
    "window": ("#f4f5f7", "#1c1e22"),
    "base": ("#ffffff", "#25282e"),  # where one types
    "raised": ("#e6e8ed", "#2e323a"),  # buttons, cards
    "hover": ("#dadde4", "#393e48"),
    "line": ("#c3c8d1", "#3c414c"),  # between parts
    "edge": ("#818894", "#6d7482"),  # around what takes input
    "text": ("#1a1d23", "#e8eaee"),
    "muted": ("#5a6270", "#a0a7b4"),
    "disabled": ("#9aa1ac", "#646b78"),
    "accent": ("#4450c8", "#8c9bff"),
    "on_accent": ("#ffffff", "#10121c"),
    "warning": ("#8a5200", "#f0b357"),
    "danger": ("#b3261e", "#ff8b82"),
}

_ROLES: dict[QPalette.ColorRole, str] = {
    Role.Window: "window",
    Role.WindowText: "text",
    Role.Base: "base",
    Role.AlternateBase: "raised",
    Role.Text: "text",
    Role.PlaceholderText: "muted",
    Role.Button: "raised",
    Role.ButtonText: "text",
    Role.ToolTipBase: "raised",
    Role.ToolTipText: "text",
    Role.Highlight: "accent",
    Role.HighlightedText: "on_accent",
    Role.Accent: "accent",
    Role.Light: "hover",
    Role.Midlight: "hover",
    Role.Mid: "line",
    Role.Dark: "line",
    Role.Shadow: "ground",
    TONE_ROLES[Tone.INFO]: "accent",
    TONE_ROLES[Tone.WARNING]: "warning",
    TONE_ROLES[Tone.ERROR]: "danger",
}
_GREYED = (Role.WindowText, Role.Text, Role.ButtonText, Role.PlaceholderText, Role.HighlightedText)


def set_style(app: QApplication) -> None:
    """To be called before there are widgets: each would be prepared for it anew."""
    app.setStyle("Fusion")


def apply(app: QApplication, theme: Theme) -> None:
    """Sets palette and style sheet of the whole application; may be called again at any time."""
    app.setPalette(palette(theme))
    app.setStyleSheet(style_sheet(theme))


def system_theme(app: QApplication) -> Theme:
    """What the desktop around us asks for; light where it does not say."""
    dark = app.styleHints().colorScheme() == Qt.ColorScheme.Dark
    return Theme.DARK if dark else Theme.LIGHT


def colour(name: str, theme: Theme) -> str:
    return COLOURS[name][theme is Theme.DARK]


def palette(theme: Theme) -> QPalette:
    result = QPalette()
    for role, name in _ROLES.items():
        result.setColor(role, QColor(colour(name, theme)))
    for role in _GREYED:
        result.setColor(Group.Disabled, role, QColor(colour("disabled", theme)))
    result.setColor(Group.Disabled, Role.Highlight, QColor(colour("line", theme)))
    return result


def style_sheet(theme: Theme) -> str:
    """theme.qss with the colours of the table and the distances of `widgets.metrics` put in."""
    names = {name: colour(name, theme) for name in COLOURS}
    names |= {"radius": f"{RADIUS}px", "xs": f"{XS}px", "s": f"{S}px", "m": f"{M}px"}
    sheet = Path(__file__).with_name("theme.qss").read_text(encoding="utf-8")
    return Template(sheet).substitute(names)
