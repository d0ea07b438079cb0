"""Making a virtual environment and filling it with pip, told in plain words. Standard library only."""

import contextlib
import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

from installer.environment import SetupError, clean

GB = 1024**3
LOG = "install.log"
UNPACKING = "Installing collected packages"


def cost() -> tuple[float, float, str]:
    """Download and disk in GB, and the time that it takes, in words. Measured on Linux, else estimated."""
    if sys.platform == "linux" and platform.machine() == "x86_64":  # torch brings CUDA with it
        return 4.2, 7.5, "2 to 3 minutes on a very fast line, 8 at 100 Mbit/s"
    return 0.5, 2.0, "2 to 5 minutes"


def create(venv: Path) -> None:
    """An empty environment with pip in it. Raises SetupError."""
    download, disk, duration = cost()
    say(
        f"First start: installing torch, diffusers, Qt and the rest into {venv}.\n"
        f"About {download:g} GB to download, {disk:g} GB on the disk, {duration}. This happens once."
    )
    free = shutil.disk_usage(venv.parent).free / GB
    if free < disk + download:
        raise SetupError(
            f"{venv.parent} has {free:.1f} GB free; the installation needs {disk + download:.0f} GB while it "
            "runs. Make room and start again."
        )
    _require_ensurepip()
    made = _run([sys.executable, "-m", "venv", str(venv)])
    if made.returncode:
        raise SetupError(f"Python could not make {venv}: {explain(made.stdout.splitlines())}")


def install(python: Path, lock: Path) -> None:
    """Exactly the lock, checked against its hashes; what it does not name is removed. Raises SetupError."""
    venv = python.parent.parent
    temporary = venv / "tmp"  # /tmp is a small memory disk on many systems, torch is not small
    temporary.mkdir(exist_ok=True)
    command = [str(python), "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "-r", str(lock)]
    lines: list[str] = []
    try:
        with Heartbeat(temporary, lines):
            code = _follow(command, temporary, lines, total=len(names_in(lock)))
        if code:
            raise SetupError(explain(lines) + f" Everything that pip said is in {venv / LOG}.")
        _remove_others(python, names_in(lock))
    finally:
        with contextlib.suppress(OSError):  # on a full disk the reason counts, not the log
            (venv / LOG).write_text("\n".join(lines) + "\n", encoding="utf-8")
        shutil.rmtree(temporary, ignore_errors=True)


def explain(lines: Iterable[str]) -> str:
    """One sentence for the output of a pip that failed: what, and what to do."""
    text = "\n".join(lines)
    for pattern, sentence in CAUSES:
        if found := re.search(pattern, text):
            here = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
            return sentence.format(*found.groups(), here=here)
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")] or text.splitlines()[-3:]
    return "The installation failed: " + " ".join(errors) + " Start again; it begins anew."


# The first that fits. pip ends a lost connection with "no matching distribution", so that comes later.
CAUSES = (
    (r"No space left on device|WinError 112", "The disk is full. Make room and start again."),
    (
        r"DO NOT MATCH THE HASHES",
        "A downloaded file is not the one that the lock names, so it was not installed. Run `pip cache "
        "purge` and start again; if it stays so, your package index serves other files than PyPI.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "The package index's certificate is not trusted. Behind a company proxy, give pip its certificate: "
        "`pip config set global.cert FILE`; then start again.",
    ),
    (
        r"ProxyError|Tunnel connection failed",
        "The proxy refused the connection. Check HTTPS_PROXY or `pip config get global.proxy`, start again.",
    ),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionReset|Connection broken|IncompleteRead"
        r"|RemoteDisconnected|ProtocolError|name resolution|Max retries exceeded|getaddrinfo failed",
        "The package index cannot be reached. Check the network connection and start again.",
    ),
    (
        r"No matching distribution found for (\S+)",
        "There is no build of {0} for this computer ({here}), or your package index does not have it. "
        "Emulsion runs on 64-bit Linux (glibc 2.34; on ARM 2.39), Windows and macOS on Apple silicon.",
    ),
    (
        r"Permission denied|WinError 5\b|Access is denied",
        "A file of the environment cannot be written. Close a running Emulsion, see that the folder is "
        "yours, and start again.",
    ),
)


def say(text: str) -> None:
    print(text, flush=True)


def names_in(lock: Path) -> set[str]:
    """The packages of a lock as pip compares names: lower case, one kind of dash."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return {_normal(line.split("==")[0]) for line in lines if line[:1].isalnum()}


def told(line: str) -> str:
    """What to show of a line of pip: the big downloads, with name and size; else empty."""
    found = re.match(r"\s*(Downloading|Using cached) (\S+?)-(\d[^-\s]*)-\S+\.whl \(([\d.]+) ([MG]B)\)", line)
    if found and (float(found[4]) >= 5 or found[5] == "GB"):
        verb = "downloading" if found[1] == "Downloading" else "already downloaded:"
        return f"  {verb} {found[2].split('/')[-1]} {found[3]} ({found[4]} {found[5]})"
    if line.startswith(UNPACKING):
        return "  unpacking, which takes a minute or two"
    return ""


def _follow(command: list[str], temporary: Path, lines: list[str], total: int) -> int:
    environ = clean(os.environ) | {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    say(f"{total} packages in the lock.")
    # close_fds=False hands pip the lock of the installation: should this process be killed, the next start
    # waits until its pip has ended too.
    pip = Popen(
        command, env=environ, stdout=PIPE, stderr=STDOUT, text=True, errors="replace", close_fds=False
    )
    assert pip.stdout is not None
    with pip.stdout:
        try:
            for line in pip.stdout:
                lines.append(line.rstrip())
                if words := told(line):
                    say(words)
        except BaseException:
            pip.terminate()
            raise
        finally:
            pip.wait()
    return pip.returncode


class Heartbeat:
    """Tells every 20 s that it goes on and how far it is, because torch alone takes minutes."""

    def __init__(self, downloads: Path, lines: list[str]) -> None:
        self._downloads, self._lines = downloads, lines
        self._stop, self._began = threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(20):
            seconds = int(time.monotonic() - self._began)
            say(f"  {seconds // 60}:{seconds % 60:02d} min: {self._progress()}")

    def _progress(self) -> str:
        if self._lines and self._lines[-1].startswith(UNPACKING):
            return "unpacking"
        return f"{sum(map(_size, self._downloads.rglob('*'))) / GB:.1f} GB downloaded"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pip has just removed it
        return 0


def _remove_others(python: Path, wanted: set[str]) -> None:
    """After a change of the lock: a package that it no longer names would hide that it is still needed."""
    listed = _run([str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"])
    found = re.findall(r'"name": *"([^"]+)"', listed.stdout)
    others = [name for name in found if _normal(name) not in wanted | {"pip", "setuptools"}]
    if others:
        _run([str(python), "-m", "pip", "uninstall", "--yes", *others])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower().strip()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environ = clean(os.environ)
    return subprocess.run(command, env=environ, stdout=PIPE, stderr=STDOUT, text=True, errors="replace")


def _require_ensurepip() -> None:
    """Debian ships venv without the part that makes one usable."""
    if importlib.util.find_spec("ensurepip"):
        return
    from installer import qt_libraries

    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if not qt_libraries.install_as_root([package]) or not _found_again("ensurepip"):
        raise SetupError(
            f"This Python lacks its venv module. On Debian and Ubuntu: `sudo apt-get install -y {package}`; "
            "elsewhere install Python from https://www.python.org/downloads/. Then start again."
        )


def _found_again(module: str) -> bool:
    importlib.invalidate_caches()
    return importlib.util.find_spec(module) is not None
