"""What runs in the process of its own that opens a pickle: torch's unpickler for weights alone, and nothing else.

It is started by `pipelines.workshop.unpickle` as `python -I`, takes its arguments as JSON on stdin and answers with one
line of JSON on stdout. Three walls stand before a payload: the unpickler knows only the names on a list and refuses the
file that calls for another; an audit hook refuses processes, connections and files to write; the process has no
environment, an empty folder and bounded memory, and dies with its parent's patience.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipelines.workshop.safetensors_writer import DTYPES, Entry, write

# Trainers leave these beside the weights. What they would be is left out: a stand-in that does nothing takes its place.
STAND_INS = (
    "argparse.Namespace",
    "collections.defaultdict",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)
# Where trainers put the weights, the most wanted first.
WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model", "module")
EMBEDDING = "string_to_param"  # of A1111: the vectors under '*'
_FORBIDDEN = (
    "os.", "subprocess.", "socket.", "shutil.", "ctypes.", "webbrowser.", "urllib.", "ftplib.", "smtplib.", "pty.",
    "signal.", "winreg.", "tempfile.", "code.__new__", "sys.addaudithook",
)  # fmt: skip
_ALLOWED = ("os.listdir", "os.scandir")
MAX_NAMED = 100  # of what is left out; the rest is counted
MAX_DEPTH = 8
MAX_TENSORS = 200_000
MAX_TEXT = 10_000


class StandIn:
    """Takes whatever it is made of, and is nothing."""

    def __init__(self, *_args: object, **_named: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class Refused(Exception):
    """The answer to the parent: `kind` is 'unsafe', 'broken' or 'nothing'."""

    def __init__(self, kind: str, what: str = "") -> None:
        super().__init__(what)
        self.kind = kind


def main() -> None:
    asked = json.loads(sys.stdin.read())
    try:
        _bound(asked["size"], asked["seconds"])
        answer = unpickled(asked["path"], asked["out"], asked["size"])
    except Refused as error:
        answer = {"kind": error.kind, "what": str(error)[:300]}
    except MemoryError:
        answer = {"kind": "memory", "what": ""}
    except OSError as error:
        answer = {"kind": "disk", "what": error.strerror or str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _die_with_parent() -> None:
    """So that a parent that was killed leaves nobody behind; Linux alone has it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


def _bound(size: int, seconds: float) -> None:
    """Memory for the file and twice the copy of it, so much time, no core file; where the system has such bounds."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _die_with_parent()
    used = 0
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for what, most in (
        (resource.RLIMIT_AS, used + 3 * size + (1 << 30)),
        (resource.RLIMIT_FSIZE, 2 * size + (64 << 20)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(seconds) + 1),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # macOS refuses some; the other walls stand
            continue


def unpickled(path: str, out: str, size: int) -> dict[str, Any]:
    """Writes the weights of `path` to `out`. Raises Refused, OSError or MemoryError."""
    loaded = _loaded(path)
    tensors, metadata, left_out = weights_of(loaded)
    entries = sorted(
        (
            Entry(name, DTYPES[t.dtype], tuple(t.shape), t.numel() * t.element_size(), lambda t=t: t.detach())
            for name, t in tensors.items()
        ),
        key=lambda entry: (-tensors[entry.name].element_size(), entry.name),
    )
    # Many tensors may be views of one: a file of a kilobyte could ask for any number of bytes.
    if sum(entry.nbytes for entry in entries) > 2 * size + (32 << 20):
        raise Refused("broken", "its tensors claim far more bytes than it has")
    with open(out, "r+b") as file:
        write(file, entries, metadata, lambda _done, _size: None)
        file.flush()
        os.fsync(file.fileno())
    return {
        "tensors": len(entries),
        "left_out": left_out[:MAX_NAMED],
        "more": max(0, len(left_out) - MAX_NAMED),
    }


def _loaded(path: str) -> Any:
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"
    torch.serialization.add_safe_globals([(StandIn, name) for name in STAND_INS])
    watching = [True]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching and _is_forbidden(event, args):
            raise RuntimeError(f"GLOBAL {event}")

    sys.addaudithook(watch)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except MemoryError:
        raise
    # Whatever its unpickler raises over a hostile file: it is refused, and never tried in another way.
    except Exception as error:
        raise _refusal(str(error)) from error
    finally:
        watching.clear()


def _is_forbidden(event: str, args: tuple[Any, ...]) -> bool:
    if event == "open":
        mode, flags = args[1], args[2]
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return bool(flags & writes) if mode is None else any(c in str(mode) for c in "wax+")
    return event.startswith(_FORBIDDEN) and event not in _ALLOWED


def _refusal(text: str) -> Refused:
    """By the words of torch's unpickler, which names what the file calls for."""
    _, mark, rest = text.partition("GLOBAL ")
    if mark:
        return Refused("unsafe", rest.split()[0].strip("`'\",.")[:80] if rest.split() else "")
    if "can't allocate memory" in text or "Cannot allocate memory" in text or "bad_alloc" in text:
        return Refused("memory")
    if "TorchScript" in text:
        return Refused("unsafe", "a program (TorchScript)")
    return Refused("broken", "")


def weights_of(loaded: Any) -> tuple[dict[str, torch.Tensor], dict[str, str], list[str]]:
    """(the tensors by their names in one flat table, the texts and numbers beside them, the names of what is left out)

    Raises Refused when there is no tensor.
    """
    left_out: list[str] = []
    metadata: dict[str, str] = {"format": "pt"}
    table = loaded
    if isinstance(loaded, Mapping):
        wrapper = next((name for name in WRAPPERS if _holds_tensors(loaded.get(name))), "")
        if wrapper:
            table = loaded[wrapper]
            left_out += [
                str(name)[:80] for name, value in loaded.items() if name != wrapper and _is_much(value)
            ]
            metadata |= _texts(loaded)
        elif _holds_tensors(loaded.get(EMBEDDING)):
            first, *others = loaded[EMBEDDING].items()
            table = {"emb_params": first[1]}
            left_out += [str(name)[:80] for name, _value in others]
            metadata |= _texts(loaded)
    elif isinstance(loaded, torch.Tensor):
        table = {"weight": loaded}
    tensors: dict[str, torch.Tensor] = {}
    for count, (name, value) in enumerate(_flat(table)):
        if count > 2 * MAX_TENSORS:
            raise Refused("broken", "it has more entries than any model")
        if not isinstance(value, torch.Tensor):
            if text := _text(value):
                metadata.setdefault(name, text)
            else:
                left_out.append(name)
        elif (
            value.layout != torch.strided
            or value.dtype not in DTYPES
            or value.is_meta
            or name in tensors
            or name == "__metadata__"
        ):
            left_out.append(name)
        elif len(tensors) < MAX_TENSORS:
            tensors[name] = value
    if not tensors:
        raise Refused("nothing")
    metadata.pop("__metadata__", None)
    return tensors, metadata, left_out


def _flat(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, each in value.items():
            told = key.encode("utf-8", "replace").decode()[:500] if isinstance(key, str) else str(key)[:80]
            yield from _flat(each, f"{name}.{told}" if name else told, depth + 1)
    elif name:
        yield name, value


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(each, torch.Tensor) for each in value.values())


def _is_much(value: Any) -> bool:
    return not isinstance(value, str | int | float | bool | None)


def _texts(table: Mapping[Any, Any]) -> dict[str, str]:
    return {
        str(name)[:80].encode("utf-8", "replace").decode(): text
        for name, value in table.items()
        if (text := _text(value))
    }


def _text(value: Any) -> str:
    if isinstance(value, int) and abs(value) >> 4096:
        return ""
    if isinstance(value, str | int | float):
        return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()
    return ""
