"""Libraries that torch's family uses when they are there, and falls over when they are there but broken (W8)."""

from __future__ import annotations

import importlib
import sys

# diffusers and transformers import both whenever they are installed, so trying them costs nothing more.
_OPTIONAL = ("xformers.ops", "torchvision")


def leave_out_broken() -> dict[str, str]:
    """Makes each library that cannot be imported look as if it were not installed; answers their errors by name.

    Must run before diffusers and transformers are imported: they look once.
    """
    broken: dict[str, str] = {}
    for module in _OPTIONAL:
        name = module.partition(".")[0]
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != name:
                broken[name] = _told(error)
        except Exception as error:  # built for another torch, half updated: they fail in every way
            broken[name] = _told(error)
    for name in broken:
        for loaded in [other for other in sys.modules if other.partition(".")[0] == name]:
            del sys.modules[loaded]
        sys.modules[name] = None  # pyright: ignore[reportArgumentType] - importlib.util.find_spec then finds nothing
    return broken


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
