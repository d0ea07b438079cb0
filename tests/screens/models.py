"""`python -m tests.screens.models --out DIR`: the Models page with 10,000 model files, light and dark."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILES = 10_000
PACKED = "demo-sd-int4.gguf"


@dataclass(frozen=True, slots=True)
class Shot:
    """`arrange` gets a Stage that shows the page; `files` 0 is a library without any model."""

    name: str
    arrange: Callable
    files: int = FILES
    size: tuple[int, int] = (1280, 800)


def chosen(stage) -> None:
    """A demo that draws, with a note, a favourite and a picture that it made."""
    page = stage.window.models_page
    path = next(path for path in page.table._at if path.endswith("shapes-and-scenes"))
    page.view.choose(path)
    for above in (2, 7, 16):
        row = page.table.row_of(path) - above
        page.view.favouriteWanted.emit(page.table.entry(row).record.path)
    stage.application.session.choose(page.details._id())
    stage.window.button.click()
    stage.settle()
    page.details.favouriteChanged.emit(path, True)
    page.details.defaultsRequested.emit(path, True)
    page.details.noteChanged.emit(path, "Good for a first try. Likes short sentences.")


def lora(stage) -> None:
    page = stage.window.models_page
    page.view.choose(next(e.record.path for e in page.table._entries if e.record.trigger_words))
    page.bar.search.setText("velvet")


def broken(stage) -> None:
    from pipelines.spec.record import State
    from widgets.model_entries import ModelFilter

    page = stage.window.models_page
    page.setValue(ModelFilter(state=State.INCOMPLETE))
    page.view.choose(page.table.entry(0).record.path)


def lacking(stage) -> None:
    """A transformer by itself that finds none of its parts."""
    from pipelines.library.completing import incomplete
    from pipelines.spec.families import by_id
    from pipelines.spec.record import Format, Kind, ModelRecord
    from widgets.model_entries import Listed, entries_of

    record = ModelRecord(
        id="flux1-dev", path="/models/diffusion_models/flux1-dev.safetensors", title="flux1-dev", base="flux",
        kind=Kind.TRANSFORMER, family="flux", format=Format.SINGLE_FILE, size_bytes=23_802_932_552,
        dtype="bfloat16", needs=("vae", "clip_l", "t5xxl"),
    )  # fmt: skip
    stage.window.models_page.set_entries(Listed(entries_of((incomplete(record, by_id("flux")),))))


def no_match(stage) -> None:
    stage.window.models_page.bar.search.setText("a model that nobody has")


def nothing(stage) -> None:
    """As it comes."""


def long_names(stage) -> None:
    page = stage.window.models_page
    page.bar.search.setText("extraordinarily")
    page.view.choose(page.table.entry(0).record.path)


def folders(stage) -> None:
    stage.window.models_page.folders.click()


def scanning(stage) -> None:
    page = stage.window.models_page
    page.status.show_scan((3210, 10_000))
    page.status.show_hashing("Hashing velvet_vehicles_xl_v3-00412.safetensors, 40 %")


def picker(stage) -> None:
    page = stage.window.models_page
    for model in ("demo-sdxl", "demo-flux"):
        page.view.favouriteWanted.emit(_path(page, model))
    page.details.useRequested.emit("demo-sd-v")
    stage.window.button.click()
    stage.settle()
    stage.window.panels["model"]._choice.showPopup()


def report(stage) -> None:
    """A demo in 4 bits with what it costs, as `quantize --report` has measured it."""
    page = stage.window.models_page
    page.view.choose(next(path for path in page.table._at if path.endswith(PACKED)))


def _path(page, record_id: str) -> str:
    return next(e.record.path for e in page.table._entries if e.record.id == record_id)


SHOTS = (
    Shot("models", chosen),
    Shot("models-lora", lora),
    Shot("models-broken", broken),
    Shot("models-lacking", lacking),
    Shot("models-no-match", no_match),
    Shot("models-none", nothing, 0),
    Shot("models-long", long_names),
    Shot("models-folders", folders),
    Shot("models-scanning", scanning),
    Shot("models-picker", picker),
    Shot("models-report", report, size=(1280, 1000)),
    Shot("models-narrow", chosen, size=(900, 600)),
    Shot("models-narrow-broken", broken, size=(900, 600)),
    Shot("models-wide", chosen, size=(1920, 1080)),
)


def main(out: Path, names: list[str], count: int) -> int:
    from PySide6.QtWidgets import QApplication

    from pipelines.library.folders import demo_root
    from tests.screens.model_library import write_models

    app = QApplication([])
    app.setApplicationDisplayName("Emulsion")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="emulsion-") as folder:
        root = Path(folder)
        library = root / "models"
        write_models(library, count)
        demo = library / "checkpoints" / "shapes-and-scenes"
        shutil.copytree(demo_root() / "sd", demo)
        for shot in SHOTS:
            if shot.name in names:
                for theme in ("light", "dark"):
                    path = out / f"{shot.name}-{theme}.png"
                    _shoot(shot, theme, path, root, library)
                    print(path)
    return 0


def _shoot(shot: Shot, theme: str, path: Path, root: Path, library: Path) -> None:
    from pipelines.library.folders import demo_root
    from tests.screens.shoot import picture
    from tests.screens.stage import Stage

    place = root / f"{shot.name}-{theme}"
    place.mkdir()
    if shot.name == "models-long":
        _write_long(library)
    if shot.name == "models-report":
        _write_packed(library)
    stage = Stage(place, (demo_root(), library) if shot.files else (place / "empty",))
    try:
        stage.application.settings.change(hash_in_background=False)
        stage.window.models_page.status.set_hashing(False)
        stage.open(*shot.size, theme)
        stage.window.actions_by_id["models"].trigger()
        stage.settle()
        shot.arrange(stage)
        stage.application.models._count_uses()
        stage.settle()
        picture(stage).save(str(path))
    finally:
        stage.close()


def _write_packed(library: Path) -> None:
    """Once, with its report; draws, so it takes a while."""
    from pipelines.library.folders import demo_root
    from pipelines.library.models import record_of, scan
    from pipelines.spec.weights import weights_of
    from pipelines.workshop.quantize import quantize
    from pipelines.workshop.quantize_report import compared, write_report

    out, row = library / PACKED, weights_of("int4")
    if out.exists() or row is None:
        return
    (original,) = (each for each in scan([demo_root()]) if each.id == "demo-sd")
    quantize(original, row, out)
    made = next((each for each in scan([library]) if each.path == str(out)), record_of(out))
    write_report(out, compared(original, made, 4))


def _write_long(library: Path) -> None:
    source = next((library / "loras").rglob("*velvet*.safetensors"))
    words = "an_extraordinarily_long_name_that_somebody_gave_a_model_with_all_its_ingredients_" * 2
    (library / "z").mkdir(exist_ok=True)
    (library / "z" / f"{words}.emulsion.json").write_text(
        '{"title": "<b>Extraordinarily</b> ' + "long " * 20 + '"}'
    )
    shutil.copyfile(source, library / "z" / f"{words}.safetensors")


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    parser = argparse.ArgumentParser(prog="python -m tests.screens.models", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--only", default="models", help="names of shots, with commas, or 'all'")
    parser.add_argument("--files", type=int, default=FILES, help="how many model files there are")
    arguments = parser.parse_args()
    wanted = [shot.name for shot in SHOTS] if arguments.only == "all" else arguments.only.split(",")
    sys.exit(main(arguments.out, wanted, arguments.files))
