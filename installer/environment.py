"""The project's own environment: `.venv`, filled from a lock file and stamped with its hash when it is whole.

No stamp means unfinished: what is there is thrown away and made again. Standard library only.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

STAMP = "emulsion-stamp.json"

# The test lock holds all of the program's lock in the same versions (a test says so).
HOLDS = {"requirements-test.lock": ("requirements-test.lock", "requirements.lock")}

# Another environment that shines through, and pip options that would install elsewhere or something else.
# The index, proxy and certificate settings of the user stay.
FOREIGN = (
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__",
    "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_EDITABLE",
    "PIP_NO_DEPS", "PIP_DRY_RUN", "PIP_NO_BINARY",
)  # fmt: skip


class SetupError(Exception):
    """The setup cannot go on; the text says what is wrong and what to do."""


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in FOREIGN}
    return kept | {"PYTHONNOUSERSITE": "1", "PIP_USER": "0"}


def python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def lock_hash(lock: Path) -> str:
    import hashlib

    # Text, so that a checkout with other line ends is the same lock.
    return hashlib.sha256(lock.read_text(encoding="utf-8").encode()).hexdigest()


def read_stamp(venv: Path) -> dict[str, str] | None:
    """Hash by lock name, and the Python version; None when the environment is unfinished or not usable."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    python = python_of(venv)
    if not isinstance(stamp, dict) or not python.exists():  # its Python was removed
        return None
    # A distribution upgrade puts another Python behind the same name, which then finds no packages.
    same = os.path.realpath(python) == os.path.realpath(sys.executable)
    return None if same and stamp.get("python") != _version() else stamp


def write_stamp(venv: Path, stamp: dict[str, str]) -> None:
    """Whole or not at all."""
    temporary = venv / (STAMP + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(stamp, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, venv / STAMP)


def ready(venv: Path, lock: Path) -> bool:
    stamp = read_stamp(venv)
    return stamp is not None and stamp.get(lock.name) == lock_hash(lock)


def ensure(
    root: str | os.PathLike[str],
    lock_name: str,
    create: Callable[[Path], None] | None = None,
    install: Callable[[Path, Path], None] | None = None,
) -> str:
    """The path of the environment's Python, with all of the lock installed.

    create(venv) and install(python, lock) do the work; tests script them.
    Raises SetupError.
    """
    venv, lock = Path(root, ".venv"), Path(root, "installer", lock_name)
    if not ready(venv, lock):
        from installer import packages

        with _one_at_a_time(Path(root, ".venv.lock")):
            if not ready(venv, lock):  # another start may have done it meanwhile
                _make(venv, lock, create or packages.create, install or packages.install)
    return str(python_of(venv))


def _make(
    venv: Path, lock: Path, create: Callable[[Path], None], install: Callable[[Path, Path], None]
) -> None:
    if read_stamp(venv) is None:
        _remove(venv)
        create(venv)
    else:
        (venv / STAMP).unlink()  # from here to the new stamp it counts as unfinished
    install(python_of(venv), lock)
    hashes = {name: lock_hash(lock.with_name(name)) for name in HOLDS.get(lock.name, (lock.name,))}
    write_stamp(venv, {"python": _version(), **hashes})


def _remove(venv: Path) -> None:
    try:
        if venv.is_symlink():
            venv.unlink()
        elif venv.exists():
            (venv / STAMP).unlink(missing_ok=True)  # first: a removal that is cut short leaves no usable half
            shutil.rmtree(venv)
    except OSError as error:
        raise SetupError(
            f"The unfinished environment {venv} cannot be removed ({error.strerror}). Close the programs "
            "that use it, delete the folder and start again."
        ) from error


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Two starts at once must not build into the same folder. The system frees the lock with its process."""
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"Cannot write into {path.parent} ({error.strerror}). Put the project into a folder of your own."
        ) from error
    with file:
        os.set_inheritable(file.fileno(), True)  # for pip, see packages._follow
        if not _lock(file.fileno(), wait=False):
            print("Another start is installing; waiting for it.", flush=True)
            while not _lock(file.fileno(), wait=True):
                pass
        yield


def _lock(descriptor: int, wait: bool) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
