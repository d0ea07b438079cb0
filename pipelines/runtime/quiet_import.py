"""Importing torch and diffusers on a worker thread without stalling the window (27 ms instead of 300 to 800).

A plain `import torch` stalls by one `dlopen` of its libraries with the GIL held, and by garbage collections
over the hundred thousands of objects that the modules make. So the libraries are opened first by a foreign call,
which lets go of the GIL, and the collector rests until what the imports made is frozen.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipelines.library.resting import collector_resting

# torch's own libraries, each after those it needs; the ones of other builds are simply not there.
_LIBRARIES = (
    "c10", "torch_cpu", "c10_cuda", "torch_cuda", "c10_hip", "torch_hip", "torch", "shm", "torch_python",
)  # fmt: skip
_RTLD_NOW = 2
_WINDOWS_SEARCH = 0x1100  # LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")


def quietly(imports: Callable[[], None]) -> None:
    """Runs `imports` as above, plainly where that fails; the switch interval is 1 ms from then on."""
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    sys.setswitchinterval(0.001)
    with collector_resting():
        if "torch" not in sys.modules:
            preload()
        imports()


def preload() -> list[str]:
    """Opens torch's libraries with the GIL released; the names of those that opened. Never raises."""
    try:
        folder = _torch_folder()
        open_library = _windows_opener() if sys.platform == "win32" else _posix_opener()
        return [path.name for path in _present(folder) if open_library(path)]
    except (
        OSError,
        AttributeError,
        ImportError,
        ValueError,
    ):  # a platform that differs: the plain import still works
        return []


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("torch is not installed")
    return Path(spec.submodule_search_locations[0], "lib")


def _present(folder: Path) -> list[Path]:
    pattern = {"win32": "{}.dll", "darwin": "lib{}.dylib"}.get(sys.platform, "lib{}.so")
    paths = [folder / pattern.format(name) for name in _LIBRARIES]
    return [path for path in paths if path.is_file()]


def _posix_opener() -> Callable[[Path], int | None]:
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    return lambda path: dlopen(os.fsencode(path), _RTLD_NOW)


def _windows_opener() -> Callable[[Path], int | None]:
    load = ctypes.WinDLL("kernel32").LoadLibraryExW  # pyright: ignore[reportAttributeAccessIssue]
    load.argtypes, load.restype = (ctypes.c_wchar_p, ctypes.c_void_p, ctypes.c_uint32), ctypes.c_void_p
    return lambda path: load(str(path), None, _WINDOWS_SEARCH)
