"""Tries out the heavy libraries in a process of its own: a broken one may raise anything, or crash it.

`python -m pipelines.cli.probe engine|window` prints one line a library: its name and what was found, as JSON.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.library import compiled_dir
from pipelines.library.folders import cache_dir
from pipelines.spec.families import FAMILIES
from pipelines.spec.schedulers import SCHEDULERS

Facts = dict[str, Any]

_MARK = "probe "
_TIMEOUT_S = 300
HEAD, TOKENS = 64, 4096


def probe(what: str) -> dict[str, Facts]:
    """Facts by library, `error` among them where it cannot be used. 'engine' imports torch: some seconds."""
    names = list(STEPS[what])
    command = [sys.executable, "-m", "pipelines.cli.probe", what]
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {name: {"error": f"it could not be tried: {type(error).__name__}"} for name in names}
    found: dict[str, Facts] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(_MARK):
            found |= json.loads(line.removeprefix(_MARK))
    crash = {"error": f"the process that tried it ended with {done.returncode}"}
    return {name: found.get(name, crash) for name in names}


def _compiled_dir() -> Facts:
    """Before torch, which cannot be imported where its folder cannot be made."""
    problem = compiled_dir.prepare(str(cache_dir() / compiled_dir.FOLDER))
    return {"error": problem} if problem else {"version": os.environ.get(compiled_dir.VARIABLE, "")}


def _torch() -> Facts:
    torch: Any = importlib.import_module("torch")
    cuda = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda or "",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "threads": torch.get_num_threads(),
    }


def _device() -> Facts:
    return {"device": str(importlib.import_module("pipelines.runtime.device").choose("auto"))}


def _xformers() -> Facts:
    """The package imports even where its kernels do not load; only the library's own word tells."""
    version = importlib.import_module("xformers").__version__
    library: Any = importlib.import_module("xformers._cpp_lib")
    if reason := library._cpp_library_load_exception:
        return {"version": version, "error": " ".join(str(reason).split())[:200]}
    importlib.import_module("xformers.ops")
    return {"version": version}


def _attention() -> Facts:
    """What trials find at the head size of SD 2.x and SDXL, in the precision that the device draws in."""
    importlib.import_module("pipelines.runtime.optional").leave_out_broken()  # as the engine does
    devices: Any = importlib.import_module("pipelines.runtime.device")
    trial: Any = importlib.import_module("pipelines.runtime.attention.trial")
    device = devices.choose("auto")
    dtype = devices.compute_dtype(device, "auto")
    found = trial.tried(device, dtype, trial.shape_on(device, dtype, HEAD, TOKENS))
    return {"dtype": str(dtype).removeprefix("torch."), "tried": [dataclasses.asdict(each) for each in found]}


def _compiler() -> Facts:
    device: Any = importlib.import_module("pipelines.runtime.device").choose("auto")
    reason = importlib.import_module("pipelines.runtime.speed.compiler").why_not(device.type)
    return {"error": reason} if reason else {"version": device.type}


def _diffusers() -> Facts:
    importlib.import_module("pipelines.runtime.optional").leave_out_broken()  # as the engine does
    diffusers: Any = importlib.import_module("diffusers")
    wanted = [row.class_name for row in SCHEDULERS]
    wanted += [name for family in FAMILIES for name in family.pipelines.values()]
    missing = [name for name in dict.fromkeys(wanted) if not hasattr(diffusers, name)]
    facts: Facts = {"version": diffusers.__version__}
    return facts | ({"error": f"it lacks {', '.join(missing)}"} if missing else {})


def _transformers() -> Facts:
    transformers: Any = importlib.import_module("transformers")
    for name in ("CLIPTextModel", "CLIPTokenizer"):
        getattr(transformers, name)
    return {"version": transformers.__version__}


def _plain(name: str) -> Callable[[], Facts]:
    return lambda: {"version": str(getattr(importlib.import_module(name), "__version__", ""))}


def _qt() -> Facts:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    importlib.import_module("PySide6.QtWidgets")
    return {"version": importlib.import_module("PySide6").__version__}


def _x11() -> Facts:
    """The plugin that opens windows on X11 needs libraries that importing Qt does not."""
    package = Path(str(importlib.import_module("PySide6").__file__)).parent
    ctypes.CDLL(str(package / "Qt" / "plugins" / "platforms" / "libqxcb.so"))
    return {}


STEPS: dict[str, dict[str, Callable[[], Facts]]] = {
    "engine": {
        "compiled_dir": _compiled_dir,
        "torch": _torch,
        "device": _device,
        "torchvision": _plain("torchvision"),
        "xformers": _xformers,
        "attention": _attention,
        "diffusers": _diffusers,
        "compiler": _compiler,
        "transformers": _transformers,
        "accelerate": _plain("accelerate"),
        "peft": _plain("peft"),
        "safetensors": _plain("safetensors"),
        "scipy": _plain("scipy"),
    },
    "window": {"PySide6": _qt, "x11": _x11} if sys.platform.startswith("linux") else {"PySide6": _qt},
}


def _tried(step: Callable[[], Facts]) -> Facts:
    try:
        return step()
    except BaseException as error:  # a broken library may raise anything at all
        text = " ".join(str(error).split())[:300]
        return {"error": f"{type(error).__name__}: {text}" if text else type(error).__name__}


if __name__ == "__main__":
    for _name, _step in STEPS[sys.argv[1]].items():
        print(_MARK + json.dumps({_name: _tried(_step)}), flush=True)
