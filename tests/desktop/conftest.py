import json
import logging
import threading
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from tokenizers import Tokenizer, models, pre_tokenizers

from desktop.application import Application, Places
from desktop.session import Engine
from tests.desktop.scripted import Script


def places(root: Path) -> Places:
    return Places(root / "config", root / "data", root / "cache", root / "outputs")


@pytest.fixture
def script():
    """What the engine does. Whatever a test held is released at its end."""
    script = Script()
    yield script
    script.release()
    script.ready_gate.set()


@pytest.fixture(autouse=True)
def clean(qapp):
    """No thread, window or log handler of this program survives a test."""
    before = set(threading.enumerate())
    handlers = list(logging.getLogger().handlers)
    yield
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    left = {thread for thread in threading.enumerate() if thread.name in ("engine", "io-0", "io-1")} - before
    for thread in left:
        thread.join(60)
    assert not [thread for thread in left if thread.is_alive()]
    assert not qapp.topLevelWidgets()
    assert logging.getLogger().handlers == handlers


@pytest.fixture
def model_root(tmp_path):
    """A folder with a model that the library can list; the scripted engine never reads its weights."""
    return make_model(tmp_path / "models" / "scripted").parent


def make_model(folder: Path, title: str = "Scripted model", native_size: int = 64) -> Path:
    """The smallest diffusers folder that the library takes for a Stable Diffusion 1.x model."""
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    index = {part: ["diffusers", "Part"] for part in parts}
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline", **index})
    write_json(folder / "emulsion.json", {"title": title, "native_size": native_size})
    for part in ("unet", "vae", "text_encoder"):
        write_json(folder / part / "config.json", {})
        header = json.dumps({"w": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).encode()
        data = len(header).to_bytes(8, "little") + header + bytes(2)
        (folder / part / "model.safetensors").write_bytes(data)
    write_json(folder / "scheduler" / "scheduler_config.json", {})
    write_json(folder / "tokenizer" / "tokenizer_config.json", {"model_max_length": 77})
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    words.save(str(folder / "tokenizer" / "tokenizer.json"))
    return folder


def write_json(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


@pytest.fixture
def make_application(qtbot, tmp_path, script, model_root):
    """Builds an Application with the scripted engine; each is closed and deleted at the end."""
    made: list[Application] = []

    def make(start: bool = True, root: Path = tmp_path) -> Application:
        application = Application(
            places(root), script.factory, log_file=root / "emulsion.log", model_roots=(model_root,)
        )
        made.append(application)
        if start:
            application.window.show()
            qtbot.waitUntil(lambda: application.session.state.engine is Engine.READY)
            qtbot.waitUntil(lambda: settled(application))
        return application

    yield make
    script.release()
    for application in made:
        application.close()
        application.window.deleteLater()
        application.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def settled(application: Application) -> bool:
    return bool(application.session.records()) and application.tasks.idle


@pytest.fixture
def application(make_application):
    return make_application()
