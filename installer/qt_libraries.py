"""The shared libraries of the system that Qt needs on Linux: are they there, and how to get them.

The lists are what `readelf -d` names in PySide6 6.11's QtCore, QtGui, QtWidgets, QtDBus and the xcb plugin.
Wayland's own libraries are left out: who has a Wayland desktop has them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from installer.environment import SetupError


class Library(NamedTuple):
    soname: str
    debian: str
    arch: str


# Without these QtGui and QtWidgets cannot be imported.
ALWAYS = (
    Library("libEGL.so.1", "libegl1", "libglvnd"),
    Library("libGL.so.1", "libgl1", "libglvnd"),
    Library("libX11.so.6", "libx11-6", "libx11"),
    Library("libxkbcommon.so.0", "libxkbcommon0", "libxkbcommon"),
    Library("libdbus-1.so.3", "libdbus-1-3", "dbus"),
    Library("libfontconfig.so.1", "libfontconfig1", "fontconfig"),
    Library("libfreetype.so.6", "libfreetype6", "freetype2"),
    Library("libglib-2.0.so.0", "libglib2.0-0", "glib2"),
    Library("libgthread-2.0.so.0", "libglib2.0-0", "glib2"),
    Library("libzstd.so.1", "libzstd1", "zstd"),
    Library("libz.so.1", "zlib1g", "zlib"),
)

# Without these there is no window on an X11 display.
X11 = (
    Library("libxcb-cursor.so.0", "libxcb-cursor0", "xcb-util-cursor"),
    Library("libxcb-icccm.so.4", "libxcb-icccm4", "xcb-util-wm"),
    Library("libxcb-util.so.1", "libxcb-util1", "xcb-util"),
    Library("libxcb-image.so.0", "libxcb-image0", "xcb-util-image"),
    Library("libxcb-keysyms.so.1", "libxcb-keysyms1", "xcb-util-keysyms"),
    Library("libxcb-render-util.so.0", "libxcb-render-util0", "xcb-util-renderutil"),
    Library("libxcb-glx.so.0", "libxcb-glx0", "libxcb"),
    Library("libxcb-randr.so.0", "libxcb-randr0", "libxcb"),
    Library("libxcb-render.so.0", "libxcb-render0", "libxcb"),
    Library("libxcb-shape.so.0", "libxcb-shape0", "libxcb"),
    Library("libxcb-shm.so.0", "libxcb-shm0", "libxcb"),
    Library("libxcb-sync.so.1", "libxcb-sync1", "libxcb"),
    Library("libxcb-xfixes.so.0", "libxcb-xfixes0", "libxcb"),
    Library("libxcb-xkb.so.1", "libxcb-xkb1", "libxcb"),
    Library("libxcb.so.1", "libxcb1", "libxcb"),
    Library("libX11-xcb.so.1", "libx11-xcb1", "libx11"),
    Library("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", "libxkbcommon-x11"),
)

# By what a distribution calls itself or says that it is like.
TOOLS = {
    "debian": "apt", "ubuntu": "apt", "fedora": "dnf", "rhel": "dnf", "centos": "dnf",
    "arch": "pacman", "suse": "zypper", "opensuse": "zypper",
}  # fmt: skip


def ensure(environ: Mapping[str, str], probe: Callable[[str], bool] | None = None) -> None:
    """Raises SetupError with the one command that helps, when one is missing and cannot be installed here."""
    if sys.platform != "linux":
        return
    lacking = missing(environ, probe or loads)
    if not lacking:
        return
    tool = package_tool(os_release())
    if tool == "apt" and install_as_root(packages_for("apt", lacking)):
        lacking = missing(environ, probe or loads)
    if lacking:
        raise SetupError(advice(tool, lacking))


def missing(environ: Mapping[str, str], probe: Callable[[str], bool]) -> list[Library]:
    wanted = ALWAYS + (X11 if _wants_x11(environ) else ())
    return [library for library in wanted if not probe(library.soname)]


def loads(soname: str) -> bool:
    """Asks the loader itself, as Qt will: it knows every path that counts."""
    import ctypes

    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def package_tool(release: Mapping[str, str]) -> str | None:
    for name in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]:
        if tool := TOOLS.get(name.partition("-")[0]):  # opensuse-tumbleweed
            return tool
    return None


def packages_for(tool: str, lacking: Iterable[Library]) -> list[str]:
    if tool in ("dnf", "zypper"):  # RPM knows packages by the library that they hold
        return [f"{library.soname}()(64bit)" for library in lacking]
    names = [library.debian if tool == "apt" else library.arch for library in lacking]
    return list(dict.fromkeys(names))


def advice(tool: str | None, lacking: list[Library]) -> str:
    names = ", ".join(library.soname for library in lacking)
    what = f"Qt cannot open a window: {names} missing on this system."
    if tool is None:
        return f"{what} Install them with your package manager and start again."
    packages = packages_for(tool, lacking)
    quoted = " ".join(f"'{name}'" if "(" in name else name for name in packages)
    command = {
        "apt": "sudo apt-get update && sudo apt-get install -y",
        "dnf": "sudo dnf install -y",
        "pacman": "sudo pacman -S --needed --noconfirm",
        "zypper": "sudo zypper install -y",
    }[tool]
    return f"{what} Run this once and start again:\n\n    {command} {quoted}"


def install_as_root(packages: list[str]) -> bool:
    """With apt, when this is root on Debian or Ubuntu; False when it is not or apt failed."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print(f"Installing system packages with apt-get: {' '.join(packages)}", flush=True)
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *arguments], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    if done.returncode:
        print("\n".join(done.stdout.splitlines()[-5:]), file=sys.stderr)
    return done.returncode == 0


def os_release() -> dict[str, str]:
    import platform

    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _wants_x11(environ: Mapping[str, str]) -> bool:
    if chosen := environ.get("QT_QPA_PLATFORM"):
        return chosen.startswith("xcb")
    return not environ.get("WAYLAND_DISPLAY")
