"""Takes the photographs and pastes the contact sheet."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtWidgets import QApplication, QDialog

from pipelines.library.folders import demo_root
from pipelines.library.walk import INDEX
from tests.desktop.conftest import make_model
from tests.screens.screens import SCREENS, Screen
from tests.screens.stage import Stage

THEMES = ("dark", "light")
CELL, COLUMNS, MARGIN = 480, 4, 12


def shoot_all(out: Path, only: str, real: bool) -> int:
    """0 when every screen was taken."""
    out.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setApplicationDisplayName("Emulsion")
    wanted = {name for name in only.split(",") if name}
    taken = []
    for screen in SCREENS:
        if wanted and screen.name not in wanted:
            continue
        for width, height in screen.sizes:
            for theme in THEMES:
                path = out / f"{screen.name}-{width}x{height}-{theme}.png"
                shoot(screen, width, height, theme, path, real)
                taken.append(path)
                print(path)
    print(contact_sheet(taken, out / "contact-sheet.png"))
    return 0


def shoot(screen: Screen, width: int, height: int, theme: str, path: Path, real: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="screens-") as folder:
        root = Path(folder)
        shelves = roots(root, real) if screen.has_model else (root,)
        if screen.true_size:
            shelves = (*shelves, true_size_root(root, screen.true_size))
        stage = Stage(root, shelves, real)
        try:
            stage.open(width, height, theme)
            screen.arrange(stage)
            stage.settle()
            picture(stage).save(str(path))
        finally:
            stage.close()


def roots(folder: Path, real: bool) -> tuple[Path, ...]:
    """The bundled model where it is; else a stand-in that the library takes for a model of 256 pixels."""
    if real or (demo_root() / "sd" / INDEX).is_file():
        return (demo_root(),)
    make_model(folder / "models" / "demo", title="Demo: shapes and scenes", native_size=256)
    return (folder / "models",)


def true_size_root(folder: Path, name: str) -> Path:
    """Only headers, and holes for the weights: for a plan that is enough."""
    import torch

    from tests.benchmarks.truesize.configs import MODELS
    from tests.benchmarks.truesize.hollow import write_hollow

    return write_hollow(MODELS[name], folder / "true-size" / name, torch.float16).parent


def picture(stage: Stage) -> QImage:
    """The window with the dialogs, menus, lists and tooltips over it."""
    window = stage.window
    image = window.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    for above in QApplication.topLevelWidgets():
        if above is window or not above.isVisible():
            continue
        painter = QPainter(image)
        corner = above.pos() - window.pos()
        if isinstance(above, QDialog):
            painter.fillRect(window.rect(), QColor(0, 0, 0, 110))
            corner = window.rect().center() - above.rect().center()
        painter.drawPixmap(corner, above.grab())
        painter.end()
    return image


def contact_sheet(paths: list[Path], target: Path) -> Path:
    rows = -(-len(paths) // COLUMNS)
    step = CELL + MARGIN
    sheet = Image.new(
        "RGB", (COLUMNS * step + MARGIN, rows * (CELL * 3 // 4 + MARGIN) + MARGIN), (90, 90, 90)
    )
    pen = ImageDraw.Draw(sheet)
    for number, path in enumerate(paths):
        row, column = divmod(number, COLUMNS)
        left, top = MARGIN + column * step, MARGIN + row * (CELL * 3 // 4 + MARGIN)
        with Image.open(path) as shot:
            shot.thumbnail((CELL, CELL * 3 // 4 - 16))
            sheet.paste(shot, (left, top))
        pen.text((left, top + CELL * 3 // 4 - 14), path.stem, fill=(255, 255, 255))
    sheet.save(target)
    return target
