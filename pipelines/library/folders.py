"""Where things lie. Pure paths: nothing is made here; whoever writes makes the folder."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import platformdirs

HOME_VARIABLE = "EMULSION_HOME"
_APP = "Emulsion"


def default_output_dir() -> Path:
    """Where pictures go until the user chooses another folder."""
    home = _home()
    return home / "outputs" if home else platformdirs.user_pictures_path() / _APP / "outputs"


def data_dir() -> Path:
    """The queue and the user's own models and inputs: what must not be lost."""
    return _home_or("data") or platformdirs.user_data_path(_APP, appauthor=False)


def cache_dir() -> Path:
    """Thumbnails and the like: what may be deleted at any time."""
    return _home_or("cache") or platformdirs.user_cache_path(_APP, appauthor=False)


def config_dir() -> Path:
    return _home_or("config") or platformdirs.user_config_path(_APP, appauthor=False)


def models_dir() -> Path:
    """Where the user puts models; a sub-folder becomes a category."""
    return data_dir() / "models"


@cache
def demo_root() -> Path:
    """The folder of the models that ship with the program."""
    return Path(__file__).resolve().parents[2] / "assets" / "demo"


def default_roots() -> tuple[Path, ...]:
    """Where models are looked for."""
    return demo_root(), models_dir()


def inputs_dir() -> Path:
    """Stored copies of input pictures, named by hash."""
    return data_dir() / "inputs"


def _home() -> Path | None:
    value = os.environ.get(HOME_VARIABLE, "").strip()
    return Path(os.path.expanduser(value)).absolute() if value else None


def _home_or(name: str) -> Path | None:
    home = _home()
    return home / name if home else None
